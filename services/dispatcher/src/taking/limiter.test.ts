import { createLogger } from "@pipeline/shared/logger";
import { expect, test } from "vitest";
import { createLimiter, unlimited } from "./limiter.ts";

type Answer = { granted: number; waitMs: number } | Error;

function setUp(ratePerSecond: number, answers: Answer[] = []) {
  const leases: number[][] = [];
  const stopping = new AbortController();
  let now = 1_000_000;
  const limiter = createLimiter({
    ratePerSecond,
    logger: createLogger("test", "silent"),
    now: () => now,
    limits: {
      lease: async (...request) => {
        leases.push(request);
        const answer = answers.shift() ?? { granted: request[2], waitMs: 0 };
        if (answer instanceof Error) throw answer;
        return answer;
      },
    },
  });
  return {
    limiter,
    leases,
    stopping,
    take: (want: number) => limiter.take(want, stopping.signal),
    insist: (want: number) => limiter.insist(want, stopping.signal),
    pass: (ms: number) => {
      now += ms;
    },
  };
}

test("tokens are leased from a bucket that holds a tenth of a second's worth", async () => {
  const { take, leases } = setUp(500);
  await expect(take(20)).resolves.toBe(20);
  expect(leases).toEqual([[500, 50, 20, 5]]);
});

test("the slowest rate leases one by one, from a bucket that holds one token", async () => {
  const { take, leases } = setUp(1);
  await take(20);
  expect(leases).toEqual([[1, 1, 20, 1]]);
});

test("it never waits for more tokens than are wanted", async () => {
  const { take, leases } = setUp(1000);
  await take(3);
  expect(leases).toEqual([[1000, 100, 3, 3]]);
});

test("where no token is there it waits and asks again", async () => {
  const { take, leases } = setUp(500, [
    { granted: 0, waitMs: 1 },
    { granted: 2, waitMs: 0 },
  ]);
  await expect(take(20)).resolves.toBe(2);
  expect(leases).toHaveLength(2);
});

test("a wait for tokens ends without any when the dispatcher stops", async () => {
  const { take, stopping } = setUp(500, [{ granted: 0, waitMs: 600_000 }]);
  const taken = take(20);
  stopping.abort();
  await expect(taken).resolves.toBe(0);
  await expect(take(20)).resolves.toBe(0);
});

test("tokens that were given back are taken before any are leased, once", async () => {
  const { limiter, take, leases } = setUp(500);
  limiter.giveBack(3);
  limiter.giveBack(2);
  await expect(take(4)).resolves.toBe(4);
  await expect(take(4)).resolves.toBe(1);
  expect(leases).toEqual([]);
  await take(4);
  expect(leases).toHaveLength(1);
});

test("tokens that were given back are lost after a tenth of a second", async () => {
  const { limiter, take, leases, pass } = setUp(500);
  limiter.giveBack(3);
  pass(101);
  limiter.giveBack(1); // does not bring the lost ones back
  await expect(take(4)).resolves.toBe(1);
  limiter.giveBack(4);
  pass(101);
  await take(4);
  expect(leases).toHaveLength(1);
});

test("tokens are fresh for a tenth of a second", () => {
  const { limiter, pass } = setUp(500);
  pass(100);
  expect(limiter.isFresh(1_000_000)).toBe(true);
  pass(1);
  expect(limiter.isFresh(1_000_000)).toBe(false);
});

test("a lease that fails is an error to those who take, and repeated for those who insist", async () => {
  const fault = new Error("Redis is away");
  const { take, insist, leases } = setUp(500, [fault, fault]);
  await expect(take(2)).rejects.toBe(fault);
  await expect(insist(2)).resolves.toBe(2);
  expect(leases).toHaveLength(3);
});

test("those who insist get no token when the dispatcher stops while Redis is away", async () => {
  const { insist, stopping } = setUp(500, [new Error("Redis is away")]);
  const taken = insist(2);
  stopping.abort();
  await expect(taken).resolves.toBe(0);
});

test("without a rate limit every wish is granted until the dispatcher stops", async () => {
  const stopping = new AbortController();
  await expect(unlimited.take(70, stopping.signal)).resolves.toBe(70);
  expect(unlimited.isFresh(-Infinity)).toBe(true);
  stopping.abort();
  await expect(unlimited.insist(70, stopping.signal)).resolves.toBe(0);
});
