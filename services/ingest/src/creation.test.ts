import { PipelineError } from "@pipeline/shared/errors";
import { expect, test } from "vitest";
import type { CreatedRow } from "./adapters/delivery-rows.ts";
import { createHeldRows } from "./core/held-rows.ts";
import type { PlannedDelivery } from "./core/plan-delivery.ts";
import { createCreation } from "./creation.ts";
import { createSlowNames } from "./slow-names.ts";

const unanswered = new PipelineError("DATABASE_UNAVAILABLE", "no answer", {
  contact: "unanswered",
});
const unreached = new PipelineError("DATABASE_UNAVAILABLE", "away", {
  contact: "unreached",
});
const locked = new PipelineError("DATABASE_UNAVAILABLE", "lock timeout", {
  contact: "answered",
  sqlState: "55P03",
});
const refusal = new PipelineError("DATABASE_REFUSED", "bad", {
  contact: "answered",
  sqlState: "22P02",
});

const plan = (
  id: string,
  leadId: string | null = null,
  key: string | null = null,
) =>
  ({
    delivery: { id, leadId },
    idempotencyKey: key,
    requestHash: null,
  }) as PlannedDelivery;

/** `answer` says what becomes of a call with these ids: an error that is thrown, or null. */
function setUp(answer: (ids: string[], call: number) => Error | null) {
  const calls: string[][] = [];
  const unsure: [string, boolean][] = [];
  const held = createHeldRows();
  const state = { callMs: 0, passedMs: 0 };
  const now = () => performance.now() + state.passedMs;
  const create = createCreation({
    held,
    slow: createSlowNames(),
    now,
    unsure: { add: (id, hasKey) => unsure.push([id, hasKey]) },
    writes: {
      create: async (planned) => {
        const ids = planned.map(({ delivery }) => delivery.id);
        calls.push(ids);
        state.passedMs += state.callMs;
        const error = answer(ids, calls.length);
        if (error !== null) throw error;
        return ids.map((id) => ({ id, creation: "created" }) as CreatedRow);
      },
    },
  });
  const run = async (planned: PlannedDelivery[], isProbe = false) => {
    const outcomes = await create(planned, isProbe);
    return outcomes.map((outcome) => {
      if ("result" in outcome) return outcome.result.id;
      const { code, contact } = outcome.refused as PipelineError;
      return code === "DATABASE_REFUSED" ? "refused" : contact;
    });
  };
  return { run, calls, unsure, held, state, now };
}

test("what was not answered is asked again under the same ids, and counts as created then", async () => {
  const { run, calls, unsure } = setUp((_ids, call) =>
    call === 1 ? unanswered : call === 2 ? locked : null,
  );
  expect(await run([plan("a"), plan("b")])).toEqual(["a", "b"]);
  expect(calls).toEqual([
    ["a", "b"],
    ["a", "b"],
    ["a", "b"],
  ]);
  expect(unsure).toEqual([]);
});

test("an outcome that stays unknown is not called 'nothing stored', and the ids are remembered", async () => {
  const { run, unsure } = setUp((_ids, call) =>
    call === 1 ? unanswered : unreached,
  );
  expect(await run([plan("a"), plan("b", null, "key")])).toEqual([
    "unanswered",
    "unanswered",
  ]);
  expect(unsure).toEqual([
    ["a", false],
    ["b", true],
  ]);
});

test("a database that was not reached has stored nothing, and is not asked again", async () => {
  const { run, calls, unsure } = setUp(() => unreached);
  expect(await run([plan("a")])).toEqual(["unreached"]);
  expect(calls).toHaveLength(1);
  expect(unsure).toEqual([]);
});

test("a refusal after a call without an answer is the answer", async () => {
  const { run, unsure } = setUp((ids, call) =>
    call === 1 ? unanswered : ids.includes("bad") ? refusal : null,
  );
  expect(await run([plan("a"), plan("bad")])).toEqual(["a", "refused"]);
  expect(unsure).toEqual([]);
});

test("a locked lead is tried once, and not again for each of its deliveries", async () => {
  const planned = Array.from({ length: 500 }, (_, index) =>
    plan(`${index}`, index % 10 === 0 ? "locked" : "free"),
  );
  const isOfLocked = (id: string) => Number(id) % 10 === 0;
  const { run, calls, held } = setUp((ids) =>
    ids.some(isOfLocked) ? locked : null,
  );
  const outcomes = await run(planned);
  for (const [index, outcome] of outcomes.entries())
    expect(outcome).toBe(isOfLocked(`${index}`) ? "answered" : `${index}`);
  expect(calls.filter((ids) => ids.some(isOfLocked)).length).toBeLessThan(40);
  expect(held.enter(["lead locked"], performance.now())).toBe("held");
});

test("a probe is tried although its lead rests, and frees it when it goes through", async () => {
  const { run, held } = setUp(() => null);
  held.found(["lead l"], performance.now());
  expect(await run([plan("a", "l")])).toEqual(["answered"]);
  expect(await run([plan("b", "l")], true)).toEqual(["b"]);
  expect(await run([plan("c", "l")])).toEqual(["c"]);
});

test("a lead whose commits are slow is tried alone until they are not", async () => {
  const { run, held, state, now } = setUp(() => null);
  state.callMs = 4000;
  expect(await run([plan("a", "slow"), plan("b", "beside it")])).toEqual([
    "a",
    "b",
  ]);
  for (const lead of ["lead slow", "lead beside it"])
    expect(held.enter([lead], now())).toBe("probe");
  await run([plan("c", "slow")], true);
  expect(held.enter(["lead slow"], now())).toBe("held");
  state.callMs = 10;
  state.passedMs += 1000;
  await run([plan("d", "slow"), plan("e", "beside it")], true);
  expect(held.enter(["lead beside it"], now())).toBe("free");
  expect(held.enter(["lead slow"], now())).toBe("free");
});

test("a fault in the middle keeps what was stored before it", async () => {
  const { run } = setUp((ids) =>
    ids.length > 1 ? locked : ids[0] === "b" ? unreached : null,
  );
  expect(await run([plan("a"), plan("b"), plan("c")])).toEqual([
    "a",
    "unreached",
    "c",
  ]);
});
