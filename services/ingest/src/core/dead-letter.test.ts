import { describe, expect, it } from "vitest";
import { deadLetterView, matches, parseDeadLetter } from "./dead-letter.ts";

const id = "00000000-0000-4000-8000-000000000001";
const letter = {
  entryId: "1770000000000-3",
  fields: {
    id,
    webhook_url: "https://hooks.example.com/secret/path",
    payload: "{}",
    secret: "sealed:v1:x",
    event: "lead_captured",
    attempt: "4",
    reason: "HTTP 500 Internal Server Error",
    failed_at: "2026-02-02T02:40:00.000Z",
  },
};

describe("a dead letter", () => {
  it("is shown without its secret, payload and path", () => {
    expect(deadLetterView("s", letter)).toEqual({
      entryId: "1770000000000-3",
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

  it("is shown as far as it can be read when it is garbage", () => {
    const view = deadLetterView("s", {
      entryId: "1770000000000-0",
      fields: { id: "x", webhook_url: "no", attempt: "many" },
    });
    expect(view).toMatchObject({
      webhookUrl: "(invalid URL)",
      attempt: null,
      failedAt: "2026-02-02T02:40:00.000Z",
    });
    expect(view.deliveryId).toMatch(/^[\da-f-]{36}$/);
  });

  it.each([
    [{}, true],
    [{ reason: "http 500" }, true],
    [{ reason: "timeout" }, false],
    [{ webhookUrlOrigin: "https://hooks.example.com" }, true],
    [{ webhookUrlOrigin: "https://example.com" }, false],
    [{ endpointId: id }, false],
    [{ reason: "500", webhookUrlOrigin: "https://other.example" }, false],
  ])("matches the filter %j: %s", (filter, expected) => {
    expect(matches(letter, filter)).toBe(expected);
  });

  it("holds the delivery as it was", () => {
    expect(parseDeadLetter("s", letter)).toMatchObject({
      ok: true,
      delivery: {
        id,
        webhookUrl: letter.fields.webhook_url,
        payload: "{}",
        attempt: 4,
      },
    });
  });

  it("says what it lacks when it cannot be sent", () => {
    expect(
      parseDeadLetter("s", { entryId: "1-1", fields: { id, reason: "x" } }),
    ).toMatchObject({
      ok: false,
      issues: [{ path: "payload" }, { path: "webhook_url" }],
    });
  });
});
