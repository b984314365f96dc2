// What Postgres refuses concerns only itself: its neighbours are recorded, and its outcome is kept where possible.
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import {
  answerWith,
  receiverForTest,
  startTestReceiver,
  type TestReceiver,
} from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

let own: OwnStream;
let receiver: TestReceiver;
beforeAll(async () => {
  receiver = await startTestReceiver();
  own = await startOwnStream({ schedulers: 1 });
});
afterAll(async () => {
  await own.close();
  await receiver.close();
});

const add = (payload: string, more: Record<string, string> = {}) =>
  own.add({ webhook_url: receiver.url, payload, ...more });

/** Postgres refuses to look so deep. */
const TOO_DEEP = "[".repeat(60_000) + "]".repeat(60_000);

test("a payload that Postgres refuses is delivered and kept as text; its neighbours as JSON", async () => {
  const payload = TOO_DEEP;
  const neighbours: string[] = [];
  let refused = "";
  for (let n = 0; n < 10; n++) {
    if (n === 5) refused = await add(payload);
    neighbours.push(await add(`{"n":${n}}`));
  }
  const row = await own.ended(refused);
  expect(row).toMatchObject({
    status: "success",
    payload,
    response_status: 200,
  });
  expect(await own.attempts(refused)).toHaveLength(1);
  expect(receiver.of(refused)[0]!.body.toString()).toBe(payload);
  const rows = await Promise.all(neighbours.map((id) => own.ended(id)));
  expect(rows.map((each) => each["payload"])).toEqual(
    neighbours.map((_id, n) => ({ n })),
  );
  await until("the log is drained", own.isIdle);
});

test("a failed delivery that Postgres refuses tells in its error what was left out", async () => {
  const failing = await receiverForTest(answerWith(404));
  const id = await own.add({ webhook_url: failing.url, payload: TOO_DEEP });
  expect((await own.ended(id)).last_error).toMatch(
    /^HTTP 404 \(details left out: Supabase answered \d+ 54001: .*\)$/,
  );
});

test("NUL, half surrogate pairs and numbers beyond numeric in a payload are delivered and recorded as they are", async () => {
  const payload = String.raw`{"a":"x\u0000y","b":"\ud800","c":1e999999}`;
  const id = await add(payload);
  expect((await own.ended(id))["payload"]).toEqual(JSON.parse(payload));
  expect(receiver.of(id)[0]!.body.toString()).toBe(payload);
});

test("a delivery whose row is gone is delivered and not recorded; its neighbours are", async () => {
  const id = await add("{}", { id: randomUUID(), persisted: "1" });
  const neighbour = await add("{}");
  await own.ended(neighbour);
  await until("the log is drained", own.isIdle);
  expect(receiver.of(id)).toHaveLength(1);
  expect(await own.row(id)).toBeNull();
});

test("records that make no sense are set aside with the reason, and the rest go on", async () => {
  const { log } = own.keys;
  await own.redis.xadd(log, "*", "delivery_id", "d-1", "record", "{not json");
  await own.redis.xadd(log, "*", "nothing", "known");
  await own.redis.xadd(
    log,
    "*",
    "delivery_id",
    "d-2",
    "record",
    '{"delivery_id":"no uuid","attempt":1,"status":"success"}',
  );
  await own.ended(await add("{}"));
  await until("the log is drained", own.isIdle);
  const letters = (await own.deadLetters()).filter(
    (letter) => "record" in letter,
  );
  const reasons = letters.map(({ delivery_id, reason }) => [
    delivery_id,
    reason,
  ]);
  expect(reasons).toEqual(
    expect.arrayContaining([
      ["d-1", "record: must be a JSON object that names its delivery"],
      ["", "record: must be a JSON object that names its delivery"],
      ["d-2", expect.stringContaining("22P02")],
    ]),
  );
  expect(letters).toHaveLength(3);
});

test("many attempts are recorded in few calls", async () => {
  const { lines } = own.services[0]!;
  const recordedIn = () =>
    lines.filter((line) => line.includes("deliveries.recorded"));
  const before = recordedIn().length;
  const ids = await Promise.all(Array.from({ length: 100 }, () => add("{}")));
  await Promise.all(ids.map((id) => own.ended(id)));
  await until("all is told", () => {
    const counts = recordedIn()
      .slice(before)
      .map((line) => (JSON.parse(line) as { count: number }).count);
    return counts.reduce((sum, count) => sum + count, 0) >= 100;
  });
  expect(recordedIn().length - before).toBeLessThan(60);
});
