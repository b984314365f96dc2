import type { Orphan, StreamEntry } from "@pipeline/shared/queue/group-reader";
import { expect, test } from "vitest";
import { createClaims } from "./claims.ts";

const IDLE_MS = 60_000;

const orphans = (count: number, timesRead = 1): Orphan[] =>
  Array.from({ length: count }, (_, i) => ({ entryId: `${i}-0`, timesRead }));

function setUp(scans: Orphan[][], claimIdleMs = IDLE_MS, ours = "none") {
  const asked: (string | number)[][] = [];
  let now = 1_000_000;
  const claims = createClaims({
    claimIdleMs,
    now: () => now,
    random: () => 0.5,
    permits: { has: (entryId) => entryId === ours },
    queue: {
      orphans: async (count, idleMs) => {
        asked.push(["scan", count, idleMs]);
        return scans.shift() ?? [];
      },
      take: async (wanted, idleMs): Promise<StreamEntry[]> => {
        if (wanted.length > 0) asked.push(["take", wanted.length, idleMs]);
        return wanted.map(({ entryId, timesRead }) => ({
          entryId,
          fields: [],
          timesRead: timesRead + 1,
        }));
      },
    },
  });
  return {
    claims,
    asked,
    pass: (ms: number) => {
      now += ms;
    },
  };
}

test("nothing is claimed at first: nothing can have been idle since the start", async () => {
  const { claims, asked, pass } = setUp([orphans(5)]);
  pass(claims.intervalMs - 1);
  await expect(claims.next(30)).resolves.toEqual([]);
  expect(asked).toEqual([]);
});

test.each([
  [60_000, 1200],
  [6000, 500],
])(
  "with an idle time of %d ms the pending entries are scanned every %d ms",
  (claimIdleMs, intervalMs) => {
    expect(setUp([], claimIdleMs).claims.intervalMs).toBe(intervalMs);
  },
);

test("one scan claims what is found, and the next one waits for its time", async () => {
  const { claims, asked, pass } = setUp([orphans(5), orphans(3)]);
  pass(claims.intervalMs);
  await expect(claims.next(30)).resolves.toHaveLength(5);
  await expect(claims.next(30)).resolves.toEqual([]);
  pass(claims.intervalMs);
  await expect(claims.next(30)).resolves.toHaveLength(3);
  expect(asked).toEqual([
    ["scan", 1000, IDLE_MS],
    ["take", 5, IDLE_MS],
    ["scan", 1000, IDLE_MS],
    ["take", 3, IDLE_MS],
  ]);
});

test("a claim that had to leave some is followed by another at once, and so is a full page", async () => {
  const { claims, pass } = setUp([orphans(31), orphans(1000, 7), orphans(1)]);
  pass(claims.intervalMs);
  await expect(claims.next(30)).resolves.toHaveLength(30);
  await expect(claims.next(30)).resolves.toEqual([]);
  await expect(claims.next(30)).resolves.toHaveLength(1);
});

test("what was read twice is kept apart, unread", async () => {
  const { claims, pass } = setUp([
    [
      { entryId: "1-0", timesRead: 1 },
      { entryId: "2-0", timesRead: 2 },
      { entryId: "3-0", timesRead: 9 },
    ],
  ]);
  pass(claims.intervalMs);
  const claimed = await claims.next(30);
  expect(claimed.map(({ entryId }) => entryId)).toEqual(["1-0"]);
  expect(claims.suspects().map(({ entryId }) => entryId)).toEqual([
    "2-0",
    "3-0",
  ]);
});

test("what is in flight here is not claimed from ourselves", async () => {
  const { claims, pass } = setUp([orphans(2)], IDLE_MS, "0-0");
  pass(claims.intervalMs);
  const claimed = await claims.next(30);
  expect(claimed.map(({ entryId }) => entryId)).toEqual(["1-0"]);
});
