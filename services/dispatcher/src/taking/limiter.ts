// The global rate limit, over all dispatchers: tokens are leased from Redis before entries are read, so that throttled
// work stays in the stream.
import { abortableSleep, insist } from "@pipeline/shared/loop";
import type { Logger } from "@pipeline/shared/logger";
import type { Limits } from "@pipeline/shared/queue/limits";

export interface Limiter {
  /** Waits for tokens and takes 1 to `want` of them; 0 only when aborted. Rejects when Redis does not answer. */
  take: (want: number, signal: AbortSignal) => Promise<number>;
  /** The same, for entries that have been read already: repeats while Redis is away. */
  insist: (want: number, signal: AbortSignal) => Promise<number>;
  /** Tokens that were not used after all. They are good for a moment only. */
  giveBack: (count: number) => void;
  /** Whether tokens taken at `takenAt` (from `now`) may still be spent. */
  isFresh: (takenAt: number) => boolean;
}

/**
 * A token leads to a request within this time or is lost. With a bucket of the same depth, this bounds the requests in
 * any one second: the rate, plus a tenth of it from the bucket, plus a tenth that was already leased.
 */
const TOKEN_LIFE_MS = 100;
/** Worth one round trip: at high rates tokens are leased by the handful instead of one by one. */
const WORTH_WAITING_MS = 10;
const REPEAT_PAUSE_MS = 200;

const takeFreely: Limiter["take"] = async (want, signal) =>
  signal.aborted ? 0 : want;

export const unlimited: Limiter = {
  take: takeFreely,
  insist: takeFreely,
  giveBack: () => undefined,
  isFresh: () => true,
};

export interface LimiterOptions {
  limits: Pick<Limits, "lease">;
  ratePerSecond: number;
  logger: Logger;
  now: () => number;
}

export function createLimiter(options: LimiterOptions): Limiter {
  const { limits, ratePerSecond, logger, now } = options;
  const burst = Math.max(1, (ratePerSecond * TOKEN_LIFE_MS) / 1000);
  const batch = Math.max(
    1,
    Math.floor((ratePerSecond * WORTH_WAITING_MS) / 1000),
  );
  let spare = { count: 0, takenAt: -Infinity };
  const isFresh = (takenAt: number) => now() - takenAt <= TOKEN_LIFE_MS;

  function takeSpare(want: number): number {
    if (!isFresh(spare.takenAt)) return 0;
    const count = Math.min(want, spare.count);
    spare.count -= count;
    return count;
  }

  async function take(want: number, signal: AbortSignal): Promise<number> {
    while (!signal.aborted) {
      const spared = takeSpare(want);
      if (spared > 0) return spared;
      const worthwhile = Math.min(batch, want);
      const { granted, waitMs } = await limits.lease(
        ratePerSecond,
        burst,
        want,
        worthwhile,
      );
      if (granted > 0) return granted;
      await abortableSleep(waitMs, signal);
    }
    return 0;
  }

  return {
    take,
    insist: async (want, signal) => {
      const onFault = (err: unknown) => logger.debug({ err }, "lease.repeated");
      const pauseMs = REPEAT_PAUSE_MS;
      const ask = () => take(want, signal);
      return (await insist(ask, { signal, pauseMs, onFault })) ?? 0;
    },
    giveBack: (count) => {
      if (count === 0) return;
      const left = isFresh(spare.takenAt) ? spare.count : 0;
      spare = { count: left + count, takenAt: now() };
    },
    isFresh,
  };
}
