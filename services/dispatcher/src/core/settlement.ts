// What is written to Redis about a delivery in hand: its next entry, its dead letter, the record of its attempt.
import { type Delivery, toFields } from "@pipeline/shared/entries";
import type { Settlement } from "@pipeline/shared/queue/consumer";
import type { Fields } from "@pipeline/shared/queue/fields";
import { deadLetter } from "@pipeline/shared/queue/dead-letter";
import { entryTime } from "@pipeline/shared/timestamp";
import { type Decision, maxAttemptsOf } from "./decide.ts";
import type { RetrySchedule } from "@pipeline/shared/retry-schedule";
import { letterFields } from "./malformed.ts";
import type { Outcome, SendResult } from "./outcome.ts";
import { attemptRecord, type Row, rowOf } from "./record.ts";
import type { Work } from "./work.ts";

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

/** What settling a delivery takes whatever its attempt brings, made before anything is sent. */
export interface Plan {
  work: Work;
  stored: Delivery;
  maxAttempts: number;
  row: Row | null;
}

/** `now`: ms since 1970. */
export function planOf(
  work: Work,
  now: number,
  { schedule, seal }: SettlementOptions,
): Plan {
  const stored = sealed(work.delivery, seal);
  const maxAttempts = maxAttemptsOf(work.delivery, schedule);
  const row = rowOf(stored, maxAttempts, entryTime(work.entryId, now));
  return { work, stored, maxAttempts, row };
}

/** `entryFields`: the entry's own fields, for the dead letter of one that is given up without having been sent. */
export function settlementOf(
  { work, stored, maxAttempts, row }: Plan,
  attempt: Attempt,
  decision: Decision,
  { seal }: SettlementOptions,
  entryFields: Record<string, string> | null,
): Settlement {
  const { entryId, delivery, isParsed } = work;
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
      row,
      decision,
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
      // Without it the letter would count as another delivery, with an id derived from its own entry id.
      if (isParsed) own["id"] = delivery.id;
      const kind = isParsed ? "delivery" : "entry";
      const fields = deadLetter(kind, own, decision.reason, endedAt);
      return { ...common, kind: "dead", fields };
    }
  }
}

/** The entry in which a delivery comes back without having been attempted. */
function sameEntry({ timesRead }: Work, delivery: Delivery): Fields {
  const fields = toFields(delivery);
  if (timesRead === undefined) return fields;
  return { ...fields, times_read: String(timesRead) };
}

/** Puts the delivery off, which is no attempt. `isReserved`: its endpoint's rate limit has given it that moment. */
export function deferral(
  work: Work,
  delayMs: number,
  isReserved: boolean,
  { seal }: Pick<SettlementOptions, "seal">,
): Settlement {
  const { entryId, delivery } = work;
  return {
    entryId,
    deliveryId: delivery.id,
    attempt: delivery.attempt,
    kind: "defer",
    delayMs,
    fields: sameEntry(work, { ...sealed(delivery, seal), isReserved }),
    endpoint: "",
    record: null,
  };
}

/**
 * Into its endpoint's waiting list, and back to the head of it when it comes from there. The moment that the endpoint's rate
 * limit may have reserved for it passes meanwhile: without a new one, all that have waited would go at once.
 */
export function waitSettlement(
  work: Work,
  { seal }: Pick<SettlementOptions, "seal">,
): Settlement {
  const { entryId, delivery, endpoint, hasWaited } = work;
  return {
    entryId,
    deliveryId: delivery.id,
    attempt: delivery.attempt,
    kind: hasWaited ? "rewait" : "wait",
    delayMs: 0,
    fields: sameEntry(work, {
      ...sealed(delivery, seal),
      isReserved: false,
    }),
    endpoint,
    record: null,
  };
}
