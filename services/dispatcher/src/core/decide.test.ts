import { expect, test } from "vitest";
import { decide, maxAttemptsOf, type Progress } from "./decide.ts";
import type { Outcome } from "./outcome.ts";

const schedule = [5, 25, 125];
const policy = { schedule, jitter: 0 };
const failed = (retryAfterMs: number | null = null): Outcome => ({
  kind: "retryable",
  errorType: "http",
  error: "HTTP 503",
  retryAfterMs,
});
const progress = (attempt: number, rest: Partial<Progress> = {}): Progress => ({
  attempt,
  scheduleStart: 1,
  maxAttempts: null,
  ...rest,
});

test("a delivery that arrived is a success, whatever attempt it was", () => {
  for (const attempt of [1, 4, 9]) {
    expect(decide({ kind: "delivered" }, progress(attempt), policy, 0)).toEqual(
      { kind: "success" },
    );
  }
});

test("a final failure is dead at once, with its error as the reason", () => {
  const outcome: Outcome = {
    kind: "final",
    errorType: "http",
    error: "HTTP 404",
    isGone: false,
  };
  expect(decide(outcome, progress(1), policy, 0)).toEqual({
    kind: "dead",
    reason: "HTTP 404",
  });
});

test.each([
  [1, 5000],
  [2, 25_000],
  [3, 125_000],
])("after attempt %d the next one follows in %d ms", (attempt, delayMs) => {
  expect(decide(failed(), progress(attempt), policy, 0)).toEqual({
    kind: "retry",
    delayMs,
  });
});

test.each([4, 5])("no attempt follows attempt %d", (attempt) => {
  expect(decide(failed(), progress(attempt), policy, 0)).toEqual({
    kind: "dead",
    reason: `HTTP 503, and no attempt is left after ${attempt}`,
  });
});

test.each([
  [5, 5000],
  [6, 25_000],
  [7, 125_000],
])(
  "after a manual retry began a schedule at attempt 5, attempt %d is followed in %d ms",
  (attempt, delayMs) => {
    expect(
      decide(failed(), progress(attempt, { scheduleStart: 5 }), policy, 0),
    ).toEqual({ kind: "retry", delayMs });
  },
);

test("a manual retry's schedule ends after its own four attempts", () => {
  expect(maxAttemptsOf(progress(5, { scheduleStart: 5 }), schedule)).toBe(8);
  expect(
    decide(failed(), progress(8, { scheduleStart: 5 }), policy, 0).kind,
  ).toBe("dead");
});

test("a delivery's own max_attempts counts all attempts and wins over the schedule", () => {
  expect(maxAttemptsOf(progress(1, { maxAttempts: 2 }), schedule)).toBe(2);
  const once = progress(1, { maxAttempts: 1 });
  expect(decide(failed(), once, policy, 0).kind).toBe("dead");
  const six = progress(5, { maxAttempts: 6 });
  expect(decide(failed(), six, policy, 0)).toEqual({
    kind: "retry",
    delayMs: 125_000, // the schedule is shorter: its last delay repeats
  });
});

test("a schedule said to begin after the attempt itself counts from its beginning", () => {
  const odd = progress(1, { scheduleStart: 9 });
  expect(decide(failed(), odd, policy, 0)).toEqual({
    kind: "retry",
    delayMs: 5000,
  });
});

test("Retry-After lengthens the schedule's delay and never shortens it", () => {
  const delayMs = (retryAfterMs: number) =>
    decide(failed(retryAfterMs), progress(1), policy, 0);
  expect(delayMs(60_000)).toEqual({ kind: "retry", delayMs: 60_000 });
  expect(delayMs(1000)).toEqual({ kind: "retry", delayMs: 5000 });
  expect(delayMs(0)).toEqual({ kind: "retry", delayMs: 5000 });
});

test("Retry-After brings no attempt beyond the last", () => {
  expect(decide(failed(1000), progress(4), policy, 0).kind).toBe("dead");
});

test("jitter moves the delay either way by its share", () => {
  const jittered = { schedule, jitter: 0.2 };
  const delayMs = (random: number) =>
    decide(failed(), progress(2), jittered, random);
  expect(delayMs(0)).toEqual({ kind: "retry", delayMs: 20_000 });
  expect(delayMs(0.5)).toEqual({ kind: "retry", delayMs: 25_000 });
  expect(delayMs(0.999_999)).toEqual({ kind: "retry", delayMs: 30_000 });
});
