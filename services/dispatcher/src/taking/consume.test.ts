import type { StreamEntry } from "@pipeline/shared/queue/group-reader";
import { expect, test } from "vitest";
import { createConsume } from "./consume.ts";

const CLAIM_IDLE_MS = 60_000;
/** With `random` at a half: a twelfth of the idle time. */
const CLAIM_INTERVAL_MS = 5000;

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
  claims?: number[];
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
    claimIdleMs: CLAIM_IDLE_MS,
    now: () => now,
    random: () => 0.5,
    queue: {
      read: async (count, waitMs) => {
        calls.push(["read", count, waitMs]);
        now += readMs;
        return entries(Math.min(count, reads.shift() ?? 0));
      },
      claim: async (count, idleMs) => {
        calls.push(["claim", count, idleMs]);
        return entries(Math.min(count, claims.shift() ?? 0));
      },
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
    pass: (ms: number) => {
      now += ms;
    },
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

test("the first round does not claim: nothing can have been idle since the start", async () => {
  const { calls, consume, pass } = setUp({ free: 30, claims: [5] });
  pass(CLAIM_INTERVAL_MS - 1);
  await consume();
  expect(calls).not.toContainEqual(["claim", 30, CLAIM_IDLE_MS]);
});

test("when the time has come a round claims first, and what it claimed takes the place of a read", async () => {
  const { calls, consume, pass } = setUp({ free: 30, claims: [5] });
  pass(CLAIM_INTERVAL_MS);
  await consume();
  expect(calls).toEqual([
    ["take", 30],
    ["claim", 30, CLAIM_IDLE_MS],
    ["admit", 5, 30, 0],
  ]);
});

test("a round whose claim finds nothing reads, and the next one does not claim again", async () => {
  const { calls, consume, pass } = setUp({ free: 30 });
  pass(CLAIM_INTERVAL_MS);
  await consume();
  await consume();
  const asked = calls.map(([name]) => name);
  expect(asked.filter((name) => name === "claim")).toHaveLength(1);
  expect(asked.filter((name) => name === "read")).toHaveLength(2);
});

test("a full claim is followed by another in the next round, until one is not full", async () => {
  const { calls, consume, pass } = setUp({ free: 30, claims: [30, 2, 9] });
  pass(CLAIM_INTERVAL_MS);
  await consume();
  await consume();
  await consume();
  const asked = calls.map(([name]) => name);
  expect(asked.filter((name) => name === "claim" || name === "read")).toEqual([
    "claim",
    "claim",
    "read",
  ]);
});
