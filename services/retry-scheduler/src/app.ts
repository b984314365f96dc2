// Composition root.
import {
  createDatabase,
  pingDatabase,
  unwrap,
} from "@pipeline/shared/database";
import type { Logger } from "@pipeline/shared/logger";
import { createLoop } from "@pipeline/shared/loop";
import { type OpsServer, startOpsServer } from "@pipeline/shared/ops-server";
import { adoptHomes } from "@pipeline/shared/queue/adopt-homes";
import { createDeadLetters } from "@pipeline/shared/queue/dead-letters";
import { createDeletionQueue } from "@pipeline/shared/queue/deletions";
import { createHolds } from "@pipeline/shared/queue/holds";
import { createIdleConsumers } from "@pipeline/shared/queue/idle-consumers";
import { createInspection } from "@pipeline/shared/queue/inspection";
import { createKeys } from "@pipeline/shared/queue/keys";
import { createReconcileQueue } from "@pipeline/shared/queue/reconcile";
import { createRetries } from "@pipeline/shared/queue/retries";
import {
  connectRedis,
  createRedis,
  describeRedisUrl,
  warnAboutEviction,
} from "@pipeline/shared/redis";
import { createCleanUp } from "./clean-up.ts";
import type { Config } from "./config.ts";
import { createDeletionRows } from "./deletion-rows.ts";
import { createDeletions } from "./deletions.ts";
import { createMetrics } from "./metrics.ts";
import { createPromote } from "./promote.ts";
import { createReconcile } from "./reconcile.ts";
import { createUnfinishedRows } from "./unfinished-rows.ts";

const DATABASE_TIMEOUT_MS = 10_000;

export interface App {
  /** Resolves when the loops run. Throws REDIS_UNAVAILABLE. */
  start: () => Promise<void>;
  stop: () => Promise<void>;
}

export function createApp(config: Config, logger: Logger): App {
  const keys = createKeys(config.STREAM_KEY);
  const redis = createRedis(config.REDIS_URL, "commands", logger);
  const database = createDatabase(
    config.NEXT_PUBLIC_SUPABASE_URL,
    config.SUPABASE_SERVICE_ROLE_KEY,
    DATABASE_TIMEOUT_MS,
  );
  const { registry, promoted, reconciled } = createMetrics(
    createInspection(redis, keys),
  );

  const reconcile = createReconcile({
    queue: createReconcileQueue(redis, keys, config.MAX_QUEUE_LENGTH),
    rows: createUnfinishedRows(database.client),
    logger,
    intervalMs: config.RECONCILE_INTERVAL_MS,
    graceMs: config.RECONCILE_GRACE_MS,
    onReconciled: (injected) => reconciled.inc(injected),
  });
  const reconcileLoop = createLoop({
    name: "reconcile",
    runOnce: reconcile.runOnce,
    logger,
  });
  const promote = createPromote({
    retries: createRetries(redis, keys),
    logger,
    onPromoted: (moved) => promoted.inc(moved),
    onEpochMissing: reconcileLoop.wake,
    now: () => performance.now(),
  });
  const deletions = createDeletions({
    queue: createDeletionQueue(redis, keys),
    holds: createHolds(redis, keys),
    rows: createDeletionRows(database.client),
    logger,
    onLetters: () => eraseLoop.wake(),
  });
  const eraseLoop = createLoop({
    name: "erase",
    runOnce: deletions.erase,
    logger,
  });
  const cleanUp = createCleanUp({
    consumers: createIdleConsumers(redis, keys),
    deadLetters: createDeadLetters(redis, keys),
    logger,
    intervalMs: config.CLEAN_UP_INTERVAL_MS,
    deadRetentionDays: config.DEAD_RETENTION_DAYS,
  });
  /** Keeps counts and lists quick. */
  const tidy = async () => {
    await unwrap(database.client.rpc("tidy_deliveries"));
    return config.CLEAN_UP_INTERVAL_MS;
  };
  const loops = [
    createLoop({ name: "promote", runOnce: promote.runOnce, logger }),
    reconcileLoop,
    createLoop({ name: "clear", runOnce: deletions.clear, logger }),
    eraseLoop,
    createLoop({ name: "clean-up", runOnce: cleanUp.runOnce, logger }),
    createLoop({ name: "tidy", runOnce: tidy, logger }),
  ];

  const say = (line: string) => logger.info(`[RETRY_SCHEDULER] ${line}`);
  let isDraining = false;
  let opsServer: OpsServer | undefined;

  return {
    start: async () => {
      say("Starting retry scheduler...");
      await connectRedis([redis], config.REDIS_URL);
      await adoptHomes(redis, keys);
      await warnAboutEviction(redis, logger);
      opsServer = await startOpsServer(
        config.METRICS_PORT,
        {
          registry,
          checks: {
            redis: () => redis.ping(),
            supabase: () => pingDatabase(database.client),
          },
          isDraining: () => isDraining,
        },
        logger,
      );
      for (const loop of loops) loop.start();
      say("Retry scheduler started successfully");
      say(`Redis: ${describeRedisUrl(config.REDIS_URL)}`);
      say(`Supabase: ${new URL(config.NEXT_PUBLIC_SUPABASE_URL).origin}`);
      say(`Watching retries: ${keys.retries}`);
      say(
        `Reconcile: every ${config.RECONCILE_INTERVAL_MS / 1000} s, deliveries overdue by ${config.RECONCILE_GRACE_MS / 1000} s`,
      );
      say(
        `Health and metrics: port ${opsServer.port} (/healthz, /readyz, /metrics)`,
      );
      say("Waiting for due retries...");
    },
    stop: async () => {
      isDraining = true;
      say("Shutting down...");
      // A call that is under way ends by its own timeout or with the connection: nothing here needs finishing.
      const stopped = Promise.all(loops.map((loop) => loop.stop()));
      await Promise.race([
        stopped,
        new Promise((done) => setTimeout(done, 1000)),
      ]);
      await opsServer?.close();
      redis.disconnect();
      await database.close();
      await stopped;
      say("Stopped");
    },
  };
}
