// Writes attempts to Postgres, many per call. Deliveries never wait for it: while Supabase is away the log stream grows,
// and drains afterwards. A batch stays in hand until it is in Postgres; recording it twice changes nothing.
import { errorMessage, hasCode, PipelineError } from "@pipeline/shared/errors";
import { isolateRefused } from "@pipeline/shared/isolate";
import type { Logger } from "@pipeline/shared/logger";
import { READ_BYTES, sizeOf } from "@pipeline/shared/queue/batch-size";
import type { LogEntry, Records } from "@pipeline/shared/queue/records";
import { createUploadSize } from "@pipeline/shared/upload-size";
import type { CallWithText } from "@pipeline/shared/text-rpc";
import { type AttemptRecord, plainRecord } from "../core/record.ts";
import type { Metrics } from "../metrics.ts";
import { createCloseAttempt } from "./close-attempt.ts";

const BATCH_ENTRIES = 500;
/** Reads are bounded in bytes too, so a batch of large records is full with fewer. */
const FULL_BYTES = READ_BYTES / 2;
/** After a batch that was not full: lets the next one fill, and bounds how late an attempt is seen in Postgres. */
const GATHER_MS = 50;
const CLAIM_INTERVAL_MS = 1500;

/**
 * Postgres gave up on a call (statement timeout, lock timeout): it was too much for it, or somebody holds one of its rows
 * locked.
 */
const TIMEOUTS = new Set(["57014", "55P03"]);

export interface RecorderOptions {
  records: Records;
  callWithText: CallWithText;
  claimIdleMs: number;
  metrics: Pick<Metrics, "recorded">;
  logger: Logger;
  /** Ms since 1970, for dead letters. */
  now: () => number;
  /** Ms of a clock that nobody sets. */
  monotonic: () => number;
}

const sizeOfEntry = ({ record }: LogEntry) => sizeOf(record);

const SHORTEST_HELD_PAUSE_MS = 2000;
const LONGEST_HELD_PAUSE_MS = 30_000;
const MOST_HELD = 100;
const MOST_HELD_BYTES = 2 * 1024 * 1024;

const hasTimedOut = (error: unknown) =>
  error instanceof PipelineError &&
  error.sqlState !== null &&
  TIMEOUTS.has(error.sqlState);

/** Null when the text is not a record. Only the parts that are used here are checked. */
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

function deliveryOf({ delivery }: AttemptRecord): Partial<AttemptRecord> {
  return delivery === undefined ? {} : { delivery };
}

export function createRecorder(options: RecorderOptions) {
  const {
    records,
    callWithText,
    claimIdleMs,
    metrics,
    logger,
    now,
    monotonic,
  } = options;
  const closeAttempt = createCloseAttempt({ records, callWithText });
  let batch: LogEntry[] = [];
  /** Records whose rows somebody held. They stay pending: if this process ends, they are claimed. */
  let held: LogEntry[] = [];
  let heldUntil = -Infinity;
  let heldPauseMs = SHORTEST_HELD_PAUSE_MS;
  let claimedAt = monotonic();
  const uploads = createUploadSize(monotonic);

  async function call(entries: LogEntry[]): Promise<string[]> {
    const text = `{"attempts":[${entries.map(({ record }) => record).join(",")}],"count":${entries.length}}`;
    try {
      return await uploads.run(() =>
        callWithText<string[]>("record_attempts", text),
      );
    } catch (error) {
      // A single row may be to blame, as with a refusal, so the others are tried without it.
      if (!hasTimedOut(error)) throw error;
      const { message, sqlState } = error as PipelineError;
      throw new PipelineError("DATABASE_REFUSED", message, {
        cause: error,
        sqlState: sqlState!,
      });
    }
  }

  async function record(entries: LogEntry[]): Promise<null[]> {
    const missing = await call(entries);
    if (missing.length > 0)
      logger.warn({ deliveryIds: missing }, "records.without_delivery");
    return entries.map(() => null);
  }

  /**
   * Keeps a record that Postgres will never take, for a person to look at, once its delivery's row is closed. "left" when
   * even that is refused: as long as the record is in the log, the delivery is not sent again.
   */
  async function setAside(
    entry: LogEntry,
    full: AttemptRecord | null,
    reason: string,
  ): Promise<"set aside" | "left"> {
    const { entryId } = entry;
    const deliveryId = entry.deliveryId.slice(0, 100); // anybody may have written it
    const refusal = await closeAttempt(
      entry,
      // With the delivery as it was: if the row is made now, it may be sent again by hand.
      full === null
        ? null
        : { ...plainRecord(full, reason), ...deliveryOf(full) },
      reason,
    );
    if (refusal !== null) {
      logger.error(
        { deliveryId, entryId, reason, refusal },
        "record.not_closed",
      );
      return "left";
    }
    await records.setAside(entry, reason, now());
    batch = batch.filter((each) => each.entryId !== entryId);
    logger.error({ deliveryId, entryId, reason }, "record.refused");
    return "set aside";
  }

  /**
   * Tries a refused record once more, without the texts that came from outside. "held" when the database timed out, as a
   * rule because somebody holds one of its rows: it is tried again soon.
   */
  async function recordAlone(
    entry: LogEntry,
    error: unknown,
  ): Promise<"recorded" | "set aside" | "held" | "left"> {
    const { entryId, deliveryId } = entry;
    const refusal = errorMessage(error);
    if (hasTimedOut(error)) {
      logger.warn({ deliveryId, entryId, refusal }, "record.timed_out");
      return "held";
    }
    const full = parseRecord(entry.record);
    if (full === null) {
      return setAside(
        entry,
        null,
        "record: must be a JSON object that names its delivery",
      );
    }
    try {
      const plain = JSON.stringify(plainRecord(full, refusal));
      await record([{ ...entry, record: plain }]);
      logger.warn({ deliveryId, entryId, refusal }, "record.simplified");
      return "recorded";
    } catch (again) {
      // Any other error is the fault of this record, and must not stop the others.
      if (hasCode(again, "DATABASE_UNAVAILABLE")) throw again;
      if (hasTimedOut(again)) return "held";
      return setAside(entry, full, errorMessage(again));
    }
  }

  /** What there is no room for is claimed after the idle time, by whoever looks. */
  function keep(entry: LogEntry): void {
    const bytes = held.reduce((sum, each) => sum + sizeOfEntry(each), 0);
    if (
      held.length < MOST_HELD &&
      bytes + sizeOfEntry(entry) <= MOST_HELD_BYTES
    )
      held.push(entry);
  }

  async function recordBatch(entries: LogEntry[]): Promise<void> {
    const done: LogEntry[] = [];
    const heldBefore = held.length;
    for (const isolated of await isolateRefused(entries, record)) {
      const { item } = isolated;
      const result =
        "refused" in isolated
          ? await recordAlone(item, isolated.refused)
          : "recorded";
      if (result === "recorded") done.push(item);
      if (result === "held") keep(item);
    }
    if (held.length === 0) heldPauseMs = SHORTEST_HELD_PAUSE_MS;
    if (held.length > heldBefore) {
      heldUntil = monotonic() + heldPauseMs;
      heldPauseMs = Math.min(2 * heldPauseMs, LONGEST_HELD_PAUSE_MS);
    }
    await records.recorded(done);
    metrics.recorded(done.length);
    logger.info({ count: done.length }, "deliveries.recorded");
  }

  async function next(): Promise<LogEntry[]> {
    if (held.length > 0 && monotonic() >= heldUntil) {
      const again = held;
      held = [];
      return again;
    }
    if (monotonic() - claimedAt >= CLAIM_INTERVAL_MS) {
      const claimed = await records.claim(BATCH_ENTRIES, claimIdleMs);
      // There may be more, so the next round claims again.
      if (claimed.length > 0) return claimed;
      claimedAt = monotonic();
    }
    return records.read(BATCH_ENTRIES, CLAIM_INTERVAL_MS);
  }

  return async (): Promise<number> => {
    if (batch.length === 0) batch = await next();
    if (batch.length === 0) return 0;
    const wasFull =
      batch.length === BATCH_ENTRIES ||
      batch.reduce((sum, entry) => sum + sizeOfEntry(entry), 0) > FULL_BYTES;
    while (batch.length > 0) {
      const [first = []] = uploads.split(batch, sizeOfEntry);
      const rest = batch.slice(first.length);
      await recordBatch(first);
      batch = rest;
    }
    return wasFull ? 0 : GATHER_MS;
  };
}
