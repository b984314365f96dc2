import { expect, test } from "vitest";
import { createHeldRows } from "./held-rows.ts";

test("what was found locked rests for a second, and is then tried by one at a time", () => {
  const held = createHeldRows();
  expect(held.enter(["lead a"], 0)).toBe("free");
  held.found(["lead a"], 0);
  expect(held.isResting(["lead a"], 999)).toBe(true);
  expect(held.enter(["lead a", "key 1"], 999)).toBe("held");
  expect(held.enter(["lead b"], 999)).toBe("free");
  expect(held.enter(["lead a"], 1000)).toBe("probe");
  expect(held.enter(["lead a"], 1001)).toBe("held");
  held.found(["lead a"], 1300);
  expect(held.enter(["lead a"], 2299)).toBe("held");
  expect(held.enter(["lead a"], 2300)).toBe("probe");
  held.released(["lead a"]);
  expect(held.enter(["lead a"], 2301)).toBe("free");
});

test("a probe that never ends makes room for another", () => {
  const held = createHeldRows();
  held.found(["lead a"], 0);
  expect(held.enter(["lead a"], 1000)).toBe("probe");
  expect(held.enter(["lead a"], 10_999)).toBe("held");
  expect(held.enter(["lead a"], 11_000)).toBe("probe");
});

test("only the latest thousand are remembered", () => {
  const held = createHeldRows();
  for (let i = 0; i < 1001; i++) held.found([`lead ${i}`], 0);
  expect(held.enter(["lead 0"], 1)).toBe("free");
  expect(held.enter(["lead 1"], 1)).toBe("held");
});
