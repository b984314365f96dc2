// What is written to Redis about a delivery in hand: its next entry, its dead letter, the record of its attempt.
import { type Delivery, toFields } from "@pipeline/shared/entries";
import type { Settlement } from "@pipeline/shared/queue/consumer";
import { deadLetter } from "@pipeline/shared/queue/dead-letter";
import { type Decision, maxAttemptsOf } from "./decide.ts";
import type { RetrySchedule } from "@pipeline/shared/retry-schedule";
import { letterFields } from "./malformed.ts";
import type { Outcome, SendResult } from "./outcome.ts";
import { attemptRecord } from "./record.ts";
import { addedAt, type Work } from "./work.ts";

/** An attempt that is over. */
export interface Attempt {
  /** Where it was sent; null when it was not. */
  url: string | null;
  result: SendResult;
  outcome: Outcome;
  signature: string | null;
  /** Ms since 1970. */
  startedAt: number;
  durationMs: number;
}

export interface SettlementOptions {
  schedule: RetrySchedule;
  seal: (text: string) => string;
}

/** The delivery in the form that may be stored in Redis and Postgres. */
export function sealed(
  delivery: Delivery,
  seal: (text: string) => string,
): Delivery {
  const { secret, headers } = delivery;
  return {
    ...delivery,
    secret: secret === null ? null : seal(secret),
    headers: headers === null ? null : seal(headers),
  };
}

/** `entryFields`: the entry's own fields, for the dead letter of one that is given up without having been sent. */
export function settlementOf(
  { entryId, delivery, isParsed }: Work,
  attempt: Attempt,
  decision: Decision,
  { schedule, seal }: SettlementOptions,
  entryFields: Record<string, string> | null,
): Settlement {
  const stored = sealed(delivery, seal);
  const maxAttempts = maxAttemptsOf(delivery, schedule);
  const common = {
    entryId,
    deliveryId: delivery.id,
    attempt: delivery.attempt,
    delayMs: 0,
    fields: null,
    endpoint: "",
    record: attemptRecord({
      ...attempt,
      delivery: stored,
      maxAttempts,
      decision,
      createdAt: addedAt(entryId),
    }),
  };
  switch (decision.kind) {
    case "success":
      return { ...common, kind: "success" };
    case "retry": {
      const next = { ...stored, attempt: delivery.attempt + 1, maxAttempts };
      const fields = toFields({ ...next, isReserved: false });
      return { ...common, kind: "retry", delayMs: decision.delayMs, fields };
    }
    case "dead": {
      const endedAt = attempt.startedAt + attempt.durationMs;
      const own =
        entryFields === null
          ? toFields(stored)
          : letterFields(entryFields, seal);
      const kind = isParsed ? "delivery" : "entry";
      const fields = deadLetter(kind, own, decision.reason, endedAt);
      return { ...common, kind: "dead", fields };
    }
  }
}

/** Puts the delivery off, which is no attempt. `isReserved`: its endpoint's rate limit has given it that moment. */
export function deferral(
  { entryId, delivery }: Work,
  delayMs: number,
  isReserved: boolean,
  { seal }: Pick<SettlementOptions, "seal">,
): Settlement {
  return {
    entryId,
    deliveryId: delivery.id,
    attempt: delivery.attempt,
    kind: "defer",
    delayMs,
    fields: toFields({ ...sealed(delivery, seal), isReserved }),
    endpoint: "",
    record: null,
  };
}

/** Into its endpoint's waiting list, and back to the head of it when it comes from there. */
export function waitSettlement(
  { entryId, delivery, endpoint, hasWaited }: Work,
  { seal }: Pick<SettlementOptions, "seal">,
): Settlement {
  return {
    entryId,
    deliveryId: delivery.id,
    attempt: delivery.attempt,
    kind: hasWaited ? "rewait" : "wait",
    delayMs: 0,
    fields: toFields(sealed(delivery, seal)),
    endpoint,
    record: null,
  };
}
