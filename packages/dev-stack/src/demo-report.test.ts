import { describe, expect, test } from "vitest";
import { differences, type DemoResult } from "./demo-report.ts";
import type { ReceivedRequest } from "./receiver.ts";

const timing = { delaysSeconds: [1, 2, 3], attemptTimeoutMs: 1500 };

function request(change: Partial<ReceivedRequest>): ReceivedRequest {
  return {
    webhookId: "d1",
    path: "/flaky?fail=1&case=0",
    headers: {},
    body: '{"email":"ada@example.com"}',
    receivedAt: 10_000,
    statusSent: 500,
    signature: "valid",
    ...change,
  };
}

/** A lead that is delivered on the second attempt. */
function good(): DemoResult {
  return {
    demoCase: {
      title: "t",
      target: "/flaky?fail=1",
      via: "lead",
      secret: "s",
      expected: { status: "success", answers: [500, 200], attempts: 2 },
    },
    recorded: {
      status: "success",
      attempts: [
        { status: 500, errorType: "http" },
        { status: 200, errorType: null },
      ],
      leadStatus: "webhook_sent",
    },
    received: [request({}), request({ receivedAt: 11_100, statusSent: 200 })],
    email: "ada@example.com",
  };
}

describe("differences", () => {
  test("finds none when everything is as expected", () => {
    expect(differences(good(), timing)).toEqual([]);
  });

  test.each<[string, (result: DemoResult) => void, string]>([
    [
      "no row",
      (result) => (result.recorded = undefined),
      "no row in webhook_deliveries",
    ],
    [
      "another status",
      (result) => (result.recorded!.status = "sent"),
      "status in the database: sent instead of success",
    ],
    [
      "a missing row of an attempt",
      (result) => result.recorded!.attempts.pop(),
      "rows in webhook_delivery_logs: 1 instead of 2",
    ],
    [
      "a lead that was not marked",
      (result) => (result.recorded!.leadStatus = "email_captured"),
      "lead: email_captured instead of webhook_sent",
    ],
    [
      "another error type",
      (result) => (result.demoCase.expected.errorType = "blocked"),
      "error type: none instead of blocked",
    ],
    [
      "one request too many",
      (result) =>
        result.received.push(request({ receivedAt: 13_100, statusSent: 200 })),
      "answers of the receiver: 500,200,200 instead of 500,200",
    ],
    [
      "a wrong signature",
      (result) => (result.received[1]!.signature = "invalid"),
      "signature: invalid instead of valid",
    ],
    [
      "a new webhook-id",
      (result) => (result.received[1]!.webhookId = "d2"),
      "webhook-id changed between attempts",
    ],
    [
      "a new body",
      (result) => (result.received[1]!.body += " "),
      "body changed between attempts",
    ],
    [
      "a body without the lead",
      (result) => (result.email = "b@example.com"),
      "the body does not carry b@example.com",
    ],
    [
      "an early retry",
      (result) => (result.received[1]!.receivedAt = 10_900),
      "attempt 2 came 0.9 s after the one before it instead of 1 s",
    ],
    [
      "a late retry",
      (result) => (result.received[1]!.receivedAt = 13_100),
      "attempt 2 came 3.1 s after the one before it instead of 1 s",
    ],
    [
      "a retry before Retry-After",
      (result) => (result.demoCase.expected.retryAfterSeconds = 4),
      "attempt 2 came 1.1 s after the one before it instead of 4 s",
    ],
  ])("names %s", (_what, spoil, difference) => {
    const result = good();
    spoil(result);
    expect(differences(result, timing)).toEqual([difference]);
  });
});
