import { setImmediate as nextTurn } from "node:timers/promises";
import { pino } from "pino";
import { expect, test } from "vitest";
import { createLoop } from "./loop.ts";

const NEVER_MS = 3_600_000;

function setUp(
  runOnce: (round: number, signal: AbortSignal) => Promise<number>,
) {
  const lines: { msg: string; faults: number }[] = [];
  const logger = pino(
    {},
    {
      write: (line: string) =>
        lines.push(JSON.parse(line) as (typeof lines)[number]),
    },
  );
  let rounds = 0;
  const begun = new Map<number, PromiseWithResolvers<void>>();
  const beginning = (round: number) => {
    const known = begun.get(round) ?? Promise.withResolvers<void>();
    begun.set(round, known);
    return known;
  };
  const loop = createLoop({
    name: "test",
    logger,
    runOnce: (signal) => {
      beginning(++rounds).resolve();
      return runOnce(rounds, signal);
    },
  });
  return {
    loop,
    lines,
    rounds: () => rounds,
    /** Resolves when that round begins. */
    begins: (round: number) => beginning(round).promise,
  };
}

test("rounds follow one another with the wait that each asks for, never two at once", async () => {
  let running = 0;
  let overlapped = false;
  const { loop, begins } = setUp(async () => {
    overlapped ||= ++running > 1;
    await nextTurn();
    running--;
    return 1;
  });
  loop.start();
  loop.start();
  await begins(4);
  await loop.stop();
  expect(overlapped).toBe(false);
});

test("stop lets a running round finish, and may be called twice", async () => {
  const work = Promise.withResolvers<void>();
  const { loop, rounds, begins } = setUp(async (round) => {
    if (round === 1) return 0;
    await work.promise;
    return NEVER_MS;
  });
  loop.start();
  await begins(2);
  let stopped = false;
  const stopping = loop.stop().then(() => (stopped = true));
  await nextTurn();
  expect(stopped).toBe(false);
  work.resolve();
  await stopping;
  await loop.stop();
  expect(rounds()).toBe(2);
});

test("stop ends a wait at once", async () => {
  const { loop, rounds, begins } = setUp(async () => NEVER_MS);
  loop.start();
  await begins(1);
  await nextTurn();
  await loop.stop();
  expect(rounds()).toBe(1);
});

test("stop before start does no harm", async () => {
  const { loop, rounds } = setUp(async () => 0);
  await loop.stop();
  loop.start();
  await nextTurn();
  expect(rounds()).toBe(0);
});

test("wake ends the wait between rounds, also when it comes during a round", async () => {
  const { loop, rounds, begins } = setUp(async (round) => {
    if (round === 2) loop.wake();
    return NEVER_MS;
  });
  loop.start();
  await begins(1);
  await nextTurn();
  expect(rounds()).toBe(1);
  loop.wake();
  await begins(3);
  await nextTurn();
  expect(rounds()).toBe(3);
  await loop.stop();
});

test("faults back off, are logged once and end with a line that says so; wake does not hurry them", async () => {
  const { loop, lines, begins } = setUp(async (round) => {
    if (round <= 2) throw new Error("away");
    return NEVER_MS;
  });
  const startedAt = performance.now();
  loop.start();
  const waking = setInterval(loop.wake, 1);
  await begins(3);
  clearInterval(waking);
  expect(performance.now() - startedAt).toBeGreaterThan(290);
  await loop.stop();
  expect(lines.map(({ msg, faults }) => [msg, faults])).toEqual([
    ["loop.faulted", 1],
    ["loop.recovered", 2],
  ]);
});

test("a fault while stopping is not logged", async () => {
  const work = Promise.withResolvers<void>();
  const { loop, lines, begins } = setUp(async (_, signal) => {
    await work.promise;
    signal.throwIfAborted();
    return 0;
  });
  loop.start();
  await begins(1);
  const stopping = loop.stop();
  work.resolve();
  await stopping;
  expect(lines).toEqual([]);
});
