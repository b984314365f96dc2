import type { Delivery } from "@pipeline/shared/entries";
import { createLogger } from "@pipeline/shared/logger";
import { expect, test, vi } from "vitest";
import { createUnsure } from "./unsure.ts";

/** `rows` holds the ids of pending rows. */
function setUp() {
  const rows = new Set<string>();
  const calls: string[][] = [];
  const enqueued: string[] = [];
  const state = { isAway: false };
  const answer = (ids: string[]) => {
    calls.push(ids);
    if (state.isAway) throw new Error("away");
    return ids.filter((id) => rows.has(id));
  };
  let time = 0;
  const logger = createLogger("test", "silent");
  const warn = vi.spyOn(logger, "warn");
  const unsure = createUnsure({
    logger,
    now: () => time,
    writes: {
      withdraw: async (ids) => {
        const found = answer(ids);
        for (const id of found) rows.delete(id);
        return found;
      },
      pending: async (ids) => answer(ids).map((id) => ({ id }) as Delivery),
    },
    enqueue: async (deliveries) => {
      enqueued.push(...deliveries.map(({ id }) => id));
      return deliveries.length;
    },
  });
  /** Runs the rounds of so many ms. */
  const pass = async (ms: number) => {
    for (const end = time + ms; time < end;)
      time += Math.max(1, await unsure.runOnce().catch(() => 1000));
  };
  return { unsure, rows, calls, enqueued, state, warn, pass };
}

test("what appears later is withdrawn without a key and enqueued once with a key", async () => {
  const { unsure, rows, enqueued, pass } = setUp();
  unsure.add("a", false);
  unsure.add("b", true);
  await pass(20_000);
  rows.add("a").add("b");
  await pass(600);
  expect([...rows]).toEqual(["b"]);
  await pass(60_000);
  expect(enqueued).toEqual(["b"]);
});

test("it is looked for as long as a commit may take, less and less often, and not for ever", async () => {
  const { unsure, rows, calls, pass } = setUp();
  unsure.add("a", false);
  await pass(590_000);
  expect(calls.length).toBeLessThan(500);
  rows.add("a");
  await pass(6000);
  expect(rows.size).toBe(0);
  unsure.add("b", false);
  await pass(660_000);
  const before = calls.length;
  await pass(600_000);
  expect(calls.length).toBe(before);
});

test("a database that is away is asked again, for all of them", async () => {
  const { unsure, rows, state, calls, pass } = setUp();
  state.isAway = true;
  const ids = Array.from({ length: 1000 }, (_, index) => `${index}`);
  for (const id of ids) {
    unsure.add(id, false);
    rows.add(id);
  }
  await pass(20_000);
  expect(rows.size).toBe(1000);
  state.isAway = false;
  await pass(6000);
  expect(rows.size).toBe(0);
  expect(Math.max(...calls.map(({ length }) => length))).toBe(100);
});

test("at the end it looks once more, and names what was not found", async () => {
  const { unsure, rows, warn } = setUp();
  unsure.add("a", false);
  unsure.add("b", false);
  await unsure.runOnce();
  rows.add("a");
  await unsure.stop();
  expect(rows.size).toBe(0);
  expect(warn).toHaveBeenLastCalledWith(
    { deliveryIds: ["b"] },
    "deliveries.unsure",
  );
});
