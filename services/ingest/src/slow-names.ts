// Leads and keys with creations in flight that have become slow. Others of the same name wait for their end before they begin
// theirs, so that slow commits of one lead cannot take all connections. What is slow beside others counts from the second
// time: once may be their fault.

export interface SlowNames {
  /** Until the returned function is called, a creation of these names is slow; `isAlone`: and it holds no other delivery. */
  enter: (names: string[], isAlone: boolean) => () => void;
  /** Resolves to whether none of the names is slow, at the latest after `ms`. At once, if it can. */
  free: (names: string[], ms: number) => Promise<boolean>;
}

const SLOW_COUNT = 2;

export function createSlowNames(): SlowNames {
  const inFlight = new Map<string, number>();
  let waiting: { names: string[]; resolve: (isFree: boolean) => void }[] = [];

  const isFree = (names: string[]) =>
    names.every((name) => (inFlight.get(name) ?? 0) < SLOW_COUNT);

  function leave(names: string[], weight: number): void {
    for (const name of names) {
      const count = inFlight.get(name)! - weight;
      if (count === 0) inFlight.delete(name);
      else inFlight.set(name, count);
    }
    for (const { names: wanted, resolve } of waiting)
      if (isFree(wanted)) resolve(true);
  }

  return {
    enter: (names, isAlone) => {
      const distinct = [...new Set(names)];
      const weight = isAlone ? SLOW_COUNT : 1;
      for (const name of distinct)
        inFlight.set(name, (inFlight.get(name) ?? 0) + weight);
      return () => leave(distinct, weight);
    },
    free: (names, ms) => {
      if (inFlight.size === 0 || isFree(names)) return Promise.resolve(true);
      const { promise, resolve } = Promise.withResolvers<boolean>();
      const entry = { names, resolve };
      waiting.push(entry);
      const timer = setTimeout(resolve, ms, false);
      return promise.finally(() => {
        clearTimeout(timer);
        waiting = waiting.filter((each) => each !== entry);
      });
    },
  };
}
