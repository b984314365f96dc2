// The reading loop: free slots, then tokens, then entries. Never reads what it cannot start. Before it reads, it takes over
// the entries of dispatchers that died, when that is due.
import type { Consumer } from "@pipeline/shared/queue/consumer";
import type { Admit } from "./admit.ts";
import type { Claims } from "./claims.ts";
import type { Limiter } from "./limiter.ts";
import type { Permits } from "./permits.ts";
import type { RunAlone } from "./run-alone.ts";

/** One read takes at most this many: beyond it batches are no cheaper, and other dispatchers get their share. */
const MOST_ENTRIES = 100;
/** A busy dispatcher collects free slots for this long, to read many entries in one round trip instead of one by one. */
const COLLECT_SLOTS_MS = 10;
const IDLE_SLOT_WAIT_MS = 1000;

export interface ConsumeOptions {
  concurrency: number;
  queue: Pick<Consumer, "read">;
  claims: Claims;
  runAlone: RunAlone;
  limiter: Limiter;
  permits: Permits;
  admit: Admit;
  now: () => number;
}

export function createConsume(options: ConsumeOptions) {
  const { concurrency, queue, claims, runAlone } = options;
  const { limiter, permits, admit, now } = options;
  const worthReading = Math.min(
    MOST_ENTRIES,
    Math.max(1, Math.floor(concurrency / 4)),
  );
  /** What the last read was allowed to take, if it waited in vain until its tokens had expired. */
  let idle: { tokens: number; takenAt: number } | null = null;

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
    const count = Math.min(tokens, free);
    let entries = await claims.next(count);
    if (entries.length === 0) {
      const suspects = claims.suspects();
      if (await runAlone(suspects, tokens, takenAt, signal)) {
        idle = null;
        return 0;
      }
      entries = await queue.read(count, claims.intervalMs);
    }
    idle = null;
    if (entries.length > 0) await admit(entries, tokens, takenAt, signal);
    else if (limiter.isFresh(takenAt)) limiter.giveBack(tokens);
    else idle = { tokens, takenAt };
    return 0;
  };
}
