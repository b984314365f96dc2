import { describe, expect, test } from "vitest";
import { deliveryRequest } from "./delivery-request.ts";

const valid = { test: true, webhookUrl: "https://example.com/hook" };

function pathsOf(request: unknown): string[] {
  const parsed = deliveryRequest.safeParse(request);
  return parsed.success
    ? []
    : parsed.error.issues.map(({ path }) => path.join("."));
}

function nested(levels: number): object {
  let value: object = {};
  for (let i = 0; i < levels; i++) value = { value };
  return value;
}

describe("a delivery request", () => {
  test.each([
    [{ test: true, webhookUrl: "http://localhost:9/x" }],
    [{ leadId: "not even a uuid", endpointId: "nor this" }],
    [
      {
        payload: {},
        webhookUrl: "https://example.com",
        webhookSecret: "plain text é",
      },
    ],
    [{ ...valid, webhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }],
    [
      {
        ...valid,
        event: "lead_qualified",
        format: "zapier",
        campaignName: "",
        customFields: { a: [1] },
        idempotencyKey: "k",
      },
    ],
  ])("is accepted: %j", (request) => {
    expect(pathsOf(request)).toEqual([]);
  });

  test.each([
    [
      "neither source nor target",
      {},
      ["leadId", "payload", "test", "webhookUrl", "endpointId"],
    ],
    ["two sources", { ...valid, leadId: "x" }, ["leadId", "test"]],
    [
      "two targets",
      { ...valid, endpointId: "x" },
      ["webhookUrl", "endpointId"],
    ],
    [
      "a secret for an endpoint that has its own",
      { test: true, endpointId: "x", webhookSecret: "s" },
      ["webhookSecret"],
    ],
    ["test that is not true", { ...valid, test: false }, ["test"]],
    [
      "a list as payload",
      { payload: [], webhookUrl: valid.webhookUrl },
      ["payload"],
    ],
    [
      "a text as payload",
      { payload: "{}", webhookUrl: valid.webhookUrl },
      ["payload"],
    ],
    [
      "a payload nested too deeply",
      { payload: nested(101), webhookUrl: valid.webhookUrl },
      ["payload"],
    ],
    [
      "custom fields nested too deeply",
      { ...valid, customFields: nested(101) },
      ["customFields"],
    ],
    [
      "an ftp URL",
      { ...valid, webhookUrl: "ftp://example.com" },
      ["webhookUrl"],
    ],
    [
      "a URL with a password",
      { ...valid, webhookUrl: "https://a:b@example.com" },
      ["webhookUrl"],
    ],
    [
      "a URL with a blank",
      { ...valid, webhookUrl: " https://example.com" },
      ["webhookUrl"],
    ],
    [
      "a URL with a NUL",
      { ...valid, webhookUrl: "https://example.com/\0" },
      ["webhookUrl", "webhookUrl"],
    ],
    [
      "a URL of 2049 characters",
      { ...valid, webhookUrl: `https://example.com/${"x".repeat(2029)}` },
      ["webhookUrl"],
    ],
    ["an empty secret", { ...valid, webhookSecret: "" }, ["webhookSecret"]],
    [
      "a whsec_ secret that is not base64",
      { ...valid, webhookSecret: "whsec_no base64!" },
      ["webhookSecret"],
    ],
    [
      "a campaign with half a surrogate pair",
      { ...valid, campaignName: "\ud800" },
      ["campaignName"],
    ],
    ["an unknown event", { ...valid, event: "lead_lost" }, ["event"]],
    ["an unknown format", { ...valid, format: "xml" }, ["format"]],
    [
      "an empty idempotency key",
      { ...valid, idempotencyKey: "" },
      ["idempotencyKey"],
    ],
    ["a field that is not known", { ...valid, webhook_secret: "s" }, [""]],
    [
      "a whsec_ secret that is empty",
      { ...valid, webhookSecret: "whsec_" },
      ["webhookSecret"],
    ],
    ["no object", null, [""]],
  ])("is refused with %s", (_what, request, paths) => {
    expect(pathsOf(request)).toEqual(paths);
  });

  test("may be nested a hundred levels deep", () => {
    expect(
      pathsOf({ payload: nested(99), webhookUrl: valid.webhookUrl }),
    ).toEqual([]);
  });
});
