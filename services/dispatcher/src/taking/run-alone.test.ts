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
  /** Taking it over fails. */
  fault?: Error;
  failingWithdrawals?: number;
}

function setUp({
  marks = {},
  busyMs = 0,
  runMs = 0,
  stopAfterMs = Infinity,
  failingWithdrawals = 0,
  isTaken,
  fault,
}: Options = {}) {
  const steps: string[] = [];
  const stored = new Map(Object.entries(marks));
  /** What this dispatcher has noted: per entry, whether it is alone. */
  const own = new Map<string, boolean>();
  let withdrawals = failingWithdrawals;
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
        if (fault !== undefined) throw fault;
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
      begin: async (entryId, isAlone) => {
        steps.push(`begin ${entryId}${isAlone ? " alone" : ""}`);
        own.set(entryId, isAlone);
      },
      withdraw: async (entryId) => {
        if (withdrawals-- > 0) throw new Error("Connection is closed.");
        steps.push(`withdraw ${entryId}`);
        own.delete(entryId);
      },
      remove: async (entryId) => {
        steps.push(`remove ${entryId}`);
        own.delete(entryId);
      },
    },
    sleep: async (ms) => {
      now += ms;
      if (now - begunAt >= stopAfterMs) stopping.abort();
    },
    permits: {
      free,
      has: (entryId) => isRunning() && running?.entryId === entryId,
      running: () => SLOTS - free(),
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
    own,
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

test("a suspect starts when the others have ended, and nothing is remembered when it has ended", async () => {
  const { turn, steps, own, elapsed } = setUp({ busyMs: 300, runMs: 200 });
  await expect(turn("a")).resolves.toBe(true);
  expect(steps).toEqual([
    "begin a alone",
    "take a",
    "start a with 0 others",
    "remove a",
  ]);
  expect(own.size).toBe(0);
  expect(elapsed()).toBe(500);
});

test("what hangs keeps the others waiting for a second only: the suspect starts beside it, and is not guilty", async () => {
  const { turn, steps, own, elapsed } = setUp({
    busyMs: 20_000,
    runMs: 20_000,
  });
  await turn("a");
  expect(steps).toEqual([
    "begin a",
    "take a",
    "start a with 2 others",
    "begin a",
  ]);
  expect(own.get("a")).toBe(false);
  expect(elapsed()).toBe(1000);
});

test("a suspect that hangs keeps the others waiting for a second only, and is not guilty from then on", async () => {
  const { turn, own, elapsed, pass, steps } = setUp({ runMs: 20_000 });
  await turn("a");
  expect(own.get("a")).toBe(false);
  expect(elapsed()).toBe(1000);
  // Once it has ended nothing is remembered.
  pass(20_000);
  await turn();
  expect(steps.at(-1)).toBe("remove a");
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
  expect(steps[0]).toBe("begin c alone");
});

test("a suspect that another dispatcher has taken is not marked by us", async () => {
  const { turn, steps } = setUp({ isTaken: true });
  await turn("a");
  expect(steps).toEqual(["begin a alone", "take a", "withdraw a"]);
});

test("Redis being away is no death: the mark is withdrawn as soon as it is back", async () => {
  const fault = new Error("Connection is closed.");
  const { turn, own } = setUp({ fault, failingWithdrawals: 1 });
  await expect(turn("a")).rejects.toBe(fault);
  expect(own.size).toBe(0);
});

test("a dispatcher that is told to stop withdraws its mark at once", async () => {
  const { turn, own, elapsed } = setUp({ runMs: 20_000, stopAfterMs: 300 });
  await turn("a");
  expect(own.size).toBe(0);
  expect(elapsed()).toBe(300);
});

test("a dispatcher that is told to stop starts nobody", async () => {
  const { turn, steps } = setUp({ busyMs: 20_000, stopAfterMs: 300 });
  await turn("a");
  expect(steps).toEqual([]);
});

test("three deaths alone convict: the entry is ended without being sent", async () => {
  const { turn, steps } = setUp({ marks: { a: { begun: 3, alone: 3 } } });
  await turn("a");
  expect(steps).toEqual([
    "begin a alone", // should reading it for that be deadly as well
    "take a",
    "end a: crash_loop: its dispatcher died 3 times while nothing else was in flight (1)",
  ]);
});

test("an entry that is deadly even to read is buried unread", async () => {
  const { turn, steps } = setUp({ marks: { a: { begun: 3, alone: 4 } } });
  await turn("a");
  expect(steps).toEqual(["take a unread", "bury a"]);
});
