// Supabase or Redis away: deliveries go on or wait, nothing is lost, and the dispatcher says how it is.
import { randomUUID } from "node:crypto";
import type { Stack } from "@pipeline/dev-stack/stack";
import { startStack } from "@pipeline/dev-stack/start-stack";
import { unwrap } from "@pipeline/shared/database";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import type { RunningService } from "../support/processes.ts";
import { receiverForTest } from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

let stack: Stack;
let own: OwnStream;
let dispatcher: RunningService;
beforeAll(async () => {
  stack = await startStack({ kind: inject("stack").kind });
  own = await startOwnStream({
    stack,
    schedulers: 1,
    env: { CLAIM_IDLE_MS: "1000" },
    leavesWork: true, // a dispatcher that ends in an outage stays a consumer until the retry-scheduler cleans up
  });
  dispatcher = own.services[0]!;
});
afterAll(async () => {
  await own.close();
  await stack.stop();
});

async function ask(path: string) {
  const response = await fetch(dispatcher.url + path);
  return { status: response.status, text: await response.text() };
}

test("while Supabase is away deliveries go on, and their records follow once it is back, by whichever dispatcher", async () => {
  const receiver = await receiverForTest();
  const add = (more: Record<string, string> = {}) =>
    own.add({ webhook_url: receiver.url, payload: "{}", ...more });
  await own.ended(await add());
  const endpoint = {
    id: randomUUID(),
    name: "test",
    url: `${receiver.url}/endpoint`,
  };
  await unwrap(own.client.from("webhook_endpoints").insert(endpoint).select());

  await stack.postgrest.stop();
  const ids = await Promise.all(Array.from({ length: 20 }, () => add()));
  // An endpoint that was never looked up: with a URL of its own the entry is sent there, without one it waits.
  const fallback = await add({ endpoint_id: endpoint.id });
  const waiting = await own.add({ endpoint_id: endpoint.id, payload: "{}" });
  await until("they arrived", () => receiver.requests.length === 1 + 20 + 1);
  await until(
    "they wait to be recorded",
    async () => (await own.work()).log === 21,
  );
  await until("the other waits", async () => (await own.work()).waiting === 1);
  expect(await ask("/healthz")).toMatchObject({ status: 200 });
  const ready = await ask("/readyz");
  expect(ready.status).toBe(503);
  expect(JSON.parse(ready.text)).toMatchObject({
    status: "not ready",
    checks: {
      redis: "ok",
      supabase: expect.stringMatching(/^Supabase answered 503|fetch failed/),
    },
  });
  expect((await ask("/metrics")).text).toMatch(
    /^webhook_unrecorded_attempts 21$/m,
  );

  const faults = own
    .output()
    .split("\n")
    .filter((line) => /"level":"(warn|error)"/.test(line));
  expect(faults.length).toBeLessThan(20);
  expect(await dispatcher.stop()).toBe(0);
  await stack.postgrest.start();
  dispatcher = await own.start("dispatcher");
  for (const id of [...ids, fallback, waiting]) {
    const row = await own.ended(id);
    expect(row).toMatchObject({ status: "success", attempt: 1 });
  }
  await until("the log is drained", own.isIdle);
  expect(receiver.of(waiting).map(({ path }) => path)).toEqual(["/endpoint"]);
  expect(receiver.of(fallback).map(({ path }) => path)).toEqual(["/"]);
  expect(receiver.requests).toHaveLength(1 + 20 + 2);
});

test("while Redis is away the dispatcher lives and says so, and goes on when Redis is back", async () => {
  const receiver = await receiverForTest();
  await stack.redis.stop();
  expect((await ask("/healthz")).status).toBe(200);
  const ready = await ask("/readyz");
  expect(ready.status).toBe(503);
  expect(JSON.parse(ready.text)).toMatchObject({ checks: { supabase: "ok" } });
  const page = await ask("/metrics");
  expect(page.status).toBe(200);
  expect(page.text).toMatch(/^webhook_stream_waiting nan$/im);
  expect(page.text).toContain("webhook_attempts_total");

  await stack.redis.start();
  const ids = await Promise.all(
    Array.from({ length: 10 }, () =>
      own.add({ webhook_url: receiver.url, payload: "{}" }),
    ),
  );
  for (const id of ids) expect((await own.ended(id)).status).toBe("success");
  expect(receiver.requests).toHaveLength(10);
  await until("it is ready", async () => (await ask("/readyz")).status === 200);
});
