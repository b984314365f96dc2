import { describe, expect, test } from "vitest";
import {
  createShare,
  type Destination,
  type EndpointHealth,
  type Share,
} from "./share.ts";

const SLOTS = 8;
const ALL_BUT_A_QUARTER = 6;

const at = (origin: string, path = ""): Destination => ({
  endpoint: `${origin}/${path}`,
  origin,
});
const A = at("a");

/** How many attempts begin at once. */
function fill(share: Share, destination: Destination, now: number): number {
  let count = 0;
  while (count < 1000 && share.ask(destination, now) === "go") count++;
  return count;
}

function pass(
  share: Share,
  destination: Destination,
  from: number,
  to: number,
  health: EndpointHealth,
): void {
  expect(share.ask(destination, from)).toBe("go");
  share.leave(destination, from, to, health);
}

/** One that has answered in `ms` just before `now`. */
function answering(destination: Destination, ms: number, now: number): Share {
  const share = createShare(SLOTS);
  pass(share, destination, now - ms, now, "answered");
  return share;
}

describe("one endpoint", () => {
  test("that is new gets an eighth of the slots, at least one", () => {
    expect(fill(createShare(5), A, 0)).toBe(1);
    expect(fill(createShare(128), A, 0)).toBe(16);
  });

  test("that answers gets all but a quarter of the slots", () => {
    const share = answering(A, 50, 1000);
    expect(fill(share, A, 1000)).toBe(ALL_BUT_A_QUARTER);
    share.leave(A, 1000, 1010, "answered");
    expect(fill(share, A, 1010)).toBe(1);
  });

  test("that takes longer than a second to answer for the first time is sick, and its deliveries wait in Redis", () => {
    const share = createShare(16);
    expect(fill(share, A, 0)).toBe(2);
    share.leave(A, 0, 900, "not asked");
    expect(share.ask(A, 1001)).toBe("go");
    expect(share.ask(A, 1001)).toBe("wait");
  });

  test.each([
    ["a timeout", "timeout", 30],
    ["a slow failure", "failed", 251],
  ] as const)("after %s is sick until it answers again", (_, health, ms) => {
    const share = answering(A, 50, 1000);
    pass(share, A, 1000, 1000 + ms, health);
    expect(fill(share, A, 2000)).toBe(1);
    share.leave(A, 2000, 2001, "answered");
    expect(fill(share, A, 2001)).toBe(ALL_BUT_A_QUARTER);
  });

  test("that was not asked remains as it was", () => {
    const share = createShare(16);
    pass(share, A, 0, 5000, "not asked");
    expect(fill(share, A, 5000)).toBe(2);
  });

  test("whose request begins later is judged from then on", () => {
    const share = createShare(16);
    expect(share.ask(A, 0)).toBe("go");
    share.restart(A, 0, 5000);
    expect(share.ask(A, 5500)).toBe("go");
    share.review(6100);
    expect(share.aside()).toBe(1);
    share.leave(A, 5000, 6200, "answered");
    expect(share.aside()).toBe(0);
  });
});

describe("what waits here, and what in Redis", () => {
  test("the rest of an endpoint that answers fast waits here", () => {
    const share = answering(A, 50, 1000);
    fill(share, A, 1000);
    expect(share.ask(A, 1000)).toBe("park");
  });

  test("of one that answers slowly only what begins within half a second", () => {
    const share = answering(A, 2900, 4000);
    fill(share, A, 4000);
    // Six slots of 2.9 s each: one comes free nearly every half second.
    expect(share.ask(A, 4000, 0)).toBe("park");
    expect(share.ask(A, 4000, 1)).toBe("wait");
  });

  test("of a new one only while its first answer may come fast", () => {
    const share = createShare(SLOTS);
    share.ask(A, 0);
    expect(share.ask(A, 250)).toBe("park");
    expect(share.ask(A, 251)).toBe("wait");
  });

  test("what waits here for new endpoints leaves the slots that the new must leave, while something hangs", () => {
    const share = createShare(SLOTS); // four of them
    share.ask(at("hanging"), 0);
    share.ask(A, 1);
    expect(share.ask(A, 1, 6)).toBe("park");
    share.leave(A, 1, 2, "not asked");
    share.review(1500);
    share.ask(A, 1500);
    expect(share.ask(A, 1500, 2)).toBe("park");
    expect(share.ask(A, 1500, 3)).toBe("wait");
    expect(share.ask(A, 1500, 0, 3)).toBe("wait");
  });

  test("nothing waits here for one that pushes back or is held", () => {
    const share = answering(A, 50, 1000);
    pass(share, A, 1000, 1010, "busy");
    expect(share.ask(A, 1020)).toBe("wait");
    const other = answering(A, 50, 1000);
    other.hold(A.endpoint, 1000, 60_000);
    expect(other.ask(A, 60_999)).toBe("wait");
    expect(other.ask(A, 61_000)).toBe("go");
  });
});

describe("the endpoints of one origin", () => {
  test("share what one endpoint would get, while nothing answers there", () => {
    const share = createShare(SLOTS);
    for (let n = 0; n < 40; n++) share.ask(at("a", `${n}`), 0);
    expect(share.ask(at("a", "0"), 0)).not.toBe("go");
    expect(share.ask(at("b"), 0)).toBe("go");
  });

  test("share all but a quarter of the slots when they answer", () => {
    const share = createShare(SLOTS);
    for (let n = 0; n < 20; n++) pass(share, at("a", `${n}`), 0, 5, "answered");
    let count = 0;
    for (let n = 0; n < 20; n++)
      if (share.ask(at("a", `${n}`), 10) === "go") count++;
    expect(count).toBe(ALL_BUT_A_QUARTER);
  });

  test("do not slow each other down when one of them hangs and the others answer", () => {
    const share = createShare(SLOTS);
    const hanging = at("a", "hanging");
    const other = at("a", "other");
    pass(share, other, 0, 50, "answered");
    expect(share.ask(hanging, 100)).toBe("go");
    for (let now = 100; now < 10_000; now += 100) {
      share.review(now);
      pass(share, other, now, now + 50, "answered");
    }
    expect(fill(share, other, 10_050)).toBe(ALL_BUT_A_QUARTER - 1);
    expect(share.ask(hanging, 10_050)).toBe("wait");
  });

  test("get a chance though one of them has hung since they answered last", () => {
    const share = createShare(SLOTS);
    const hanging = at("a", "hanging");
    const other = at("a", "other");
    pass(share, other, 0, 50, "answered");
    expect(share.ask(hanging, 100)).toBe("go");
    expect(share.ask(other, 5000)).toBe("go");
    expect(share.ask(other, 5000)).toBe("wait");
    share.leave(other, 5000, 5050, "answered");
    expect(fill(share, other, 5050)).toBe(ALL_BUT_A_QUARTER - 1);
  });

  test("slow down together when the host refuses connections", () => {
    const share = createShare(SLOTS);
    const another = at("a", "another");
    pass(share, at("a", "0"), 0, 5, "failed");
    expect(share.rooms([another], 5)).toEqual([1]);
    pass(share, at("a", "1"), 5, 10, "failed");
    expect(share.rooms([another], 1009)).toEqual([0]);
    expect(share.rooms([another], 1010)).toEqual([1]);
  });

  test("do not slow down when a single one of them is refused and the others answer", () => {
    const share = createShare(SLOTS);
    const refused = at("a", "refused");
    const other = at("a", "other");
    for (let now = 0; now < 60_000; now += 50) {
      pass(share, other, now, now + 20, "answered");
      if (now % 1500 === 0 && share.ask(refused, now + 20) === "go")
        share.leave(refused, now + 20, now + 25, "failed");
    }
    expect(share.rooms([other], 60_000)).toEqual([ALL_BUT_A_QUARTER]);
  });
});

describe("all that are new or sick", () => {
  /** New endpoints that hang, one after another, as many as may begin, in the order of a dispatcher: `review` in between. */
  function hangAll(slots: number, forMs: number) {
    const share = createShare(slots);
    let running = 0;
    let fewestFree = slots;
    const free = () => slots - Math.max(0, running - share.aside());
    for (let now = 0, n = 0; now < forMs; now += 50) {
      if (now % 250 === 0) share.review(now);
      for (let tries = 0; tries < 20 && free() > 0; tries++)
        if (share.ask(at(`new${n++}`), now) === "go") running++;
      if (now > 1500) fewestFree = Math.min(fewestFree, free());
    }
    return { share, running, fewestFree };
  }

  test.each([1, 2, 5, 20, 128])(
    "never hold all of %d slots together, and never run more than twice as many",
    (slots) => {
      const { running, fewestFree } = hangAll(slots, 9000);
      expect(fewestFree).toBeGreaterThan(0);
      expect(running).toBeGreaterThan(0);
      expect(running).toBeLessThan(2 * slots);
    },
  );

  test("hold half of the slots at most, before they stand aside", () => {
    const { running } = hangAll(20, 500);
    expect(running).toBe(10);
  });

  test("that stand aside leave room for what is new, up to the number of slots", () => {
    const { share, running } = hangAll(20, 3000);
    expect(share.aside()).toBe(20);
    expect(running).toBe(30);
  });

  test("do not count those overdue attempts as theirs that belong to endpoints that answer", () => {
    const share = createShare(SLOTS);
    pass(share, A, 0, 50, "answered");
    for (let n = 0; n < 5; n++) expect(share.ask(A, 100)).toBe("go");
    expect(share.ask(A, 600)).toBe("go");
    share.leave(A, 600, 650, "answered"); // five hang among others that are answered
    share.review(2000);
    expect(share.aside()).toBe(5);
    let count = 0;
    for (let n = 0; n < 20; n++)
      if (share.ask(at(`new${n}`), 2000) === "go") count++;
    expect(count).toBe(SLOTS / 2);
  });

  test("five that answered begin to hang at once: those that answer have their slots again after a second", () => {
    const share = createShare(5);
    const hosts = Array.from({ length: 5 }, (_, n) => at(`host${n}`));
    for (const host of [A, ...hosts]) pass(share, host, 0, 20, "answered");
    for (const host of hosts) expect(share.ask(host, 100)).toBe("go");
    share.review(1101);
    expect(share.aside()).toBe(5);
    expect(fill(share, A, 1101)).toBe(4);
    for (const host of hosts) expect(share.ask(host, 1101)).toBe("wait");
  });

  test("that have hung may hold half of the slots, standing aside or not", () => {
    const share = createShare(SLOTS);
    for (let n = 0; n < 8; n++) {
      pass(share, at(`sick${n}`), 0, 30, "timeout");
    }
    let count = 0;
    for (let n = 0; n < 8; n++)
      if (share.ask(at(`sick${n}`), 100) === "go") count++;
    expect(count).toBe(4);
    share.review(5000);
    expect(share.aside()).toBe(4);
    expect(share.ask(at("sick7"), 5000)).toBe("wait");
    expect(share.ask(at("new"), 5000)).toBe("go");
  });
});

describe("rooms", () => {
  test("are what each could begin", () => {
    const share = answering(A, 50, 1000);
    expect(share.rooms([A, at("b")], 1000)).toEqual([ALL_BUT_A_QUARTER, 1]);
    expect(fill(share, A, 1000)).toBe(ALL_BUT_A_QUARTER);
    expect(share.rooms([A, at("b")], 1000)).toEqual([0, 1]);
  });

  test("ahead of the next round are left to an endpoint that answers, as many as it takes in a tenth of a second", () => {
    const share = answering(A, 50, 1000);
    expect(share.ahead(A)).toBe(2 * ALL_BUT_A_QUARTER);
    expect(share.ahead(at("unknown"))).toBe(0);
    share.ask(at("new"), 1000);
    expect(share.ahead(at("new"))).toBe(0);
    share.ask(A, 1000);
    share.review(9000);
    expect(share.ahead(A)).toBe(0);
    const other = answering(A, 50, 1000);
    pass(other, A, 1000, 1010, "busy");
    expect(other.ahead(A)).toBe(0);
  });

  test("of all that are new or sick are half of the slots together", () => {
    const share = createShare(SLOTS);
    const many = Array.from({ length: 20 }, (_, n) => at(`host${n}`));
    const rooms = share.rooms(many, 0);
    expect(rooms.slice(0, 5)).toEqual([1, 1, 1, 1, 0]);
    expect(rooms.reduce((sum, each) => sum + each)).toBe(4);
  });

  test("of one origin's endpoints are its own together", () => {
    const share = createShare(SLOTS);
    const paths = Array.from({ length: 10 }, (_, n) => at("a", `${n}`));
    expect(share.rooms([...paths, at("b")], 0)).toEqual([
      1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    ]);
    for (const path of paths) pass(share, path, 0, 5, "answered");
    expect(share.rooms(paths, 10).reduce((sum, each) => sum + each)).toBe(6);
  });

  test("are twice the slots at most, so that what is let out is read soon", () => {
    const share = createShare(SLOTS);
    const many = Array.from({ length: 50 }, (_, n) => at(`host${n}`));
    for (const each of many) pass(share, each, 0, 5, "answered");
    const rooms = share.rooms(many, 10);
    expect(rooms.reduce((sum, each) => sum + each)).toBe(16);
  });

  test("of one that is held, or has no turn yet, are none", () => {
    const share = answering(A, 50, 1000);
    share.hold(A.endpoint, 1000, 500);
    expect(share.rooms([A], 1499)).toEqual([0]);
    expect(share.rooms([A], 1500)).toEqual([ALL_BUT_A_QUARTER]);
    pass(share, A, 1500, 1510, "busy");
    expect(share.rooms([A], 1520)).toEqual([0]);
  });
});

describe("ten thousand endpoints", () => {
  test("are remembered; then the half that was not seen for longest is forgotten, and none that is in use", () => {
    const share = createShare(SLOTS);
    pass(share, at("first"), 0, 5, "answered");
    share.ask(at("busy"), 0);
    for (let n = 0; n < 10_000; n++) {
      pass(share, at(`host${n}`), n + 1, n + 2, "answered");
      if (n === 9000) pass(share, at("recent"), n, n + 1, "answered");
    }
    const now = 10_001;
    expect(share.rooms([at("first")], now)).toEqual([1]);
    expect(share.rooms([at("host9999")], now)).toEqual([ALL_BUT_A_QUARTER]);
    expect(share.rooms([at("recent")], now)).toEqual([ALL_BUT_A_QUARTER]);
    share.review(now);
    expect(share.aside()).toBe(1);
    share.leave(at("busy"), 0, now, "answered");
    expect(share.aside()).toBe(0);
    expect(share.rooms([at("busy")], now)).toEqual([ALL_BUT_A_QUARTER]);
  });
});
