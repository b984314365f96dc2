// Turns a row of `webhook_deliveries` into the delivery that is to be sent next.
import type { Delivery } from "./entries.ts";

/** The columns that are needed to send a row again. The payload comes as the text that was sent. */
export const DELIVERY_COLUMNS =
  "id,lead_id,client_id,endpoint_id,event,format,webhook_url,payload_text:payload::text,secret,headers,status," +
  "attempt,max_attempts,schedule_start,next_retry_at";

/** A row of `webhook_deliveries`, read with `DELIVERY_COLUMNS`. */
export interface DeliveryRow {
  id: string;
  lead_id: string | null;
  client_id: string | null;
  endpoint_id: string | null;
  event: string | null;
  format: string | null;
  webhook_url: string | null;
  payload_text: string;
  secret: string | null;
  headers: string | null;
  status: "pending" | "sent" | "success" | "failed" | "cancelled";
  attempt: number;
  max_attempts: number;
  schedule_start: number;
  next_retry_at: string | null;
}

/** The next attempt of an unfinished row: for a row that is `sent`, the one after the recorded attempt. */
export function deliveryFromRow(row: DeliveryRow): Delivery {
  return {
    id: row.id,
    webhookUrl: row.webhook_url,
    endpointId: row.endpoint_id,
    payload: row.payload_text,
    leadId: row.lead_id,
    clientId: row.client_id,
    event: row.event,
    format: row.format,
    secret: row.secret,
    headers: row.headers,
    attempt: row.status === "sent" ? row.attempt + 1 : row.attempt,
    maxAttempts: row.max_attempts,
    scheduleStart: row.schedule_start,
    traceparent: null,
    isPersisted: true,
    isReserved: false,
  };
}
