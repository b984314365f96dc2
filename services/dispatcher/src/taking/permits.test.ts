import { createLogger } from "@pipeline/shared/logger";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createShare, type EndpointHealth } from "../core/share.ts";
import { createTraffic } from "../core/traffic.ts";
import type { Work } from "../core/work.ts";
import type { Limiter } from "./limiter.ts";
import { createPermits, type Permit } from "./permits.ts";
import { SAMPLE_DELIVERY as delivery } from "../sample-delivery.ts";

const work = (entryId: string, endpoint = "a"): Work => ({
  entryId,
  delivery,
  endpoint,
  origin: endpoint,
  hasWaited: false,
  isParsed: true,
});

/** An attempt under way, for the test to end. */
interface Begun {
  permit: Permit;
  end: (health: EndpointHealth) => Promise<void>;
  fail: (error: Error) => Promise<void>;
}

/** Lets what was settled run its course. */
const settle = () => vi.advanceTimersByTimeAsync(0);

function setUp(slots: number, failsToWait = false) {
  const stopping = new AbortController();
  const logger = createLogger("test", "silent");
  const begun = new Map<string, Begun>();
  const waiting: string[] = [];
  const rooms: string[] = [];
  const tokens = { asked: 0, givenBack: 0 };
  let now = 1_000_000;
  const limiter: Limiter = {
    take: async (want) => want,
    insist: async (want, signal) => {
      tokens.asked += want;
      return signal.aborted ? 0 : want;
    },
    giveBack: (count) => {
      tokens.givenBack += count;
    },
    isFresh: () => true,
  };
  const permits = createPermits({
    traffic: createTraffic<Work>(slots, createShare(slots)),
    limiter,
    deliver: (permit) =>
      new Promise((resolve, reject) => {
        begun.set(permit.work.entryId, {
          permit,
          end: async (health) => {
            resolve(health);
            await settle();
          },
          fail: async (error) => {
            reject(error);
            await settle();
          },
        });
      }),
    wait: async ({ entryId }) => {
      if (failsToWait) throw new Error("could not be settled");
      waiting.push(entryId);
    },
    onRoom: (endpoint) => {
      rooms.push(endpoint);
    },
    logger,
    signal: stopping.signal,
    now: () => now,
  });
  return {
    permits,
    begun,
    waiting,
    rooms,
    tokens,
    logger,
    stopping,
    pass: (ms: number) => {
      now += ms;
    },
    attempt: (entryId: string) => begun.get(entryId)!,
  };
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Two endpoints with one slot each: the second work of "a" finds its endpoint's only slot taken. */
function withOneParked() {
  const all = setUp(5);
  all.permits.offer(work("b-1", "b"));
  all.permits.offer(work("a-1"));
  all.permits.offer(work("a-2"));
  return all;
}

test("work that may go begins at once, and holds a slot until its attempt has ended", async () => {
  const { permits, attempt } = setUp(5);
  permits.offer(work("1"));
  expect(permits.has("1")).toBe(true);
  expect([permits.free(), permits.running()]).toEqual([4, 1]);
  await attempt("1").end("answered");
  expect(permits.has("1")).toBe(false);
  expect([permits.free(), permits.running()]).toEqual([5, 0]);
});

test("a token that was not spent is given back when the attempt has ended", async () => {
  const { permits, attempt, tokens } = setUp(5);
  permits.offer(work("1"));
  expect(tokens.givenBack).toBe(0);
  await attempt("1").end("not asked");
  expect(tokens).toEqual({ asked: 0, givenBack: 1 });
});

test("a token that was spent is not given back", async () => {
  const { permits, attempt, tokens } = setUp(5);
  permits.offer(work("1"));
  attempt("1").permit.spend();
  await attempt("1").end("answered");
  expect(tokens.givenBack).toBe(0);
});

test("a permit that is released again gives nothing back, not even when its entry has a new one", async () => {
  const { permits, attempt, tokens } = setUp(5);
  permits.offer(work("1"));
  const first = attempt("1");
  first.permit.release("not asked");
  permits.offer(work("1"));
  await first.end("answered");
  expect(tokens.givenBack).toBe(1);
  expect([permits.free(), permits.running()]).toEqual([4, 1]);
});

test("the token at hand makes a permit ready without asking for another", async () => {
  const { permits, attempt, tokens } = setUp(5);
  permits.offer(work("1"));
  await expect(attempt("1").permit.ready()).resolves.toBe(true);
  expect(tokens.asked).toBe(0);
});

test("work that is parked gives its token back and takes a slot, but does not begin", () => {
  const { permits, begun, tokens } = withOneParked();
  expect([...begun.keys()]).toEqual(["b-1", "a-1"]);
  expect(permits.has("a-2")).toBe(true);
  expect([permits.free(), permits.running()]).toEqual([2, 2]);
  expect(tokens.givenBack).toBe(1);
});

test("parked work begins when its endpoint's slot is free, with a token of its own", async () => {
  const { permits, attempt, begun, tokens } = withOneParked();
  attempt("b-1").permit.spend();
  await attempt("b-1").end("answered");
  expect(begun.has("a-2")).toBe(false);

  attempt("a-1").permit.spend();
  await attempt("a-1").end("answered");
  expect(begun.has("a-2")).toBe(true);
  expect([permits.free(), permits.running()]).toEqual([4, 1]);
  await expect(attempt("a-2").permit.ready()).resolves.toBe(true);
  await expect(attempt("a-2").permit.ready()).resolves.toBe(true);
  expect(tokens).toEqual({ asked: 1, givenBack: 1 });
});

test("parked work that ends before it has a token gives none back", async () => {
  const { attempt, tokens } = withOneParked();
  attempt("a-1").permit.spend();
  await attempt("a-1").end("answered");
  await attempt("a-2").end("not asked");
  expect(tokens.givenBack).toBe(1); // when it was parked
});

test("a permit without a token is not ready when the dispatcher stops", async () => {
  const { attempt, stopping } = withOneParked();
  await attempt("a-1").end("answered");
  stopping.abort();
  await expect(attempt("a-2").permit.ready()).resolves.toBe(false);
});

test("work that goes to its waiting list holds its slot until it is there, and gives back its token", async () => {
  const { permits, waiting, tokens, begun, pass } = setUp(5);
  permits.offer(work("b-1", "b"));
  permits.offer(work("a-1"));
  pass(2000); // overdue: the endpoint seems to hang
  permits.offer(work("a-2"));
  expect(permits.running()).toBe(3);
  await settle();
  expect(waiting).toEqual(["a-2"]);
  expect(begun.has("a-2")).toBe(false);
  expect(tokens.givenBack).toBe(1);
  expect([permits.free(), permits.running()]).toEqual([3, 2]);
});

test("work that could not be put into its waiting list frees its slot and is logged as an error", async () => {
  const { permits, pass, logger, tokens } = setUp(5, true);
  const logged = vi.spyOn(logger, "error");
  permits.offer(work("a-1"));
  pass(2000);
  permits.offer(work("a-2"));
  await settle();
  expect(permits.has("a-2")).toBe(false);
  expect(tokens.givenBack).toBe(1);
  expect(logged).toHaveBeenCalledOnce();
});

test("an attempt that has ended tells that its endpoint has room", async () => {
  const { permits, attempt, rooms } = setUp(5);
  permits.offer(work("1"));
  expect(rooms).toEqual([]);
  await attempt("1").end("answered");
  expect(rooms).toEqual(["a"]);
});

test("a sweep sends the parked work of an endpoint whose first answer is slow to its waiting list, and no token is given back for it", async () => {
  const { permits, waiting, tokens, pass } = withOneParked();
  permits.sweep();
  await settle();
  expect(waiting).toEqual([]);
  pass(251);
  permits.sweep();
  await settle();
  expect(waiting).toEqual(["a-2"]);
  expect(permits.has("a-2")).toBe(false);
  expect(permits.free()).toBe(3);
  expect(tokens.givenBack).toBe(1); // when it was parked
});

test("the slots of attempts that are overdue are free for others, and whoever waits for slots is told", async () => {
  const { permits, pass } = setUp(2);
  permits.offer(work("a-1"));
  expect(permits.free()).toBe(1);
  const ended = vi.fn<() => void>();
  void permits.waitFor(2, 1000).then(ended);
  pass(1001);
  permits.sweep();
  await settle();
  expect(permits.free()).toBe(2);
  expect(permits.running()).toBe(1);
  expect(ended).toHaveBeenCalledOnce();
});

test("a delivery that rejects frees its slot, gives its token back and is logged as an error", async () => {
  const { permits, attempt, tokens, logger } = setUp(5);
  const logged = vi.spyOn(logger, "error");
  const fault = new Error("could not be settled");
  permits.offer(work("1"));
  await attempt("1").fail(fault);
  expect(permits.free()).toBe(5);
  expect(tokens.givenBack).toBe(1);
  expect(logged.mock.calls).toEqual([
    [{ err: fault, deliveryId: "d-1", entryId: "1" }, "delivery.faulted"],
  ]);
});

test("a delivery that rejects while the dispatcher stops is no error", async () => {
  const { permits, attempt, logger, stopping } = setUp(5);
  const errors = vi.spyOn(logger, "error");
  const infos = vi.spyOn(logger, "info");
  permits.offer(work("1"));
  stopping.abort();
  await attempt("1").fail(new Error("abandoned"));
  expect(permits.free()).toBe(5);
  expect(errors).not.toHaveBeenCalled();
  expect(infos.mock.calls.map(([, message]) => message)).toEqual([
    "delivery.abandoned",
  ]);
});

test("the wait for slots ends as soon as enough of them are free", async () => {
  const { permits, attempt } = setUp(4);
  permits.offer(work("1"));
  permits.offer(work("2", "b"));
  const ended = vi.fn<() => void>();
  void permits.waitFor(4, 1000).then(ended);
  await attempt("1").end("answered");
  expect(ended).not.toHaveBeenCalled();
  await attempt("2").end("answered");
  expect(ended).toHaveBeenCalledOnce();
});

test("the wait for slots ends at its timeout, and when the dispatcher is stopping it does not begin", async () => {
  const { permits, stopping } = setUp(1);
  permits.offer(work("1"));
  const ended = vi.fn<() => void>();
  void permits.waitFor(1, 1000).then(ended);
  await vi.advanceTimersByTimeAsync(999);
  expect(ended).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  expect(ended).toHaveBeenCalledOnce();
  stopping.abort();
  await expect(permits.waitFor(1, 1000)).resolves.toBeUndefined();
});

test("entries are held from the moment they were offered, whether they run or are parked", () => {
  const { permits, pass } = withOneParked();
  pass(100);
  permits.offer(work("b-2", "c"));
  expect(permits.heldFor(100)).toEqual(["b-1", "a-1", "a-2"]);
  expect(permits.heldFor(101)).toEqual([]);
});

test("parked work that is dropped frees its slot and never begins", async () => {
  const { permits, attempt, begun } = withOneParked();
  permits.dropParked();
  expect(permits.has("a-2")).toBe(false);
  expect(permits.free()).toBe(3);
  await attempt("a-1").end("answered");
  expect(begun.has("a-2")).toBe(false);
});
