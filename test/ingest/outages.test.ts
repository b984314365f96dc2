import { afterEach, describe, expect, test } from "vitest";
import { startTestRedis } from "../support/redis-server.ts";
import { send } from "../support/send.ts";
import { until } from "../support/until.ts";
import {
  type Ingest,
  openDatabase,
  sample,
  startIngest,
  startSupabaseProxy,
} from "./ingest.ts";

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp();
});

async function setUp(options: Parameters<typeof startIngest>[0]) {
  const database = openDatabase();
  cleanUps.push(() => database.close());
  const ingest = await startIngest(options);
  cleanUps.push(() => ingest.stop());
  return { database, ingest };
}

async function timed(ingest: Ingest) {
  const startedAt = performance.now();
  const reply = await ingest.post("", sample());
  return { ...reply, ms: performance.now() - startedAt };
}

describe("ingest without Supabase", () => {
  test("answers 503 at once, queues nothing, and works again soon after its return", async () => {
    const proxy = await startSupabaseProxy();
    cleanUps.push(proxy.close);
    const { ingest } = await setUp({ supabaseUrl: proxy.url });
    proxy.set("down");
    for (let i = 0; i < 5; i++) {
      const { status, headers, body, ms } = await timed(ingest);
      expect(status).toBe(503);
      expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
      expect(body).toMatchObject({ status: "error", issues: [] });
      expect(ms).toBeLessThan(1000);
    }
    expect(await ingest.queue.redis.xlen(ingest.queue.keys.stream)).toBe(0);
    const batch = await ingest.post("/batch", {
      deliveries: [sample(), sample()],
    });
    expect(batch.status).toBe(503);
    expect((await ingest.get("")).status).toBe(503);
    expect((await ingest.get("/stats")).status).toBe(503);
    expect((await send(`${ingest.origin}/readyz`, "GET")).status).toBe(503);

    proxy.set("open");
    await until(
      "deliveries are accepted",
      async () => (await ingest.post("", sample())).status === 202,
      5000,
    );
  });

  test("does not pile up requests behind a database that takes calls and never answers", async () => {
    const proxy = await startSupabaseProxy();
    cleanUps.push(proxy.close);
    const { ingest } = await setUp({ supabaseUrl: proxy.url });
    proxy.set("silent");
    const first = await Promise.all(
      Array.from({ length: 50 }, () => timed(ingest)),
    );
    expect(first.every(({ status, ms }) => status === 503 && ms < 6000)).toBe(
      true,
    );
    const { status, ms } = await timed(ingest);
    expect(status).toBe(503);
    expect(ms).toBeLessThan(1000);
  });

  test("shares one call among requests that arrive together", async () => {
    const proxy = await startSupabaseProxy();
    cleanUps.push(proxy.close);
    const { ingest, database } = await setUp({ supabaseUrl: proxy.url });
    const lead = await database.insertLead();
    proxy.calls.length = 0;
    proxy.set("slow"); // so that the requests are together, however slow the machine
    const replies = await Promise.all(
      Array.from({ length: 300 }, () =>
        ingest.post("", { leadId: lead.id, webhookUrl: sample().webhookUrl }),
      ),
    );
    expect(replies.every(({ status }) => status === 202)).toBe(true);
    expect(proxy.calls.length).toBeLessThan(100);
  });
});

describe("ingest without Redis", () => {
  test("accepts deliveries, whose rows the retry-scheduler will enqueue, and says 503 where it must ask Redis", async () => {
    const redis = await startTestRedis();
    cleanUps.push(redis.stop);
    const { ingest, database } = await setUp({ redisUrl: redis.url });
    await redis.interrupt();
    const { status, body } = await ingest.post("", sample());
    expect(status).toBe(202);
    expect(await database.row(body.delivery.id)).toMatchObject({
      status: "pending",
    });
    for (const reply of await Promise.all([
      ingest.post(`/${body.delivery.id}/retry`),
      ingest.remove(`/${body.delivery.id}`),
      ingest.get("/stats"),
      ingest.get("/dead-letters"),
    ])) {
      expect(reply.status).toBe(503);
      expect(reply.headers.get("retry-after")).not.toBeNull();
    }
    expect(await database.row(body.delivery.id)).toMatchObject({
      status: "pending",
      schedule_start: 1,
    });

    await redis.resume();
    await until(
      "Redis answers again",
      async () => (await ingest.get("/stats")).body.status === "success",
      5000,
    );
    expect((await ingest.post("", sample())).status).toBe(202);
    expect(await ingest.queue.redis.xlen(ingest.queue.keys.stream)).toBe(1);
  });

  test("does not wait for a Redis that takes calls and never answers", async () => {
    const redis = await startTestRedis();
    cleanUps.push(redis.stop);
    const { ingest, database } = await setUp({ redisUrl: redis.url });
    await ingest.queue.redis.client("PAUSE", 20_000, "ALL");
    const [first, stats] = await Promise.all([
      timed(ingest),
      ingest.get("/stats"),
    ]);
    expect(first.status).toBe(202);
    expect(first.ms).toBeLessThan(6000);
    expect(await database.row(first.body.delivery.id)).not.toBeNull();
    expect(stats.status).toBe(503);
    const second = await timed(ingest);
    expect(second.status).toBe(202);
    expect(second.ms).toBeLessThan(1500);
  });

  test("answers 503 and stores nothing when Redis is out of memory", async () => {
    const redis = await startTestRedis(["--maxmemory-policy", "noeviction"]);
    cleanUps.push(redis.stop);
    const { ingest, database } = await setUp({ redisUrl: redis.url });
    await ingest.queue.redis.config("SET", "maxmemory", "1");
    const request = sample({ idempotencyKey: `oom-${Date.now()}` });
    const { status, headers } = await ingest.post("", request);
    expect(status).toBe(503);
    expect(headers.get("retry-after")).not.toBeNull();
    await ingest.queue.redis.config("SET", "maxmemory", "0");
    const after = await ingest.post("", request);
    expect(after.status).toBe(202); // 200 would mean that the refused request had left a row
    expect(await database.row(after.body.delivery.id)).not.toBeNull();
  });
});

describe("a full queue", () => {
  test("gives 503 for what does not fit, alone and in a batch", async () => {
    const { ingest } = await setUp({ env: { MAX_QUEUE_LENGTH: "3" } });
    const batch = await ingest.post("/batch", {
      deliveries: Array.from({ length: 5 }, () => sample()),
    });
    expect(batch.status).toBe(202);
    expect(batch.body.deliveries.map(({ status }) => status)).toEqual([
      "success",
      "success",
      "success",
      "error",
      "error",
    ]);
    const single = await ingest.post("", sample());
    expect(single.status).toBe(503);
    expect(single.headers.get("retry-after")).not.toBeNull();
    expect(await ingest.queue.redis.xlen(ingest.queue.keys.stream)).toBe(3);
  });

  test("is not overfilled by requests side by side", async () => {
    const { ingest } = await setUp({ env: { MAX_QUEUE_LENGTH: "40" } });
    const replies = await Promise.all(
      Array.from({ length: 100 }, () => ingest.post("", sample())),
    );
    expect(replies.filter(({ status }) => status === 202)).toHaveLength(40);
    expect(replies.filter(({ status }) => status === 503)).toHaveLength(60);
    expect(await ingest.queue.redis.xlen(ingest.queue.keys.stream)).toBe(40);
  });
});
