import { Redis, type RedisOptions } from "ioredis";
import type { Logger } from "pino";
import { errorMessage, PipelineError } from "./errors.ts";

// When a connection silently drops everything, another one may have to time out before the reader's does: 5 s each, 10 s in
// all. With a block of 5 s, 15.4 s were measured.
export const BLOCK_MS = 2000;

// `socketTimeout` ends a connection whose packets vanish without an error. In tests it was enough to recover from resets,
// outages and vanishing packets. `commandTimeout` or `autoResendUnfulfilledCommands: false` on a blocking reader would leave
// the entries it reads without an owner that knows of them.
const OPTIONS = {
  /** Shared by everything that does not block. Commands issued in one tick travel in one pipeline. */
  commands: {
    maxRetriesPerRequest: 3,
    socketTimeout: 5000,
    enableAutoPipelining: true,
  },
  /** For one blocking read at a time. */
  blocking: { maxRetriesPerRequest: null, socketTimeout: BLOCK_MS + 3000 },
  /** Fails fast, so that an HTTP request is answered even while Redis is away. */
  request: {
    // With one retry or more, ioredis 6 does not reject commands that were under way when Redis froze until Redis answers.
    maxRetriesPerRequest: 0,
    socketTimeout: 2000,
    enableOfflineQueue: false,
    enableAutoPipelining: true,
  },
} satisfies Record<string, RedisOptions>;

const FAULT_LOG_INTERVAL_MS = 10_000;

export type { Redis };

/** `name` is the connection's name in CLIENT LIST. */
export function createRedis(
  url: string,
  use: keyof typeof OPTIONS,
  logger: Logger,
  name = "webhook-pipeline",
): Redis {
  const redis = new Redis(url, {
    ...OPTIONS[use],
    connectionName: name,
    lazyConnect: true,
    connectTimeout: 5000,
    retryStrategy: (attempt) =>
      Math.min(50 * 2 ** Math.min(attempt, 10), 2000) + Math.random() * 100,
    // A replica that was promoted or demoted answers READONLY; a restarting server answers LOADING: reconnect, then resend.
    reconnectOnError: (error) =>
      /^(READONLY|LOADING)/.test(error.message) ? 2 : false,
  });
  // Not reset on "ready", or a connection that comes and goes would log every time.
  let loggedAt = -Infinity;
  redis.on("error", (error: Error) => {
    if (performance.now() - loggedAt < FAULT_LOG_INTERVAL_MS) return;
    loggedAt = performance.now();
    logger.warn({ connection: use, err: error }, "redis.disconnected");
  });
  return redis;
}

/** The URL without its password. */
export function describeRedisUrl(url: string): string {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname === "/" ? "" : pathname}`;
}

/** For start-up: resolves when the server answers; after `timeoutMs` throws REDIS_UNAVAILABLE, which says what to do. */
export async function connectRedis(
  connections: Redis[],
  url: string,
  timeoutMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  const connect = async (redis: Redis) => {
    if (redis.status === "wait") await redis.connect().catch(() => undefined); // the retry strategy keeps trying
    while (redis.status !== "ready") {
      if (performance.now() > deadline) throw new Error("no answer");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await redis.ping();
  };
  try {
    await Promise.all(connections.map(connect));
  } catch (error) {
    for (const redis of connections) redis.disconnect();
    throw new PipelineError(
      "REDIS_UNAVAILABLE",
      `Could not connect to Redis at ${describeRedisUrl(url)} (${errorMessage(error)}). ` +
        "Start it with `redis-server`, or correct REDIS_URL.",
    );
  }
}

/** Warns when the server may drop queued deliveries under memory pressure. Managed services may not allow CONFIG GET. */
export async function warnAboutEviction(
  redis: Redis,
  logger: Logger,
): Promise<void> {
  try {
    const [, policy] = (await redis.config("GET", "maxmemory-policy")) as [
      string,
      string,
    ];
    if (policy !== undefined && policy !== "noeviction") {
      logger.warn(
        { policy },
        "redis.may_evict: set maxmemory-policy noeviction, or queued deliveries can be lost",
      );
    }
  } catch (error) {
    logger.debug({ err: error }, "redis.policy_unknown");
  }
}

/** Whether Redis refused a write because `maxmemory` is reached. */
export function isOutOfMemory(error: unknown): boolean {
  return errorMessage(error).startsWith("OOM");
}

/** Whether a group read or a script failed because the stream or its group is missing (deleted, flushed, or never created). */
export function isGroupMissing(error: unknown): boolean {
  return /NOGROUP|UNBLOCKED/.test(errorMessage(error));
}
