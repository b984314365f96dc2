import { randomUUID } from "node:crypto";
import { freePort } from "@pipeline/dev-stack/ports";
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  expect,
  inject,
  test,
} from "vitest";
import { createProcesses, type Processes } from "../support/processes.ts";
import { createQueue, fieldsOf, type Queue } from "../support/queue.ts";
import { startTestRedis, type TestRedis } from "../support/redis-server.ts";
import { until } from "../support/until.ts";

let server: TestRedis;
let queue: Queue;
let processes: Processes;
beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  queue = await createQueue(server.url);
  processes = createProcesses(
    { ...inject("stack"), redisUrl: server.url },
    { STREAM_KEY: queue.keys.stream },
  );
  return queue.close;
});
afterEach(() => processes.stopAll());

const launch = (overrides?: Record<string, string>) =>
  processes.launch("retry-scheduler", overrides);
const start = (overrides?: Record<string, string>) =>
  processes.start("retry-scheduler", overrides);

async function schedule(dueAt: number) {
  const id = randomUUID();
  await queue.reinject([{ id, dueAt, fields: fieldsOf(id, 2) }]);
  return id;
}

const ownEntries = async (dueAts: Map<string, number>) =>
  (await queue.waiting()).filter(({ fields }) => dueAts.has(fields["id"]!));

test("two schedulers share the work: every retry is promoted once, never early, within 250 ms of its time", async () => {
  await queue.redis.set(queue.keys.epoch, "known");
  const schedulers = [await start(), await start()];
  // Scheduled in one call well ahead, so that only the schedulers can be late.
  const startsAt = Date.now() + 2000;
  const retries = Array.from({ length: 2000 }, (_, n) => {
    const id = randomUUID();
    return { id, dueAt: startsAt + n, fields: fieldsOf(id, 2) };
  });
  await queue.reinject(retries);
  expect(Date.now()).toBeLessThan(startsAt);
  const dueAts = new Map<string, number>(
    retries.map(({ id, dueAt }) => [id, dueAt]),
  );
  await until(
    "all are promoted",
    async () => (await queue.redis.zcard(queue.keys.retries)) === 0,
    15_000,
  );
  const entries = await ownEntries(dueAts);
  expect(entries).toHaveLength(2000);
  const lateness = entries
    .map(
      ({ entryId, fields }) =>
        Number.parseInt(entryId) - dueAts.get(fields["id"]!)!,
    )
    .sort((a, b) => a - b);
  expect(new Set(entries.map(({ fields }) => fields["id"])).size).toBe(2000);
  expect(lateness[0]).toBeGreaterThanOrEqual(0);
  // p99: on a busy machine a process may not get its turn in time.
  expect(lateness[1980]).toBeLessThanOrEqual(250);
  let promoted = 0;
  for (const { url } of schedulers) {
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics).toContain("webhook_retries_scheduled 0");
    const [, count] =
      /^webhook_retries_promoted_total (\d+)$/m.exec(metrics) ?? [];
    promoted += Number(count);
  }
  expect(promoted).toBe(2000);
});

test("a retry that is scheduled while the scheduler waits for a later one is still on time", async () => {
  await start();
  await schedule(Date.now() + 60_000);
  const dueAt = Date.now() + 400;
  const dueAts = new Map([[await schedule(dueAt), dueAt]]);
  await until(
    "it is promoted",
    async () => (await ownEntries(dueAts)).length === 1,
    5000,
  );
  const [entry] = await ownEntries(dueAts);
  expect(Number.parseInt(entry!.entryId) - dueAt).toBeLessThanOrEqual(250);
});

test("says in plain words what it does, without credentials, and ends at once with code 0", async () => {
  const service = await start({
    REDIS_URL: server.url.replace("redis://", "redis://default:@"),
  });
  const started = "[RETRY_SCHEDULER] Retry scheduler started successfully";
  // The log is written in blocks, a fifth of a second apart.
  await until(
    "it says that it has started",
    () => service.lines.join("\n").includes(started),
    5000,
  );
  const output = service.lines.join("\n");
  expect(output).toContain(`[RETRY_SCHEDULER] Redis: ${server.url}`);
  expect(output).not.toContain(inject("stack").serviceRoleKey);
  const stoppedAt = performance.now();
  expect(await service.stop("SIGTERM")).toBe(0);
  expect(performance.now() - stoppedAt).toBeLessThan(3000);
});

test("names every fault of its environment and exits with 1", async () => {
  const service = await launch({
    REDIS_URL: "",
    SUPABASE_URL: "not a url",
    METRICS_PORT: "x",
    WEBHOOK_ENCRYPTION_KEY: "c2hvcnQ=",
  });
  expect(await service.exited).toBe(1);
  const output = service.lines.join("\n");
  expect(output).toContain("Missing required environment variables: REDIS_URL");
  for (const name of [
    "NEXT_PUBLIC_SUPABASE_URL",
    "METRICS_PORT",
    "WEBHOOK_ENCRYPTION_KEY",
  ])
    expect(output).toContain(name);
  expect(output).not.toContain("c2hvcnQ=");
});

test("exits with 1 and says what to do when Redis is not there", async () => {
  const service = await launch({
    REDIS_URL: `redis://user:hidden@127.0.0.1:${await freePort()}`,
  });
  expect(await service.exited).toBe(1);
  const output = service.lines.join("\n");
  expect(output).toContain("Could not connect to Redis");
  expect(output).not.toContain("hidden");
});

test("goes on by itself after Redis was away and lost everything, and logs little meanwhile", async () => {
  const service = await start();
  const linesBefore = service.lines.length;
  await server.interrupt();
  await until(
    "it is not ready",
    async () => (await fetch(`${service.url}/readyz`)).status === 503,
    10_000,
  );
  expect((await fetch(`${service.url}/healthz`)).status).toBe(200);
  expect(await (await fetch(`${service.url}/metrics`)).text()).toContain(
    "webhook_retries_promoted_total",
  );
  await server.resume();
  const resumedAt = performance.now();
  await until(
    "Redis is complete again",
    async () => (await queue.redis.exists(queue.keys.epoch)) === 1,
    15_000,
  );
  const dueAts = new Map([[await schedule(Date.now() + 100), 0]]);
  await until(
    "it is promoted",
    async () => (await ownEntries(dueAts)).length === 1,
    5000,
  );
  expect(performance.now() - resumedAt).toBeLessThan(10_000);
  expect(service.lines.length - linesBefore).toBeLessThan(20);
});

test("promotes while Supabase is away, says so on /readyz, logs little and still ends at once", async () => {
  const service = await processes.start(
    "retry-scheduler",
    { SUPABASE_URL: `http://127.0.0.1:${await freePort()}` },
    "/healthz",
  );
  const dueAts = new Map([[await schedule(Date.now() + 1500), 0]]);
  await until(
    "it is promoted",
    async () => (await ownEntries(dueAts)).length === 1,
    10_000,
  );
  const ready = await fetch(`${service.url}/readyz`);
  expect(ready.status).toBe(503);
  expect(await ready.json()).toMatchObject({ checks: { redis: "ok" } });
  expect(await queue.redis.exists(queue.keys.epoch)).toBe(0);
  expect(service.lines.length).toBeLessThan(20);
  expect(await service.stop()).toBe(0);
});
