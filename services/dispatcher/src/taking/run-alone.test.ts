import { createLogger } from "@pipeline/shared/logger";
import type { Mark } from "@pipeline/shared/queue/marks";
import { beforeEach, expect, test } from "vitest";
import { createRunAlone } from "./run-alone.ts";

const SLOTS = 5;
const IDLE_MS = 60_000;
const ATTEMPT_TIMEOUT_MS = 30_000;

let stopping: AbortController;
beforeEach(() => {
  stopping = new AbortController();
});

interface Options {
  marks?: Record<string, Mark>;
  /** How long the deliveries in flight at the start still take. */
  busyMs?: number;
  /** How long the entry itself takes. */
  runMs?: number;
  /** When the dispatcher is told to stop. */
  stopAfterMs?: number;
  /** Another dispatcher has been quicker. */
  isTaken?: boolean;
}

function setUp({
  marks = {},
  busyMs = 0,
  runMs = 0,
  stopAfterMs = Infinity,
  isTaken,
}: Options = {}) {
  const steps: string[] = [];
  const stored = new Map(Object.entries(marks));
  let now = 1_000_000;
  const begunAt = now;
  const busyUntil = now + busyMs;
  let running: { entryId: string; until: number } | undefined;
  const isRunning = () => running !== undefined && running.until > now;
  const free = () => SLOTS - (busyUntil > now ? 2 : 0) - (isRunning() ? 1 : 0);
  const runAlone = createRunAlone({
    concurrency: SLOTS,
    claimIdleMs: IDLE_MS,
    attemptTimeoutMs: ATTEMPT_TIMEOUT_MS,
    now: () => now,
    random: () => 0.5,
    logger: createLogger("test", "silent"),
    queue: {
      take: async (orphans) => {
        steps.push(`take ${orphans.map(({ entryId }) => entryId).join()}`);
        if (isTaken === true) return [];
        return orphans.map((orphan) => ({ ...orphan, fields: [] }));
      },
      takeUnread: async (entryId) => {
        steps.push(`take ${entryId} unread`);
        return true;
      },
    },
    marks: {
      find: async (entryIds) =>
        entryIds.map((id) => stored.get(id) ?? { begun: 0, alone: 0 }),
      add: async (entryId, { begun, alone }) => {
        steps.push(`mark ${entryId} ${begun} ${alone}`);
        const known = stored.get(entryId) ?? { begun: 0, alone: 0 };
        stored.set(entryId, {
          begun: known.begun + begun,
          alone: known.alone + alone,
        });
      },
      remove: async (entryId) => {
        steps.push(`unmark ${entryId}`);
        stored.delete(entryId);
      },
    },
    permits: {
      free,
      has: (entryId) => isRunning() && running?.entryId === entryId,
      waitFor: async (_count, ms) => {
        now += ms;
        if (now - begunAt >= stopAfterMs) stopping.abort();
      },
    },
    admit: async ([entry], tokens, _takenAt, _signal, verdict) => {
      steps.push(
        verdict === undefined
          ? `start ${entry!.entryId} with ${SLOTS - free()} others`
          : `end ${entry!.entryId}: ${verdict} (${tokens})`,
      );
      running = { entryId: entry!.entryId, until: now + runMs };
    },
    settler: {
      bury: async ({ entryId }) => {
        steps.push(`bury ${entryId}`);
        return "settled";
      },
    },
  });
  return {
    steps,
    stored,
    elapsed: () => now - begunAt,
    pass: (ms: number) => {
      now += ms;
    },
    turn: (...entryIds: string[]) =>
      runAlone(
        entryIds.map((entryId) => ({ entryId, timesRead: 2 })),
        1,
        now,
        stopping.signal,
      ),
  };
}

test("without a suspect nobody has a turn", async () => {
  const { turn, steps } = setUp();
  await expect(turn()).resolves.toBe(false);
  expect(steps).toEqual([]);
});

test("a suspect starts when the others have ended, and its mark goes when it has ended", async () => {
  const { turn, steps, stored, elapsed } = setUp({ busyMs: 300, runMs: 200 });
  await expect(turn("a")).resolves.toBe(true);
  expect(steps).toEqual([
    "mark a 1 1",
    "take a",
    "start a with 0 others",
    "mark a -1 -1",
    "unmark a",
  ]);
  expect(stored.size).toBe(0);
  expect(elapsed()).toBe(500);
});

test("what hangs keeps the others waiting for a second only: the suspect starts beside it, and is not guilty", async () => {
  const { turn, steps, stored, elapsed } = setUp({
    busyMs: 20_000,
    runMs: 20_000,
  });
  await turn("a");
  expect(steps).toEqual([
    "mark a 1 0",
    "take a",
    "start a with 2 others",
    "mark a 0 0",
  ]);
  expect(stored.get("a")).toEqual({ begun: 1, alone: 0 });
  expect(elapsed()).toBe(1000);
});

test("a suspect that hangs keeps the others waiting for a second only, and is not guilty from then on", async () => {
  const { turn, stored, elapsed, pass, steps } = setUp({ runMs: 20_000 });
  await turn("a");
  expect(stored.get("a")).toEqual({ begun: 1, alone: 0 });
  expect(elapsed()).toBe(1000);
  // Once it has ended nothing is remembered.
  pass(20_000);
  await turn();
  expect(steps.at(-1)).toBe("unmark a");
});

test.each([
  [0, 1000],
  [1, 2000],
  [4, 16_000],
  [5, 32_000],
  [50, 32_000],
])(
  "after %d runs that were not survived the limit is %d ms",
  async (begun, limitMs) => {
    const { turn, elapsed } = setUp({
      marks: { a: { begun, alone: 0 } },
      runMs: 100_000,
    });
    await turn("a");
    expect(elapsed()).toBe(limitMs);
  },
);

test("the others then get as much time as they have waited", async () => {
  const { turn, pass } = setUp({ runMs: 20_000 });
  await turn("a");
  pass(999);
  await expect(turn("b")).resolves.toBe(false);
  pass(1);
  await expect(turn("b")).resolves.toBe(true);
});

test("whoever has died alone the fewest times has the next turn", async () => {
  const { turn, steps } = setUp({
    marks: {
      a: { begun: 2, alone: 2 },
      b: { begun: 3, alone: 1 },
      c: { begun: 1, alone: 1 },
    },
  });
  await turn("a", "b", "c");
  expect(steps[0]).toBe("mark c 1 1");
});

test("a suspect that another dispatcher has taken leaves no mark of ours", async () => {
  const { turn, stored } = setUp({
    isTaken: true,
    marks: { a: { begun: 1, alone: 1 } },
  });
  await turn("a");
  expect(stored.get("a")).toEqual({ begun: 1, alone: 1 });
});

test("a dispatcher that is told to stop takes its mark back at once", async () => {
  const { turn, stored, elapsed } = setUp({ runMs: 20_000, stopAfterMs: 300 });
  await turn("a");
  expect(stored.get("a")).toEqual({ begun: 0, alone: 0 });
  expect(elapsed()).toBe(300);
});

test("a dispatcher that is told to stop starts nobody", async () => {
  const { turn, steps } = setUp({ busyMs: 20_000, stopAfterMs: 300 });
  await turn("a");
  expect(steps).toEqual([]);
});

test("three deaths alone convict: the entry is ended without being sent", async () => {
  const { turn, steps, stored } = setUp({
    marks: { a: { begun: 3, alone: 3 } },
  });
  await turn("a");
  expect(steps).toEqual([
    "mark a 0 1",
    "take a",
    "end a: crash_loop: its dispatcher died 3 times while nothing else was in flight (1)",
  ]);
  // Should reading it for that be deadly as well:
  expect(stored.get("a")?.alone).toBe(4);
});

test("an entry that is deadly even to read is buried unread", async () => {
  const { turn, steps } = setUp({ marks: { a: { begun: 3, alone: 4 } } });
  await turn("a");
  expect(steps).toEqual(["take a unread", "bury a"]);
});
