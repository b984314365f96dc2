// What a stack without work asks of Redis.
import { setTimeout as sleep } from "node:timers/promises";
import { startStack } from "@pipeline/dev-stack/start-stack";
import { Redis } from "ioredis";
import { expect, inject, onTestFinished, test } from "vitest";
import { createProcesses } from "../support/processes.ts";

const SECONDS = 15; // three calls of the promote script

test("one process of each service makes Redis execute fewer than ten commands a second", async () => {
  // A stack of its own: the rows that other tests leave behind are work for this one's reconcile.
  const stack = await startStack({ kind: inject("stack").kind });
  onTestFinished(() => stack.stop());
  const services = createProcesses(stack, {});
  onTestFinished(async () => {
    await services.stopAll();
  });
  const redis = new Redis(stack.redisUrl);
  onTestFinished(() => redis.disconnect());
  /** Commands that scripts execute are counted too. */
  const calls = async () => {
    const stats = await redis.info("commandstats");
    return new Map(
      Array.from(stats.matchAll(/cmdstat_(\S+?):calls=(\d+)/g), (match) => [
        match[1]!,
        Number(match[2]),
      ]),
    );
  };

  await services.startEach({ ingest: 1, dispatcher: 1, "retry-scheduler": 1 });
  await sleep(4000); // what starting takes is not idle
  const before = await calls();
  await sleep(SECONDS * 1000);
  const made = Array.from(await calls(), ([command, count]) => ({
    command,
    count: count - (before.get(command) ?? 0),
  })).filter(({ command, count }) => command !== "info" && count > 0);
  const perSecond = made.reduce((sum, { count }) => sum + count, 0) / SECONDS;
  const list = made.map(({ command, count }) => `${command} ${count}`);
  console.log(`${perSecond} commands/s: ${list.join(", ")}`);
  expect(perSecond, list.join(", ")).toBeLessThan(10);
});
