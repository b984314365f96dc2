// Taking over a Redis from the version before, in which the hash of homes was called `inflight`.
import type { Redis } from "ioredis";
import type { Keys } from "./keys.ts";

/**
 * Renames the old hash unless the new one is there. For start-up; idempotent, any number of services may do it at once. The
 * services of the version before must have stopped: they would begin a new `inflight`.
 */
export async function adoptHomes(redis: Redis, keys: Keys): Promise<void> {
  try {
    await redis.renamenx(keys.formerHomes, keys.homes);
  } catch (error) {
    if (!/no such key/.test(String(error))) throw error; // the usual case: there is none
  }
}
