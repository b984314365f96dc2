import { setImmediate as nextTurn } from "node:timers/promises";
import { createLogger } from "@pipeline/shared/logger";
import type {
  Burial,
  Settlement,
  SettleResult,
} from "@pipeline/shared/queue/consumer";
import { expect, test } from "vitest";
import { createSettler } from "./settler.ts";

const settlement = (entryId: string): Settlement => ({
  entryId,
  deliveryId: `d-${entryId}`,
  attempt: 1,
  kind: "success",
  delayMs: 0,
  fields: null,
  endpoint: "",
  record: "{}",
});

/** As the Redis client throws what Redis answered. */
function replyError(message: string): Error {
  const error = new Error(message);
  error.name = "ReplyError";
  return error;
}

/** `answer` gets the entry ids of a call and its number, from 1. */
function setUp(
  answer: (
    entryIds: string[],
    call: number,
  ) => Promise<SettleResult[]> | SettleResult[],
  options: { failingBurials?: number } = {},
) {
  const calls: string[][] = [];
  const buried: Burial[] = [];
  let onCall = (): void => undefined;
  const firstCall = new Promise<void>((resolve) => {
    onCall = resolve;
  });
  const settler = createSettler({
    logger: createLogger("test", "silent"),
    now: () => 0,
    queue: {
      bury: async (burial) => {
        buried.push(burial);
        if (buried.length <= (options.failingBurials ?? 0))
          throw replyError("WRONGTYPE Operation against a key");
        return "settled";
      },
      settle: async (settlements) => {
        const entryIds = settlements.map(({ entryId }) => entryId);
        calls.push(entryIds);
        onCall();
        return answer(entryIds, calls.length);
      },
    },
  });
  const settle = (...entryIds: string[]) =>
    entryIds.map((entryId) => settler.settle(settlement(entryId)));
  return { settler, calls, buried, firstCall, settle };
}

const allSettled = (entryIds: string[]) =>
  entryIds.map((): SettleResult => "settled");
const names = (count: number) =>
  Array.from({ length: count }, (_, i) => `${i}`);

test("settlements made at the same time go in one call, and each gets its own answer", async () => {
  const { calls, settle } = setUp(() => ["settled", "stale", "late"]);
  await expect(Promise.all(settle("1", "2", "3"))).resolves.toEqual([
    "settled",
    "stale",
    "late",
  ]);
  expect(calls).toEqual([["1", "2", "3"]]);
});

test("a call settles at most 100", async () => {
  const { calls, settle } = setUp(allSettled);
  await Promise.all(settle(...names(250)));
  expect(calls.map(({ length }) => length)).toEqual([100, 100, 50]);
  expect(calls.flat()).toEqual(names(250));
});

test("when a call is refused each of its settlements goes alone, and all get their answers in order", async () => {
  const { calls, settle } = setUp((entryIds) => {
    if (entryIds.length > 1) throw replyError("ERR user_script:12: bad field");
    return entryIds[0] === "2" ? ["stale"] : ["settled"];
  });
  await expect(Promise.all(settle("1", "2", "3"))).resolves.toEqual([
    "settled",
    "stale",
    "settled",
  ]);
  expect(calls).toEqual([["1", "2", "3"], ["1"], ["2"], ["3"]]);
});

test("a settlement that is refused even alone is repeated by itself, and the others are written down once", async () => {
  const refused = ["2"];
  const { calls, settle } = setUp((entryIds) => {
    if (entryIds.includes("2") && refused.length > 0) {
      if (entryIds.length === 1) refused.pop();
      throw replyError("ERR user_script:12: bad field");
    }
    return allSettled(entryIds);
  });
  await Promise.all(settle("1", "2", "3"));
  expect(calls).toEqual([["1", "2", "3"], ["1"], ["2"], ["3"], ["2"]]);
});

test("a settlement that is refused for good is buried, and keeps nobody else waiting", async () => {
  const { calls, buried, settle } = setUp((entryIds) => {
    if (entryIds.includes("2")) throw replyError("ERR user_script:12: bad");
    return allSettled(entryIds);
  });
  const [first, second, third] = settle("1", "2", "3");
  await expect(Promise.all([first, third])).resolves.toEqual([
    "settled",
    "settled",
  ]);
  // Not given up yet: the others had their answers while it was still being repeated.
  expect(calls.filter(([entryId]) => entryId === "2")).toHaveLength(1);
  await expect(second).resolves.toBe("settled");
  expect(calls.filter(([entryId]) => entryId === "2")).toHaveLength(3);
  expect(buried).toEqual([
    {
      entryId: "2",
      isDelivered: true,
      reason: "Redis refused to settle it: ERR user_script:12: bad",
    },
  ]);
});

test("a settlement that cannot even be put into a command is buried", async () => {
  const { buried, settle } = setUp((entryIds) => {
    if (entryIds.includes("2")) throw new RangeError("Invalid string length");
    return allSettled(entryIds);
  });
  await expect(Promise.all(settle("1", "2"))).resolves.toEqual([
    "settled",
    "settled",
  ]);
  expect(buried).toMatchObject([{ entryId: "2" }]);
});

test("a burial is repeated until it works", async () => {
  const { buried, settler } = setUp(allSettled, { failingBurials: 1 });
  const burial = { entryId: "1", isDelivered: false, reason: "why" };
  await expect(settler.bury(burial)).resolves.toBe("settled");
  expect(buried).toEqual([burial, burial]);
});

test("nothing is buried once the settler is abandoned", async () => {
  const { buried, settler } = setUp(allSettled, { failingBurials: Infinity });
  const burial = { entryId: "1", isDelivered: false, reason: "why" };
  const result = settler.bury(burial).catch(String);
  await nextTurn();
  settler.abandon();
  await expect(result).resolves.toContain("the dispatcher has ended");
  await expect(settler.bury(burial)).rejects.toThrow("has ended");
  expect(buried).toHaveLength(1);
});

test.each([
  "OOM command not allowed when used memory > 'maxmemory'.",
  "LOADING Redis is loading the dataset in memory",
  "READONLY You can't write against a read only replica.",
  "WRONGTYPE Operation against a key holding the wrong kind of value",
  "ERR Error running script (call to f_1): @user_script:12: OOM command not allowed",
  "ERR Error running script (call to f_1): @user_script:12: Script killed by user with SCRIPT KILL",
])("a call is repeated whole while Redis says %s", async (message) => {
  const { calls, settle } = setUp((entryIds, call) => {
    if (call === 1) throw replyError(message);
    return allSettled(entryIds);
  });
  await Promise.all(settle("1", "2"));
  expect(calls).toEqual([
    ["1", "2"],
    ["1", "2"],
  ]);
});

test("a call that Redis did not answer is repeated whole", async () => {
  const { calls, settle } = setUp((entryIds, call) => {
    if (call === 1) throw new Error("Connection is closed.");
    return allSettled(entryIds);
  });
  await Promise.all(settle("1", "2"));
  expect(calls).toEqual([
    ["1", "2"],
    ["1", "2"],
  ]);
});

test("what is unsettled when the settler is abandoned rejects, after one more try", async () => {
  const fault = new Error("Connection is closed.");
  const { settler, calls, firstCall, settle } = setUp(() => {
    throw fault;
  });
  const results = Promise.allSettled(settle("1", "2"));
  await firstCall;
  await nextTurn(); // it has failed by then, and the settler pauses
  settler.abandon();
  await expect(results).resolves.toEqual([
    { status: "rejected", reason: fault },
    { status: "rejected", reason: fault },
  ]);
  expect(calls).toHaveLength(2);
});

test("an abandoned settler takes no more", async () => {
  const { settler, calls, settle } = setUp(allSettled);
  settler.abandon();
  await expect(settle("1")[0]).rejects.toThrow("the dispatcher has ended");
  expect(calls).toEqual([]);
});

test("draining waits until every settlement has its answer", async () => {
  let release = (): void => undefined;
  const answered = new Promise<void>((resolve) => {
    release = resolve;
  });
  const { settler, firstCall, settle } = setUp(async (entryIds) => {
    await answered;
    return allSettled(entryIds);
  });
  const ended: string[] = [];
  const settled = settle("1")[0]!.then(() => ended.push("settled"));
  const drained = settler.drain().then(() => ended.push("drained"));
  await firstCall;
  expect(ended).toEqual([]);
  release();
  await Promise.all([settled, drained]);
  expect(ended).toEqual(["settled", "drained"]);
});
