import type { FastifyInstance } from "fastify";
import {
  collectDefaultMetrics,
  Counter,
  Histogram,
  Registry,
} from "prom-client";

const BUCKETS_SECONDS = [
  0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
];

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const enqueued = new Counter({
    name: "webhook_deliveries_enqueued_total",
    help: "Deliveries accepted, by format",
    labelNames: ["format"],
    registers,
  });
  const requests = new Counter({
    name: "webhook_ingest_requests_total",
    help: "API requests by route and status class",
    labelNames: ["route", "status_class"],
    registers,
  });
  const durations = new Histogram({
    name: "webhook_ingest_request_duration_seconds",
    help: "Time from a request's headers to its answer",
    labelNames: ["route"],
    buckets: BUCKETS_SECONDS,
    registers,
  });

  return {
    registry,
    countEnqueued: (format: string, count: number) =>
      enqueued.inc({ format }, count),

    /** Counts and times the server's requests, by route pattern. */
    observe: (server: FastifyInstance) => {
      server.addHook("onResponse", (request, reply, done) => {
        const route = `${request.method} ${request.routeOptions.url ?? "(unknown)"}`;
        requests.inc({
          route,
          status_class: `${Math.floor(reply.statusCode / 100)}xx`,
        });
        durations.observe({ route }, reply.elapsedTime / 1000);
        done();
      });
    },
  };
}

export type Metrics = ReturnType<typeof createMetrics>;
