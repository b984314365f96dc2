import { expect, test } from "vitest";
import { type AttemptFacts, createMetrics } from "./metrics.ts";

const gauges = {
  waiting: async () => 3,
  waitingForShare: async () => 7,
  inFlight: async () => 2,
  unrecorded: async () => 1,
  inFlightHere: () => 5,
};
const success: AttemptFacts = {
  outcome: "success",
  attempt: 1,
  durationMs: 20,
  status: 200,
  errorType: null,
};
const failed = (outcome: "retry" | "dead", attempt: number): AttemptFacts => ({
  outcome,
  attempt,
  durationMs: 20,
  status: null,
  errorType: "timeout",
});

test("the summary tells pace, success rate, average attempts and failures since the last one", () => {
  const metrics = createMetrics(gauges);
  expect(metrics.summarize(60)).toBeNull();
  for (let n = 0; n < 3; n++) metrics.attempted(success);
  metrics.attempted(failed("retry", 1));
  metrics.attempted(failed("retry", 2));
  metrics.attempted(failed("dead", 3));
  expect(metrics.summarize(2)).toEqual({
    attemptsPerSecond: 3,
    deliveriesPerSecond: 2,
    successRate: 0.75,
    averageAttempts: 1.5,
    failedDeliveries: 1,
  });
  expect(metrics.summarize(60)).toBeNull();
});

test("while nothing has ended there is no rate of success", () => {
  const metrics = createMetrics(gauges);
  metrics.attempted(failed("retry", 1));
  expect(metrics.summarize(1)).toMatchObject({
    attemptsPerSecond: 1,
    successRate: null,
    averageAttempts: null,
  });
});

test("counters have bounded labels, and gauges are read when asked", async () => {
  const metrics = createMetrics(gauges);
  metrics.attempted(success);
  metrics.attempted(failed("dead", 4));
  metrics.deferred();
  metrics.recorded(7);
  const text = await metrics.registry.metrics();
  for (const line of [
    'webhook_attempts_total{outcome="success",status_class="2xx",error_type="none"} 1',
    'webhook_attempts_total{outcome="dead",status_class="none",error_type="timeout"} 1',
    'webhook_deliveries_total{status="success"} 1',
    'webhook_deliveries_total{status="failed"} 1',
    "webhook_deferred_total 1",
    "webhook_attempts_recorded_total 7",
    "webhook_attempt_duration_seconds_count 2",
    "webhook_stream_waiting 3",
    "webhook_waiting_for_share 7",
    "webhook_stream_in_flight 2",
    "webhook_unrecorded_attempts 1",
    "webhook_in_flight 5",
  ]) {
    expect(text).toContain(line);
  }
});

test("while Redis is away the rest of the metrics are still told", async () => {
  const away = () => Promise.reject(new Error("Redis is away"));
  const metrics = createMetrics({ ...gauges, waiting: away, inFlight: away });
  metrics.attempted(success);
  const text = await metrics.registry.metrics();
  expect(text).toMatch(/^webhook_stream_waiting nan$/im);
  expect(text).toMatch(/^webhook_stream_in_flight nan$/im);
  expect(text).toContain("webhook_unrecorded_attempts 1");
  expect(text).toContain('webhook_deliveries_total{status="success"} 1');
});
