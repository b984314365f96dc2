// Consumers of processes that ended without removing themselves.
import { isGroupMissing, type Redis } from "../redis.ts";
import { DISPATCHERS_GROUP, type Keys, RECORDERS_GROUP } from "./keys.ts";
import { keyScript } from "./script.ts";

export interface IdleConsumers {
  /** Removes consumers that own no entries and have been silent for `idleMs`; resolves to their number. */
  remove: (idleMs: number) => Promise<number>;
}

interface ConsumerInfo {
  name: string;
  pending: number;
  idle: number;
}

/** Parses a reply of XINFO: one flat list of names and values per consumer. */
function toConsumers(reply: unknown): ConsumerInfo[] {
  return (reply as (string | number)[][]).map((flat) => {
    const consumer: ConsumerInfo = { name: "", pending: 0, idle: 0 };
    for (let i = 0; i + 1 < flat.length; i += 2)
      Object.assign(consumer, { [flat[i]!]: flat[i + 1] });
    return consumer;
  });
}

export function createIdleConsumers(redis: Redis, keys: Keys): IdleConsumers {
  const removeConsumer = keyScript(redis, "remove-consumer");
  const groups = [
    [keys.stream, DISPATCHERS_GROUP],
    [keys.log, RECORDERS_GROUP],
  ] as const;

  async function consumersOf(
    key: string,
    group: string,
  ): Promise<ConsumerInfo[]> {
    try {
      return toConsumers(await redis.xinfo("CONSUMERS", key, group));
    } catch (error) {
      // Nobody has read yet, so there is nothing to remove. For a missing stream XINFO has an error text of its own.
      if (isGroupMissing(error) || /no such key/.test(String(error))) return [];
      throw error;
    }
  }

  return {
    remove: async (idleMs) => {
      let removed = 0;
      for (const [key, group] of groups) {
        for (const { name, pending, idle } of await consumersOf(key, group)) {
          if (pending > 0 || idle <= idleMs) continue;
          // The script checks again, since the consumer may have read something in the meantime.
          if ((await removeConsumer(key, group, name)) === 1) removed++;
        }
      }
      return removed;
    },
  };
}
