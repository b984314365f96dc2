import { expect, test } from "vitest";
import { describeIssues, letterFields, salvageDelivery } from "./malformed.ts";

const ID = "0b8a4a5e-1111-4222-8333-444455556666";
const seal = (text: string) => `sealed(${text.length})`;

test("issues are told field by field", () => {
  expect(
    describeIssues([
      { path: "webhook_url", message: "is required (or endpoint_id)" },
      { path: "", message: "is odd" },
    ]),
  ).toBe("webhook_url: is required (or endpoint_id); entry: is odd");
});

test("twenty issues are enough", () => {
  const issues = Array.from({ length: 30 }, (_, n) => ({
    path: `f${n}`,
    message: "is wrong",
  }));
  expect(describeIssues(issues).split("; ")).toHaveLength(20);
});

test("what is readable of a malformed entry is kept for its row", () => {
  const delivery = salvageDelivery("the-id", {
    webhook_url: "ftp://x.test/hook",
    endpoint_id: ID,
    lead_id: "not a uuid",
    client_id: ID.toUpperCase(),
    event: "lead_captured",
    format: "telegram",
    payload: '{ "a" : 1 }',
    secret: "s3cret",
    headers: '{"authorization":"Bearer t0ken"}',
    attempt: "3",
  });
  expect(delivery).toEqual({
    id: "the-id",
    webhookUrl: "ftp://x.test/hook",
    endpointId: ID,
    payload: '{ "a" : 1 }',
    leadId: null,
    clientId: ID,
    event: "lead_captured",
    format: "telegram",
    secret: null,
    headers: null,
    attempt: 1,
    maxAttempts: null,
    scheduleStart: 1,
    traceparent: null,
    isPersisted: false,
    isReserved: false,
  });
});

test("an empty entry is kept with a null payload", () => {
  const delivery = salvageDelivery("the-id", {});
  expect(delivery).toMatchObject({ webhookUrl: null, payload: "null" });
});

test.each([
  ["{broken", '"{broken"'],
  ["", '""'],
  ["a\0b", '"ab"'],
  ["\ud800", '"\ufffd"'],
])("the payload %j is kept as the JSON string %j", (payload, kept) => {
  expect(salvageDelivery("the-id", { payload }).payload).toBe(kept);
});

test("a huge payload is kept in part, as a JSON string", () => {
  const payload = JSON.stringify("x".repeat(400_000));
  const kept = salvageDelivery("the-id", { payload }).payload;
  expect(kept.length).toBeLessThan(310_000);
  expect(JSON.parse(kept)).toMatch(/^"x{1000}/);
});

test("texts are kept in part, without what Postgres cannot hold", () => {
  const delivery = salvageDelivery("the-id", {
    webhook_url: `http://\0${"x".repeat(5000)}`,
    event: "\udc00",
  });
  expect(delivery.webhookUrl).toHaveLength(2047);
  expect(delivery.webhookUrl).not.toContain("\0");
  expect(delivery.event).toBe("\ufffd");
});

test("a dead letter holds the entry's fields with the secret ones sealed", () => {
  expect(
    letterFields(
      { webhook_url: "x", secret: "s3cret", headers: "{}", other: "1" },
      seal,
    ),
  ).toEqual({
    webhook_url: "x",
    secret: "sealed(6)",
    headers: "sealed(2)",
    other: "1",
  });
});

test.each([
  "webhook_secret",
  "webhookSecret",
  "API_TOKEN",
  "Authorization",
  "password",
  "Headers",
])("%s, a secret by another name, is sealed in the dead letter", (name) => {
  expect(letterFields({ [name]: "s3cret" }, seal)).toEqual({
    [name]: "sealed(6)",
  });
});

test("the password in a URL is left out of the row and the dead letter", () => {
  const fields = { webhook_url: "https://user:s3cret@x.test/a@b" };
  const withoutPassword = "https://***@x.test/a@b";
  expect(salvageDelivery("the-id", fields).webhookUrl).toBe(withoutPassword);
  expect(letterFields(fields, seal)["webhook_url"]).toBe(withoutPassword);
});

test("a dead letter is bounded in fields, names and values", () => {
  const fields = Object.fromEntries(
    Array.from({ length: 200 }, (_, n) => [`f${n}`, "v"]),
  );
  expect(Object.keys(letterFields(fields, seal))).toHaveLength(50);
  const [[name, value] = ["", ""]] = Object.entries(
    letterFields({ ["n".repeat(10_000)]: "v".repeat(1_000_000) }, seal),
  );
  expect(name).toHaveLength(2048);
  expect(value).toHaveLength(300_000);
});

test("a cut through the middle of an emoji leaves no half of it", () => {
  const cut = letterFields(
    { ["n".repeat(2047) + "😀"]: "v".repeat(299_999) + "😀" },
    seal,
  );
  const [[name, value] = ["", ""]] = Object.entries(cut);
  expect([name.isWellFormed(), value.isWellFormed()]).toEqual([true, true]);
});

test("the fields of a dead letter are bounded together as well", () => {
  const fields = Object.fromEntries(
    Array.from({ length: 50 }, (_, n) => [`f${n}`, "v".repeat(300_000)]),
  );
  const values = Object.values(letterFields(fields, seal));
  expect(values.join("")).toHaveLength(1_000_000);
});
