import { expect, test } from "vitest";
import { LONGEST_RETRY_AFTER_MS, retryAfterMs } from "./retry-after.ts";

const now = Date.parse("2026-03-01T12:00:00Z");

test.each([
  ["0", 0],
  ["3", 3000],
  [" 120 ", 120_000],
  ["3600", LONGEST_RETRY_AFTER_MS],
  ["Sun, 01 Mar 2026 12:00:30 GMT", 30_000],
  ["Sunday, 01-Mar-26 12:00:30 GMT", 30_000],
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

test("a date in the past asks for no wait", () => {
  expect(retryAfterMs("Sun, 01 Mar 2026 11:00:00 GMT", now)).toBe(0);
});

test.each([
  undefined,
  "",
  "  ",
  "-5",
  "1.5",
  "+3",
  "2026-03-01",
  "soon",
  "1e3",
  "0x10",
  "3, 5",
])("%j is no Retry-After", (header) => {
  expect(retryAfterMs(header, now)).toBeNull();
});
