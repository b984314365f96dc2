// Settles entries, many per call. An attempt is over only when it is settled, so its slot stays taken until then:
// while Redis is away the dispatcher stops by itself, and goes on when Redis is back.
import { createBatcher } from "@pipeline/shared/batcher";
import { BATCH_BYTES, sizeOf } from "@pipeline/shared/queue/batch-size";
import { errorMessage } from "@pipeline/shared/errors";
import { abortableSleep, insist } from "@pipeline/shared/loop";
import type { Logger } from "@pipeline/shared/logger";
import type {
  Burial,
  Consumer,
  Settlement,
  SettleResult,
} from "@pipeline/shared/queue/consumer";

export interface Settler {
  /**
   * Repeats until Redis has answered. A settlement that Redis refuses even alone is buried instead. Rejects after `abandon`.
   */
  settle: (settlement: Settlement) => Promise<SettleResult>;
  /** Ends an entry whose settlement cannot be built. Repeats, and rejects, in the same way. */
  bury: (burial: Burial) => Promise<SettleResult>;
  drain: () => Promise<void>;
  /** Accepts no more settlements and stops repeating: unsettled entries stay pending, and another dispatcher takes them over. */
  abandon: () => void;
}

export interface SettlerOptions {
  queue: Pick<Consumer, "settle" | "bury">;
  logger: Logger;
  now: () => number;
}

const BATCH_ITEMS = 100;
/** Measured: 5 ms would hold the five default slots to 640 deliveries/s, 1 ms allows 1,000, at no more CPU per delivery. */
const BATCH_DELAY_MS = 1;
const CONCURRENT_BATCHES = 4;
const LONGEST_PAUSE_MS = 1000;
/** The fault is in the settlement, so more tries would not help; a few, because the server may have a state unknown here. */
const MOST_REFUSALS = 3;
/**
 * Replies that tell of the server's state, or of a key that somebody has to repair, rather than of a fault in the call. Redis
 * before 7 puts other words in front of them when a script meets them.
 */
const STATE_OF_THE_SERVER =
  /\b(?:ASK|BUSY|CLUSTERDOWN|EXECABORT|LOADING|MASTERDOWN|MISCONF|MOVED|NOAUTH|NOPERM|NOREPLICAS|NOSCRIPT|OOM|READONLY|TRYAGAIN|UNKILLABLE|WRONGPASS|WRONGTYPE)\b|script killed/i;
const FAULT_LOG_INTERVAL_MS = 10_000;

/** Redis ran the script, and the script failed; or the call could not even be put into words. */
function isRefusal(error: unknown): boolean {
  if (error instanceof RangeError || error instanceof TypeError) return true;
  return (
    error instanceof Error &&
    error.name === "ReplyError" &&
    !STATE_OF_THE_SERVER.test(error.message)
  );
}

/** Nearly all of it is the payload, in the next entry or the dead letter and in the first record. */
function sizeOfSettlement({ fields, record }: Settlement): number {
  let size = sizeOf(record ?? "");
  for (const name in fields) size += sizeOf(fields[name]!);
  return size;
}

/** The script failed on one of several settlements. When each is tried alone, the others go through. */
class RefusedTogether extends Error {
  override readonly name = "RefusedTogether";
}

/** A settlement that Redis refuses even alone. */
class Refused extends Error {
  override readonly name = "Refused";
}

export function createSettler({ queue, logger, now }: SettlerOptions): Settler {
  const abandoned = new AbortController();
  let loggedAt = -Infinity;

  function report(error: unknown): void {
    if (performance.now() - loggedAt < FAULT_LOG_INTERVAL_MS) return;
    loggedAt = performance.now();
    logger.warn({ err: error }, "settle.repeated");
  }

  async function settleBatch(
    settlements: Settlement[],
  ): Promise<SettleResult[]> {
    let pauseMs = 50;
    for (let refusals = 0; ;) {
      try {
        return await queue.settle(settlements);
      } catch (error) {
        if (abandoned.signal.aborted) throw error;
        report(error);
        if (isRefusal(error) && settlements.length > 1)
          throw new RefusedTogether(errorMessage(error), { cause: error });
        if (isRefusal(error) && ++refusals >= MOST_REFUSALS)
          throw new Refused(errorMessage(error), { cause: error });
      }
      await abortableSleep(pauseMs, abandoned.signal);
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    }
  }

  const batcher = createBatcher<Settlement, SettleResult>({
    maxItems: BATCH_ITEMS,
    maxBytes: BATCH_BYTES,
    sizeOf: sizeOfSettlement,
    delayMs: BATCH_DELAY_MS,
    maxConcurrent: CONCURRENT_BATCHES,
    maxConcurrentPartial: CONCURRENT_BATCHES,
    run: settleBatch,
  });

  function assertOpen(): void {
    if (abandoned.signal.aborted) throw new Error("the dispatcher has ended");
  }

  async function settleOrRefuse(settlement: Settlement): Promise<SettleResult> {
    try {
      return await batcher.add(settlement);
    } catch (error) {
      if (!(error instanceof RefusedTogether)) throw error;
      const [result] = await settleBatch([settlement]);
      return result!;
    }
  }

  /** There is nothing simpler left to do, so this is repeated until it works: the entry must not be sent again. */
  async function bury(burial: Burial): Promise<SettleResult> {
    assertOpen();
    logger.error(burial, "entry.buried");
    const result = await insist(() => queue.bury(burial, now()), {
      signal: abandoned.signal,
      pauseMs: LONGEST_PAUSE_MS,
      onFault: report,
    });
    if (result === null) throw new Error("the dispatcher has ended");
    return result;
  }

  return {
    bury,
    settle: async (settlement) => {
      assertOpen();
      try {
        return await settleOrRefuse(settlement);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        return bury({
          entryId: settlement.entryId,
          isDelivered: settlement.kind === "success",
          reason: `Redis refused to settle it: ${error.message}`,
        });
      }
    },
    drain: batcher.drain,
    abandon: () => abandoned.abort(),
  };
}
