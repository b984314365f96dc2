import { expect, test } from "vitest";
import {
  deadLetter,
  decodeDeadLetter,
  parseDeadLetter,
  recordLetter,
} from "./dead-letter.ts";

const id = "00000000-0000-4000-8000-000000000001";
const now = Date.parse("2026-02-02T02:40:00.000Z");
const decode = (fields: Record<string, string>) =>
  decodeDeadLetter("s", `${now}-3`, Object.entries(fields).flat());
const webhook_url = "https://hooks.example.com/secret/path";

test("a delivery that was given up comes back as it was", () => {
  const own = { id, webhook_url, payload: "{}", attempt: "4" };
  const letter = decode(deadLetter("delivery", own, "HTTP 500", now));
  expect(letter).toEqual({
    entryId: `${now}-3`,
    kind: "delivery",
    deliveryId: id,
    reason: "HTTP 500",
    failedAt: "2026-02-02T02:40:00.000Z",
    fields: own,
  });
  expect(parseDeadLetter("s", letter)).toMatchObject({
    ok: true,
    delivery: { id, webhookUrl: webhook_url, payload: "{}", attempt: 4 },
  });
});

test("an entry that never parsed says what it lacks", () => {
  const letter = decode(deadLetter("entry", { id }, "x", now));
  expect(letter).toMatchObject({ kind: "entry", deliveryId: id });
  expect(parseDeadLetter("s", letter)).toMatchObject({
    ok: false,
    issues: [{ path: "payload" }, { path: "webhook_url" }],
  });
});

test("a refused record names its delivery, and is nothing that can be sent", () => {
  const entry = { deliveryId: id, record: "{}" };
  const letter = decode(recordLetter(entry, "23514", now));
  expect(letter).toMatchObject({
    kind: "record",
    deliveryId: id,
    failedAt: "2026-02-02T02:40:00.000Z",
  });
  expect(parseDeadLetter("s", letter)).toMatchObject({
    ok: false,
    issues: [{ path: "record" }],
  });
});

test.each([
  ["a promotion's, in ms", { id, failed_at: String(now) }],
  ["none", { id }],
  ["an empty one", { id, failed_at: "" }],
])(
  "of letters without a kind, failed_at is a date whatever it was: %s",
  (_, fields) => {
    expect(decode(fields).failedAt).toBe("2026-02-02T02:40:00.000Z");
  },
);

test.each([
  [{ delivery_id: id, record: "{}" }, "record"],
  [{ id, webhook_url, payload: "{}" }, "delivery"],
  [{ id, endpoint_id: id, payload: "{}" }, "delivery"],
  [{ id, data: "[" }, "entry"],
])("letters written before they had a kind get one: %j", (fields, kind) => {
  expect(decode(fields)).toMatchObject({ kind, deliveryId: id });
});
