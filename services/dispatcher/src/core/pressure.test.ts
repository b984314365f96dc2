import { describe, expect, test } from "vitest";
import {
  allowance,
  createPressure,
  hold,
  type Pressure,
  pushBack,
  relax,
  spend,
} from "./pressure.ts";

/** One that takes ten a second, and has pushed back at second 1. */
function pressed(): Pressure {
  const pressure = createPressure();
  for (let n = 0; n < 10; n++) relax(pressure, n * 100);
  pushBack(pressure, 1000, 4, false);
  return pressure;
}

describe("the rule", () => {
  test("without back-pressure there is no limit", () => {
    const pressure = createPressure();
    for (let n = 0; n < 1000; n++) {
      spend(pressure, 0);
      relax(pressure, 0);
    }
    expect(allowance(pressure, 0)).toBe(Infinity);
    expect(pressure.limit).toBe(Infinity);
  });

  test("a 429 lowers the attempts a second below what was taken, and halves those at once", () => {
    const pressure = pressed();
    expect(pressure.rate).toBe(7);
    expect(pressure.limit).toBe(2);
  });

  test("a refused connection among others lowers the attempts at once only", () => {
    const pressure = createPressure();
    pushBack(pressure, 0, 8, true);
    expect(pressure.limit).toBe(4);
    expect(pressure.rate).toBeNull();
    expect(allowance(pressure, 0)).toBe(Infinity);
  });

  test("a refused connection that was the only one lowers the rate as well", () => {
    const pressure = createPressure();
    pushBack(pressure, 0, 1, true);
    expect(pressure.limit).toBe(1);
    expect(pressure.rate).toBe(1);
    expect(allowance(pressure, 999)).toBe(0);
    expect(allowance(pressure, 1000)).toBe(1);
  });

  test("what is pushed back in one round counts once", () => {
    const pressure = pressed();
    for (let ms = 0; ms < 250; ms += 10)
      pushBack(pressure, 1000 + ms, 4, false);
    expect(pressure.rate).toBe(7);
    pushBack(pressure, 1250, 4, false);
    expect(pressure.rate).toBeCloseTo(4.9);
    expect(pressure.limit).toBe(1);
  });

  test("never falls below one attempt at once and one a second", () => {
    const pressure = pressed();
    for (let n = 1; n < 100; n++) pushBack(pressure, 1000 + n * 250, 1, false);
    expect(pressure.rate).toBe(1);
    expect(pressure.limit).toBe(1);
    expect(allowance(pressure, 1_000_000)).toBe(1);
  });

  test("attempts are spread over the second, however long none was made", () => {
    const pressure = pressed();
    let count = 0;
    for (let now = 100_000; now < 110_000; now += 10)
      for (; allowance(pressure, now) > 0; count++) spend(pressure, now);
    expect(count).toBeGreaterThanOrEqual(65);
    expect(count).toBeLessThanOrEqual(72);
  });

  test("an answer lets the rate grow by a little, faster below what was taken before", () => {
    const pressure = pressed();
    relax(pressure, 1100);
    const slow = pressure.rate! - 7;
    expect(slow).toBeGreaterThan(0);
    expect(slow).toBeLessThan(0.2);
    pushBack(pressure, 1300, 1, false);
    pushBack(pressure, 1600, 1, false);
    const { rate } = pressure;
    relax(pressure, 1700);
    expect(pressure.rate! - rate!).toBeCloseTo(1);
    expect(pressure.limit).toBeGreaterThan(1);
  });

  test("while nothing is answered, what was taken before remains the aim", () => {
    const pressure = pressed();
    for (let n = 1; n <= 20; n++) pushBack(pressure, 1000 + n * 1000, 1, false);
    expect(pressure.rate).toBe(1);
    for (let n = 0; n < 7; n++) relax(pressure, 22_000 + n * 500);
    expect(pressure.rate).toBeGreaterThan(6);
  });

  test("is forgotten when a minute has passed without back-pressure, at the next answer", () => {
    const pressure = pressed();
    relax(pressure, 61_000);
    expect(pressure.rate).not.toBeNull();
    relax(pressure, 61_001);
    expect(pressure.rate).toBeNull();
    expect(pressure.limit).toBe(Infinity);
    expect(allowance(pressure, 61_001)).toBe(Infinity);
  });

  test("Retry-After closes it until then, is not shortened by a later one, and lasts an hour at most", () => {
    const pressure = createPressure();
    hold(pressure, 0, 5000);
    hold(pressure, 1000, 1000);
    expect(allowance(pressure, 4999)).toBe(0);
    expect(allowance(pressure, 5000)).toBe(Infinity);
    hold(pressure, 0, 1e12);
    expect(allowance(pressure, 3_599_999)).toBe(0);
    expect(allowance(pressure, 3_600_000)).toBe(Infinity);
  });
});

interface Receiver {
  /** What becomes of an attempt that begins now, with `open` others under way. */
  take: (now: number, open: number) => "answered" | "busy" | "refused";
  answerMs: number;
}

/** Sends all the time, as much as the pressure allows, looking every 10 ms as the waiting room does. */
function simulate(
  { take, answerMs }: Receiver,
  options: { slots: number; forMs: number; pollMs?: number },
) {
  const pressure = createPressure();
  const running: { endsAt: number; result: ReturnType<Receiver["take"]> }[] =
    [];
  const ends: { at: number; result: ReturnType<Receiver["take"]> }[] = [];
  const pollMs = options.pollMs ?? 10;
  for (let now = 0; now < options.forMs; now += 5) {
    for (const each of running.filter(({ endsAt }) => endsAt <= now)) {
      const { result } = each;
      const count = running.length;
      running.splice(running.indexOf(each), 1);
      ends.push({ at: now, result });
      if (result === "answered") relax(pressure, now);
      else pushBack(pressure, now, count, result === "refused");
    }
    if (now % pollMs > 0) continue;
    const most = Math.min(options.slots, Math.floor(pressure.limit));
    while (running.length < most && allowance(pressure, now) > 0) {
      spend(pressure, now);
      const result = take(now, running.length);
      const endsAt = now + (result === "answered" ? answerMs : 5);
      running.push({ endsAt, result });
    }
  }
  const count = (kind: string, from: number, to: number) =>
    ends.filter(({ at, result }) => at >= from && at < to && result === kind)
      .length;
  return { pressure, count };
}

/** 429 beyond so many a second. */
function perSecond(most: number): Receiver["take"] {
  let second = -1;
  let taken = 0;
  return (now) => {
    if (Math.floor(now / 1000) !== second) {
      second = Math.floor(now / 1000);
      taken = 0;
    }
    return ++taken > most ? "busy" : "answered";
  };
}

describe("in a simulation", () => {
  test.each([
    [5, 10],
    [100, 10],
    [100, 100],
  ])(
    "with %d slots, looking every %d ms, a receiver that takes ten a second gets seven to ten, and few are turned away",
    (slots, pollMs) => {
      const receiver = { take: perSecond(10), answerMs: 20 };
      const { count } = simulate(receiver, { slots, pollMs, forMs: 60_000 });
      const taken = count("answered", 10_000, 60_000) / 50;
      expect(taken).toBeGreaterThanOrEqual(7);
      expect(taken).toBeLessThanOrEqual(10);
      expect(count("busy", 10_000, 60_000) / 50).toBeLessThan(1);
      // At first nothing is known of it.
      expect(count("busy", 0, 10_000)).toBeLessThan(2 * slots + 20);
    },
  );

  test.each([15, 35, 95])(
    "a receiver that takes %d a second gets two thirds of that, though the waiting room looks only ten times a second",
    (most) => {
      const receiver = { take: perSecond(most), answerMs: 20 };
      const { count } = simulate(receiver, {
        slots: 100,
        pollMs: 100,
        forMs: 60_000,
      });
      const taken = count("answered", 10_000, 60_000) / 50;
      expect(taken).toBeGreaterThan((2 / 3) * most);
      expect(count("busy", 10_000, 60_000) / 50).toBeLessThan(0.05 * most + 1);
    },
  );

  test("one that takes a thousand a second and turns one away recovers within seconds", () => {
    const receiver = {
      take: (now: number) =>
        now === 5000 ? ("busy" as const) : ("answered" as const),
      answerMs: 20,
    };
    const { count } = simulate(receiver, { slots: 20, forMs: 12_000 });
    const before = count("answered", 3000, 5000) / 2;
    expect(count("answered", 6000, 7000)).toBeGreaterThan(0.5 * before);
    expect(count("answered", 10_000, 12_000) / 2).toBeGreaterThan(0.9 * before);
  });

  test("one that takes one connection at a time is used all the time, and refuses few", () => {
    const receiver = {
      take: (_: number, open: number) =>
        open > 0 ? ("refused" as const) : ("answered" as const),
      answerMs: 20,
    };
    const { count } = simulate(receiver, { slots: 100, forMs: 30_000 });
    expect(count("answered", 5000, 30_000) / 25).toBeGreaterThan(20);
    const refused = count("refused", 5000, 30_000);
    expect(refused).toBeLessThan(0.1 * count("answered", 5000, 30_000));
  });

  test("one that is down for a while is asked once a second, and then soon at its old pace", () => {
    const receiver = {
      take: (now: number) =>
        now >= 10_000 && now < 40_000
          ? ("refused" as const)
          : ("answered" as const),
      answerMs: 20,
    };
    const { count } = simulate(receiver, { slots: 20, forMs: 60_000 });
    expect(count("refused", 15_000, 40_000)).toBeLessThan(30);
    const before = count("answered", 5000, 10_000) / 5;
    expect(count("answered", 50_000, 55_000) / 5).toBeGreaterThan(0.5 * before);
  });
});
