// The dead stream, read newest first.
import { READ_BYTES, sizeOfFields } from "@pipeline/shared/queue/batch-size";
import type { DeadLetter } from "@pipeline/shared/queue/dead-letter";
import type { DeadLetters } from "@pipeline/shared/queue/dead-letters";
import { type DeadLetterFilter, matches } from "../core/dead-letter.ts";
import { toMs } from "../core/instant.ts";
import { reaching } from "./queue.ts";

const READ_COUNT = 100;
/** A page is held in memory as a whole. */
const MAX_PAGE_BYTES = 4 * READ_BYTES;
const MAX_SCANNED = 20_000;

export interface DeadLetterQuery extends DeadLetterFilter {
  limit: number;
  /** As `exactInstant` gives them; both exclude the moment itself. */
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

/** An entry id begins with its time, so bounds in time are bounds in ids. */
function bounds({ before, after, cursor }: DeadLetterQuery): {
  newest: string;
  oldest: string;
} {
  const newest = before === undefined ? "+" : `(${toMs(before, "up")}-0`;
  return {
    newest: cursor === undefined ? newest : `(${cursor}`,
    oldest: after === undefined ? "-" : String(toMs(after, "down") + 1),
  };
}

export function createDeadLetterReads(deadLetters: DeadLetters) {
  return {
    /** Null when there is no such dead letter (any more). */
    find: (entryId: string) => reaching(deadLetters.find(entryId)),

    list: async (query: DeadLetterQuery): Promise<DeadLetterPage> => {
      const letters: DeadLetter[] = [];
      const { newest, oldest } = bounds(query);
      let from = newest;
      let bytes = 0;
      for (let scanned = 0; scanned < MAX_SCANNED;) {
        const read = await reaching(deadLetters.page(from, oldest, READ_COUNT));
        for (const letter of read) {
          if (!matches(letter, query)) continue;
          if (letters.length === query.limit || bytes > MAX_PAGE_BYTES)
            return { letters, nextCursor: letters.at(-1)!.entryId };
          letters.push(letter);
          bytes += sizeOfFields(Object.values(letter.fields));
        }
        if (read.length === 0) return { letters, nextCursor: null };
        scanned += read.length;
        from = `(${read.at(-1)!.entryId}`;
      }
      return { letters, nextCursor: from.slice(1) };
    },
  };
}

export type DeadLetterReads = ReturnType<typeof createDeadLetterReads>;
