// Deliveries that wait for another attempt, and those that a person sends again or takes out.
import type { Redis } from "ioredis";
import { isoTime } from "../timestamp.ts";
import { type Fields, flatten } from "./fields.ts";
import { DISPATCHERS_GROUP, type Keys } from "./keys.ts";
import { queueScript } from "./script.ts";

/**
 * "requeued": it is in the stream again; "queued": it was there already; "unrecorded": its last outcome is on its way to
 * Postgres; "gone": the dead letter no longer exists.
 */
export type RequeueResult =
  | { kind: "requeued"; entryId: string }
  | { kind: "queued" | "unrecorded" | "gone" };

export type CancelResult = "cancelled" | "in_flight" | "unrecorded";

export interface Promotion {
  moved: number;
  /** Ms until the next retry is due; null when there is none. */
  nextMs: number | null;
  /** Retries whose data could not be read; they have become dead letters. */
  unreadable: number;
  hasEpoch: boolean;
}

export interface Retries {
  /** Moves up to `limit` due retries to the stream, all of them or none. `now`: ms since 1970, for dead letters. */
  promote: (limit: number, now: number) => Promise<Promotion>;
  /** Puts the delivery into the stream again; with `deadEntryId` that dead letter is removed in the same step. */
  requeue: (
    id: string,
    fields: Fields,
    deadEntryId: string | null,
  ) => Promise<RequeueResult>;
  /** Takes a delivery out of the queue unless an attempt is running or its outcome is not recorded yet. */
  cancel: (deliveryId: string) => Promise<CancelResult>;
}

export function createRetries(redis: Redis, keys: Keys): Retries {
  const promote = queueScript(redis, keys, "promote");
  const requeue = queueScript(redis, keys, "requeue");
  const cancel = queueScript(redis, keys, "cancel");
  return {
    promote: async (limit, now) => {
      const reply = await promote(limit, isoTime(now));
      const [moved, nextMs, unreadable, hasEpoch] = reply as [
        number,
        number,
        number,
        number,
      ];
      return {
        moved,
        nextMs: nextMs < 0 ? null : nextMs,
        unreadable,
        hasEpoch: hasEpoch === 1,
      };
    },

    requeue: async (id, fields, deadEntryId) => {
      const reply = await requeue(id, deadEntryId ?? "", ...flatten(fields));
      const [kind, entryId] = reply as [RequeueResult["kind"], string];
      return kind === "requeued" ? { kind, entryId } : { kind };
    },

    cancel: async (deliveryId) =>
      (await cancel(DISPATCHERS_GROUP, deliveryId)) as CancelResult,
  };
}
