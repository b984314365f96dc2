import { expect, test } from "vitest";
import {
  EXTENDED_SCHEDULE,
  parseRetrySchedule,
  retryDelayMs,
  scheduleLength,
} from "./retry-schedule.ts";

test("the product's schedule waits 5, 25 and 125 seconds, four attempts in all", () => {
  const schedule = parseRetrySchedule("5,25,125")!;
  expect(
    [1, 2, 3].map((position) => retryDelayMs(schedule, position, 0, 0.9)),
  ).toEqual([5000, 25_000, 125_000]);
  expect(scheduleLength(schedule)).toBe(4);
});

test("`extended` is the ladder of ten attempts", () => {
  expect(parseRetrySchedule(" extended ")).toBe(EXTENDED_SCHEDULE);
  expect(scheduleLength(EXTENDED_SCHEDULE)).toBe(10);
});

test.each([
  ["0.5, 2", [0.5, 2]],
  ["0", [0]],
  ["604800", [604_800]],
  ["604801", null],
  ["5,,25", null],
  ["", null],
  ["-1", null],
  ["five", null],
  ["Infinity", null],
  ["5;25", null],
])("%j is read as %j", (text, schedule) => {
  expect(parseRetrySchedule(text)).toEqual(schedule);
});

test("a schedule that is too short repeats its last delay", () => {
  expect(retryDelayMs([5, 25], 7, 0, 0)).toBe(25_000);
});

test("jitter moves a delay either way by its share and no further", () => {
  expect(retryDelayMs([10], 1, 0.1, 0)).toBe(9000);
  expect(retryDelayMs([10], 1, 0.1, 0.5)).toBe(10_000);
  expect(retryDelayMs([10], 1, 0.1, 0.999_999)).toBe(11_000);
});
