// Creates the rows of deliveries that arrived together, and finds out what became of each. Three things may go wrong:
//   - the database refuses an item, or somebody holds a row that it needs: the item is found and answered alone
//     (isolate.ts), and the others go through;
//   - the call ends without an answer: it may have been carried out, or still be. The same call is repeated, because an id
//     that is there already counts as created. If the time for that is over, the answer is that nobody knows, and the ids
//     go to `unsure`;
//   - the database cannot be reached: nothing was stored.
import { setTimeout as sleep } from "node:timers/promises";
import { isHeld } from "@pipeline/shared/database-fault";
import { hasCode, PipelineError } from "@pipeline/shared/errors";
import { type Isolated, isolateRefused } from "@pipeline/shared/isolate";
import type {
  CreatedRow,
  DeliveryCreations,
} from "./adapters/delivery-rows.ts";
import type { HeldRows } from "./core/held-rows.ts";
import type { PlannedDelivery } from "./core/plan-delivery.ts";
import type { SlowNames } from "./slow-names.ts";
import type { Unsure } from "./unsure.ts";

/** How long locked rows are looked for. A call waits 0.3 s for a lock, and a batch of 500 takes four calls in a row. */
const ISOLATE_MS = 4000;
/** How long an outcome is asked for: of a database that answers, but is still committing; and of one that does not answer. */
const ASK_MS = 8000;
const ASK_SILENT_MS = 5000;
const ASK_PAUSE_MS = 100;
/** A creation takes some 10 ms. From here on others of the same lead wait for it. */
const IN_FLIGHT_SLOW_MS = 250;
/** A lead or key whose call took this long is tried alone for a while: its commits may be slow, and keep a connection each. */
const SLOW_MS = 2000;
const LOCK_NOT_AVAILABLE = "55P03";

export interface CreationOptions {
  writes: Pick<DeliveryCreations, "create">;
  held: HeldRows;
  slow: Pick<SlowNames, "enter">;
  unsure: Pick<Unsure, "add">;
  now: () => number;
}

/**
 * Never rejects with DATABASE_UNAVAILABLE: that is the item's `refused` then, with the contact `unanswered` if it may have
 * been stored. `isProbe`: the item is tried although its rows were found locked a moment ago.
 */
export type Create = (
  planned: PlannedDelivery[],
  isProbe: boolean,
) => Promise<Isolated<PlannedDelivery, CreatedRow>[]>;

/** What an insert may have to wait for: the lead's row, and a row with the same key that is not committed yet. */
export function namesOf({ delivery, idempotencyKey }: PlannedDelivery) {
  const names: string[] = [];
  if (delivery.leadId !== null) names.push(`lead ${delivery.leadId}`);
  if (idempotencyKey !== null) names.push(`key ${idempotencyKey}`);
  return names;
}

const noTimeLeft = () =>
  new PipelineError("DATABASE_UNAVAILABLE", "no answer in time", {
    contact: "unanswered",
  });

const lockedByOthers = () =>
  new PipelineError(
    "DATABASE_UNAVAILABLE",
    "a row that it needs was locked a moment ago",
    { contact: "answered", sqlState: LOCK_NOT_AVAILABLE },
  );

export function createCreation(options: CreationOptions): Create {
  const { writes, held, slow, unsure, now } = options;

  /** Rejects when the time is over; the call goes on unheard. */
  async function within<Value>(ms: number, call: Promise<Value>) {
    const timer = new AbortController();
    const { signal } = timer;
    const late = sleep(ms, undefined, { signal }).then(
      () => Promise.reject(noTimeLeft()),
      () => new Promise<never>(() => undefined),
    );
    try {
      return await Promise.race([call, late]);
    } finally {
      timer.abort();
      call.catch(() => undefined);
    }
  }

  return async (planned, isProbe) => {
    const beganAt = now();
    const elapsed = () => now() - beganAt;
    const unknown = new Set<string>();
    const isUnknown = ({ delivery }: PlannedDelivery) =>
      unknown.has(delivery.id);

    /** All rows or a rejection; if that leaves an outcome unknown, its ids are in `unknown`. */
    async function ask(plans: PlannedDelivery[]): Promise<CreatedRow[]> {
      for (let limitMs = ASK_SILENT_MS; ;) {
        try {
          const call = writes.create(plans);
          const rows = await within(Math.max(limitMs - elapsed(), 1), call);
          for (const { delivery } of plans) unknown.delete(delivery.id);
          return rows;
        } catch (error) {
          if (!hasCode(error, "DATABASE_UNAVAILABLE")) throw error;
          if (error.contact === "unanswered")
            for (const { delivery } of plans) unknown.add(delivery.id);
          // A database that answers is there, and waits perhaps for the first of these calls to commit.
          if (error.contact === "answered") limitMs = ASK_MS;
          if (
            !plans.some(isUnknown) ||
            error.contact === "unreached" ||
            elapsed() >= limitMs
          )
            throw error;
        }
        await sleep(ASK_PAUSE_MS);
      }
    }

    /** Faults that are not to be looked for among the items are values, so that the results of other parts are not lost. */
    async function run(
      plans: PlannedDelivery[],
    ): Promise<(CreatedRow | PipelineError)[]> {
      const open = plans.filter(
        (plan) => isProbe || !held.isResting(namesOf(plan), now()),
      );
      const results = new Map<PlannedDelivery, CreatedRow | PipelineError>();
      try {
        const rows = open.length === 0 ? [] : await ask(open);
        for (const [index, plan] of open.entries())
          results.set(plan, rows[index]!);
      } catch (error) {
        if (isHeld(error)) {
          if (open.length === 1) held.found(namesOf(open[0]!), now());
          throw error;
        }
        if (!hasCode(error, "DATABASE_UNAVAILABLE")) throw error;
        for (const plan of open) results.set(plan, error);
      }
      return plans.map((plan) => results.get(plan) ?? lockedByOthers());
    }

    const isLate = () => elapsed() >= (unknown.size > 0 ? ASK_MS : ISOLATE_MS);
    let leave = () => undefined as void;
    const timer = setTimeout(() => {
      leave = slow.enter(planned.flatMap(namesOf), planned.length === 1);
    }, IN_FLIGHT_SLOW_MS);
    const isolated = await isolateRefused(planned, run, { isLate }).finally(
      () => {
        clearTimeout(timer);
        leave();
      },
    );
    const isSlow = elapsed() >= SLOW_MS;
    return isolated.map((entry) => {
      const { item } = entry;
      if (isSlow && planned.length === 1) held.found(namesOf(item), now());
      else if (isSlow) held.suspect(namesOf(item), now());
      const error = "refused" in entry ? entry.refused : entry.result;
      if (!(error instanceof Error)) {
        if (isProbe && !isSlow) held.released(namesOf(item));
        return { item, result: error as CreatedRow };
      }
      // A refusal is an answer of its own: the row is not there.
      if (!isUnknown(item) || hasCode(error, "DATABASE_REFUSED"))
        return { item, refused: error };
      unsure.add(item.delivery.id, item.idempotencyKey !== null);
      const message = `not confirmed: ${error.message}`;
      return {
        item,
        refused: new PipelineError("DATABASE_UNAVAILABLE", message, {
          cause: error,
          contact: "unanswered",
        }),
      };
    });
  };
}
