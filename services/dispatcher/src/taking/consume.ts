// The reading loop: free slots, then tokens, then entries. Never reads what it cannot start. Now and then it first takes
// over the entries of dispatchers that died: pending, and not touched for the claim idle time.
import type { Consumer } from "@pipeline/shared/queue/consumer";
import type { StreamEntry } from "@pipeline/shared/queue/group-reader";
import type { Admit } from "./admit.ts";
import type { Limiter } from "./limiter.ts";
import type { Permits } from "./permits.ts";

/** One read takes at most this many: beyond it batches are no cheaper, and other dispatchers get their share. */
const MOST_ENTRIES = 100;
/** A busy dispatcher collects free slots for this long, to read many entries in one round trip instead of one by one. */
const COLLECT_SLOTS_MS = 10;
const IDLE_SLOT_WAIT_MS = 1000;
const CLAIMS_PER_IDLE_TIME = 12;

export interface ConsumeOptions {
  concurrency: number;
  claimIdleMs: number;
  queue: Pick<Consumer, "read" | "claim">;
  limiter: Limiter;
  permits: Permits;
  admit: Admit;
  now: () => number;
  random: () => number;
}

export function createConsume(options: ConsumeOptions) {
  const { concurrency, claimIdleMs, queue, limiter, permits, admit } = options;
  const { now, random } = options;
  const worthReading = Math.min(
    MOST_ENTRIES,
    Math.max(1, Math.floor(concurrency / 4)),
  );
  const claimIntervalMs = claimIdleMs / CLAIMS_PER_IDLE_TIME;
  // Jitter: dispatchers started together would otherwise scan the same pending list at the same moment.
  const nextClaim = () => now() + claimIntervalMs * (0.8 + 0.4 * random());
  let claimAt = nextClaim();
  /** What the last read was allowed to take, if it waited in vain until its tokens had expired. */
  let idle: { tokens: number; takenAt: number } | null = null;

  async function next(count: number): Promise<StreamEntry[]> {
    if (now() >= claimAt) {
      const claimed = await queue.claim(count, claimIdleMs);
      // A full claim: there is probably more.
      if (claimed.length < count) claimAt = nextClaim();
      if (claimed.length > 0) return claimed;
    }
    return queue.read(count, claimIntervalMs);
  }

  return async (signal: AbortSignal): Promise<number> => {
    if (permits.free() < worthReading)
      await permits.waitFor(worthReading, COLLECT_SLOTS_MS);
    if (permits.free() < 1) await permits.waitFor(1, IDLE_SLOT_WAIT_MS);
    const free = Math.min(permits.free(), MOST_ENTRIES);
    if (free < 1 || signal.aborted) return 0;
    // What is read with expired tokens waits for new ones. So an idle dispatcher that goes on waiting needs none before.
    const { tokens, takenAt } = idle ?? {
      tokens: await limiter.take(free, signal),
      takenAt: now(),
    };
    if (tokens === 0 || signal.aborted) return 0;
    const entries = await next(Math.min(tokens, free));
    idle = null;
    if (entries.length > 0) await admit(entries, tokens, takenAt, signal);
    else if (limiter.isFresh(takenAt)) limiter.giveBack(tokens);
    else idle = { tokens, takenAt };
    return 0;
  };
}
