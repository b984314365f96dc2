import { describe, expect, test } from "vitest";
import { createEndpointGate, type EndpointHealth } from "./endpoint-gate.ts";

const half = () => 0.5;

interface Behaviour {
  ms: number;
  outcome: EndpointHealth;
}

/**
 * A dispatcher in fake time: slots that always find work in the backlog, deferred work that comes back when it is due.
 * Returns how many attempts each endpoint ended, and the most slots it held at once.
 */
function simulate(options: {
  slots: number;
  forMs: number;
  backlog: (n: number) => string;
  behaviours: Record<string, Behaviour>;
}) {
  const gate = createEndpointGate(options.slots, half);
  const parked: string[] = [];
  const running: { endpoint: string; startedAt: number; endsAt: number }[] = [];
  const deferred: { endpoint: string; dueAt: number }[] = [];
  const ended: Record<string, number> = {};
  const mostHeld: Record<string, number> = {};
  let next = 0;

  function place(endpoint: string, now: number, ahead: number): boolean {
    const answer = gate.ask(endpoint, now, ahead);
    if (answer.kind === "park") return false;
    if (answer.kind === "defer") {
      deferred.push({ endpoint, dueAt: now + answer.delayMs });
      return true;
    }
    const { ms } = options.behaviours[endpoint]!;
    running.push({ endpoint, startedAt: now, endsAt: now + ms });
    const held = running.filter((each) => each.endpoint === endpoint).length;
    mostHeld[endpoint] = Math.max(mostHeld[endpoint] ?? 0, held);
    return true;
  }

  function placeParked(endpoint: string, now: number): void {
    for (;;) {
      const index = parked.indexOf(endpoint);
      if (index === -1 || !place(endpoint, now, 0)) return;
      parked.splice(index, 1);
    }
  }

  for (let now = 0; now < options.forMs; now += 5) {
    for (const each of running.filter(({ endsAt }) => endsAt <= now)) {
      running.splice(running.indexOf(each), 1);
      const { endpoint, startedAt } = each;
      gate.leave(
        endpoint,
        startedAt,
        now,
        options.behaviours[endpoint]!.outcome,
      );
      ended[endpoint] = (ended[endpoint] ?? 0) + 1;
      placeParked(endpoint, now);
    }
    if (now % 250 === 0) {
      for (const endpoint of new Set(parked))
        if (gate.isSuspect(endpoint, now)) placeParked(endpoint, now);
    }
    while (running.length + parked.length < options.slots) {
      const due = deferred.findIndex(({ dueAt }) => dueAt <= now);
      const endpoint =
        due === -1
          ? options.backlog(next++)
          : deferred.splice(due, 1)[0]!.endpoint;
      const ahead = parked.filter((each) => each === endpoint).length;
      if (!place(endpoint, now, ahead)) parked.push(endpoint);
    }
  }
  return { ended, mostHeld, deferredAtEnd: deferred.length };
}
const fast = { ms: 50, outcome: "answered" } as const;
const others = { ok0: fast, ok1: fast, ok2: fast };
/** Nine in ten to endpoints that answer fast, one in ten to the odd one. */
const tenthTo = (odd: Behaviour, slots: number) => {
  const { ended, mostHeld, deferredAtEnd } = simulate({
    slots,
    forMs: 20_000,
    backlog: (n) => (n % 10 === 5 ? "odd" : `ok${n % 3}`),
    behaviours: { ...others, odd },
  });
  const count = (name: string) => ended[name] ?? 0;
  return {
    others: count("ok0") + count("ok1") + count("ok2"),
    odd: count("odd"),
    mostHeld: mostHeld["odd"],
    deferredAtEnd,
  };
};

describe("an odd endpoint with a tenth of the traffic", () => {
  test.each([
    [5, 1],
    [20, 2],
    [40, 5],
  ])(
    "of %d slots holds at most %d when it hangs, and the others keep their pace",
    (slots, share) => {
      const without = tenthTo(fast, slots);
      const withHanging = tenthTo({ ms: 30_000, outcome: "timeout" }, slots);
      expect(withHanging.mostHeld).toBe(share);
      expect(withHanging.others).toBeGreaterThan(0.8 * without.others);
      expect(withHanging.deferredAtEnd).toBeGreaterThan(0);
    },
  );

  test.each([300, 900, 3000])(
    "takes no more from the others when it fails after %d ms",
    (ms) => {
      const without = tenthTo(fast, 5);
      const withFailing = tenthTo({ ms, outcome: "failed" }, 5);
      expect(withFailing.others).toBeGreaterThan(0.8 * without.others);
      expect(withFailing.odd).toBeGreaterThan(0);
    },
  );

  test("loses nothing by failing at once", () => {
    const without = tenthTo(fast, 5);
    const withRefusing = tenthTo({ ms: 5, outcome: "failed" }, 5);
    expect(withRefusing.odd).toBeGreaterThanOrEqual(without.odd);
    expect(withRefusing.deferredAtEnd).toBe(0);
  });

  test.each([
    [5, 4, 1000],
    [5, 4, 5000],
    [20, 15, 5000],
  ])(
    "of %d slots holds at most %d by answering after %d ms, and leaves the others a quarter of their pace",
    (slots, share, ms) => {
      const without = tenthTo(fast, slots);
      const withSlow = tenthTo({ ms, outcome: "answered" }, slots);
      expect(withSlow.mostHeld).toBe(share);
      expect(withSlow.others).toBeGreaterThan(0.25 * without.others);
    },
  );
});
