// Deliveries and attempts as the API shows them: never a secret, a header, or the path of a URL.
import { maskUrl } from "@pipeline/shared/mask-url";
import { parseExact } from "./exact-json.ts";

/** The columns of webhook_deliveries that the API reads. */
export interface StoredDelivery {
  id: string;
  lead_id: string | null;
  endpoint_id: string | null;
  event: string | null;
  format: string | null;
  webhook_url: string | null;
  status: string;
  attempt: number;
  max_attempts: number;
  response_status: number | null;
  last_error: string | null;
  sent_at: string | null;
  next_retry_at: string | null;
  created_at: string;
  updated_at: string;
}

export interface StoredAttempt {
  attempt_number: number;
  attempted_at: string;
  duration_ms: number | null;
  response_status: number | null;
  response_body: string | null;
  response_headers: unknown;
  error: string | null;
  error_type: string | null;
  will_retry: boolean;
  retry_at: string | null;
}

export interface StoredDetail extends StoredDelivery {
  payload_text: string;
  response_body: string | null;
  webhook_delivery_logs: StoredAttempt[];
}

export const DELIVERY_COLUMNS =
  "id, lead_id, endpoint_id, event, format, webhook_url, status, attempt, max_attempts, response_status, last_error, sent_at, next_retry_at, created_at, updated_at";
export const ATTEMPT_COLUMNS =
  "attempt_number, attempted_at, duration_ms, response_status, response_body, response_headers, error, error_type, will_retry, retry_at";

export function deliverySummary(row: StoredDelivery) {
  return {
    id: row.id,
    leadId: row.lead_id,
    endpointId: row.endpoint_id,
    event: row.event,
    format: row.format,
    webhookUrl: maskUrl(row.webhook_url),
    status: row.status,
    attempt: row.attempt,
    maxAttempts: row.max_attempts,
    responseStatus: row.response_status,
    lastError: row.last_error,
    sentAt: row.sent_at,
    nextRetryAt: row.next_retry_at,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}

function attemptView(row: StoredAttempt) {
  return {
    attemptNumber: row.attempt_number,
    attemptedAt: row.attempted_at,
    durationMs: row.duration_ms,
    responseStatus: row.response_status,
    responseBody: row.response_body,
    responseHeaders: row.response_headers,
    error: row.error,
    errorType: row.error_type,
    willRetry: row.will_retry,
    retryAt: row.retry_at,
  };
}

export function deliveryDetail(row: StoredDetail) {
  return {
    ...deliverySummary(row),
    responseBody: row.response_body,
    payload: parseExact(row.payload_text),
    attempts: row.webhook_delivery_logs.map(attemptView),
  };
}

/** The short form that a new delivery is answered with. */
export function receipt(
  row: Pick<
    StoredDelivery,
    "id" | "lead_id" | "webhook_url" | "status" | "attempt"
  >,
) {
  return {
    id: row.id,
    leadId: row.lead_id,
    webhookUrl: maskUrl(row.webhook_url),
    status: row.status,
    attempt: row.attempt,
  };
}

export type Receipt = ReturnType<typeof receipt>;
