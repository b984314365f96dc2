// A dispatcher's end: finished work is settled, unfinished work is another's at once.
import { setTimeout as sleep } from "node:timers/promises";
import { DISPATCHERS_GROUP } from "@pipeline/shared/queue/keys";
import { expect, test } from "vitest";
import { ownStreamForTest } from "../support/own-stream.ts";
import type { RunningService } from "../support/processes.ts";
import { receiverForTest } from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

/** Of its name in the group, what tells it from other dispatchers. */
const pidOf = ({ pid }: RunningService) => `-${pid}-`;

async function stopped(service: RunningService, signal?: NodeJS.Signals) {
  const startedAt = performance.now();
  const code = await service.stop(signal);
  return { code, ms: performance.now() - startedAt };
}

test.each(["SIGTERM", "SIGINT"] as const)(
  "an idle dispatcher that waits for work ends at once on %s",
  async (signal) => {
    const own = await ownStreamForTest();
    const { code, ms } = await stopped(own.services[0]!, signal);
    expect(code).toBe(0);
    expect(ms).toBeLessThan(3000);
    expect(await own.consumers(DISPATCHERS_GROUP)).toEqual([]);
  },
);

test("on SIGTERM under load what is in flight is finished, nothing is lost or sent twice, and the rest is another's", async () => {
  const receiver = await receiverForTest((_request, response) =>
    sleep(400).then(() => void response.end()),
  );
  const own = await ownStreamForTest({
    dispatchers: 2,
    env: { RATE_LIMIT_PER_SECOND: "0", SHUTDOWN_GRACE_MS: "8000" },
  });
  const [leaving, staying] = own.services as [RunningService, RunningService];
  const ids = await Promise.all(
    Array.from({ length: 80 }, (_, n) =>
      own.add({ webhook_url: `${receiver.url}/${n % 3}`, payload: "{}" }),
    ),
  );
  await until("it is under way", () => receiver.requests.length >= 20);
  const { code, ms } = await stopped(leaving);
  expect(code).toBe(0);
  expect(ms).toBeLessThan(4000);
  const consumers = await own.consumers(DISPATCHERS_GROUP);
  expect(consumers).toEqual([expect.stringContaining(pidOf(staying))]);

  await until("all is recorded", own.isIdle);
  expect(receiver.requests).toHaveLength(ids.length);
  const rows = await Promise.all(ids.map((id) => own.row(id)));
  expect(rows.every((row) => row?.status === "success")).toBe(true);
  expect(leaving.lines.join("\n")).not.toMatch(
    /"level":"(warn|error|fatal)".*(faulted|incomplete)/,
  );
});

test("what is not finished within the grace is sent by another at once, as the same attempt", async () => {
  const receiver = await receiverForTest((request, response) => {
    if (request.seenBefore > 0) response.end(); // the first time it never answers
  });
  const own = await ownStreamForTest({
    env: {
      SHUTDOWN_GRACE_MS: "2500",
      RATE_LIMIT_PER_SECOND: "0",
      DISPATCHER_CONCURRENCY: "40", // a new endpoint gets five of them
    },
  });
  const leaving = own.services[0]!;
  const ids = await Promise.all(
    Array.from({ length: 5 }, () =>
      own.add({ webhook_url: receiver.url, payload: "{}" }),
    ),
  );
  await until("all are in flight", () => receiver.requests.length === 5);
  await own.start("dispatcher");
  const { code, ms } = await stopped(leaving);
  expect(code).toBe(0);
  expect(ms).toBeLessThan(2500 + 1000);
  const exitedAt = Date.now();
  await until(
    "another has sent them",
    () => receiver.requests.length === 10,
    5000,
  );
  for (const { at } of receiver.requests.slice(5))
    expect(at - exitedAt).toBeLessThan(2000);

  await until("all is recorded", own.isIdle);
  for (const id of ids) {
    expect(await own.row(id)).toMatchObject({ status: "success", attempt: 1 });
    expect(await own.attempts(id)).toHaveLength(1);
  }
  expect(leaving.lines.join("\n")).not.toContain('"level":"error"');
});

test("work that waits for its endpoint's share goes to another at once", async () => {
  let isHanging = true;
  const receiver = await receiverForTest((request, response) => {
    if (request.path !== "/hangs" || !isHanging) response.end();
  });
  const own = await ownStreamForTest({
    env: { SHUTDOWN_GRACE_MS: "2500", RATE_LIMIT_PER_SECOND: "0" },
  });
  const leaving = own.services[0]!;
  const add = (path: string) =>
    own.add({ webhook_url: `${receiver.url}${path}`, payload: "{}" });
  await own.ended(await add("/ok")); // beside it a new endpoint gets one slot of five
  const ids = await Promise.all([add("/hangs"), add("/hangs"), add("/hangs")]);
  await until("one is in flight", () => receiver.requests.length === 2);
  expect((await stopped(leaving)).code).toBe(0);
  isHanging = false;
  await own.start("dispatcher");
  await until("all is recorded", own.isIdle);
  expect(receiver.requests).toHaveLength(1 + 1 + 3);
  for (const id of ids)
    expect(await own.row(id)).toMatchObject({ status: "success", attempt: 1 });
});
