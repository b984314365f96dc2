import { expect, test } from "vitest";
import { exactInstant, toMs } from "./instant.ts";

test.each([
  ["2026-01-31", "2026-01-31T00:00:00.000000Z"],
  ["2026-01-31T12:30", "2026-01-31T12:30:00.000000Z"],
  ["2026-01-31T12:30:15", "2026-01-31T12:30:15.000000Z"],
  ["2026-01-31T12:30:15Z", "2026-01-31T12:30:15.000000Z"],
  ["2026-01-31T12:30:15.918606+00:00", "2026-01-31T12:30:15.918606Z"],
  ["2026-01-31T12:30:15.918606 00:00", "2026-01-31T12:30:15.918606Z"],
  ["2026-01-31T12:30:15.9+01:30", "2026-01-31T11:00:15.900000Z"],
  ["2026-01-31T12:30:15.9186-0700", "2026-01-31T19:30:15.918600Z"],
  ["2026-01-31T12:30:15.918606000Z", "2026-01-31T12:30:15.918606Z"],
])("%s is %s", (text, instant) => {
  expect(exactInstant(text, "up")).toBe(instant);
  expect(exactInstant(text, "down")).toBe(instant);
});

test("nanoseconds are rounded towards the side that is asked for", () => {
  const text = "2026-12-31T23:59:59.9999991Z";
  expect(exactInstant(text, "down")).toBe("2026-12-31T23:59:59.999999Z");
  expect(exactInstant(text, "up")).toBe("2027-01-01T00:00:00.000000Z");
});

test.each([
  "",
  "yesterday",
  "2026",
  "2026-13-01",
  "2026-01-31T25:00",
  "2026-01-31 12:30",
  "2026-01-31T12:30:15.Z",
  "2026-01-31T12:30:15+1",
  "0000-01-01",
  "9999-12-31T23:59:59-05:00",
  "1e3",
  "infinity",
])("%j is no instant", (text) => {
  expect(exactInstant(text, "up")).toBeNull();
});

test("milliseconds are rounded in the same way", () => {
  expect(toMs("2026-01-31T12:30:15.918606Z", "down") % 1000).toBe(918);
  expect(toMs("2026-01-31T12:30:15.918606Z", "up") % 1000).toBe(919);
  expect(toMs("2026-01-31T12:30:15.918000Z", "up") % 1000).toBe(918);
});
