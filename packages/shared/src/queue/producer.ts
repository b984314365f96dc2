// Adds deliveries to the stream.
import type { Redis } from "ioredis";
import { isOutOfMemory } from "../redis.ts";
import type { Keys } from "./keys.ts";
import { type Fields, flatten } from "./fields.ts";
import { queueScript } from "./script.ts";

export interface Producer {
  /**
   * Per delivery: its new entry id, or the home it already had; null when the queue holds `maxLength` deliveries and
   * outcomes. Idempotent. At most about 200 deliveries per call.
   */
  enqueue: (
    deliveries: { id: string; fields: Fields }[],
    maxLength: number,
  ) => Promise<(string | null)[]>;
  /** How many deliveries and outcomes the queue holds, and whether Redis has memory for more. `length` is null when Redis did not answer. */
  measure: () => Promise<{ length: number | null; isOutOfMemory: boolean }>;
}

export function createProducer(redis: Redis, keys: Keys): Producer {
  const enqueue = queueScript(redis, keys, "enqueue");
  const lengthOf = queueScript(redis, keys, "queue-length");
  return {
    enqueue: async (deliveries, maxLength) => {
      const args = deliveries.flatMap(({ id, fields }) => {
        const flat = flatten(fields);
        return [id, flat.length, ...flat];
      });
      const results = (await enqueue(maxLength, ...args)) as string[];
      return results.map((result) => (result === "" ? null : result));
    },

    measure: async () => {
      const [length, write] = await Promise.allSettled([
        lengthOf(),
        // Writes nothing, but when Redis is out of memory it rejects this command as it would reject an enqueue.
        redis.setrange(keys.epoch, 0, ""),
      ]);
      return {
        length: length.status === "fulfilled" ? (length.value as number) : null,
        isOutOfMemory:
          write.status === "rejected" && isOutOfMemory(write.reason),
      };
    },
  };
}
