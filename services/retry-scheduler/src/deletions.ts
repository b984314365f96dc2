// Carries deletions on to Redis. Postgres notes by triggers what was deleted, and forgets a note only when its work is done,
// so that a crash repeats a round and loses nothing. Two loops: `clear` asks what is due and takes deliveries out of the
// queue, which must be quick; `erase` then looks through the dead letters, which may take a while.
import type { Logger } from "@pipeline/shared/logger";
import type { DeletionQueue } from "@pipeline/shared/queue/deletions";
import type { Holds } from "@pipeline/shared/queue/holds";
import type { Deletion, DeletionRows } from "./deletion-rows.ts";

/** How soon a deletion is seen. */
const POLL_MS = 1000;
const ERASE_INTERVAL_MS = 60_000;
/** Supabase answers with at most a thousand rows unless it is told otherwise. */
const PAGE = 1000;
/** Their number costs little: a search reads all letters, however many it is for. */
const LETTERS = 10_000;
/** Deliveries of a deleted endpoint per call. */
const ENDPOINT_PAGE = 1000;
/** Clocks differ between Postgres, which dates the deliveries, and Redis, which dates the letters. */
const CLOCK_TOLERANCE_MS = 600_000;

export interface DeletionOptions {
  queue: DeletionQueue;
  holds: Pick<Holds, "holdCancelled">;
  rows: DeletionRows;
  logger: Logger;
  /** There is something to erase. */
  onLetters: () => void;
}

export function createDeletions(options: DeletionOptions) {
  const { queue, holds, rows, logger } = options;

  /** One page. False when the database refused, which must not keep the others waiting. */
  async function cancelDeliveriesOf(endpointId: string): Promise<boolean> {
    try {
      await rows.cancelDeliveriesOf(endpointId, ENDPOINT_PAGE);
      return true;
    } catch (error) {
      logger.warn({ endpointId, err: error }, "deletion.put_off");
      return false;
    }
  }

  /** Deliveries whose rows are there: as when one is cancelled by hand, what the row says counts, while Redis holds still. */
  async function clearKept(deliveries: Deletion[]): Promise<boolean[]> {
    const results = await Promise.all(
      deliveries.map(({ id }) => holds.holdCancelled(id)),
    );
    const ids = deliveries.map(({ id }) => id);
    const held = ids.filter((_, index) => results[index]!.kind === "held");
    const unfinished = new Set(
      held.length === 0 ? [] : await rows.unfinished(held),
    );
    return Promise.all(
      results.map(async (result, index) => {
        if (result.kind !== "held") return result.kind === "closed";
        const isWanted = unfinished.has(ids[index]!);
        return result.hold.letGo(isWanted ? "kept" : "removed");
      }),
    );
  }

  async function clearDeliveries(deliveries: Deletion[]): Promise<void> {
    const kept = deliveries.filter(({ isKept }) => isKept);
    const gone = deliveries.filter(({ isKept }) => !isKept);
    const results = [
      ...(kept.length > 0 ? await clearKept(kept) : []),
      ...(gone.length > 0 ? await queue.purge(gone) : []),
    ];
    const all = [...kept, ...gone];
    const cleared = all.filter((_, index) => results[index]);
    const running = all.filter((_, index) => !results[index]);
    await rows.checked(cleared, running);
    const counts = { cleared: cleared.length, running: running.length };
    logger.info(counts, "deletions.cleared");
  }

  return {
    /** One page. Resolves to the ms until the next. */
    clear: async (): Promise<number> => {
      const { deletions, hasLetters } = await rows.due(PAGE);
      let isMore = deletions.length === PAGE;
      // One search serves all that have been cleared by the time there is nothing more urgent to do.
      if (hasLetters && !isMore) options.onLetters();
      for (const { id, kind } of deletions) {
        // What it has added is due at once.
        if (kind === "endpoint" && (await cancelDeliveriesOf(id)))
          isMore = true;
      }
      const deliveries = deletions.filter(({ kind }) => kind !== "endpoint");
      if (deliveries.length > 0) await clearDeliveries(deliveries);
      return isMore ? 0 : POLL_MS;
    },

    /** One search. Resolves to the ms until the next, unless it is woken. */
    erase: async (signal: AbortSignal): Promise<number> => {
      const { ids, since } = await rows.lettersDue(LETTERS);
      if (ids.length > 0) {
        const letters = await queue.removeLetters(
          new Set(ids),
          since - CLOCK_TOLERANCE_MS,
          signal,
        );
        await rows.lettersDone(ids);
        logger.info({ deliveries: ids.length, letters }, "deletions.erased");
      } else {
        await rows.forget();
      }
      return ids.length === LETTERS ? 0 : ERASE_INTERVAL_MS;
    },
  };
}
