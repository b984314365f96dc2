// Gives a home again to deliveries that are unfinished in Postgres and lost in Redis. Per page, in exactly this order:
//   1. ask Postgres for the ids of unfinished rows;
//   2. ask Redis which of them it holds nowhere: the suspects, which it marks;
//   3. read the suspects from Postgres: still unfinished? The recorder commits to Postgres before it removes a delivery
//      from `homes`, so what had no home at 2 and is unfinished at 3 is lost. If 2 came after 3, a delivery that
//      finished in between would be sent again;
//   4. inject what still has its mark: if the delivery was enqueued, cancelled, deleted or sent again meanwhile, the mark is gone.
import {
  deliveryFromRow,
  type DeliveryRow,
} from "@pipeline/shared/delivery-row";
import { toFields } from "@pipeline/shared/entries";
import type { Logger } from "@pipeline/shared/logger";
import type { ReconcileQueue } from "@pipeline/shared/queue/reconcile";
import { isOutOfMemory } from "@pipeline/shared/redis";
import type { UnfinishedRow, UnfinishedRows } from "./unfinished-rows.ts";

const PAGE_SIZE = 500;

export interface ReconcileOptions {
  queue: ReconcileQueue;
  rows: UnfinishedRows;
  logger: Logger;
  intervalMs: number;
  graceMs: number;
  onReconciled: (injected: number) => void;
}

function toInjection(row: DeliveryRow) {
  const delivery = deliveryFromRow(row);
  const isWaiting = row.status === "sent" && row.next_retry_at !== null;
  return {
    id: delivery.id,
    dueAt: isWaiting ? Date.parse(row.next_retry_at!) : 0,
    fields: toFields(delivery),
  };
}

export function createReconcile(options: ReconcileOptions) {
  const { queue, rows, logger } = options;

  /** Null for those that Redis has no room for: their rows wait in Postgres for a later pass. */
  async function reinject(
    unfinished: DeliveryRow[],
  ): Promise<(boolean | null)[]> {
    try {
      return await queue.reinject(unfinished.map(toInjection));
    } catch (error) {
      if (!isOutOfMemory(error)) throw error;
      return unfinished.map(() => null);
    }
  }

  async function inject(suspects: string[]) {
    let injected = 0;
    let hasRoom = true;
    const marked = new Set(suspects);
    for await (const unfinished of rows.read(suspects)) {
      if (unfinished.length === 0) continue;
      const results = await reinject(unfinished);
      injected += results.filter(Boolean).length;
      for (const [i, { id }] of unfinished.entries())
        if (results[i] !== null) marked.delete(id);
      hasRoom = !results.includes(null);
      if (!hasRoom) break;
    }
    await queue.unmark([...marked]);
    return { injected, hasRoom };
  }

  /** `overdueMs` null: every unfinished row, waiting retries included. */
  async function pass(overdueMs: number | null, signal: AbortSignal) {
    const isFull = overdueMs === null;
    let examined = 0;
    let injected = 0;
    let last: UnfinishedRow | null = null;
    for (;;) {
      signal.throwIfAborted();
      const page: UnfinishedRow[] = await rows.page(overdueMs, last, PAGE_SIZE);
      const ids = page.map(({ id }) => id);
      const result = await inject(await queue.homeless(ids));
      injected += result.injected;
      examined += page.length;
      if (!result.hasRoom) logger.warn({ examined }, "reconcile.no_room");
      if (!result.hasRoom || page.length < PAGE_SIZE) break;
      last = page.at(-1)!;
    }
    if (injected > 0) options.onReconciled(injected);
    const level = isFull || injected > 0 ? "info" : "debug";
    logger[level]({ injected, examined, isFull }, "deliveries.reconciled");
  }

  async function fullPass(signal: AbortSignal): Promise<void> {
    const mark = await queue.beginFullPass();
    await pass(null, signal);
    await queue.endFullPass(mark);
  }

  return {
    /** One pass over Postgres. Resolves to the ms until the next one. */
    runOnce: async (signal: AbortSignal): Promise<number> => {
      if (!(await queue.hasEpoch())) {
        await fullPass(signal);
      } else {
        await pass(options.graceMs, signal);
      }
      return options.intervalMs;
    },
  };
}
