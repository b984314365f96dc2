// Takes out of Redis what was deleted in Postgres.
import type { Redis } from "ioredis";
import { BATCH_BYTES } from "./batch-size.ts";
import { decodeDeadLetter } from "./dead-letter.ts";
import { CLOSED_MS } from "./holds.ts";
import { DISPATCHERS_GROUP, type Keys } from "./keys.ts";
import { queueScript } from "./script.ts";

/** What one reply may hold, about: letters are read in pages of as many as fit, judging by those before. */
const PAGE_BYTES = 512 * 1024;
const MOST_LETTERS = 500;

export interface Purge {
  id: string;
  /** It may not have been enqueued yet. */
  isNew: boolean;
}

export interface DeletionQueue {
  /** For deliveries whose rows are gone. Per delivery: whether the queue no longer holds it. At most about 1000 per call. */
  purge: (deliveries: Purge[]) => Promise<boolean[]>;
  /** Removes the dead letters of these deliveries that are not older than `since` (ms since 1970); resolves to their number. */
  removeLetters: (
    deliveryIds: ReadonlySet<string>,
    since: number,
    signal: AbortSignal,
  ) => Promise<number>;
}

export function createDeletionQueue(redis: Redis, keys: Keys): DeletionQueue {
  const purge = queueScript(redis, keys, "purge");
  return {
    purge: async (deliveries) => {
      const results: number[] = [];
      while (results.length < deliveries.length) {
        const args = deliveries
          .slice(results.length)
          .flatMap(({ id, isNew }) => [id, isNew ? "new" : "deleted"]);
        const bounds = [CLOSED_MS, BATCH_BYTES];
        const reply = await purge(DISPATCHERS_GROUP, ...bounds, ...args);
        results.push(...(reply as number[]));
      }
      return results.map((result) => result === 1);
    },

    removeLetters: async (deliveryIds, since, signal) => {
      let removed = 0;
      let from = String(Math.max(0, since));
      let count = 10;
      for (;;) {
        signal.throwIfAborted();
        const { dead, stream } = keys;
        const page = await redis.xrange(dead, from, "+", "COUNT", count);
        if (page.length === 0) return removed;
        const doomed = page.flatMap(([entryId, flat]) => {
          const { deliveryId } = decodeDeadLetter(stream, entryId, flat);
          return deliveryIds.has(deliveryId) ? [entryId] : [];
        });
        if (doomed.length > 0) removed += await redis.xdel(dead, ...doomed);
        from = `(${page.at(-1)![0]}`;
        let bytes = 0;
        for (const [, flat] of page)
          for (const text of flat) bytes += text.length;
        const fitting = Math.floor((PAGE_BYTES * page.length) / (bytes + 1));
        count = Math.max(1, Math.min(fitting, 2 * count, MOST_LETTERS));
      }
    },
  };
}
