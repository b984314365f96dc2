// Whose fault is it that a dispatcher died? Of all that was in flight, only what kills its dispatcher alone.
import type { ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type OwnStream, ownStreamForTest } from "../support/own-stream.ts";
import { answerWith, receiverForTest } from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

// With so many slots the share of an endpoint that has not answered yet is more than ten.
const env = { CLAIM_IDLE_MS: "1000", DISPATCHER_CONCURRENCY: "200" };

const ownStream = (overrides: Record<string, string> = {}) =>
  ownStreamForTest({
    dispatchers: 0,
    env: { ...env, ...overrides },
    leavesWork: true, // the consumers of the dead
  });

const killAll = (own: OwnStream) =>
  Promise.all(
    own.running("dispatcher").map((service) => service.stop("SIGKILL")),
  );

/** As Kubernetes does: there is a dispatcher again soon after each death, until `isOver`. */
async function restartUntil(
  own: OwnStream,
  isOver: () => Promise<boolean>,
): Promise<number> {
  let starts = 0;
  await until(
    "it is over",
    async () => {
      if (await isOver()) return true;
      if (own.running("dispatcher").length === 0) {
        starts++;
        await own.start("dispatcher").catch(() => undefined); // killed while it started
      }
      return false;
    },
    100_000,
  );
  return starts;
}

const endedAs = async (own: OwnStream, ids: string[], status: string) => {
  const rows = await Promise.all(ids.map((id) => own.row(id)));
  return rows.every((row) => row?.status === status);
};

test("six dispatchers are killed with ten healthy deliveries in flight: all ten arrive", async () => {
  const receiver = await receiverForTest((_request, response) =>
    sleep(1500).then(() => void response.end()),
  );
  const own = await ownStream();
  const ids = await Promise.all(
    Array.from({ length: 10 }, () =>
      own.add({ webhook_url: receiver.url, payload: "{}" }),
    ),
  );
  for (let kill = 1; kill <= 6; kill++) {
    const before = receiver.requests.length;
    await own.start("dispatcher");
    // The first two times all ten are in flight, then one at a time.
    const expected = kill <= 2 ? 10 : 1;
    await until(
      `the requests of dispatcher ${kill}`,
      () => receiver.requests.length >= before + expected,
    );
    await killAll(own);
  }
  await own.start("dispatcher");
  await until(
    "all ten have arrived",
    () => endedAs(own, ids, "success"),
    60_000,
  );
  await until("nothing is left", own.isIdle);
  expect(await own.deadLetters()).toEqual([]);
  // Twice together, once or twice alone, and once to the end.
  expect(Math.max(...ids.map((id) => receiver.of(id).length))).toBeLessThan(6);
}, 150_000);

test("what kills each of its dispatchers is convicted after five deaths, and those in flight beside it arrive", async () => {
  let poison = "";
  const receiver = await receiverForTest(async ({ id }, response) => {
    if (id === poison) await killAll(own);
    else await answerSlowly(response);
  });
  const own = await ownStream();
  const innocent = await Promise.all(
    Array.from({ length: 6 }, () =>
      own.add({ webhook_url: receiver.url, payload: "{}" }),
    ),
  );
  const secret = "s3cret";
  poison = await own.add({ webhook_url: receiver.url, payload: "{}", secret });
  await restartUntil(
    own,
    async () =>
      (await endedAs(own, [poison], "failed")) &&
      (await endedAs(own, innocent, "success")),
  );
  expect(receiver.of(poison)).toHaveLength(5);
  const reason =
    "crash_loop: its dispatcher died 3 times while nothing else was in flight";
  expect(await own.row(poison)).toMatchObject({ last_error: reason });
  const [letter, ...more] = await own.deadLetters();
  expect(more).toEqual([]);
  expect(letter).toMatchObject({ id: poison, kind: "delivery", reason });
  expect(letter?.["secret"]).toMatch(/^sealed:/);
  expect(await own.redis.keys(`{${own.streamKey}}:mark:*`)).toHaveLength(1);
}, 150_000);

const answerSlowly = (response: ServerResponse) =>
  sleep(300).then(() => void response.end());

test("one that kills late, when the others have been let in again, is found out as well", async () => {
  let poison = "";
  const receiver = await receiverForTest(async ({ id }, response) => {
    if (id !== poison) return answerWith(200)({} as never, response);
    await sleep(1300);
    await killAll(own);
  });
  const own = await ownStream({ ATTEMPT_TIMEOUT_MS: "3000" });
  poison = await own.add({ webhook_url: receiver.url, payload: "{}" });
  const neighbours: string[] = [];
  const adding = setInterval(() => {
    void own
      .add({ webhook_url: `${receiver.url}/other`, payload: "{}" })
      .then((id) => neighbours.push(id));
  }, 200);
  await restartUntil(own, () => endedAs(own, [poison], "failed")).finally(() =>
    clearInterval(adding),
  );
  // Twice beside others, once beyond its first second alone, three times alone.
  expect(receiver.of(poison)).toHaveLength(6);
  await until("the neighbours have arrived", () =>
    endedAs(own, neighbours, "success"),
  );
  expect(await own.deadLetters()).toHaveLength(1);
}, 150_000);
