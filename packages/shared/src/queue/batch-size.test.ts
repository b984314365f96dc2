import { expect, test } from "vitest";
import {
  createReadSize,
  sizeOf,
  sizeOfFields,
  splitBySize,
} from "./batch-size.ts";

const small = Array.from({ length: 8 }, () => 500);

test("until it has seen an entry, a read is small enough for the largest", () => {
  expect(createReadSize(2 ** 20).fit(100)).toBe(4);
});

test("reads grow quickly while entries are small", () => {
  const size = createReadSize(2 ** 20);
  const counts = small.map(() => {
    size.learn(small);
    return size.fit(100);
  });
  expect(counts).toEqual([7, 15, 31, 62, 100, 100, 100, 100]);
});

test("large entries count at once, and never fewer than one is read", () => {
  const size = createReadSize(1000);
  for (let n = 0; n < 30; n++) size.learn([10]);
  expect(size.fit(50)).toBeGreaterThan(45);
  size.learn([500, 300]);
  expect(size.fit(50)).toBe(2);
  size.learn([5000]);
  expect(size.fit(50)).toBe(1);
  expect(size.typicalBytes()).toBe(5000);
});

test("a read without entries teaches nothing", () => {
  const size = createReadSize(2 ** 20);
  size.learn([]);
  expect(size.fit(100)).toBe(4);
});

test("items are split where their sizes exceed the bound", () => {
  const own = (size: number) => size;
  expect(splitBySize([4, 4, 4, 20, 1, 9], own, 10)).toEqual([
    [4, 4],
    [4],
    [20],
    [1, 9],
  ]);
  expect(splitBySize([1, 1, 1], own, 10, 2)).toEqual([[1, 1], [1]]);
  expect(splitBySize([], own, 10)).toEqual([]);
});

test("long texts are measured in bytes, not in characters", () => {
  expect(sizeOf("€".repeat(2000))).toBe(6000);
  expect(sizeOfFields(["payload", "x".repeat(2000)])).toBe(2007);
});
