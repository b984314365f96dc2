// Redis full while Supabase is away and an endpoint fails: what is in it must not grow beyond its limit by being worked on,
// and when Supabase is back every delivery ends.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { settled } from "../support/chaos.ts";
import { type Pipeline, startPipeline } from "../support/crash-pipeline.ts";

const MB = 1024 * 1024;
const MAX_MEMORY = 8 * MB;
/** So long Redis refuses more. */
const FULL_MS = 3000;
/** Of the limit. What is in flight at the moment when reading stops still has to go somewhere. */
const MOST = 1.2;

let pipeline: Pipeline;
beforeAll(async () => {
  pipeline = await startPipeline({ dispatcher: 2, env: { LOG_LEVEL: "warn" } });
});
afterAll(() => pipeline.stop());

async function usedMemory(): Promise<number> {
  const info = await pipeline.redis.info("memory");
  const fact = (name: string) =>
    Number(new RegExp(`^${name}:(\\d+)`, "m").exec(info)?.[1]);
  return fact("used_memory") - fact("mem_not_counted_for_evict");
}

/** Samples until told to stop; resolves to the most that was seen. */
async function watchMemory(signal: AbortSignal): Promise<number> {
  let most = 0;
  while (!signal.aborted) {
    most = Math.max(most, await usedMemory());
    await sleep(20);
  }
  return most;
}

/**
 * XADDs to an endpoint that answers and one that fails, as fast as Redis takes it, until Redis has been full for a while.
 * Resolves to what it took, with the status that each must end in.
 */
async function load(payloadBytes: number) {
  const taken = new Map<string, string>();
  const text = "x".repeat(payloadBytes);
  let endAt = Infinity;
  while (performance.now() < endAt) {
    const added = await Promise.allSettled(
      Array.from({ length: 20 }, async (_, n) => {
        const [path, status] =
          n % 2 ? (["/ok", "success"] as const) : (["/500", "failed"] as const);
        const payload = JSON.stringify({ id: randomUUID(), text });
        taken.set(await pipeline.xadd(path, { payload }), status);
      }),
    );
    const isFull = added.some(({ status }) => status === "rejected");
    if (isFull) endAt = Math.min(endAt, performance.now() + FULL_MS);
    await sleep(isFull ? 100 : 5);
  }
  return taken;
}

test("Redis stays within its limit, and everything ends after recovery", async () => {
  const { redis, stack } = pipeline;
  await redis.config("SET", "maxmemory", MAX_MEMORY);
  await pipeline.startServices();
  const watching = new AbortController();
  const watched = watchMemory(watching.signal);
  await stack.postgrest.stop();
  const taken = await load(600);
  // A dispatcher that ends now must be able to come back.
  await pipeline.running("dispatcher")[0]!.stop("SIGKILL");
  await pipeline.start("dispatcher");
  await stack.postgrest.start();
  await settled(pipeline, 240_000);
  watching.abort();
  const most = (await watched) / MAX_MEMORY;
  console.log({ deliveries: taken.size, most: most.toFixed(2) });
  expect(most).toBeLessThan(MOST);
  const rows = new Map(
    (await pipeline.allRows()).map(({ id, status }) => [id, status]),
  );
  const wrong = [...taken].filter(([id, status]) => rows.get(id) !== status);
  expect(wrong).toEqual([]);
}, 400_000);
