// Moves due retries back to the stream, on time. One script call moves a batch or nothing, so schedulers need no lock.
import type { Logger } from "@pipeline/shared/logger";
import type { Retries } from "@pipeline/shared/queue/retries";

const LIMIT = 500;
/** Another process may schedule a retry that is due before the next one known here. */
const LONGEST_WAIT_MS = 250;

export interface PromoteOptions {
  retries: Pick<Retries, "promote">;
  logger: Logger;
  onPromoted: (moved: number) => void;
  /** Redis has lost its data, or is new. */
  onEpochMissing: () => void;
}

export function createPromote({
  retries,
  logger,
  onPromoted,
  onEpochMissing,
}: PromoteOptions) {
  return {
    /** One batch. Resolves to the ms until the next retry is due, 0 when more are due already. */
    runOnce: async (): Promise<number> => {
      const { moved, nextMs, unreadable, hasEpoch } = await retries.promote(
        LIMIT,
        Date.now(),
      );
      if (moved > 0) {
        onPromoted(moved);
        logger.info({ moved }, "retries.promoted");
      }
      if (unreadable > 0) logger.warn({ unreadable }, "retries.unreadable");
      if (!hasEpoch) onEpochMissing();
      if (moved + unreadable >= LIMIT) return 0;
      return Math.min(Math.max(nextMs ?? LONGEST_WAIT_MS, 1), LONGEST_WAIT_MS);
    },
  };
}
