import type { Delivery } from "@pipeline/shared/entries";
import { expect, test } from "vitest";
import type { Decision } from "./decide.ts";
import type { Outcome, SendResult } from "./outcome.ts";
import {
  type RecordInput,
  type AttemptRecord,
  attemptRecord,
  plainRecord,
  rowOf,
} from "./record.ts";

const delivery: Delivery = {
  id: "d-1",
  webhookUrl: "https://x.test/hook",
  endpointId: "e-1",
  payload: '{ "n" : 1.0 }',
  leadId: "l-1",
  clientId: "c-1",
  event: "lead_captured",
  format: "raw",
  secret: "sealed:s",
  headers: "sealed:h",
  attempt: 2,
  maxAttempts: null,
  scheduleStart: 1,
  traceparent: null,
  isPersisted: true,
  isReserved: false,
};
const startedAt = Date.parse("2026-03-01T12:00:00.250Z");
const answer = (
  status: number,
  headers: Record<string, string> = {},
): SendResult => ({ kind: "answer", status, headers, body: "a body" });
const delivered: RecordInput = {
  delivery,
  url: "https://x.test/hook",
  row: null,
  startedAt,
  durationMs: 12.4,
  result: answer(200),
  outcome: { kind: "delivered" },
  decision: { kind: "success" },
  signature: "v1,abc",
};
const createdAt = Date.parse("2026-03-01T11:00:00Z");
function inputOf(changes: Partial<RecordInput>): RecordInput {
  const input = { ...delivered, ...changes };
  return { ...input, row: rowOf(input.delivery, 4, createdAt) };
}
const recordOf = (changes: Partial<RecordInput>) =>
  JSON.parse(attemptRecord(inputOf(changes))) as AttemptRecord;
const retryable: Outcome = {
  kind: "retryable",
  errorType: "http",
  error: "HTTP 500",
  retryAfterMs: null,
};
const dead: Decision = { kind: "dead", reason: "why" };

test("a success is recorded with its answer and without an error", () => {
  expect(recordOf({})).toEqual({
    delivery_id: "d-1",
    attempt: 2,
    attempted_at: "2026-03-01T12:00:00.250Z",
    duration_ms: 12,
    status: "success",
    response_status: 200,
    response_body: "a body",
    response_headers: {},
    signature: "v1,abc",
  });
});

test("an attempt that will be retried is recorded as sent, with the time of the next one", () => {
  const record = recordOf({
    result: answer(500),
    outcome: retryable,
    decision: { kind: "retry", delayMs: 5000 },
    durationMs: 1000,
  });
  expect(record).toMatchObject({
    status: "sent",
    error: "HTTP 500",
    error_type: "http",
    retry_at: "2026-03-01T12:00:06.250Z",
  });
});

test("a failure without an answer has no response", () => {
  const record = recordOf({
    result: { kind: "failure", errorType: "timeout", error: "no answer" },
    outcome: { ...retryable, errorType: "timeout", error: "no answer" },
    decision: dead,
    signature: null,
  });
  expect(record).toEqual({
    delivery_id: "d-1",
    attempt: 2,
    attempted_at: "2026-03-01T12:00:00.250Z",
    duration_ms: 12,
    status: "failed",
    error: "no answer",
    error_type: "timeout",
  });
});

test("of the response's headers only the useful ones are kept, cut to a length", () => {
  const { response_headers } = recordOf({
    result: answer(200, {
      "content-type": "text/plain",
      "retry-after": "5",
      "set-cookie": "cart=1",
      server: "x".repeat(2000),
    }),
  });
  expect(response_headers).toEqual({
    "content-type": "text/plain",
    "retry-after": "5",
    server: "x".repeat(500),
  });
});

test.each([
  ["https://y.test/hooks/secret?token=1", "https://y.test/***"],
  ["https://user:secret@y.test/", "https://y.test/"],
  ["/hooks/secret", "https://x.test/***"],
  ["secret", "https://x.test/***"],
  ["//y.test/secret", "https://y.test/***"],
  ["app:secret", "app:***"],
  ["https://[secret", "(invalid URL)"],
])("a redirect to %j is kept as %j", (location, shown) => {
  const { response_headers } = recordOf({ result: answer(302, { location }) });
  expect(response_headers).toEqual({ location: shown });
});

test("errors are cut to 1000 characters", () => {
  const { error } = recordOf({
    outcome: { ...retryable, error: "x".repeat(5000) },
    decision: dead,
  });
  expect(error).toHaveLength(1000);
});

test("410 disables the endpoint it came from, and nothing without an endpoint", () => {
  const gone: Outcome = {
    kind: "final",
    errorType: "http",
    error: "HTTP 410",
    isGone: true,
  };
  const changes = { result: answer(410), outcome: gone, decision: dead };
  expect(recordOf(changes)).toMatchObject({
    disable_endpoint: "e-1",
    answered_url: "https://x.test/hook",
  });
  const noEndpoint = { ...delivery, endpointId: null };
  expect(recordOf({ ...changes, delivery: noEndpoint })).not.toHaveProperty(
    "disable_endpoint",
  );
  const notFound = { ...gone, isGone: false };
  expect(recordOf({ ...changes, outcome: notFound })).not.toHaveProperty(
    "disable_endpoint",
  );
});

test("a delivery whose row does not exist yet brings it along, its payload as text", () => {
  const { delivery: row } = recordOf({
    delivery: { ...delivery, isPersisted: false, scheduleStart: 2 },
  });
  expect(row).toEqual({
    lead_id: "l-1",
    client_id: "c-1",
    endpoint_id: "e-1",
    event: "lead_captured",
    format: "raw",
    webhook_url: "https://x.test/hook",
    payload: '{ "n" : 1.0 }',
    secret: "sealed:s",
    headers: "sealed:h",
    max_attempts: 4,
    schedule_start: 2,
    created_at: "2026-03-01T11:00:00.000Z",
  });
});

test("what Postgres cannot hold is taken out of the payload and of the response", () => {
  const record = recordOf({
    delivery: {
      ...delivery,
      isPersisted: false,
      payload: String.raw`{"a":"\u0000\ud800"}`,
    },
    result: { ...answer(200), body: "x\0y" } as SendResult,
  });
  expect(record.delivery?.["payload"]).toBe(String.raw`{"a":"\ufffd"}`);
  expect(record.delivery?.["payload_text"]).toBe(
    String.raw`{"a":"\u0000\ud800"}`,
  );
  expect(record.response_body).toBe("xy");
});

test("a refused record is tried again without the texts that came from outside", () => {
  const full = recordOf({
    result: answer(500, { server: "x" }),
    outcome: retryable,
    decision: { kind: "retry", delayMs: 5000 },
  });
  const plain = plainRecord(full, "the database said no");
  expect(plain).toEqual({
    delivery_id: "d-1",
    attempt: 2,
    attempted_at: "2026-03-01T12:00:00.250Z",
    duration_ms: 12,
    status: "sent",
    response_status: 500,
    error: "HTTP 500 (details left out: the database said no)",
    error_type: "http",
    retry_at: "2026-03-01T12:00:05.262Z",
  });
});

test("a refused success stays a success, without an error", () => {
  const plain = plainRecord(recordOf({}), "no");
  expect(plain.status).toBe("success");
  expect(plain).not.toHaveProperty("error");
});

test("a refused payload is kept as a JSON string", () => {
  const full = recordOf({
    delivery: { ...delivery, isPersisted: false, payload: '{"n":1e999999}' },
  });
  const { delivery: row } = plainRecord(full, "no");
  expect(JSON.parse(String(row?.["payload"]))).toBe('{"n":1e999999}');
  expect(row?.["webhook_url"]).toBe("https://x.test/hook");
});
