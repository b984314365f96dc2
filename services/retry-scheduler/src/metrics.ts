// Counters are this process's; gauges are the queue's and are read from Redis at scrape.
import { setTimeout as sleep } from "node:timers/promises";
import { Counter, Gauge, Registry } from "prom-client";
import { DISPATCHERS_GROUP, type Keys } from "@pipeline/shared/keys";
import { isGroupMissing, type Redis } from "@pipeline/shared/redis";

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

export function createMetrics(redis: Redis, keys: Keys) {
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

  async function inFlight(): Promise<number> {
    try {
      const [count] = await redis.xpending(keys.stream, DISPATCHERS_GROUP);
      return Number(count);
    } catch (error) {
      if (isGroupMissing(error)) return 0; // nobody has read yet
      throw error;
    }
  }

  gauge("webhook_retries_scheduled", "Retries that wait for their time", () =>
    redis.zcard(keys.retries),
  );
  gauge(
    "webhook_oldest_due_age_seconds",
    "How long the oldest due retry has been waiting for promotion",
    async () => {
      const [, dueAt] = await redis.zrange(
        keys.retries,
        "0",
        "0",
        "WITHSCORES",
      );
      if (dueAt === undefined) return 0;
      return Math.max(0, (Date.now() - Number(dueAt)) / 1000);
    },
  );
  gauge(
    "webhook_stream_waiting",
    "Deliveries in the stream that no dispatcher has read",
    async () => (await redis.xlen(keys.stream)) - (await inFlight()),
  );
  gauge(
    "webhook_stream_in_flight",
    "Deliveries that dispatchers hold",
    inFlight,
  );
  gauge("webhook_dead_letters", "Dead letters kept", () =>
    redis.xlen(keys.dead),
  );
  gauge(
    "webhook_unrecorded_attempts",
    "Attempts waiting to be recorded in Postgres",
    () => redis.xlen(keys.log),
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
