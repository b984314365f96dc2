import { createLogger } from "@pipeline/shared/logger";
import { expect, test } from "vitest";
import { createPromote } from "./promote.ts";

/** Retries with due times, on a clock that moves only when told to. */
function setUp() {
  const dueAts = new Map<string, number>();
  let now = 0;
  const calls: string[] = [];
  const promoted: { id: string; lateMs: number }[] = [];
  const sorted = () => [...dueAts].toSorted(([, a], [, b]) => a - b);
  const promote = createPromote({
    retries: {
      first: async () => {
        calls.push("first");
        return sorted()[0]?.join(" ") ?? "";
      },
      promote: async () => {
        calls.push("promote");
        const due = sorted().filter(([, dueAt]) => dueAt <= now);
        for (const [id, dueAt] of due) {
          promoted.push({ id, lateMs: now - dueAt });
          dueAts.delete(id);
        }
        const next = sorted()[0]?.[1];
        const nextMs = next === undefined ? null : next - now;
        return { moved: due.length, nextMs, unreadable: 0, hasEpoch: false };
      },
    },
    logger: createLogger("test", "silent"),
    onPromoted: () => undefined,
    onEpochMissing: () => calls.push("epoch missing"),
    now: () => now,
  });
  return {
    dueAts,
    calls,
    promoted,
    /** Runs rounds, each after the wait that the one before asked for. */
    runFor: async (ms: number) => {
      for (const end = now + ms; now < end;) now += await promote.runOnce();
    },
    now: () => now,
  };
}

const count = (calls: string[], name: string) =>
  calls.filter((call) => call === name).length;

test("asks a cheap question while nothing is due, and looks for lost data every five seconds", async () => {
  const { calls, runFor } = setUp();
  await runFor(60_000);
  expect(count(calls, "promote")).toBeLessThanOrEqual(13);
  expect(count(calls, "epoch missing")).toBeGreaterThanOrEqual(11);
  expect(count(calls, "first")).toBeLessThanOrEqual(241);
});

test("promotes what it knows at its time", async () => {
  const { dueAts, promoted, runFor } = setUp();
  dueAts.set("a", 700);
  dueAts.set("b", 60_123);
  await runFor(61_000);
  expect(promoted).toEqual([
    { id: "a", lateMs: 0 },
    { id: "b", lateMs: 0 },
  ]);
});

test("notices within 250 ms what another process schedules, earlier or later than what it knows", async () => {
  const { dueAts, promoted, runFor, now } = setUp();
  dueAts.set("far", 3_600_000);
  for (let n = 0; n < 300; n++) {
    await runFor(1 + ((n * 37) % 400));
    dueAts.set(`${n}`, now() + ((n * 61) % 500));
  }
  await runFor(1000);
  expect(promoted).toHaveLength(300);
  for (const { lateMs } of promoted) expect(lateMs).toBeLessThanOrEqual(250);
});

test("notices that the first retry was taken away or put off", async () => {
  const { dueAts, promoted, runFor } = setUp();
  dueAts.set("a", 1000);
  dueAts.set("b", 1500);
  await runFor(500);
  dueAts.delete("a");
  dueAts.set("b", 1800);
  dueAts.set("c", 1700);
  await runFor(2000);
  expect(promoted).toEqual([
    { id: "c", lateMs: 0 },
    { id: "b", lateMs: 0 },
  ]);
});
