import {
  collectDefaultMetrics,
  Counter,
  Gauge,
  Histogram,
  Registry,
} from "prom-client";
import type { ErrorType } from "./core/outcome.ts";

export interface AttemptFacts {
  outcome: "success" | "retry" | "dead";
  attempt: number;
  durationMs: number;
  status: number | null;
  errorType: ErrorType | null;
}

export interface Gauges {
  waiting: () => Promise<number>;
  inFlight: () => Promise<number>;
  waitingForShare: () => Promise<number>;
  unrecorded: () => Promise<number>;
  inFlightHere: () => number;
}

export type Metrics = ReturnType<typeof createMetrics>;

/** Labels are bounded: no endpoint, URL or delivery id. */
export function createMetrics(gauges: Gauges) {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const attempts = new Counter({
    name: "webhook_attempts_total",
    help: "Attempts by what came of them",
    labelNames: ["outcome", "status_class", "error_type"],
    registers,
  });
  const durations = new Histogram({
    name: "webhook_attempt_duration_seconds",
    help: "Time from the request to the end of its answer",
    buckets: [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30],
    registers,
  });
  const deliveries = new Counter({
    name: "webhook_deliveries_total",
    help: "Deliveries that ended, by their status then",
    labelNames: ["status"],
    registers,
  });
  const deferred = new Counter({
    name: "webhook_deferred_total",
    help: "Deliveries put into their endpoint's waiting list, or put off by its rate limit",
    registers,
  });
  const recorded = new Counter({
    name: "webhook_attempts_recorded_total",
    help: "Attempts written to Postgres",
    registers,
  });
  const gauge = (
    name: string,
    help: string,
    read: () => number | Promise<number>,
  ) =>
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        try {
          this.set(await read());
        } catch {
          this.set(Number.NaN); // Redis is away: one gauge must not take the whole page with it
        }
      },
    });
  gauge(
    "webhook_stream_waiting",
    "Deliveries in the stream that no dispatcher has read",
    gauges.waiting,
  );
  gauge(
    "webhook_waiting_for_share",
    "Deliveries in the waiting lists of their endpoints",
    gauges.waitingForShare,
  );
  gauge(
    "webhook_stream_in_flight",
    "Deliveries that dispatchers have read and not settled",
    gauges.inFlight,
  );
  gauge(
    "webhook_unrecorded_attempts",
    "Attempts waiting to be written to Postgres",
    gauges.unrecorded,
  );
  gauge(
    "webhook_in_flight",
    "Deliveries that this dispatcher has read and not settled, parked ones left out",
    gauges.inFlightHere,
  );

  let since = {
    attempts: 0,
    succeeded: 0,
    failed: 0,
    attemptNumbers: 0,
    ended: 0,
  };

  return {
    registry,
    deferred: () => deferred.inc(),
    recorded: (count: number) => recorded.inc(count),
    attempted: ({
      outcome,
      attempt,
      durationMs,
      status,
      errorType,
    }: AttemptFacts) => {
      const statusClass =
        status === null ? "none" : `${Math.floor(status / 100)}xx`;
      attempts.inc({
        outcome,
        status_class: statusClass,
        error_type: errorType ?? "none",
      });
      durations.observe(durationMs / 1000);
      since.attempts++;
      if (outcome === "retry") return;
      deliveries.inc({ status: outcome === "success" ? "success" : "failed" });
      since.ended++;
      since.attemptNumbers += attempt;
      if (outcome === "success") since.succeeded++;
      else since.failed++;
    },
    /** Figures since the last call, over `seconds`; null when nothing was attempted. */
    summarize: (seconds: number) => {
      const { attempts, succeeded, failed, attemptNumbers, ended } = since;
      since = {
        attempts: 0,
        succeeded: 0,
        failed: 0,
        attemptNumbers: 0,
        ended: 0,
      };
      if (attempts === 0) return null;
      const rounded = (value: number) => Math.round(value * 1000) / 1000;
      return {
        attemptsPerSecond: rounded(attempts / seconds),
        deliveriesPerSecond: rounded(ended / seconds),
        successRate: ended === 0 ? null : rounded(succeeded / ended),
        averageAttempts: ended === 0 ? null : rounded(attemptNumbers / ended),
        failedDeliveries: failed,
      };
    },
  };
}
