// Who goes, who waits here and who waits in Redis: the dispatcher's slots as data. A delivery gets a slot when its
// endpoint's share has one (share.ts); otherwise it is parked here for a moment, or goes to its endpoint's waiting list.
import type { Destination } from "./destinations.ts";
import type { EndpointHealth, Share } from "./share.ts";

/** What traffic needs to know of a piece of work. */
export interface Item extends Destination {
  entryId: string;
}

export interface Placement<Work> {
  kind: "go" | "park" | "wait";
  work: Work;
}

export interface Traffic<Work extends Item> {
  /** Slots for new work: those that no running, leaving or parked work takes. */
  free: () => number;
  /** How much work runs or is on its way to a waiting list. */
  running: () => number;
  has: (entryId: string) => boolean;
  /** Where new work goes. What goes or waits in Redis holds a slot until `leave`. */
  /** With `mustRun` it goes whatever the share says, and says nothing of its endpoint. */
  offer: (work: Work, now: number, mustRun?: boolean) => Placement<Work>;
  /** The request begins. */
  begin: (work: Work, now: number) => void;
  /** Frees the slot; `health` is what an attempt says of the endpoint. Returns the parked work that leaves its place now. */
  leave: (work: Work, now: number, health: EndpointHealth) => Placement<Work>[];
  /** Looks for attempts that are overdue; returns the parked work that leaves its place now. */
  sweep: (now: number) => Placement<Work>[];
  /** Entries that run, are leaving or are parked since `before` or longer. */
  heldSince: (before: number) => string[];
  /** Forgets the parked work. */
  dropParked: () => void;
}

/** Parking is estimated at half a second at most; what estimates wrongly must not keep others from being read. */
const LONGEST_PARKED_MS = 1000;

export function createTraffic<Work extends Item>(
  slots: number,
  share: Share,
): Traffic<Work> {
  const running = new Map<
    string,
    { takenAt: number; startedAt: number; isAttempt: boolean }
  >();
  const parked = new Map<string, { work: Work; since: number }[]>();
  /** The endpoints of an origin that have parked work: one may wait for another's attempt to end. */
  const parkedAt = new Map<string | null, Set<string>>();
  let parkedCount = 0;

  function place(
    work: Work,
    now: number,
    ahead: number,
    parkedOthers: number,
  ): Placement<Work> {
    const kind = share.ask(work, now, ahead, parkedOthers);
    if (kind !== "park") take(work, now, kind === "go");
    return { kind, work };
  }

  function take({ entryId }: Work, now: number, isAttempt: boolean): void {
    running.set(entryId, { takenAt: now, startedAt: now, isAttempt });
  }

  function park(work: Work, now: number): void {
    const queue = parked.get(work.endpoint);
    if (queue === undefined) parked.set(work.endpoint, [{ work, since: now }]);
    else queue.push({ work, since: now });
    const endpoints = parkedAt.get(work.origin) ?? new Set();
    parkedAt.set(work.origin, endpoints.add(work.endpoint));
    parkedCount++;
  }

  function resume(
    endpoint: string,
    now: number,
    mayPark: (since: number) => boolean,
  ): Placement<Work>[] {
    const queue = parked.get(endpoint) ?? [];
    const placements: Placement<Work>[] = [];
    let origin: string | null = null;
    while (queue.length > 0) {
      const { work, since } = queue[0]!;
      const placement = place(work, now, 0, parkedCount - 1);
      ({ origin } = work);
      if (placement.kind === "park") {
        if (mayPark(since)) return placements;
        take(work, now, false);
        placement.kind = "wait";
      }
      queue.shift();
      parkedCount--;
      placements.push(placement);
    }
    parked.delete(endpoint);
    const endpoints = parkedAt.get(origin);
    endpoints?.delete(endpoint);
    if (endpoints?.size === 0) parkedAt.delete(origin);
    return placements;
  }

  return {
    free: () => slots - Math.max(0, running.size - share.aside()) - parkedCount,
    running: () => running.size,
    has: (entryId) =>
      running.has(entryId) ||
      [...parked.values()].some((queue) =>
        queue.some(({ work }) => work.entryId === entryId),
      ),
    offer: (work, now, mustRun = false) => {
      if (mustRun) {
        take(work, now, false);
        return { kind: "go", work };
      }
      const ahead = parked.get(work.endpoint)?.length ?? 0;
      const placement = place(work, now, ahead, parkedCount);
      if (placement.kind === "park") park(work, now);
      return placement;
    },
    begin: (work, now) => {
      const held = running.get(work.entryId);
      if (held === undefined || !held.isAttempt || held.startedAt === now)
        return;
      share.restart(work, held.startedAt, now);
      held.startedAt = now;
    },
    leave: (work, now, health) => {
      const held = running.get(work.entryId);
      running.delete(work.entryId);
      if (held === undefined || !held.isAttempt) return [];
      share.leave(work, held.startedAt, now, health);
      const placements = resume(work.endpoint, now, () => true);
      for (const endpoint of parkedAt.get(work.origin) ?? []) {
        if (endpoint === work.endpoint) continue;
        placements.push(...resume(endpoint, now, () => true));
      }
      return placements;
    },
    sweep: (now) => {
      share.review(now);
      const mayPark = (since: number) => now - since < LONGEST_PARKED_MS;
      return [...parked.keys()].flatMap((endpoint) =>
        resume(endpoint, now, mayPark),
      );
    },
    heldSince: (before) => [
      ...[...running]
        .filter(([, { takenAt }]) => takenAt <= before)
        .map(([entryId]) => entryId),
      ...[...parked.values()]
        .flat()
        .filter(({ since }) => since <= before)
        .map(({ work }) => work.entryId),
    ],
    dropParked: () => {
      parked.clear();
      parkedAt.clear();
      parkedCount = 0;
    },
  };
}
