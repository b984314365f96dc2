// With the largest payloads no command keeps Redis, and thereby everybody, for long.
import { randomUUID } from "node:crypto";
import { createDeadLetters } from "@pipeline/shared/queue/dead-letters";
import type { DeadLetter } from "@pipeline/shared/queue/dead-letter";
import { expect, test } from "vitest";
import { fieldsOf, NO_LIMIT, useQueue } from "../support/queue.ts";

const LONGEST_MS = 50;
const COUNT = 240;
/** 250 kB, of which many characters are escaped in the text of a retry. */
const payload = JSON.stringify({
  text: "x".repeat(200_000),
  quotes: '"'.repeat(25_000),
});

const queue = useQueue();

/** Commands that clients sent (not those that scripts called), and the processor time that the server has taken so far. */
async function usage() {
  const [stats, cpu] = await Promise.all([
    queue().redis.info("commandstats"),
    queue().redis.info("cpu"),
  ]);
  const calls = stats.matchAll(
    /^cmdstat_(?:eval|evalsha|xreadgroup|xpending|xclaim|xrevrange|xtrim):calls=(\d+)/gm,
  );
  const seconds = cpu.matchAll(/^used_cpu_(?:sys|user):([\d.]+)/gm);
  const sum = (matches: Iterable<RegExpMatchArray>) =>
    [...matches].reduce((total, [, number]) => total + Number(number), 0);
  return { calls: sum(calls), ms: 1000 * sum(seconds) };
}

/** The processor time per command of what `act` does: elapsed time would tell of the machine's other work too. */
async function msPerCommand(act: () => Promise<unknown>): Promise<number> {
  const before = await usage();
  await act();
  const after = await usage();
  const ms = (after.ms - before.ms) / (after.calls - before.calls);
  console.log(`${ms.toFixed(1)} ms per command`);
  return ms;
}

const large = () => {
  const id = randomUUID();
  return { id, fields: { ...fieldsOf(id), payload } };
};

/** As ingest does: a few at a time. */
async function enqueueMany() {
  const items = Array.from({ length: COUNT }, large);
  for (let i = 0; i < COUNT; i += 8)
    await queue().producer.enqueue(items.slice(i, i + 8), NO_LIMIT);
  return items;
}

async function readAll(name: string) {
  const consumer = queue().consumer(name);
  const entries = [];
  for (;;) {
    const read = await consumer.read(100, 1);
    if (read.length === 0) return { consumer, entries };
    expect(read.length).toBeLessThanOrEqual(8);
    entries.push(...read);
  }
}

test("reading, claiming and giving back", async () => {
  await enqueueMany();
  const work = async () => {
    await readAll("a");
    const other = queue().consumer("b");
    const orphans = await other.orphans(100, 0);
    expect(await other.take(orphans, 0)).toHaveLength(100);
    const pending = await other.pending();
    expect(pending).toHaveLength(100);
    expect(await other.release(pending)).toBe(100);
  };
  expect(await msPerCommand(work)).toBeLessThan(LONGEST_MS);
});

test("promoting: some at a time, until all are promoted", async () => {
  const items = await enqueueMany();
  const { consumer, entries } = await readAll("a");
  for (const [i, { entryId }] of entries.entries()) {
    const { id: deliveryId, fields } = items[i]!;
    const settlement = { entryId, deliveryId, attempt: 1, delayMs: 0, fields };
    await consumer.settle([
      { ...settlement, kind: "retry", record: null, endpoint: "" },
    ]);
  }
  let moved = 0;
  const promoteAll = async () => {
    for (;;) {
      const promotion = await queue().retries.promote(500, Date.now());
      moved += promotion.moved;
      if (promotion.nextMs === null) break;
      expect(promotion.nextMs).toBe(0);
      expect(promotion.moved).toBeGreaterThan(0);
    }
  };
  expect(await msPerCommand(promoteAll)).toBeLessThan(LONGEST_MS);
  expect(moved).toBe(COUNT);
  expect(await queue().redis.xlen(queue().keys.stream)).toBe(COUNT);
});

test("looking for lost deliveries", async () => {
  const ids = (await enqueueMany()).map(({ id }) => id);
  const lost = Array.from({ length: COUNT }, () => randomUUID());
  const look = async () => {
    const homeless = await queue().reconcile.homeless([...ids, ...lost]);
    expect(homeless).toEqual(lost);
  };
  expect(await msPerCommand(look)).toBeLessThan(LONGEST_MS);
});

test("injecting lost deliveries again", async () => {
  const lost = Array.from({ length: COUNT }, () => ({ ...large(), dueAt: 0 }));
  const inject = async () => {
    const results = await queue().reinject(lost);
    expect(results).toEqual(lost.map(() => true));
  };
  expect(await msPerCommand(inject)).toBeLessThan(LONGEST_MS);
});

test("records and dead letters: pages of bounded size, and nothing is left out", async () => {
  const { redis, keys } = queue();
  for (let n = 0; n < COUNT; n++) {
    const { id, fields } = large();
    const flat = Object.entries(fields).flat();
    await redis.xadd(keys.dead, "*", "kind", "delivery", ...flat);
    await redis.xadd(keys.log, "*", "delivery_id", id, "record", payload);
  }
  const letters = createDeadLetters(redis, keys);
  const found: DeadLetter[] = [];
  let recorded = 0;
  const work = async () => {
    for (let newest = "+"; ; newest = `(${found.at(-1)!.entryId}`) {
      const page = await letters.page(newest, "-", 100);
      if (page.length === 0) break;
      expect(page.length).toBeLessThanOrEqual(8);
      found.push(...page);
    }
    const recorder = queue().recorder("a");
    for (;;) {
      const entries = await recorder.read(500, 1);
      if (entries.length === 0) break;
      expect(entries.length).toBeLessThanOrEqual(8);
      recorded += await recorder.recorded(entries);
    }
    await letters.keepNewest(100);
  };
  expect(await msPerCommand(work)).toBeLessThan(LONGEST_MS);
  expect(found).toHaveLength(COUNT);
  expect(recorded).toBe(COUNT);
  expect(await redis.xlen(keys.dead)).toBe(100);
  await letters.trim(Date.now() + 60_000);
  expect(await redis.xlen(keys.dead)).toBe(0);
});
