// How many of a dispatcher's slots one endpoint may hold, so that an endpoint that hangs does not take them all.
//
//   alone           no other endpoint was seen for a minute: every slot
//   healthy         it answers, and no running attempt is overdue: all but a quarter of the slots
//   new or suspect  no answer yet, or an attempt is overdue, or the last one timed out: an eighth, at least one
//
// A quick failure (connection refused, unknown host) holds a slot no longer than an answer would, and counts as one. A slow
// failure counts as a timeout.
//
// A delivery that exceeds the share waits in the dispatcher (`park`) if its turn will come within half a second. If not, or
// if the endpoint is suspect, it goes back to Redis (`defer`), because parked deliveries keep others from being read. An
// endpoint whose first answer takes more than a quarter of a second gets no more parked work once it holds all but a quarter
// of the slots. A burst that arrived before then may still fill the slots until the endpoint counts as overdue.
// "Overdue" is four times the endpoint's usual answer time, at least a second.

/** What an attempt says of its endpoint: it answered, could not be reached, ran into the deadline, or was not asked. */
export type EndpointHealth = "answered" | "failed" | "timeout" | "not asked";

export interface Share {
  /**
   * Where a delivery to this endpoint goes now, with `ahead` others parked before it. `go` takes a slot; `defer` says for
   * how long.
   */
  ask: (endpoint: string, now: number, ahead?: number) => ShareAnswer;
  /** The attempt has ended and its slot is free. */
  leave: (
    endpoint: string,
    startedAt: number,
    now: number,
    health: EndpointHealth,
  ) => void;
  /** Whether deliveries parked for this endpoint should go back to Redis. */
  isSuspect: (endpoint: string, now: number) => boolean;
}

export type ShareAnswer =
  { kind: "go" } | { kind: "park" } | { kind: "defer"; delayMs: number };

interface EndpointState {
  /** Start times of the running attempts, oldest first. */
  startedAt: number[];
  /** Moving average of the answer time; null before the first answer. */
  answerMs: number | null;
  hasTimedOut: boolean;
  seenAt: number;
  /** When the last deferred delivery will come back: the next one is spaced behind it. */
  deferredUntil: number;
}

const ALONE_AFTER_MS = 60_000;
const SHORTEST_OVERDUE_MS = 1000;
const QUICK_FAILURE_MS = 250;
const SLOW_FIRST_ANSWER_MS = 250;
const LONGEST_PARK_MS = 500;
const SHORTEST_DEFER_MS = 250;
const LONGEST_DEFER_MS = 60_000;
const NEW_ANSWER_WEIGHT = 0.2;
const REMEMBERED_ENDPOINTS = 10_000;

/** `random` is in [0, 1); it spreads deferred deliveries. All times in ms. */
export function createShare(slots: number, random: () => number): Share {
  const healthyShare = Math.max(1, slots - Math.max(1, Math.floor(slots / 4)));
  const cautiousShare = Math.max(1, Math.floor(slots / 8));
  const states = new Map<string, EndpointState>();
  let latest = { endpoint: "", seenAt: -Infinity };
  let otherSeenAt = -Infinity;

  function visit(endpoint: string, now: number): EndpointState {
    // `latest` and `otherSeenAt` are the last two endpoints seen: enough to know whether one is alone.
    if (latest.endpoint !== endpoint) otherSeenAt = latest.seenAt;
    latest = { endpoint, seenAt: now };
    let state = states.get(endpoint);
    if (state === undefined) {
      if (states.size >= REMEMBERED_ENDPOINTS) forgetIdle();
      state = {
        startedAt: [],
        answerMs: null,
        hasTimedOut: false,
        seenAt: now,
        deferredUntil: 0,
      };
      states.set(endpoint, state);
    }
    state.seenAt = now;
    return state;
  }

  function forgetIdle(): void {
    for (const [endpoint, state] of states)
      if (state.startedAt.length === 0) states.delete(endpoint);
  }

  function isOverdue(state: EndpointState, now: number): boolean {
    const oldest = state.startedAt[0];
    return (
      oldest !== undefined &&
      now - oldest > Math.max(SHORTEST_OVERDUE_MS, 4 * (state.answerMs ?? 0))
    );
  }

  const suspect = (state: EndpointState, now: number) =>
    state.hasTimedOut || isOverdue(state, now);

  function shareOf(state: EndpointState, now: number): number {
    if (now - otherSeenAt > ALONE_AFTER_MS) return slots;
    return state.answerMs === null || suspect(state, now)
      ? cautiousShare
      : healthyShare;
  }

  /** Ms for which a delivery to this endpoint is expected to hold a slot: as usual, or as long as the one that hangs. */
  function holdMs(state: EndpointState, now: number): number {
    const longestHeldMs = now - (state.startedAt[0] ?? now);
    const expectedMs = state.answerMs ?? SHORTEST_OVERDUE_MS;
    return suspect(state, now)
      ? Math.max(SHORTEST_OVERDUE_MS, expectedMs, longestHeldMs)
      : expectedMs;
  }

  function deferMs(state: EndpointState, now: number, share: number): number {
    state.deferredUntil = Math.min(
      Math.max(state.deferredUntil, now) + holdMs(state, now) / share,
      now + LONGEST_DEFER_MS,
    );
    const delayMs = Math.max(SHORTEST_DEFER_MS, state.deferredUntil - now);
    return Math.round(delayMs * (0.75 + random() / 4));
  }

  return {
    ask: (endpoint, now, ahead = 0) => {
      const state = visit(endpoint, now);
      const share = shareOf(state, now);
      if (state.startedAt.length < share) {
        state.startedAt.push(now);
        return { kind: "go" };
      }
      if (suspect(state, now))
        return { kind: "defer", delayMs: deferMs(state, now, share) };
      if (state.answerMs === null) {
        // How long it would wait is not known yet. If the first answer is slow, parked work must leave slots to others.
        const isSlow = now - (state.startedAt[0] ?? now) > SLOW_FIRST_ANSWER_MS;
        return isSlow && state.startedAt.length + ahead >= healthyShare
          ? { kind: "defer", delayMs: SHORTEST_DEFER_MS }
          : { kind: "park" };
      }
      const waitMs = ((ahead + 1) * state.answerMs) / share;
      return waitMs <= LONGEST_PARK_MS
        ? { kind: "park" }
        : { kind: "defer", delayMs: deferMs(state, now, share) };
    },
    leave: (endpoint, startedAt, now, health) => {
      const state = states.get(endpoint);
      if (state === undefined) return;
      const wasSuspect = suspect(state, now);
      const index = state.startedAt.indexOf(startedAt);
      if (index !== -1) state.startedAt.splice(index, 1);
      if (health === "not asked") return;
      const ms = now - startedAt;
      if (
        health === "timeout" ||
        (health === "failed" && ms > QUICK_FAILURE_MS)
      ) {
        state.hasTimedOut = true;
        return;
      }
      state.answerMs =
        state.answerMs === null
          ? ms
          : state.answerMs + NEW_ANSWER_WEIGHT * (ms - state.answerMs);
      // It has recovered, so new deliveries need not queue behind those that were deferred.
      if (wasSuspect) state.deferredUntil = 0;
      state.hasTimedOut = false;
    },
    isSuspect: (endpoint, now) => {
      const state = states.get(endpoint);
      return state !== undefined && suspect(state, now);
    },
  };
}
