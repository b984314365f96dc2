// What a dispatcher does with entries of the stream: read, admit, keep from being claimed, settle, release.
import { deriveDeliveryId, uuidOf } from "../entries.ts";
import { isGroupMissing } from "../redis.ts";
import { type Fields, unflatten } from "./fields.ts";
import {
  createGroupReader,
  type GroupReader,
  type ReaderOptions,
} from "./group-reader.ts";
import { DISPATCHERS_GROUP } from "./keys.ts";
import { queueScript } from "./script.ts";
import { createTextCheck } from "./undecodable.ts";

export interface EntryOfDelivery {
  entryId: string;
  deliveryId: string;
}

export interface Settlement extends EntryOfDelivery {
  attempt: number;
  kind: "success" | "retry" | "dead" | "defer";
  delayMs: number;
  /** The next entry (retry, defer) or the dead letter (dead). */
  fields: Fields | null;
  /** JSON for the recorder. */
  record: string | null;
}

/**
 * "late": a success that cancelled a retry which another consumer had scheduled in the meantime. "stale": another consumer
 * owns or has settled the entry, so nothing was changed.
 */
export type SettleResult = "settled" | "late" | "stale";

const SETTLE_RESULTS = ["stale", "settled", "late"] as const;

export interface Consumer extends Omit<GroupReader, "recover" | "pending"> {
  /** Per entry: whether it is its delivery's home. Duplicates have been removed. */
  admit: (entries: EntryOfDelivery[]) => Promise<boolean[]>;
  /** Resets the idle time of those entries that this consumer still owns; resolves to their ids. */
  heartbeat: (entryIds: string[]) => Promise<string[]>;
  /** Writes the results to Redis and acknowledges the entries. Idempotent. */
  settle: (settlements: Settlement[]) => Promise<SettleResult[]>;
  /** The entries that this consumer has read and not settled. */
  pending: () => Promise<EntryOfDelivery[]>;
  /** Gives entries back, for others to read at once; resolves to the number. */
  release: (entries: EntryOfDelivery[]) => Promise<number>;
}

export function createConsumer(options: ReaderOptions): Consumer {
  const { commands, keys, consumer } = options;
  const reader = createGroupReader(options, keys.stream, DISPATCHERS_GROUP);
  const checkText = createTextCheck(commands, keys.stream);
  const admit = queueScript(commands, keys, "admit");
  const heartbeat = queueScript(commands, keys, "heartbeat");
  const settle = queueScript(commands, keys, "settle");
  const release = queueScript(commands, keys, "release");
  const flat = (entries: EntryOfDelivery[]) =>
    entries.flatMap(({ entryId, deliveryId }) => [entryId, deliveryId]);

  async function deliveryIdOf(entryId: string): Promise<string> {
    const [entry] = await commands.xrange(keys.stream, entryId, entryId);
    const { id } = unflatten(entry?.[1] ?? []);
    return uuidOf(id) ?? deriveDeliveryId(keys.stream, entryId);
  }

  return {
    prepare: reader.prepare,
    read: async (count, waitMs) => checkText(await reader.read(count, waitMs)),
    claim: async (count, idleMs) =>
      checkText(await reader.claim(count, idleMs)),
    wake: reader.wake,
    leave: reader.leave,

    admit: async (entries) => {
      if (entries.length === 0) return [];
      const results = await admit(DISPATCHERS_GROUP, ...flat(entries));
      return (results as number[]).map((result) => result === 1);
    },

    heartbeat: async (entryIds) =>
      (await heartbeat(DISPATCHERS_GROUP, consumer, ...entryIds)) as string[],

    settle: async (settlements) => {
      const args = settlements.flatMap((settlement) => [
        settlement.entryId,
        settlement.deliveryId,
        settlement.attempt,
        settlement.kind,
        settlement.delayMs,
        settlement.fields === null ? "" : JSON.stringify(settlement.fields),
        settlement.record ?? "",
      ]);
      try {
        const results = await settle(DISPATCHERS_GROUP, consumer, ...args);
        return (results as number[]).map((result) => SETTLE_RESULTS[result]!);
      } catch (error) {
        if (!isGroupMissing(error)) throw error;
        await reader.recover();
        return settlements.map(() => "stale");
      }
    },

    pending: async () => {
      const entryIds = await reader.pending();
      return Promise.all(
        entryIds.map(async (entryId) => ({
          entryId,
          deliveryId: await deliveryIdOf(entryId),
        })),
      );
    },

    release: async (entries) =>
      entries.length === 0
        ? 0
        : ((await release(
            DISPATCHERS_GROUP,
            consumer,
            ...flat(entries),
          )) as number),
  };
}
