import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { expect, test, vi } from "vitest";
import { createLoop } from "./loop.ts";

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
  const loop = createLoop({
    name: "test",
    logger,
    runOnce: (signal) => runOnce(++rounds, signal),
  });
  return { loop, lines, rounds: () => rounds };
}

test("rounds follow one another with the wait that each asks for, never two at once", async () => {
  let running = 0;
  let overlapped = false;
  const { loop, rounds } = setUp(async () => {
    overlapped ||= ++running > 1;
    await sleep(2);
    running--;
    return 1;
  });
  loop.start();
  loop.start();
  await vi.waitFor(() => expect(rounds()).toBeGreaterThan(3));
  await loop.stop();
  expect(overlapped).toBe(false);
});

test("stop ends a wait at once, lets a running round finish, and may be called twice", async () => {
  let finished = false;
  const { loop, rounds } = setUp(async (round) => {
    if (round === 1) return 0;
    await sleep(30);
    finished = true;
    return 3_600_000;
  });
  loop.start();
  await vi.waitFor(() => expect(rounds()).toBe(2));
  await loop.stop();
  await loop.stop();
  expect(finished).toBe(true);
  expect(rounds()).toBe(2);
});

test("stop before start does no harm", async () => {
  const { loop, rounds } = setUp(async () => 0);
  await loop.stop();
  loop.start();
  await sleep(5);
  expect(rounds()).toBe(0);
});

test("wake ends the wait between rounds, also when it comes during a round", async () => {
  const { loop, rounds } = setUp(async (round) => {
    if (round === 2) loop.wake();
    return 3_600_000;
  });
  loop.start();
  await vi.waitFor(() => expect(rounds()).toBe(1));
  await sleep(5);
  loop.wake();
  await vi.waitFor(() => expect(rounds()).toBe(3));
  await sleep(10);
  expect(rounds()).toBe(3);
  await loop.stop();
});

test("faults back off, are logged once and end with a line that says so; wake does not hurry them", async () => {
  const { loop, lines, rounds } = setUp(async (round) => {
    if (round <= 2) throw new Error("away");
    return 3_600_000;
  });
  const startedAt = performance.now();
  loop.start();
  const waking = setInterval(loop.wake, 1);
  await vi.waitFor(() => expect(rounds()).toBeGreaterThan(2), {
    timeout: 5000,
  });
  clearInterval(waking);
  expect(performance.now() - startedAt).toBeGreaterThan(290);
  await loop.stop();
  expect(lines.map(({ msg, faults }) => [msg, faults])).toEqual([
    ["loop.faulted", 1],
    ["loop.recovered", 2],
  ]);
});

test("a fault while stopping is not logged", async () => {
  const { loop, lines } = setUp(async (_, signal) => {
    await sleep(10);
    signal.throwIfAborted();
    return 0;
  });
  loop.start();
  await loop.stop();
  expect(lines).toEqual([]);
});
