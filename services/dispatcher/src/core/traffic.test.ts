import { describe, expect, test } from "vitest";
import { createShare, type EndpointHealth } from "./share.ts";
import { createTraffic, type Item, type Placement } from "./traffic.ts";

const half = () => 0.5;

interface Behaviour {
  ms: number;
  health: EndpointHealth;
}

interface Work extends Item {
  endsAt?: number;
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
  const traffic = createTraffic<Work>(
    options.slots,
    createShare(options.slots, half),
  );
  const running = new Set<Work>();
  const deferred: { endpoint: string; dueAt: number }[] = [];
  const ended: Record<string, number> = {};
  const mostHeld: Record<string, number> = {};
  let next = 0;
  let ids = 0;

  function carryOut(placements: Placement<Work>[], now: number): void {
    for (const placement of placements) {
      const { kind, work } = placement;
      const { endpoint } = work;
      if (kind === "go") {
        work.endsAt = now + options.behaviours[endpoint]!.ms;
        running.add(work);
        const held = [...running].filter((each) => each.endpoint === endpoint);
        mostHeld[endpoint] = Math.max(mostHeld[endpoint] ?? 0, held.length);
      } else if (kind === "defer") {
        deferred.push({ endpoint, dueAt: now + placement.delayMs });
        carryOut(traffic.leave(work, now, "not asked"), now);
      }
    }
  }

  for (let now = 0; now < options.forMs; now += 5) {
    for (const work of [...running].filter(({ endsAt }) => endsAt! <= now)) {
      running.delete(work);
      const { endpoint } = work;
      ended[endpoint] = (ended[endpoint] ?? 0) + 1;
      const { health } = options.behaviours[endpoint]!;
      carryOut(traffic.leave(work, now, health), now);
    }
    if (now % 250 === 0) carryOut(traffic.sweep(now), now);
    while (traffic.free() > 0) {
      const due = deferred.findIndex(({ dueAt }) => dueAt <= now);
      const endpoint =
        due === -1
          ? options.backlog(next++)
          : deferred.splice(due, 1)[0]!.endpoint;
      const work = { entryId: String(ids++), endpoint };
      carryOut([traffic.offer(work, now)], now);
    }
  }
  return { ended, mostHeld, deferredAtEnd: deferred.length };
}

const fast = { ms: 50, health: "answered" } as const;
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
      const withHanging = tenthTo({ ms: 30_000, health: "timeout" }, slots);
      expect(withHanging.mostHeld).toBe(share);
      expect(withHanging.others).toBeGreaterThan(0.8 * without.others);
      expect(withHanging.deferredAtEnd).toBeGreaterThan(0);
    },
  );

  test.each([300, 900, 3000])(
    "takes no more from the others when it fails after %d ms",
    (ms) => {
      const without = tenthTo(fast, 5);
      const withFailing = tenthTo({ ms, health: "failed" }, 5);
      expect(withFailing.others).toBeGreaterThan(0.8 * without.others);
      expect(withFailing.odd).toBeGreaterThan(0);
    },
  );

  test("loses nothing by failing at once", () => {
    const without = tenthTo(fast, 5);
    const withRefusing = tenthTo({ ms: 5, health: "failed" }, 5);
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
      const withSlow = tenthTo({ ms, health: "answered" }, slots);
      expect(withSlow.mostHeld).toBe(share);
      expect(withSlow.others).toBeGreaterThan(0.25 * without.others);
    },
  );
});
