// Removes what nobody will miss: consumers of processes that ended without removing themselves, and old dead letters.
import {
  DISPATCHERS_GROUP,
  type Keys,
  RECORDERS_GROUP,
} from "@pipeline/shared/keys";
import type { Logger } from "@pipeline/shared/logger";
import { isGroupMissing, type Redis } from "@pipeline/shared/redis";
import type { Scripts } from "@pipeline/shared/scripts";

/** Far beyond the longest silence of a living consumer, which reads at least every few seconds. */
const CONSUMER_IDLE_MS = 3_600_000;
const DAY_MS = 86_400_000;

export interface CleanUpOptions {
  redis: Redis;
  keys: Keys;
  scripts: Pick<Scripts, "removeConsumer">;
  logger: Logger;
  intervalMs: number;
  deadRetentionDays: number;
  consumerIdleMs?: number;
}

interface Consumer {
  name: string;
  pending: number;
  idle: number;
}

/** A reply of XINFO: one flat list of names and values per consumer. */
function toConsumers(reply: unknown): Consumer[] {
  return (reply as (string | number)[][]).map((flat) => {
    const consumer: Consumer = { name: "", pending: 0, idle: 0 };
    for (let i = 0; i + 1 < flat.length; i += 2)
      Object.assign(consumer, { [flat[i]!]: flat[i + 1] });
    return consumer;
  });
}

export function createCleanUp(options: CleanUpOptions) {
  const { redis, keys, scripts, logger } = options;
  const idleMs = options.consumerIdleMs ?? CONSUMER_IDLE_MS;
  const queues = [
    { queue: "stream", key: keys.stream, group: DISPATCHERS_GROUP },
    { queue: "log", key: keys.log, group: RECORDERS_GROUP },
  ] as const;

  async function consumersOf(key: string, group: string): Promise<Consumer[]> {
    try {
      return toConsumers(await redis.xinfo("CONSUMERS", key, group));
    } catch (error) {
      // Nobody has read yet, so there is nothing to remove; XINFO says so in its own words when the stream is missing.
      if (isGroupMissing(error) || /no such key/.test(String(error))) return [];
      throw error;
    }
  }

  return {
    /** Resolves to the ms until the next round. */
    runOnce: async (): Promise<number> => {
      let consumers = 0;
      for (const { queue, key, group } of queues) {
        for (const consumer of await consumersOf(key, group)) {
          if (consumer.pending > 0 || consumer.idle <= idleMs) continue;
          // It may have come back to life since: the script looks again.
          if (await scripts.removeConsumer(queue, consumer.name)) consumers++;
        }
      }
      const oldest = Date.now() - options.deadRetentionDays * DAY_MS;
      const deadLetters = await redis.xtrim(keys.dead, "MINID", "~", oldest);
      if (consumers + deadLetters > 0)
        logger.info({ consumers, deadLetters }, "redis.cleaned_up");
      return options.intervalMs;
    },
  };
}
