// Entries by unskilled hands: each becomes a dead letter that names what is wrong, and stops nothing else.
import { randomUUID } from "node:crypto";
import { createSealer, isSealed } from "@pipeline/shared/seal";
import type { Fields } from "@pipeline/shared/queue/fields";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import {
  startTestReceiver,
  type TestReceiver,
} from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

let own: OwnStream;
let receiver: TestReceiver;
beforeAll(async () => {
  receiver = await startTestReceiver();
  own = await startOwnStream();
});
afterAll(async () => {
  await own.close();
  await receiver.close();
});

const url = "http://127.0.0.1:1/hook";
const good = { webhook_url: url, payload: "{}" };
const sealedElsewhere = createSealer(
  Buffer.alloc(32, 9).toString("base64"),
).seal("s");

/** Per entry, what its reason must say. */
const BAD: [Fields, RegExp][] = [
  [{ webhook_url: url }, /^payload: is required: JSON text$/],
  [{ webhook_url: url, payload: "" }, /^payload: must not be empty/],
  [{ webhook_url: url, payload: "{broken" }, /^payload: must be valid JSON$/],
  [{ webhook_url: url, payload: "NaN" }, /^payload: must be valid JSON$/],
  [
    { webhook_url: url, payload: JSON.stringify("é".repeat(131_072)) },
    /^payload: must be at most 262144 bytes$/,
  ],
  [{ payload: "{}" }, /^webhook_url: is required \(or endpoint_id\)$/],
  [{ webhook_url: "", payload: "{}" }, /^webhook_url: is required/],
  [
    { webhook_url: "example.com/hook", payload: "{}" },
    /^webhook_url: must be an http or https URL/,
  ],
  [
    { webhook_url: "ftp://example.com/", payload: "{}" },
    /^webhook_url: must be an http/,
  ],
  [{ webhook_url: "http://", payload: "{}" }, /^webhook_url: must be an http/],
  [
    { webhook_url: "http://user:pass@example.com/", payload: "{}" },
    /^webhook_url: .* without credentials$/,
  ],
  [
    { webhook_url: `http://x.test/${"y".repeat(3000)}`, payload: "{}" },
    /^webhook_url: must be at most 2048/,
  ],
  [{ ...good, id: "7" }, /^id: must be a UUID$/],
  [{ ...good, lead_id: "7" }, /^lead_id: must be a UUID$/],
  [{ ...good, client_id: "acme" }, /^client_id: must be a UUID$/],
  [{ payload: "{}", endpoint_id: "crm" }, /^endpoint_id: must be a UUID$/],
  [
    { ...good, attempt: "0" },
    /^attempt: must be a whole number from 1 to 9999$/,
  ],
  [{ ...good, attempt: "1.5" }, /^attempt: must be a whole/],
  [{ ...good, attempt: "many" }, /^attempt: must be a whole/],
  [{ ...good, max_attempts: "-1" }, /^max_attempts: must be a whole/],
  [{ ...good, max_attempts: "10000" }, /^max_attempts: must be a whole/],
  [
    { ...good, format: "telegram" },
    /^format: must be one of raw, zapier, makecom, convertkit$/,
  ],
  [{ ...good, event: "x".repeat(101) }, /^event: must be at most 100/],
  [{ ...good, secret: "x".repeat(5000) }, /^secret: must be at most 4096/],
  [
    { ...good, secret: sealedElsewhere },
    /^secret: was not sealed with this WEBHOOK_ENCRYPTION_KEY$/,
  ],
  [{ ...good, headers: "X-Key: 1" }, /^headers: must be a JSON object$/],
  [{ ...good, headers: '["x"]' }, /^headers: must be a JSON object$/],
  [
    { ...good, headers: '{"Host":"x"}' },
    /^headers: Host is set by the dispatcher$/,
  ],
  [
    { ...good, headers: '{"X-A":"1\\r\\nX-B: 2"}' },
    /^headers: X-A must be a string that HTTP allows$/,
  ],
  [
    { ...good, headers: '{"X A":"1"}' },
    /^headers: has a name that is not an HTTP header name$/,
  ],
  [{ ...good, headers: sealedElsewhere }, /^headers: were not sealed/],
  [
    { ...good, traceparent: "x".repeat(101) },
    /^traceparent: must be at most 100/,
  ],
  [
    { ...good, v: "2" },
    /^v: must be 1, the version this dispatcher understands$/,
  ],
  [
    { hello: "world" },
    /^payload: is required: JSON text; webhook_url: is required \(or endpoint_id\)$/,
  ],
  [
    { webhook_url: "x", payload: "{", attempt: "x", v: "9" },
    /^(?=.*webhook_url: )(?=.*attempt: )(?=.*v: )/,
  ],
  [{ __proto__x: "1", constructor: "2" }, /^payload: is required/],
];

test("every kind of bad entry becomes a dead letter that names its fault, and its neighbours are delivered", async () => {
  const ids: string[] = [];
  const neighbours: string[] = [];
  for (const [fields] of BAD) {
    ids.push(await own.add(fields));
    neighbours.push(
      await own.add({ webhook_url: receiver.url, payload: "{}" }),
    );
  }
  await until("all is settled and recorded", own.isIdle);

  const letters = await own.deadLetters();
  expect(letters).toHaveLength(BAD.length);
  for (const [i, [fields, reason]] of BAD.entries()) {
    const id = fields["id"] === "7" ? null : ids[i]!;
    const row = id === null ? null : await own.row(id);
    if (row !== null) {
      expect(row).toMatchObject({ status: "failed", attempt: 1 });
      expect(row.last_error).toMatch(reason);
    }
    const matching = letters.filter(
      (letter) =>
        reason.test(letter["reason"]!) &&
        (fields["attempt"] ?? "1") === (letter["attempt"] ?? "1"),
    );
    expect(matching, JSON.stringify(fields).slice(0, 200)).not.toEqual([]);
    expect(matching[0]!["failed_at"]).toMatch(/^\d{4}-\d\d-\d\dT/);
  }
  const rows = await Promise.all(neighbours.map((id) => own.row(id)));
  expect(rows.map((row) => row?.status)).toEqual(
    neighbours.map(() => "success"),
  );
  expect(receiver.requests.map(({ id }) => id).sort()).toEqual(
    neighbours.sort(),
  );
});

test("a dead letter keeps the entry as it was, its secrets sealed", async () => {
  const fields = {
    id: randomUUID(),
    webhook_url: "nowhere",
    payload: '{"a":1}',
    secret: "plain",
    headers: '{"x-key":"plain"}',
    campaign: "spring",
  };
  await own.add(fields);
  await own.ended(fields.id);
  const letter = (await own.deadLetters()).find(({ id }) => id === fields.id)!;
  const { kind, reason, failed_at, secret, headers, ...rest } = letter;
  const { secret: _secret, headers: _headers, ...others } = fields;
  expect(rest).toEqual(others);
  expect(kind).toBe("entry");
  expect(isSealed(secret!) && isSealed(headers!)).toBe(true);
  expect(reason).toMatch(/^webhook_url: /);
  expect(Date.parse(failed_at!)).not.toBeNaN();
});

test("bytes that are no UTF-8 are refused as a payload", async () => {
  await own.redis.xadd(
    own.streamKey,
    "*",
    "webhook_url",
    url,
    "payload",
    Buffer.from([0x7b, 0xff, 0xfe, 0x7d]),
  );
  await until("it is settled", own.isIdle);
  expect((await own.deadLetters()).at(-1)?.["reason"]).toBe(
    "payload: must be valid JSON",
  );
});

test("bytes that are no UTF-8 are not sent as other text, and the dead letter keeps them", async () => {
  const latin1 = Buffer.from('{"name":"Zoë"}', "latin1");
  const sent = receiver.requests.length;
  const id = randomUUID();
  await own.redis.xadd(
    own.streamKey,
    "*",
    "webhook_url",
    receiver.url,
    "id",
    id,
    "event",
    Buffer.from("é", "latin1"),
    "payload",
    latin1,
  );
  expect((await own.ended(id)).status).toBe("failed");
  const letter = (await own.deadLetters()).find((each) => each["id"] === id);
  expect(letter).toMatchObject({
    kind: "entry",
    reason: "event: must be UTF-8 text; payload: must be UTF-8 text",
    payload_base64: latin1.toString("base64"),
  });
  expect(letter).not.toHaveProperty("payload");
  expect(receiver.requests).toHaveLength(sent);
});

test("a replacement character that the producer wrote is text like any other", async () => {
  const payload = '{"name":"\ufffd"}';
  const sent = receiver.requests.length;
  await own.redis.xadd(
    own.streamKey,
    "*",
    "webhook_url",
    receiver.url,
    "payload",
    payload,
  );
  await until("it arrived", () => receiver.requests.length > sent);
  expect(receiver.requests.at(-1)?.body.toString()).toBe(payload);
});

test("an entry of thousands of fields is kept as one text", async () => {
  const many = Object.fromEntries(
    Array.from({ length: 3000 }, (_, n) => [`field ${n}`, "x"]),
  );
  const id = await own.add({ ...many, webhook_url: "nowhere", payload: "{}" });
  expect((await own.ended(id)).last_error).toMatch(/^webhook_url: /);
  expect((await own.deadLetters()).at(-1)?.["reason"]).toMatch(
    /^webhook_url: /,
  );
});

test("of a field that is given twice the last one counts", async () => {
  const entryId = await own.redis.xadd(
    own.streamKey,
    "*",
    "payload",
    "{",
    "webhook_url",
    "x",
    "payload",
    '"second"',
    "webhook_url",
    receiver.url,
  );
  expect(entryId).not.toBeNull();
  await until(
    "it arrived",
    () => receiver.requests.at(-1)?.body.toString() === '"second"',
  );
});
