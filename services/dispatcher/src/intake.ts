// From stream entries to work: what parses and is its delivery's only entry gets a slot, the rest is ended with a reason.
import { parseEntry } from "@pipeline/shared/entries";
import { abortableSleep } from "@pipeline/shared/loop";
import type { Scripts } from "@pipeline/shared/scripts";
import type { Sealer } from "@pipeline/shared/seal";
import type { Logger } from "@pipeline/shared/logger";
import type { StreamEntry } from "./adapters/group-reader.ts";
import {
  describeIssues,
  letterFields,
  salvageDelivery,
} from "./core/malformed.ts";
import type { Deliver } from "./deliver.ts";
import type { Limiter } from "./limiter.ts";
import type { Slots } from "./slots.ts";
import { endpointOf, type Work } from "./work.ts";

/** An entry that was read this often without being settled takes its readers down with it. */
const MOST_READS = 5;
const REPEAT_PAUSE_MS = 200;

export interface IntakeOptions {
  streamKey: string;
  scripts: Scripts;
  sealer: Sealer;
  deliver: Deliver;
  slots: Slots;
  limiter: Limiter;
  logger: Logger;
}

export type Intake = ReturnType<typeof createIntake>;

export function createIntake(options: IntakeOptions) {
  const { streamKey, scripts, sealer, deliver, slots, limiter, logger } =
    options;

  function refuse(
    work: Work,
    error: string,
    fields: Record<string, string>,
  ): void {
    deliver
      .giveUp(work, error, letterFields(fields, sealer.seal))
      .catch((error: unknown) => {
        logger.error(
          { err: error, deliveryId: work.delivery.id, entryId: work.entryId },
          "delivery.faulted",
        );
      });
  }

  /** The entry's work, or null when it has been ended here. */
  function toWork(
    { entryId, fields, timesRead }: StreamEntry,
    parsed: ReturnType<typeof parseEntry>,
  ): Work | null {
    if (!parsed.ok) {
      const delivery = salvageDelivery(parsed.deliveryId, parsed.fields);
      refuse(
        { entryId, delivery, endpoint: "" },
        describeIssues(parsed.issues),
        parsed.fields,
      );
      return null;
    }
    const { delivery } = parsed;
    const work: Work = { entryId, delivery, endpoint: endpointOf(delivery) };
    if (timesRead <= MOST_READS) return work;
    const entries = Object.fromEntries(
      fields.flatMap((name, i) =>
        i % 2 === 0 ? [[name, fields[i + 1] ?? ""]] : [],
      ),
    );
    refuse(
      work,
      `crash_loop: read ${timesRead} times and never settled`,
      entries,
    );
    return null;
  }

  /** Repeats while Redis is away: what is read already would else wait for the claim idle time. Null when stopping. */
  async function insist<Result>(
    ask: () => Promise<Result>,
    signal: AbortSignal,
  ): Promise<Result | null> {
    while (!signal.aborted) {
      try {
        return await ask();
      } catch (error) {
        logger.debug({ err: error }, "intake.repeated");
        await abortableSleep(REPEAT_PAUSE_MS, signal);
      }
    }
    return null;
  }

  /**
   * Puts entries into slots, for which `tokens` taken at `takenAt` are at hand; tokens that are stale by now (the read
   * waited for work) are taken anew. Returns when each entry has its token or the dispatcher stops.
   */
  return async (
    entries: StreamEntry[],
    tokens: number,
    takenAt: number,
    signal: AbortSignal,
  ): Promise<void> => {
    const read = entries.filter(({ entryId }) => !slots.has(entryId));
    const parsed = read.map(({ entryId, fields }) =>
      parseEntry(streamKey, entryId, fields),
    );
    const ids = parsed.map((entry, i) => ({
      entryId: read[i]!.entryId,
      deliveryId: entry.ok ? entry.delivery.id : entry.deliveryId,
    }));
    const admissions =
      ids.length === 0 ? [] : await insist(() => scripts.admit(ids), signal);
    if (admissions === null) return; // they stay pending and are released
    let atHand = limiter.isFresh(takenAt) ? tokens : 0;
    for (const [i, entry] of read.entries()) {
      if (admissions[i] !== true) {
        logger.info(ids[i], "entry.duplicate_removed");
        continue;
      }
      const work = toWork(entry, parsed[i]!);
      if (work === null) continue;
      if (atHand === 0) {
        const want = read.length - i;
        atHand = (await insist(() => limiter.take(want, signal), signal)) ?? 0;
      }
      if (atHand === 0) return;
      atHand--;
      slots.accept(work);
    }
    limiter.giveBack(atHand);
  };
}
