import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { type DeliveryRow, deliveryFromRow } from "./delivery-row.ts";
import {
  deriveDeliveryId,
  MAX_PAYLOAD_BYTES,
  parseEntry,
  toFields,
} from "./entries.ts";

const STREAM = "webhook:deliveries";
const minimal = {
  webhook_url: "https://example.com/hook",
  payload: '{"hello":"world"}',
};
const parse = (fields: Record<string, string>) =>
  parseEntry(STREAM, "1-1", Object.entries(fields).flat());

function issuesOf(fields: Record<string, string>) {
  const parsed = parse(fields);
  return parsed.ok
    ? []
    : parsed.issues.map(({ path, message }) => `${path} ${message}`);
}

test("the shortest entry is a first attempt with an id derived from its entry id", () => {
  const parsed = parse(minimal);
  expect(parsed).toMatchObject({
    ok: true,
    delivery: {
      id: deriveDeliveryId(STREAM, "1-1"),
      webhookUrl: minimal.webhook_url,
      payload: minimal.payload,
      attempt: 1,
      maxAttempts: null,
      scheduleStart: 1,
      secret: null,
      endpointId: null,
      isPersisted: false,
    },
  });
});

test("a derived id is a UUID, the same for the same entry and another for any other", () => {
  const id = deriveDeliveryId(STREAM, "1-1");
  expect(id).toMatch(
    /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  );
  expect(deriveDeliveryId(STREAM, "1-1")).toBe(id);
  expect(deriveDeliveryId(STREAM, "1-2")).not.toBe(id);
  expect(deriveDeliveryId("other", "1-1")).not.toBe(id);
});

test("an entry survives the way through a delivery and back", () => {
  const fields = {
    ...minimal,
    id: randomUUID(),
    endpoint_id: randomUUID(),
    lead_id: randomUUID(),
    client_id: randomUUID(),
    event: "lead_captured",
    secret: "s",
    format: "zapier",
    headers: "{}",
    attempt: "3",
    max_attempts: "9",
    schedule_start: "2",
    traceparent: "00-a-b-01",
    persisted: "1",
    reserved: "1",
    v: "1",
  };
  const parsed = parse(fields);
  expect(parsed.ok && toFields(parsed.delivery)).toEqual(fields);
});

test("empty fields count as absent, and ids are read in lower case", () => {
  const id = randomUUID();
  const parsed = parse({
    ...minimal,
    id: id.toUpperCase(),
    secret: "",
    attempt: "",
    endpoint_id: "",
  });
  expect(parsed).toMatchObject({
    ok: true,
    delivery: { id, secret: null, attempt: 1, endpointId: null },
  });
});

test("fields that nobody knows do no harm", () => {
  expect(
    parse({ ...minimal, campaign: "x", __proto__x: "y", constructor: "z" }).ok,
  ).toBe(true);
});

test("an endpoint may stand in for the URL", () => {
  expect(parse({ endpoint_id: randomUUID(), payload: "1" }).ok).toBe(true);
});

test.each([
  [{ payload: "{}" }, "webhook_url is required (or endpoint_id)"],
  [{ webhook_url: "https://a.test" }, "payload is required: JSON text"],
  [{ ...minimal, payload: "" }, "payload must not be empty"],
  [{ ...minimal, payload: "{broken" }, "payload must be valid JSON"],
  [
    { ...minimal, payload: `"${"ü".repeat(MAX_PAYLOAD_BYTES / 2)}"` },
    `payload must be at most ${MAX_PAYLOAD_BYTES} bytes`,
  ],
  [{ ...minimal, id: "7" }, "id must be a UUID"],
  [{ ...minimal, lead_id: "7" }, "lead_id must be a UUID"],
  [
    { ...minimal, webhook_url: "ftp://a.test" },
    "webhook_url must be an http or https URL without credentials",
  ],
  [
    { ...minimal, webhook_url: "https://user:pass@a.test" },
    "webhook_url must be an http or https URL without credentials",
  ],
  [
    { ...minimal, webhook_url: "https://user@a.test" },
    "webhook_url must be an http or https URL without credentials",
  ],
  [
    { ...minimal, webhook_url: "/hook" },
    "webhook_url must be an http or https URL without credentials",
  ],
  [
    { ...minimal, webhook_url: `https://a.test/${"x".repeat(2048)}` },
    "webhook_url must be at most 2048 characters",
  ],
  [
    { ...minimal, attempt: "0" },
    "attempt must be a whole number from 1 to 9999",
  ],
  [
    { ...minimal, max_attempts: "1.5" },
    "max_attempts must be a whole number from 1 to 9999",
  ],
  [
    { ...minimal, format: "xml" },
    "format must be one of raw, zapier, makecom, convertkit",
  ],
  [
    { ...minimal, v: "2" },
    "v must be 1, the version this dispatcher understands",
  ],
])("an entry that cannot be sent names its field: %#", (fields, issue) => {
  expect(issuesOf(fields as Record<string, string>)).toContain(issue);
});

test("every fault of an entry is named at once, and a good id is kept", () => {
  const id = randomUUID();
  const fields = { id, webhook_url: "nowhere", payload: "{}", attempt: "x" };
  expect(parse(fields)).toMatchObject({ ok: false, deliveryId: id, fields });
  expect(issuesOf(fields)).toHaveLength(2);
});

test("an entry without any field, or with a bad id, still has an id of its own", () => {
  for (const flat of [[], ["id", "bad"], ["payload"]]) {
    expect(parseEntry(STREAM, "5-0", flat)).toMatchObject({
      ok: false,
      deliveryId: deriveDeliveryId(STREAM, "5-0"),
    });
  }
});

const row: DeliveryRow = {
  id: randomUUID(),
  lead_id: null,
  client_id: null,
  endpoint_id: null,
  event: null,
  format: null,
  webhook_url: minimal.webhook_url,
  payload_text: '{ "a": 1 }',
  secret: "sealed:v1:x",
  headers: null,
  status: "pending",
  attempt: 1,
  max_attempts: 4,
  schedule_start: 1,
  next_retry_at: null,
};

test("a pending row asks for its attempt, a row whose attempt failed for the next one", () => {
  expect(deliveryFromRow(row)).toMatchObject({
    attempt: 1,
    maxAttempts: 4,
    payload: '{ "a": 1 }',
    secret: "sealed:v1:x",
    isPersisted: true,
  });
  expect(deliveryFromRow({ ...row, status: "sent", attempt: 2 })).toMatchObject(
    { attempt: 3 },
  );
});

test("a payload read as text keeps its numbers", () => {
  expect(
    deliveryFromRow({ ...row, payload_text: '{"n": 12345678901234567890}' })
      .payload,
  ).toBe('{"n": 12345678901234567890}');
});
