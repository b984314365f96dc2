// Counters are this process's; gauges are the queue's and are read from Redis at scrape.
import { setTimeout as sleep } from "node:timers/promises";
import { Counter, Gauge, Registry } from "prom-client";
import type { Inspection } from "@pipeline/shared/queue/inspection";

const COLLECT_TIMEOUT_MS = 1000;

/** NaN when there is no answer in time: a scrape must not wait for a server that is away. */
async function within(ms: number, answer: Promise<number>): Promise<number> {
  const controller = new AbortController();
  const timeout = sleep(ms, Number.NaN, { signal: controller.signal });
  try {
    return await Promise.race([answer, timeout]);
  } catch {
    return Number.NaN;
  } finally {
    timeout.catch(() => undefined);
    controller.abort();
  }
}

export function createMetrics(queue: Inspection) {
  const registry = new Registry();
  const registers = [registry];

  // Asked in one tick, the questions travel in one pipeline. When Redis is away the scrape still shows the counters.
  const gauge = (name: string, help: string, read: () => Promise<number>) =>
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        this.set(await within(COLLECT_TIMEOUT_MS, read()));
      },
    });

  gauge(
    "webhook_retries_scheduled",
    "Retries that wait for their time",
    queue.retries,
  );
  gauge(
    "webhook_oldest_due_age_seconds",
    "How long the oldest due retry has been waiting for promotion",
    async () => {
      const dueAt = await queue.firstDueAt();
      return dueAt === null ? 0 : Math.max(0, (Date.now() - dueAt) / 1000);
    },
  );
  gauge(
    "webhook_stream_waiting",
    "Deliveries in the stream that no dispatcher has read",
    queue.waiting,
  );
  gauge(
    "webhook_stream_in_flight",
    "Deliveries that dispatchers have read and not settled",
    queue.inFlight,
  );
  gauge("webhook_dead_letters", "Dead letters kept", queue.dead);
  gauge(
    "webhook_unrecorded_attempts",
    "Attempts waiting to be recorded in Postgres",
    queue.unrecorded,
  );

  return {
    registry,
    promoted: new Counter({
      name: "webhook_retries_promoted_total",
      help: "Due retries moved to the stream",
      registers,
    }),
    reconciled: new Counter({
      name: "webhook_reconciled_total",
      help: "Deliveries that Redis had lost and that were injected again",
      registers,
    }),
  };
}
