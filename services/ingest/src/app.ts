import { createDatabase, pingDatabase } from "@pipeline/shared/database";
import { errorMessage } from "@pipeline/shared/errors";
import type { Logger } from "@pipeline/shared/logger";
import { adoptHomes } from "@pipeline/shared/queue/adopt-homes";
import { createDeadLetters } from "@pipeline/shared/queue/dead-letters";
import { createHolds } from "@pipeline/shared/queue/holds";
import { createInspection } from "@pipeline/shared/queue/inspection";
import { createKeys } from "@pipeline/shared/queue/keys";
import { createProducer } from "@pipeline/shared/queue/producer";
import {
  connectRedis,
  createRedis,
  describeRedisUrl,
  warnAboutEviction,
} from "@pipeline/shared/redis";
import { createSealer } from "@pipeline/shared/seal";
import { createUploadSize } from "@pipeline/shared/upload-size";
import { createDatabaseGate } from "./adapters/database-gate.ts";
import { createDeadLetterReads } from "./adapters/dead-letters.ts";
import {
  createDeliveryCreations,
  createDeliveryReads,
  createDeliveryWrites,
} from "./adapters/delivery-rows.ts";
import { createLookups } from "./adapters/lookups.ts";
import { createQueue } from "./adapters/queue.ts";
import type { Config } from "./config.ts";
import { createMetrics } from "./http/metrics.ts";
import { createServer } from "./http/server.ts";
import { createHeldRows } from "./core/held-rows.ts";
import { createCreation } from "./creation.ts";
import { createIntake } from "./intake.ts";
import { createCancel } from "./cancel.ts";
import { createReplayAll } from "./replay-all.ts";
import { createResend } from "./resend.ts";
import { createSlowNames } from "./slow-names.ts";
import { createThrottledWarning } from "./throttled-warning.ts";
import { createUnsure } from "./unsure.ts";

/** A client waits for a write; a list over a large table may take longer. */
const WRITE_TIMEOUT_MS = 3000;
const READ_TIMEOUT_MS = 5000;
const INTAKE_CONNECTIONS = 10;
const WRITE_CONNECTIONS = 4;
const READ_CONNECTIONS = 4;
const GATE_REST_MS = 1000;
const WARNING_INTERVAL_MS = 10_000;

export interface App {
  /** Resolves to the address it listens on. Throws REDIS_UNAVAILABLE. */
  start: () => Promise<string>;
  /** Finishes the requests that are under way. Idempotent. */
  stop: () => Promise<void>;
}

export async function createApp(config: Config, logger: Logger): Promise<App> {
  const { streamKey, maxAttempts } = config;
  const now = () => performance.now();
  const keys = createKeys(streamKey);
  const redis = createRedis(config.redisUrl, "request", logger);
  // Each with connections of its own, so that what people do by hand, or a slow list, takes none from new deliveries.
  const connect = (timeoutMs: number, connections: number) =>
    createDatabase(
      config.supabaseUrl,
      config.serviceRoleKey,
      timeoutMs,
      connections,
    );
  const forIntake = connect(WRITE_TIMEOUT_MS, INTAKE_CONNECTIONS);
  const forWrites = connect(WRITE_TIMEOUT_MS, WRITE_CONNECTIONS);
  const forReads = connect(READ_TIMEOUT_MS, READ_CONNECTIONS);
  const createGate = () => createDatabaseGate(GATE_REST_MS, now);
  const intakeGate = createGate();
  const warn = createThrottledWarning(logger, WARNING_INTERVAL_MS, now);
  const metrics = createMetrics();

  const queue = createQueue({
    producer: createProducer(redis, keys),
    holds: createHolds(redis, keys),
    inspection: createInspection(redis, keys),
    maxLength: config.maxQueueLength,
    warn,
  });
  const creations = createDeliveryCreations(forIntake, intakeGate);
  const unsure = createUnsure({
    writes: creations,
    enqueue: queue.enqueue,
    logger,
    now,
  });
  const held = createHeldRows();
  const slow = createSlowNames();
  const uploads = createUploadSize(now);
  const writes = createDeliveryWrites(forWrites.client, createGate());
  const intake = createIntake({
    lookups: createLookups(forIntake.client, intakeGate),
    create: createCreation({
      writes: {
        create: (planned) => uploads.run(() => creations.create(planned)),
      },
      held,
      slow,
      unsure,
      now,
    }),
    uploads,
    held,
    slow,
    writes: creations,
    queue,
    sealer: createSealer(config.encryptionKey),
    maxAttempts,
    onEnqueued: metrics.countEnqueued,
    logger,
    warn,
  });
  const deadLetters = createDeadLetterReads(createDeadLetters(redis, keys));
  const resend = createResend({ writes, queue, streamKey, maxAttempts });
  let isDraining = false;
  const server = await createServer({
    apiKeys: config.apiKeys,
    metrics,
    ops: {
      checks: {
        redis: () => redis.ping(),
        supabase: () => pingDatabase(forReads.client),
      },
      isDraining: () => isDraining,
    },
    routes: {
      intake,
      reads: createDeliveryReads(forReads.client, createGate()),
      queue,
      cancel: createCancel({ writes, queue }),
      resend,
      deadLetters,
      replayAll: createReplayAll(deadLetters, resend),
    },
    logger,
    warn,
  });

  const say = (line: string) => logger.info(`[WEBHOOK_API] ${line}`);

  async function start(): Promise<string> {
    say("Starting webhook delivery API...");
    say(
      `Redis: ${describeRedisUrl(config.redisUrl)}, stream ${streamKey}, at most ${config.maxQueueLength} queued`,
    );
    say(`Supabase: ${new URL(config.supabaseUrl).origin}`);
    say(`Attempts: ${maxAttempts} per delivery`);
    say(
      config.apiKeys.length > 0
        ? `API keys: ${config.apiKeys.length}`
        : "API keys: none set, so only this machine may call (set INGEST_API_KEYS to listen on the network)",
    );
    await connectRedis([redis], config.redisUrl);
    await adoptHomes(redis, keys);
    await warnAboutEviction(redis, logger);
    await pingDatabase(forIntake.client).catch((error: unknown) =>
      logger.warn(
        { error: errorMessage(error) },
        "supabase.unreachable: requests get 503 until it answers",
      ),
    );
    unsure.start();
    const address = await server.listen({
      port: config.port,
      host: config.host,
    });
    say(`Listening on ${address} (documentation at /docs)`);
    return address;
  }

  async function stop(): Promise<void> {
    say("Stopping: finishing the requests under way...");
    isDraining = true;
    // Closing ends connections that are idle at that moment only; those that become idle later would delay the exit.
    const reaper = setInterval(() => server.server.closeIdleConnections(), 50);
    await server.close();
    clearInterval(reaper);
    await intake.drain();
    await unsure.stop();
    redis.disconnect();
    await Promise.all(
      [forIntake, forWrites, forReads].map((database) => database.close()),
    );
    say("Stopped");
  }

  return { start, stop };
}
