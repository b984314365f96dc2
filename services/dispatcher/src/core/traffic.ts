// Who goes, who waits here and who is put off: the dispatcher's slots as data. A delivery gets a slot when its endpoint's
// share has one (share.ts); otherwise it is parked in its endpoint's queue here, or goes back to Redis for a while.
import type { EndpointHealth, Share } from "./share.ts";

/** What traffic needs to know of a piece of work. */
export interface Item {
  entryId: string;
  /** What the share counts by. */
  endpoint: string;
}

export type Placement<Work> =
  | { kind: "go"; work: Work }
  | { kind: "park"; work: Work }
  | { kind: "defer"; work: Work; delayMs: number };

export interface Traffic<Work extends Item> {
  /** Slots for new work: those that no running, put-off or parked work takes. */
  free: () => number;
  /** How many slots are taken by work that runs or is being put off. */
  running: () => number;
  has: (entryId: string) => boolean;
  /** Where new work goes. What goes or is put off holds a slot until `leave`. */
  offer: (work: Work, now: number) => Placement<Work>;
  /** Frees the slot; `health` is what an attempt says of the endpoint. Returns the parked work that goes or is put off now. */
  leave: (work: Work, now: number, health: EndpointHealth) => Placement<Work>[];
  /** Looks at the parked work of endpoints that have become suspect; returns what goes or is put off now. */
  sweep: (now: number) => Placement<Work>[];
  /** Entries that run, are being put off or are parked since `before` or longer. */
  heldSince: (before: number) => string[];
  /** Forgets the parked work. */
  dropParked: () => void;
}

export function createTraffic<Work extends Item>(
  slots: number,
  share: Share,
): Traffic<Work> {
  const running = new Map<string, { startedAt: number; isAttempt: boolean }>();
  const parked = new Map<string, { work: Work; since: number }[]>();
  let parkedCount = 0;

  function place(work: Work, now: number, ahead: number): Placement<Work> {
    const answer = share.ask(work.endpoint, now, ahead);
    if (answer.kind !== "park") {
      const isAttempt = answer.kind === "go";
      running.set(work.entryId, { startedAt: now, isAttempt });
    }
    return { ...answer, work };
  }

  function resume(endpoint: string, now: number): Placement<Work>[] {
    const queue = parked.get(endpoint) ?? [];
    const placements: Placement<Work>[] = [];
    while (queue.length > 0) {
      const placement = place(queue[0]!.work, now, 0);
      if (placement.kind === "park") return placements;
      queue.shift();
      parkedCount--;
      placements.push(placement);
    }
    parked.delete(endpoint);
    return placements;
  }

  return {
    free: () => slots - running.size - parkedCount,
    running: () => running.size,
    has: (entryId) =>
      running.has(entryId) ||
      [...parked.values()].some((queue) =>
        queue.some(({ work }) => work.entryId === entryId),
      ),
    offer: (work, now) => {
      const queue = parked.get(work.endpoint);
      const placement = place(work, now, queue?.length ?? 0);
      if (placement.kind !== "park") return placement;
      if (queue === undefined)
        parked.set(work.endpoint, [{ work, since: now }]);
      else queue.push({ work, since: now });
      parkedCount++;
      return placement;
    },
    leave: ({ entryId, endpoint }, now, health) => {
      const held = running.get(entryId);
      running.delete(entryId);
      if (held === undefined || !held.isAttempt) return [];
      share.leave(endpoint, held.startedAt, now, health);
      return resume(endpoint, now);
    },
    sweep: (now) =>
      [...parked.keys()]
        .filter((endpoint) => share.isSuspect(endpoint, now))
        .flatMap((endpoint) => resume(endpoint, now)),
    heldSince: (before) => [
      ...[...running]
        .filter(([, { startedAt }]) => startedAt <= before)
        .map(([entryId]) => entryId),
      ...[...parked.values()]
        .flat()
        .filter(({ since }) => since <= before)
        .map(({ work }) => work.entryId),
    ],
    dropParked: () => {
      parked.clear();
      parkedCount = 0;
    },
  };
}
