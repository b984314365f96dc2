import { expect, test } from "vitest";
import { entryTime, isoTime } from "./timestamp.ts";

const NOW = Date.parse("2026-03-01T12:00:00Z");

test.each([
  Number.NaN,
  Infinity,
  -Infinity,
  -1,
  8.64e15,
  8.64e15 + 1,
  1764000000000000000,
  1764000000000000,
  2 ** 64,
])("%d ms has a time that Date and Postgres read", (ms) => {
  expect(isoTime(ms)).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
});

test("a time in range is told as it is", () => {
  expect(isoTime(NOW)).toBe("2026-03-01T12:00:00.000Z");
});

test.each([
  [`${NOW - 5000}-3`, NOW - 5000],
  [`${NOW + 3_600_000}-0`, NOW + 3_600_000],
  ["1764000000000000000-0", NOW], // nanoseconds
  ["1764000000000000-7", NOW], // microseconds
  ["1764000000-0", NOW], // seconds
  ["1-1", NOW],
  ["18446744073709551615-18446744073709551615", NOW],
  ["", NOW],
  ["garbage", NOW],
])("entry %s counts as added at %i", (entryId, at) => {
  expect(entryTime(entryId, NOW)).toBe(at);
});
