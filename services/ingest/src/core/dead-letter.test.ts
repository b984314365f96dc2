import { decodeDeadLetter } from "@pipeline/shared/queue/dead-letter";
import { describe, expect, test } from "vitest";
import { deadLetterView, matches } from "./dead-letter.ts";

const id = "00000000-0000-4000-8000-000000000001";
const fields = {
  kind: "delivery",
  id,
  webhook_url: "https://hooks.example.com/secret/path",
  payload: "{}",
  secret: "sealed:v1:x",
  event: "lead_captured",
  attempt: "4",
  reason: "HTTP 500 Internal Server Error",
  failed_at: "2026-02-02T02:40:00.000Z",
};
const decode = (given: Record<string, string>) =>
  decodeDeadLetter("s", "1770000000000-3", Object.entries(given).flat());

describe("a dead letter", () => {
  test("is shown without its secret, payload and path", () => {
    expect(deadLetterView(decode(fields))).toEqual({
      entryId: "1770000000000-3",
      kind: "delivery",
      deliveryId: id,
      leadId: null,
      endpointId: null,
      event: "lead_captured",
      webhookUrl: "https://hooks.example.com/***",
      reason: "HTTP 500 Internal Server Error",
      failedAt: "2026-02-02T02:40:00.000Z",
      attempt: 4,
    });
  });

  test("is shown as far as it can be read when it is garbage", () => {
    const garbage = { id: "x", webhook_url: "no", attempt: "many" };
    const view = deadLetterView(decode(garbage));
    expect(view).toMatchObject({
      webhookUrl: "(invalid URL)",
      attempt: null,
      failedAt: "2026-02-02T02:40:00.000Z",
    });
    expect(view.deliveryId).toMatch(/^[\da-f-]{36}$/);
  });

  test.each([
    [{}, true],
    [{ reason: "http 500" }, true],
    [{ reason: "timeout" }, false],
    [{ webhookUrlOrigin: "https://hooks.example.com" }, true],
    [{ webhookUrlOrigin: "https://example.com" }, false],
    [{ endpointId: id }, false],
    [{ reason: "500", webhookUrlOrigin: "https://other.example" }, false],
  ])("matches the filter %j: %s", (filter, expected) => {
    expect(matches(decode(fields), filter)).toBe(expected);
  });
});
