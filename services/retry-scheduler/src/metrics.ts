// Counters are this process's; gauges are the queue's and are read from Redis at scrape.
import { Counter, Gauge, Registry } from "prom-client";
import { DISPATCHERS_GROUP, type Keys } from "@pipeline/shared/keys";
import { isGroupMissing, type Redis } from "@pipeline/shared/redis";

export function createMetrics(redis: Redis, keys: Keys) {
  const registry = new Registry();
  const registers = [registry];

  // Asked in one tick, the questions travel in one pipeline. A gauge that Redis cannot answer now is NaN, so that the
  // scrape still shows the counters.
  const gauge = (name: string, help: string, read: () => Promise<number>) =>
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        this.set(await read().catch(() => Number.NaN));
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
