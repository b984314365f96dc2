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

test("an entry that was read more than five times takes no sixth reader with it", async () => {
  const receiver = await receiverForTest();
  const own = await ownStreamForTest({ dispatchers: 0, env });
  const fields = { webhook_url: receiver.url, payload: "{}", secret: "s3cret" };
  const [deadly, unlucky] = [await own.add(fields), await own.add(fields)];
  const [first, second] = (await readAndDie(own)) as [string, string];
  for (const [entryId, times] of [
    [first, "5"],
    [second, "4"],
  ] as const) {
    await own.redis.xclaim(
      own.streamKey,
      DISPATCHERS_GROUP,
      "dead",
      "0",
      entryId,
      "RETRYCOUNT",
      times,
      "JUSTID",
    );
  }
  await own.start("dispatcher");
  const reason = "crash_loop: read 6 times and never settled";
  expect(await own.ended(deadly)).toMatchObject({
    status: "failed",
    last_error: reason,
  });
  expect(await own.ended(unlucky)).toMatchObject({ status: "success" });
  expect(receiver.of(deadly)).toEqual([]);
  const [letter] = await own.deadLetters();
  expect(letter).toMatchObject({ webhook_url: receiver.url, reason });
  expect(letter?.["secret"]).toMatch(/^sealed:/);
  await until("all is recorded", own.isIdle);
  await removeDead(own);
});
