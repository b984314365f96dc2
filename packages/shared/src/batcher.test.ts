import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type BatcherOptions, createBatcher } from "./batcher.ts";

function setUp(options: Partial<BatcherOptions<number, string>> = {}) {
  const batches: number[][] = [];
  let running = 0;
  let mostRunning = 0;
  const batcher = createBatcher<number, string>({
    maxItems: 3,
    delayMs: 5,
    maxConcurrent: 1,
    maxConcurrentPartial: 1,
    run: async (items) => {
      batches.push(items);
      mostRunning = Math.max(mostRunning, ++running);
      await sleep(5);
      running--;
      return items.map((item) => `result ${item}`);
    },
    ...options,
  });
  return { batcher, batches, mostRunning: () => mostRunning };
}

test("items that come together travel together, and each caller gets its own result", async () => {
  const { batcher, batches } = setUp();
  expect(await Promise.all([batcher.add(1), batcher.add(2)])).toEqual([
    "result 1",
    "result 2",
  ]);
  expect(batches).toEqual([[1, 2]]);
});

test("a full batch does not wait for the delay", async () => {
  const { batcher, batches } = setUp({ delayMs: 60_000 });
  expect(await Promise.all([1, 2, 3].map(batcher.add))).toHaveLength(3);
  expect(batches).toEqual([[1, 2, 3]]);
});

test("no batch is larger than allowed, none is lost, and no more run at once than allowed", async () => {
  const { batcher, batches, mostRunning } = setUp({ maxConcurrent: 2 });
  const items = Array.from({ length: 20 }, (_, index) => index);
  expect(await Promise.all(items.map(batcher.add))).toEqual(
    items.map((item) => `result ${item}`),
  );
  expect(Math.max(...batches.map(({ length }) => length))).toBeLessThanOrEqual(
    3,
  );
  expect(batches.flat()).toEqual(items);
  expect(mostRunning()).toBe(2);
});

test("what does not fill a batch waits for fewer to be under way, and then goes at once", async () => {
  const { batcher, batches, mostRunning } = setUp({
    maxConcurrent: 3,
    delayMs: 1,
  });
  const first = batcher.add(1);
  await sleep(2);
  const startedAt = performance.now();
  const more = [batcher.add(2), batcher.add(3)];
  await Promise.all([first, ...more]);
  expect(batches).toEqual([[1], [2, 3]]);
  expect(mostRunning()).toBe(1);
  expect(performance.now() - startedAt).toBeLessThan(30);
});

test("a failed batch rejects its own callers and no others", async () => {
  const { batcher } = setUp({
    maxItems: 1,
    run: async ([item]) => {
      if (item === 1) throw new Error("refused");
      return [`result ${item}`];
    },
  });
  const results = await Promise.allSettled([batcher.add(1), batcher.add(2)]);
  expect(results.map(({ status }) => status)).toEqual([
    "rejected",
    "fulfilled",
  ]);
});

test("drain sends at once what waits and resolves when everything is done", async () => {
  const { batcher, batches } = setUp({ delayMs: 60_000, maxItems: 100 });
  const added = [batcher.add(1), batcher.add(2)];
  await batcher.drain();
  expect(batches).toEqual([[1, 2]]);
  expect(await Promise.all(added)).toHaveLength(2);
  await batcher.drain();
});
