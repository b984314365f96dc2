// Receivers that hang must not slow down the deliveries to others: with the default five slots, a neighbour's median stays
// below two seconds.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type OwnStream, ownStreamForTest } from "../support/own-stream.ts";
import {
  receiverForTest,
  type TestReceiver,
} from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

/** Never answers. */
const hang = () => new Promise<void>(() => undefined);

const median = (values: number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** Adds one delivery every `everyMs` to the receiver; resolves to how long each took to arrive, in ms. */
async function measure(
  own: OwnStream,
  receiver: TestReceiver,
  count: number,
  everyMs: number,
): Promise<number[]> {
  const addedAt = new Map<string, number>();
  for (let n = 0; n < count; n++) {
    const id = crypto.randomUUID();
    addedAt.set(id, Date.now());
    await own.add({
      id,
      webhook_url: `${receiver.url}/${n % 3}`,
      payload: "{}",
    });
    await sleep(everyMs);
  }
  await until(
    "the neighbour's deliveries arrived",
    () => receiver.requests.length === count,
    30_000,
  );
  return receiver.requests.map(({ id, at }) => at - addedAt.get(id)!);
}

const start = () =>
  ownStreamForTest({
    schedulers: 1,
    env: { DISPATCHER_CONCURRENCY: "5", ATTEMPT_TIMEOUT_MS: "10000" },
    leavesWork: true, // what hangs would take minutes
  });

test("twenty deliveries to one URL that hangs", async () => {
  const [own, sick, healthy] = await Promise.all([
    start(),
    receiverForTest(hang),
    receiverForTest(),
  ]);
  for (let n = 0; n < 20; n++)
    await own.add({ webhook_url: `${sick.url}/x`, payload: "{}" });
  await sleep(500);
  const waits = await measure(own, healthy, 30, 100);
  expect(median(waits)).toBeLessThan(2000);
  expect(sick.requests.length).toBeLessThanOrEqual(3);
});

test("five hosts that hang, before a neighbour that is new as well", async () => {
  const [own, healthy, ...sick] = await Promise.all([
    start(),
    receiverForTest(),
    ...Array.from({ length: 5 }, () => receiverForTest(hang)),
  ]);
  for (let n = 0; n < 50; n++)
    await own.add({ webhook_url: `${sick[n % 5]!.url}/x`, payload: "{}" });
  const waits = await measure(own, healthy, 30, 100);
  expect(median(waits)).toBeLessThan(2000);
});

test("forty paths of one host that hangs", async () => {
  const [own, sick, healthy] = await Promise.all([
    start(),
    receiverForTest(hang),
    receiverForTest(),
  ]);
  for (let n = 0; n < 80; n++)
    await own.add({ webhook_url: `${sick.url}/${n % 40}`, payload: "{}" });
  const waits = await measure(own, healthy, 30, 100);
  expect(median(waits)).toBeLessThan(2000);
  expect(sick.mostAtOnce()).toBeLessThanOrEqual(1);
});

test("five hosts that answered before begin to hang at once", async () => {
  let doHang = false;
  const answer = async (_: unknown, response: { end: () => void }) => {
    if (doHang) await hang();
    response.end();
  };
  const [own, healthy, ...sick] = await Promise.all([
    start(),
    receiverForTest(),
    ...Array.from({ length: 5 }, () => receiverForTest(answer)),
  ]);
  for (const { url } of sick)
    await own.add({ webhook_url: `${url}/x`, payload: "{}" });
  await until("they answered", () =>
    sick.every(({ requests }) => requests.length === 1),
  );
  doHang = true;
  for (let n = 0; n < 50; n++)
    await own.add({ webhook_url: `${sick[n % 5]!.url}/x`, payload: "{}" });
  const waits = await measure(own, healthy, 30, 100);
  expect(median(waits)).toBeLessThan(2000);
});

test("100,000 deliveries to a host that hangs wait in its list, in order, and cost the neighbours nothing", async () => {
  const COUNT = 100_000;
  const [own, sick, healthy] = await Promise.all([
    start(),
    receiverForTest(hang),
    receiverForTest(),
  ]);
  for (let n = 0; n < COUNT; n += 1000) {
    const pipeline = own.redis.pipeline();
    for (let i = n; i < n + 1000; i++)
      pipeline.xadd(
        own.streamKey,
        "*",
        "webhook_url",
        `${sick.url}/x`,
        "payload",
        String(i),
      );
    await pipeline.exec();
  }
  await until(
    "they wait in the list",
    async () => (await own.redis.hlen(own.keys.waitingData)) > COUNT - 20,
    30_000,
  );
  const callsBefore = await own.redis.info("commandstats");
  const waits = await measure(own, healthy, 30, 100);
  expect(median(waits)).toBeLessThan(200);
  // Nothing goes round: what waits is not touched.
  const calls = (info: string) =>
    Number(/cmdstat_hset:calls=(\d+)/.exec(info)?.[1] ?? 0);
  const touched =
    calls(await own.redis.info("commandstats")) - calls(callsBefore);
  expect(touched).toBeLessThan(2000);
  const [list] = await own.redis.keys(`${own.keys.waiting}:*=*`);
  expect(list).toBeUndefined();
});
