// Sending again, by hand: a delivery (retry) or a dead letter (replay). The delivery is held in Redis first, so that nothing
// else happens to it; then its row is restarted, which gives it its attempt number; then it is put into the stream. From the
// restart on the answer is yes: if the process dies or Redis does not answer, reconcile sends the delivery by its row.
import { deliveryFromRow } from "@pipeline/shared/delivery-row";
import { type Delivery, uuidOf } from "@pipeline/shared/entries";
import { isOutcomeUnknown } from "@pipeline/shared/errors";
import {
  type DeadLetter,
  parseDeadLetter,
} from "@pipeline/shared/queue/dead-letter";
import type { Hold } from "@pipeline/shared/queue/holds";
import type { DeliveryWrites, RestartedRow } from "./adapters/delivery-rows.ts";
import type { Queue } from "./adapters/queue.ts";
import { notHeld } from "./core/not-held.ts";
import { refuse, type Result } from "./core/refusal.ts";

export interface ResendOptions {
  writes: Pick<DeliveryWrites, "restart" | "status" | "areDeleted">;
  queue: Pick<Queue, "holdToResend" | "requeue" | "letGo">;
  streamKey: string;
  maxAttempts: number;
}

export interface Replayed {
  deliveryId: string;
  attempt: number;
}

/** What is to be sent, and what the caller is told of it. */
interface Prepared<Value> {
  delivery: Delivery;
  value: Value;
}

const ENDPOINT_DELETED = refuse(409, "", "The delivery's endpoint was deleted");

/** The dead letter's delivery, with the attempt number and schedule of the restarted row. */
function continued(delivery: Delivery, row: RestartedRow): Delivery {
  const { attempt, maxAttempts, scheduleStart } = deliveryFromRow(row);
  return {
    ...delivery,
    attempt,
    maxAttempts,
    scheduleStart,
    isReserved: false,
    isPersisted: true,
  };
}

export function createResend({
  writes,
  queue,
  streamKey,
  maxAttempts,
}: ResendOptions) {
  /** `prepare` runs while the delivery is held; it must have no effect when it refuses. */
  async function resend<Value>(
    id: string,
    deadEntryId: string | null,
    prepare: () => Promise<Result<Prepared<Value>>>,
  ): Promise<Result<Value>> {
    const held = await queue.holdToResend(id, deadEntryId);
    if (held.kind !== "held") return notHeld(held.kind, 503);
    const prepared = await whileHeld(held.hold, prepare);
    if (!prepared.ok) {
      await queue.letGo(held.hold, "kept");
      return prepared;
    }
    await queue.requeue(held.hold, prepared.value.delivery);
    return { ok: true, value: prepared.value.value };
  }

  async function whileHeld<Value>(
    hold: Hold,
    run: () => Promise<Value>,
  ): Promise<Value> {
    try {
      return await run();
    } catch (error) {
      // If the outcome is not known, the hold must expire by itself: by then the call has ended one way or the other.
      if (!isOutcomeUnknown(error)) await queue.letGo(hold, "kept");
      throw error;
    }
  }

  /** A dead letter whose delivery has no row: it was never recorded, or it was deleted. */
  async function withoutRow(
    delivery: Delivery,
  ): Promise<Result<Prepared<Replayed>>> {
    const { id, leadId, endpointId, attempt } = delivery;
    const named = [
      id,
      uuidOf(leadId ?? undefined),
      uuidOf(endpointId ?? undefined),
    ];
    if (await writes.areDeleted(named.filter((each) => each !== null)))
      return refuse(404, "", "The delivery was deleted");
    const unrecorded = { ...delivery, isReserved: false, isPersisted: false };
    const value = { deliveryId: id, attempt };
    return { ok: true, value: { delivery: unrecorded, value } };
  }

  return {
    retry: (id: string): Promise<Result<RestartedRow>> =>
      resend(id, null, async () => {
        const row = await writes.restart(id, maxAttempts, false);
        if (row !== null) {
          const delivery = deliveryFromRow(row);
          return { ok: true, value: { delivery, value: row } };
        }
        return (await writes.status(id)) === null
          ? refuse(404, "id", "is not a known delivery")
          : ENDPOINT_DELETED;
      }),

    replay: async (letter: DeadLetter): Promise<Result<Replayed>> => {
      const parsed = parseDeadLetter(streamKey, letter);
      if (!parsed.ok) {
        const error = `The dead letter cannot be sent: ${parsed.issues.map(({ path, message }) => `${path} ${message}`).join("; ")}`;
        return {
          ok: false,
          refusal: { status: 422, error, issues: parsed.issues },
        };
      }
      const id = letter.deliveryId;
      return resend(id, letter.entryId, async () => {
        const row = await writes.restart(id, maxAttempts, true);
        if (row !== null) {
          const delivery = continued(parsed.delivery, row);
          const value = { deliveryId: id, attempt: delivery.attempt };
          return { ok: true, value: { delivery, value } };
        }
        const status = await writes.status(id);
        if (status === null) return withoutRow(parsed.delivery);
        // It was retried by hand since, so the dead letter tells of a failure that is over.
        return status === "failed"
          ? ENDPOINT_DELETED
          : refuse(409, "", `The delivery is no longer failed: ${status}`);
      });
    },
  };
}

export type Resend = ReturnType<typeof createResend>;
