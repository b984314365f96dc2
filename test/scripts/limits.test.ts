import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { useQueue } from "../support/queue.ts";

const queue = useQueue();

describe("lease", () => {
  test("grants the burst at once, then nothing until tokens have grown", async () => {
    expect(await queue().limits.lease(10, 5, 100, 1)).toMatchObject({
      granted: 5,
    });
    const { granted, waitMs } = await queue().limits.lease(10, 5, 100, 1);
    expect(granted).toBe(0);
    expect(waitMs).toBeGreaterThan(50);
    expect(waitMs).toBeLessThanOrEqual(100);
    await sleep(waitMs);
    expect(await queue().limits.lease(10, 5, 100, 1)).toMatchObject({
      granted: 1,
    });
  });

  test("grants no more than is wanted and keeps the rest", async () => {
    expect(await queue().limits.lease(1, 5, 2, 1)).toMatchObject({
      granted: 2,
    });
    expect(await queue().limits.lease(1, 5, 9, 1)).toMatchObject({
      granted: 3,
    });
  });

  test("tells when a batch will be there, and no more than the burst can ever be", async () => {
    await queue().limits.lease(100, 10, 10, 1);
    const { waitMs } = await queue().limits.lease(100, 10, 10, 5);
    expect(waitMs).toBeGreaterThan(30);
    expect(waitMs).toBeLessThanOrEqual(50);
    const whole = await queue().limits.lease(100, 10, 10, 1000);
    expect(whole.waitMs).toBeLessThanOrEqual(100);
  });

  test("many callers together get the rate and the burst, no more", async () => {
    const startedAt = performance.now();
    let granted = 0;
    while (performance.now() - startedAt < 500) {
      const leases = await Promise.all(
        Array.from({ length: 5 }, () => queue().limits.lease(200, 10, 3, 1)),
      );
      granted += leases.reduce((sum, lease) => sum + lease.granted, 0);
      await sleep(2);
    }
    const seconds = (performance.now() - startedAt) / 1000;
    expect(granted).toBeLessThanOrEqual(10 + 200 * seconds + 1);
    expect(granted).toBeGreaterThanOrEqual(Math.floor(200 * seconds * 0.9));
  });

  test("a clock that stepped back grants nothing and does not stop for long", async () => {
    const future = Date.now() + 3_600_000;
    await queue().redis.hset(
      queue().keys.bucket,
      "tokens",
      "0",
      "at",
      String(future),
    );
    expect(await queue().limits.lease(10, 5, 5, 1)).toMatchObject({
      granted: 0,
      waitMs: 100,
    });
    await sleep(110);
    expect((await queue().limits.lease(10, 5, 5, 1)).granted).toBe(1);
  });
});

describe("reserve", () => {
  test("lets the burst through at once and spaces what follows exactly", async () => {
    const delays = [];
    for (let n = 0; n < 5; n++)
      delays.push(await queue().limits.reserve("e", 10, 2, 10_000));
    const [first, second, third, fourth, fifth] = delays as [
      number,
      number,
      number,
      number,
      number,
    ];
    expect([first, second]).toEqual([0, 0]);
    expect(third).toBeGreaterThan(70);
    expect(third).toBeLessThanOrEqual(100);
    expect(fourth - third).toBeGreaterThan(70);
    expect(fifth).toBeLessThanOrEqual(300);
  });

  test("reserves nothing beyond the horizon", async () => {
    expect(await queue().limits.reserve("e", 1, 1, 1500)).toBe(0);
    expect(await queue().limits.reserve("e", 1, 1, 1500)).toBeGreaterThan(900);
    expect(await queue().limits.reserve("e", 1, 1, 1500)).toBeNull();
    expect(await queue().limits.reserve("e", 1, 1, 1500)).toBeNull();
    expect(await queue().limits.reserve("other", 1, 1, 1500)).toBe(0);
    const bucket = queue().keys.endpointBucket("e");
    expect(await queue().redis.pttl(bucket)).toBeGreaterThan(0);
  });

  test("starts over when the clock has stepped back", async () => {
    const future = Date.now() + 3_600_000;
    await queue().redis.set(queue().keys.endpointBucket("e"), String(future));
    expect(await queue().limits.reserve("e", 10, 1, 1500)).toBe(0);
    expect(await queue().limits.reserve("e", 10, 1, 1500)).toBeGreaterThan(50);
  });

  test("forgets an endpoint that has been quiet", async () => {
    await queue().limits.reserve("e", 100, 1, 1000);
    const ttl = await queue().redis.pttl(queue().keys.endpointBucket("e"));
    expect(ttl).toBeGreaterThan(0);
    expect(ttl).toBeLessThanOrEqual(1020);
  });
});
