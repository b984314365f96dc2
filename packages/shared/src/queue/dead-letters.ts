// Reads and trims the dead stream. The scripts that settle and promote write to it, and so does the recorder.
import type { Redis } from "ioredis";
import { type DeadLetter, decodeDeadLetter } from "./dead-letter.ts";
import { createReadSize, sizeOfFields } from "./batch-size.ts";
import type { Keys } from "./keys.ts";

/** Letters of a quarter of a megabyte are freed in 20 ms. A node of the stream, the least that can be trimmed, has 100. */
const TRIMMED_AT_ONCE = 200;

export interface DeadLetters {
  /** Null when there is no such dead letter. */
  find: (entryId: string) => Promise<DeadLetter | null>;
  /**
   * Up to `count` letters, fewer when they are large, newest first, between two ids of Redis's range syntax (`+`, `-`, `(id`,
   * ms). Empty when there are no more.
   */
  page: (
    newest: string,
    oldest: string,
    count: number,
  ) => Promise<DeadLetter[]>;
  /** Removes letters older than `at` (ms since 1970); resolves to their number. */
  trim: (at: number) => Promise<number>;
  /** Removes the oldest letters beyond about `count`; resolves to their number. */
  keepNewest: (count: number) => Promise<number>;
}

export function createDeadLetters(redis: Redis, keys: Keys): DeadLetters {
  const decode = ([entryId, flat]: [string, string[]]) =>
    decodeDeadLetter(keys.stream, entryId, flat);
  const readSize = createReadSize();

  /** Removes some at a time, so that Redis is not kept busy for long. */
  async function trimAway(
    by: "MINID" | "MAXLEN",
    threshold: number,
  ): Promise<number> {
    let removed = 0;
    for (;;) {
      const bound = [by, "~", threshold, "LIMIT", TRIMMED_AT_ONCE];
      const args = [keys.dead, ...bound].map(String);
      const count = (await redis.call("XTRIM", args)) as number;
      if (count === 0) return removed;
      removed += count;
    }
  }

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
        readSize.fit(count),
      );
      readSize.learn(entries.map(([, flat]) => sizeOfFields(flat)));
      return entries.map(decode);
    },
    trim: (at) => trimAway("MINID", at),
    keepNewest: (count) => trimAway("MAXLEN", count),
  };
}
