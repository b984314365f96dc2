// How much at once and how much per second, over one dispatcher and over several.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type OwnStream, ownStreamForTest } from "../support/own-stream.ts";
import type { RunningService } from "../support/processes.ts";
import {
  type Answer,
  receiverForTest,
  type TestReceiver,
} from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

/** What is measured suffers when the machine has other things to do; what is broken fails three times. */
const MEASURED = { retry: 2 } as const;

/** Adds entries in one go; resolves to their ids. */
const addMany = (own: OwnStream, { url }: TestReceiver, count: number) =>
  Promise.all(
    Array.from({ length: count }, (_, n) =>
      own.add({ webhook_url: `${url}/${n % 7}`, payload: `{"n":${n}}` }),
    ),
  );

const allArrived = ({ requests }: TestReceiver, count: number) =>
  until(`${count} deliveries arrived`, () => requests.length >= count, 30_000);

const attemptsBy = ({ lines }: RunningService) =>
  lines.filter((line) => line.includes("delivery.attempted")).length;

/** The most of these instants that fall into any one second. */
function mostPerSecond(instants: number[]): number {
  const sorted = instants.toSorted((a, b) => a - b);
  let most = 0;
  for (let first = 0, last = 0; last < sorted.length; last++) {
    while (sorted[last]! - sorted[first]! >= 1000) first++;
    most = Math.max(most, last - first + 1);
  }
  return most;
}

test(
  "fifty a second over three dispatchers: no second sees a fifth more, and the long run loses nothing",
  MEASURED,
  async () => {
    const receiver = await receiverForTest();
    const own = await ownStreamForTest({ dispatchers: 3 });
    // A process's first requests are slow, which would look like a burst of the later ones.
    await addMany(own, receiver, 30);
    await until("all is warm", own.isIdle);
    receiver.requests.length = 0;
    const ids = await addMany(own, receiver, 400);
    await allArrived(receiver, ids.length);
    const instants = receiver.requests.map(({ at }) => at);
    expect(mostPerSecond(instants)).toBeLessThanOrEqual(60);
    const seconds = (Math.max(...instants) - Math.min(...instants)) / 1000;
    expect(ids.length / seconds).toBeGreaterThanOrEqual(0.98 * 50);
    await until("all is recorded", own.isIdle);
    expect(new Set(receiver.requests.map(({ id }) => id))).toEqual(
      new Set(ids),
    );
    expect(receiver.requests).toHaveLength(ids.length);
  },
);

test("three dispatchers share the work, and nothing is sent twice", async () => {
  const receiver = await receiverForTest((_request, response) =>
    sleep(20).then(() => void response.end()),
  );
  const own = await ownStreamForTest({
    dispatchers: 3,
    env: { RATE_LIMIT_PER_SECOND: "0" },
  });
  const ids = await addMany(own, receiver, 300);
  await allArrived(receiver, ids.length);
  await until("all is recorded", own.isIdle);
  expect(receiver.requests).toHaveLength(ids.length);
  expect(new Set(receiver.requests.map(({ id }) => id))).toEqual(new Set(ids));
  await Promise.all(own.services.map((service) => service.stop())); // for their last lines
  const shares = own.services.map(attemptsBy);
  expect(shares.reduce((sum, share) => sum + share)).toBe(ids.length);
  for (const share of shares) expect(share).toBeGreaterThan(ids.length / 10);
});

test("a dispatcher sends five at once and never more, whatever the receivers", async () => {
  let atOnce = 0;
  let most = 0;
  const answer: Answer = async (_request, response) => {
    most = Math.max(most, ++atOnce);
    await sleep(100);
    atOnce--;
    response.end();
  };
  const receivers = [
    await receiverForTest(answer),
    await receiverForTest(answer),
    await receiverForTest(answer),
  ];
  const own = await ownStreamForTest({ env: { RATE_LIMIT_PER_SECOND: "0" } });
  // In turns: one receiver alone gets no more than four of the five slots.
  for (let n = 0; n < 30; n++)
    for (const receiver of receivers) await addMany(own, receiver, 1);
  for (const receiver of receivers) await allArrived(receiver, 30);
  expect(most).toBe(5);
  await until("all is recorded", own.isIdle);
});

test(
  "DISPATCHER_CONCURRENCY and RATE_LIMIT_PER_SECOND are obeyed",
  MEASURED,
  async () => {
    const receiver = await receiverForTest((_request, response) =>
      sleep(300).then(() => void response.end()),
    );
    const own = await ownStreamForTest({
      env: { DISPATCHER_CONCURRENCY: "12", RATE_LIMIT_PER_SECOND: "20" },
    });
    await addMany(own, receiver, 60);
    await allArrived(receiver, 60);
    const instants = receiver.requests.map(({ at }) => at);
    expect(mostPerSecond(instants)).toBeLessThanOrEqual(24);
    expect(receiver.mostAtOnce()).toBeLessThanOrEqual(12);
    expect(receiver.mostAtOnce()).toBeGreaterThan(5);
    await until("all is recorded", own.isIdle);
  },
);

test(
  "an endpoint's own rate limit spreads its deliveries and leaves the others alone",
  MEASURED,
  async () => {
    const receiver = await receiverForTest();
    const own = await ownStreamForTest({
      schedulers: 1,
      env: { RATE_LIMIT_PER_SECOND: "0", ENDPOINT_RATE_LIMIT_PER_SECOND: "10" },
    });
    const url = (path: string) => `${receiver.url}/${path}?key=marker-key`;
    await Promise.all(
      Array.from({ length: 33 }, (_, n) =>
        own.add({
          webhook_url: url(n < 30 ? "busy" : `idle${n}`),
          payload: "{}",
        }),
      ),
    );
    await allArrived(receiver, 33);
    const busy = receiver.requests.filter(({ path }) =>
      path.startsWith("/busy"),
    );
    const first = Math.min(...receiver.requests.map(({ at }) => at));
    expect(busy).toHaveLength(30);
    // Each is due to the ms, but promoted within 250 ms of that.
    expect(mostPerSecond(busy.map(({ at }) => at))).toBeLessThanOrEqual(14);
    for (const { at, path } of receiver.requests)
      if (!path.startsWith("/busy")) expect(at - first).toBeLessThan(1500);
    expect((await own.redis.keys(`*${own.streamKey}*`)).join()).not.toContain(
      "busy",
    );
    await until("all is recorded", own.isIdle);
    expect(receiver.requests).toHaveLength(33);
  },
);
