// Redis away in every way it can be, under load. No service is restarted, and none floods its log.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { createLoad, type Load, reckon, settled } from "../support/chaos.ts";
import { type Pipeline, startPipeline } from "../support/crash-pipeline.ts";
import { createRandom } from "../support/seed.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { until } from "../support/until.ts";

const PROCESSES = 4;
/** Each loop and each connection of each process may say once in 10 s that Redis is away. */
const MOST_LINES = 10 * PROCESSES;

let pipeline: Pipeline;
let proxy: TcpProxy;
let load: Load;
let loading: Promise<void>;
beforeAll(async () => {
  pipeline = await startPipeline({
    dispatcher: 2,
    env: { LOG_LEVEL: "warn" },
    through: async ({ redisUrl }) => {
      proxy = await startTcpProxy(redisUrl);
      return { REDIS_URL: `redis://127.0.0.1:${proxy.port}` };
    },
  });
  await pipeline.startServices();
  load = createLoad(pipeline, createRandom(inject("seed")));
});
afterAll(async () => {
  await proxy.close();
  await pipeline.stop();
});

/** Load before, during and after the trouble. */
async function underLoad(total: number): Promise<void> {
  const { size } = load.accepted;
  loading = load.run(total, 100);
  await until("it runs", () => load.accepted.size > size + 40);
}

/** Seconds until a delivery that is added now arrives. */
async function recovery(name: string, since: number): Promise<number> {
  const id = await pipeline.xadd("/ok");
  await until("it arrives", () => pipeline.receiver.tallies.has(id), 30_000);
  const seconds = (performance.now() - since) / 1000;
  console.log(`recovered in ${seconds.toFixed(1)} s: ${name}`);
  return seconds;
}

let linesBefore = 0;
async function nothingLost(): Promise<void> {
  await loading;
  await settled(pipeline, 40_000);
  const { losses, repeated } = await reckon(pipeline, load.accepted, []);
  const problems = pipeline.problems();
  const lines = problems.length - linesBefore;
  linesBefore = problems.length;
  console.log({ accepted: load.accepted.size, repeated, lines });
  expect(losses.slice(0, 10)).toEqual([]);
  expect(lines).toBeLessThan(MOST_LINES);
  expect(pipeline.running()).toHaveLength(PROCESSES);
}

test("connections are reset, again and again", async () => {
  await underLoad(400);
  for (let i = 0; i < 20; i++) {
    proxy.cut();
    await sleep(150);
  }
  expect(await recovery("connections reset", performance.now())).toBeLessThan(
    3,
  );
  await nothingLost();
});

test("connections are refused for seconds", async () => {
  await underLoad(400);
  proxy.set("refuse");
  await sleep(5000);
  proxy.set("pass");
  expect(await recovery("refused for 5 s", performance.now())).toBeLessThan(5);
  await nothingLost();
});

test("connections are black holes: found out within 10 s", async () => {
  await underLoad(400);
  const since = performance.now();
  proxy.set("holes");
  proxy.set("pass"); // for new connections
  expect(await recovery("black-holed connections", since)).toBeLessThan(13);
  await nothingLost();
});

test("the server restarts with its append-only file", async () => {
  await underLoad(500);
  await pipeline.stack.redis.stop();
  await sleep(1000);
  await pipeline.stack.redis.start();
  expect(await recovery("restart", performance.now())).toBeLessThan(5);
  await nothingLost();
});

test("the server is killed and comes back with its append-only file", async () => {
  await underLoad(500);
  await pipeline.stack.redis.stop("SIGKILL");
  await pipeline.stack.redis.start();
  expect(await recovery("kill -9", performance.now())).toBeLessThan(5);
  await nothingLost();
});

test("both consumer groups are destroyed", async () => {
  await underLoad(400);
  const { redis, keys } = pipeline;
  const since = performance.now();
  await redis.xgroup("DESTROY", keys.stream, "dispatchers");
  await redis.xgroup("DESTROY", keys.log, "recorders");
  expect(await recovery("groups destroyed", since)).toBeLessThan(3);
  await nothingLost();
});

test("memory is full: ingest says 503, what is in gets out", async () => {
  const { redis } = pipeline;
  await underLoad(400);
  const ids = await Promise.all(
    Array.from({ length: 400 }, () => pipeline.xadd("/slow/200")),
  );
  await redis.config("SET", "maxmemory", 1);
  const refused = await pipeline.post("", {
    payload: { n: 1 },
    webhookUrl: `${pipeline.receiver.url}/ok`,
  });
  expect(refused.status).toBe(503);
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(await redis.xlen(pipeline.keys.stream)).toBeGreaterThan(100);
  await settled(pipeline, 30_000);
  const { tallies } = pipeline.receiver;
  expect(ids.filter((id) => !tallies.has(id))).toEqual([]);

  const since = performance.now();
  await redis.config("SET", "maxmemory", 0);
  await until("ingest takes deliveries again", () => pipeline.submit("/ok"));
  expect(await recovery("out of memory", since)).toBeLessThan(2);
  await nothingLost();
});
