// Keeps what a dispatcher adds to Redis within bounds. An entry that is read becomes an outcome in the log, and perhaps a retry
// or a dead letter, which take several times its memory. So nothing more is read while outcomes pile up, and when Redis is
// nearly full deliveries are taken no faster than their outcomes get to Postgres. New ones wait in the stream meanwhile; when
// it is full too, producers are refused.
import type { Logger } from "@pipeline/shared/logger";
import type { DeadLetters } from "@pipeline/shared/queue/dead-letters";
import type { Inspection, MemoryUse } from "@pipeline/shared/queue/inspection";

const MB = 1024 * 1024;
/** At 50 deliveries a second: half an hour without Postgres. */
const MOST_UNRECORDED = 100_000;
const MOST_UNRECORDED_BYTES = 256 * MB;
/** The same when there is a `maxmemory`: a quarter of it at most. */
const UNRECORDED_SHARE = 1 / 4;
const DEAD_SHARE = 1 / 10;
/** From here on Redis counts as nearly full. */
const NEARLY_FULL = 0.95;
const MOST_UNRECORDED_WHEN_FULL = 200;
const SHARE_WHEN_FULL = 1 / 20;
/** From here on Redis is over its limit, because of what waits outside the stream if that is much. */
const TOO_FULL = 1.12;
const MANY_ASIDE = 1000;
/** What is read per pause then: 0.2 % of the limit a second, so that the queue does not stand still. */
const SHARE_PER_PAUSE = 1 / 5000;
/** Shares of a `maxmemory` that is tiny do not go below this: such a Redis is filled by something else. */
const LEAST_BYTES = MB / 4;
/** What a delivery takes beside its payload, in an outcome and a retry. */
const OVERHEAD_BYTES = 3000;
/** Letters are trimmed to this part of their bound, so that it does not happen for each of them. */
const KEPT_WHEN_TRIMMED = 0.9;
const PAUSE_MS = 100;
const LOG_INTERVAL_MS = 10_000;

export interface MemoryGuardOptions {
  inspection: Pick<Inspection, "memory">;
  deadLetters: Pick<DeadLetters, "keepNewest">;
  /** For all dead letters together. */
  deadMaxBytes: number;
  /** The usual size of an entry. */
  typicalBytes: () => number;
  logger: Logger;
  /** Monotonic ms. */
  now: () => number;
}

interface Verdict {
  /** Bytes of deliveries that one dispatcher may have in flight. */
  allowance: number;
  /** Null when there is none but the number of slots. */
  reason: string | null;
  /** So much is read once per pause. */
  isTrickle?: boolean;
}

export interface MemoryGuard {
  /** How many deliveries may be in flight here by the last look at Redis. */
  mostInFlight: () => number;
  /** Looks at Redis if the last look is too old; ms to wait before the next read, 0 when reading may go on. */
  check: (inFlight: number) => Promise<number>;
  /** Whether memory is so short that nothing should be moved from the stream to where it takes more. */
  isTight: () => boolean;
  /** Entries were read, so that the memory in use may have changed. */
  noteRead: () => void;
}

const shareOf = (maxMemory: number, share: number) =>
  maxMemory === 0 ? Infinity : Math.max(LEAST_BYTES, maxMemory * share);

export function judge(use: MemoryUse): Verdict {
  const { unrecorded, unrecordedBytes, used, max } = use;
  const mostBytes = Math.min(
    MOST_UNRECORDED_BYTES,
    shareOf(max, UNRECORDED_SHARE),
  );
  if (unrecorded >= MOST_UNRECORDED || unrecordedBytes >= mostBytes)
    return { allowance: 0, reason: "outcomes are waiting for Postgres" };
  if (max === 0 || used < max * NEARLY_FULL)
    return { allowance: Infinity, reason: null };
  if (used >= max * TOO_FULL && use.aside >= MANY_ASIDE)
    return {
      allowance: max * SHARE_PER_PAUSE,
      reason: "Redis is too full",
      isTrickle: true,
    };
  const reason = "Redis is nearly full";
  const allowance = shareOf(max, SHARE_WHEN_FULL);
  const isBehind =
    unrecorded >= MOST_UNRECORDED_WHEN_FULL || unrecordedBytes >= allowance;
  return { allowance: isBehind ? 0 : allowance, reason };
}

export function createMemoryGuard(options: MemoryGuardOptions): MemoryGuard {
  const { inspection, deadLetters, deadMaxBytes, typicalBytes } = options;
  const { logger, now } = options;
  let verdict: Verdict = { allowance: Infinity, reason: null };
  let lookedAt = -Infinity;
  let validMs = 0;
  let hasRead = true;
  let trickledAt = -Infinity;
  let toldAt = -Infinity;
  let told: string | null = null;

  async function trimDead({ dead, deadBytes, max }: MemoryUse): Promise<void> {
    const most = Math.min(deadMaxBytes, shareOf(max, DEAD_SHARE));
    if (deadBytes <= most) return;
    const kept = Math.floor((dead * most * KEPT_WHEN_TRIMMED) / deadBytes);
    const count = await deadLetters.keepNewest(kept);
    if (count > 0) logger.warn({ count }, "dead_letters.trimmed");
  }

  function tell({ unrecorded, unrecordedBytes, used, max }: MemoryUse): void {
    const { reason } = verdict;
    if (reason === told || now() - toldAt < LOG_INTERVAL_MS) return;
    told = reason;
    toldAt = now();
    const facts = { reason, unrecorded, unrecordedBytes, used, max };
    if (reason === null) logger.info(facts, "reading.resumed");
    else logger.warn(facts, "reading.slowed");
  }

  /** The fuller, the more often: from half full on, a second of full load may fill the rest. */
  function validity({ used, max }: MemoryUse): number {
    const fullness = max === 0 ? 0 : used / max;
    return fullness < 0.5 ? 1000 : fullness < 0.8 ? 100 : 20;
  }

  async function look(): Promise<void> {
    const use = await inspection.memory();
    lookedAt = now();
    hasRead = false;
    validMs = validity(use);
    verdict = judge(use);
    tell(use);
    await trimDead(use);
  }

  const mostInFlight = () =>
    Math.ceil(verdict.allowance / (2 * typicalBytes() + OVERHEAD_BYTES));

  return {
    mostInFlight,
    isTight: () => verdict.reason !== null,
    noteRead: () => {
      hasRead = true;
    },
    check: async (inFlight) => {
      // An idle dispatcher asks Redis nothing.
      const isUnchanged = !hasRead && verdict.reason === null;
      if (!isUnchanged && now() - lookedAt >= validMs) await look();
      if (inFlight >= mostInFlight()) return PAUSE_MS;
      if (verdict.isTrickle !== true) return 0;
      if (now() - trickledAt < PAUSE_MS) return PAUSE_MS;
      trickledAt = now();
      return 0;
    },
  };
}
