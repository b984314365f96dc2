// Composition root: builds the rooms in the direction of the data (taking, attempt, recording), starts their loops, and
// stops them in the order that loses nothing.
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { createDatabase, pingDatabase } from "@pipeline/shared/database";
import type { Logger } from "@pipeline/shared/logger";
import { abortableSleep, createLoop } from "@pipeline/shared/loop";
import { type OpsServer, startOpsServer } from "@pipeline/shared/ops-server";
import { adoptHomes } from "@pipeline/shared/queue/adopt-homes";
import { createConsumer } from "@pipeline/shared/queue/consumer";
import { createDeadLetters } from "@pipeline/shared/queue/dead-letters";
import { createInspection } from "@pipeline/shared/queue/inspection";
import {
  createKeys,
  DISPATCHERS_GROUP,
  RECORDERS_GROUP,
} from "@pipeline/shared/queue/keys";
import { createLimits } from "@pipeline/shared/queue/limits";
import { createMarks } from "@pipeline/shared/queue/marks";
import { createWaiting } from "@pipeline/shared/queue/waiting";
import { createRecords } from "@pipeline/shared/queue/records";
import {
  connectRedis,
  createRedis,
  describeRedisUrl,
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
import { createMetrics } from "./metrics.ts";
import { createRecorder } from "./recording/recorder.ts";
import { createShutdown } from "./shutdown.ts";
import { type Admit, createAdmit } from "./taking/admit.ts";
import { createBegin } from "./taking/begin.ts";
import { createClaims } from "./taking/claims.ts";
import { createConsume } from "./taking/consume.ts";
import { createMemoryGuard } from "./taking/memory-guard.ts";
import { createHeartbeat } from "./taking/heartbeat.ts";
import { createLimiter, unlimited } from "./taking/limiter.ts";
import { createPermits } from "./taking/permits.ts";
import { createRunAlone } from "./taking/run-alone.ts";
import { createWaitingRoom } from "./taking/waiting-room.ts";

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
  const limits = createLimits(commands, keys);
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
      now: () => performance.now(),
    }),
    logger,
  });
  const settler = createSettler({ queue, logger, now });
  const endpoints = createEndpoints(
    createReadEndpoints(forLookups.client),
    monotonic,
  );
  const sealer = createSealer(config.encryptionKey);
  const { deliver, wait, defer, giveUp } = createDeliver({
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
    random,
  });

  // Taking
  const { ratePerSecond } = config;
  const limiter =
    ratePerSecond === 0
      ? unlimited
      : createLimiter({ limits, ratePerSecond, logger, now: monotonic });
  const permits = createPermits({
    traffic,
    limiter,
    deliver: createBegin({
      limits,
      endpointRatePerSecond: config.endpointRatePerSecond || null,
      deliver,
      defer,
      logger,
      signal,
    }),
    wait: async (work) => {
      await wait(work);
      waitingRoom.noteArrival(work.endpoint);
    },
    onRoom: (endpoint) => waitingRoom.noteRoom(endpoint),
    logger,
    signal,
    now: monotonic,
  });
  const admit = createAdmit({
    streamKey,
    queue,
    permits,
    limiter,
    originOf: endpoints.originOf,
    giveUp,
    logger,
  });
  const guard = createMemoryGuard({
    inspection,
    deadLetters: createDeadLetters(commands, keys),
    deadMaxBytes: config.deadMaxBytes,
    typicalBytes: queue.typicalBytes,
    logger,
    now: () => performance.now(),
  });

  // Recording
  const record = createRecorder({
    records,
    callWithText: database.callWithText,
    claimIdleMs,
    metrics,
    logger,
    now,
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
  const admitAndNote: Admit = (...args) => {
    guard.noteRead();
    return admit(...args);
  };
  const consume = createConsume({
    concurrency,
    queue,
    claims: createClaims({
      claimIdleMs,
      queue,
      permits,
      now: monotonic,
      random,
    }),
    runAlone: createRunAlone({
      concurrency,
      claimIdleMs,
      attemptTimeoutMs: config.attemptTimeoutMs,
      queue,
      marks: createMarks(commands, keys, consumer),
      permits,
      admit: admitAndNote,
      settler,
      logger,
      now: monotonic,
      random,
      sleep: abortableSleep,
    }),
    limiter,
    permits: {
      ...permits,
      free: () =>
        Math.min(permits.free(), guard.mostInFlight() - permits.running()),
    },
    admit: admitAndNote,
    now: monotonic,
  });
  const consuming = loop(
    "consume",
    async (signal) => (await guard.check(permits.running())) || consume(signal),
  );
  const recording = loop("record", record);
  const letting = loop("wait", () => waitingRoom.runOnce());
  const waitingRoom = createWaitingRoom({
    streamKey,
    waiting: {
      ...waiting,
      // A delivery takes more memory in a list than in the stream.
      unread: async (...limits) =>
        guard.isTight()
          ? { entries: [], hasMore: false }
          : waiting.unread(...limits),
    },
    share,
    originOf: endpoints.originOf,
    seal: sealer.seal,
    wake: letting.wake,
    now: monotonic,
    wallClock: now,
  });
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

  function greet(port: number): void {
    const rate =
      ratePerSecond === 0
        ? "off"
        : `${ratePerSecond} deliveries/second over all dispatchers`;
    for (const line of [
      "Worker started successfully",
      `Redis: ${describeRedisUrl(config.redisUrl)}`,
      `Supabase: ${new URL(config.supabaseUrl).origin}`,
      `Processing stream: ${streamKey} as consumer ${consumer}`,
      `Concurrency: ${concurrency} deliveries at once`,
      `Rate limit: ${rate}`,
      `Attempt timeout: ${config.attemptTimeoutMs} ms; retries after ${config.retrySchedule.join(", ")} seconds`,
      `Health and metrics: http://localhost:${port}/healthz, /readyz, /metrics`,
      "Listening for deliveries...",
    ]) {
      logger.info(`[WEBHOOK_WORKER] ${line}`);
    }
    if (config.allowedNetworks.length > 0) {
      logger.warn(
        "[WEBHOOK_WORKER] ALLOW_PRIVATE_NETWORKS is set: deliveries may go to private addresses",
      );
    }
  }

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
      greet(opsServer.port);
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
