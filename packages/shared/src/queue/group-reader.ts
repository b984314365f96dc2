// Reads a stream through a consumer group: new entries, and those whose reader has died.
import type { Logger } from "pino";
import { BLOCK_MS, isGroupMissing, type Redis } from "../redis.ts";
import { createReadSize, sizeOfFields } from "./batch-size.ts";
import type { Keys } from "./keys.ts";
import { keyScript } from "./script.ts";

export interface StreamEntry {
  entryId: string;
  /** Alternating names and values. */
  fields: string[];
  /** How often the entry was read, including this time; 1 for a new one. */
  timesRead: number;
  /** By name the fields that are not UTF-8, and so not what their producer wrote: their bytes, in base64. */
  undecodable?: ReadonlyMap<string, string>;
}

/** An entry that was read and that nobody has touched for a while: its reader has probably died. */
export interface Orphan {
  entryId: string;
  timesRead: number;
}

export interface GroupReader {
  /** Creates the stream and its group if they are missing. */
  prepare: () => Promise<void>;
  /**
   * Up to `count` new entries, fewer when they are large; waits for the first, at most for `waitMs` and for `BLOCK_MS`. Empty
   * after `wake`.
   */
  read: (count: number, waitMs: number) => Promise<StreamEntry[]>;
  /**
   * Up to `count` entries that nobody has touched for `idleMs`, without taking them over. A page that is full is followed by
   * the next one at the next call.
   */
  orphans: (count: number, idleMs: number) => Promise<Orphan[]>;
  /** Takes over those that nobody has touched for `idleMs` even now. */
  take: (orphans: Orphan[], idleMs: number) => Promise<StreamEntry[]>;
  /** The same for one of them, but neither reads it nor counts as a read. Whether it is ours now. */
  takeUnread: (entryId: string, idleMs: number) => Promise<boolean>;
  /** Both in one: takes over up to `count` entries, fewer when they are large, that nobody has touched for `idleMs`. */
  claim: (count: number, idleMs: number) => Promise<StreamEntry[]>;
  /** The usual size of an entry of this stream, in bytes. */
  typicalBytes: () => number;
  /** Ids of the entries this consumer has read and not acknowledged; at most 10,000. */
  pending: () => Promise<string[]>;
  /** Ends a read that is waiting. */
  wake: () => Promise<void>;
  /** Removes this consumer from the group. False when it was kept because it still owns entries. */
  leave: () => Promise<boolean>;
  /** To be called when the group was missing: makes it again, and lets the retry-scheduler look for what Redis has lost. */
  recover: () => Promise<void>;
}

export interface ReaderOptions {
  /** For the blocking read alone. */
  blocking: Redis;
  commands: Redis;
  keys: Keys;
  consumer: string;
  logger: Logger;
}

type Reply = [string, [string, string[]][]][] | null;

export function createGroupReader(
  { blocking, commands, keys, consumer, logger }: ReaderOptions,
  stream: string,
  group: string,
): GroupReader {
  const removeConsumer = keyScript(commands, "remove-consumer");
  let scanFrom = "-";
  const createGroup = keyScript(commands, "create-group");
  const readSize = createReadSize();
  const learn = (entries: readonly [string, string[]][]) =>
    readSize.learn(entries.map(([, fields]) => sizeOfFields(fields)));

  async function prepare(): Promise<void> {
    await createGroup(stream, group);
  }

  async function recover(): Promise<void> {
    await prepare();
    // Without the epoch the retry-scheduler reconciles everything.
    await commands.del(keys.epoch);
    logger.warn({ stream, group }, "group.recreated");
  }

  /** The result of `read`; empty when the group was gone, which is then made again. */
  async function orRecover<Result>(
    read: () => Promise<Result[]>,
  ): Promise<Result[]> {
    try {
      return await read();
    } catch (error) {
      if (!isGroupMissing(error)) throw error;
      await recover();
      return [];
    }
  }

  /** Redis before 7 keeps an entry pending that was deleted, where it would be found again for ever. */
  async function forgetDeleted(entryIds: string[]): Promise<void> {
    for (const entryId of entryIds) {
      const found = await commands.xrange(stream, entryId, entryId);
      if (found.length === 0) await commands.xack(stream, group, entryId);
    }
  }

  // One XPENDING looks at every pending entry and returns only idle ones. XAUTOCLAIM looks at ten times its count per call,
  // so that a thousand entries in flight elsewhere delayed those of a dead reader by minutes. A million pending entries
  // would take XPENDING a tenth of a second; readers take no more than they can hold, so there are thousands at most.
  const orphans: GroupReader["orphans"] = (count, idleMs) =>
    orRecover(async () => {
      const rows = (await commands.xpending(
        stream,
        group,
        "IDLE",
        Math.ceil(idleMs),
        scanFrom,
        "+",
        count,
      )) as [string, string, number, number][];
      scanFrom = rows.length < count ? "-" : `(${rows.at(-1)![0]}`;
      return rows.map(([entryId, , , timesRead]) => ({ entryId, timesRead }));
    });

  async function takePart(
    wanted: Orphan[],
    idleMs: number,
  ): Promise<StreamEntry[]> {
    return orRecover(async () => {
      const reply = (await commands.xclaim(
        stream,
        group,
        consumer,
        Math.ceil(idleMs),
        ...wanted.map(({ entryId }) => entryId),
      )) as ([string, string[]] | null)[];
      const entries = reply.filter((entry) => entry !== null);
      learn(entries);
      const taken = new Map(entries);
      const missing = wanted.filter(({ entryId }) => !taken.has(entryId));
      await forgetDeleted(missing.map(({ entryId }) => entryId));
      return wanted.flatMap(({ entryId, timesRead }) => {
        const fields = taken.get(entryId);
        return fields === undefined
          ? []
          : [{ entryId, fields, timesRead: timesRead + 1 }];
      });
    });
  }

  const take: GroupReader["take"] = async (wanted, idleMs) => {
    const taken: StreamEntry[] = [];
    // Large entries are taken a few at a time.
    for (let rest = wanted; rest.length > 0;) {
      const part = rest.slice(0, Math.max(1, readSize.fit(rest.length)));
      taken.push(...(await takePart(part, idleMs)));
      rest = rest.slice(part.length);
    }
    return taken;
  };

  return {
    prepare,
    recover,
    orphans,
    take,
    takeUnread: async (entryId, idleMs) => {
      const taken = await commands.xclaim(
        stream,
        group,
        consumer,
        Math.ceil(idleMs),
        entryId,
        "JUSTID",
      );
      return taken.length > 0;
    },
    typicalBytes: readSize.typicalBytes,
    read: (count, waitMs) =>
      orRecover(async () => {
        const reply = (await blocking.xreadgroup(
          "GROUP",
          group,
          consumer,
          "COUNT",
          readSize.fit(count),
          "BLOCK",
          Math.ceil(Math.min(waitMs, BLOCK_MS)),
          "STREAMS",
          stream,
          ">",
        )) as Reply;
        const entries = reply?.[0]?.[1] ?? [];
        learn(entries);
        return entries.map(([entryId, fields]) => ({
          entryId,
          fields,
          timesRead: 1,
        }));
      }),
    claim: async (count, idleMs) =>
      take(await orphans(readSize.fit(count), idleMs), idleMs),
    pending: () =>
      orRecover(async () => {
        const rows = (await commands.xpending(
          stream,
          group,
          "-",
          "+",
          10_000,
          consumer,
        )) as [string][];
        return rows.map(([entryId]) => entryId);
      }),
    wake: async () => {
      // The waiting connection itself cannot be asked for its id: the question would wait behind the read.
      const clients = String(await commands.client("LIST")).split("\n");
      const client = clients.find((line) =>
        line.includes(` name=${blocking.options.connectionName} `),
      );
      const id = /^id=(\d+)/.exec(client ?? "")?.[1];
      if (id !== undefined) await commands.client("UNBLOCK", Number(id));
    },
    leave: async () => (await removeConsumer(stream, group, consumer)) === 1,
  };
}
