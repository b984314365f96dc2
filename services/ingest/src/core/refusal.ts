// Why a request gets no delivery: a value on its way to the HTTP answer, not a fault.

export interface Issue {
  /** Where in the request, like `lead.email`; empty for the request as a whole. */
  path: string;
  message: string;
}

export interface Refusal {
  status: 400 | 404 | 409 | 413 | 422 | 500 | 503;
  error: string;
  issues: Issue[];
  /** Set when the same request may work later. */
  retryAfterSeconds?: number;
}

export type Result<Value> =
  { ok: true; value: Value } | { ok: false; refusal: Refusal };

/** A refusal that blames one field. */
export function refuse(
  status: Refusal["status"],
  path: string,
  message: string,
): { ok: false; refusal: Refusal } {
  return {
    ok: false,
    refusal: {
      status,
      error: path === "" ? message : `${path} ${message}`,
      issues: [{ path, message }],
    },
  };
}

export const UNAVAILABLE: Refusal = {
  status: 503,
  error: "The database does not answer; nothing was stored. Try again.",
  issues: [],
  retryAfterSeconds: 2,
};

export const KEY_USED: Refusal = refuse(
  409,
  "idempotencyKey",
  "was used before, with another request",
).refusal;

export const BROKEN: Refusal = {
  status: 500,
  error: "Something went wrong here; it has been logged",
  issues: [],
};

/** For what changes a delivery that is there: a call without an answer may have done so. */
export const UNANSWERED: Refusal = {
  status: 503,
  error: "The database does not answer. Look at the delivery, or try again.",
  issues: [],
  retryAfterSeconds: 2,
};

export const HELD: Refusal = {
  status: 503,
  error:
    "The database could not do this in time, because a row that it needs (the lead, the delivery, or the same idempotency key) is locked, or because it is too busy; nothing was stored or changed. Try again.",
  issues: [],
  retryAfterSeconds: 2,
};

/** Without a key it is withdrawn as soon as the database answers; with one the repeated request gets it. */
export const unconfirmed = (hasKey: boolean): Refusal => ({
  status: 503,
  error: hasKey
    ? "The database has not confirmed in time that this was stored. Send it again under the same idempotency key: it will be delivered once."
    : "The database has not confirmed in time that this was stored; if it was, it will be withdrawn. Send it again, best with an idempotency key.",
  issues: [],
  retryAfterSeconds: 5,
});

export const QUEUE_FULL: Refusal = {
  status: 503,
  error: "The delivery queue is full; nothing was stored. Try again later.",
  issues: [],
  retryAfterSeconds: 5,
};

export const REDIS_UNAVAILABLE: Refusal = {
  status: 503,
  error: "Redis does not answer; nothing was changed. Try again.",
  issues: [],
  retryAfterSeconds: 2,
};
