// How many of a dispatcher's slots one endpoint, one origin, and all that are new or sick together may hold, so that what
// hangs does not take them all.
//
//   proven   it answers: all but a quarter of the slots
//   new      no answer yet: an eighth of the slots, at least one
//   sick     it seems to hang (health.ts), or its origin does: the same
//
// An origin has the same shares as an endpoint, so forty paths on one host are no forty endpoints. All that are new or sick
// together hold at most half of the slots. An attempt that is overdue steps aside: its slot is free for others, until as
// many attempts stand aside as there are slots. So at most twice `slots` attempts run at once, and only when half of them
// hang.
//
// Back-pressure (pressure.ts) lowers these numbers further. A delivery that exceeds its share waits in the dispatcher
// (`park`) if its turn will come within half a second, because parked deliveries keep others from being read. Otherwise it
// goes to its endpoint's waiting list (`wait`).
import {
  answered,
  begin,
  countOverdue,
  createHealth,
  end,
  type Health,
  hung,
  isSick,
} from "./health.ts";
import {
  allowance,
  createPressure,
  hold,
  type Pressure,
  pushBack,
  relax,
  spend,
} from "./pressure.ts";

/**
 * What an attempt says of its endpoint: it took the delivery or answered otherwise, asked for less (429), could not be
 * reached, ran into the deadline, or was not asked.
 */
export type EndpointHealth =
  "answered" | "busy" | "failed" | "timeout" | "not asked";

export interface Destination {
  /** The endpoint's id, or the URL without its query. */
  endpoint: string;
  /** Null while it is not known: the endpoint has not been looked up yet. */
  origin: string | null;
}

export type ShareAnswer = "go" | "park" | "wait";

/** All times in ms of a monotonic clock. */
export interface Share {
  /** Where a delivery goes now, with `ahead` others parked before it. `go` takes a slot. */
  ask: (destination: Destination, now: number, ahead?: number) => ShareAnswer;
  /** The request begins only now: what came before says nothing of the endpoint. */
  restart: (destination: Destination, startedAt: number, now: number) => void;
  /** The attempt has ended and its slot is free. */
  leave: (
    destination: Destination,
    startedAt: number,
    now: number,
    health: EndpointHealth,
  ) => void;
  /** How many more each could begin, had those before it in the list begun theirs. */
  rooms: (destinations: Destination[], now: number) => number[];
  /** Nothing begins at the endpoint for `ms`. */
  hold: (endpoint: string, now: number, ms: number) => void;
  /** Whether deliveries parked for it should leave the dispatcher. */
  isSick: (destination: Destination, now: number) => boolean;
  /** Looks for attempts that are overdue. To be called a few times a second. */
  review: (now: number) => void;
  /** Attempts that stand aside. */
  aside: () => number;
}

type Standing = "proven" | "new" | "sick";

interface State {
  endpoint: Health;
  pressure: Pressure;
  origin: string | null;
  /** As it was last judged; its running attempts are counted there. */
  standing: Standing;
}

interface OriginState {
  health: Health;
  /** Refused connections speak of the whole host. */
  pressure: Pressure;
}

const QUICK_FAILURE_MS = 250;
const SLOW_FIRST_ANSWER_MS = 250;
const LONGEST_PARK_MS = 500;
const REMEMBERED = 10_000;

export function createShare(slots: number): Share {
  const most = Math.max(1, slots - Math.max(1, Math.floor(slots / 4)));
  const few = Math.max(1, Math.floor(slots / 8));
  const unproven = Math.max(1, Math.min(slots - 1, Math.ceil(slots / 2)));
  const states = new Map<string, State>();
  const origins = new Map<string, OriginState>();
  const running = { proven: 0, new: 0, sick: 0 };
  let aside = 0;

  function originOf(name: string | null, now: number): OriginState | null {
    if (name === null) return null;
    let origin = origins.get(name);
    if (origin === undefined) {
      if (origins.size >= REMEMBERED)
        for (const [each, { health }] of origins)
          if (health.startedAt.length === 0) origins.delete(each);
      origin = { health: createHealth(now), pressure: createPressure() };
      origins.set(name, origin);
    }
    return origin;
  }

  function judge(
    state: State,
    origin: OriginState | null,
    now: number,
  ): Standing {
    const { endpoint } = state;
    const standing =
      isSick(endpoint, now) || (origin !== null && isSick(origin.health, now))
        ? "sick"
        : endpoint.answerMs === null
          ? "new"
          : "proven";
    if (standing !== state.standing) {
      const count = endpoint.startedAt.length;
      running[state.standing] -= count;
      running[standing] += count;
      state.standing = standing;
    }
    return standing;
  }

  function visit(destination: Destination, now: number): State {
    let state = states.get(destination.endpoint);
    if (state === undefined) {
      if (states.size >= REMEMBERED)
        for (const [each, { endpoint }] of states)
          if (endpoint.startedAt.length === 0) states.delete(each);
      state = {
        endpoint: createHealth(now),
        pressure: createPressure(),
        origin: destination.origin,
        standing: "new",
      };
      states.set(destination.endpoint, state);
    }
    state.endpoint.seenAt = now;
    return state;
  }

  /** How many attempts the endpoint may have at once, its origin's other endpoints left aside. */
  function capOf(state: State, standing: Standing): number {
    const share = standing === "proven" ? most : few;
    return Math.min(share, Math.floor(state.pressure.limit));
  }

  function originRoom(origin: OriginState | null, now: number): number {
    if (origin === null) return Infinity;
    const { health, pressure } = origin;
    const isProven = health.answerMs !== null && !isSick(health, now);
    const share = isProven ? most : few;
    return Math.min(
      Math.min(share, Math.floor(pressure.limit)) - health.startedAt.length,
      allowance(pressure, now),
    );
  }

  /** `granted`: what others are about to begin. */
  function groupRoom(standing: Standing, granted: number): number {
    if (standing === "proven") return Infinity;
    const inSlots = Math.max(0, running.new + running.sick - aside);
    const room = unproven - inSlots - granted;
    // What is known to hang leaves the room aside to what has not been tried yet.
    return standing === "new"
      ? room
      : Math.min(room, unproven - running.sick - granted);
  }

  function roomOf(
    { origin: name }: Destination,
    state: State,
    now: number,
    granted: number,
  ): number {
    const origin = originOf(name, now);
    const standing = judge(state, origin, now);
    return Math.min(
      capOf(state, standing) - state.endpoint.startedAt.length,
      originRoom(origin, now),
      groupRoom(standing, granted),
      allowance(state.pressure, now),
    );
  }

  /** Whether a delivery that cannot go now should wait in the dispatcher. */
  function mayPark(
    { endpoint, pressure, standing }: State,
    origin: OriginState | null,
    now: number,
    ahead: number,
  ): boolean {
    if (standing === "sick" || pressure.heldUntil > now) return false;
    if (pressure.limit < most || (origin?.pressure.limit ?? most) < most)
      return false;
    if (standing === "proven")
      return ((ahead + 1) * (endpoint.answerMs ?? 0)) / most <= LONGEST_PARK_MS;
    // How long it would wait is not known yet. If the first answer is slow, the rest must leave the slots to others.
    const oldest = endpoint.startedAt[0] ?? origin?.health.startedAt[0];
    return oldest !== undefined && now - oldest <= SLOW_FIRST_ANSWER_MS;
  }

  function count(state: State, change: 1 | -1): void {
    running[state.standing] += change;
  }

  return {
    ask: (destination, now, ahead = 0) => {
      const state = visit(destination, now);
      const origin = originOf(destination.origin, now);
      if (roomOf(destination, state, now, 0) < 1)
        return mayPark(state, origin, now, ahead) ? "park" : "wait";
      state.origin = destination.origin ?? state.origin;
      begin(state.endpoint, now);
      spend(state.pressure, now);
      count(state, 1);
      if (origin !== null) {
        begin(origin.health, now);
        spend(origin.pressure, now);
      }
      return "go";
    },

    restart: ({ endpoint, origin }, startedAt, now) => {
      const healths = [
        states.get(endpoint)?.endpoint,
        origin === null ? undefined : origins.get(origin)?.health,
      ];
      for (const health of healths) {
        if (health === undefined) continue;
        end(health, startedAt);
        begin(health, now);
      }
    },

    leave: (destination, startedAt, now, health) => {
      const state = states.get(destination.endpoint);
      if (state === undefined) return;
      const { endpoint, pressure } = state;
      const origin =
        destination.origin === null
          ? null
          : (origins.get(destination.origin) ?? null);
      if (aside > 0 && now - startedAt > 1000) aside--;
      end(endpoint, startedAt);
      count(state, -1);
      if (origin !== null) end(origin.health, startedAt);
      if (health === "not asked") return;
      const healths = [endpoint, ...(origin === null ? [] : [origin.health])];
      const isSlow =
        health === "timeout" ||
        (health === "failed" && now - startedAt > QUICK_FAILURE_MS);
      for (const each of healths) {
        if (isSlow) hung(each, startedAt);
        else answered(each, startedAt, now);
      }
      if (health === "busy" || (health === "failed" && !isSlow)) {
        const isRefusal = health === "failed";
        pushBack(pressure, now, endpoint.startedAt.length + 1, isRefusal);
        if (isRefusal && origin !== null)
          pushBack(
            origin.pressure,
            now,
            origin.health.startedAt.length + 1,
            true,
          );
      } else if (health === "answered") {
        relax(pressure, now);
        if (origin !== null) relax(origin.pressure, now);
      }
      judge(state, origin, now);
    },

    rooms: (destinations, now) => {
      let granted = 0;
      return destinations.map((destination) => {
        const state = visit(destination, now);
        const room = Math.max(0, roomOf(destination, state, now, granted));
        if (state.standing !== "proven") granted += room;
        return Math.min(room, most);
      });
    },

    hold: (endpoint, now, ms) => {
      hold(visit({ endpoint, origin: null }, now).pressure, now, ms);
    },

    isSick: (destination, now) => {
      const state = states.get(destination.endpoint);
      if (state === undefined) return false;
      const origin = originOf(destination.origin, now);
      return judge(state, origin, now) === "sick";
    },

    review: (now) => {
      let overdue = 0;
      for (const state of states.values()) {
        if (state.endpoint.startedAt.length === 0) continue;
        const origin =
          state.origin === null ? null : (origins.get(state.origin) ?? null);
        judge(state, origin, now);
        overdue += countOverdue(state.endpoint, now);
      }
      aside = Math.min(slots, overdue);
    },

    aside: () => aside,
  };
}
