// No secret is left readable anywhere, whatever becomes of its delivery.
import { randomUUID } from "node:crypto";
import { unwrap } from "@pipeline/shared/database";
import { createSealer, isSealed } from "@pipeline/shared/seal";
import { expect, test } from "vitest";
import { type OwnStream, ownStreamForTest } from "../support/own-stream.ts";
import { receiverForTest } from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

const MARKER = "marker-7c0ffee";
const encryptionKey = Buffer.alloc(32, 5).toString("base64");

/** Everything that Redis holds of the stream, as text. */
async function redisDump({ redis, streamKey }: OwnStream): Promise<string> {
  const parts: unknown[] = [];
  for (const name of await redis.keys(`*${streamKey}*`)) {
    parts.push(name);
    const type = await redis.type(name);
    if (type === "stream") parts.push(await redis.xrange(name, "-", "+"));
    if (type === "hash") parts.push(await redis.hgetall(name));
    if (type === "zset") parts.push(await redis.zrange(name, "0", "-1"));
    if (type === "string") parts.push(await redis.get(name));
  }
  return JSON.stringify(parts);
}

test("secrets are sealed in Redis and Postgres, and in no log line, error text or dead letter", async () => {
  const receiver = await receiverForTest((request, response) => {
    response.writeHead(Number(request.path.slice(1))).end();
  });
  const own = await ownStreamForTest({
    leavesWork: true, // one retry is left waiting, to be looked into
    env: {
      WEBHOOK_ENCRYPTION_KEY: encryptionKey,
      RETRY_DELAYS_SECONDS: "600",
      LOG_LEVEL: "trace",
    },
  });
  const secrets = {
    secret: `${MARKER} secret`,
    headers: JSON.stringify({ authorization: `Bearer ${MARKER}` }),
  };
  const id = {
    ok: randomUUID(),
    retry: randomUUID(),
    final: randomUUID(),
    bad: randomUUID(),
    misnamed: randomUUID(),
    reserved: randomUUID(),
    header: randomUUID(),
    endpoint: randomUUID(),
    credentials: randomUUID(),
  };
  const endpoint = {
    id: randomUUID(),
    name: "test",
    url: `${receiver.url}/404`,
    secret: `${MARKER} endpoint`,
    headers: { authorization: MARKER },
  };
  await unwrap(own.client.from("webhook_endpoints").insert(endpoint).select());
  const add = (name: keyof typeof id, fields: Record<string, string>) =>
    own.add({ id: id[name], payload: "{}", ...fields });
  await Promise.all([
    add("ok", { webhook_url: `${receiver.url}/200`, ...secrets }),
    add("retry", { webhook_url: `${receiver.url}/503`, ...secrets }),
    add("final", { webhook_url: `${receiver.url}/404`, ...secrets }),
    add("bad", { webhook_url: "nowhere", ...secrets }),
    add("misnamed", {
      webhook_url: "nowhere",
      webhook_secret: MARKER,
      apiKey: MARKER,
    }),
    add("reserved", {
      webhook_url: receiver.url,
      headers: JSON.stringify({ host: MARKER }),
    }),
    add("header", {
      webhook_url: receiver.url,
      headers: JSON.stringify({ "x-a": `${MARKER}\r\n` }),
    }),
    add("credentials", { webhook_url: `https://user:${MARKER}@x.test/` }),
    add("endpoint", { endpoint_id: endpoint.id }),
  ]);
  await until("all is settled and recorded", async () => {
    const { stream, retries, log } = await own.work();
    return stream === 0 && retries === 1 && log === 0;
  });
  expect((await own.row(id.retry))?.status).toBe("sent");
  expect(await own.deadLetters()).toHaveLength(7);

  const rows = await Promise.all(
    Object.values(id).map((each) => own.row(each)),
  );
  const attempts = await Promise.all(
    Object.values(id).map((each) => own.attempts(each)),
  );
  const metrics = await (await fetch(`${own.services[0]!.url}/metrics`)).text();
  await own.services[0]!.stop(); // so that its last lines are there
  const everything = {
    redis: await redisDump(own),
    rows: JSON.stringify(rows),
    attempts: JSON.stringify(attempts),
    metrics,
    output: own.output(),
  };
  for (const [name, text] of Object.entries(everything)) {
    expect(text.length, name).toBeGreaterThan(100);
    expect(text.includes(MARKER), `${name} shows a secret`).toBe(false);
  }

  // They are there, though, for the next attempt and for a replay.
  const sealer = createSealer(encryptionKey);
  const waiting = JSON.parse(
    (await own.redis.hget(own.keys.retriesData, id.retry))!,
  ) as Record<string, string>;
  expect(isSealed(waiting["secret"]!)).toBe(true);
  expect(sealer.open(waiting["secret"]!)).toBe(secrets.secret);
  expect(sealer.open(waiting["headers"]!)).toBe(secrets.headers);
  expect(sealer.open(String((await own.row(id.ok))?.["secret"]))).toBe(
    secrets.secret,
  );
});

test("logs tell the origin of a delivery, and neither its path nor its payload", async () => {
  const receiver = await receiverForTest();
  const own = await ownStreamForTest({ env: { LOG_LEVEL: "trace" } });
  const id = await own.add({
    webhook_url: `${receiver.url}/hooks/catch/${MARKER}?key=${MARKER}`,
    payload: JSON.stringify({ email: `${MARKER}@example.test` }),
  });
  await own.ended(id);
  await own.services[0]!.stop();
  const line = own.services[0]!.lines.find((each) =>
    each.includes("delivery.attempted"),
  );
  expect(JSON.parse(line!)).toMatchObject({
    deliveryId: id,
    origin: receiver.url,
    attempt: 1,
    outcome: "success",
    status: 200,
    durationMs: expect.any(Number),
  });
  expect(own.output()).not.toContain(MARKER);
});
