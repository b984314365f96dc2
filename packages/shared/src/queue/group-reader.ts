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

export interface GroupReader {
  /** Creates the stream and its group if they are missing. */
  prepare: () => Promise<void>;
  /**
   * Up to `count` new entries, fewer when they are large; waits for the first, at most for `waitMs` and for `BLOCK_MS`. Empty
   * after `wake`.
   */
  read: (count: number, waitMs: number) => Promise<StreamEntry[]>;
  /** Takes over up to `count` entries, fewer when they are large, that nobody has touched for `idleMs`. */
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
  const createGroup = keyScript(commands, "create-group");
  const readSize = createReadSize();
  const learn = (entries: readonly [string, string[]][]) =>
    readSize.learn(entries.map(([, fields]) => sizeOfFields(fields)));
  let claimCursor = "0-0";

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

  return {
    prepare,
    recover,
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
    claim: (count, idleMs) =>
      orRecover(async () => {
        const [cursor, claimed] = (await commands.xautoclaim(
          stream,
          group,
          consumer,
          idleMs,
          claimCursor,
          "COUNT",
          readSize.fit(count),
        )) as [string, ([string, string[]] | null)[]];
        claimCursor = cursor;
        const entries = claimed.filter((entry) => entry !== null);
        learn(entries);
        return Promise.all(
          entries.map(async ([entryId, fields]) => {
            const [state] = (await commands.xpending(
              stream,
              group,
              entryId,
              entryId,
              1,
            )) as [string, string, number, number][];
            return { entryId, fields, timesRead: state?.[3] ?? 1 };
          }),
        );
      }),
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
