// Gives deliveries that Postgres holds as unfinished and Redis has lost a home again. Per page, in exactly this order:
//   1. ask Postgres for the ids of unfinished rows;
//   2. ask Redis which of them it holds nowhere: the suspects;
//   3. read the suspects from Postgres: still unfinished? The recorder commits to Postgres before it removes a delivery
//      from `inflight`, so what had no home at 2 and is unfinished at 3 is lost. With 2 after 3 a delivery finished in
//      between would be sent again;
//   4. inject, unless somebody (ingest, another scheduler) has given it a home meanwhile: the script looks again.
import { randomUUID } from "node:crypto";
import {
  deliveryFromRow,
  type DeliveryRow,
  toFields,
} from "@pipeline/shared/entries";
import type { Keys } from "@pipeline/shared/keys";
import type { Logger } from "@pipeline/shared/logger";
import type { Redis } from "@pipeline/shared/redis";
import type { Scripts } from "@pipeline/shared/scripts";
import type { UnfinishedRows } from "./unfinished-rows.ts";

const PAGE_SIZE = 500;
/** A full pass that takes longer than this is repeated. */
const CANDIDATE_TTL_SECONDS = 3600;

export interface ReconcileOptions {
  redis: Redis;
  keys: Keys;
  scripts: Pick<Scripts, "homeless" | "reinject">;
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
  const { redis, keys, scripts, rows, logger } = options;

  async function inject(suspects: string[]): Promise<number> {
    let injected = 0;
    for await (const unfinished of rows.read(suspects)) {
      if (unfinished.length === 0) continue;
      const results = await scripts.reinject(unfinished.map(toInjection));
      injected += results.filter(Boolean).length;
    }
    return injected;
  }

  async function pass(overdueAt: string, isFull: boolean, signal: AbortSignal) {
    let examined = 0;
    let injected = 0;
    let afterId: string | null = null;
    for (;;) {
      signal.throwIfAborted();
      const ids: string[] = await rows.page(overdueAt, afterId, PAGE_SIZE);
      injected += await inject(await scripts.homeless(ids));
      examined += ids.length;
      if (ids.length < PAGE_SIZE) break;
      afterId = ids.at(-1)!;
    }
    if (injected > 0) options.onReconciled(injected);
    const level = isFull || injected > 0 ? "info" : "debug";
    logger[level]({ injected, examined, isFull }, "deliveries.reconciled");
  }

  /** Every unfinished row, waiting retries included. */
  async function fullPass(signal: AbortSignal): Promise<void> {
    const { epoch, epochCandidate } = keys;
    await redis.set(
      epochCandidate,
      randomUUID(),
      "EX",
      CANDIDATE_TTL_SECONDS,
      "NX",
    );
    const before = await redis.get(epochCandidate);
    await pass("infinity", true, signal);
    // Redis may have lost its data again during the pass, and with it what the first pages injected.
    if (before === null || (await redis.get(epochCandidate)) !== before) return;
    await redis.set(epoch, randomUUID(), "NX");
    await redis.del(epochCandidate);
  }

  return {
    /** One pass over Postgres. Resolves to the ms until the next one. */
    runOnce: async (signal: AbortSignal): Promise<number> => {
      if ((await redis.exists(keys.epoch)) === 0) {
        await fullPass(signal);
      } else {
        const overdueAt = new Date(Date.now() - options.graceMs).toISOString();
        await pass(overdueAt, false, signal);
      }
      return options.intervalMs;
    },
  };
}
