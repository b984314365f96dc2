// Turns stream entries into work. An entry that parses and is its delivery's only one is offered a slot; any other is ended
// with a reason.
import { type ParsedEntry, parseEntry } from "@pipeline/shared/entries";
import { insist } from "@pipeline/shared/loop";
import type { Logger } from "@pipeline/shared/logger";
import type { Consumer } from "@pipeline/shared/queue/consumer";
import { unflatten } from "@pipeline/shared/queue/fields";
import type { StreamEntry } from "@pipeline/shared/queue/group-reader";
import { isFromWaitingList } from "@pipeline/shared/queue/waiting";
import { describeIssues, salvageDelivery } from "../core/malformed.ts";
import { destinationOf, timesReadBefore, type Work } from "../core/work.ts";
import { FREE_READS } from "./claims.ts";
import type { Limiter } from "./limiter.ts";
import type { Permits } from "./permits.ts";

const REPEAT_PAUSE_MS = 200;

export interface AdmitOptions {
  streamKey: string;
  queue: Pick<Consumer, "admit" | "setApart">;
  permits: Permits;
  limiter: Limiter;
  /** Where an endpoint's id leads, if that is known. */
  originOf: (endpointId: string) => string | null;
  /** Ends a delivery that cannot be sent; `fields` are the entry's own. */
  giveUp: (
    work: Work,
    error: string,
    fields: Record<string, string>,
  ) => Promise<void>;
  logger: Logger;
}

/**
 * Puts entries into slots, for which `tokens` taken at `takenAt` are at hand; tokens that are stale by now (the read
 * waited for work) are taken anew. With a `verdict` the entries are ended for that reason instead. Resolves when each entry
 * has its token or the dispatcher stops.
 */
export type Admit = (
  entries: StreamEntry[],
  tokens: number,
  takenAt: number,
  signal: AbortSignal,
  verdict?: string,
) => Promise<void>;

export function createAdmit(options: AdmitOptions): Admit {
  const { streamKey, queue, permits, limiter, originOf, logger } = options;

  function giveUp(
    work: Work,
    error: string,
    fields: Record<string, string>,
  ): void {
    options.giveUp(work, error, fields).catch((err: unknown) => {
      const { entryId, delivery } = work;
      const facts = { err, deliveryId: delivery.id, entryId };
      logger.error(facts, "delivery.faulted");
    });
  }

  /** The entry's work, or null when it has been ended here. */
  function toWork(
    { entryId, fields, timesRead }: StreamEntry,
    parsed: ParsedEntry,
    verdict: string | undefined,
  ): Work | null {
    if (!parsed.ok) {
      const delivery = salvageDelivery(parsed.deliveryId, parsed.fields);
      const nowhere = { endpoint: "", origin: null, hasWaited: false };
      const work = { entryId, delivery, ...nowhere, isParsed: false };
      giveUp(work, describeIssues(parsed.issues), parsed.fields);
      return null;
    }
    const { delivery } = parsed;
    const reads = timesReadBefore(fields) + timesRead;
    const work: Work = {
      entryId,
      delivery,
      ...(reads > 1 && { timesRead: reads }),
      ...destinationOf(delivery, originOf),
      hasWaited: isFromWaitingList(fields),
      isParsed: true,
    };
    if (verdict === undefined) return work;
    giveUp(work, verdict, unflatten(fields));
    return null;
  }

  return async (entries, tokens, takenAt, signal, verdict) => {
    const read = entries
      .filter(({ entryId }) => !permits.has(entryId))
      .map((entry) => {
        const { entryId, fields, undecodable } = entry;
        const parsed = parseEntry(streamKey, entryId, fields, undecodable);
        const deliveryId = parsed.ok ? parsed.delivery.id : parsed.deliveryId;
        return { entry, parsed, deliveryId };
      });
    const ids = read.map(({ entry, deliveryId }) => ({
      entryId: entry.entryId,
      deliveryId,
    }));
    // Repeated while Redis is away. Otherwise entries already read would wait out the claim idle time.
    const admissions = await insist(() => queue.admit(ids), {
      signal,
      pauseMs: REPEAT_PAUSE_MS,
      onFault: (err) => logger.debug({ err }, "admit.repeated"),
    });
    if (admissions === null) return; // they stay pending and are released
    let tokensLeft = limiter.isFresh(takenAt) ? tokens : 0;
    for (const [i, { entry, parsed }] of read.entries()) {
      if (admissions[i] !== true) {
        logger.info(ids[i], "entry.duplicate_removed");
        continue;
      }
      const work = toWork(entry, parsed, verdict);
      if (work === null) continue;
      // It was read before it was put off. A claim takes it at its turn, to run it alone.
      const { timesRead = 1 } = work;
      if (timesRead > FREE_READS && entry.timesRead <= FREE_READS) {
        await insist(() => queue.setApart(entry.entryId, timesRead - 1), {
          signal,
          pauseMs: REPEAT_PAUSE_MS,
          onFault: (err) => logger.debug({ err }, "set_apart.repeated"),
        });
        continue;
      }
      if (tokensLeft === 0)
        tokensLeft = await limiter.insist(read.length - i, signal);
      if (tokensLeft === 0) return;
      tokensLeft--;
      // What runs alone must not be sent elsewhere by its endpoint's share.
      permits.offer(work, entry.timesRead > FREE_READS);
    }
    limiter.giveBack(tokensLeft);
  };
}
