// What receivers verify: Standard Webhooks with its own library, and the header of the product's existing receivers.
import { createHmac, randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Webhook } from "standardwebhooks";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import {
  answerWith,
  type Received,
  receiverForTest,
} from "../support/test-receiver.ts";

let own: OwnStream;
beforeAll(async () => {
  own = await startOwnStream({ schedulers: 1 });
});
afterAll(() => own.close());

const SECRETS = {
  "a whsec_ secret": `whsec_${randomBytes(24).toString("base64")}`,
  "a plain secret": "correct horse battery staple",
  "a plain secret that is not ASCII": "geheimer Schlüssel 🔑",
};
const BODIES = {
  "an ASCII body": '{"event":"lead_captured","n":1.10}',
  "a body that is not ASCII": '{"name":"Zoë Łukasz 😀 你好"}',
};

const verifier = (secret: string) =>
  secret.startsWith("whsec_")
    ? new Webhook(secret)
    : new Webhook(Buffer.from(secret, "utf8"), { format: "raw" });

function verify({ body, headers }: Received, secret: string): unknown {
  return verifier(secret).verify(
    body.toString("utf8"),
    headers as Record<string, string>,
  );
}

async function deliver(secret: string, payload: string): Promise<Received> {
  const receiver = await receiverForTest();
  const id = await own.add({ webhook_url: receiver.url, payload, secret });
  await own.ended(id);
  return receiver.requests[0]!;
}

test.each(
  Object.keys(SECRETS).flatMap((secret) =>
    Object.keys(BODIES).map((body) => [secret, body] as const),
  ),
)("%s verifies %s", async (secretName, bodyName) => {
  const secret = SECRETS[secretName as keyof typeof SECRETS];
  const payload = BODIES[bodyName as keyof typeof BODIES];
  const request = await deliver(secret, payload);
  expect(verify(request, secret)).toEqual(JSON.parse(payload));
  expect(() => verify(request, `${secret.slice(0, -4)}AAAA`)).toThrow(
    "No matching signature found",
  );
  expect(() => verify({ ...request, body: Buffer.from("{}") }, secret)).toThrow(
    "No matching signature found",
  );
  // Existing receivers take the secret as the text it is, with or without whsec_.
  expect(request.headers["x-webhook-signature"]).toBe(
    createHmac("sha256", secret).update(request.body).digest("hex"),
  );
  expect(request.headers["x-webhook-timestamp"]).toBe(
    request.headers["webhook-timestamp"],
  );
});

test("a retry carries the same id, its own timestamp and a signature of its own that verifies", async () => {
  const receiver = await receiverForTest((request, response) =>
    answerWith(request.seenBefore === 0 ? 500 : 200)(request, response),
  );
  const secret = SECRETS["a plain secret"];
  const id = await own.add({
    webhook_url: receiver.url,
    payload: "{}",
    secret,
  });
  await own.ended(id);
  const [first, second] = receiver.requests as [Received, Received];
  expect(second.id).toBe(first.id);
  expect(Number(second.headers["webhook-timestamp"])).toBeGreaterThan(
    Number(first.headers["webhook-timestamp"]),
  );
  expect(second.headers["webhook-signature"]).not.toBe(
    first.headers["webhook-signature"],
  );
  verify(first, secret);
  verify(second, secret);
  expect((await own.row(id))?.["signature"]).toBe(
    second.headers["webhook-signature"],
  );
});
