// Holding a delivery in Redis while a person's action on it is carried out in Postgres. The order is always: hold, Postgres,
// then `requeue` or `letGo`. If the process dies in between, the hold expires and everything goes on by what the row says.
import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import { type Fields, flatten } from "./fields.ts";
import { DISPATCHERS_GROUP, type Keys } from "./keys.ts";
import { queueScript } from "./script.ts";

/** Longer than a call to Postgres may take, so that its outcome is known before anything else happens to the delivery. */
const HOLD_MS = 10_000;
/** Longer than a request that creates a delivery may take to enqueue it. */
export const CLOSED_MS = 15_000;

/**
 * "queued": it is in the stream; "in_flight": an attempt is running; "unrecorded": its last outcome is on its way to Postgres;
 * "busy": another action is under way; "gone": the dead letter no longer exists.
 */
export type NotHeld = "queued" | "in_flight" | "unrecorded" | "busy" | "gone";

export type HoldResult = { kind: "held"; hold: Hold } | { kind: NotHeld };

export interface Hold {
  /** Puts the delivery into the stream; false when the hold was over: then reconcile sends it, if its row is pending. */
  requeue: (fields: Fields) => Promise<boolean>;
  /**
   * Sends nothing: what was held goes on as before, or is taken out. With "cancelled" a delivery that Redis had not heard of
   * is kept from being enqueued for a while. False when the hold was over: then nothing was changed.
   */
  letGo: (end: "kept" | "removed" | "cancelled") => Promise<boolean>;
}

export interface Holds {
  /** For sending again. `requeue` removes the dead letter `deadEntryId` in the same step. */
  holdToResend: (
    deliveryId: string,
    deadEntryId: string | null,
  ) => Promise<HoldResult>;
  holdToCancel: (deliveryId: string) => Promise<HoldResult>;
  /**
   * For what is cancelled in Postgres already: another's hold to cancel is taken over. "closed": it has been taken out, and a
   * tombstone still guards that.
   */
  holdCancelled: (
    deliveryId: string,
  ) => Promise<HoldResult | { kind: "closed" }>;
}

export function createHolds(redis: Redis, keys: Keys): Holds {
  const hold = queueScript(redis, keys, "hold");
  const letGo = queueScript(redis, keys, "let-go");
  const requeue = queueScript(redis, keys, "requeue");

  async function take(
    id: string,
    purpose: "resend" | "cancel",
    letter: string,
    takesOver: boolean,
  ): Promise<HoldResult | { kind: "closed" }> {
    const holder = `${purpose}-${randomUUID()}`;
    const args = [DISPATCHERS_GROUP, id, holder, HOLD_MS, purpose, letter];
    const result = await hold(...args, takesOver ? 1 : 0);
    if (result !== "held") return { kind: result as NotHeld };
    return {
      kind: "held",
      hold: {
        requeue: async (fields) =>
          (await requeue(id, holder, letter, ...flatten(fields))) !== "",
        letGo: async (end) => (await letGo(id, holder, end, CLOSED_MS)) === 1,
      },
    };
  }

  return {
    holdToResend: (id, letter) =>
      take(id, "resend", letter ?? "", false) as Promise<HoldResult>,
    holdToCancel: (id) => take(id, "cancel", "", false) as Promise<HoldResult>,
    holdCancelled: (id) => take(id, "cancel", "", true),
  };
}
