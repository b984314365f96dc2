// Redis's side of reconciling: finds the deliveries that have no home in Redis, and gives them one again.
import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import { BATCH_BYTES, sizeOf, splitBySize } from "./batch-size.ts";
import { type Fields, fieldsToJson } from "./fields.ts";
import type { Keys } from "./keys.ts";
import { queueScript } from "./script.ts";

/** Longer than reading a page of rows may take; what is still marked then is looked at in the next pass. */
const MARK_MS = 120_000;
/** A full pass that takes longer than this is repeated. */
const CANDIDATE_TTL_SECONDS = 3600;

export interface Injection {
  id: string;
  /** Ms since 1970; 0 for now. */
  dueAt: number;
  fields: Fields;
}

export interface ReconcileQueue {
  /** Resolves to those ids that have no home in Redis, and marks them as lost. At most about 5000 per call. */
  homeless: (deliveryIds: string[]) => Promise<string[]>;
  /**
   * Per delivery: whether it was injected; false when it has lost its mark, because something happened to it since, null when
   * the queue is full.
   */
  reinject: (deliveries: Injection[]) => Promise<(boolean | null)[]>;
  /** Takes the marks off those that are not to be injected. */
  unmark: (deliveryIds: string[]) => Promise<void>;
  /** False when Redis is new or has lost its data, so that every unfinished delivery must be checked. */
  hasEpoch: () => Promise<boolean>;
  /** Begins a full pass, or joins one that another scheduler has begun. Resolves to its mark. */
  beginFullPass: () => Promise<string | null>;
  /** Sets the epoch, unless Redis lost its data again during the pass, and with it what the first pages injected. */
  endFullPass: (mark: string | null) => Promise<void>;
}

/** `maxLength`: how many deliveries and outcomes the queue may hold. */
export function createReconcileQueue(
  redis: Redis,
  keys: Keys,
  maxLength = Number.MAX_SAFE_INTEGER,
): ReconcileQueue {
  const { epoch, epochCandidate } = keys;
  const homeless = queueScript(redis, keys, "homeless");
  const reinject = queueScript(redis, keys, "reinject");
  const unmark = queueScript(redis, keys, "unmark");
  const marker = randomUUID(); // one pass at a time
  return {
    homeless: async (deliveryIds) => {
      const found: string[] = [];
      for (let start = 0; start < deliveryIds.length;) {
        const ids = deliveryIds.slice(start);
        const reply = await homeless(marker, MARK_MS, BATCH_BYTES, ...ids);
        const [examined, ...without] = reply as [number, ...string[]];
        found.push(...without);
        start += examined;
      }
      return found;
    },

    reinject: async (deliveries) => {
      const items = deliveries.map(
        ({ id, dueAt, fields }) => [id, dueAt, fieldsToJson(fields)] as const,
      );
      const results: number[] = [];
      for (const group of splitBySize(items, ([, , text]) => sizeOf(text))) {
        const reply = await reinject(marker, maxLength, ...group.flat());
        results.push(...(reply as number[]));
      }
      return results.map((result) => (result < 0 ? null : result === 1));
    },

    unmark: async (deliveryIds) => {
      if (deliveryIds.length > 0) await unmark(marker, ...deliveryIds);
    },

    hasEpoch: async () => (await redis.exists(epoch)) === 1,

    beginFullPass: async () => {
      const mark = randomUUID();
      await redis.set(epochCandidate, mark, "EX", CANDIDATE_TTL_SECONDS, "NX");
      return redis.get(epochCandidate);
    },

    endFullPass: async (mark) => {
      if (mark === null || (await redis.get(epochCandidate)) !== mark) return;
      await redis.set(epoch, randomUUID(), "NX");
      await redis.del(epochCandidate);
    },
  };
}
