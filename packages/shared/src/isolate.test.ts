import { expect, test } from "vitest";
import { PipelineError } from "./errors.ts";
import { isolateRefused } from "./isolate.ts";

const refusing =
  (bad: number[], calls: number[][]) => async (items: number[]) => {
    calls.push(items);
    if (items.some((item) => bad.includes(item)))
      throw new PipelineError("DATABASE_REFUSED", "no");
    return items.map((item) => item * 10);
  };

test("a batch that nobody refuses runs once", async () => {
  const calls: number[][] = [];
  expect(await isolateRefused([1, 2, 3], refusing([], calls))).toEqual([
    { item: 1, result: 10 },
    { item: 2, result: 20 },
    { item: 3, result: 30 },
  ]);
  expect(calls).toHaveLength(1);
});

test("refused items stand alone and the others go through, in order", async () => {
  const items = Array.from({ length: 100 }, (_, index) => index);
  const calls: number[][] = [];
  const results = await isolateRefused(items, refusing([0, 41, 99], calls));
  expect(results.map(({ item }) => item)).toEqual(items);
  expect(
    results.filter((outcome) => "refused" in outcome).map(({ item }) => item),
  ).toEqual([0, 41, 99]);
  expect(calls.length).toBeLessThan(50);
});

test("a fault that blames the moment is thrown and nothing is taken apart", async () => {
  const calls: number[][] = [];
  const run = async (items: number[]) => {
    calls.push(items);
    throw new PipelineError("DATABASE_UNAVAILABLE", "away");
  };
  await expect(isolateRefused([1, 2], run)).rejects.toThrow("away");
  expect(calls).toHaveLength(1);
});
