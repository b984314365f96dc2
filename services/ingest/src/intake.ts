// Takes deliveries in: requests that arrive together share one look at the queue, one row-writing call and one enqueue.
// The order is what makes a 202 true: room, row, enqueue, answer. From the row on nothing can be lost, because the
// retry-scheduler enqueues rows that Redis does not know.
import { randomUUID } from "node:crypto";
import { type Batcher, createBatcher } from "@pipeline/shared/batcher";
import { errorMessage, hasCode, PipelineError } from "@pipeline/shared/errors";
import { isolateRefused } from "@pipeline/shared/isolate";
import type { Logger } from "@pipeline/shared/logger";
import { sizeOf } from "@pipeline/shared/queue/batch-size";
import type { Sealer } from "@pipeline/shared/seal";
import { createUploadSize } from "@pipeline/shared/upload-size";
import type { CreatedRow, DeliveryWrites } from "./adapters/delivery-rows.ts";
import type { Lookups } from "./adapters/lookups.ts";
import type { Queue } from "./adapters/queue.ts";
import type { DeliveryRequest } from "./core/delivery-request.ts";
import { type Receipt, receipt } from "./core/delivery-view.ts";
import { planDelivery, type PlannedDelivery } from "./core/plan-delivery.ts";
import {
  type Result,
  QUEUE_FULL,
  refuse,
  UNAVAILABLE,
} from "./core/refusal.ts";
import type { Warn } from "./throttled-warning.ts";

const FLUSH_ITEMS = 500;
const FLUSH_DELAY_MS = 2;
const FLUSHES_AT_ONCE = 4;
/** Measured: with 1 a request at 200/s waits 10 ms instead of 5; with 3 the calls are small, and 100 callers get less done. */
const PARTIAL_FLUSHES_AT_ONCE = 2;
/** The lead was deleted after it was looked up. */
const FOREIGN_KEY_VIOLATION = "23503";

export interface Accepted {
  receipt: Receipt;
  /** False: the first delivery of this idempotency key is shown again. */
  isNew: boolean;
}

export interface IntakeOptions {
  lookups: Lookups;
  writes: Pick<DeliveryWrites, "create">;
  queue: Pick<Queue, "takeRoom" | "returnRoom" | "enqueue">;
  sealer: Sealer;
  maxAttempts: number;
  onEnqueued: (format: string, count: number) => void;
  logger: Logger;
  warn: Warn;
}

export interface Intake {
  /** Throws DATABASE_UNAVAILABLE when the lead or the endpoint cannot be looked up. */
  accept: (request: DeliveryRequest) => Promise<Result<Accepted>>;
  drain: () => Promise<void>;
}

const sizeOfPlan = ({ delivery }: PlannedDelivery) => sizeOf(delivery.payload);

function accepted(row: CreatedRow | null): Result<Accepted> {
  if (row === null) return { ok: false, refusal: UNAVAILABLE };
  if (row.creation === "conflict") {
    return refuse(
      409,
      "idempotencyKey",
      "was used before, with another request",
    );
  }
  return {
    ok: true,
    value: { receipt: receipt(row), isNew: row.creation === "created" },
  };
}

export function createIntake(options: IntakeOptions): Intake {
  const { lookups, writes, queue, sealer, maxAttempts, logger, warn } = options;

  const uploads = createUploadSize(() => performance.now());

  /** Null per delivery when the database is away: a value, so that the results of earlier calls are not lost. */
  async function create(
    planned: PlannedDelivery[],
  ): Promise<(CreatedRow | null)[]> {
    try {
      return await uploads.run(() => writes.create(planned));
    } catch (error) {
      if (!hasCode(error, "DATABASE_UNAVAILABLE")) throw error;
      warn("deliveries.not_stored", {
        error: error.message,
        count: planned.length,
      });
      return planned.map(() => null);
    }
  }

  function refusedByDatabase(
    plan: PlannedDelivery,
    error: unknown,
  ): Result<Accepted> {
    const message = errorMessage(error);
    logger.warn(
      { deliveryId: plan.delivery.id, error: message },
      "delivery.refused",
    );
    return error instanceof PipelineError &&
      error.sqlState === FOREIGN_KEY_VIOLATION
      ? refuse(404, "leadId", "is not a known lead")
      : refuse(422, "", "The database refused this delivery");
  }

  async function store(
    planned: PlannedDelivery[],
  ): Promise<Result<Accepted>[]> {
    const startedAt = performance.now();
    const results = await isolateRefused(planned, create);
    const isCreated = results.map(
      (entry) => "result" in entry && entry.result?.creation === "created",
    );
    const created = planned.filter((_plan, index) => isCreated[index]);
    if (created.length > 0) {
      const rowsMs = performance.now() - startedAt;
      const enqueued = await queue.enqueue(
        created.map(({ delivery }) => delivery),
      );
      report(created, enqueued, rowsMs, performance.now() - startedAt);
    }
    return results.map((entry) =>
      "result" in entry
        ? accepted(entry.result)
        : refusedByDatabase(entry.item, entry.refused),
    );
  }

  function report(
    created: PlannedDelivery[],
    enqueued: number,
    rowsMs: number,
    durationMs: number,
  ): void {
    const formats = new Map<string, number>();
    for (const { delivery } of created) {
      const format = delivery.format ?? "raw";
      formats.set(format, (formats.get(format) ?? 0) + 1);
    }
    for (const [format, count] of formats) options.onEnqueued(format, count);
    const facts = {
      count: created.length,
      enqueued,
      rowsMs: Math.round(rowsMs),
      durationMs: Math.round(durationMs),
    };
    logger.info(facts, "deliveries.enqueued");
    if (!logger.isLevelEnabled("debug")) return;
    for (const { delivery } of created) {
      const { id: deliveryId, leadId, endpointId, event, format } = delivery;
      logger.debug(
        { deliveryId, leadId, endpointId, event, format },
        "delivery.enqueued",
      );
    }
  }

  async function flush(
    planned: PlannedDelivery[],
  ): Promise<Result<Accepted>[]> {
    const room = await queue.takeRoom(planned.length);
    try {
      const results: Result<Accepted>[] = [];
      for (const group of uploads.split(planned.slice(0, room), sizeOfPlan))
        results.push(...(await store(group)));
      while (results.length < planned.length)
        results.push({ ok: false, refusal: QUEUE_FULL });
      return results;
    } finally {
      queue.returnRoom(room);
    }
  }

  const batcher: Batcher<PlannedDelivery, Result<Accepted>> = createBatcher({
    maxItems: FLUSH_ITEMS,
    delayMs: FLUSH_DELAY_MS,
    maxConcurrent: FLUSHES_AT_ONCE,
    maxConcurrentPartial: PARTIAL_FLUSHES_AT_ONCE,
    run: flush,
  });

  return {
    accept: async (request) => {
      const { leadId, endpointId } = request;
      const [lead, endpoint] =
        leadId === undefined && endpointId === undefined
          ? [null, null]
          : await Promise.all([
              leadId === undefined ? null : lookups.lead(leadId),
              endpointId === undefined ? null : lookups.endpoint(endpointId),
            ]);
      const now = new Date().toISOString();
      const plan = planDelivery({
        request,
        lead,
        endpoint,
        id: randomUUID(),
        now,
        maxAttempts,
        seal: sealer.seal,
      });
      return plan.ok ? batcher.add(plan.value) : plan;
    },
    drain: batcher.drain,
  };
}
