// Records outcomes in Redis, many per call. An attempt is over only when it is settled, so its slot stays taken until then:
// while Redis is away the dispatcher stops by itself, and goes on when Redis is back.
import { createBatcher } from "@pipeline/shared/batcher";
import { abortableSleep } from "@pipeline/shared/loop";
import { isGroupMissing } from "@pipeline/shared/redis";
import type { Scripts, Settlement } from "@pipeline/shared/scripts";
import type { Logger } from "@pipeline/shared/logger";

export type SettleResult = "settled" | "stale";

export interface Settler {
  /** Repeats until Redis has answered; rejects only after `abandon`. */
  settle: (settlement: Settlement) => Promise<SettleResult>;
  drain: () => Promise<void>;
  /** Takes no more, and gives up on Redis: what is unsettled stays pending and goes to another dispatcher. */
  abandon: () => void;
}

export interface SettlerOptions {
  scripts: Scripts;
  consumer: string;
  logger: Logger;
  onGroupLost: () => Promise<unknown>;
}

const BATCH_ITEMS = 100;
/** Measured: 5 ms would hold the five default slots to 640 deliveries/s, 1 ms allows 1,000, at no more CPU per delivery. */
const BATCH_DELAY_MS = 1;
const CONCURRENT_BATCHES = 4;
const LONGEST_PAUSE_MS = 1000;
const MOST_REFUSALS = 10;
/** Replies that speak of the server's state, not of what was asked. */
const PASSING =
  /^(OOM|LOADING|READONLY|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|NOAUTH|WRONGPASS|NOREPLICAS|MISCONF)/;
const FAULT_LOG_INTERVAL_MS = 10_000;

export function createSettler({
  scripts,
  consumer,
  logger,
  onGroupLost,
}: SettlerOptions): Settler {
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
        const results = await scripts.settle(consumer, settlements);
        return results.map((result) => (result > 0 ? "settled" : "stale"));
      } catch (error) {
        if (abandoned.signal.aborted) throw error;
        if (isGroupMissing(error)) {
          await onGroupLost();
          return settlements.map(() => "stale");
        }
        report(error);
        // The script itself failed on one of them: alone, each of the others goes through.
        const isRefusal =
          error instanceof Error &&
          error.name === "ReplyError" &&
          !PASSING.test(error.message);
        if (isRefusal && settlements.length > 1) {
          return (
            await Promise.all(
              settlements.map((settlement) => settleBatch([settlement])),
            )
          ).flat();
        }
        if (isRefusal && ++refusals >= MOST_REFUSALS) throw error;
      }
      await abortableSleep(pauseMs, abandoned.signal);
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    }
  }

  const batcher = createBatcher<Settlement, SettleResult>({
    maxItems: BATCH_ITEMS,
    delayMs: BATCH_DELAY_MS,
    maxConcurrent: CONCURRENT_BATCHES,
    maxConcurrentPartial: CONCURRENT_BATCHES,
    run: settleBatch,
  });

  return {
    settle: async (settlement) => {
      if (abandoned.signal.aborted) throw new Error("the dispatcher has ended");
      return batcher.add(settlement);
    },
    drain: batcher.drain,
    abandon: () => abandoned.abort(),
  };
}
