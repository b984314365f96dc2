// How many of a dispatcher's slots one endpoint, one origin, and all that are new or sick together may hold, so that what
// hangs does not take them all.
//
//   proven   it answers: all but a quarter of the slots
//   new      no answer yet: an eighth of the slots, at least one
//   sick     it seems to hang (health.ts), or its origin does: the same
//
// An origin has the same shares as an endpoint, so forty paths on one host are no forty endpoints. An endpoint that answers
// may begin one attempt more at an origin that seems to hang: perhaps another path is what hangs. All that are new or sick
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
  SHORTEST_OVERDUE_MS,
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
  /** Where a delivery goes now, with `ahead` of `parked` deliveries parked before it. `go` takes a slot. */
  ask: (
    destination: Destination,
    now: number,
    ahead?: number,
    parked?: number,
  ) => ShareAnswer;
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
  /** How many more an endpoint that answers will probably begin before its list is looked at again. */
  ahead: (destination: Destination) => number;
  /** Nothing begins at the endpoint for `ms`. */
  hold: (endpoint: string, now: number, ms: number) => void;
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
  /** Refused connections speak of the whole host, unless most others are accepted. */
  pressure: Pressure;
  /** Refused connections, less a tenth for every answer since. */
  refusals: number;
}

/** What was granted before in the same round, and is not running yet. */
interface Granted {
  unproven: number;
  atOrigin: number;
}

const QUICK_FAILURE_MS = 250;
const SLOW_FIRST_ANSWER_MS = 250;
const LONGEST_PARK_MS = 500;
/** Between two looks at the waiting lists, the round trips included. */
const LOOK_AGAIN_MS = 100;
const REMEMBERED = 10_000;
const REFUSALS_OF_A_HOST = 2;
const NOTHING: Granted = { unproven: 0, atOrigin: 0 };

/** Makes room among `known`: the half that was not seen for longest goes, but nothing that has an attempt in flight. */
function forget<Known>(
  known: Map<string, Known>,
  healthOf: (each: Known) => Health,
): void {
  if (known.size < REMEMBERED) return;
  const idle = [...known]
    .map(([name, each]) => ({ name, health: healthOf(each) }))
    .filter(({ health }) => health.startedAt.length === 0)
    .toSorted((a, b) => a.health.seenAt - b.health.seenAt);
  for (const { name } of idle.slice(0, Math.ceil(REMEMBERED / 2)))
    known.delete(name);
}

export function createShare(slots: number): Share {
  const most = Math.max(1, slots - Math.max(1, Math.floor(slots / 4)));
  const few = Math.max(1, Math.floor(slots / 8));
  const unproven = Math.max(1, Math.min(slots - 1, Math.ceil(slots / 2)));
  const states = new Map<string, State>();
  const origins = new Map<string, OriginState>();
  /** The states with attempts in flight. */
  const busy = new Set<State>();
  const running = { proven: 0, new: 0, sick: 0 };
  let aside = 0;
  /** Those of them that are new or sick: as few as may be, because others may take the places of those that answer. */
  let unprovenAside = 0;

  function originOf(name: string | null, now: number): OriginState | null {
    if (name === null) return null;
    let origin = origins.get(name);
    if (origin === undefined) {
      forget(origins, ({ health }) => health);
      origin = {
        health: createHealth(now),
        pressure: createPressure(),
        refusals: 0,
      };
      origins.set(name, origin);
    }
    origin.health.seenAt = now;
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
      if (count > 0 && aside > 0) countAside(now);
    }
    return standing;
  }

  function countAside(now: number): void {
    let overdue = 0;
    let proven = 0;
    for (const { endpoint, standing } of busy) {
      const count = countOverdue(endpoint, now);
      overdue += count;
      if (standing === "proven") proven += count;
    }
    aside = Math.min(slots, overdue);
    unprovenAside = Math.max(0, aside - proven);
  }

  /** An attempt no longer counts from `startedAt`: it may have stood aside. */
  function recount(startedAt: number, now: number): void {
    if (aside > 0 && now - startedAt > SHORTEST_OVERDUE_MS) countAside(now);
  }

  function visit(destination: Destination, now: number): State {
    let state = states.get(destination.endpoint);
    if (state === undefined) {
      forget(states, ({ endpoint }) => endpoint);
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

  function originRoom(
    origin: OriginState | null,
    { endpoint }: State,
    now: number,
  ): number {
    if (origin === null) return Infinity;
    const { health, pressure } = origin;
    const isProven = health.answerMs !== null && !isSick(health, now);
    const doesAnswer = endpoint.answerMs !== null && !isSick(endpoint, now);
    const probes = doesAnswer ? Math.min(most, few + 1) : few;
    const share = isProven ? most : probes;
    return Math.min(
      Math.min(share, Math.floor(pressure.limit)) - health.startedAt.length,
      allowance(pressure, now),
    );
  }

  /** How many of those that are new or sick stand in slots. */
  function inSlots(): number {
    return Math.max(0, running.new + running.sick - unprovenAside);
  }

  function groupRoom(standing: Standing): number {
    if (standing === "proven") return Infinity;
    // With a single slot, what stands aside must leave it to others as well.
    const room = Math.min(
      unproven - inSlots(),
      2 * slots - 1 - running.new - running.sick,
    );
    // What is known to hang leaves the room aside to what has not been tried yet.
    return standing === "new" ? room : Math.min(room, unproven - running.sick);
  }

  function roomOf(
    { origin: name }: Destination,
    state: State,
    now: number,
    granted: Granted,
  ): number {
    const origin = originOf(name, now);
    const standing = judge(state, origin, now);
    return Math.min(
      capOf(state, standing) - state.endpoint.startedAt.length,
      originRoom(origin, state, now) - granted.atOrigin,
      groupRoom(standing) - granted.unproven,
      allowance(state.pressure, now),
    );
  }

  /** Whether a delivery that cannot go now should wait in the dispatcher. */
  function mayPark(
    { endpoint, pressure, standing }: State,
    origin: OriginState | null,
    now: number,
    ahead: number,
    parked: number,
  ): boolean {
    if (standing === "sick" || pressure.heldUntil > now) return false;
    if (pressure.limit < most || (origin?.pressure.limit ?? most) < most)
      return false;
    if (standing === "proven")
      return ((ahead + 1) * (endpoint.answerMs ?? 0)) / most <= LONGEST_PARK_MS;
    // How long it would wait is not known yet. If the first answer is slow, the rest must leave the slots to others; and
    // while something hangs, what is parked takes no slot that the new and the sick must leave. Otherwise a burst for a new
    // endpoint stays together: a waiting list is the longer way, and all that follows would take it too.
    if (aside > 0 && inSlots() + parked >= unproven) return false;
    const oldest = endpoint.startedAt[0] ?? origin?.health.startedAt[0];
    return oldest !== undefined && now - oldest <= SLOW_FIRST_ANSWER_MS;
  }

  function noteRefusal(origin: OriginState, now: number): void {
    const { health, pressure } = origin;
    origin.refusals++;
    // Only one of the host's paths is refused while most of the rest is answered: that path slows down, not the host.
    if (origin.refusals >= REFUSALS_OF_A_HOST)
      pushBack(pressure, now, health.startedAt.length + 1, true);
  }

  return {
    ask: (destination, now, ahead = 0, parked = ahead) => {
      const state = visit(destination, now);
      const origin = originOf(destination.origin, now);
      if (roomOf(destination, state, now, NOTHING) < 1)
        return mayPark(state, origin, now, ahead, parked) ? "park" : "wait";
      state.origin = destination.origin ?? state.origin;
      begin(state.endpoint, now);
      spend(state.pressure, now);
      running[state.standing]++;
      busy.add(state);
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
      recount(startedAt, now);
    },

    leave: (destination, startedAt, now, health) => {
      const state = states.get(destination.endpoint);
      if (state === undefined) return;
      const { endpoint, pressure } = state;
      const origin =
        destination.origin === null
          ? null
          : (origins.get(destination.origin) ?? null);
      end(endpoint, startedAt);
      running[state.standing]--;
      if (endpoint.startedAt.length === 0) busy.delete(state);
      if (origin !== null) end(origin.health, startedAt);
      recount(startedAt, now);
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
        if (isRefusal && origin !== null) noteRefusal(origin, now);
      } else if (health === "answered") {
        relax(pressure, now);
        if (origin !== null) {
          relax(origin.pressure, now);
          origin.refusals = Math.max(0, origin.refusals - 0.1);
        }
      }
      judge(state, origin, now);
    },

    rooms: (destinations, now) => {
      let left = 2 * slots;
      let unprovenGranted = 0;
      const byOrigin = new Map<string | null, number>();
      return destinations.map((destination) => {
        const { origin } = destination;
        const state = visit(destination, now);
        const atOrigin = origin === null ? 0 : (byOrigin.get(origin) ?? 0);
        const granted = { unproven: unprovenGranted, atOrigin };
        const room = Math.min(
          Math.max(0, roomOf(destination, state, now, granted)),
          most,
          left,
        );
        if (state.standing !== "proven") unprovenGranted += room;
        byOrigin.set(origin, atOrigin + room);
        left -= room;
        return room;
      });
    },

    ahead: ({ endpoint, origin: name }) => {
      const state = states.get(endpoint);
      const origin = name === null ? undefined : origins.get(name);
      const answerMs = state?.endpoint.answerMs ?? null;
      if (state?.standing !== "proven" || answerMs === null) return 0;
      if (
        state.pressure.limit < most ||
        (origin?.pressure.limit ?? most) < most
      )
        return 0;
      const count = (most * LOOK_AGAIN_MS) / Math.max(1, answerMs);
      return Math.floor(count);
    },

    hold: (endpoint, now, ms) => {
      hold(visit({ endpoint, origin: null }, now).pressure, now, ms);
    },

    review: (now) => {
      for (const state of busy) {
        const { origin } = state;
        // Another attempt of the endpoint may have gone elsewhere, and that origin be forgotten by now.
        judge(
          state,
          origin === null ? null : (origins.get(origin) ?? null),
          now,
        );
      }
      countAside(now);
    },

    aside: () => aside,
  };
}
