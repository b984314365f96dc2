import { MAX_PAYLOAD_BYTES } from "@pipeline/shared/entries";
import { describe, expect, test } from "vitest";
import { storablePayload } from "./storable-payload.ts";

const payloadText = (payload: object) =>
  storablePayload(JSON.stringify(payload));

describe("the text of a payload", () => {
  test.each([
    [{ a: "plain" }],
    [{ a: "a tab\t, a bell\u0007, an emoji 🦊" }],
    [{ a: String.raw`the six characters \u0000 and \\ud800` }],
    [{ [String.raw`\u0000`]: String.raw`\\` }],
  ])("is its JSON: %j", (payload) => {
    expect(payloadText(payload)).toEqual({
      ok: true,
      value: JSON.stringify(payload),
    });
  });

  test.each([
    ["NUL", { a: "x\0y" }],
    ["NUL after a backslash", { a: "\\\0" }],
    ["NUL in a key", { "\0": 1 }],
    ["half a surrogate pair", { a: "\udfff" }],
    ["the other half", { a: "\ud83e after" }],
  ])("is refused with %s", (_what, payload) => {
    expect(payloadText(payload)).toMatchObject({
      ok: false,
      refusal: { status: 422, issues: [{ path: "payload" }] },
    });
  });

  test("is measured in bytes, not characters", () => {
    const overhead = JSON.stringify({ a: "" }).length;
    expect(
      payloadText({ a: "é".repeat((MAX_PAYLOAD_BYTES - overhead) / 2) }).ok,
    ).toBe(true);
    expect(
      payloadText({ a: "é".repeat((MAX_PAYLOAD_BYTES - overhead) / 2 + 1) }).ok,
    ).toBe(false);
  });
});
