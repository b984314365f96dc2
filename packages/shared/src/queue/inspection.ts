// Looks into the queue without changing it: where a delivery is, and how many are where.
import { isGroupMissing, type Redis } from "../redis.ts";
import { DISPATCHERS_GROUP, type Keys } from "./keys.ts";
import { queueScript } from "./script.ts";

/** In the stream, among the retries, in the log (its outcome is on its way to Postgres), or not in Redis. */
export type Place = "stream" | "retry" | "log" | "nowhere";

export interface QueueCounts {
  /** In the stream, and not read by any dispatcher. */
  waiting: number;
  /** Read and not settled. */
  inFlight: number;
  retries: number;
  dead: number;
  /** Attempts that are not in Postgres yet. */
  unrecorded: number;
}

export interface Inspection {
  locate: (deliveryId: string) => Promise<Place>;
  counts: () => Promise<QueueCounts>;
  waiting: () => Promise<number>;
  inFlight: () => Promise<number>;
  retries: () => Promise<number>;
  dead: () => Promise<number>;
  unrecorded: () => Promise<number>;
  /** When the first retry is due, ms since 1970; null when there is none. */
  firstDueAt: () => Promise<number | null>;
}

export function createInspection(redis: Redis, keys: Keys): Inspection {
  const locate = queueScript(redis, keys, "locate");

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

  const retries = () => redis.zcard(keys.retries);
  const dead = () => redis.xlen(keys.dead);
  const unrecorded = () => redis.xlen(keys.log);

  return {
    locate: async (deliveryId) => (await locate(deliveryId)) as Place,
    waiting,
    inFlight,
    retries,
    dead,
    unrecorded,
    counts: async () => {
      const [waitingNow, inFlightNow, retriesNow, deadNow, unrecordedNow] =
        await Promise.all([
          waiting(),
          inFlight(),
          retries(),
          dead(),
          unrecorded(),
        ]);
      return {
        waiting: waitingNow,
        inFlight: inFlightNow,
        retries: retriesNow,
        dead: deadNow,
        unrecorded: unrecordedNow,
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
