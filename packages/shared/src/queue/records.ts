// The log stream: records of attempts on their way to Postgres.
import { recordLetter } from "./dead-letter.ts";
import { flatten, unflatten } from "./fields.ts";
import {
  createGroupReader,
  type GroupReader,
  type ReaderOptions,
  type StreamEntry,
} from "./group-reader.ts";
import { RECORDERS_GROUP } from "./keys.ts";
import { queueScript } from "./script.ts";

export interface LogEntry {
  entryId: string;
  deliveryId: string;
  /** JSON text of an attempt's record. Only the database reads it, unless it refuses it. */
  record: string;
}

export interface Records extends Pick<
  GroupReader,
  "prepare" | "wake" | "leave"
> {
  /** Up to `count` records; waits for the first, at most for `waitMs` and for `BLOCK_MS`. Empty after `wake`. */
  read: (count: number, waitMs: number) => Promise<LogEntry[]>;
  /** Takes over up to `count` records that nobody has touched for `idleMs`. */
  claim: (count: number, idleMs: number) => Promise<LogEntry[]>;
  /** Removes records that are in Postgres, and the homes that name them; resolves to the number removed. Idempotent. */
  recorded: (entries: Omit<LogEntry, "record">[]) => Promise<number>;
  /** Whether this record is what its delivery waits for: the outcome that ends it. */
  isHome: (entry: Omit<LogEntry, "record">) => Promise<boolean>;
  /** Turns a record that Postgres will never accept into a dead letter, once. `now`: ms since 1970. */
  setAside: (entry: LogEntry, reason: string, now: number) => Promise<void>;
}

function toLogEntry({ entryId, fields }: StreamEntry): LogEntry {
  const { delivery_id: deliveryId = "", record = "" } = unflatten(fields);
  // An empty text would make the array for Postgres invalid or too short; `null` is refused for this entry alone.
  return { entryId, deliveryId, record: record.trim() || "null" };
}

export function createRecords(options: ReaderOptions): Records {
  const { commands, keys } = options;
  const reader = createGroupReader(options, keys.log, RECORDERS_GROUP);
  const removeRecorded = queueScript(commands, keys, "recorded");
  const setAside = queueScript(commands, keys, "set-aside");

  const recorded: Records["recorded"] = async (entries) =>
    (await removeRecorded(
      RECORDERS_GROUP,
      ...entries.map(({ entryId }) => entryId),
      ...entries.map(({ deliveryId }) => deliveryId),
    )) as number;

  return {
    prepare: reader.prepare,
    wake: reader.wake,
    leave: reader.leave,
    read: async (count, waitMs) =>
      (await reader.read(count, waitMs)).map(toLogEntry),
    claim: async (count, idleMs) =>
      (await reader.claim(count, idleMs)).map(toLogEntry),
    recorded,
    isHome: async ({ entryId, deliveryId }) =>
      (await commands.hget(keys.homes, deliveryId)) === `log:${entryId}`,
    setAside: async (entry, reason, now) => {
      const letter = flatten(recordLetter(entry, reason, now));
      const { entryId, deliveryId } = entry;
      await setAside(RECORDERS_GROUP, entryId, deliveryId, ...letter);
    },
  };
}
