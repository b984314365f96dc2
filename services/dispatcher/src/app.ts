// Composition root: builds the adapters and loops, starts them, and stops them in the order that loses nothing.
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { createDatabase, pingDatabase } from "@pipeline/shared/database";
import {
  createKeys,
  DISPATCHERS_GROUP,
  RECORDERS_GROUP,
} from "@pipeline/shared/keys";
import type { Logger } from "@pipeline/shared/logger";
import { createLoop } from "@pipeline/shared/loop";
import { type OpsServer, startOpsServer } from "@pipeline/shared/ops-server";
import {
  connectRedis,
  createRedis,
  describeRedisUrl,
  warnAboutEviction,
} from "@pipeline/shared/redis";
import { createScripts } from "@pipeline/shared/scripts";
import { createSealer } from "@pipeline/shared/seal";
import { createEndpoints } from "./adapters/endpoints.ts";
import { createGroupReader } from "./adapters/group-reader.ts";
import { createHttpSender } from "./adapters/http-sender.ts";
import type { Config } from "./config.ts";
import { createConsume } from "./consume.ts";
import { isAllowedAddress } from "./core/address.ts";
import { createEndpointGate } from "./core/endpoint-gate.ts";
import { createDeliver } from "./deliver.ts";
import { createHeartbeat } from "./heartbeat.ts";
import { createIntake } from "./intake.ts";
import { createLimiter, unlimited } from "./limiter.ts";
import { createMetrics } from "./metrics.ts";
import { createRecorder } from "./recorder.ts";
import { createSettler } from "./settler.ts";
import { createShutdown } from "./shutdown.ts";
import { createSlots } from "./slots.ts";

const DATABASE_TIMEOUT_MS = 10_000;
const METRICS_LOG_INTERVAL_MS = 60_000;
const SWEEP_INTERVAL_MS = 250;

export function createApp(config: Config, logger: Logger) {
  const now = Date.now;
  const keys = createKeys(config.streamKey);
  const consumer = `${hostname()}-${process.pid}-${randomBytes(3).toString("hex")}`;
  const commands = createRedis(
    config.redisUrl,
    "commands",
    logger,
    `${consumer}:commands`,
  );
  const blocking = createRedis(
    config.redisUrl,
    "blocking",
    logger,
    `${consumer}:${DISPATCHERS_GROUP}`,
  );
  const logBlocking = createRedis(
    config.redisUrl,
    "blocking",
    logger,
    `${consumer}:${RECORDERS_GROUP}`,
  );
  const scripts = createScripts(commands, keys);
  const database = createDatabase(
    config.supabaseUrl,
    config.serviceRoleKey,
    DATABASE_TIMEOUT_MS,
  );
  const sealer = createSealer(config.encryptionKey);
  const stopping = new AbortController();

  // Without the epoch the retry-scheduler reconciles everything Postgres calls unfinished.
  const onGroupLost = () => commands.del(keys.epoch);
  const readerOf = (
    connection: typeof blocking,
    stream: string,
    group: string,
  ) =>
    createGroupReader({
      blocking: connection,
      commands,
      stream,
      group,
      consumer,
      logger,
      onGroupLost,
    });
  const reader = readerOf(blocking, keys.stream, DISPATCHERS_GROUP);
  const logReader = readerOf(logBlocking, keys.log, RECORDERS_GROUP);

  const sender = createHttpSender({
    concurrency: config.concurrency,
    attemptTimeoutMs: config.attemptTimeoutMs,
    isAllowed: (address) => isAllowedAddress(address, config.allowedNetworks),
    logger,
  });
  const pendingCount = async () =>
    ((await commands.xpending(keys.stream, DISPATCHERS_GROUP)) as [number])[0];
  const unrecorded = () => commands.xlen(keys.log);
  const metrics = createMetrics({
    waiting: async () =>
      (await commands.xlen(keys.stream)) - (await pendingCount()),
    pending: pendingCount,
    unrecorded,
    inFlight: () => slots.running(),
  });
  const settler = createSettler({
    scripts,
    consumer,
    logger,
    onGroupLost: async () => {
      await reader.prepare();
      await onGroupLost();
    },
  });
  const deliver = createDeliver({
    endpoints: createEndpoints(database.client, now),
    sender,
    settler,
    sealer,
    policy: { schedule: config.retrySchedule, jitter: config.retryJitter },
    metrics,
    logger,
    now,
    random: Math.random,
  });
  const limiter =
    config.ratePerSecond === 0
      ? unlimited
      : createLimiter(scripts, config.ratePerSecond, now);
  const slots = createSlots({
    concurrency: config.concurrency,
    gate: createEndpointGate(config.concurrency, Math.random),
    deliver,
    limiter,
    endpointRatePerSecond:
      config.endpointRatePerSecond === 0 ? null : config.endpointRatePerSecond,
    scripts,
    logger,
    signal: stopping.signal,
    now,
  });
  const intake = createIntake({
    streamKey: config.streamKey,
    scripts,
    sealer,
    deliver,
    slots,
    limiter,
    logger,
  });
  const { claimIdleMs, concurrency } = config;
  const record = createRecorder({
    reader: logReader,
    scripts,
    callWithText: database.callWithText,
    redis: commands,
    deadKey: keys.dead,
    claimIdleMs,
    metrics,
    logger,
    now,
  });

  const loop = (
    name: string,
    runOnce: (signal: AbortSignal) => Promise<number>,
  ) => createLoop({ name, runOnce, logger });
  const sweep = async () => {
    slots.sweep();
    return SWEEP_INTERVAL_MS;
  };
  let summarizedAt = now();
  const logMetrics = () => {
    const summary = metrics.summarize((now() - summarizedAt) / 1000);
    summarizedAt = now();
    if (summary !== null) logger.info(summary, "worker.metrics");
  };
  const consuming = loop(
    "consume",
    createConsume({
      concurrency,
      claimIdleMs,
      reader,
      limiter,
      slots,
      intake,
      now,
      random: Math.random,
    }),
  );
  const recording = loop("record", record);
  const keeping = [
    loop(
      "heartbeat",
      createHeartbeat({ scripts, slots, consumer, claimIdleMs, logger }),
    ),
    loop("sweep", sweep),
    loop("metrics", async () => {
      logMetrics();
      return METRICS_LOG_INTERVAL_MS;
    }),
  ];

  let opsServer: OpsServer | undefined;
  const shutdown = createShutdown({
    consuming,
    recording,
    keeping,
    slots,
    settler,
    sender,
    reader,
    logReader,
    unrecorded,
    scripts,
    streamKey: config.streamKey,
    commands,
    consumer,
    stopping,
    graceMs: config.shutdownGraceMs,
    logger,
  });

  return {
    /** Throws REDIS_UNAVAILABLE when Redis does not answer; Supabase may come later. */
    start: async (): Promise<void> => {
      logger.info("[WEBHOOK_WORKER] Starting webhook delivery worker...");
      await connectRedis([commands, blocking, logBlocking], config.redisUrl);
      await warnAboutEviction(commands, logger);
      await Promise.all([reader.prepare(), logReader.prepare()]);
      opsServer = await startOpsServer(
        config.metricsPort,
        {
          registry: metrics.registry,
          checks: {
            redis: () => commands.ping(),
            supabase: () => pingDatabase(database.client),
          },
          isDraining: () => stopping.signal.aborted,
        },
        logger,
      );
      for (const each of [consuming, recording, ...keeping]) each.start();
      const rate =
        config.ratePerSecond === 0
          ? "off"
          : `${config.ratePerSecond} deliveries/second over all dispatchers`;
      for (const line of [
        "Worker started successfully",
        `Redis: ${describeRedisUrl(config.redisUrl)}`,
        `Supabase: ${new URL(config.supabaseUrl).origin}`,
        `Processing stream: ${config.streamKey} as consumer ${consumer}`,
        `Concurrency: ${config.concurrency} deliveries at once`,
        `Rate limit: ${rate}`,
        `Attempt timeout: ${config.attemptTimeoutMs} ms; retries after ${config.retrySchedule.join(", ")} seconds`,
        `Health and metrics: http://localhost:${opsServer.port}/healthz, /readyz, /metrics`,
        "Listening for deliveries...",
      ]) {
        logger.info(`[WEBHOOK_WORKER] ${line}`);
      }
      if (config.allowedNetworks.length > 0) {
        logger.warn(
          "[WEBHOOK_WORKER] ALLOW_PRIVATE_NETWORKS is set: deliveries may go to private addresses",
        );
      }
    },
    /** Stops reading, finishes what is in flight within the grace, gives the rest back. Idempotent. */
    stop: async (): Promise<void> => {
      await shutdown();
      logMetrics(); // of the last, incomplete interval
      await opsServer?.close();
      await database.close();
      for (const redis of [commands, blocking, logBlocking]) redis.disconnect();
      logger.info("[WEBHOOK_WORKER] Stopped");
    },
  };
}
