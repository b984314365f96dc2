// The record of an attempt, as the database function `record_attempts` reads it.
import type { Delivery } from "@pipeline/shared/entries";
import { isoTime } from "@pipeline/shared/timestamp";
import type { Decision } from "./decide.ts";
import type { ErrorType, Outcome, SendResult } from "./outcome.ts";
import { storableJson } from "./storable-json.ts";

export interface AttemptRecord {
  delivery_id: string;
  attempt: number;
  attempted_at: string;
  duration_ms: number;
  status: "success" | "sent" | "failed";
  response_status?: number;
  response_body?: string;
  response_headers?: Record<string, string>;
  error?: string;
  error_type?: ErrorType;
  retry_at?: string;
  signature?: string;
  disable_endpoint?: string;
  /** The row to make first; left out when ingest has made it. */
  delivery?: Row;
}

export interface RecordInput {
  delivery: Delivery;
  /** See `rowOf`. */
  row: Row | null;
  /** Ms since 1970. */
  startedAt: number;
  durationMs: number;
  result: SendResult;
  outcome: Outcome;
  decision: Decision;
  signature: string | null;
}

export type Row = Record<string, string | number | null>;

const STATUS = { success: "success", retry: "sent", dead: "failed" } as const;
const KEPT_HEADERS = [
  "content-type",
  "content-length",
  "date",
  "location",
  "retry-after",
  "server",
  "x-request-id",
];
const LONGEST_HEADER = 500;
const LONGEST_ERROR = 1000;

function keptHeaders(headers: Record<string, string>): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const name of KEPT_HEADERS) {
    const value = headers[name];
    if (value !== undefined) kept[name] = value.slice(0, LONGEST_HEADER);
  }
  return kept;
}

/** The row to make before its first attempt is recorded; null when ingest has made it. `createdAt`: ms since 1970. */
export function rowOf(
  delivery: Delivery,
  maxAttempts: number,
  createdAt: number,
): Row | null {
  if (delivery.isPersisted) return null;
  return {
    lead_id: delivery.leadId,
    client_id: delivery.clientId,
    endpoint_id: delivery.endpointId,
    event: delivery.event,
    format: delivery.format,
    webhook_url: delivery.webhookUrl,
    payload: storableJson(delivery.payload),
    secret: delivery.secret,
    headers: delivery.headers,
    max_attempts: maxAttempts,
    schedule_start: delivery.scheduleStart,
    created_at: isoTime(createdAt),
  };
}

/** JSON text of the attempt's record; the delivery's secret and headers must be sealed already. */
export function attemptRecord(attempt: RecordInput): string {
  const { delivery, outcome, decision, result, startedAt, durationMs } =
    attempt;
  const record: AttemptRecord = {
    delivery_id: delivery.id,
    attempt: delivery.attempt,
    attempted_at: isoTime(startedAt),
    duration_ms: Math.round(durationMs),
    status: STATUS[decision.kind],
  };
  if (result.kind === "answer") {
    record.response_status = result.status;
    record.response_body = result.body;
    record.response_headers = keptHeaders(result.headers);
  }
  if (outcome.kind !== "delivered") {
    record.error = outcome.error.slice(0, LONGEST_ERROR);
    record.error_type = outcome.errorType;
  }
  if (decision.kind === "retry")
    record.retry_at = isoTime(startedAt + durationMs + decision.delayMs);
  if (attempt.signature !== null) record.signature = attempt.signature;
  if (
    outcome.kind === "final" &&
    outcome.isGone &&
    delivery.endpointId !== null
  ) {
    record.disable_endpoint = delivery.endpointId;
  }
  if (attempt.row !== null) record.delivery = attempt.row;
  return storableJson(JSON.stringify(record));
}

/**
 * A record that the database refused, without the texts that came from outside, so that at least the outcome is kept. A
 * payload that jsonb cannot hold is kept as a JSON string.
 */
export function plainRecord(
  record: AttemptRecord,
  refusal: string,
): AttemptRecord {
  const {
    response_body: _body,
    response_headers: _headers,
    signature: _signature,
    ...plain
  } = record;
  const error = `${record.error ?? ""} (details left out: ${refusal})`
    .trim()
    .slice(0, LONGEST_ERROR);
  if (record.status !== "success") plain.error = error;
  if (record.delivery === undefined) return plain;
  return {
    ...plain,
    delivery: {
      ...record.delivery,
      payload: JSON.stringify(String(record.delivery["payload"])),
    },
  };
}
