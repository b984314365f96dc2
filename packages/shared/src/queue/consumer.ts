// What a dispatcher does with entries of the stream: read, admit, keep from being claimed, settle, release.
import { deriveDeliveryId, uuidOf } from "../entries.ts";
import { isGroupMissing } from "../redis.ts";
import { isoTime } from "../timestamp.ts";
import { type Fields, fieldsToJson, unflatten } from "./fields.ts";
import {
  createGroupReader,
  type GroupReader,
  type ReaderOptions,
} from "./group-reader.ts";
import { DISPATCHERS_GROUP } from "./keys.ts";
import { queueScript } from "./script.ts";

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

export interface Burial {
  entryId: string;
  /** The receiver has it: only the row is closed, and no dead letter is written. */
  isDelivered: boolean;
  reason: string;
}

/**
 * "late": a success of an entry that was no longer pending; what another consumer had put in its place (a retry, a new entry,
 * a dead letter) is withdrawn. "stale": another consumer owns or has settled the entry, so nothing was changed.
 */
export type SettleResult = "settled" | "late" | "stale";

/** As `bury` wants it: it goes into JSON text as it is. */
const plainText = (text: string) =>
  text.replaceAll(/[^ !#-[\]-~]/g, " ").slice(0, 500);

const SETTLE_RESULTS = ["stale", "settled", "late"] as const;

export interface Consumer extends Omit<
  GroupReader,
  "recover" | "pending" | "claim"
> {
  /** Per entry: whether it is its delivery's home. Duplicates have been removed. */
  admit: (entries: EntryOfDelivery[]) => Promise<boolean[]>;
  /** Resets the idle time of those entries that this consumer still owns; resolves to their ids. */
  heartbeat: (entryIds: string[]) => Promise<string[]>;
  /** Writes the results to Redis and acknowledges the entries. Idempotent. */
  settle: (settlements: Settlement[]) => Promise<SettleResult[]>;
  /** The last resort for an entry whose settlement cannot be built or run. Idempotent. `now`: ms since 1970. */
  bury: (burial: Burial, now: number) => Promise<SettleResult>;
  /** The entries that this consumer has read and not settled. */
  pending: () => Promise<EntryOfDelivery[]>;
  /** Gives entries back, for others to read at once; resolves to the number. */
  release: (entries: EntryOfDelivery[]) => Promise<number>;
}

export function createConsumer(options: ReaderOptions): Consumer {
  const { commands, keys, consumer } = options;
  const reader = createGroupReader(options, keys.stream, DISPATCHERS_GROUP);
  const admit = queueScript(commands, keys, "admit");
  const heartbeat = queueScript(commands, keys, "heartbeat");
  const settle = queueScript(commands, keys, "settle");
  const bury = queueScript(commands, keys, "bury");
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
    read: reader.read,
    orphans: reader.orphans,
    take: reader.take,
    takeUnread: reader.takeUnread,
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
        settlement.fields === null ? "" : fieldsToJson(settlement.fields),
        settlement.record ?? "",
      ]);
      const run = async () => {
        const results = await settle(DISPATCHERS_GROUP, consumer, ...args);
        return (results as number[]).map((result) => SETTLE_RESULTS[result]!);
      };
      try {
        return await run();
      } catch (error) {
        if (!isGroupMissing(error)) throw error;
        // In the new group nothing is pending: failures are stale, since their entries are read again; successes count.
        await reader.recover();
        return run();
      }
    },

    bury: async ({ entryId, isDelivered, reason }, now) => {
      const result = await bury(
        DISPATCHERS_GROUP,
        consumer,
        entryId,
        deriveDeliveryId(keys.stream, entryId),
        isDelivered ? 1 : 0,
        plainText(reason),
        isoTime(now),
      );
      return result === 1 ? "settled" : "stale";
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
