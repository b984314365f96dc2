// Takes over the entries of dispatchers that died: pending, and not touched for the claim idle time.
import type { GroupReader } from "./adapters/group-reader.ts";
import type { Intake } from "./intake.ts";
import type { Slots } from "./slots.ts";

/** A PEL scan of 100,000 entries takes 150 ms in calls of this many, 4 ms at worst each. */
const MOST_ENTRIES = 100;
const ROUNDS_PER_IDLE_TIME = 12;

export interface ClaimOptions {
  reader: GroupReader;
  slots: Slots;
  intake: Intake;
  claimIdleMs: number;
  random: () => number;
}

export function createClaim({
  reader,
  slots,
  intake,
  claimIdleMs,
  random,
}: ClaimOptions) {
  // Jitter: dispatchers started together would otherwise scan the same list at the same moment.
  const pauseMs = () =>
    (claimIdleMs / ROUNDS_PER_IDLE_TIME) * (0.8 + 0.4 * random());

  return async (signal: AbortSignal): Promise<number> => {
    const free = Math.min(slots.free(), MOST_ENTRIES);
    if (free < 1) return pauseMs();
    const entries = await reader.claim(free, claimIdleMs);
    if (entries.length === 0) return pauseMs();
    await intake(entries, 0, -Infinity, signal);
    return entries.length < free ? pauseMs() : 0;
  };
}
