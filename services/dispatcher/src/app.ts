// Composition root: builds the rooms in the direction of the data (taking, attempt, recording), starts their loops, and
// stops them in the order that loses nothing.
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { createDatabase, pingDatabase } from "@pipeline/shared/database";
import type { Logger } from "@pipeline/shared/logger";
import { createLoop } from "@pipeline/shared/loop";
import { type OpsServer, startOpsServer } from "@pipeline/shared/ops-server";
import { adoptHomes } from "@pipeline/shared/queue/adopt-homes";
import { createConsumer } from "@pipeline/shared/queue/consumer";
import { createInspection } from "@pipeline/shared/queue/inspection";
import {
  createKeys,
  DISPATCHERS_GROUP,
  RECORDERS_GROUP,
} from "@pipeline/shared/queue/keys";
import { createWaiting } from "@pipeline/shared/queue/waiting";
import { createRecords } from "@pipeline/shared/queue/records";
import {
  connectRedis,
  createRedis,
  warnAboutEviction,
} from "@pipeline/shared/redis";
import { createSealer } from "@pipeline/shared/seal";
import { createDeliver } from "./attempt/deliver.ts";
import { createEndpoints } from "./attempt/endpoints.ts";
import { createReadEndpoints } from "./attempt/read-endpoints.ts";
import { createHttpSender } from "./attempt/http-sender.ts";
import { createReport } from "./attempt/report.ts";
import { createSettler } from "./attempt/settler.ts";
import type { Config } from "./config.ts";
import { isAllowedAddress } from "./core/address.ts";
import { createShare } from "./core/share.ts";
import { createTraffic } from "./core/traffic.ts";
import type { Work } from "./core/work.ts";
import { createResolver } from "./dns/resolver.ts";
import { greet } from "./greet.ts";
import { createMetrics } from "./metrics.ts";
import { createRecorder } from "./recording/recorder.ts";
import { createShutdown } from "./shutdown.ts";
import { createHeartbeat } from "./taking/heartbeat.ts";
import { createTaking } from "./taking/taking.ts";

const DATABASE_TIMEOUT_MS = 10_000;
/** Nobody waits that long for a look-up; what comes later is kept for the next delivery. */
const LOOKUP_TIMEOUT_MS = 3000;
const LOOKUP_CONNECTIONS = 2;
const METRICS_LOG_INTERVAL_MS = 60_000;
/** A name that cannot be resolved must not hold its slot for as long as a receiver that is slow. */
const LONGEST_LOOKUP_MS = 4000;
const SWEEP_INTERVAL_MS = 250;

export function createApp(config: Config, logger: Logger) {
  const now = Date.now;
  /** For durations and deadlines: the machine's clock may be set. */
  const monotonic = () => performance.now();
  const { random } = Math;
  const { claimIdleMs, concurrency, streamKey } = config;
  const keys = createKeys(streamKey);
  const consumer = `${hostname()}-${process.pid}-${randomBytes(3).toString("hex")}`;
  const connect = (use: "commands" | "blocking", name: string) =>
    createRedis(config.redisUrl, use, logger, `${consumer}:${name}`);
  const commands = connect("commands", "commands");
  const blocking = connect("blocking", DISPATCHERS_GROUP);
  const logBlocking = connect("blocking", RECORDERS_GROUP);
  const database = createDatabase(
    config.supabaseUrl,
    config.serviceRoleKey,
    DATABASE_TIMEOUT_MS,
  );
  // Apart from the recorder's, whose calls may be large and slow.
  const forLookups = createDatabase(
    config.supabaseUrl,
    config.serviceRoleKey,
    LOOKUP_TIMEOUT_MS,
    LOOKUP_CONNECTIONS,
  );
  const stopping = new AbortController();
  const { signal } = stopping;

  const readerOptions = { commands, keys, consumer, logger };
  const queue = createConsumer({ ...readerOptions, blocking });
  const records = createRecords({ ...readerOptions, blocking: logBlocking });
  const inspection = createInspection(commands, keys);
  const waiting = createWaiting(commands, keys);
  const share = createShare(concurrency);
  const traffic = createTraffic<Work>(concurrency, share);
  const metrics = createMetrics({
    waiting: inspection.waiting,
    waitingForShare: inspection.waitingForShare,
    inFlight: inspection.inFlight,
    unrecorded: inspection.unrecorded,
    inFlightHere: traffic.running,
  });

  // Attempt
  const sender = createHttpSender({
    attemptTimeoutMs: config.attemptTimeoutMs,
    isAllowed: (address) => isAllowedAddress(address, config.allowedNetworks),
    resolver: createResolver({
      servers: config.dnsServers,
      timeoutMs: Math.min(LONGEST_LOOKUP_MS, config.attemptTimeoutMs / 2),
      now: monotonic,
    }),
    logger,
  });
  const settler = createSettler({ queue, logger, now });
  const endpoints = createEndpoints(
    createReadEndpoints(forLookups.client),
    monotonic,
  );
  const sealer = createSealer(config.encryptionKey);
  const attempt = createDeliver({
    endpoints,
    sender,
    settler,
    sealer,
    schedule: config.retrySchedule,
    jitter: config.retryJitter,
    report: createReport({ metrics, schedule: config.retrySchedule, logger }),
    hold: (endpoint, ms) => {
      share.hold(endpoint, monotonic(), ms);
      waiting.hold(endpoint, ms).catch((err: unknown) => {
        logger.warn({ err }, "hold.failed"); // the other dispatchers will be told by the receiver
      });
    },
    now,
    monotonic,
    random,
  });

  // Taking
  const { permits, takeOnce, waitingRoom } = createTaking({
    config,
    commands,
    keys,
    consumer,
    queue,
    inspection,
    waiting,
    share,
    traffic,
    attempt,
    settler,
    originOf: endpoints.originOf,
    seal: sealer.seal,
    wakeWaitingRoom: () => letting.wake(),
    logger,
    signal,
    now,
    monotonic,
    random,
  });

  // Recording
  const record = createRecorder({
    records,
    callWithText: database.callWithText,
    claimIdleMs,
    metrics,
    logger,
    now,
    monotonic,
  });

  const loop = (
    name: string,
    runOnce: (signal: AbortSignal) => Promise<number>,
  ) => createLoop({ name, runOnce, logger });
  let summarizedAt = monotonic();
  const logMetrics = () => {
    const summary = metrics.summarize((monotonic() - summarizedAt) / 1000);
    summarizedAt = monotonic();
    if (summary !== null) logger.info(summary, "worker.metrics");
  };
  const consuming = loop("consume", takeOnce);
  const recording = loop("record", record);
  const letting = loop("wait", () => waitingRoom.runOnce());
  const keeping = [
    letting,
    loop("heartbeat", createHeartbeat({ queue, permits, claimIdleMs, logger })),
    loop("sweep", async () => {
      permits.sweep();
      return SWEEP_INTERVAL_MS;
    }),
    loop("metrics", async () => {
      logMetrics();
      return METRICS_LOG_INTERVAL_MS;
    }),
  ];
  const shutdown = createShutdown({
    consuming,
    recording,
    keeping,
    permits,
    settler,
    sender,
    queue,
    records,
    unrecorded: inspection.unrecorded,
    stopping,
    graceMs: config.shutdownGraceMs,
    logger,
  });

  let opsServer: OpsServer | undefined;
  return {
    /** Throws REDIS_UNAVAILABLE when Redis does not answer; Supabase may come later. */
    start: async (): Promise<void> => {
      logger.info("[WEBHOOK_WORKER] Starting webhook delivery worker...");
      await connectRedis([commands, blocking, logBlocking], config.redisUrl);
      await adoptHomes(commands, keys);
      await warnAboutEviction(commands, logger);
      await Promise.all([queue.prepare(), records.prepare()]);
      opsServer = await startOpsServer(
        config.metricsPort,
        {
          registry: metrics.registry,
          checks: {
            redis: () => commands.ping(),
            supabase: () => pingDatabase(database.client),
          },
          isDraining: () => signal.aborted,
        },
        logger,
      );
      for (const each of [consuming, recording, ...keeping]) each.start();
      greet({ config, consumer, port: opsServer.port, logger });
    },
    /** Stops reading, finishes running deliveries within the grace, gives the rest back. Idempotent. */
    stop: async (): Promise<void> => {
      await shutdown();
      logMetrics(); // of the last, incomplete interval
      await opsServer?.close();
      await Promise.all([database.close(), forLookups.close()]);
      for (const redis of [commands, blocking, logBlocking]) redis.disconnect();
      logger.info("[WEBHOOK_WORKER] Stopped");
    },
  };
}
