// What an attempt's answer means: delivered, worth another attempt, or final.
import { retryAfterMs } from "./retry-after.ts";

export type ErrorType = "network" | "timeout" | "http" | "blocked" | "invalid";

export interface HttpAnswer {
  kind: "answer";
  status: number;
  headers: Record<string, string>;
  /** The beginning of the body, at most 1000 characters. */
  body: string;
  /** The deadline came before its end. */
  isCutShort?: true;
}

export interface SendFailure {
  kind: "failure";
  errorType: Exclude<ErrorType, "http">;
  error: string;
}

export type SendResult = HttpAnswer | SendFailure;

export type Outcome =
  | { kind: "delivered" }
  | {
      kind: "retryable";
      errorType: ErrorType;
      error: string;
      retryAfterMs: number | null;
    }
  | { kind: "final"; errorType: ErrorType; error: string; isGone: boolean };

const RETRYABLE_STATUSES = new Set([408, 425, 429]);

/** `now` (ms since 1970) is for a Retry-After that names a date, if the answer does not say when it was given. */
export function classify(result: SendResult, now: number): Outcome {
  if (result.kind === "failure") {
    const { errorType, error } = result;
    switch (errorType) {
      case "network":
      case "timeout":
        return { kind: "retryable", errorType, error, retryAfterMs: null };
      case "blocked":
      case "invalid":
        return { kind: "final", errorType, error, isGone: false };
    }
  }
  const { status, headers } = result;
  if (status >= 200 && status < 300) return { kind: "delivered" };
  if (status >= 500 || RETRYABLE_STATUSES.has(status)) {
    // By the receiver's own clock: then it does not matter whose clock is wrong.
    const answeredAt = Date.parse(headers["date"] ?? "");
    const askedMs = retryAfterMs(
      headers["retry-after"],
      Number.isNaN(answeredAt) ? now : answeredAt,
    );
    return {
      kind: "retryable",
      errorType: "http",
      error: `HTTP ${status}`,
      retryAfterMs: askedMs,
    };
  }
  const error =
    status < 400
      ? `HTTP ${status}: redirects are not followed`
      : `HTTP ${status}`;
  return { kind: "final", errorType: "http", error, isGone: status === 410 };
}
