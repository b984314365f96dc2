import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { PipelineError } from "./errors.ts";
import { isolateRefused } from "./isolate.ts";

const refusing =
  (bad: number[], calls: number[][]) => async (items: number[]) => {
    calls.push(items);
    if (items.some((item) => bad.includes(item)))
      throw new PipelineError("DATABASE_REFUSED", "no");
    return items.map((item) => item * 10);
  };

test("a batch that nobody refuses runs once", async () => {
  const calls: number[][] = [];
  expect(await isolateRefused([1, 2, 3], refusing([], calls))).toEqual([
    { item: 1, result: 10 },
    { item: 2, result: 20 },
    { item: 3, result: 30 },
  ]);
  expect(calls).toHaveLength(1);
});

test("refused items stand alone and the others go through, in order", async () => {
  const items = Array.from({ length: 100 }, (_, index) => index);
  const calls: number[][] = [];
  const results = await isolateRefused(items, refusing([0, 41, 99], calls));
  expect(results.map(({ item }) => item)).toEqual(items);
  expect(
    results.filter((outcome) => "refused" in outcome).map(({ item }) => item),
  ).toEqual([0, 41, 99]);
  expect(calls.length).toBeLessThan(60);
});

test("a fault that blames the moment is thrown and nothing is taken apart", async () => {
  const calls: number[][] = [];
  const run = async (items: number[]) => {
    calls.push(items);
    throw new PipelineError("DATABASE_UNAVAILABLE", "away");
  };
  await expect(isolateRefused([1, 2], run)).rejects.toThrow("away");
  expect(calls).toHaveLength(1);
});

const held = () =>
  new PipelineError("DATABASE_UNAVAILABLE", "canceling statement", {
    sqlState: "55P03",
    contact: "answered",
  });

test("an item whose row somebody holds is found in few waits, while its neighbours go through", async () => {
  const LOCK_WAIT_MS = 20;
  const items = Array.from({ length: 500 }, (_, index) => index);
  const doneAt = new Map<number, number>();
  let running = 0;
  let mostRunning = 0;
  const startedAt = performance.now();
  const results = await isolateRefused(items, async (part) => {
    mostRunning = Math.max(mostRunning, ++running);
    await sleep(part.includes(123) ? LOCK_WAIT_MS : 1);
    running--;
    if (part.includes(123)) throw held();
    for (const item of part) doneAt.set(item, performance.now() - startedAt);
    return part;
  });
  expect(
    results.filter((outcome) => "refused" in outcome).map(({ item }) => item),
  ).toEqual([123]);
  expect(doneAt.size).toBe(499);
  expect(Math.max(...doneAt.values())).toBeLessThan(5 * LOCK_WAIT_MS);
  expect(mostRunning).toBeLessThanOrEqual(4);
});

test("after the deadline nothing further is tried, and nobody is blamed for it", async () => {
  const calls: number[][] = [];
  const run = async (items: number[]) => {
    calls.push(items);
    throw new PipelineError("DATABASE_REFUSED", "no");
  };
  const results = await isolateRefused([1, 2, 3], run, {
    isLate: () => true,
  });
  expect(calls).toHaveLength(1);
  for (const outcome of results)
    expect(outcome).toMatchObject({
      refused: { code: "DATABASE_UNAVAILABLE" },
    });
});
