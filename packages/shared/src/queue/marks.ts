// What is remembered of entries that were read too often, to tell the one that kills its readers from those beside it: per
// entry a hash of the consumers that run it or have died of it.
import type { Redis } from "ioredis";
import type { Keys } from "./keys.ts";
import { keyScript } from "./script.ts";

/** How many consumers have begun to run the entry and not ended: if it waits to be taken over, they died. */
export interface Mark {
  begun: number;
  /** Those that had nothing else in flight. */
  alone: number;
}

export interface Marks {
  find: (entryIds: string[]) => Promise<Mark[]>;
  /** This consumer runs it. Idempotent, like the others. */
  begin: (entryId: string, isAlone: boolean) => Promise<void>;
  /** This consumer no longer runs it. */
  withdraw: (entryId: string) => Promise<void>;
  /** The entry has ended. */
  remove: (entryId: string) => Promise<void>;
}

export function createMarks(redis: Redis, keys: Keys, consumer: string): Marks {
  const mark = keyScript(redis, "mark");
  return {
    find: (entryIds) =>
      Promise.all(
        entryIds.map(async (entryId) => {
          const runs = await redis.hvals(keys.mark(entryId));
          const alone = runs.filter((isAlone) => isAlone === "1").length;
          return { begun: runs.length, alone };
        }),
      ),
    begin: async (entryId, isAlone) => {
      await mark(keys.mark(entryId), consumer, isAlone ? 1 : 0);
    },
    withdraw: async (entryId) => {
      await redis.hdel(keys.mark(entryId), consumer);
    },
    remove: async (entryId) => {
      await redis.del(keys.mark(entryId));
    },
  };
}
