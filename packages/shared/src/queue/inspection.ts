// Looks into the queue without changing it: how many deliveries are where.
import { isGroupMissing, type Redis } from "../redis.ts";
import { DISPATCHERS_GROUP, type Keys } from "./keys.ts";
import { queueScript } from "./script.ts";

export interface QueueCounts {
  /** In the stream, and not read by any dispatcher. */
  waiting: number;
  /** Waiting until their endpoint's share frees. */
  waitingForShare: number;
  /** Read and not settled. */
  inFlight: number;
  retries: number;
  dead: number;
  /** Attempts that are not in Postgres yet. */
  unrecorded: number;
}

/** Bytes where nothing else is said; 0 where the server does not tell. */
export interface MemoryUse {
  /** Outcomes in the log, and their size. */
  unrecorded: number;
  unrecordedBytes: number;
  dead: number;
  deadBytes: number;
  /** What the server compares with `max`. */
  used: number;
  /** Its `maxmemory`; 0: no limit. */
  max: number;
  /** Deliveries that wait outside the stream, for their retry or behind their endpoint's share. */
  aside: number;
}

export interface Inspection {
  memory: () => Promise<MemoryUse>;
  counts: () => Promise<QueueCounts>;
  waiting: () => Promise<number>;
  waitingForShare: () => Promise<number>;
  inFlight: () => Promise<number>;
  retries: () => Promise<number>;
  dead: () => Promise<number>;
  unrecorded: () => Promise<number>;
  /** When the first retry is due, ms since 1970; null when there is none. */
  firstDueAt: () => Promise<number | null>;
}

export function createInspection(redis: Redis, keys: Keys): Inspection {
  const memory = queueScript(redis, keys, "memory-use");

  async function inFlight(): Promise<number> {
    try {
      const [count] = await redis.xpending(keys.stream, DISPATCHERS_GROUP);
      return Number(count);
    } catch (error) {
      if (isGroupMissing(error)) return 0; // no dispatcher has ever started
      throw error;
    }
  }

  async function waiting(): Promise<number> {
    // Commands issued in one tick travel in one pipeline.
    const [length, read] = await Promise.all([
      redis.xlen(keys.stream),
      inFlight(),
    ]);
    return Math.max(0, length - read);
  }

  const waitingForShare = () => redis.hlen(keys.waitingData);
  const retries = () => redis.zcard(keys.retries);
  const dead = () => redis.xlen(keys.dead);
  const unrecorded = () => redis.xlen(keys.log);

  return {
    memory: async () => {
      const reply = (await memory()) as number[];
      const [unrecorded = 0, unrecordedBytes = 0, dead = 0, deadBytes = 0] =
        reply;
      const [used = 0, max = 0, aside = 0] = reply.slice(4);
      const log = { unrecorded, unrecordedBytes };
      return { ...log, dead, deadBytes, used, max, aside };
    },
    waiting,
    waitingForShare,
    inFlight,
    retries,
    dead,
    unrecorded,
    counts: async () => {
      const all = await Promise.all([
        waiting(),
        waitingForShare(),
        inFlight(),
        retries(),
        dead(),
        unrecorded(),
      ]);
      return {
        waiting: all[0],
        waitingForShare: all[1],
        inFlight: all[2],
        retries: all[3],
        dead: all[4],
        unrecorded: all[5],
      };
    },
    firstDueAt: async () => {
      const [, dueAt] = await redis.zrange(
        keys.retries,
        "0",
        "0",
        "WITHSCORES",
      );
      // Anybody may have written `inf`.
      const ms = Number(dueAt);
      return Number.isFinite(ms) ? ms : null;
    },
  };
}
