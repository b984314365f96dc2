// Deliveries to an endpoint in `webhook_endpoints`: its present settings count, not those of the entry.
import { createHmac, randomUUID } from "node:crypto";
import { unwrap } from "@pipeline/shared/database";
import { createSealer } from "@pipeline/shared/seal";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import {
  answerWith,
  type Received,
  receiverForTest,
} from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

const encryptionKey = Buffer.alloc(32, 3).toString("base64");
const sealer = createSealer(encryptionKey);
let own: OwnStream;
beforeAll(async () => {
  own = await startOwnStream({
    schedulers: 1,
    env: { WEBHOOK_ENCRYPTION_KEY: encryptionKey },
  });
});
afterAll(() => own.close());

interface Endpoint {
  id: string;
  url: string;
  secret: string | null;
  headers: unknown;
  active: boolean;
}

async function create(settings: Partial<Endpoint>): Promise<string> {
  const id = randomUUID();
  const row = { id, name: "test", ...settings };
  await unwrap(own.client.from("webhook_endpoints").insert(row).select());
  return id;
}

const change = (id: string, settings: Partial<Endpoint>) =>
  unwrap(
    own.client.from("webhook_endpoints").update(settings).eq("id", id).select(),
  );

async function endpoint(id: string) {
  const found = own.client.from("webhook_endpoints").select("*").eq("id", id);
  const [row] = (await unwrap(found)) as Record<string, unknown>[];
  return row;
}

const add = (endpoint_id: string, more: Record<string, string> = {}) =>
  own.add({ endpoint_id, payload: "{}", ...more });
const legacy = (secret: string) =>
  createHmac("sha256", secret).update("{}").digest("hex");

test("an entry that names its endpoint only goes there, with the endpoint's secret and headers", async () => {
  const receiver = await receiverForTest();
  const id = await add(
    await create({
      url: `${receiver.url}/hook`,
      secret: "endpoint secret",
      headers: { "X-Api-Key": "k-1" },
    }),
  );
  const row = await own.ended(id);
  expect(row.status).toBe("success");
  expect(receiver.requests[0]!.path).toBe("/hook");
  expect(receiver.requests[0]!.headers).toMatchObject({
    "x-api-key": "k-1",
    "x-webhook-signature": legacy("endpoint secret"),
  });
});

test("sealed secrets and headers of an endpoint are opened", async () => {
  const receiver = await receiverForTest();
  const id = await add(
    await create({
      url: receiver.url,
      secret: sealer.seal("sealed secret"),
      headers: sealer.seal('{"x-key":"sealed"}'),
    }),
  );
  await own.ended(id);
  expect(receiver.requests[0]!.headers).toMatchObject({
    "x-key": "sealed",
    "x-webhook-signature": legacy("sealed secret"),
  });
});

test("a retry goes to the endpoint's present URL with its present secret and headers", async () => {
  const old = await receiverForTest(answerWith(500));
  const moved = await receiverForTest();
  const endpointId = await create({
    url: old.url,
    secret: "old",
    headers: { "x-key": "old" },
  });
  // What the entry says of itself counts for nothing while the endpoint is known.
  const id = await add(endpointId, { webhook_url: old.url, secret: "entry's" });
  await until("the first attempt", () => old.requests.length > 0);
  await change(endpointId, {
    url: moved.url,
    secret: "new",
    headers: { "x-key": "new" },
  });
  const row = await own.ended(id);
  expect(row).toMatchObject({ status: "success", attempt: 2 });
  expect(old.requests).toHaveLength(1);
  const [retried] = moved.requests as [Received];
  expect(retried.headers).toMatchObject({
    "x-key": "new",
    "x-webhook-signature": legacy("new"),
  });
});

test("410 disables the endpoint, and later deliveries to it fail without being sent", async () => {
  const receiver = await receiverForTest(answerWith(410));
  const endpointId = await create({ url: receiver.url });
  const first = await own.ended(await add(endpointId));
  expect(first).toMatchObject({ status: "failed", last_error: "HTTP 410" });
  expect(await endpoint(endpointId)).toMatchObject({
    active: false,
    disabled_reason: "the receiver answered 410 Gone",
  });
  const later = await add(endpointId, { webhook_url: receiver.url });
  expect(await own.ended(later)).toMatchObject({
    status: "failed",
    last_error: "endpoint_id: the endpoint is disabled",
    response_status: null,
  });
  expect((await own.attempts(later))[0]?.error_type).toBe("invalid");
  expect(receiver.requests).toHaveLength(1);

  await change(endpointId, { active: true });
  await until("deliveries are sent again", async () => {
    await own.ended(await add(endpointId));
    return receiver.requests.length === 2;
  });
});

test("an endpoint that does not exist: the entry's own URL serves, and without one the delivery fails", async () => {
  const receiver = await receiverForTest();
  const withUrl = await add(randomUUID(), { webhook_url: receiver.url });
  expect((await own.ended(withUrl)).status).toBe("success");
  const without = await add(randomUUID());
  expect(await own.ended(without)).toMatchObject({
    status: "failed",
    last_error: "endpoint_id: there is no such endpoint",
  });
});

test.each([
  ["no URL at all", "not a url"],
  ["another protocol", "ftp://127.0.0.1/hook"],
  ["credentials", "http://user:marker@127.0.0.1/hook"],
])(
  "an endpoint whose URL is %s fails its deliveries at once",
  async (_, url) => {
    const id = await add(await create({ url }));
    expect(await own.ended(id)).toMatchObject({
      status: "failed",
      attempt: 1,
      last_error:
        "endpoint_id: the endpoint's url must be an http or https URL without credentials",
    });
  },
);

test.each([
  [
    "secret",
    { secret: "sealed:v1:AAAA" },
    "secret: was not sealed with this WEBHOOK_ENCRYPTION_KEY",
  ],
  [
    "headers",
    { headers: "sealed:v1:AAAA" },
    "headers: were not sealed with this WEBHOOK_ENCRYPTION_KEY",
  ],
  [
    "reserved header",
    { headers: { Host: "x" } },
    "headers: Host is set by the dispatcher",
  ],
  [
    "header that breaks the line",
    { headers: { "x-a": "1\r\nx-b: 2" } },
    "headers: x-a must be a string that HTTP allows",
  ],
])(
  "an endpoint with a wrong %s fails its deliveries with the reason",
  async (_, settings, reason) => {
    const receiver = await receiverForTest();
    const id = await add(await create({ url: receiver.url, ...settings }));
    expect(await own.ended(id)).toMatchObject({
      status: "failed",
      last_error: reason,
    });
    expect(receiver.requests).toEqual([]);
  },
);
