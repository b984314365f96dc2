// From XADD to the receiver and to Postgres.
import { randomUUID } from "node:crypto";
import { unwrap } from "@pipeline/shared/database";
import { isSealed } from "@pipeline/shared/seal";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import { receiverForTest } from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

let own: OwnStream;
beforeAll(async () => {
  own = await startOwnStream();
});
afterAll(() => own.close());

async function createLead(): Promise<string> {
  const id = randomUUID();
  const lead = { id, email: `${id}@example.test`, status: "email_captured" };
  await unwrap(own.client.from("leads").insert(lead).select());
  return id;
}

async function leadStatus(id: string): Promise<unknown> {
  const found = own.client.from("leads").select("status").eq("id", id);
  return ((await unwrap(found)) as { status: string }[])[0]?.status;
}

test.each([
  ["ASCII", '{"hello":"world"}'],
  [
    "odd spacing, big and exact numbers, emoji, escapes",
    '{ "a" :\t1.0,\r\n "b":12345678901234567890,"c":1e2 , "d":"Zoë 😀 \\u00e9\\/" } ',
  ],
  ["a bare string", '"text"'],
  ["null", "null"],
])(
  "the shortest entry arrives byte for byte and is recorded: %s",
  async (_, payload) => {
    const receiver = await receiverForTest();
    const before = Date.now();
    const id = await own.add({ webhook_url: `${receiver.url}/hook`, payload });
    const row = await own.ended(id);

    expect(receiver.requests).toHaveLength(1);
    const request = receiver.requests[0]!;
    expect(request.id).toBe(id);
    expect(request.method).toBe("POST");
    expect(request.body).toEqual(Buffer.from(payload));
    expect(request.headers).toMatchObject({
      "content-type": "application/json",
      "content-length": String(Buffer.byteLength(payload)),
      "accept-encoding": "identity",
      "user-agent": expect.stringMatching(/^webhook-pipeline\//),
      "x-webhook-version": "1.0",
    });
    expect(request.headers).not.toHaveProperty("webhook-signature");
    expect(request.headers).not.toHaveProperty("x-webhook-signature");

    expect(row).toMatchObject({
      webhook_url: `${receiver.url}/hook`,
      payload: JSON.parse(payload) as unknown,
      status: "success",
      attempt: 1,
      max_attempts: 4,
      response_status: 200,
      response_body: "status 200",
      last_error: null,
      next_retry_at: null,
      signature: null,
      secret: null,
      lead_id: null,
    });
    expect(Date.parse(String(row["sent_at"]))).toBeGreaterThanOrEqual(before);
    const [attempt, ...more] = await own.attempts(id);
    expect(more).toEqual([]);
    expect(attempt).toMatchObject({
      attempt_number: 1,
      response_status: 200,
      response_body: "status 200",
      error: null,
      error_type: null,
      will_retry: false,
      retry_at: null,
    });
    expect(attempt?.duration_ms).toBeGreaterThanOrEqual(0);
  },
);

test("every optional field takes effect and is kept", async () => {
  const receiver = await receiverForTest();
  const leadId = await createLead();
  const clientId = randomUUID();
  const id = randomUUID();
  const added = await own.add({
    id: id.toUpperCase(),
    webhook_url: `${receiver.url}/zap/1?key=a%20b&c=%C3%A9`,
    payload: "{}",
    lead_id: leadId,
    client_id: clientId,
    event: "lead_qualified",
    secret: "s3cret",
    format: "makecom",
    headers: '{"X-Api-Key":"k-1","User-Agent":"theirs/2"}',
    attempt: "2",
    max_attempts: "7",
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    v: "1",
    unknown_field: "is ignored",
  });
  expect(added).toBe(id.toUpperCase());
  const row = await own.ended(id);
  const request = receiver.requests[0]!;
  expect(request.id).toBe(id);
  expect(request.path).toBe("/zap/1?key=a%20b&c=%C3%A9");
  expect(request.headers).toMatchObject({
    "x-api-key": "k-1",
    "user-agent": "theirs/2",
    "webhook-signature": expect.stringMatching(/^v1,/),
  });
  expect(row).toMatchObject({
    lead_id: leadId,
    client_id: clientId,
    event: "lead_qualified",
    format: "makecom",
    attempt: 2,
    max_attempts: 7,
    signature: request.headers["webhook-signature"],
  });
  expect(isSealed(String(row["secret"]))).toBe(true);
  expect(isSealed(String(row["headers"]))).toBe(true);
  expect((await own.attempts(id)).map((each) => each.attempt_number)).toEqual([
    2,
  ]);
});

test("a success sets the lead's status, a failure does not", async () => {
  const receiver = await receiverForTest((request, response) => {
    response.writeHead(request.path === "/ok" ? 200 : 404).end();
  });
  const [happy, unhappy] = [await createLead(), await createLead()];
  const ids = [
    await own.add({
      webhook_url: `${receiver.url}/ok`,
      payload: "{}",
      lead_id: happy,
    }),
    await own.add({
      webhook_url: `${receiver.url}/no`,
      payload: "{}",
      lead_id: unhappy,
    }),
  ];
  await Promise.all(ids.map((id) => own.ended(id)));
  expect(await leadStatus(happy)).toBe("webhook_sent");
  expect(await leadStatus(unhappy)).toBe("email_captured");
});

test("a lead that does not exist stops neither the delivery nor its record", async () => {
  const receiver = await receiverForTest();
  const id = await own.add({
    webhook_url: receiver.url,
    payload: "{}",
    lead_id: randomUUID(),
  });
  expect(await own.ended(id)).toMatchObject({
    status: "success",
    lead_id: null,
  });
});

test("a delivery added twice under one id is sent once", async () => {
  const receiver = await receiverForTest(async (_request, response) => {
    await until(
      "both entries were read",
      async () => (await own.work()).stream === 1,
    );
    response.end();
  });
  const entry = { id: randomUUID(), webhook_url: receiver.url, payload: "{}" };
  await Promise.all([own.add(entry), own.add(entry)]);
  await own.ended(entry.id);
  await until("nothing is left", own.isIdle);
  expect(receiver.requests).toHaveLength(1);
});

test("an entry that is added before the group exists is delivered", async () => {
  const receiver = await receiverForTest();
  await own.redis.xgroup("DESTROY", own.streamKey, "dispatchers");
  const id = await own.add({ webhook_url: receiver.url, payload: "{}" });
  await own.ended(id);
  expect(receiver.requests).toHaveLength(1);
});

test("the response is kept in part: 1000 characters without NUL, and its useful headers", async () => {
  const receiver = await receiverForTest((_request, response) => {
    response.writeHead(200, {
      "x-request-id": "r-1",
      "set-cookie": "cart=private",
    });
    response.end(`\0${"é".repeat(3000)}`);
  });
  const id = await own.add({ webhook_url: receiver.url, payload: "{}" });
  const row = await own.ended(id);
  expect(row["response_body"]).toBe("é".repeat(999));
  const [attempt] = await own.attempts(id);
  expect(attempt?.["response_headers"]).toMatchObject({
    "x-request-id": "r-1",
  });
  expect(JSON.stringify(attempt)).not.toContain("private");
});
