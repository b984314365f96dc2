// The dead stream, read newest first.
import type { Keys } from "@pipeline/shared/keys";
import type { Redis } from "@pipeline/shared/redis";
import {
  type DeadLetter,
  type DeadLetterFilter,
  matches,
} from "../core/dead-letter.ts";
import { reaching } from "./queue.ts";

const READ_COUNT = 100;
const MAX_SCANNED = 20_000;

export interface DeadLetterQuery extends DeadLetterFilter {
  limit: number;
  /** ISO 8601; both exclude the moment itself. */
  before?: string | undefined;
  after?: string | undefined;
  /** Entry id where the last page ended. */
  cursor?: string | undefined;
}

export interface DeadLetterPage {
  letters: DeadLetter[];
  /** Null at the end. A page may be short of its limit and still have a next one. */
  nextCursor: string | null;
}

function toFields(flat: string[]): Record<string, string> {
  const fields: Record<string, string> = {};
  for (let i = 0; i + 1 < flat.length; i += 2) fields[flat[i]!] = flat[i + 1]!;
  return fields;
}

/** An entry id begins with its time, so bounds in time are bounds in ids. */
function bounds({ before, after, cursor }: DeadLetterQuery): {
  newest: string;
  oldest: string;
} {
  const newest = before === undefined ? "+" : `(${Date.parse(before)}-0`;
  return {
    newest: cursor === undefined ? newest : `(${cursor}`,
    oldest: after === undefined ? "-" : String(Date.parse(after) + 1),
  };
}

export function createDeadLetters(redis: Redis, keys: Keys) {
  return {
    /** Null when there is no such dead letter (any more). */
    find: async (entryId: string): Promise<DeadLetter | null> => {
      const [entry] = await reaching(redis.xrange(keys.dead, entryId, entryId));
      return entry === undefined
        ? null
        : { entryId: entry[0], fields: toFields(entry[1]) };
    },

    list: async (query: DeadLetterQuery): Promise<DeadLetterPage> => {
      const letters: DeadLetter[] = [];
      const { newest, oldest } = bounds(query);
      let from = newest;
      for (let scanned = 0; scanned < MAX_SCANNED; scanned += READ_COUNT) {
        const entries = await reaching(
          redis.xrevrange(keys.dead, from, oldest, "COUNT", READ_COUNT),
        );
        for (const [entryId, flat] of entries) {
          const letter = { entryId, fields: toFields(flat) };
          if (!matches(letter, query)) continue;
          if (letters.length === query.limit)
            return { letters, nextCursor: letters.at(-1)!.entryId };
          letters.push(letter);
        }
        if (entries.length < READ_COUNT) return { letters, nextCursor: null };
        from = `(${entries.at(-1)![0]}`;
      }
      return { letters, nextCursor: from.slice(1) };
    },
  };
}

export type DeadLetters = ReturnType<typeof createDeadLetters>;
