// Settles entries, many per call. An attempt is over only when it is settled, so its slot stays taken until then:
// while Redis is away the dispatcher stops by itself, and goes on when Redis is back.
import { createBatcher } from "@pipeline/shared/batcher";
import { BATCH_BYTES, sizeOf } from "@pipeline/shared/queue/batch-size";
import { errorMessage } from "@pipeline/shared/errors";
import { abortableSleep } from "@pipeline/shared/loop";
import type { Logger } from "@pipeline/shared/logger";
import type {
  Consumer,
  Settlement,
  SettleResult,
} from "@pipeline/shared/queue/consumer";

export interface Settler {
  /** Repeats until Redis has answered. Rejects after `abandon`, and when the script has failed on this settlement ten times. */
  settle: (settlement: Settlement) => Promise<SettleResult>;
  drain: () => Promise<void>;
  /** Accepts no more settlements and stops repeating: unsettled entries stay pending, and another dispatcher takes them over. */
  abandon: () => void;
}

export interface SettlerOptions {
  queue: Pick<Consumer, "settle">;
  logger: Logger;
}

const BATCH_ITEMS = 100;
/** Measured: 5 ms would hold the five default slots to 640 deliveries/s, 1 ms allows 1,000, at no more CPU per delivery. */
const BATCH_DELAY_MS = 1;
const CONCURRENT_BATCHES = 4;
const LONGEST_PAUSE_MS = 1000;
const MOST_REFUSALS = 10;
/** Replies that tell of the server's state, rather than of a fault in the call, begin with one of these words. */
const STATES_OF_THE_SERVER = [
  "BUSY",
  "CLUSTERDOWN",
  "LOADING",
  "MASTERDOWN",
  "MISCONF",
  "MOVED",
  "NOAUTH",
  "NOREPLICAS",
  "OOM",
  "READONLY",
  "TRYAGAIN",
  "WRONGPASS",
];
const FAULT_LOG_INTERVAL_MS = 10_000;

/** Redis ran the script, and the script failed. */
function isRefusal(error: unknown): boolean {
  return (
    error instanceof Error &&
    error.name === "ReplyError" &&
    !STATES_OF_THE_SERVER.some((word) => error.message.startsWith(word))
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

export function createSettler({ queue, logger }: SettlerOptions): Settler {
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
        if (isRefusal(error) && ++refusals >= MOST_REFUSALS) throw error;
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

  return {
    settle: async (settlement) => {
      if (abandoned.signal.aborted) throw new Error("the dispatcher has ended");
      try {
        return await batcher.add(settlement);
      } catch (error) {
        if (!(error instanceof RefusedTogether)) throw error;
        const [result] = await settleBatch([settlement]);
        return result!;
      }
    },
    drain: batcher.drain,
    abandon: () => abandoned.abort(),
  };
}
