// Somebody sets the machine's clock by an hour, forward and back: time stamps change and nothing else.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { ownStreamForTest } from "../support/own-stream.ts";
import { receiverForTest } from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

const STEP_CLOCK = new URL("../support/step-clock.mjs", import.meta.url).href;
const RATE = 20;

test("clocks that are set an hour forward and back change nothing but time stamps", async () => {
  const failing = await receiverForTest(({ seenBefore }, response) => {
    response.writeHead(seenBefore === 0 ? 503 : 200).end();
  });
  const asking = await receiverForTest(({ seenBefore }, response) => {
    if (seenBefore === 0) {
      const at = new Date(Date.now() + 3000).toUTCString();
      response.writeHead(503, { "retry-after": at });
    }
    response.end();
  });
  const healthy = await receiverForTest();
  const own = await ownStreamForTest({
    dispatchers: 2,
    schedulers: 1,
    env: {
      NODE_OPTIONS: `--import=${STEP_CLOCK}`,
      RATE_LIMIT_PER_SECOND: String(RATE),
      CLAIM_IDLE_MS: "3000",
    },
  });
  const ids: string[] = [];
  const add = async (url: string) => {
    const id = randomUUID();
    ids.push(id);
    await own.add({ id, webhook_url: url, payload: "{}" });
    return id;
  };

  for (let step = 0; step < 3; step++) {
    // Each an endpoint of its own: Retry-After holds a whole endpoint.
    await add(`${failing.url}/${step}`);
    await add(`${asking.url}/${step}`);
    for (const { child } of own.services) child.kill("SIGWINCH");
    for (let n = 0; n < 20; n++) {
      await add(healthy.url);
      await sleep(100);
    }
    await sleep(1000);
  }

  await until("all arrived", () => healthy.requests.length === 60, 20_000);
  const rows = await Promise.all(ids.map((id) => own.ended(id, 20_000)));
  expect(rows.map(({ status }) => status)).toEqual(ids.map(() => "success"));
  // The first retry comes after a second, and not earlier than Retry-After asks.
  for (const [receiver, leastMs, mostMs] of [
    [failing, 1000, 3000],
    [asking, 1900, 6000],
  ] as const)
    for (const first of receiver.requests.filter((r) => r.seenBefore === 0)) {
      const [, second, ...more] = receiver.of(first.id);
      expect(more).toEqual([]);
      expect(second!.at - first.at).toBeGreaterThanOrEqual(leastMs);
      expect(second!.at - first.at).toBeLessThan(mostMs);
    }
  // Nothing was sent twice, and none of it late.
  expect(new Set(healthy.requests.map(({ id }) => id)).size).toBe(60);
  const instants = [healthy, failing, asking]
    .flatMap(({ requests }) => requests)
    .map(({ at }) => at)
    .toSorted((a, b) => a - b);
  const inOneSecond = instants.map(
    (at) => instants.filter((other) => other >= at && other < at + 1000).length,
  );
  expect(Math.max(...inOneSecond)).toBeLessThanOrEqual(RATE * 1.2 + 1);
  for (const id of ids)
    for (const attempt of await own.attempts(id)) {
      expect(attempt["duration_ms"]).toBeGreaterThanOrEqual(0);
      expect(attempt["duration_ms"]).toBeLessThan(5000);
    }
});
