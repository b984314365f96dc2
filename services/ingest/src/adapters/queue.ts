// What ingest does in Redis: asks for room, enqueues, sends again, cancels, counts.
import { errorMessage, PipelineError } from "@pipeline/shared/errors";
import { type Delivery, toFields } from "@pipeline/shared/entries";
import { DISPATCHERS_GROUP, type Keys } from "@pipeline/shared/keys";
import { isGroupMissing, type Redis } from "@pipeline/shared/redis";
import type { RequeueResult, Scripts } from "@pipeline/shared/scripts";
import type { Warn } from "../throttled-warning.ts";

const MAX_CHUNK_ITEMS = 200;

/** Where Redis holds a delivery: in the stream, among the retries, on its way to Postgres, or nowhere. */
export type Home = "queued" | "retry" | "unrecorded" | "none";

export interface QueueOptions {
  redis: Redis;
  scripts: Scripts;
  keys: Keys;
  maxLength: number;
  warn: Warn;
}

/** Redis did not answer, or refused: the caller may try again. */
export async function reaching<Result>(call: Promise<Result>): Promise<Result> {
  try {
    return await call;
  } catch (error) {
    throw new PipelineError(
      "REDIS_UNAVAILABLE",
      `Redis: ${errorMessage(error)}`,
      { cause: error },
    );
  }
}

export function createQueue({
  redis,
  scripts,
  keys,
  maxLength,
  warn,
}: QueueOptions) {
  // Admitted and not yet in the stream: without them, flushes side by side would all see the same room.
  let underWay = 0;

  async function measureRoom(): Promise<number> {
    const [length, write] = await Promise.allSettled([
      redis.xlen(keys.stream),
      // Writes nothing, yet Redis refuses it, as it would the enqueue, when its memory is full.
      redis.setrange(keys.epoch, 0, ""),
    ]);
    if (
      write.status === "rejected" &&
      errorMessage(write.reason).startsWith("OOM")
    ) {
      warn("queue.out_of_memory", { err: write.reason as Error });
      return 0;
    }
    return length.status === "fulfilled"
      ? maxLength - length.value - underWay
      : Infinity;
  }

  async function enqueueChunk(deliveries: Delivery[]): Promise<number> {
    try {
      const items = deliveries.map((delivery) => ({
        id: delivery.id,
        fields: toFields(delivery),
      }));
      const entryIds = await scripts.enqueue(items, maxLength);
      const enqueued = entryIds.filter((entryId) => entryId !== null).length;
      if (enqueued < deliveries.length)
        warn("delivery.enqueue_deferred", { reason: "the queue is full" });
      return enqueued;
    } catch (error) {
      warn("delivery.enqueue_deferred", {
        err: error,
        count: deliveries.length,
      });
      return 0;
    }
  }

  return {
    /** How many of `want` new deliveries the queue takes; all while Redis is away, since their rows will be reconciled. */
    admit: async (want: number): Promise<number> => {
      const admitted = Math.max(0, Math.min(want, await measureRoom()));
      underWay += admitted;
      return admitted;
    },

    /** Ends an admission, whatever became of it. */
    release: (admitted: number): void => {
      underWay -= admitted;
    },

    /** Resolves to the number enqueued; the others have their rows, from which the retry-scheduler enqueues them. */
    enqueue: async (deliveries: Delivery[]): Promise<number> => {
      const chunks: Delivery[][] = [];
      for (let start = 0; start < deliveries.length; start += MAX_CHUNK_ITEMS)
        chunks.push(deliveries.slice(start, start + MAX_CHUNK_ITEMS));
      const enqueued = await Promise.all(chunks.map(enqueueChunk));
      return enqueued.reduce((sum, count) => sum + count, 0);
    },

    home: async (id: string): Promise<Home> => {
      const place = await reaching(redis.hget(keys.inflight, id));
      if (place === null) return "none";
      if (place === "retry") return "retry";
      if (place.startsWith("log:")) return "unrecorded";
      const entries = await reaching(redis.xrange(keys.stream, place, place));
      return entries.length > 0 ? "queued" : "none";
    },

    requeue: (
      delivery: Delivery,
      deadEntryId: string | null,
    ): Promise<RequeueResult> =>
      reaching(scripts.requeue(delivery.id, toFields(delivery), deadEntryId)),

    cancel: (id: string) => reaching(scripts.cancel(id)),

    counts: async () => {
      const pending = redis
        .xpending(keys.stream, DISPATCHERS_GROUP)
        .catch((error: unknown) => {
          if (isGroupMissing(error)) return [0]; // no dispatcher has ever started
          throw error;
        });
      const [length, [inFlight], retries, dead, unrecorded] = await reaching(
        Promise.all([
          redis.xlen(keys.stream),
          pending as Promise<[number]>,
          redis.zcard(keys.retries),
          redis.xlen(keys.dead),
          redis.xlen(keys.log),
        ]),
      );
      return {
        waiting: Math.max(0, length - inFlight),
        inFlight,
        retries,
        dead,
        unrecorded,
      };
    },
  };
}

export type Queue = ReturnType<typeof createQueue>;
