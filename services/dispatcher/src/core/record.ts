// The record of an attempt, as the database function `record_attempts` reads it.
import type { Delivery } from "@pipeline/shared/entries";
import { maskUrl } from "@pipeline/shared/mask-url";
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
  /** With `disable_endpoint`: the endpoint is left alone if it has been given another URL since. */
  answered_url?: string;
  /** The row to make first; left out when ingest has made it. */
  delivery?: Row;
}

export interface RecordInput {
  delivery: Delivery;
  /** Where it was sent; null when it was not. */
  url: string | null;
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

/** Where a receiver redirects to may be a credential like the URL itself. It may be relative to `url`. */
function maskLocation(location: string, url: string | null): string | null {
  const target = URL.parse(location, url ?? undefined);
  if (target === null) return maskUrl(location);
  // An app's own scheme has no origin to show.
  return target.origin === "null"
    ? `${target.protocol}***`
    : maskUrl(target.href);
}

function keptHeaders(
  headers: Record<string, string>,
  url: string | null,
): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const name of KEPT_HEADERS) {
    const value = headers[name];
    if (value === undefined) continue;
    const shown = name === "location" ? maskLocation(value, url) : value;
    if (shown !== null) kept[name] = shown.slice(0, LONGEST_HEADER);
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
  const payload = storableJson(delivery.payload);
  return {
    lead_id: delivery.leadId,
    client_id: delivery.clientId,
    endpoint_id: delivery.endpointId,
    event: delivery.event,
    format: delivery.format,
    webhook_url: delivery.webhookUrl,
    payload,
    // What was sent, and is sent again, where the text of the record cannot say it.
    ...(payload !== delivery.payload && { payload_text: delivery.payload }),
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
    record.response_headers = keptHeaders(result.headers, attempt.url);
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
    if (attempt.url !== null) record.answered_url = attempt.url;
  }
  if (attempt.row !== null) record.delivery = attempt.row;
  return storableJson(JSON.stringify(record));
}

/**
 * A record that the database refused, without the texts that came from outside, so that at least the outcome is kept. A
 * payload that it cannot hold is kept as a JSON string.
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
  const {
    payload,
    payload_text: text = payload,
    ...delivery
  } = record.delivery;
  return {
    ...plain,
    delivery: { ...delivery, payload: JSON.stringify(String(text)) },
  };
}
