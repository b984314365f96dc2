// Long attempts and stalled processes: one owner at a time, one retry chain, one log row per attempt.
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { settled } from "../support/chaos.ts";
import {
  type Pipeline,
  QUICK,
  startPipeline,
} from "../support/crash-pipeline.ts";
import { until } from "../support/until.ts";

const CLAIM_MS = Number(QUICK.CLAIM_IDLE_MS);

let pipeline: Pipeline;
beforeAll(async () => {
  pipeline = await startPipeline({
    env: { ATTEMPT_TIMEOUT_MS: "20000", LOG_LEVEL: "warn" },
  });
  await pipeline.start("retry-scheduler");
});
afterAll(() => pipeline.stop());
afterEach(async () => {
  const dispatchers = pipeline.running("dispatcher");
  await Promise.all(dispatchers.map((service) => service.stop("SIGKILL")));
});

const requestsOf = (id: string) =>
  pipeline.receiver.tallies.get(id)?.requestedAt.length ?? 0;
const attemptsOf = async (id: string) =>
  (await pipeline.attempts(id)).map(({ attempt_number }) => attempt_number);

test("an attempt that takes longer than the claim idle time stays with its dispatcher", async () => {
  await pipeline.start("dispatcher");
  await pipeline.start("dispatcher");
  const ids = await Promise.all(
    Array.from({ length: 10 }, () =>
      pipeline.xadd(`/slow/${CLAIM_MS * 2 + 1000}`),
    ),
  );
  await settled(pipeline, 30_000);
  expect(ids.map(requestsOf)).toEqual(ids.map(() => 1));
});

/** Sends one delivery, stops its dispatcher in the middle of the attempt until another has finished it, and lets go. */
async function stall(path: string, isDone: (id: string) => Promise<boolean>) {
  const stalled = await pipeline.start("dispatcher");
  const id = await pipeline.xadd(path);
  await until("the attempt runs", () => requestsOf(id) === 1);
  stalled.child.kill("SIGSTOP");
  await pipeline.start("dispatcher");
  await until("another has taken it over", () => requestsOf(id) > 1);
  await until("another has finished it", () => isDone(id));
  stalled.child.kill("SIGCONT");
  // It must have seen its answer, and lost: only then is there something to prove.
  await until("the stalled one is back", async () => {
    const response = await fetch(`${stalled.url}/metrics`);
    return /webhook_in_flight 0/.test(await response.text());
  });
  await settled(pipeline, 30_000);
  return id;
}

test("a dispatcher stopped past the idle time and let go again: a success counts once", async () => {
  const id = await stall(
    "/slow/600",
    async (id) => (await pipeline.row(id))?.status === "success",
  );
  expect(await pipeline.row(id)).toMatchObject({
    status: "success",
    attempt: 1,
  });
  expect(await attemptsOf(id)).toEqual([1]);
  expect(requestsOf(id)).toBe(2);
});

test("a dispatcher stopped past the idle time and let go again: failures start no second retry chain", async () => {
  const id = await stall(
    "/slow-500/600",
    async (id) => (await pipeline.row(id))?.status === "failed",
  );
  expect(await pipeline.row(id)).toMatchObject({
    status: "failed",
    attempt: 4,
  });
  expect(await attemptsOf(id)).toEqual([1, 2, 3, 4]);
  // The first attempt twice, by both; the others once.
  expect(requestsOf(id)).toBe(5);
  const letters = await pipeline.redis.xrange(pipeline.keys.dead, "-", "+");
  expect(letters.filter(([, fields]) => fields.includes(id))).toHaveLength(1);
});

test("a dispatcher stopped between reading and sending, and let go when all is over, sends nothing", async () => {
  const { redis, keys } = pipeline;
  const stalled = await pipeline.start("dispatcher");
  const ids: string[] = [];
  // Stopped while it waits in a blocking read: Redis then hands it an entry that it cannot see. It may take several tries.
  await until("it has read without knowing", async () => {
    stalled.child.kill("SIGSTOP");
    ids.push(await pipeline.xadd("/ok"));
    const [pending] = await redis.xpending(keys.stream, "dispatchers");
    if (Number(pending) > 0) return true;
    stalled.child.kill("SIGCONT");
    await settled(pipeline, 30_000);
    return false;
  });
  await pipeline.start("dispatcher");
  await until("another has sent them", () =>
    ids.every((id) => requestsOf(id) === 1),
  );
  await settled(pipeline, 30_000);
  stalled.child.kill("SIGCONT");
  const marker = await pipeline.xadd("/ok");
  await until("it has come back", () => requestsOf(marker) === 1);
  await until("it answers", async () => {
    const response = await fetch(`${stalled.url}/metrics`);
    return /webhook_in_flight 0/.test(await response.text());
  });
  await settled(pipeline, 30_000);
  expect(ids.map(requestsOf)).toEqual(ids.map(() => 1));
});
