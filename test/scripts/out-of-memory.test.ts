// Redis out of memory under noeviction: nothing comes in, what is in gets out.
import { randomUUID } from "node:crypto";
import { createMarks } from "@pipeline/shared/queue/marks";
import { afterEach, expect, test } from "vitest";
import { fieldsOf, NO_LIMIT, useQueue } from "../support/queue.ts";

const queue = useQueue();
afterEach(() => queue().redis.config("SET", "maxmemory", 0));

const runOutOfMemory = () => queue().redis.config("SET", "maxmemory", 1);

test("refuses new deliveries whole", async () => {
  await runOutOfMemory();
  const id = randomUUID();
  await expect(
    queue().producer.enqueue([{ id, fields: fieldsOf(id) }], NO_LIMIT),
  ).rejects.toThrow("OOM");
  await expect(
    queue().reinject([{ id, dueAt: 0, fields: fieldsOf(id) }]),
  ).rejects.toThrow("OOM");
  await expect(queue().holds.holdToResend(id, null)).rejects.toThrow("OOM");
  expect(await queue().waiting()).toEqual([]);
  await queue().reconcile.unmark([id]);
  expect(await queue().home(id)).toBeNull();
});

test.each(["success", "retry", "dead", "defer"] as const)(
  "settles a %s",
  async (kind) => {
    const entry = await queue().inFlight("a");
    await runOutOfMemory();
    expect(await queue().settleOne("a", entry, { kind })).toBe("settled");
    expect(await queue().waiting()).toEqual([]);
    expect(await queue().log()).toHaveLength(1);
  },
);

test("buries an entry, and marks one that runs alone", async () => {
  const { entryId } = await queue().inFlight("a");
  const { redis, keys } = queue();
  await runOutOfMemory();
  const marks = createMarks(redis, keys, "a");
  await marks.begin(entryId, true);
  expect(await marks.find([entryId])).toEqual([{ begun: 1, alone: 1 }]);
  const burial = { entryId, isDelivered: false, reason: "why" };
  expect(await queue().consumer("a").bury(burial, 0)).toBe("settled");
  expect(await queue().waiting()).toEqual([]);
  expect(await queue().log()).toHaveLength(1);
  expect(await queue().dead()).toHaveLength(1);
});

test("holds a hundred retries and leaves the others to their rows in Postgres", async () => {
  const entries = [];
  for (let n = 0; n < 102; n++) entries.push(await queue().inFlight("a"));
  const [deferred, ...retried] = entries;
  await runOutOfMemory();
  for (const entry of retried)
    expect(await queue().settleOne("a", entry, { kind: "retry" })).toBe(
      "settled",
    );
  const { redis, keys } = queue();
  expect(await redis.zcard(keys.retries)).toBe(100);
  const { deliveryId } = retried.at(-1)!;
  expect(await queue().home(deliveryId)).toMatch(/^log:/);
  expect(await queue().retryFields(deliveryId)).toBeNull();
  // What was not sent has no record, so no row says that it is unfinished.
  await queue().settleOne("a", deferred!, { kind: "defer", record: null });
  expect(await redis.zcard(keys.retries)).toBe(101);
  expect(await queue().waiting()).toEqual([]);
});

test("a dispatcher can start, also on a queue that has no groups", async () => {
  await runOutOfMemory();
  await queue().consumer("a").prepare();
  const { redis, keys } = queue();
  await redis.del(keys.stream);
  await queue().consumer("a").prepare();
  await queue().consumer("a").prepare();
  expect(await redis.xinfo("GROUPS", keys.stream)).toHaveLength(1);
});

test("a record that is refused for good does not keep the log from draining", async () => {
  const entry = await queue().inFlight("a");
  await queue().settleOne("a", entry, { kind: "success" });
  await runOutOfMemory();
  const recorder = queue().recorder("a");
  const [logged] = await recorder.read(10, 1);
  const now = Date.now();
  await recorder.setAside(
    { ...logged!, ...entry, entryId: logged!.entryId },
    "no",
    now,
  );
  expect(await queue().log()).toEqual([]);
  expect(await queue().home(entry.deliveryId)).toBeNull();
  const [letter] = await queue().dead();
  expect(letter!.fields).toMatchObject({ kind: "record", reason: "no" });
});

test("reads, admits and keeps entries", async () => {
  await queue().redis.xadd(
    queue().keys.stream,
    "*",
    "id",
    "x",
    "payload",
    "{}",
  );
  await runOutOfMemory();
  const [entry] = await queue().read("a");
  expect(await queue().consumer("a").admit([entry!])).toEqual([true]);
  expect(await queue().consumer("a").heartbeat([entry!.entryId])).toEqual([
    entry!.entryId,
  ]);
  expect(await queue().consumer("a").release([entry!])).toBe(1);
});

test("promotes, records, cancels and clears left-overs", async () => {
  const [due, cancelled, done, trimmed] = [
    await queue().inFlight("a"),
    await queue().inFlight("a"),
    await queue().inFlight("a"),
    await queue().inFlight("a"),
  ];
  await queue().settleOne("a", due, { kind: "retry", record: null });
  await queue().settleOne("a", cancelled, { kind: "retry", record: null });
  await queue().settleOne("a", done, { kind: "success" });
  await queue().redis.xdel(queue().keys.stream, trimmed.entryId);
  await queue().makeDue(due.deliveryId);
  const [logged] = await queue().log();
  await runOutOfMemory();
  expect(await queue().retries.promote(10, Date.now())).toMatchObject({
    moved: 1,
  });
  expect(await queue().cancel(cancelled.deliveryId)).toBe("cancelled");
  expect(
    await queue()
      .recorder("a")
      .recorded([{ entryId: logged!.entryId, deliveryId: done.deliveryId }]),
  ).toBe(1);
  expect(await queue().reconcile.homeless([trimmed.deliveryId])).toEqual([
    trimmed.deliveryId,
  ]);
});

test("goes on giving out tokens and slots", async () => {
  await runOutOfMemory();
  expect(await queue().limits.lease(10, 5, 3, 1)).toMatchObject({ granted: 3 });
  expect(await queue().limits.lease(10, 5, 5, 1)).toMatchObject({ granted: 2 });
  expect(await queue().limits.reserve("e", 10, 1, 1000)).toBe(0);
  expect(await queue().limits.reserve("e", 10, 1, 1000)).toBeGreaterThan(0);
});
