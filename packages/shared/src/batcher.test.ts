import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type BatcherOptions, createBatcher } from "./batcher.ts";

const RUN_MS = 5;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

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
      const { promise, resolve } = Promise.withResolvers<void>();
      setTimeout(resolve, RUN_MS);
      await promise;
      running--;
      return items.map((item) => `result ${item}`);
    },
    ...options,
  });
  return { batcher, batches, mostRunning: () => mostRunning };
}

test("items that come together travel together, and each caller gets its own result", async () => {
  const { batcher, batches } = setUp();
  const added = Promise.all([batcher.add(1), batcher.add(2)]);
  await vi.advanceTimersByTimeAsync(4);
  expect(batches).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(batches).toEqual([[1, 2]]);
  await vi.runAllTimersAsync();
  expect(await added).toEqual(["result 1", "result 2"]);
});

test("a full batch does not wait for the delay", () => {
  const { batcher, batches } = setUp({ delayMs: 60_000 });
  for (const item of [1, 2, 3]) void batcher.add(item);
  expect(batches).toEqual([[1, 2, 3]]);
});

test("no batch is larger than allowed, none is lost, and no more run at once than allowed", async () => {
  const { batcher, batches, mostRunning } = setUp({ maxConcurrent: 2 });
  const items = Array.from({ length: 20 }, (_, index) => index);
  const added = Promise.all(items.map(batcher.add));
  await vi.runAllTimersAsync();
  expect(await added).toEqual(items.map((item) => `result ${item}`));
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
  const added = [batcher.add(1)];
  await vi.advanceTimersByTimeAsync(2);
  expect(batches).toEqual([[1]]);
  added.push(batcher.add(2), batcher.add(3));
  await vi.advanceTimersByTimeAsync(RUN_MS - 2);
  expect(batches).toEqual([[1]]);
  await vi.advanceTimersByTimeAsync(1);
  expect(batches).toEqual([[1], [2, 3]]);
  await vi.runAllTimersAsync();
  expect(await Promise.all(added)).toHaveLength(3);
  expect(mostRunning()).toBe(1);
});

test("a batch that is slow does not hold up those after it, and only so many may be slow at once", async () => {
  const begun: number[] = [];
  const { batcher } = setUp({
    delayMs: 1,
    slow: { afterMs: 500, maxBatches: 2 },
    run: async ([item]) => {
      begun.push(item!);
      if (item! < 10) await new Promise(() => undefined); // never answered
      return [`result ${item}`];
    },
  });
  void batcher.add(1);
  await vi.advanceTimersByTimeAsync(1);
  const second = batcher.add(10);
  await vi.advanceTimersByTimeAsync(499);
  expect(begun).toEqual([1]);
  await vi.advanceTimersByTimeAsync(1);
  expect(await second).toBe("result 10");
  for (const item of [2, 3, 11]) {
    void batcher.add(item);
    await vi.advanceTimersByTimeAsync(600);
  }
  expect(begun).toEqual([1, 10, 2, 3]);
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
  const draining = batcher.drain();
  expect(batches).toEqual([[1, 2]]);
  await vi.advanceTimersByTimeAsync(RUN_MS);
  await draining;
  expect(await Promise.all(added)).toHaveLength(2);
  await batcher.drain();
});

test("a batch is bounded in bytes, and an item beyond that travels alone", async () => {
  const { batcher, batches } = setUp({
    maxItems: 10,
    maxBytes: 10,
    sizeOf: (item) => item,
    maxConcurrent: 4,
    maxConcurrentPartial: 4,
  });
  for (const item of [4, 5, 3, 20, 1]) void batcher.add(item);
  await vi.runAllTimersAsync();
  expect(batches).toEqual([[4, 5], [3], [20], [1]]);
});
