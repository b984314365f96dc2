// The reading loop: free slots, then tokens, then entries. Never reads what it cannot start.
import type { GroupReader } from "./adapters/group-reader.ts";
import type { Intake } from "./intake.ts";
import type { Limiter } from "./limiter.ts";
import type { Slots } from "./slots.ts";

/** One read takes at most this many: beyond it batches are no cheaper, and other dispatchers get their share. */
const MOST_ENTRIES = 100;
/** A busy dispatcher collects free slots for this long, to read many entries in one round trip instead of one by one. */
const COLLECT_SLOTS_MS = 10;
const IDLE_SLOT_WAIT_MS = 1000;

export interface ConsumeOptions {
  concurrency: number;
  reader: GroupReader;
  limiter: Limiter;
  slots: Slots;
  intake: Intake;
  now: () => number;
}

export function createConsume({
  concurrency,
  reader,
  limiter,
  slots,
  intake,
  now,
}: ConsumeOptions) {
  const worthReading = Math.min(
    MOST_ENTRIES,
    Math.max(1, Math.floor(concurrency / 4)),
  );

  return async (signal: AbortSignal): Promise<number> => {
    if (slots.free() < worthReading)
      await slots.waitFor(worthReading, COLLECT_SLOTS_MS);
    if (slots.free() < 1) await slots.waitFor(1, IDLE_SLOT_WAIT_MS);
    const free = Math.min(slots.free(), MOST_ENTRIES);
    if (free < 1 || signal.aborted) return 0;
    const tokens = await limiter.take(free, signal);
    const takenAt = now();
    if (tokens === 0 || signal.aborted) return 0;
    const entries = await reader.read(tokens);
    if (entries.length > 0) await intake(entries, tokens, takenAt, signal);
    return 0;
  };
}
