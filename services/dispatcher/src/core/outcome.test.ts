import { expect, test } from "vitest";
import { classify, type SendFailure } from "./outcome.ts";

const now = Date.parse("2026-03-01T12:00:00Z");
const answer = (status: number, headers: Record<string, string> = {}) =>
  classify({ kind: "answer", status, headers, body: "whatever" }, now);
const failure = (errorType: SendFailure["errorType"]) =>
  classify({ kind: "failure", errorType, error: "why" }, now);

test.each([200, 201, 202, 204, 206, 226, 299])("%d is delivered", (status) => {
  expect(answer(status)).toEqual({ kind: "delivered" });
});

test.each([408, 425, 429, 500, 501, 502, 503, 504, 507, 520, 599])(
  "%d is worth another attempt",
  (status) => {
    expect(answer(status)).toEqual({
      kind: "retryable",
      errorType: "http",
      error: `HTTP ${status}`,
      retryAfterMs: null,
    });
  },
);

test.each([
  400, 401, 402, 403, 404, 405, 406, 407, 409, 411, 413, 415, 418, 422, 426,
  451, 499,
])("%d is final", (status) => {
  expect(answer(status)).toEqual({
    kind: "final",
    errorType: "http",
    error: `HTTP ${status}`,
    isGone: false,
  });
});

test("410 is final and says that the endpoint is gone", () => {
  expect(answer(410)).toMatchObject({ kind: "final", isGone: true });
});

test.each([300, 301, 302, 303, 304, 307, 308])(
  "%d is final, for redirects are not followed",
  (status) => {
    expect(answer(status, { location: "https://other.test/" })).toEqual({
      kind: "final",
      errorType: "http",
      error: `HTTP ${status}: redirects are not followed`,
      isGone: false,
    });
  },
);

test.each([429, 503, 500])("%d keeps the receiver's Retry-After", (status) => {
  expect(answer(status, { "retry-after": "7" })).toMatchObject({
    retryAfterMs: 7000,
  });
  expect(
    answer(status, { "retry-after": "Sun, 01 Mar 2026 12:01:00 GMT" }),
  ).toMatchObject({ retryAfterMs: 60_000 });
});

test.each(["network", "timeout"] as const)(
  "a %s failure is worth another attempt",
  (errorType) => {
    expect(failure(errorType)).toEqual({
      kind: "retryable",
      errorType,
      error: "why",
      retryAfterMs: null,
    });
  },
);

test.each(["blocked", "invalid"] as const)(
  "a delivery that is %s is final",
  (errorType) => {
    expect(failure(errorType)).toEqual({
      kind: "final",
      errorType,
      error: "why",
      isGone: false,
    });
  },
);
