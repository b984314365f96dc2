// Reads and trims the dead stream. The scripts that settle and promote write to it, and so does the recorder.
import type { Redis } from "ioredis";
import { type DeadLetter, decodeDeadLetter } from "./dead-letter.ts";
import type { Keys } from "./keys.ts";

export interface DeadLetters {
  /** Null when there is no such dead letter. */
  find: (entryId: string) => Promise<DeadLetter | null>;
  /** Up to `count` letters, newest first, between two ids of Redis's range syntax (`+`, `-`, `(id`, ms). */
  page: (
    newest: string,
    oldest: string,
    count: number,
  ) => Promise<DeadLetter[]>;
  /** Removes letters older than `at` (ms since 1970); resolves to their number. */
  trim: (at: number) => Promise<number>;
}

export function createDeadLetters(redis: Redis, keys: Keys): DeadLetters {
  const decode = ([entryId, flat]: [string, string[]]) =>
    decodeDeadLetter(keys.stream, entryId, flat);
  return {
    find: async (entryId) => {
      const [entry] = await redis.xrange(keys.dead, entryId, entryId);
      return entry === undefined ? null : decode(entry);
    },
    page: async (newest, oldest, count) => {
      const { dead } = keys;
      const entries = await redis.xrevrange(
        dead,
        newest,
        oldest,
        "COUNT",
        count,
      );
      return entries.map(decode);
    },
    trim: (at) => redis.xtrim(keys.dead, "MINID", "~", at),
  };
}
