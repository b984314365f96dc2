import { afterEach, expect, inject, test } from "vitest";
import { createKiller, createLoad, reckon, settled } from "../support/chaos.ts";
import {
  type Pipeline,
  QUICK,
  startPipeline,
} from "../support/crash-pipeline.ts";
import { createRandom } from "../support/seed.ts";

let pipeline: Pipeline;
afterEach(() => pipeline.stop());

test("kill -9 of any service under load loses nothing and repeats only what was in flight", async () => {
  pipeline = await startPipeline({
    ingest: 2,
    dispatcher: 2,
    "retry-scheduler": 2,
    env: { LOG_LEVEL: "warn" },
  });
  await pipeline.startServices();
  const load = createLoad(pipeline, createRandom(inject("seed")));
  const killer = createKiller(pipeline, createRandom(inject("seed"), "killer"));
  const killing = killer.run(1000);
  await load.run(2400, 120);
  await killer.stop();
  await killing;
  await settled(pipeline, 40_000);

  const { losses, repeated, ...summary } = await reckon(
    pipeline,
    load.accepted,
    killer.kills,
  );
  console.log({ ...summary, repeated, losses: losses.length });
  expect(losses.slice(0, 20)).toEqual([]);
  expect(load.accepted.size).toBe(2400);
  // A dispatcher has at most this many attempts in flight when it is killed.
  const inFlight = Number(QUICK.DISPATCHER_CONCURRENCY);
  const dispatchers = summary.kills["dispatcher"] ?? 0;
  expect(repeated).toBeLessThanOrEqual(dispatchers * inFlight);
  expect(killer.kills.length).toBeGreaterThan(8);
}, 150_000);
