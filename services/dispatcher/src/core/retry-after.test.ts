import { expect, onTestFinished, test, vi } from "vitest";
import { LONGEST_RETRY_AFTER_MS, retryAfterMs } from "./retry-after.ts";

const now = Date.parse("2026-03-01T12:00:00Z");

test.each([
  ["0", 0],
  ["3", 3000],
  [" 120 ", 120_000],
  ["3600", LONGEST_RETRY_AFTER_MS],
  ["Sun, 01 Mar 2026 12:00:30 GMT", 30_000],
  ["Sunday, 01-Mar-26 12:00:30 GMT", 30_000],
  ["Sun Mar  1 12:00:30 2026", 30_000],
  ["Sun, 01 Mar 2026 12:00:30", 30_000],
  ["Sun, 01 Mar 2026 07:00:30 -0500", 30_000],
  ["Sun, 01 Mar 2026 07:00:30 EST", 30_000],
  ["2026-03-01T12:00:30Z", 30_000],
  ["2026-03-01T12:00:30", 30_000],
  ["4.0", 4000],
  ["1.2345", 1235],
  ["5, 5", 5000],
  ["5,5", 5000],
  ["3, 5", 5000],
  ["soon, 5", 5000],
  ["Sun, 01 Mar 2026 12:00:30 GMT, Sun, 01 Mar 2026 12:00:30 GMT", 30_000],
  ["Sun Mar  1 12:00:30 2026, Sun Mar  1 12:00:30 2026", 30_000],
  ["10, Sun, 01 Mar 2026 12:00:30 GMT", 30_000],
])("%j asks for %d ms", (header, ms) => {
  expect(retryAfterMs(header, now)).toBe(ms);
});

test.each([
  "3601",
  "86400",
  "99999999999999999999",
  "Sun, 01 Mar 2026 13:00:01 GMT",
  "Mon, 01 Mar 2027 12:00:00 GMT",
])("%j asks for more than an hour and gets an hour", (header) => {
  expect(retryAfterMs(header, now)).toBe(LONGEST_RETRY_AFTER_MS);
});

test("a date without a zone is meant in GMT, wherever we are", () => {
  onTestFinished(() => void vi.unstubAllEnvs());
  vi.stubEnv("TZ", "America/New_York");
  expect(new Date(now).getTimezoneOffset()).toBe(300);
  expect(retryAfterMs("Sun Mar  1 12:00:30 2026", now)).toBe(30_000);
});

test("a date in the past asks for no wait", () => {
  expect(retryAfterMs("Sun, 01 Mar 2026 11:00:00 GMT", now)).toBe(0);
});

test.each([
  undefined,
  "",
  "  ",
  "-5",
  "1.",
  ".5",
  "+3",
  "2026-03-01",
  "soon",
  "1e3",
  "0x10",
  ",",
  "5 seconds",
  `${"5, ".repeat(200)}5`,
])("%j is no Retry-After", (header) => {
  expect(retryAfterMs(header, now)).toBeNull();
});
