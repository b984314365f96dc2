import { expect, test } from "vitest";
import {
  answered,
  begin,
  countOverdue,
  createHealth,
  end,
  type Health,
  hung,
  isSick,
  overdueAfterMs,
} from "./health.ts";

/** Attempts that are still running, begun at these times; `answerMs`: an answer that took so long came at time 0. */
function withRunning(startedAt: number[], answerMs?: number): Health {
  const health = createHealth(0);
  if (answerMs !== undefined) answered(health, -answerMs, 0);
  for (const each of startedAt) begin(health, each);
  return health;
}

test("an attempt is overdue after a second, and after four times the usual answer time when that is longer", () => {
  expect(overdueAfterMs(createHealth(0))).toBe(1000);
  expect(overdueAfterMs(withRunning([], 50))).toBe(1000);
  expect(overdueAfterMs(withRunning([], 2000))).toBe(8000);
});

test("the usual answer time follows the recent answers", () => {
  const health = withRunning([], 2000);
  for (let n = 0; n < 20; n++) answered(health, 1000, 1010);
  expect(health.answerMs).toBeGreaterThan(10);
  expect(health.answerMs).toBeLessThan(50);
});

test("only the attempts that take too long are overdue", () => {
  const health = withRunning([0, 100, 200]);
  expect(countOverdue(health, 1000)).toBe(0);
  expect(countOverdue(health, 1001)).toBe(1);
  expect(countOverdue(health, 1150)).toBe(2);
  expect(countOverdue(health, 9999)).toBe(3);
  expect(countOverdue(createHealth(0), 9999)).toBe(0);
});

test("one without an attempt is not sick, however long ago it was seen", () => {
  expect(isSick(createHealth(0), 1e9)).toBe(false);
  expect(isSick(withRunning([], 50), 1e9)).toBe(false);
});

test("a new one is sick when its first attempt is overdue", () => {
  const health = withRunning([0]);
  expect(isSick(health, 1000)).toBe(false);
  expect(isSick(health, 1001)).toBe(true);
});

test("an attempt that is overdue says nothing while later ones are answered", () => {
  const health = withRunning([0]);
  begin(health, 500);
  end(health, 500);
  answered(health, 500, 550);
  expect(isSick(health, 5000)).toBe(false);
  begin(health, 5000); // nothing has answered since this one began
  expect(isSick(health, 6000)).toBe(false);
  expect(isSick(health, 6001)).toBe(true);
});

test("an attempt that has hung makes it sick until something answers", () => {
  const health = withRunning([], 50);
  hung(health, 100);
  expect(isSick(health, 10_100)).toBe(true);
  answered(health, 10_200, 10_250);
  expect(isSick(health, 10_250)).toBe(false);
});

test("an attempt that began at the moment of an answer came after it", () => {
  const health = withRunning([0], 50);
  expect(isSick(health, 1001)).toBe(true);
  end(health, 0);
  hung(health, 0);
  expect(isSick(health, 1002)).toBe(true);
});

test("an attempt that has hung says nothing when others were answered meanwhile", () => {
  const health = withRunning([], 50);
  answered(health, 5000, 5050);
  hung(health, 100);
  expect(isSick(health, 10_100)).toBe(false);
});

test("of several that have hung the one that began last counts, in whatever order they end", () => {
  const health = createHealth(0);
  hung(health, 200);
  answered(health, 140, 150);
  hung(health, 100);
  expect(isSick(health, 10_000)).toBe(true);
});

test("an attempt ends once, and one that is not known changes nothing", () => {
  const health = withRunning([0, 0, 100]);
  end(health, 0);
  expect(health.startedAt).toEqual([0, 100]);
  end(health, 50);
  expect(health.startedAt).toEqual([0, 100]);
});
