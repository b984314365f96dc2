// Cancels a delivery: holds it in Redis, where nobody can send it then, marks its row, and takes it out of Redis.
import { isOutcomeUnknown } from "@pipeline/shared/errors";
import type { DeliveryWrites } from "./adapters/delivery-rows.ts";
import type { Queue } from "./adapters/queue.ts";
import type { StoredDelivery } from "./core/delivery-view.ts";
import { notHeld } from "./core/not-held.ts";
import { refuse, type Result } from "./core/refusal.ts";

export interface CancelOptions {
  writes: Pick<DeliveryWrites, "cancel">;
  queue: Pick<Queue, "holdToCancel" | "letGo">;
}

export type Cancel = (id: string) => Promise<Result<StoredDelivery>>;

export function createCancel({ writes, queue }: CancelOptions): Cancel {
  return async (id) => {
    const held = await queue.holdToCancel(id);
    if (held.kind !== "held") return notHeld(held.kind, 409);
    const { hold } = held;
    let row: StoredDelivery | null;
    try {
      row = await writes.cancel(id);
    } catch (error) {
      // If the outcome is not known, the hold must expire by itself: by then the call has ended one way or the other.
      if (!isOutcomeUnknown(error)) await queue.letGo(hold, "kept");
      throw error;
    }
    const isCancelled = row?.status === "cancelled";
    await queue.letGo(hold, isCancelled ? "cancelled" : "kept");
    if (row === null) return refuse(404, "id", "is not a known delivery");
    return isCancelled
      ? { ok: true, value: row }
      : refuse(409, "", `The delivery is finished: ${row.status}`);
  };
}
