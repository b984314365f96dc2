// What a dispatcher does with entries of the stream: read, admit, keep from being claimed, settle, release.
import { deriveDeliveryId, MAX_PAYLOAD_BYTES, uuidOf } from "../entries.ts";
import { isGroupMissing } from "../redis.ts";
import { isoTime } from "../timestamp.ts";
import { type Fields, fieldsToJson, unflatten } from "./fields.ts";
import {
  createGroupReader,
  type GroupReader,
  type ReaderOptions,
} from "./group-reader.ts";
import { BATCH_BYTES } from "./batch-size.ts";
import { DISPATCHERS_GROUP } from "./keys.ts";
import { queueScript } from "./script.ts";
import { createTextCheck } from "./undecodable.ts";

export interface EntryOfDelivery {
  entryId: string;
  deliveryId: string;
}

export interface Settlement extends EntryOfDelivery {
  attempt: number;
  /** "wait": into its endpoint's waiting list; "rewait": back to the head of it. */
  kind: "success" | "retry" | "dead" | "defer" | "wait" | "rewait";
  delayMs: number;
  /** The next entry (retry, defer, wait, rewait) or the dead letter (dead). */
  fields: Fields | null;
  /** Whose waiting list (wait, rewait), as `endpointOf` has it. */
  endpoint: string;
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

/** So many entries go into one call of a script that reads them whole, as large as they may be. */
const WHOLE_ENTRIES = BATCH_BYTES / MAX_PAYLOAD_BYTES;

function chunksOf<Item>(items: Item[]): Item[][] {
  const chunks: Item[][] = [];
  for (let start = 0; start < items.length; start += WHOLE_ENTRIES)
    chunks.push(items.slice(start, start + WHOLE_ENTRIES));
  return chunks;
}

/** As `bury` wants it: it goes into JSON text as it is. */
const plainText = (text: string) =>
  text.replaceAll(/[^ !#-[\]-~]/g, " ").slice(0, 500);

/** Longer than any claim idle time. */
const LONGEST_IDLE_MS = 7 * 86_400_000;

const SETTLE_RESULTS = ["stale", "settled", "late"] as const;

export interface Consumer extends Omit<
  GroupReader,
  "recover" | "pending" | "claim"
> {
  /** Per entry: whether it is its delivery's home. Duplicates have been removed. */
  admit: (entries: EntryOfDelivery[]) => Promise<boolean[]>;
  /** Leaves an entry to the next claim, as one that was read `timesRead` times and abandoned. */
  setApart: (entryId: string, timesRead: number) => Promise<void>;
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
  const checkText = createTextCheck(commands, keys.stream);
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
    read: async (count, waitMs) => checkText(await reader.read(count, waitMs)),
    orphans: reader.orphans,
    take: async (orphans, idleMs) =>
      checkText(await reader.take(orphans, idleMs)),
    takeUnread: reader.takeUnread,
    typicalBytes: reader.typicalBytes,
    wake: reader.wake,
    leave: reader.leave,

    admit: async (entries) => {
      if (entries.length === 0) return [];
      const results = await admit(DISPATCHERS_GROUP, ...flat(entries));
      return (results as number[]).map((result) => result === 1);
    },

    setApart: async (entryId, timesRead) => {
      const { stream } = keys;
      // JUSTID: so that this is not counted as a read.
      await commands.xclaim(
        stream,
        DISPATCHERS_GROUP,
        consumer,
        0,
        entryId,
        "IDLE",
        LONGEST_IDLE_MS,
        "RETRYCOUNT",
        timesRead,
        "JUSTID",
      );
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
        settlement.endpoint,
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
      const pending: EntryOfDelivery[] = [];
      for (const entryIds of chunksOf(await reader.pending())) {
        const ids = await Promise.all(entryIds.map(deliveryIdOf));
        for (const [i, entryId] of entryIds.entries())
          pending.push({ entryId, deliveryId: ids[i]! });
      }
      return pending;
    },

    release: async (entries) => {
      let released = 0;
      for (const chunk of chunksOf(entries)) {
        const count = await release(
          DISPATCHERS_GROUP,
          consumer,
          ...flat(chunk),
        );
        released += count as number;
      }
      return released;
    },
  };
}
