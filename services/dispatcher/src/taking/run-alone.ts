// An entry that is read for the third time may be what its readers died of, or it was only in flight beside it. So it is
// started with nothing else in flight, and a death counts against it only then:
//
//   1  nothing is read until all slots are free, or until the limit
//   2  the run is marked in Redis, as alone if the slots are free, and the entry is taken over and started
//   3  nothing is read until it has ended, or until the limit; then the mark is taken back, for this dispatcher lives
//   4  everything else gets as much time as it has lost, before the next such entry has its turn
//
// What stays marked are deaths. After three alone the entry is a dead letter. The limit is a second, so that an endpoint that
// hangs does not keep the others waiting; with each run that was not survived it doubles, up to the time an attempt takes, so
// that what kills late, or while others hang, is found out too: after 5 deaths as a rule, after 10 if attempts take up to 30 s.
// Not chosen: a process of its own for such entries, since then it would not be the dispatcher that dies; and running them
// beside others, since then each would be guilty of what kills for the first or the second time beside it.
import type { Logger } from "@pipeline/shared/logger";
import type { Consumer } from "@pipeline/shared/queue/consumer";
import type { Orphan, StreamEntry } from "@pipeline/shared/queue/group-reader";
import type { Mark, Marks } from "@pipeline/shared/queue/marks";
import type { Settler } from "../attempt/settler.ts";
import type { Admit } from "./admit.ts";
import type { Permits } from "./permits.ts";

/** Gives one of the suspects its turn. False when there is none, or when it is the others' time. */
export type RunAlone = (
  suspects: Orphan[],
  tokens: number,
  takenAt: number,
  signal: AbortSignal,
) => Promise<boolean>;

/** With a verdict, ends them for that reason instead. */
type Start = (entries: StreamEntry[], verdict?: string) => Promise<void>;

const SHORTEST_LIMIT_MS = 1000;
const BEYOND_ATTEMPT_MS = 2000;
const MOST_DEATHS_ALONE = 3;
const VERDICT = `crash_loop: its dispatcher died ${MOST_DEATHS_ALONE} times while nothing else was in flight`;
const LOOKED_AT = 100;
const POLL_MS = 20;
const REPEAT_PAUSE_MS = 500;

export interface RunAloneOptions {
  concurrency: number;
  claimIdleMs: number;
  attemptTimeoutMs: number;
  queue: Pick<Consumer, "take" | "takeUnread">;
  marks: Marks;
  permits: Pick<Permits, "free" | "has" | "running">;
  admit: Admit;
  settler: Pick<Settler, "bury">;
  logger: Logger;
  now: () => number;
  random: () => number;
  /** Resolves early when the signal aborts. */
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}

export function createRunAlone(options: RunAloneOptions): RunAlone {
  const { concurrency, claimIdleMs, queue, marks, permits, admit } = options;
  const { settler, logger, now, random, sleep } = options;
  const longestLimitMs = options.attemptTimeoutMs + BEYOND_ATTEMPT_MS;
  /** Runs that have outlasted their limit. */
  const unended = new Set<string>();
  let othersUntil = -Infinity;

  // Slots may be free although attempts run that do not count, and taken although nothing runs.
  const isIdle = () => permits.running() === 0 && permits.free() >= concurrency;

  /** Until nothing is in flight here, at most for `ms`. */
  async function untilIdle(ms: number, signal: AbortSignal): Promise<void> {
    const endAt = now() + ms;
    while (!isIdle() && !signal.aborted && now() < endAt)
      await sleep(Math.min(endAt - now(), POLL_MS), signal);
  }

  /** Whoever died alone the fewest times comes first, so that dispatchers that are killed for other reasons convict nobody. */
  async function choose(
    suspects: Orphan[],
  ): Promise<{ suspect: Orphan; mark: Mark }> {
    const some = suspects.slice(0, LOOKED_AT);
    const found = await marks.find(some.map(({ entryId }) => entryId));
    // Several dispatchers choose at the same time: by chance among equals they get in each other's way less often.
    const [first] = some
      .map((suspect, i) => ({ suspect, mark: found[i]!, chance: random() }))
      .sort(
        (a, b) =>
          a.mark.alone - b.mark.alone ||
          a.mark.begun - b.mark.begun ||
          a.chance - b.chance,
      );
    return first!;
  }

  async function forgetEnded(): Promise<void> {
    for (const entryId of unended) {
      if (permits.has(entryId)) continue;
      unended.delete(entryId);
      await marks.remove(entryId);
    }
  }

  /** Repeated while Redis is away: otherwise that would count as a death. At a stop it is tried once. */
  async function insist(
    change: () => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    for (;;) {
      try {
        return await change();
      } catch (err) {
        if (signal.aborted) throw err;
        logger.debug({ err }, "mark.repeated");
        await sleep(REPEAT_PAUSE_MS, signal);
      }
    }
  }

  /** Takes the entry over and starts it. False when another dispatcher has it. */
  async function takeOver(
    suspect: Orphan,
    isAlone: boolean,
    start: Start,
  ): Promise<boolean> {
    // Before it is read: even reading it may be what kills.
    await marks.begin(suspect.entryId, isAlone);
    const entries = await queue.take([suspect], claimIdleMs);
    if (entries.length === 0) return false;
    logger.warn({ ...suspect, isAlone }, "entry.run_alone");
    await start(entries);
    return true;
  }

  async function run(
    suspect: Orphan,
    { begun }: Mark,
    start: Start,
    signal: AbortSignal,
  ): Promise<void> {
    const { entryId } = suspect;
    const limitMs = Math.min(SHORTEST_LIMIT_MS * 2 ** begun, longestLimitMs);
    await untilIdle(limitMs, signal);
    if (signal.aborted) return;
    const isAlone = isIdle();
    let isTaken = false;
    try {
      isTaken = await takeOver(suspect, isAlone, start);
      if (isTaken && isAlone) await untilIdle(limitMs, signal);
    } finally {
      if (!isTaken || signal.aborted)
        await insist(() => marks.withdraw(entryId), signal);
    }
    if (!isTaken || signal.aborted) return;
    if (!permits.has(entryId))
      await insist(() => marks.remove(entryId), signal);
    else {
      // It runs on, in company. If this process dies of it now, that makes the next limit a longer one.
      unended.add(entryId);
      await insist(() => marks.begin(entryId, false), signal);
    }
  }

  async function convict(
    suspect: Orphan,
    { alone }: Mark,
    start: Start,
  ): Promise<void> {
    const { entryId } = suspect;
    if (alone > MOST_DEATHS_ALONE) {
      // Even reading it for its dead letter was deadly.
      if (await queue.takeUnread(entryId, claimIdleMs))
        await settler.bury({ entryId, isDelivered: false, reason: VERDICT });
      return;
    }
    await marks.begin(entryId, true);
    const entries = await queue.take([suspect], claimIdleMs);
    if (entries.length > 0) await start(entries, VERDICT);
  }

  return async (suspects, tokens, takenAt, signal) => {
    await forgetEnded();
    const closedAt = now();
    if (suspects.length === 0 || closedAt < othersUntil) return false;
    const { suspect, mark } = await choose(suspects);
    const start: Start = (entries, verdict) =>
      admit(entries, tokens, takenAt, signal, verdict);
    if (mark.alone >= MOST_DEATHS_ALONE) await convict(suspect, mark, start);
    else await run(suspect, mark, start, signal);
    othersUntil = now() + (now() - closedAt);
    return true;
  };
}
