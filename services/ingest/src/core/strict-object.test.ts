import { describe, expect, test } from "vitest";
import { z } from "zod";
import { nearestName, strictObject, unknownFields } from "./strict-object.ts";

const names = ["leadId", "payload", "webhookUrl", "webhookSecret", "format"];

test.each([
  ["webhook_secret", "webhookSecret"],
  ["WEBHOOKSECRET", "webhookSecret"],
  ["webhookSecrt", "webhookSecret"],
  ["secret", "webhookSecret"],
  ["url", "webhookUrl"],
  ["lead-id", "leadId"],
  ["paylaod", "payload"],
  ["formatt", "format"],
  ["colour", null],
  ["x", null],
  ["_", null],
  ["", null],
])("the name nearest to %j is %j", (name, nearest) => {
  expect(nearestName(name, names)).toBe(nearest);
});

test("a very long name is compared by its beginning only", () => {
  expect(nearestName("z".repeat(200_000), names)).toBeNull();
});

describe("a strict object", () => {
  const schema = strictObject({ leadId: z.string(), format: z.string() });

  test("names every unknown field, each with what was probably meant", () => {
    const { error } = schema.safeParse({
      lead_id: "x",
      nonsense: 1,
      format: "raw",
      leadId: "y",
    });
    const [issue] = error!.issues;
    if (issue?.code !== "unrecognized_keys") throw new Error(issue?.code);
    expect(unknownFields(issue)).toEqual([
      { path: ["lead_id"], message: "is not known; did you mean leadId?" },
      {
        path: ["nonsense"],
        message: "is not known; the fields are leadId, format",
      },
    ]);
  });

  test("takes what it knows", () => {
    expect(schema.safeParse({ leadId: "x", format: "raw" }).success).toBe(true);
  });
});
