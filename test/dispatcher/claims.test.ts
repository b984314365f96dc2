// Entries whose reader died are another's after the claim idle time; those of a reader that lives are not.
import { setTimeout as sleep } from "node:timers/promises";
import { DISPATCHERS_GROUP } from "@pipeline/shared/queue/keys";
import { expect, test } from "vitest";
import { type OwnStream, ownStreamForTest } from "../support/own-stream.ts";
import { receiverForTest } from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

const CLAIM_IDLE_MS = 1000;
const env = { CLAIM_IDLE_MS: String(CLAIM_IDLE_MS) };

/** Reads everything new as a consumer that will never settle it. */
async function readAndDie({ redis, streamKey }: OwnStream): Promise<string[]> {
  await redis
    .xgroup("CREATE", streamKey, DISPATCHERS_GROUP, "0", "MKSTREAM")
    .catch(() => undefined); // it is there already
  const reply = (await redis.xreadgroup(
    "GROUP",
    DISPATCHERS_GROUP,
    "dead",
    "STREAMS",
    streamKey,
    ">",
  )) as [string, [string, string[]][]][];
  return reply[0]![1].map(([entryId]) => entryId);
}

/** The dead consumer is for the retry-scheduler to clean up. */
const removeDead = ({ redis, streamKey }: OwnStream) =>
  redis.xgroup("DELCONSUMER", streamKey, DISPATCHERS_GROUP, "dead");

test("entries that a dispatcher read before it died are delivered by another, under the same ids", async () => {
  const receiver = await receiverForTest();
  const own = await ownStreamForTest({ dispatchers: 0, env });
  const ids = await Promise.all(
    Array.from({ length: 12 }, () =>
      own.add({ webhook_url: receiver.url, payload: "{}" }),
    ),
  );
  await readAndDie(own);
  await own.start("dispatcher");
  await until("all is recorded", own.isIdle);
  expect(receiver.requests.map(({ id }) => id).sort()).toEqual(ids.sort());
  await removeDead(own);
});

test("an attempt that takes longer than the claim idle time stays with its dispatcher", async () => {
  const receiver = await receiverForTest((_request, response) =>
    sleep(3 * CLAIM_IDLE_MS).then(() => void response.end()),
  );
  // With one slot the first is busy, and what it does not keep the second one claims.
  const own = await ownStreamForTest({
    dispatchers: 2,
    env: { ...env, DISPATCHER_CONCURRENCY: "1" },
  });
  const id = await own.add({ webhook_url: receiver.url, payload: "{}" });
  expect(await own.ended(id)).toMatchObject({ status: "success", attempt: 1 });
  expect(receiver.requests).toHaveLength(1);
});

test("thousands of entries in flight elsewhere do not delay those of a dead dispatcher", async () => {
  const receiver = await receiverForTest();
  const idleMs = 3000;
  const own = await ownStreamForTest({
    dispatchers: 0,
    env: { CLAIM_IDLE_MS: String(idleMs), DISPATCHER_CONCURRENCY: "5" },
    leavesWork: true, // the thousands
  });
  const { redis, streamKey } = own;
  const live = redis.pipeline();
  for (let n = 0; n < 3000; n++)
    live.xadd(streamKey, "*", "webhook_url", receiver.url, "payload", "{}");
  await live.exec();
  const liveIds = await readAndDie(own);
  const deadIds = await Promise.all(
    Array.from({ length: 20 }, () =>
      own.add({ webhook_url: receiver.url, payload: "{}" }),
    ),
  );
  const deadEntries = await readAndDie(own);
  /** Resets idle times, as a heartbeat does. */
  const touch = (entryIds: string[]) =>
    redis.xclaim(
      streamKey,
      DISPATCHERS_GROUP,
      "live",
      0,
      ...entryIds,
      "JUSTID",
    );
  let touched = [...liveIds, ...deadEntries];
  const touching = setInterval(() => void touch(touched), idleMs / 5);
  try {
    await own.start("dispatcher");
    await touch(touched);
    touched = liveIds;
    const diedAt = performance.now();
    await until("they have arrived", () =>
      deadIds.every((id) => receiver.of(id).length === 1),
    );
    expect(performance.now() - diedAt).toBeLessThan(idleMs + 2000);
  } finally {
    clearInterval(touching);
  }
  expect(receiver.requests).toHaveLength(deadIds.length);
});

test("an entry that was deleted while it was pending is not found again for ever", async () => {
  const own = await ownStreamForTest({ dispatchers: 0, env });
  await own.add({ webhook_url: "http://127.0.0.1:1/", payload: "{}" });
  const entryIds = await readAndDie(own);
  await own.redis.xdel(own.streamKey, ...entryIds);
  await own.start("dispatcher");
  await until("nothing is pending", own.isIdle);
  expect(await own.redis.xlen(own.keys.dead)).toBe(0);
  await removeDead(own);
});

test("what was put off after its readers had died still runs alone", async () => {
  const receiver = await receiverForTest();
  const own = await ownStreamForTest({ dispatchers: 1, env });
  // As a dispatcher writes it when it puts off an entry of its second read.
  const again = await own.add({
    webhook_url: receiver.url,
    payload: "{}",
    times_read: "2",
  });
  const usual = await own.add({
    webhook_url: receiver.url,
    payload: "{}",
    times_read: "garbage",
  });
  for (const id of [again, usual])
    expect(await own.ended(id)).toMatchObject({ status: "success" });
  const alone = await until("its line of the log is here", () =>
    own.output().match(/"isAlone":true.*"entry.run_alone"/g),
  );
  expect(alone).toHaveLength(1);
  expect(receiver.requests).toHaveLength(2);
});
