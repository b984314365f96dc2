// What somebody else keeps locked, or what takes long to commit, by name: leads, and idempotency keys that another call is
// storing. A request that names one is refused at once for a while, and then tried alone, so that it does not hold up those
// who would share its call.

export interface HeldRows {
  /** `free`: nothing is known of it. `probe`: to be tried alone. `held`: not now. */
  enter: (names: string[], now: number) => "free" | "probe" | "held";
  /** Whether one of these was found locked a moment ago. */
  isResting: (names: string[], now: number) => boolean;
  found: (names: string[], now: number) => void;
  /** One of them may be: whoever names one next is tried alone. */
  suspect: (names: string[], now: number) => void;
  released: (names: string[]) => void;
}

const REST_MS = 1000;
/** Longer than a probe may take. */
const PROBE_MS = 10_000;
const REMEMBERED = 1000;

export function createHeldRows(): HeldRows {
  const restingUntil = new Map<string, number>();

  function rest(names: string[], until: number): void {
    for (const name of names) {
      restingUntil.delete(name);
      restingUntil.set(name, until);
    }
    for (const oldest of restingUntil.keys()) {
      if (restingUntil.size <= REMEMBERED) break;
      restingUntil.delete(oldest);
    }
  }

  const isResting = (names: string[], now: number) =>
    names.some((name) => (restingUntil.get(name) ?? -Infinity) > now);

  return {
    enter: (names, now) => {
      if (restingUntil.size === 0) return "free";
      const known = names.filter((name) => restingUntil.has(name));
      if (known.length === 0) return "free";
      if (isResting(known, now)) return "held";
      rest(known, now + PROBE_MS);
      return "probe";
    },
    isResting,
    found: (names, now) => rest(names, now + REST_MS),
    suspect: rest,
    released: (names) => {
      if (restingUntil.size === 0) return;
      for (const name of names) restingUntil.delete(name);
    },
  };
}
