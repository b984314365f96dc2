// A rolling deploy under load: every process is replaced, nothing is lost and nothing is sent twice.
import { createLogger } from "@pipeline/shared/logger";
import { serviceEnvironment } from "@pipeline/dev-stack/services";
import { afterEach, expect, inject, test } from "vitest";
import { createApp } from "../../services/dispatcher/src/app.ts";
import { readConfig } from "../../services/dispatcher/src/config.ts";
import { createLoad, reckon, settled } from "../support/chaos.ts";
import {
  type Pipeline,
  QUICK,
  startPipeline,
} from "../support/crash-pipeline.ts";
import { createRandom } from "../support/seed.ts";

const ROUNDS = 4;
const GRACE_MS = Number(QUICK.SHUTDOWN_GRACE_MS);

let pipeline: Pipeline;
afterEach(() => pipeline.stop());

async function consumers(): Promise<number> {
  const { redis, keys } = pipeline;
  const groups = [
    await redis.xinfo("CONSUMERS", keys.stream, "dispatchers"),
    await redis.xinfo("CONSUMERS", keys.log, "recorders"),
  ] as unknown[][];
  return groups.flat().length;
}

test("SIGTERM under load: exit 0 within the grace, nothing lost, nothing sent twice", async () => {
  pipeline = await startPipeline({
    ingest: 2,
    dispatcher: 2,
    "retry-scheduler": 2,
    // Slow machines must not look like dead processes here: a claim would be a repeat.
    env: { LOG_LEVEL: "warn", CLAIM_IDLE_MS: "20000" },
  });
  await pipeline.startServices();
  const load = createLoad(pipeline, createRandom(inject("seed")));
  const loading = load.run(Infinity, 100);
  const longest: Record<string, number> = {};
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of ["dispatcher", "ingest", "retry-scheduler"] as const) {
      const [old] = pipeline.running(name);
      await pipeline.start(name);
      const startedAt = performance.now();
      expect([name, await old!.stop("SIGTERM")]).toEqual([name, 0]);
      const ms = performance.now() - startedAt;
      longest[name] = Math.max(longest[name] ?? 0, Math.round(ms));
    }
  }
  load.stop();
  await loading;
  await settled(pipeline, 15_000);
  const { losses, repeated } = await reckon(pipeline, load.accepted, []);
  console.log({ accepted: load.accepted.size, longest, repeated });
  expect(losses.slice(0, 10)).toEqual([]);
  expect(repeated).toBe(0);
  expect(Math.max(...Object.values(longest))).toBeLessThan(GRACE_MS);
  // Two dispatchers, each in both groups.
  expect(await consumers()).toBeLessThanOrEqual(4);
}, 120_000);

test("a hundred dispatchers that came and went leave no consumers behind", async () => {
  pipeline = await startPipeline();
  const environment = await serviceEnvironment(pipeline.stack, {
    ...QUICK,
    METRICS_PORT: "0",
    LOG_LEVEL: "silent",
  });
  const config = readConfig(environment);
  const live = async () => {
    const app = createApp(config, createLogger("dispatcher", "silent"));
    await app.start();
    const id = await pipeline.xadd("/ok");
    await expect
      .poll(() => pipeline.receiver.tallies.has(id), { timeout: 10_000 })
      .toBe(true);
    await app.stop();
  };
  for (let n = 0; n < 20; n++)
    await Promise.all(Array.from({ length: 5 }, live));
  expect(await consumers()).toBe(0);
}, 120_000);
