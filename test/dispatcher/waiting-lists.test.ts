// What waits in its endpoint's list when something else applies to it as well.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type OwnStream, ownStreamForTest } from "../support/own-stream.ts";
import { receiverForTest } from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

/** Adds `count` entries in few round trips. */
async function addMany(
  own: OwnStream,
  count: number,
  fields: (index: number) => Record<string, string>,
): Promise<void> {
  for (let from = 0; from < count; from += 1000) {
    const pipeline = own.redis.pipeline();
    for (let n = from; n < Math.min(count, from + 1000); n++)
      pipeline.xadd(own.streamKey, "*", ...Object.entries(fields(n)).flat());
    await pipeline.exec();
  }
}

test("an endpoint's rate limit holds after it has hung as well", async () => {
  const PER_SECOND = 20;
  let hangs = false;
  const open: (() => void)[] = [];
  const receiver = await receiverForTest(async (_request, response) => {
    if (hangs) await new Promise<void>((resolve) => open.push(resolve));
    response.end();
  });
  const own = await ownStreamForTest({
    schedulers: 1,
    env: {
      DISPATCHER_CONCURRENCY: "20",
      RATE_LIMIT_PER_SECOND: "0",
      ENDPOINT_RATE_LIMIT_PER_SECOND: String(PER_SECOND),
      ATTEMPT_TIMEOUT_MS: "30000",
    },
  });
  const fields = () => ({ webhook_url: `${receiver.url}/x`, payload: "{}" });
  await addMany(own, 20, fields);
  await until("it is proven", () => receiver.requests.length === 20);
  hangs = true;
  await addMany(own, 200, fields);
  await sleep(12_000);
  hangs = false;
  for (const end of open) end();
  const from = Date.now();
  await until("all arrived", () => receiver.requests.length >= 220, 60_000);
  const instants = receiver.requests
    .map(({ at }) => at)
    .filter((at) => at > from)
    .toSorted((a, b) => a - b);
  let most = 0;
  for (let first = 0, last = 0; last < instants.length; last++) {
    while (instants[last]! - instants[first]! >= 1000) first++;
    most = Math.max(most, last - first + 1);
  }
  console.log(`${instants.length} after recovery, at most ${most} in a second`);
  expect(most).toBeLessThanOrEqual(1.5 * PER_SECOND);
}, 120_000);

test(
  "a long list drains about as fast as its endpoint takes deliveries otherwise, once it has recovered",
  { retry: 2, timeout: 200_000 },
  async () => {
    const COUNT = 5000;
    let hangs = true;
    const open: (() => void)[] = [];
    const receiver = await receiverForTest(async (_request, response) => {
      if (hangs) await new Promise<void>((resolve) => open.push(resolve));
      response.end();
    });
    const own = await ownStreamForTest({
      schedulers: 1,
      env: { DISPATCHER_CONCURRENCY: "5", RATE_LIMIT_PER_SECOND: "0" },
    });
    const fields = () => ({ webhook_url: `${receiver.url}/x`, payload: "{}" });
    const arrived = async (count: number) => {
      const from = Date.now();
      await until(
        "all arrived",
        () => receiver.requests.length >= count,
        90_000,
      );
      return (Date.now() - from) / 1000;
    };
    await addMany(own, COUNT, fields);
    await until(
      "they wait in the list",
      async () => (await own.redis.hlen(own.keys.waitingData)) > COUNT - 20,
      30_000,
    );
    hangs = false;
    for (const end of open) end();
    const fromList = await arrived(COUNT);
    await until(
      "the list is forgotten",
      async () => (await own.redis.exists(own.keys.waiting)) === 0,
    );
    await addMany(own, COUNT, fields);
    const otherwise = await arrived(2 * COUNT);
    console.log(`${COUNT} in ${fromList} s, otherwise in ${otherwise} s`);
    expect(fromList).toBeLessThan(2.5 * otherwise);
  },
);
