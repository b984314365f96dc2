// Moves due retries back to the stream, on time. One script call moves a batch or nothing, so schedulers need no lock. While
// nothing is due, a cheaper question takes its place: is the retry that is due first still the one that was known?
import type { Logger } from "@pipeline/shared/logger";
import type { Retries } from "@pipeline/shared/queue/retries";

const LIMIT = 500;
/** Another process may schedule a retry that is due before the next one known here. */
const LONGEST_WAIT_MS = 250;
/** The script alone sees that Redis has lost its data, that its clock was set, and which tombstones have expired. */
const LONGEST_WITHOUT_SCRIPT_MS = 5000;

export interface PromoteOptions {
  retries: Pick<Retries, "first" | "promote">;
  logger: Logger;
  onPromoted: (moved: number) => void;
  /** Redis has lost its data, or is new. */
  onEpochMissing: () => void;
  /** Ms on a clock that is never set. */
  now: () => number;
}

export function createPromote({
  retries,
  logger,
  onPromoted,
  onEpochMissing,
  now,
}: PromoteOptions) {
  /** As long as `first` stays the same, the script need not be called until then. Null when it has to be called. */
  let known: { first: string; until: number } | null = null;

  const atMost = (ms: number) => Math.min(Math.max(ms, 1), LONGEST_WAIT_MS);

  async function callScript(): Promise<number> {
    known = null;
    // In one pipeline, and in this order: if `first` changes between the two, it is noticed the next time.
    const [first, { moved, nextMs, unreadable, hasEpoch }] = await Promise.all([
      retries.first(),
      retries.promote(LIMIT, Date.now()),
    ]);
    if (moved > 0) {
      onPromoted(moved);
      logger.info({ moved }, "retries.promoted");
    }
    if (unreadable > 0) logger.warn({ unreadable }, "retries.unreadable");
    if (!hasEpoch) onEpochMissing();
    if (moved + unreadable >= LIMIT) return 0;
    const waitMs = Math.min(nextMs ?? Infinity, LONGEST_WITHOUT_SCRIPT_MS);
    if (moved + unreadable === 0) known = { first, until: now() + waitMs };
    return atMost(waitMs);
  }

  return {
    /** One batch. Resolves to the ms until the next retry is due, 0 when more are due already. */
    runOnce: async (): Promise<number> => {
      if (known === null || now() >= known.until) return callScript();
      if ((await retries.first()) !== known.first) return callScript();
      return atMost(known.until - now());
    },
  };
}
