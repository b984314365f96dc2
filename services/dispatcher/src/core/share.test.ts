import { expect, test } from "vitest";
import { createShare, type Share } from "./share.ts";

const half = () => 0.5;
const SLOTS = 8;
const newGate = () => createShare(SLOTS, half);
const fill = (gate: Share, endpoint: string, now: number) => {
  let count = 0;
  while (gate.ask(endpoint, now).kind === "go") count++;
  return count;
};
/** A gate at which `endpoint` has just answered after `ms`, and which has seen another endpoint. */
function answering(endpoint: string, ms: number, now: number): Share {
  const gate = newGate();
  gate.ask("other", now - ms);
  gate.leave("other", now - ms, now - ms, "answered");
  gate.ask(endpoint, now - ms);
  gate.leave(endpoint, now - ms, now, "answered");
  return gate;
}

test("an endpoint that is alone may take every slot", () => {
  const gate = newGate();
  for (let n = 0; n < SLOTS; n++)
    expect(gate.ask("a", 0)).toEqual({ kind: "go" });
});

test("an endpoint is alone again when no other was seen for a minute", () => {
  const gate = newGate();
  gate.ask("b", 0);
  expect(fill(gate, "a", 60_000)).toBe(1);
  gate.leave("a", 60_000, 60_001, "not asked");
  expect(fill(gate, "a", 60_001)).toBe(SLOTS);
});

test("a new endpoint beside others gets an eighth of the slots, and the rest of its work waits here", () => {
  const gate = newGate();
  gate.ask("b", 0);
  expect(gate.ask("a", 1)).toEqual({ kind: "go" });
  expect(gate.ask("a", 1)).toEqual({ kind: "park" });
});

test("an endpoint that answers gets all but a quarter of the slots, and the rest of its work waits here", () => {
  const gate = answering("a", 50, 1000);
  expect(fill(gate, "a", 1000)).toBe(6);
  expect(gate.ask("a", 1000)).toEqual({ kind: "park" });
});

test("work of an endpoint that answers slowly does not wait here for longer than half a second", () => {
  const gate = answering("a", 3000, 4000);
  expect(fill(gate, "a", 4000)).toBe(6);
  gate.leave("a", 4000, 4000, "not asked");
  gate.ask("a", 4000);
  // Six slots of 3 s each: one comes free every half second.
  expect(gate.ask("a", 4000, 0)).toEqual({ kind: "park" });
  expect(gate.ask("a", 4000, 1)).toMatchObject({ kind: "defer" });
});

test("a slot that is left is free again", () => {
  const gate = answering("a", 50, 1000);
  fill(gate, "a", 1000);
  gate.leave("a", 1000, 1001, "answered");
  expect(gate.ask("a", 1001)).toEqual({ kind: "go" });
  expect(gate.ask("a", 1001)).toEqual({ kind: "park" });
});

test("an attempt without an answer for a second makes a new endpoint suspect", () => {
  const gate = newGate();
  gate.ask("b", 0);
  gate.ask("a", 0);
  expect(gate.isSuspect("a", 1000)).toBe(false);
  expect(gate.isSuspect("a", 1001)).toBe(true);
  expect(gate.ask("a", 1001).kind).toBe("defer");
});

test("an endpoint that takes its time is suspect after four times its usual answer time only", () => {
  const gate = answering("a", 2000, 10_000);
  gate.ask("a", 10_000);
  expect(gate.isSuspect("a", 18_000)).toBe(false);
  expect(gate.isSuspect("a", 18_001)).toBe(true);
});

test("the usual answer time follows the recent answers", () => {
  const gate = answering("a", 2000, 10_000);
  for (let n = 0; n < 20; n++) {
    gate.ask("a", 10_000);
    gate.leave("a", 10_000, 10_010, "answered");
  }
  gate.ask("a", 20_000);
  expect(gate.isSuspect("a", 21_001)).toBe(true);
});

test.each([
  ["a timeout", "timeout", 30],
  ["a slow failure", "failed", 251],
] as const)(
  "after %s an endpoint is suspect until it answers again",
  (_, health, ms) => {
    const gate = answering("a", 50, 1000);
    gate.ask("a", 1000);
    gate.leave("a", 1000, 1000 + ms, health);
    expect(gate.isSuspect("a", 2000)).toBe(true);
    expect(fill(gate, "a", 2000)).toBe(1);
    gate.leave("a", 2000, 2001, "answered");
    expect(gate.isSuspect("a", 2001)).toBe(false);
    expect(fill(gate, "a", 2001)).toBe(6);
  },
);

test("an attempt that never reached the endpoint says nothing of it", () => {
  const gate = newGate();
  gate.ask("b", 0);
  gate.ask("a", 0);
  gate.leave("a", 0, 1, "not asked");
  expect(gate.isSuspect("a", 1)).toBe(false);
  expect(fill(gate, "a", 1)).toBe(1);
});

test("deferred deliveries are spaced, each at least a quarter of a second away and none beyond a minute", () => {
  const gate = newGate();
  gate.ask("b", 0);
  gate.ask("a", 0);
  const delays = Array.from({ length: 200 }, () => {
    const answer = gate.ask("a", 2000);
    return answer.kind === "defer" ? answer.delayMs : Number.NaN;
  });
  for (const delayMs of delays) {
    expect(delayMs).toBeGreaterThanOrEqual(0.75 * 250);
    expect(delayMs).toBeLessThanOrEqual(60_000);
  }
  const [first, second, third] = delays as [number, number, number];
  expect(second - first).toBeGreaterThanOrEqual(0.8 * 2000);
  expect(third).toBeGreaterThan(second);
});

test("once the endpoint has answered, the spacing begins anew", () => {
  const gate = newGate();
  gate.ask("b", 0);
  gate.ask("a", 0);
  for (let n = 0; n < 20; n++) gate.ask("a", 2000);
  gate.leave("a", 0, 2001, "answered");
  gate.ask("a", 2001);
  expect(gate.isSuspect("a", 20_000)).toBe(true);
  const answer = gate.ask("a", 20_000);
  // One spacing: as long as the oldest attempt has been under way.
  expect(answer.kind === "defer" && answer.delayMs).toBeLessThan(18_000);
});

test("ten thousand idle endpoints are forgotten, but none with an attempt in flight", () => {
  const gate = newGate();
  gate.ask("b", 0);
  gate.ask("busy", 0);
  for (let n = 0; n < 10_000; n++) {
    gate.ask(`idle ${n}`, 1);
    gate.leave(`idle ${n}`, 1, 2, "timeout");
  }
  expect(gate.isSuspect("idle 0", 2)).toBe(false);
  expect(gate.isSuspect("busy", 2000)).toBe(true);
  gate.leave("idle 0", 1, 3, "timeout");
  expect(gate.isSuspect("idle 0", 3)).toBe(false);
});

test("an endpoint whose first answer is slow leaves a quarter of the slots to others, waiting work included", () => {
  const gate = createShare(5, () => 0.5);
  gate.ask("b", 0); // not alone
  expect(gate.ask("a", 0)).toEqual({ kind: "go" });
  expect(gate.ask("a", 250, 3)).toEqual({ kind: "park" });
  expect(gate.ask("a", 251, 2)).toEqual({ kind: "park" });
  expect(gate.ask("a", 251, 3)).toEqual({ kind: "defer", delayMs: 250 });
});
