import type { StreamEntry } from "@pipeline/shared/queue/group-reader";
import { expect, test } from "vitest";
import { createConsume } from "./consume.ts";

const CLAIM_INTERVAL_MS = 1200;

const entries = (count: number): StreamEntry[] =>
  Array.from({ length: count }, (_, i) => ({
    entryId: `${i}-0`,
    fields: [],
    timesRead: 1,
  }));

function setUp(options: {
  concurrency?: number;
  free?: number;
  /** The most tokens one `take` grants. */
  tokens?: number;
  /** How many entries each read finds, by turns; none when there are no more. */
  reads?: number[];
  /** How many entries each claim finds, by turns; none when there are no more. */
  claims?: number[];
  /** Whether an entry has its turn to run alone. */
  isAlone?: boolean;
  readMs?: number;
  /** What becomes of the free slots in a wait. */
  freeAfterWait?: number;
}) {
  const { concurrency = 100, tokens = Infinity, readMs = 0 } = options;
  const { reads = [], claims = [] } = options;
  const stopping = new AbortController();
  const calls: (string | number)[][] = [];
  let free = options.free ?? concurrency;
  let now = 1_000_000;
  const consume = createConsume({
    concurrency,
    now: () => now,
    queue: {
      read: async (count, waitMs) => {
        calls.push(["read", count, waitMs]);
        now += readMs;
        return entries(Math.min(count, reads.shift() ?? 0));
      },
    },
    claims: {
      intervalMs: CLAIM_INTERVAL_MS,
      suspects: () => [],
      next: async (count) => {
        const found = claims.shift() ?? 0;
        if (found > 0) calls.push(["claim", count]);
        return entries(Math.min(count, found));
      },
    },
    runAlone: async (_suspects, count, takenAt) => {
      if (options.isAlone !== true) return false;
      calls.push(["run alone", count, now - takenAt]);
      return true;
    },
    limiter: {
      take: async (want) => {
        calls.push(["take", want]);
        return Math.min(want, tokens);
      },
      insist: async (want) => want,
      giveBack: (count) => {
        calls.push(["giveBack", count]);
      },
      isFresh: (takenAt) => now - takenAt <= 100,
    },
    permits: {
      free: () => free,
      waitFor: async (count, timeoutMs) => {
        calls.push(["waitFor", count, timeoutMs]);
        free = options.freeAfterWait ?? free;
      },
      offer: () => undefined,
      has: () => false,
      heldFor: () => [],
      sweep: () => undefined,
      running: () => concurrency - free,
      dropParked: () => undefined,
    },
    admit: async (read, count, takenAt) => {
      calls.push(["admit", read.length, count, now - takenAt]);
    },
  });
  return {
    calls,
    stopping,
    consume: () => consume(stopping.signal),
  };
}

test("a round reads as many entries as there are free slots, and hands them on with their tokens", async () => {
  const { calls, consume } = setUp({ free: 30, reads: [7], readMs: 20 });
  await expect(consume()).resolves.toBe(0);
  expect(calls).toEqual([
    ["take", 30],
    ["read", 30, CLAIM_INTERVAL_MS],
    ["admit", 7, 30, 20],
  ]);
});

test("a round reads no more entries than it got tokens", async () => {
  const { calls, consume } = setUp({ free: 30, tokens: 4, reads: [50] });
  await consume();
  expect(calls).toEqual([
    ["take", 30],
    ["read", 4, CLAIM_INTERVAL_MS],
    ["admit", 4, 4, 0],
  ]);
});

test("a round reads at most 100 entries, however many slots are free", async () => {
  const { calls, consume } = setUp({ concurrency: 1000, reads: [500] });
  await consume();
  expect(calls).toContainEqual(["read", 100, CLAIM_INTERVAL_MS]);
});

test("with few slots free a round first collects more for a moment", async () => {
  const { calls, consume } = setUp({ free: 3, freeAfterWait: 26 });
  await consume();
  expect(calls.slice(0, 2)).toEqual([
    ["waitFor", 25, 10],
    ["take", 26],
  ]);
});

test("a round that finds no slot free neither takes tokens nor reads", async () => {
  const { calls, consume } = setUp({ free: 0 });
  await expect(consume()).resolves.toBe(0);
  expect(calls).toEqual([
    ["waitFor", 25, 10],
    ["waitFor", 1, 1000],
  ]);
});

test("a round that gets no token does not read", async () => {
  const { calls, consume } = setUp({ free: 30, tokens: 0 });
  await consume();
  expect(calls).toEqual([["take", 30]]);
});

test("a round that begins when the dispatcher is stopping takes nothing", async () => {
  const { calls, consume, stopping } = setUp({ free: 30 });
  stopping.abort();
  await consume();
  expect(calls).toEqual([]);
});

test("the tokens of a read that found nothing are given back while they are fresh", async () => {
  const { calls, consume } = setUp({ free: 30, readMs: 100 });
  await consume();
  expect(calls.at(-1)).toEqual(["giveBack", 30]);
});

test("tokens that went stale in the wait for work are not given back", async () => {
  const { calls, consume } = setUp({ free: 30, readMs: 101 });
  await consume();
  expect(calls.at(-1)).toEqual(["read", 30, CLAIM_INTERVAL_MS]);
});

test("rounds that wait in vain take tokens once, and what is then read waits for new ones", async () => {
  const { calls, consume } = setUp({
    free: 30,
    tokens: 4,
    reads: [0, 0, 3],
    readMs: 1000,
  });
  for (let round = 0; round < 4; round++) await consume();
  expect(calls).toEqual([
    ["take", 30],
    ["read", 4, CLAIM_INTERVAL_MS],
    ["read", 4, CLAIM_INTERVAL_MS],
    ["read", 4, CLAIM_INTERVAL_MS],
    // Expired: whoever admits them asks for new tokens.
    ["admit", 3, 4, 3000],
    ["take", 30],
    ["read", 4, CLAIM_INTERVAL_MS],
  ]);
});

test("what a round claimed takes the place of a read", async () => {
  const { calls, consume } = setUp({ free: 30, claims: [5], isAlone: true });
  await consume();
  expect(calls).toEqual([
    ["take", 30],
    ["claim", 30],
    ["admit", 5, 30, 0],
  ]);
});

test("while an entry runs alone nothing is read", async () => {
  const { calls, consume } = setUp({ free: 30, isAlone: true, reads: [5] });
  await consume();
  expect(calls).toEqual([
    ["take", 30],
    ["run alone", 30, 0],
  ]);
});
