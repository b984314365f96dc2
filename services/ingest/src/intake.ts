// Takes deliveries in: requests that arrive together share one look at the queue, one row-writing call and one enqueue.
// The order is what makes a 202 true: room, row, enqueue, answer. From the row on nothing can be lost, because the
// retry-scheduler enqueues rows that Redis does not know.
import { randomUUID } from "node:crypto";
import { type Batcher, createBatcher } from "@pipeline/shared/batcher";
import { isHeld } from "@pipeline/shared/database-fault";
import { errorMessage, hasCode, PipelineError } from "@pipeline/shared/errors";
import type { Logger } from "@pipeline/shared/logger";
import { sizeOf } from "@pipeline/shared/queue/batch-size";
import type { Sealer } from "@pipeline/shared/seal";
import type { UploadSize } from "@pipeline/shared/upload-size";
import type {
  CreatedRow,
  DeliveryCreations,
} from "./adapters/delivery-rows.ts";
import type { Lookups } from "./adapters/lookups.ts";
import type { Queue } from "./adapters/queue.ts";
import type { HeldRows } from "./core/held-rows.ts";
import type { DeliveryRequest } from "./core/delivery-request.ts";
import { type Receipt, receipt } from "./core/delivery-view.ts";
import {
  planDelivery,
  type PlanInput,
  type PlannedDelivery,
} from "./core/plan-delivery.ts";
import {
  BROKEN,
  HELD,
  KEY_USED,
  QUEUE_FULL,
  refuse,
  type Result,
  UNAVAILABLE,
  unconfirmed,
} from "./core/refusal.ts";
import { type Create, namesOf } from "./creation.ts";
import { createRepeats } from "./repeats.ts";
import type { SlowNames } from "./slow-names.ts";
import type { Warn } from "./throttled-warning.ts";

const FLUSH_ITEMS = 500;
const FLUSH_DELAY_MS = 2;
const FLUSHES_AT_ONCE = 4;
/** Measured: with 1 a request at 200/s waits 10 ms instead of 5; with 3 the calls are small, and 100 callers get less done. */
const PARTIAL_FLUSHES_AT_ONCE = 2;
/**
 * A flush takes some 10 ms. One that takes this long, because of a locked row or a slow commit, keeps nobody waiting who
 * comes after it. So many at once hold at most 16 × 500 requests.
 */
const SLOW_FLUSH_MS = 250;
const SLOW_FLUSHES_AT_ONCE = 16;
/** For a slow creation of the same lead, or under the same key. */
const SLOW_WAIT_MS = 2000;
/** The lead was deleted after it was looked up. */
const FOREIGN_KEY_VIOLATION = "23503";

export interface Accepted {
  receipt: Receipt;
  /** False: the first delivery of this idempotency key is shown again. */
  isNew: boolean;
}

export interface IntakeOptions {
  lookups: Lookups;
  create: Create;
  held: HeldRows;
  slow: Pick<SlowNames, "free">;
  /** Of the calls that `create` makes. */
  uploads: Pick<UploadSize, "split">;
  writes: Pick<DeliveryCreations, "firstOfKeys">;
  queue: Pick<Queue, "takeRoom" | "returnRoom" | "enqueue">;
  sealer: Sealer;
  maxAttempts: number;
  onEnqueued: (format: string, count: number) => void;
  logger: Logger;
  warn: Warn;
}

export interface Intake {
  /** Never rejects: a fault is this request's answer and harms none of those beside it. `text`: the JSON that it came as. */
  accept: (
    request: DeliveryRequest,
    text?: string,
  ) => Promise<Result<Accepted>>;
  drain: () => Promise<void>;
}

const sizeOfPlan = ({ delivery }: PlannedDelivery) => sizeOf(delivery.payload);

function accepted(row: CreatedRow): Result<Accepted> {
  if (row.creation === "conflict") return { ok: false, refusal: KEY_USED };
  return {
    ok: true,
    value: { receipt: receipt(row), isNew: row.creation === "created" },
  };
}

export function createIntake(options: IntakeOptions): Intake {
  const { lookups, create, held, slow, writes, uploads, queue, sealer } =
    options;
  const { maxAttempts, logger, warn } = options;

  /** Why there is no row: the database is away, slow or locked, or it has refused this one. */
  function notCreated(plan: PlannedDelivery, error: unknown): Result<Accepted> {
    if (!hasCode(error, "DATABASE_UNAVAILABLE"))
      return refusedByDatabase(plan, error);
    warn("deliveries.not_stored", { error: error.message });
    if (error.contact === "unanswered")
      return { ok: false, refusal: unconfirmed(plan.idempotencyKey !== null) };
    const isLocked = [error, error.cause].some(isHeld);
    return { ok: false, refusal: isLocked ? HELD : UNAVAILABLE };
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
    isProbe: boolean,
  ): Promise<Result<Accepted>[]> {
    const startedAt = performance.now();
    const results = await create(planned, isProbe);
    const isCreated = results.map(
      (entry) => "result" in entry && entry.result.creation === "created",
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
        : notCreated(entry.item, entry.refused),
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
    isProbe: boolean,
  ): Promise<Result<Accepted>[]> {
    const room = await queue.takeRoom(planned.length);
    try {
      const results: Result<Accepted>[] = [];
      for (const group of uploads.split(planned.slice(0, room), sizeOfPlan))
        results.push(...(await store(group, isProbe)));
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
    slow: { afterMs: SLOW_FLUSH_MS, maxBatches: SLOW_FLUSHES_AT_ONCE },
    run: (planned) => flush(planned, false),
  });

  const repeats = createRepeats(writes);

  /** The answer to a request in whose midst something was thrown. */
  function faultOf(request: DeliveryRequest, error: unknown) {
    if (hasCode(error, "DATABASE_UNAVAILABLE")) {
      warn("request.database_unavailable", { error: error.message });
      return { ok: false, refusal: UNAVAILABLE } as const;
    }
    const { leadId, endpointId } = request;
    logger.error({ err: error, leadId, endpointId }, "request.failed");
    return { ok: false, refusal: BROKEN } as const;
  }

  function plan(
    input: Pick<PlanInput, "request" | "text" | "lead" | "endpoint">,
  ): Result<PlannedDelivery> {
    const id = randomUUID();
    const now = new Date().toISOString();
    const { seal, open } = sealer;
    try {
      return planDelivery({ ...input, id, now, maxAttempts, seal, open });
    } catch (error) {
      const { leadId } = input.request;
      if (leadId === undefined) throw error;
      logger.warn({ err: error, leadId }, "lead.unusable");
      return refuse(422, "leadId", "is a lead that no payload can be built of");
    }
  }

  async function add(plan: PlannedDelivery): Promise<Result<Accepted>> {
    const names = namesOf(plan);
    if (!(await slow.free(names, SLOW_WAIT_MS)))
      return { ok: false, refusal: HELD };
    switch (held.enter(names, performance.now())) {
      case "free":
        return batcher.add(plan);
      case "probe":
        return (await flush([plan], true))[0]!;
      case "held":
        return { ok: false, refusal: HELD };
    }
  }

  async function take(
    request: DeliveryRequest,
    text: string | undefined,
  ): Promise<Result<Accepted>> {
    const { leadId, endpointId } = request;
    const [lead, endpoint] =
      leadId === undefined && endpointId === undefined
        ? [null, null]
        : await Promise.all([
            leadId === undefined ? null : lookups.lead(leadId),
            endpointId === undefined ? null : lookups.endpoint(endpointId),
          ]);
    const planned = plan({ request, text, lead, endpoint });
    return planned.ok ? add(planned.value) : planned;
  }

  return {
    accept: async (request, text) => {
      try {
        const result = await take(request, text).catch((error: unknown) =>
          faultOf(request, error),
        );
        if (result.ok) return result;
        const first = await repeats.firstDelivery(
          request,
          text,
          result.refusal,
        );
        return first === null ? result : accepted(first);
      } catch (error) {
        return faultOf(request, error);
      }
    },
    drain: async () => {
      await batcher.drain();
      await repeats.drain();
    },
  };
}
