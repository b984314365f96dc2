// Deliveries whose client was told that nobody knows whether they were stored. They may be, or be committed later. One
// without an idempotency key is sent again under another id by a client that obeys, so it is withdrawn: it must never be
// sent. One with a key is what the repeated request will get, so it goes into the queue as soon as it is found.
import { isHeld } from "@pipeline/shared/database-fault";
import type { Delivery } from "@pipeline/shared/entries";
import { isolateRefused } from "@pipeline/shared/isolate";
import { abortableSleep, createLoop, type Loop } from "@pipeline/shared/loop";
import type { Logger } from "@pipeline/shared/logger";
import type { DeliveryCreations } from "./adapters/delivery-rows.ts";

export interface Unsure {
  add: (id: string, hasKey: boolean) => void;
  /** How many are not settled yet. */
  size: () => number;
  runOnce: () => Promise<number>;
  start: Loop["start"];
  /** Tries once more and then names what is left. */
  stop: () => Promise<void>;
}

export interface UnsureOptions {
  writes: Pick<DeliveryCreations, "withdraw" | "pending">;
  enqueue: (deliveries: Delivery[]) => Promise<number>;
  logger: Logger;
  now: () => number;
}

/** 36 bytes each. Calls without an answer shut the gate, so more than a few thousand are not to be expected. */
const REMEMBERED = 20_000;
const PAGE = 100;
const PAUSE_MS = 500;
const IDLE_MS = 60_000;
/** A creation that has not come by then never will; reconcile would find it if it did. */
const LOOKED_FOR_MS = 120_000;
const STOP_MS = 3000;
const ASK_AGAIN_MS = 50;

export function createUnsure(options: UnsureOptions): Unsure {
  const { writes, enqueue, logger, now } = options;
  const toWithdraw = new Set<string>();
  const toFind = new Map<string, number>();

  async function withdraw(ids: string[]): Promise<void> {
    const outcomes = await isolateRefused(ids, async (part) => {
      await writes.withdraw(part);
      for (const id of part) toWithdraw.delete(id);
      return part;
    });
    const withdrawn = outcomes.filter((outcome) => "result" in outcome).length;
    if (withdrawn > 0)
      logger.info({ count: withdrawn }, "deliveries.withdrawn");
    for (const outcome of outcomes) {
      // Its creation is about to commit: the next round meets it again.
      if ("result" in outcome || isHeld(outcome.refused)) continue;
      logger.error(
        { deliveryId: outcome.item, err: outcome.refused },
        "delivery.not_withdrawn",
      );
      toWithdraw.delete(outcome.item);
    }
  }

  async function find(ids: string[]): Promise<void> {
    const deliveries = await writes.pending(ids);
    if (deliveries.length > 0) await enqueue(deliveries);
    for (const { id } of deliveries) toFind.delete(id);
    for (const id of ids) {
      const since = toFind.get(id);
      if (since === undefined) continue;
      toFind.delete(id);
      // To the end of the line.
      if (now() - since < LOOKED_FOR_MS) toFind.set(id, since);
    }
  }

  async function runOnce(): Promise<number> {
    const [withdrawals, searches] = [
      [...toWithdraw].slice(0, PAGE),
      [...toFind.keys()].slice(0, PAGE),
    ];
    if (withdrawals.length > 0) await withdraw(withdrawals);
    if (searches.length > 0) await find(searches);
    return toWithdraw.size + toFind.size > 0 ? PAUSE_MS : IDLE_MS;
  }

  async function finish(deadline: AbortSignal): Promise<void> {
    await loop.stop();
    while (toWithdraw.size > 0 && !deadline.aborted) {
      await withdraw([...toWithdraw].slice(0, PAGE));
      await abortableSleep(ASK_AGAIN_MS, deadline);
    }
  }

  const loop = createLoop({ name: "unsure", runOnce, logger });
  return {
    runOnce,
    start: loop.start,
    size: () => toWithdraw.size + toFind.size,
    add: (id, hasKey) => {
      if (toWithdraw.size + toFind.size >= REMEMBERED) {
        logger.error({ deliveryId: id }, "delivery.not_withdrawn");
        return;
      }
      if (hasKey) toFind.set(id, now());
      else toWithdraw.add(id);
      loop.wake();
    },
    stop: async () => {
      const deadline = AbortSignal.timeout(STOP_MS);
      await Promise.race([
        finish(deadline).catch(() => undefined),
        abortableSleep(STOP_MS, deadline),
      ]);
      if (toWithdraw.size > 0)
        logger.error(
          { deliveryIds: [...toWithdraw] },
          "delivery.not_withdrawn",
        );
    },
  };
}
