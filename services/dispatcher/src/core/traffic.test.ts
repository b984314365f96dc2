import { describe, expect, test } from "vitest";
import { createShare, type EndpointHealth } from "./share.ts";
import { createTraffic, type Item, type Placement } from "./traffic.ts";

interface Behaviour {
  ms: number;
  health: EndpointHealth;
}

interface Work extends Item {
  endsAt?: number;
}

/**
 * A dispatcher in fake time: slots that always find work in the backlog, and waiting lists that are let out as the share
 * frees, before what is new. Returns how many attempts each endpoint ended, the most slots it held at once (attempts that
 * stand aside among them), and how often a delivery went to a waiting list.
 */
function simulate(options: {
  slots: number;
  forMs: number;
  /** The endpoint of the nth delivery; null when none has come yet. */
  backlog: (n: number, now: number) => string | null;
  behaviours: Record<string, Behaviour>;
}) {
  const share = createShare(options.slots);
  const traffic = createTraffic<Work>(options.slots, share);
  const running = new Set<Work>();
  const waiting = new Map<string, Work[]>();
  const stream: Work[] = [];
  const leaving: Work[] = [];
  const ended: Record<string, number> = {};
  const mostHeld: Record<string, number> = {};
  let next = 0;
  let waits = 0;

  function carryOut(placements: Placement<Work>[], now: number): void {
    for (const { kind, work } of placements) {
      const { endpoint } = work;
      if (kind === "go") {
        work.endsAt = now + options.behaviours[endpoint]!.ms;
        running.add(work);
        const held = [...running].filter((each) => each.endpoint === endpoint);
        mostHeld[endpoint] = Math.max(mostHeld[endpoint] ?? 0, held.length);
      } else if (kind === "wait") {
        waits++;
        leaving.push(work);
      }
    }
  }

  function letOut(now: number): void {
    const lists = [...waiting].filter(([, list]) => list.length > 0);
    const due = lists.map(([endpoint]) => ({ endpoint, origin: endpoint }));
    const rooms = share.rooms(due, now);
    for (const [i, [, list]] of lists.entries())
      stream.push(...list.splice(0, rooms[i]));
  }

  function nextWork(now: number): Work | null {
    const waited = stream.shift();
    if (waited !== undefined) return waited;
    const endpoint = options.backlog(next, now);
    if (endpoint === null) return null;
    return { entryId: String(next++), endpoint, origin: endpoint };
  }

  /** Until then they hold their slots. */
  function arrive(now: number): void {
    for (const work of leaving.splice(0)) {
      const list = waiting.get(work.endpoint) ?? [];
      list.push(work);
      waiting.set(work.endpoint, list);
      carryOut(traffic.leave(work, now, "not asked"), now);
    }
  }

  for (let now = 0; now < options.forMs; now += 5) {
    arrive(now);
    for (const work of [...running].filter(({ endsAt }) => endsAt! <= now)) {
      running.delete(work);
      const { endpoint } = work;
      ended[endpoint] = (ended[endpoint] ?? 0) + 1;
      const { health } = options.behaviours[endpoint]!;
      carryOut(traffic.leave(work, now, health), now);
    }
    if (now % 250 === 0) carryOut(traffic.sweep(now), now);
    if (now % 10 === 0 && stream.length === 0) letOut(now);
    while (traffic.free() > 0) {
      const work = nextWork(now);
      if (work === null) break;
      carryOut([traffic.offer(work, now)], now);
    }
    expect(traffic.running()).toBe(running.size + leaving.length);
  }
  const waitingAtEnd = [...waiting.values()].flat().length;
  return { ended, mostHeld, waits, waitingAtEnd, share, traffic };
}

const fast = { ms: 50, health: "answered" } as const;
const others = { ok0: fast, ok1: fast, ok2: fast };
/** Nine in ten to endpoints that answer fast, one in ten to the odd one. */
const tenthTo = (odd: Behaviour, slots: number) => {
  const { ended, mostHeld, waitingAtEnd } = simulate({
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
    waitingAtEnd,
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
      expect(withHanging.waitingAtEnd).toBeGreaterThan(0);
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

  test("is asked once a second when it refuses at once, and costs the others nothing", () => {
    const without = tenthTo(fast, 5);
    const withRefusing = tenthTo({ ms: 5, health: "failed" }, 5);
    expect(withRefusing.odd).toBeGreaterThanOrEqual(15);
    expect(withRefusing.odd).toBeLessThanOrEqual(30);
    expect(withRefusing.others).toBeGreaterThan(0.95 * without.others);
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

test("every delivery in a waiting list is let out and delivered in the end, and then nothing is counted any more", () => {
  const COUNT = 1000;
  const { ended, waits, waitingAtEnd, share, traffic } = simulate({
    slots: 5,
    forMs: 120_000,
    backlog: (n) => (n < COUNT ? (n % 2 === 0 ? "slow" : `ok${n % 3}`) : null),
    behaviours: { ...others, slow: { ms: 700, health: "answered" } },
  });
  expect(waits).toBeGreaterThan(0);
  expect(ended["slow"]).toBe(COUNT / 2);
  expect(Object.values(ended).reduce((sum, each) => sum + each)).toBe(COUNT);
  expect(waitingAtEnd).toBe(0);
  expect([traffic.free(), traffic.running(), share.aside()]).toEqual([5, 0, 0]);
});

describe("parked work", () => {
  const work = (entryId: string, endpoint: string) => ({
    entryId,
    endpoint,
    origin: endpoint,
  });

  test("for a new endpoint leaves soon when no answer comes", () => {
    const traffic = createTraffic<Item>(5, createShare(5));
    const offer = (id: string) => traffic.offer(work(id, "new"), 0).kind;
    expect(["1", "2", "3", "4", "5"].map(offer)).toEqual([
      "go",
      "park",
      "park",
      "park",
      "park",
    ]);
    expect(traffic.sweep(250)).toEqual([]);
    expect(traffic.sweep(500)).toHaveLength(4);
    for (const id of ["2", "3", "4", "5"])
      traffic.leave(work(id, "new"), 501, "not asked");
    expect(traffic.free()).toBe(4);
  });

  test("for a new endpoint takes no slot that the new must leave to others, while something hangs", () => {
    const traffic = createTraffic<Item>(5, createShare(5));
    traffic.offer(work("0", "hanging"), 0);
    traffic.sweep(1500);
    const offer = (id: string) => traffic.offer(work(id, "new"), 1500).kind;
    expect(["1", "2", "3", "4", "5"].map(offer)).toEqual([
      "go",
      "park",
      "park",
      "wait",
      "wait",
    ]);
  });

  test("of another path of the host goes when an attempt there ends", () => {
    const traffic = createTraffic<Item>(5, createShare(5));
    const [first, second] = [
      { entryId: "1", endpoint: "a/1", origin: "a" },
      { entryId: "2", endpoint: "a/2", origin: "a" },
    ];
    expect(traffic.offer(first, 0).kind).toBe("go");
    expect(traffic.offer(second, 1).kind).toBe("park");
    expect(traffic.has("2")).toBe(true);
    expect(traffic.leave(first, 50, "answered")).toEqual([
      { kind: "go", work: second },
    ]);
    expect(traffic.leave(second, 99, "answered")).toEqual([]);
    expect(traffic.free()).toBe(5);
  });

  test("is forgotten when the dispatcher stops", () => {
    const traffic = createTraffic<Item>(5, createShare(5));
    traffic.offer(work("1", "a"), 0);
    traffic.offer(work("2", "a"), 0);
    expect(traffic.heldSince(0)).toEqual(["1", "2"]);
    traffic.dropParked();
    expect(traffic.has("2")).toBe(false);
    expect(traffic.leave(work("1", "a"), 5, "answered")).toEqual([]);
  });
});
