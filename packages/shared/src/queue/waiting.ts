// The endpoints' waiting lists: what exceeds an endpoint's share waits there, in order, and is let out as the share frees.
import type { Redis } from "ioredis";
import type { Fields } from "./fields.ts";
import type { StreamEntry } from "./group-reader.ts";
import { DISPATCHERS_GROUP, type Keys } from "./keys.ts";
import { queueScript } from "./script.ts";
import { createTextCheck } from "./undecodable.ts";

/** Whether an entry was let out of a waiting list: `let-out.lua` marks it in its first field. */
export function isFromWaitingList(fields: readonly string[]): boolean {
  return fields[0] === "waited";
}

export interface Turn {
  /** As `endpointOf` has it: an id, or a URL without its query. */
  endpoint: string;
  /** Nothing is let out for so long, in ms; 0 when it may be let out now. */
  heldMs: number;
}

export interface Diversion {
  entryId: string;
  deliveryId: string;
  endpoint: string;
  fields: Fields;
}

export interface Waiting {
  /** Up to `limit` endpoints for which deliveries wait, the one that was passed over longest first, and those held back. */
  turns: (limit: number) => Promise<Turn[]>;
  /**
   * Moves up to `count` deliveries of each endpoint to the stream, at most about `mostBytes` in all. None for an endpoint
   * while what was let out before has not been read. Resolves to the numbers moved.
   */
  letOut: (
    grants: { endpoint: string; count: number }[],
    mostBytes: number,
    /** Ms since 1970, for dead letters. */
    now: number,
  ) => Promise<number[]>;
  /** Lets nothing out for the endpoint before `ms` have passed, whoever asks. Never shortens. */
  hold: (endpoint: string, ms: number) => Promise<void>;
  /**
   * Entries ahead in the stream that no dispatcher has read, but none that is not UTF-8; `hasMore` when the look ended at a
   * limit.
   */
  unread: (
    limit: number,
    mostBytes: number,
  ) => Promise<{ entries: StreamEntry[]; hasMore: boolean }>;
  /** Moves such entries straight into waiting lists that exist; resolves to the number moved. Idempotent. */
  divert: (diversions: Diversion[]) => Promise<number>;
}

export function createWaiting(redis: Redis, keys: Keys): Waiting {
  const turns = queueScript(redis, keys, "turns");
  const letOut = queueScript(redis, keys, "let-out");
  const hold = queueScript(redis, keys, "hold-back");
  const unread = queueScript(redis, keys, "unread");
  const divert = queueScript(redis, keys, "divert");
  const checkText = createTextCheck(redis, keys.stream);
  let isEmpty = false;

  return {
    turns: async (limit) => {
      // One command in place of the script's four, as long as nobody waits.
      if (isEmpty && (await redis.exists(keys.waiting)) === 0) return [];
      const flat = (await turns(limit)) as (string | number)[];
      isEmpty = flat.length === 0;
      return flat.flatMap((endpoint, i) =>
        i % 2 === 0
          ? [{ endpoint: String(endpoint), heldMs: Number(flat[i + 1]) }]
          : [],
      );
    },

    letOut: async (grants, mostBytes, now) => {
      const results = await letOut(
        DISPATCHERS_GROUP,
        mostBytes,
        new Date(now).toISOString(),
        ...grants.flatMap(({ endpoint, count }) => [endpoint, count]),
      );
      return results as number[];
    },

    hold: async (endpoint, ms) => {
      await hold(endpoint, Math.ceil(ms));
    },

    unread: async (limit, mostBytes) => {
      const reply = await unread(DISPATCHERS_GROUP, limit, mostBytes);
      const [more, ...entries] = reply as [number, ...[string, string[]][]];
      const checked = await checkText(
        entries.map(([entryId, fields]) => ({ entryId, fields, timesRead: 0 })),
      );
      return {
        entries: checked.filter(
          ({ undecodable }) =>
            undecodable === undefined || undecodable.size === 0,
        ),
        hasMore: more === 1,
      };
    },

    divert: async (diversions) => {
      if (diversions.length === 0) return 0;
      const args = diversions.flatMap((diversion) => [
        diversion.entryId,
        diversion.deliveryId,
        diversion.endpoint,
        JSON.stringify(diversion.fields),
      ]);
      return (await divert(DISPATCHERS_GROUP, ...args)) as number;
    },
  };
}
