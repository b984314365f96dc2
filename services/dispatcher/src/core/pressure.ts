// What a receiver that pushes back can take: additive increase, multiplicative decrease, of the attempts at once and of the
// attempts a second. A 429 and a refused connection push back; Retry-After closes the endpoint until then. Without
// back-pressure there is no limit. The rule is TCP's (RFC 5681): halve on loss, double per round up to half of what was
// once too much, then grow slowly.

import { LONGEST_RETRY_AFTER_MS } from "./retry-after.ts";

export interface Pressure {
  /** Attempts at once; Infinity without back-pressure. */
  limit: number;
  /** Attempts a second; null without back-pressure. */
  rate: number | null;
  /** Below this rate growth is exponential, above it additive. */
  safeRate: number;
  /** When the rate allows the next attempt. All times in ms of a monotonic clock. */
  nextAt: number;
  heldUntil: number;
  shrunkAt: number;
  hasAnsweredSince: boolean;
  /** Answers in the present second, and in the one before. */
  second: { startedAt: number; answers: number; before: number };
}

/** Answers to attempts that had begun before the last decrease say nothing new: at most one decrease in this time. */
const ROUND_MS = 250;
const DECREASE = 0.7;
const SLOWEST_PER_SECOND = 1;
/** Per second and per answer: 5 %, and a fifth of an attempt a second. */
const RATE_GROWTH = 0.05;
const RATE_STEP = 0.2;
/** Twenty answers for one more attempt at once. */
const LIMIT_STEP = 0.05;
/** With no back-pressure for so long the limits are lifted. */
const FORGET_MS = 60_000;
const BURST_SECONDS = 0.1;

export function createPressure(): Pressure {
  return {
    limit: Infinity,
    rate: null,
    safeRate: 0,
    nextAt: -Infinity,
    heldUntil: -Infinity,
    shrunkAt: -Infinity,
    hasAnsweredSince: false,
    second: { startedAt: -Infinity, answers: 0, before: 0 },
  };
}

function burstOf(rate: number): number {
  return Math.max(1, Math.floor(rate * BURST_SECONDS));
}

/** How many attempts may begin now, those at once left aside. */
export function allowance({ rate, nextAt, heldUntil }: Pressure, now: number) {
  if (heldUntil > now) return 0;
  if (rate === null) return Infinity;
  if (nextAt > now) return 0;
  return Math.min(
    burstOf(rate),
    1 + Math.floor(((now - nextAt) * rate) / 1000),
  );
}

export function spend(pressure: Pressure, now: number): void {
  const { rate, nextAt } = pressure;
  if (rate === null) return;
  const interval = 1000 / rate;
  pressure.nextAt =
    Math.max(nextAt, now - (burstOf(rate) - 1) * interval) + interval;
}

export function hold(pressure: Pressure, now: number, ms: number): void {
  const until = now + Math.min(ms, LONGEST_RETRY_AFTER_MS);
  pressure.heldUntil = Math.max(pressure.heldUntil, until);
}

function answersPerSecond({ second }: Pressure, now: number): number {
  if (now - second.startedAt >= 2000) return 0;
  return Math.max(second.answers, second.before);
}

/**
 * The receiver has pushed back against one of `running` attempts. A refused connection speaks of too many at once, and of
 * the rate only when a single one is refused; a 429 speaks of both.
 */
export function pushBack(
  pressure: Pressure,
  now: number,
  running: number,
  isRefusal: boolean,
): void {
  if (now - pressure.shrunkAt < ROUND_MS) return;
  pressure.shrunkAt = now;
  const isOneAtOnce = Math.min(pressure.limit, running) <= 1;
  pressure.limit = Math.max(
    1,
    Math.floor(Math.min(pressure.limit, running + 1) / 2),
  );
  if (isRefusal && !isOneAtOnce) return;
  const taken = answersPerSecond(pressure, now);
  const before = pressure.rate ?? Math.max(taken, running);
  pressure.rate = Math.max(SLOWEST_PER_SECOND, before * DECREASE);
  // While nothing at all is answered, what it took before stays the aim.
  if (pressure.hasAnsweredSince)
    pressure.safeRate = Math.min(taken, pressure.rate);
  pressure.hasAnsweredSince = false;
  pressure.nextAt = now + 1000 / pressure.rate;
}

/** The receiver has taken a delivery. */
export function relax(pressure: Pressure, now: number): void {
  const { second } = pressure;
  if (now - second.startedAt >= 1000) {
    second.before = now - second.startedAt < 2000 ? second.answers : 0;
    second.answers = 0;
    second.startedAt = now;
  }
  second.answers++;
  pressure.hasAnsweredSince = true;
  if (pressure.limit === Infinity) return;
  if (now - pressure.shrunkAt > FORGET_MS) {
    pressure.rate = null;
    pressure.limit = Infinity;
    return;
  }
  pressure.limit += LIMIT_STEP;
  const { rate, safeRate } = pressure;
  if (rate === null) return;
  pressure.rate =
    rate < safeRate ? rate + 1 : rate + (RATE_GROWTH * rate + RATE_STEP) / rate;
}
