// Why Redis does not let a person's action begin.
import type { NotHeld } from "@pipeline/shared/queue/holds";
import { refuse, type Refusal } from "./refusal.ts";

const UNRECORDED =
  "The outcome of the last attempt is on its way to the database; try again";

/** A refusal of a moment: the same request may work soon. */
function soon(
  status: Refusal["status"],
  error: string,
): { ok: false; refusal: Refusal } {
  const { refusal } = refuse(status, "", error);
  return { ok: false, refusal: { ...refusal, retryAfterSeconds: 1 } };
}

/** `unrecordedStatus`: sending again has always answered 503 then, and cancelling 409. */
export function notHeld(
  kind: NotHeld,
  unrecordedStatus: 409 | 503,
): { ok: false; refusal: Refusal } {
  switch (kind) {
    case "queued":
      return refuse(
        409,
        "",
        "The delivery is in the queue already, or an attempt is running",
      );
    case "in_flight":
      return soon(409, "An attempt is running; try again when it is over");
    case "unrecorded":
      return soon(unrecordedStatus, UNRECORDED);
    case "busy":
      return soon(409, "Another request is changing this delivery; try again");
    case "gone":
      return refuse(409, "", "The dead letter has been replayed meanwhile");
  }
}
