// Deliveries that wait for another attempt.
import type { Redis } from "ioredis";
import { isoTime } from "../timestamp.ts";
import { BATCH_BYTES } from "./batch-size.ts";
import type { Keys } from "./keys.ts";
import { queueScript } from "./script.ts";

export interface Promotion {
  moved: number;
  /** Ms until the next retry is due; null when there is none. */
  nextMs: number | null;
  /** Retries whose data could not be read; they have become dead letters. */
  unreadable: number;
  hasEpoch: boolean;
}

export interface Retries {
  /** Which retry is due first and when, as text to be compared with the last answer; empty when there is none. */
  first: () => Promise<string>;
  /**
   * Moves up to `limit` due retries to the stream, fewer when they are large: then `nextMs` is 0. `now`: ms since 1970, for
   * dead letters.
   */
  promote: (limit: number, now: number) => Promise<Promotion>;
}

export function createRetries(redis: Redis, keys: Keys): Retries {
  const promote = queueScript(redis, keys, "promote");
  return {
    first: async () =>
      (await redis.zrange(keys.retries, "0", "0", "WITHSCORES")).join(" "),

    promote: async (limit, now) => {
      const reply = await promote(limit, BATCH_BYTES, isoTime(now));
      const [moved, nextMs, unreadable, hasEpoch] = reply as [
        number,
        number,
        number,
        number,
      ];
      return {
        moved,
        nextMs: nextMs < 0 ? null : nextMs,
        unreadable,
        hasEpoch: hasEpoch === 1,
      };
    },
  };
}
