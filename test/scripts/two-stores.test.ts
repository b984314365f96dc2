// The order of every action that touches both stores, on a real Redis and a real Postgres: steps of several actions in any
// order, processes that die between two steps, and time that passes. Nothing is sent more often than it was asked for, or
// after it was cancelled; nothing that was asked for is lost.
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import type { Client } from "pg";
import { expect, inject, test } from "vitest";
import { createOwnDatabase } from "../database/own-database.ts";
import { createQueue, type Queue, useQueue } from "../support/queue.ts";
import * as actions from "./two-stores/actions.ts";
import { createLedger } from "./two-stores/ledger.ts";

const RUNS = Number(process.env["MODEL_RUNS"] ?? 150);
const DELIVERIES = 2;
const DISPATCHERS = ["a", "b"];
const OUTCOMES = ["success", "retry", "dead"] as const;

const shared = useQueue();

const delivery = fc.nat(DELIVERIES - 1);
const dispatcher = fc.constantFrom(...DISPATCHERS);
const outcome = fc.constantFrom(...OUTCOMES);
const n = fc.nat(5);
const goOn = fc.record({ kind: fc.constant("go on"), n } as const);
const step = fc.oneof(
  // Most of the time what has begun goes on.
  { arbitrary: goOn, weight: 10 },
  fc.record({
    kind: fc.constant("create"),
    delivery,
    /** The process dies before the delivery is enqueued. */
    dies: fc.boolean(),
  } as const),
  fc.record({ kind: fc.constant("retry"), delivery } as const),
  fc.record({ kind: fc.constant("replay"), n } as const),
  {
    arbitrary: fc.record({ kind: fc.constant("cancel"), delivery } as const),
    weight: 3,
  },
  // What a mark of reconcile must hold against.
  {
    arbitrary: fc.record({ kind: fc.constant("reconcile") } as const),
    weight: 3,
  },
  fc.record({ kind: fc.constant("clear") } as const),
  fc.record({ kind: fc.constant("record") } as const),
  fc.record({ kind: fc.constant("read"), dispatcher, outcome } as const),
  fc.record({ kind: fc.constant("claim"), dispatcher, outcome } as const),
  fc.record({ kind: fc.constant("promote") } as const),
  fc.record({ kind: fc.constant("die"), n } as const),
  fc.record({ kind: fc.constant("time passes") } as const),
);
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

async function createRun(queue: Queue, sql: Client) {
  await sql.query("truncate webhook_deliveries, webhook_deletions cascade");
  const ids = Array.from({ length: DELIVERIES }, () => randomUUID());
  const created = new Set<string>();
  const ledger = createLedger();
  const world = { queue, sql, ledger };
  let underWay: { action: actions.Action; isBrief: boolean }[] = [];

  async function begin(action: actions.Action, isBrief = false) {
    const { done } = await action.next();
    if (done !== true) underWay.push({ action, isBrief });
  }

  async function promote(): Promise<void> {
    const { redis, keys, retries } = queue;
    for (const id of await redis.zrange(keys.retries, "0", "-1"))
      await queue.makeDue(id);
    const { moved } = await retries.promote(10, Date.now());
    expect(moved).toBeGreaterThanOrEqual(0);
  }

  async function dispatchAll(
    name: string,
    result: actions.Outcome,
    entries: Awaited<ReturnType<typeof queue.read>>,
  ): Promise<void> {
    for (const entry of entries)
      await begin(actions.dispatch(world, name, entry, result));
  }

  async function take(step: Step): Promise<void> {
    switch (step.kind) {
      case "create": {
        const id = ids[step.delivery]!;
        if (created.has(id)) return;
        created.add(id);
        const action = actions.create(world, id);
        return step.dies ? void (await action.next()) : begin(action, true);
      }
      case "retry":
        return begin(actions.sendAgain(world, ids[step.delivery]!, null));
      case "replay": {
        const letters = await queue.dead();
        const letter = letters[step.n % Math.max(1, letters.length)];
        if (letter === undefined) return;
        const id = letter.fields["id"]!;
        return begin(actions.sendAgain(world, id, letter.entryId));
      }
      case "cancel":
        return begin(actions.cancel(world, ids[step.delivery]!), true);
      case "reconcile":
        return begin(actions.reconcile(world));
      case "clear":
        return begin(actions.clear(world));
      case "record":
        return begin(actions.record(world));
      case "read":
        return dispatchAll(
          step.dispatcher,
          step.outcome,
          await queue.read(step.dispatcher, 1),
        );
      case "claim":
        return dispatchAll(
          step.dispatcher,
          step.outcome,
          await actions.claimAll(queue, step.dispatcher),
        );
      case "promote":
        return promote();
      case "go on": {
        const going = underWay[step.n % Math.max(1, underWay.length)];
        if (going === undefined) return;
        if ((await going.action.next()).done === true)
          underWay = underWay.filter((each) => each !== going);
        return;
      }
      case "die":
        underWay.splice(step.n % Math.max(1, underWay.length), 1);
        return;
      case "time passes":
        // Tombstones last longer than a call may take, so what counts on them is over by then, one way or the other: a
        // request that creates a delivery, and one that cancels it.
        underWay = underWay.filter(({ isBrief }) => !isBrief);
        // The retry-scheduler looks once a second, ten times before a tombstone ends.
        await toItsEnd(actions.clear(world));
        return queue.expireTombstones();
    }
  }

  const toItsEnd = async (action: actions.Action) => {
    while ((await action.next()).done !== true);
  };

  /** Every process has died; those that replace them do what is left. */
  async function settleDown(): Promise<void> {
    underWay = [];
    for (let round = 0; round < 6; round++) {
      await queue.expireTombstones();
      await toItsEnd(actions.clear(world));
      await promote();
      await toItsEnd(actions.reconcile(world));
      await promote();
      const entries = [
        ...(await actions.claimAll(queue, "a")),
        ...(await queue.read("a")),
      ];
      for (const entry of entries)
        await toItsEnd(actions.dispatch(world, "a", entry, "success"));
      await toItsEnd(actions.record(world));
    }
  }

  async function check(): Promise<void> {
    const { rows } = await sql.query<{ id: string; status: string }>(
      "select id, status from webhook_deliveries",
    );
    expect(rows.filter(({ status }) => /pending|sent/.test(status))).toEqual(
      [],
    );
    for (const { id, status } of rows) {
      const account = ledger.accounts.get(id)!;
      expect(account.isOwed, `${id} (${status}) is still owed`).toBe(false);
      if (status !== "cancelled")
        expect(account.sent, `${id} is ${status}`).toBeGreaterThan(0);
    }
    expect(await queue.waiting()).toEqual([]);
    expect(await queue.log()).toEqual([]);
    expect(await queue.redis.hgetall(queue.keys.homes)).toEqual({});
    expect(await queue.redis.zcard(queue.keys.retries)).toBe(0);
    const notes = await sql.query("select from webhook_deletions");
    expect(notes.rows).toEqual([]);
  }

  return { take, settleDown, check };
}

test(
  "actions on both stores, interleaved and cut off anywhere: sent as often as asked, never lost",
  async () => {
    const database = await createOwnDatabase();
    await database.migrate();
    let steps = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 60, size: "max" }),
        async (sequence) => {
          const queue = await createQueue(shared().url);
          try {
            const run = await createRun(queue, database.client);
            for (const each of sequence) await run.take(each);
            await run.settleDown();
            await run.check();
            steps += sequence.length;
          } finally {
            queue.close();
          }
        },
      ),
      { numRuns: RUNS, seed: inject("seed") },
    );
    expect(steps).toBeGreaterThan(RUNS);
  },
  60_000 + RUNS * 1000,
);
