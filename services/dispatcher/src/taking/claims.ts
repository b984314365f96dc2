// Takes over the entries of dispatchers that died: pending, and not touched for the claim idle time. Those that were read
// twice already are kept apart, for each of them may be what its readers died of; they run alone (run-alone.ts).
import type { Consumer } from "@pipeline/shared/queue/consumer";
import type { Orphan, StreamEntry } from "@pipeline/shared/queue/group-reader";
import type { Permits } from "./permits.ts";

export interface Claims {
  /** How long a read may wait, so that no claim is late. */
  intervalMs: number;
  /** Up to `count` entries to be started at once; none while no claim is due. */
  next: (count: number) => Promise<StreamEntry[]>;
  /** Those kept apart, as of the last claim. */
  suspects: () => Orphan[];
}

/** A dead dispatcher's entries are taken over within the idle time and two seconds. */
const LONGEST_INTERVAL_MS = 1200;
const CLAIMS_PER_IDLE_TIME = 12;
const SCANNED_ENTRIES = 1000;
/** From its third read on an entry runs alone. */
export const FREE_READS = 2;

export interface ClaimsOptions {
  claimIdleMs: number;
  queue: Pick<Consumer, "orphans" | "take">;
  permits: Pick<Permits, "has">;
  now: () => number;
  random: () => number;
}

export function createClaims(options: ClaimsOptions): Claims {
  const { claimIdleMs, queue, permits, now, random } = options;
  const intervalMs = Math.min(
    claimIdleMs / CLAIMS_PER_IDLE_TIME,
    LONGEST_INTERVAL_MS,
  );
  // Jitter: dispatchers started together would otherwise scan the same pending list at the same moment.
  const nextAt = () => now() + intervalMs * (0.8 + 0.4 * random());
  let claimAt = nextAt();
  let suspects: Orphan[] = [];

  return {
    intervalMs,
    suspects: () => suspects,
    next: async (count) => {
      if (now() < claimAt) return [];
      const found = (await queue.orphans(SCANNED_ENTRIES, claimIdleMs)).filter(
        // Our own, if this process has stalled for as long as the idle time.
        ({ entryId }) => !permits.has(entryId),
      );
      suspects = found.filter(({ timesRead }) => timesRead >= FREE_READS);
      const others = found.filter(({ timesRead }) => timesRead < FREE_READS);
      const claimed = await queue.take(others.slice(0, count), claimIdleMs);
      if (others.length <= count && found.length < SCANNED_ENTRIES)
        claimAt = nextAt();
      return claimed;
    },
  };
}
