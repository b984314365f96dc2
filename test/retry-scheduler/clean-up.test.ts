import { createLogger } from "@pipeline/shared/logger";
import { createDeadLetters } from "@pipeline/shared/queue/dead-letters";
import { createIdleConsumers } from "@pipeline/shared/queue/idle-consumers";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { createCleanUp } from "../../services/retry-scheduler/src/clean-up.ts";
import { createQueue, type Queue } from "../support/queue.ts";
import { startTestRedis, type TestRedis } from "../support/redis-server.ts";
import { until } from "../support/until.ts";

let server: TestRedis;
let queue: Queue;
beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  queue = await createQueue(server.url);
  return queue.close;
});

test("removes consumers of processes that are gone and keeps the others", async () => {
  const owner = await queue.inFlight("owner");
  await queue.redis.xgroup(
    "CREATECONSUMER",
    queue.keys.stream,
    "dispatchers",
    "idle",
  );
  const { redis, keys } = queue;
  const options = {
    consumers: createIdleConsumers(redis, keys),
    deadLetters: createDeadLetters(redis, keys),
    logger: createLogger("test", "silent"),
    intervalMs: 1,
    deadRetentionDays: 30,
  };
  const names = async () =>
    (
      (await redis.xinfo("CONSUMERS", keys.stream, "dispatchers")) as string[][]
    ).map((flat) => flat[1]);
  await createCleanUp(options).runOnce();
  expect(await names()).toEqual(["idle", "owner"]);
  await until(
    "the idle one is removed",
    async () => {
      await createCleanUp({ ...options, consumerIdleMs: 1 }).runOnce();
      return (await names()).join() === "owner";
    },
    1000,
  );
  expect(await queue.owners()).toEqual({ [owner.entryId]: "owner" });
  await redis.del(keys.stream, keys.log);
  expect(await createCleanUp(options).runOnce()).toBe(1);
});

test("trims dead letters that are older than they are kept, and no others", async () => {
  const { redis, keys } = queue;
  const monthAgo = Date.now() - 31 * 86_400_000;
  // Trimming is approximate: whole nodes of 100 entries go.
  for (let n = 0; n < 150; n++)
    await redis.xadd(keys.dead, monthAgo + n, "id", "old");
  await redis.xadd(keys.dead, "*", "id", "new");
  await createCleanUp({
    consumers: createIdleConsumers(redis, keys),
    deadLetters: createDeadLetters(redis, keys),
    logger: createLogger("test", "silent"),
    intervalMs: 1,
    deadRetentionDays: 30,
  }).runOnce();
  const left = await queue.dead();
  expect(left.length).toBeLessThanOrEqual(51);
  expect(left.at(-1)?.fields).toEqual({ id: "new" });
});
