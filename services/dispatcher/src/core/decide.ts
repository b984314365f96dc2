import { MOST_ATTEMPTS } from "@pipeline/shared/entries";
import {
  lastAttemptOf,
  retryDelayMs,
  type RetrySchedule,
} from "@pipeline/shared/retry-schedule";
import type { Outcome } from "./outcome.ts";

export interface RetryPolicy {
  schedule: RetrySchedule;
  jitter: number;
}

export interface Progress {
  attempt: number;
  scheduleStart: number;
  maxAttempts: number | null;
}

export type Decision =
  | { kind: "success" }
  | { kind: "retry"; delayMs: number }
  | { kind: "dead"; reason: string };

/** All attempts of a delivery, those before a manual retry included; never more than an entry can ask for. */
export function maxAttemptsOf(
  { scheduleStart, maxAttempts }: Progress,
  schedule: RetrySchedule,
): number {
  return Math.min(
    maxAttempts ?? lastAttemptOf(scheduleStart, schedule),
    MOST_ATTEMPTS,
  );
}

/** A receiver's Retry-After may lengthen the schedule's delay, never shorten it. `random` is in [0, 1). */
export function decide(
  outcome: Outcome,
  progress: Progress,
  policy: RetryPolicy,
  random: number,
): Decision {
  switch (outcome.kind) {
    case "delivered":
      return { kind: "success" };
    case "final":
      return { kind: "dead", reason: outcome.error };
    case "retryable": {
      if (progress.attempt >= maxAttemptsOf(progress, policy.schedule)) {
        return {
          kind: "dead",
          reason: `${outcome.error}, and no attempt is left after ${progress.attempt}`,
        };
      }
      const position = Math.max(
        1,
        progress.attempt - progress.scheduleStart + 1,
      );
      const scheduledMs = retryDelayMs(
        policy.schedule,
        position,
        policy.jitter,
        random,
      );
      return {
        kind: "retry",
        delayMs: Math.max(scheduledMs, outcome.retryAfterMs ?? 0),
      };
    }
  }
}
