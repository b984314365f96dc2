import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Stack } from "@pipeline/dev-stack/stack";
import { startStack } from "@pipeline/dev-stack/start-stack";
import { createDatabase, type Database } from "@pipeline/shared/database";
import { createLogger } from "@pipeline/shared/logger";
import { afterAll, beforeAll, beforeEach, expect, inject, test } from "vitest";
import { createReconcile } from "../../services/retry-scheduler/src/reconcile.ts";
import {
  createUnfinishedRows,
  type UnfinishedRows,
} from "../../services/retry-scheduler/src/unfinished-rows.ts";
import {
  createQueue,
  fieldsOf,
  NO_LIMIT,
  type Queue,
} from "../support/queue.ts";

const HOUR_MS = 3_600_000;
const GRACE_MS = 300_000;

// A stack of its own: overdue rows are what every other test's scheduler would take up, and a full pass takes up theirs.
let stack: Stack;
let database: Database;
let queue: Queue;
beforeAll(async () => {
  stack = await startStack({ kind: inject("stack").kind });
  database = createDatabase(stack.supabaseUrl, stack.serviceRoleKey, 10_000);
});
afterAll(async () => {
  await database.close();
  await stack.stop();
});
beforeEach(async () => {
  queue = await createQueue(stack.redisUrl);
  await queue.redis.set(queue.keys.epoch, "known");
  return queue.close;
});

interface RowState {
  status?: string;
  attempt?: number;
  ageMs?: number;
  dueInMs?: number;
  payload?: string;
}

const create = (deliveries: object[]) =>
  database.callWithText("create_deliveries", JSON.stringify(deliveries));

/** Rows as ingest and the recorder leave them, last touched `ageMs` ago (an hour, when it is not said). */
async function createRow({
  ageMs = HOUR_MS,
  dueInMs,
  payload = '{"n":1}',
  ...state
}: RowState = {}) {
  const id = randomUUID();
  const webhook_url = "https://receiver.test/hook";
  await create([{ id, webhook_url, payload, max_attempts: 4 }]);
  const updated_at = new Date(Date.now() - ageMs).toISOString();
  const next_retry_at =
    dueInMs === undefined ? null : new Date(Date.now() + dueInMs).toISOString();
  await database.client
    .from("webhook_deliveries")
    .update({ ...state, updated_at, next_retry_at })
    .eq("id", id)
    .throwOnError();
  return id;
}

function reconcile(rows?: UnfinishedRows) {
  const { runOnce } = createReconcile({
    queue: queue.reconcile,
    rows: rows ?? createUnfinishedRows(database.client),
    logger: createLogger("test", "silent"),
    intervalMs: 1000,
    graceMs: GRACE_MS,
    onReconciled: () => undefined,
  });
  return runOnce(new AbortController().signal);
}

const entryOf = async (id: string) => {
  const entries = (await queue.waiting()).filter(
    ({ fields }) => fields["id"] === id,
  );
  expect(entries.length).toBeLessThanOrEqual(1);
  return entries[0]?.fields ?? null;
};

// As a producer may write it: jsonb would print it in other bytes.
const TEXT = '{ "z":12345678901234567890, "a" : 1.0,"a":1e400 }';

test("an overdue row that Redis does not hold is injected again, once", async () => {
  const id = await createRow({ payload: TEXT });
  await reconcile();
  await reconcile();
  expect(await entryOf(id)).toMatchObject({
    id,
    attempt: "1",
    max_attempts: "4",
    persisted: "1",
    payload: TEXT,
  });
});

test("after a failed attempt the next one is asked for", async () => {
  const id = await createRow({ status: "sent", attempt: 2, dueInMs: -HOUR_MS });
  await reconcile();
  expect(await entryOf(id)).toMatchObject({ attempt: "3" });
});

test("rows that are recent, wait for their time or are finished are left alone", async () => {
  const ids = [
    await createRow({ ageMs: GRACE_MS / 2 }),
    await createRow({ status: "sent", dueInMs: 60_000 }),
    await createRow({ status: "sent", dueInMs: -GRACE_MS / 2 }),
    await createRow({ status: "success" }),
    await createRow({ status: "failed" }),
    await createRow({ status: "cancelled" }),
  ];
  await reconcile();
  for (const id of ids) expect(await queue.home(id)).toBeNull();
});

test("what is queued, waits for its retry or for its record is not injected", async () => {
  const ids = [await createRow(), await createRow(), await createRow()];
  await queue.producer.enqueue(
    ids.map((id) => ({ id, fields: fieldsOf(id) })),
    NO_LIMIT,
  );
  const [, waiting, delivered] = await queue.read("a");
  await queue.settleOne("a", waiting!, { kind: "retry" });
  await queue.settleOne("a", delivered!, { kind: "success" });
  const homes = await Promise.all(ids.map(queue.home));
  await reconcile();
  expect(await Promise.all(ids.map(queue.home))).toEqual(homes);
  expect(await entryOf(waiting!.deliveryId)).toBeNull();
  expect(await entryOf(delivered!.deliveryId)).toBeNull();
  expect(await queue.dueAt(waiting!.deliveryId)).not.toBeNull();
});

test("a delivery whose entry, retry or record was deleted by hand is injected again", async () => {
  const ids = [await createRow(), await createRow(), await createRow()];
  const leftOvers = ["1-1", "retry", "log:1-1"];
  for (const [index, id] of ids.entries())
    await queue.redis.hset(queue.keys.homes, id, leftOvers[index]!);
  await reconcile();
  for (const id of ids) expect(await entryOf(id)).not.toBeNull();
});

test("a Redis that lost everything gets every unfinished row back, waiting retries at their time", async () => {
  await queue.redis.flushall();
  const pending = await createRow({ ageMs: 0 });
  const due = await createRow({
    status: "sent",
    attempt: 1,
    dueInMs: -1000,
    ageMs: 0,
  });
  const later = await createRow({
    status: "sent",
    attempt: 1,
    dueInMs: HOUR_MS,
    ageMs: 0,
  });
  const done = await createRow({ status: "success", ageMs: 0 });
  const { data } = await database.client
    .from("webhook_deliveries")
    .select("next_retry_at")
    .eq("id", later)
    .single<{ next_retry_at: string }>();
  await reconcile();
  expect(await entryOf(pending)).toMatchObject({ attempt: "1" });
  expect(await entryOf(due)).toMatchObject({ attempt: "2" });
  expect(await entryOf(later)).toBeNull();
  expect(await queue.dueAt(later)).toBe(Date.parse(data!.next_retry_at));
  expect(await queue.retryFields(later)).toMatchObject({
    id: later,
    attempt: "2",
  });
  expect(await queue.home(done)).toBeNull();
  expect(await queue.redis.exists(queue.keys.epoch)).toBe(1);
  expect(await queue.redis.exists(queue.keys.epochCandidate)).toBe(0);
});

test("more rows than a page holds are all injected", async () => {
  await queue.redis.del(queue.keys.epoch);
  const deliveries = Array.from({ length: 1100 }, () => ({
    id: randomUUID(),
    webhook_url: "https://receiver.test/",
    payload: "{}",
    max_attempts: 4,
  }));
  await create(deliveries);
  await reconcile();
  const homes = await queue.redis.hmget(
    queue.keys.homes,
    ...deliveries.map(({ id }) => id),
  );
  expect(homes.filter((home) => home === null)).toEqual([]);
});

test("Redis losing its data during a full pass makes for another full pass", async () => {
  await queue.redis.del(queue.keys.epoch);
  const id = await createRow({ ageMs: 0 });
  const rows = createUnfinishedRows(database.client);
  await reconcile({
    ...rows,
    async *read(ids) {
      yield* rows.read(ids);
      await queue.redis.flushall();
    },
  });
  expect(await queue.redis.exists(queue.keys.epoch)).toBe(0);
  await reconcile();
  expect(await entryOf(id)).not.toBeNull();
  expect(await queue.redis.exists(queue.keys.epoch)).toBe(1);
});

test("a delivery that is finished between the questions is not injected", async () => {
  const id = await createRow();
  const rows = createUnfinishedRows(database.client);
  await reconcile({
    ...rows,
    async *read(ids) {
      // The recorder commits, then removes the delivery from `homes`.
      await database.client
        .from("webhook_deliveries")
        .update({ status: "success" })
        .eq("id", id)
        .throwOnError();
      yield* rows.read(ids);
    },
  });
  expect(await entryOf(id)).toBeNull();
});

test("two schedulers that reconcile at once inject each row once", async () => {
  const ids = [];
  for (let n = 0; n < 5; n++) ids.push(await createRow());
  await Promise.all([
    reconcile(),
    reconcile(),
    sleep(1).then(() => reconcile()),
  ]);
  for (const id of ids) expect(await entryOf(id)).not.toBeNull();
});
