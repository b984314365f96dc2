// A receiver that says "not so fast" gets less, and everything in the end.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { ownStreamForTest } from "../support/own-stream.ts";
import { receiverForTest } from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

const COUNT = 200;

const start = (env: Record<string, string> = {}) =>
  ownStreamForTest({
    schedulers: 1,
    env: {
      RATE_LIMIT_PER_SECOND: "0",
      RETRY_DELAYS_SECONDS: "5,25,125",
      ...env,
    },
  });

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) =>
    server.listen(0, "127.0.0.1", 1, resolve),
  );
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test.each(["5", "100"])(
  "200 deliveries with %s slots to a receiver that takes ten a second and answers 429 beyond",
  async (concurrency) => {
    let second = 0;
    let taken = 0;
    const accepted = new Set<string>();
    const receiver = await receiverForTest(({ id }, response) => {
      const now = Math.floor(Date.now() / 1000);
      if (now !== second) [second, taken] = [now, 0];
      if (++taken > 10) {
        response.writeHead(429).end();
        return;
      }
      accepted.add(id);
      response.end();
    });
    const own = await start({ DISPATCHER_CONCURRENCY: concurrency });
    for (let n = 0; n < COUNT; n++)
      await own.add({ webhook_url: `${receiver.url}/x`, payload: "{}" });
    await until("all arrived", () => accepted.size === COUNT, 100_000);
    expect(receiver.requests.length).toBeLessThan(2 * COUNT);
    expect(await own.redis.xlen(own.keys.dead)).toBe(0);
  },
  130_000,
);

test("200 deliveries to a receiver that takes one connection at a time", async () => {
  const accepted = new Set<string>();
  let open = 0;
  const server = createServer((request, response) => {
    request.resume();
    setTimeout(() => {
      accepted.add(String(request.headers["webhook-id"]));
      response.end();
    }, 20);
  });
  server.on("connection", (socket) => {
    if (++open > 1) socket.resetAndDestroy();
    socket.once("close", () => open--);
  });
  const url = await listen(server);
  const own = await start({ DISPATCHER_CONCURRENCY: "100" });
  for (let n = 0; n < COUNT; n++)
    await own.add({ webhook_url: `${url}/x`, payload: "{}" });
  await until("all arrived", () => accepted.size === COUNT, 100_000);
  expect(await own.redis.xlen(own.keys.dead)).toBe(0);
}, 130_000);

test("Retry-After holds back the whole endpoint, at every dispatcher", async () => {
  let isClosed = false;
  const receiver = await receiverForTest((_request, response) => {
    if (isClosed) response.writeHead(503, { "retry-after": "4" });
    response.end();
  });
  const own = await ownStreamForTest({
    dispatchers: 2,
    schedulers: 1,
    env: { RATE_LIMIT_PER_SECOND: "0" },
  });
  const add = () =>
    own.add({ webhook_url: `${receiver.url}/x`, payload: "{}" });
  await add();
  await until("the first arrived", () => receiver.requests.length === 1);
  isClosed = true;
  await add();
  await until("it was refused", () => receiver.requests.length === 2);
  await sleep(1200); // by then every dispatcher has looked
  isClosed = false;
  for (let n = 0; n < 20; n++) await add();
  await until("all arrived", () => receiver.requests.length === 23, 20_000);
  const refusedAt = receiver.requests[1]!.at;
  const early = receiver.requests
    .slice(2)
    .filter(({ at }) => at < refusedAt + 3900);
  expect(early).toEqual([]);
});
