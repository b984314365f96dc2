// For unit tests: a delivery as ingest queues it, of which a test changes what it is about.
import type { Delivery } from "@pipeline/shared/entries";

export const SAMPLE_DELIVERY: Delivery = {
  id: "d-1",
  webhookUrl: "https://x.test/hook",
  endpointId: null,
  payload: '{ "n" : 1.0 }',
  leadId: null,
  clientId: null,
  event: null,
  format: null,
  secret: null,
  headers: null,
  attempt: 1,
  maxAttempts: null,
  scheduleStart: 1,
  traceparent: null,
  isPersisted: true,
  isReserved: false,
};
