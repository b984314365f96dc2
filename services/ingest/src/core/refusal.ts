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
