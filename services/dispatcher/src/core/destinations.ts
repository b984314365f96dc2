// What is known of endpoints and of the origins they lead to. The half that was not seen for longest is forgotten when there
// are too many, but nothing that has an attempt in flight.
import { createHealth, type Health } from "./health.ts";
import { createPressure, type Pressure } from "./pressure.ts";

export interface Destination {
  /** The endpoint's id, or the URL without its query. */
  endpoint: string;
  /** Null while it is not known: the endpoint has not been looked up yet. */
  origin: string | null;
}

export type Standing = "proven" | "new" | "sick";

export interface EndpointState {
  health: Health;
  pressure: Pressure;
  origin: string | null;
  /** As it was last judged; its running attempts are counted there. */
  standing: Standing;
}

export interface OriginState {
  health: Health;
  /** Refused connections speak of the whole host, unless most others are accepted. */
  pressure: Pressure;
  /** Refused connections, less a tenth for every answer since. */
  refusals: number;
}

export interface Destinations {
  /** Made when it is not known yet. `now`: ms of a monotonic clock, as in all of these. */
  endpoint: (destination: Destination, now: number) => EndpointState;
  /** The same; null when it is not known where the endpoint leads. */
  origin: (name: string | null, now: number) => OriginState | null;
  knownEndpoint: (name: string) => EndpointState | null;
  knownOrigin: (name: string | null) => OriginState | null;
}

const REMEMBERED = 10_000;

function forget(known: Map<string, { health: Health }>): void {
  if (known.size < REMEMBERED) return;
  const idle = [...known]
    .filter(([, { health }]) => health.startedAt.length === 0)
    .toSorted(([, a], [, b]) => a.health.seenAt - b.health.seenAt);
  for (const [name] of idle.slice(0, Math.ceil(REMEMBERED / 2)))
    known.delete(name);
}

export function createDestinations(): Destinations {
  const endpoints = new Map<string, EndpointState>();
  const origins = new Map<string, OriginState>();

  return {
    endpoint: ({ endpoint: name, origin }, now) => {
      let state = endpoints.get(name);
      if (state === undefined) {
        forget(endpoints);
        const pressure = createPressure();
        const health = createHealth(now);
        state = { health, pressure, origin, standing: "new" };
        endpoints.set(name, state);
      }
      state.health.seenAt = now;
      return state;
    },

    origin: (name, now) => {
      if (name === null) return null;
      let state = origins.get(name);
      if (state === undefined) {
        forget(origins);
        const pressure = createPressure();
        state = { health: createHealth(now), pressure, refusals: 0 };
        origins.set(name, state);
      }
      state.health.seenAt = now;
      return state;
    },

    knownEndpoint: (name) => endpoints.get(name) ?? null,
    knownOrigin: (name) => (name === null ? null : (origins.get(name) ?? null)),
  };
}
