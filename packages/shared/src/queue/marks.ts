// What is remembered of entries that were read too often, to tell the one that kills its readers from those beside it.
import type { Redis } from "ioredis";
import type { Keys } from "./keys.ts";
import { keyScript } from "./script.ts";

/** Runs that were begun and have not ended: while the entry waits to be taken over, that many dispatchers died. */
export interface Mark {
  begun: number;
  /** Those in which nothing else was in flight. */
  alone: number;
}

export interface Marks {
  find: (entryIds: string[]) => Promise<Mark[]>;
  add: (entryId: string, change: Mark) => Promise<void>;
  remove: (entryId: string) => Promise<void>;
}

export function createMarks(redis: Redis, keys: Keys): Marks {
  const mark = keyScript(redis, "mark");
  return {
    find: (entryIds) =>
      Promise.all(
        entryIds.map(async (entryId) => {
          const [begun, alone] = await redis.hmget(
            keys.mark(entryId),
            "begun",
            "alone",
          );
          return { begun: Number(begun ?? 0), alone: Number(alone ?? 0) };
        }),
      ),
    add: async (entryId, { begun, alone }) => {
      await mark(keys.mark(entryId), begun, alone);
    },
    remove: async (entryId) => {
      await redis.del(keys.mark(entryId));
    },
  };
}
