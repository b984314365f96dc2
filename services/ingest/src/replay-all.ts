// Bulk replay: sends every dead letter of a filter again, newest first.
import type {
  DeadLetterQuery,
  DeadLetterReads,
} from "./adapters/dead-letters.ts";
import type { Resend } from "./resend.ts";

const READ_AT_ONCE = 200;
const REPLAYED_AT_ONCE = 8;

export interface Replay {
  dryRun: boolean;
  /** Dead letters replayed, or in a dry run those that match. */
  count: number;
  skipped: { entryId: string; error: string }[];
}

export type ReplayAll = (
  query: DeadLetterQuery,
  isDryRun: boolean,
) => Promise<Replay>;

export function createReplayAll(
  deadLetters: Pick<DeadLetterReads, "list">,
  resend: Pick<Resend, "replay">,
): ReplayAll {
  return async (query, isDryRun) => {
    const skipped: Replay["skipped"] = [];
    let count = 0;
    let cursor: string | undefined;

    async function replay(letter: Parameters<Resend["replay"]>[0]) {
      const result = await resend.replay(letter);
      if (result.ok) count++;
      else
        skipped.push({ entryId: letter.entryId, error: result.refusal.error });
    }

    do {
      const left = query.limit - count - skipped.length;
      const limit = Math.min(READ_AT_ONCE, left);
      const page = await deadLetters.list({ ...query, limit, cursor });
      const { letters } = page;
      if (isDryRun) count += letters.length;
      else {
        for (let start = 0; start < letters.length; start += REPLAYED_AT_ONCE) {
          const group = letters.slice(start, start + REPLAYED_AT_ONCE);
          await Promise.all(group.map(replay));
        }
      }
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined && count + skipped.length < query.limit);
    return { dryRun: isDryRun, count, skipped };
  };
}
