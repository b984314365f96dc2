// A Redis that has forgotten: everything, or its last second. Postgres knows what is unfinished, so it comes back.
// What was added with XADD and not attempted yet is only in Redis; this is about what ingest has answered 202 for.
import { mkdtemp, readdir, rm, stat, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, inject, test } from "vitest";
import { createLoad, type Load, reckon, settled } from "../support/chaos.ts";
import { type Pipeline, startPipeline } from "../support/crash-pipeline.ts";
import { createRandom } from "../support/seed.ts";
import { until } from "../support/until.ts";

const TOTAL = 800;
const PROCESSES = 4;
const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp();
});

async function setUp(
  options: Parameters<typeof startPipeline>[0] = {},
): Promise<{ pipeline: Pipeline; load: Load }> {
  const env = { LOG_LEVEL: "warn", DISPATCHER_CONCURRENCY: "8" };
  const pipeline = await startPipeline({ dispatcher: 2, env, ...options });
  cleanUps.push(pipeline.stop);
  await pipeline.startServices();
  return {
    pipeline,
    load: createLoad(pipeline, createRandom(inject("seed")), ["api"]),
  };
}

async function nothingLost(pipeline: Pipeline, load: Load): Promise<void> {
  // Redis may have no work although a row has lost its entry: reconcile finds it when its grace is over.
  await until(
    "every row has ended",
    async () =>
      (await pipeline.allRows()).every(
        ({ status }) => status !== "pending" && status !== "sent",
      ),
    40_000,
  );
  await settled(pipeline, 40_000);
  const { losses, repeated } = await reckon(pipeline, load.accepted, []);
  const lines = pipeline.problems().length;
  console.log({ accepted: load.accepted.size, repeated, lines });
  expect(losses.slice(0, 10)).toEqual([]);
  expect(load.accepted.size).toBe(TOTAL);
  expect(lines).toBeLessThan(10 * PROCESSES);
  expect(pipeline.running()).toHaveLength(PROCESSES);
}

test("after FLUSHALL in mid-run every unfinished delivery comes back from Postgres", async () => {
  const { pipeline, load } = await setUp();
  const loading = load.run(TOTAL, 200);
  for (const mark of [TOTAL / 4, TOTAL / 2]) {
    await until("some are under way", () => load.accepted.size >= mark);
    const since = performance.now();
    await pipeline.redis.flushall();
    await until("the epoch is back", () =>
      pipeline.redis.exists(pipeline.keys.epoch),
    );
    const seconds = (performance.now() - since) / 1000;
    console.log(`reconciled in ${seconds.toFixed(1)} s: FLUSHALL`);
    expect(seconds).toBeLessThan(10);
  }
  await loading;
  await nothingLost(pipeline, load);
});

test("a Redis that comes back without its last second repeats or reconciles what is missing", async () => {
  const dataDirectory = await mkdtemp(`${tmpdir()}/webhook-crash-`);
  cleanUps.push(() => rm(dataDirectory, { recursive: true, force: true }));
  const { pipeline, load } = await setUp({
    stack: { kind: "processes", dataDirectory },
  });
  const folder = `${dataDirectory}/redis/appendonlydir`;
  const name = (await readdir(folder)).find((file) => file.includes(".incr."));
  const sizeOfLog = async () => (await stat(`${folder}/${name}`)).size;
  const loading = load.run(TOTAL, 200);
  await until("some are under way", () => load.accepted.size >= TOTAL / 2);
  const sizeBefore = await sizeOfLog();
  await sleep(1000);
  await pipeline.stack.redis.stop("SIGKILL");
  const lost = (await sizeOfLog()) - sizeBefore;
  console.log(`${lost} bytes of the append-only file are lost`);
  expect(lost).toBeGreaterThan(10_000);
  await truncate(`${folder}/${name}`, sizeBefore);
  const since = performance.now();
  await pipeline.stack.redis.start();
  await loading;
  await nothingLost(pipeline, load);
  const seconds = (performance.now() - since) / 1000;
  console.log(`all had ended ${seconds.toFixed(1)} s after the restart`);
});
