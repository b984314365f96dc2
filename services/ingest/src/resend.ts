// Sending again, by hand: a delivery (retry) or a dead letter (replay). Redis is asked first, since a row that was restarted
// while its delivery is still in the queue would promise an attempt that is not the next one.
import { deliveryFromRow } from "@pipeline/shared/delivery-row";
import type { Delivery } from "@pipeline/shared/entries";
import {
  type DeadLetter,
  parseDeadLetter,
} from "@pipeline/shared/queue/dead-letter";
import type { DeliveryWrites, RestartedRow } from "./adapters/delivery-rows.ts";
import type { Queue } from "./adapters/queue.ts";
import { type Result, refuse, type Refusal } from "./core/refusal.ts";

export interface ResendOptions {
  writes: DeliveryWrites;
  queue: Queue;
  streamKey: string;
  maxAttempts: number;
}

export interface Replayed {
  deliveryId: string;
  attempt: number;
}

const UNRECORDED: Refusal = {
  status: 503,
  error:
    "The outcome of the last attempt is on its way to the database; try again",
  issues: [],
  retryAfterSeconds: 1,
};

function notNow(kind: "queued" | "unrecorded" | "gone"): {
  ok: false;
  refusal: Refusal;
} {
  switch (kind) {
    case "queued":
      return refuse(
        409,
        "",
        "The delivery is in the queue already, or an attempt is running",
      );
    case "unrecorded":
      return { ok: false, refusal: UNRECORDED };
    case "gone":
      return refuse(409, "", "The dead letter has been replayed meanwhile");
  }
}

export function createResend({
  writes,
  queue,
  streamKey,
  maxAttempts,
}: ResendOptions) {
  async function whyNotNow(
    id: string,
  ): Promise<{ ok: false; refusal: Refusal } | null> {
    switch (await queue.locate(id)) {
      case "stream":
      case "waiting":
        return notNow("queued");
      case "log":
        return notNow("unrecorded");
      case "retry":
      case "nowhere":
        return null;
    }
  }

  /** The dead letter's delivery, with the attempt number and schedule of the restarted row, if there is one. */
  function continued(delivery: Delivery, row: RestartedRow | null): Delivery {
    if (row === null)
      return { ...delivery, isReserved: false, isPersisted: false };
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

  return {
    retry: async (id: string): Promise<Result<RestartedRow>> => {
      const reason = await whyNotNow(id);
      if (reason !== null) return reason;
      const row = await writes.restart(id, maxAttempts);
      if (row === null) return refuse(404, "id", "is not a known delivery");
      const result = await queue.requeue(deliveryFromRow(row), null);
      return result.kind === "requeued"
        ? { ok: true, value: row }
        : notNow(result.kind);
    },

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
      const reason = await whyNotNow(id);
      if (reason !== null) return reason;
      // It was retried by hand since, so the dead letter tells of a failure that is over.
      const status = await writes.status(id);
      if (status !== null && status !== "failed")
        return refuse(409, "", `The delivery is no longer failed: ${status}`);
      const delivery = continued(
        parsed.delivery,
        await writes.restart(id, maxAttempts),
      );
      const result = await queue.requeue(delivery, letter.entryId);
      if (result.kind !== "requeued") return notNow(result.kind);
      return { ok: true, value: { deliveryId: id, attempt: delivery.attempt } };
    },
  };
}

export type Resend = ReturnType<typeof createResend>;
