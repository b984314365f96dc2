import type { StreamEntry } from "@pipeline/shared/queue/group-reader";
import type { Diversion, Turn } from "@pipeline/shared/queue/waiting";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createShare } from "../core/share.ts";
import { createWaitingRoom } from "./waiting-room.ts";

const A = "https://a.test/hook";
const ENDPOINT_ID = "5f0e9c7a-2f0c-4f6e-9a59-0d1f5c0a7b11";
const SLOTS = 8;

const entry = (n: number, url: string): StreamEntry => ({
  entryId: `${n}-1`,
  fields: ["webhook_url", url, "payload", "{}", "webhook_secret", "plain"],
  timesRead: 0,
});

/** `turns`: whose turn it is, `unread`: what the look-ahead finds, both until a test changes them. */
function setUp(found: {
  turns?: Turn[];
  unread?: StreamEntry[];
  hasMore?: boolean;
}) {
  const share = createShare(SLOTS);
  const wake = vi.fn<() => void>();
  const grants: { endpoint: string; count: number }[][] = [];
  const diverted: Diversion[][] = [];
  const calls: string[] = [];
  let now = 1000;
  const room = createWaitingRoom({
    streamKey: "s",
    share,
    originOf: (id) => (id === ENDPOINT_ID ? "https://a.test" : null),
    seal: (text) => `sealed ${text.length}`,
    wake,
    now: () => now,
    wallClock: () => now,
    waiting: {
      turns: async () => {
        calls.push("turns");
        return found.turns ?? [];
      },
      letOut: async (asked) => {
        calls.push("let out");
        grants.push(asked);
        return asked.map(({ count }) => count);
      },
      hold: async () => undefined,
      unread: async () => {
        calls.push("unread");
        return { entries: found.unread ?? [], hasMore: found.hasMore ?? false };
      },
      divert: async (diversions) => {
        diverted.push(diversions);
        return diversions.length;
      },
    },
  });
  return {
    room,
    share,
    wake,
    grants,
    diverted,
    calls,
    found,
    pass: (ms: number) => {
      now += ms;
    },
  };
}

const due = (endpoint: string): Turn => ({ endpoint, heldMs: 0 });

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test("while nobody waits a round is a single look, once a second", async () => {
  const { room, calls } = setUp({});
  await expect(room.runOnce()).resolves.toBe(1000);
  expect(calls).toEqual(["turns"]);
});

test("each endpoint whose turn it is gets what its share has room for, and more if it answers quickly", async () => {
  const { room, grants, share } = setUp({
    turns: [due(A), due("https://b.test/x")],
  });
  share.ask({ endpoint: A, origin: "https://a.test" }, 900);
  share.leave({ endpoint: A, origin: "https://a.test" }, 900, 950, "answered");
  await expect(room.runOnce()).resolves.toBe(100);
  expect(grants).toEqual([
    [
      { endpoint: A, count: 6 + 12 }, // at 50 ms each it takes its share twice before the next round
      { endpoint: "https://b.test/x", count: 1 },
    ],
  ]);
});

test("an endpoint's id counts for the origin that it leads to", async () => {
  const { room, grants, share } = setUp({ turns: [due(ENDPOINT_ID)] });
  share.ask({ endpoint: A, origin: "https://a.test" }, 900);
  await room.runOnce();
  expect(grants).toEqual([]); // the origin is new, and its only attempt is running
});

test("an endpoint without room gets nothing, and Redis is not asked", async () => {
  const { room, calls, share } = setUp({ turns: [due(A)] });
  share.ask({ endpoint: A, origin: "https://a.test" }, 900);
  await room.runOnce();
  expect(calls).toEqual(["turns"]);
});

test("what another dispatcher holds back is held back here as well", async () => {
  const { room, grants, share, pass } = setUp({
    turns: [{ endpoint: A, heldMs: 500 }],
  });
  await room.runOnce();
  expect(grants).toEqual([]);
  const destination = { endpoint: A, origin: "https://a.test" };
  pass(499);
  expect(share.ask(destination, 1499)).toBe("wait");
  expect(share.ask(destination, 1500)).toBe("go");
});

test("the look-ahead begins when a delivery had to wait, and diverts what is for endpoints where others wait, sealed", async () => {
  const { room, diverted, calls } = setUp({
    turns: [due(A)],
    unread: [
      entry(1, `${A}?token=1`),
      entry(2, "https://other.test/"),
      { entryId: "3-1", fields: ["payload", "{}"], timesRead: 0 },
    ],
  });
  await room.runOnce();
  expect(calls).not.toContain("unread");
  room.noteArrival(A);
  await room.runOnce();
  expect(diverted).toHaveLength(1);
  expect(diverted[0]).toMatchObject([
    {
      entryId: "1-1",
      endpoint: A,
      fields: { webhook_url: `${A}?token=1`, payload: "{}" },
    },
  ]);
  expect(diverted[0]![0]!.fields["id"]).toBe(diverted[0]![0]!.deliveryId);
  expect(JSON.stringify(diverted)).not.toContain("plain");
});

test("it goes on as long as it finds something and there is more, and then waits for the next arrival", async () => {
  const { room, calls, found } = setUp({
    turns: [due(A)],
    unread: [entry(1, A)],
    hasMore: true,
  });
  room.noteArrival(A);
  await expect(room.runOnce()).resolves.toBe(10);
  await expect(room.runOnce()).resolves.toBe(10);
  found.unread = [entry(2, "https://other.test/")];
  await expect(room.runOnce()).resolves.toBe(100);
  await room.runOnce();
  const looks = () => calls.filter((call) => call === "unread").length;
  expect(looks()).toBe(3);
  room.noteArrival(A);
  await room.runOnce();
  expect(looks()).toBe(4);
});

test("an endpoint for which nobody waits any more is forgotten", async () => {
  const { room, wake, found, pass } = setUp({ turns: [due(A)] });
  await room.runOnce();
  found.turns = [];
  pass(1);
  await room.runOnce();
  room.noteRoom(A);
  await vi.advanceTimersByTimeAsync(1000);
  expect(wake).not.toHaveBeenCalled();
});

test("an endpoint that has no turn this time, among hundreds, is remembered for a while", async () => {
  const { room, wake, found, pass } = setUp({ turns: [due(A)] });
  await room.runOnce();
  found.turns = Array.from({ length: 100 }, (_, n) =>
    due(`https://host${n}.test/`),
  );
  pass(5000);
  await room.runOnce();
  room.noteRoom(A);
  await vi.advanceTimersByTimeAsync(10);
  expect(wake).toHaveBeenCalledOnce();
  pass(5001);
  await room.runOnce();
  room.noteRoom(A);
  await vi.advanceTimersByTimeAsync(1000);
  expect(wake).toHaveBeenCalledOnce();
});

test("room at an endpoint where others wait ends the wait, once for all that frees within 10 ms", async () => {
  const { room, wake } = setUp({ turns: [due(A)] });
  await room.runOnce();
  room.noteRoom("https://other.test/");
  for (let n = 0; n < 20; n++) room.noteRoom(A);
  await vi.advanceTimersByTimeAsync(9);
  expect(wake).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  expect(wake).toHaveBeenCalledOnce();
  room.noteArrival(A);
  await vi.advanceTimersByTimeAsync(10);
  expect(wake).toHaveBeenCalledTimes(2);
});
