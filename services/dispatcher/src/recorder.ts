// Writes attempts to Postgres, many per call. Deliveries never wait for it: while Supabase is away the log stream grows,
// and drains afterwards. A batch stays in hand until it is in Postgres; recording it twice changes nothing.
import type { CallWithText } from "@pipeline/shared/database";
import { errorMessage, hasCode, PipelineError } from "@pipeline/shared/errors";
import { isolateRefused } from "@pipeline/shared/isolate";
import type { Redis } from "@pipeline/shared/redis";
import type { Scripts } from "@pipeline/shared/scripts";
import type { Logger } from "@pipeline/shared/logger";
import type { GroupReader, StreamEntry } from "./adapters/group-reader.ts";
import { type AttemptRecord, plainRecord } from "./core/record.ts";
import type { Metrics } from "./metrics.ts";

const BATCH_ENTRIES = 500;
/** After a batch that was not full: lets the next one fill, and bounds how late an attempt is seen in Postgres. */
const GATHER_MS = 50;
const CLAIM_INTERVAL_MS = 5000;

/** Postgres gave up on a call (statement or lock timeout): it was too much for it, or somebody holds one of its rows locked. */
const TIMED_OUT = /\b(57014|55P03)\b/;

export interface RecorderOptions {
  reader: GroupReader;
  scripts: Scripts;
  callWithText: CallWithText;
  redis: Redis;
  deadKey: string;
  claimIdleMs: number;
  metrics: Metrics;
  logger: Logger;
  now: () => number;
}

interface LogEntry {
  entryId: string;
  deliveryId: string;
  /** JSON text of an attempt's record. Only the database reads it, unless it refuses it. */
  record: string;
}

function toLogEntry({ entryId, fields }: StreamEntry): LogEntry {
  const valueOf = (name: string) => {
    for (let i = 0; i < fields.length; i += 2)
      if (fields[i] === name) return fields[i + 1] ?? "";
    return "";
  };
  return {
    entryId,
    deliveryId: valueOf("delivery_id"),
    // An empty text would leave no trace in the array that is sent.
    record: valueOf("record").trim() || "null",
  };
}

/** Null: not a record, as far as this side relies on it. */
function parseRecord(text: string): AttemptRecord | null {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return null;
    const { delivery_id, delivery } = value as Partial<AttemptRecord>;
    const isRecord =
      typeof delivery_id === "string" &&
      (delivery === undefined ||
        (typeof delivery === "object" && delivery !== null));
    return isRecord ? (value as AttemptRecord) : null;
  } catch {
    return null; // the caller sets it aside
  }
}

export function createRecorder(options: RecorderOptions) {
  const {
    reader,
    scripts,
    callWithText,
    redis,
    deadKey,
    claimIdleMs,
    metrics,
    logger,
    now,
  } = options;
  let batch: StreamEntry[] = [];
  let claimedAt = now();

  async function call(entries: LogEntry[]): Promise<string[]> {
    try {
      return await callWithText<string[]>(
        "record_attempts",
        `{"attempts":[${entries.map(({ record }) => record).join(",")}],"count":${entries.length}}`,
      );
    } catch (error) {
      // Like a refusal it may be the fault of a single row, so the others are tried without it.
      if (
        hasCode(error, "DATABASE_UNAVAILABLE") &&
        TIMED_OUT.test(error.message)
      )
        throw new PipelineError("DATABASE_REFUSED", error.message);
      throw error;
    }
  }

  async function record(entries: LogEntry[]): Promise<null[]> {
    const missing = await call(entries);
    if (missing.length > 0)
      logger.warn({ deliveryIds: missing }, "records.without_delivery");
    return entries.map(() => null);
  }

  /** Kept for a person to look at: a record that Postgres will never take. */
  async function setAside(
    { entryId, deliveryId, record }: LogEntry,
    reason: string,
  ): Promise<void> {
    const failedAt = new Date(now()).toISOString();
    await redis.xadd(
      deadKey,
      "*",
      "delivery_id",
      deliveryId,
      "record",
      record,
      "reason",
      reason,
      "failed_at",
      failedAt,
    );
    // At once: a batch that is repeated for another's sake must not add it again.
    await scripts.recorded([{ entryId, deliveryId }]);
    batch = batch.filter((entry) => entry.entryId !== entryId);
    const id = deliveryId.slice(0, 100); // anybody may have written it
    logger.error({ deliveryId: id, entryId, reason }, "record.refused");
  }

  /**
   * Records what the database refused once more, without the texts that came from outside. "left" when it timed out: the
   * entry stays pending, and is claimed and tried again after the idle time.
   */
  async function recordAlone(
    entry: LogEntry,
    refusal: string,
  ): Promise<"recorded" | "set aside" | "left"> {
    const { entryId, deliveryId } = entry;
    if (TIMED_OUT.test(refusal)) {
      logger.warn({ deliveryId, entryId, refusal }, "record.timed_out");
      return "left";
    }
    const full = parseRecord(entry.record);
    if (full === null) {
      await setAside(
        entry,
        "record: must be a JSON object that names its delivery",
      );
      return "set aside";
    }
    try {
      const plain = JSON.stringify(plainRecord(full, refusal));
      await record([{ ...entry, record: plain }]);
      logger.warn({ deliveryId, entryId, refusal }, "record.simplified");
      return "recorded";
    } catch (error) {
      // Whatever else a record provokes is its own fault, and must not stop the others.
      if (hasCode(error, "DATABASE_UNAVAILABLE")) throw error;
      if (TIMED_OUT.test(errorMessage(error))) return "left";
      await setAside(entry, errorMessage(error));
      return "set aside";
    }
  }

  async function recordBatch(entries: LogEntry[]): Promise<void> {
    const done: LogEntry[] = [];
    for (const isolated of await isolateRefused(entries, record)) {
      const { item } = isolated;
      const fate =
        "refused" in isolated
          ? await recordAlone(item, errorMessage(isolated.refused))
          : "recorded";
      if (fate === "recorded") done.push(item);
    }
    await scripts.recorded(done);
    metrics.recorded(done.length);
    logger.info({ count: done.length }, "deliveries.recorded");
  }

  async function next(): Promise<StreamEntry[]> {
    if (now() - claimedAt >= CLAIM_INTERVAL_MS) {
      claimedAt = now();
      const claimed = await reader.claim(BATCH_ENTRIES, claimIdleMs);
      if (claimed.length > 0) return claimed;
    }
    return reader.read(BATCH_ENTRIES, CLAIM_INTERVAL_MS);
  }

  return async (): Promise<number> => {
    if (batch.length === 0) batch = await next();
    if (batch.length === 0) return 0;
    const wasFull = batch.length === BATCH_ENTRIES;
    await recordBatch(batch.map(toLogEntry));
    batch = [];
    return wasFull ? 0 : GATHER_MS;
  };
}
