import { PipelineError } from "@pipeline/shared/errors";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createEndpoints } from "./endpoints.ts";
import type { Endpoint } from "./read-endpoints.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const at = (url: string, more: Partial<Endpoint> = {}): Endpoint => ({
  url,
  secret: null,
  headers: null,
  isActive: true,
  updatedAt: "2026-01-01",
  ...more,
});

/** `rows` is the table; `answerMs` how long a read takes, Infinity if it is never answered. */
function setUp() {
  const state = { answerMs: 5, fault: null as Error | null };
  const rows = new Map<string, Endpoint>();
  const reads: string[][] = [];
  const endpoints = createEndpoints(
    async (ids) => {
      reads.push(ids);
      const { answerMs, fault } = state;
      const answer = ids.map((id) => rows.get(id) ?? null);
      const { promise, resolve } = Promise.withResolvers<void>();
      if (answerMs !== Infinity) setTimeout(resolve, answerMs);
      await promise;
      if (fault !== null) throw fault;
      return answer;
    },
    () => Date.now(),
  );
  const find = async (id: string) => {
    const startedAt = Date.now();
    const took: number[] = [];
    const found = endpoints.find(id).finally(() => {
      took.push(Date.now() - startedAt);
    });
    const result = found.then(
      (endpoint) => endpoint?.url ?? "none",
      (error: unknown) => (error as PipelineError).code,
    );
    for (let i = 0; i < 200 && took.length === 0; i++)
      await vi.advanceTimersByTimeAsync(5);
    return { url: await result, ms: took[0]! };
  };
  return { state, rows, reads, endpoints, find };
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

test("an endpoint is read once a second at most, and a change is seen within one", async () => {
  const { rows, reads, find } = setUp();
  rows.set("a", at("old"));
  expect((await find("a")).url).toBe("old");
  rows.set("a", at("new"));
  await pass(900);
  expect(await find("a")).toEqual({ url: "old", ms: 0 });
  expect(reads).toHaveLength(1);
  await pass(100);
  expect((await find("a")).url).toBe("new");
  expect(reads).toHaveLength(2);
});

test("what was read long ago is read again before it is used", async () => {
  const { rows, find } = setUp();
  rows.set("a", at("old"));
  await find("a");
  rows.delete("a");
  await pass(600_000);
  const { url, ms } = await find("a");
  expect(url).toBe("none");
  expect(ms).toBeLessThan(20);
});

test("while nothing is answered, one waits a quarter of a second and the others not at all", async () => {
  const { state, rows, reads, find } = setUp();
  rows.set("a", at("a"));
  rows.set("b", at("b"));
  await find("a");
  await find("b");
  await pass(60_000);
  state.answerMs = Infinity;
  expect(await find("a")).toEqual({ url: "a", ms: 250 });
  const before = reads.length;
  for (let i = 0; i < 50; i++) {
    expect(await find("a")).toEqual({ url: "a", ms: 0 });
    expect(await find("b")).toEqual({ url: "b", ms: 0 });
    await pass(100);
  }
  expect(reads.length - before).toBeLessThanOrEqual(2);
});

test("an endpoint that was never read is waited for half a second, and by nobody after that until there is an answer", async () => {
  const { state, rows, find } = setUp();
  rows.set("a", at("a"));
  state.answerMs = 3000;
  expect(await find("a")).toEqual({ url: "DATABASE_UNAVAILABLE", ms: 500 });
  expect(await find("a")).toEqual({ url: "DATABASE_UNAVAILABLE", ms: 0 });
  expect(await find("b")).toEqual({ url: "DATABASE_UNAVAILABLE", ms: 0 });
  await pass(3000);
  // The answer came late, which is no reason to wait for the next one.
  expect(await find("a")).toEqual({ url: "a", ms: 0 });
  await pass(1500);
  state.answerMs = 5;
  expect(await find("b")).toEqual({ url: "DATABASE_UNAVAILABLE", ms: 0 });
  await pass(3000);
  expect((await find("b")).url).toBe("none");
});

test("a database that fails at once is asked once a second, whoever wants to know", async () => {
  const { state, rows, reads, find } = setUp();
  rows.set("a", at("a"));
  await find("a");
  await pass(60_000);
  state.fault = new PipelineError("DATABASE_UNAVAILABLE", "away");
  for (let i = 0; i < 100; i++) {
    expect((await find("a")).url).toBe("a");
    await pass(100);
  }
  expect(reads.length).toBeLessThan(15);
  await pass(3_600_000);
  expect((await find("a")).url).toBe("DATABASE_UNAVAILABLE");
});

test("that there is no such endpoint is never served from memory", async () => {
  const { state, find } = setUp();
  expect((await find("a")).url).toBe("none");
  await pass(2000);
  state.fault = new PipelineError("DATABASE_UNAVAILABLE", "away");
  expect((await find("a")).url).toBe("DATABASE_UNAVAILABLE");
});

test("a disabled endpoint stays so until its row was written to", async () => {
  const { rows, endpoints, find } = setUp();
  rows.set("a", at("x"));
  await find("a");
  endpoints.disable("a");
  const isActive = async () => {
    await pass(2500);
    await find("a");
    return (await endpoints.find("a"))?.isActive;
  };
  for (let i = 0; i < 20; i++) expect(await isActive()).toBe(false);
  rows.set("a", at("x", { updatedAt: "2026-01-02" })); // switched off by the record, and on again by its owner
  expect(await isActive()).toBe(true);

  endpoints.disable("a");
  rows.set("a", at("y", { updatedAt: "2026-01-02" }));
  expect(await isActive()).toBe(true);

  endpoints.disable("a");
  await pass(600_000); // its record has been lost
  expect(await isActive()).toBe(true);
});

test("however large the endpoints are, only so much of them is kept", async () => {
  const { state, rows, find } = setUp();
  const headers = "x".repeat(1024 * 1024);
  for (let i = 0; i < 40; i++) {
    rows.set(`${i}`, at(`${i}`, { headers }));
    await find(`${i}`);
  }
  state.answerMs = Infinity;
  await pass(5000);
  expect((await find("0")).url).toBe("DATABASE_UNAVAILABLE");
  expect((await find("39")).url).toBe("39");
});
