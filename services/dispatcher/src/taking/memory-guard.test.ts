import { createLogger } from "@pipeline/shared/logger";
import type { MemoryUse } from "@pipeline/shared/queue/inspection";
import { expect, test, vi } from "vitest";
import { createMemoryGuard, judge } from "./memory-guard.ts";

const MB = 1024 * 1024;
const empty: MemoryUse = {
  unrecorded: 0,
  unrecordedBytes: 0,
  dead: 0,
  deadBytes: 0,
  used: 10 * MB,
  aside: 0,
  max: 100 * MB,
};
const NEARLY = 96 * MB;

test.each<[string, Partial<MemoryUse>, number]>([
  ["nothing to record", {}, Infinity],
  ["no limit of memory", { max: 0, used: 5000 * MB }, Infinity],
  ["a log just below its bound", { unrecorded: 99_999 }, Infinity],
  ["a log at its bound", { unrecorded: 100_000 }, 0],
  ["a log of a quarter of the memory", { unrecordedBytes: 25 * MB }, 0],
  ["a large log without a limit", { max: 0, unrecordedBytes: 256 * MB }, 0],
  ["nearly full, all recorded", { used: NEARLY }, 5 * MB],
  ["nearly full, behind", { used: NEARLY, unrecorded: 200 }, 0],
  ["nearly full, some MB behind", { used: NEARLY, unrecordedBytes: 5 * MB }, 0],
  ["too full, much aside", { used: 113 * MB, aside: 1000 }, (100 * MB) / 5000],
  ["too full, little aside", { used: 113 * MB, aside: 999 }, 5 * MB],
  ["a tiny limit", { used: 5 * MB, max: 1, unrecorded: 199 }, MB / 4],
])("%s", (_, use, allowance) => {
  expect(judge({ ...empty, ...use }).allowance).toBe(allowance);
});

function setUp(use: Partial<MemoryUse> = {}) {
  const state = { use: { ...empty, ...use }, now: 0, looks: 0 };
  const kept: number[] = [];
  const logger = createLogger("test", "silent");
  const guard = createMemoryGuard({
    inspection: {
      memory: async () => {
        state.looks++;
        return state.use;
      },
    },
    deadLetters: {
      keepNewest: async (count) => {
        kept.push(count);
        return state.use.dead - count;
      },
    },
    deadMaxBytes: 20 * MB,
    typicalBytes: () => 1000,
    logger,
    now: () => state.now,
  });
  return { guard, state, kept, logger };
}

test("an idle dispatcher looks once and not again", async () => {
  const { guard, state } = setUp();
  expect(await guard.check(0)).toBe(0);
  for (let n = 0; n < 5; n++) {
    state.now += 10_000;
    expect(await guard.check(0)).toBe(0);
  }
  expect(state.looks).toBe(1);
});

test("a busy one looks once a second, and more often when Redis fills", async () => {
  const { guard, state } = setUp();
  const looksInOneSecond = async () => {
    const before = state.looks;
    for (let n = 0; n < 200; n++) {
      guard.noteRead();
      await guard.check(0);
      state.now += 5;
    }
    return state.looks - before;
  };
  expect(await looksInOneSecond()).toBe(1);
  state.use.used = 60 * MB;
  await looksInOneSecond();
  expect(await looksInOneSecond()).toBe(10);
  state.use.used = 90 * MB;
  await looksInOneSecond();
  expect(await looksInOneSecond()).toBe(50);
});

test("reading stops while outcomes pile up, goes on afterwards, and each is told once", async () => {
  const { guard, state, logger } = setUp({ unrecorded: 100_000 });
  const warned = vi.spyOn(logger, "warn");
  const informed = vi.spyOn(logger, "info");
  for (let n = 0; n < 300; n++) {
    expect(await guard.check(0)).toBe(100);
    state.now += 100;
  }
  expect(warned.mock.calls).toEqual([
    [expect.objectContaining({ unrecorded: 100_000 }), "reading.slowed"],
  ]);
  state.use.unrecorded = 10;
  state.now += 1000;
  expect(await guard.check(0)).toBe(0);
  expect(informed.mock.calls).toEqual([
    [expect.objectContaining({ reason: null }), "reading.resumed"],
  ]);
});

test("when Redis is nearly full few deliveries are in flight at a time", async () => {
  const { guard } = setUp({ used: NEARLY });
  expect(guard.mostInFlight()).toBe(Infinity);
  await guard.check(0);
  const most = guard.mostInFlight();
  expect(most).toBe(Math.ceil((5 * MB) / 5000));
  expect(await guard.check(most - 1)).toBe(0);
  expect(await guard.check(most)).toBe(100);
});

test("when it is too full because of what waits outside the stream, little is read per pause", async () => {
  const { guard, state } = setUp({ used: 120 * MB, aside: 5000 });
  let read = 0;
  for (let n = 0; n < 200; n++) {
    if ((await guard.check(0)) === 0) read++;
    state.now += 5;
  }
  expect(read).toBe(10);
  expect(guard.mostInFlight()).toBe(Math.ceil(MB / 50 / 5000));
  expect(guard.isTight()).toBe(true);
});

test("dead letters beyond their bound are trimmed: a tenth of the memory, or what is set", async () => {
  const dead = { dead: 1000, deadBytes: 40 * MB };
  const small = setUp(dead);
  await small.guard.check(0);
  expect(small.kept).toEqual([225]);
  const unlimited = setUp({ ...dead, max: 0 });
  await unlimited.guard.check(0);
  expect(unlimited.kept).toEqual([450]);
  const few = setUp({ dead: 1000, deadBytes: 9 * MB });
  await few.guard.check(0);
  expect(few.kept).toEqual([]);
});
