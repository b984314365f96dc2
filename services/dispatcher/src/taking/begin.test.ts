import { createLogger } from "@pipeline/shared/logger";
import { expect, test } from "vitest";
import { createBegin } from "./begin.ts";
import { SAMPLE_DELIVERY as delivery } from "../sample-delivery.ts";

const HORIZON_MS = 3_600_000;

function setUp(options: {
  ratePerSecond?: number | null;
  /** What `reserve` answers, by turns. */
  delays?: (number | null | Error)[];
  isReady?: boolean;
  isReserved?: boolean;
}) {
  const { ratePerSecond = 25, isReady = true, isReserved = false } = options;
  const delays = options.delays ?? [0];
  const stopping = new AbortController();
  const calls: unknown[][] = [];
  const begin = createBegin({
    endpointRatePerSecond: ratePerSecond,
    logger: createLogger("test", "silent"),
    signal: stopping.signal,
    limits: {
      reserve: async (...request) => {
        calls.push(["reserve", ...request]);
        const delay = delays.shift()!;
        if (delay instanceof Error) throw delay;
        return delay;
      },
    },
    deliver: async ({ entryId }, onSend) => {
      calls.push(["deliver", entryId]);
      onSend();
      return "answered";
    },
    defer: async ({ entryId }, delayMs, isReserved) => {
      calls.push(["defer", entryId, delayMs, isReserved]);
    },
  });
  return {
    calls,
    stopping,
    begin: () =>
      begin({
        work: {
          entryId: "1-0",
          delivery: { ...delivery, isReserved },
          endpoint: "https://x.test/hook",
          origin: "https://x.test",
          hasWaited: false,
          isParsed: true,
        },
        ready: async () => {
          calls.push(["ready"]);
          return isReady;
        },
        spend: () => {
          calls.push(["spend"]);
        },
        release: () => {
          calls.push(["release"]);
        },
      }),
  };
}

const reserve = ["reserve", "https://x.test/hook", 25, 3, HORIZON_MS];

test("a delivery begins when its endpoint's rate limit lets it through and its token is there", async () => {
  const { calls, begin } = setUp({});
  await expect(begin()).resolves.toBe("answered");
  expect(calls).toEqual([reserve, ["ready"], ["deliver", "1-0"], ["spend"]]);
});

test("without a rate limit for endpoints nothing is reserved", async () => {
  const { calls, begin } = setUp({ ratePerSecond: null });
  await begin();
  expect(calls).toEqual([["ready"], ["deliver", "1-0"], ["spend"]]);
});

test("a delivery whose moment was reserved before is not asked to reserve again", async () => {
  const { calls, begin } = setUp({ isReserved: true });
  await begin();
  expect(calls).toEqual([["ready"], ["deliver", "1-0"], ["spend"]]);
});

test("a delivery whose moment comes later is put off until then, and waits for no token", async () => {
  const { calls, begin } = setUp({ delays: [1500] });
  await expect(begin()).resolves.toBe("not asked");
  expect(calls).toEqual([reserve, ["defer", "1-0", 1500, true]]);
});

test("beyond the horizon nothing is reserved: the delivery is put off and asks anew", async () => {
  const { calls, begin } = setUp({ delays: [null] });
  await expect(begin()).resolves.toBe("not asked");
  expect(calls).toEqual([reserve, ["defer", "1-0", HORIZON_MS, false]]);
});

test("a delivery without a token when the dispatcher stops is neither sent nor put off", async () => {
  const { calls, begin } = setUp({ isReady: false });
  await expect(begin()).resolves.toBe("not asked");
  expect(calls).toEqual([reserve, ["ready"]]);
});

test("a reservation that fails is repeated", async () => {
  const { calls, begin } = setUp({ delays: [new Error("away"), 0] });
  await expect(begin()).resolves.toBe("answered");
  expect(calls).toEqual([
    reserve,
    reserve,
    ["ready"],
    ["deliver", "1-0"],
    ["spend"],
  ]);
});

test("a delivery that cannot reserve when the dispatcher stops is left as it is", async () => {
  const { calls, begin, stopping } = setUp({ delays: [new Error("away")] });
  const begun = begin();
  stopping.abort();
  await expect(begun).resolves.toBe("not asked");
  expect(calls).toEqual([reserve]);
});
