// What ingest asks of the queue, with Redis's faults as REDIS_UNAVAILABLE: room for new deliveries, enqueueing, and what a
// person does to a delivery by hand.
import { errorMessage, PipelineError } from "@pipeline/shared/errors";
import { type Delivery, toFields } from "@pipeline/shared/entries";
import {
  BATCH_BYTES,
  sizeOf,
  splitBySize,
} from "@pipeline/shared/queue/batch-size";
import type { Hold, Holds } from "@pipeline/shared/queue/holds";
import type { Inspection } from "@pipeline/shared/queue/inspection";
import type { Producer } from "@pipeline/shared/queue/producer";
import type { Warn } from "../throttled-warning.ts";

const MAX_CHUNK_ITEMS = 200;

export interface QueueOptions {
  producer: Producer;
  holds: Holds;
  inspection: Inspection;
  maxLength: number;
  warn: Warn;
}

/** Turns any fault of Redis into REDIS_UNAVAILABLE: the caller may try again. */
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

export function createQueue(options: QueueOptions) {
  const { producer, holds, inspection, maxLength, warn } = options;
  // Taken and not yet in the stream: otherwise flushes side by side would all see the same room.
  let taken = 0;

  async function enqueueChunk(deliveries: Delivery[]): Promise<number> {
    try {
      const items = deliveries.map((delivery) => ({
        id: delivery.id,
        fields: toFields(delivery),
      }));
      const entryIds = await producer.enqueue(items, maxLength);
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
    /**
     * How many of `want` new deliveries the queue has room for; all while Redis is away, since their rows will be
     * reconciled. The room is kept until `returnRoom`.
     */
    takeRoom: async (want: number): Promise<number> => {
      const { length, isOutOfMemory } = await producer.measure();
      if (isOutOfMemory) {
        warn("queue.out_of_memory", {});
        return 0;
      }
      const room = length === null ? Infinity : maxLength - length - taken;
      const granted = Math.max(0, Math.min(want, room));
      taken += granted;
      return granted;
    },

    /** The deliveries are in the stream, or will not be. */
    returnRoom: (granted: number): void => {
      taken -= granted;
    },

    /** Resolves to the number enqueued; the others have their rows, from which the retry-scheduler enqueues them. */
    enqueue: async (deliveries: Delivery[]): Promise<number> => {
      const chunks = splitBySize(
        deliveries,
        ({ payload }) => sizeOf(payload),
        BATCH_BYTES,
        MAX_CHUNK_ITEMS,
      );
      const enqueued = await Promise.all(chunks.map(enqueueChunk));
      return enqueued.reduce((sum, count) => sum + count, 0);
    },

    counts: () => reaching(inspection.counts()),
    holdToResend: (id: string, deadEntryId: string | null) =>
      reaching(holds.holdToResend(id, deadEntryId)),
    holdToCancel: (id: string) => reaching(holds.holdToCancel(id)),

    /** From here on Postgres says that the delivery is to be sent: if this fails, reconcile does it. */
    requeue: async (hold: Hold, delivery: Delivery): Promise<void> => {
      try {
        await hold.requeue(toFields(delivery));
      } catch (error) {
        warn("delivery.requeue_deferred", { err: error });
      }
    },

    /** If this fails, the hold expires: what was held goes on, and what was cancelled is not in Postgres's list any more. */
    letGo: async (hold: Hold, end: "kept" | "cancelled"): Promise<void> => {
      try {
        await hold.letGo(end);
      } catch (error) {
        warn("delivery.hold_expires", { err: error });
      }
    },
  };
}

export type Queue = ReturnType<typeof createQueue>;
