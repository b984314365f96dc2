// Entries whose readers crashed, and garbage everywhere: neither may stop a loop.
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { settled } from "../support/chaos.ts";
import { type Pipeline, startPipeline } from "../support/crash-pipeline.ts";
import { until } from "../support/until.ts";

const GROUP = "dispatchers";

let pipeline: Pipeline;
beforeAll(async () => {
  pipeline = await startPipeline({ env: { LOG_LEVEL: "warn" } });
});
afterAll(() => pipeline.stop());

const requestsOf = (id: string) =>
  pipeline.receiver.tallies.get(id)?.requestedAt.length ?? 0;

/** Reads the waiting entries and dies, again and again, as a process does that an entry takes down with it. */
async function readAndDie(times: number): Promise<void> {
  const { redis, keys } = pipeline;
  const reply = (await redis.xreadgroup(
    "GROUP",
    GROUP,
    "victim-1",
    "STREAMS",
    keys.stream,
    ">",
  )) as unknown as [string, [string][]][];
  const entryIds = reply[0]![1].map(([entryId]) => entryId);
  for (let n = 2; n <= times; n++)
    await redis.xclaim(keys.stream, GROUP, `victim-${n}`, 0, ...entryIds);
}

test("entries whose readers have died again and again are no poison unless they killed them alone", async () => {
  const { redis, keys } = pipeline;
  await redis.xgroup("CREATE", keys.stream, GROUP, "0", "MKSTREAM");
  const first = await pipeline.xadd("/ok");
  await readAndDie(9);
  const second = await pipeline.xadd("/ok");
  await readAndDie(2);
  await pipeline.startServices();
  await settled(pipeline, 30_000);
  expect(await redis.xlen(keys.dead)).toBe(0);
  expect([requestsOf(first), requestsOf(second)]).toEqual([1, 1]);
  const rows = new Map((await pipeline.allRows()).map((row) => [row.id, row]));
  expect(rows.get(first)?.status).toBe("success");
  expect(rows.get(second)?.status).toBe("success");
});

const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 60 }),
  fc.json(),
  fc.constantFrom("", "0", "-1", "null", "[]", "{}", '{"a":', "\0", "\ud800"),
  fc.constant("x".repeat(20_000)),
);
const uuid = fc.constantFrom(
  "not-a-uuid",
  "00000000-0000-0000-0000-000000000000",
  randomUUID(),
);
const garbageOf = (names: string[]) =>
  fc
    .dictionary(
      fc.oneof(fc.constantFrom(...names), fc.string({ maxLength: 10 })),
      fc.oneof(text, uuid),
      { minKeys: 1, maxKeys: 8 },
    )
    .map((fields) => Object.entries(fields).flat());
const entry = garbageOf([
  "id",
  "webhook_url",
  "payload",
  "endpoint_id",
  "attempt",
  "headers",
  "lead_id",
  "secret",
  "format",
  "max_attempts",
  "v",
  "persisted",
]);
const record = fc.record(
  {
    delivery_id: uuid,
    attempt: fc.oneof(text, fc.integer(), fc.double()),
    attempted_at: text,
    status: text,
    response_body: text,
    response_headers: fc.jsonValue(),
    retry_at: text,
    delivery: fc.oneof(
      fc.jsonValue(),
      fc.record({ payload: text, webhook_url: text, lead_id: text }),
    ),
  },
  { requiredKeys: [] },
);
const logEntry = fc.oneof(
  garbageOf(["delivery_id", "record"]),
  fc.oneof(record, fc.jsonValue()).map((value) => {
    const record = JSON.stringify(value);
    return ["delivery_id", randomUUID(), "record", record];
  }),
);
const retryData = fc.oneof(
  text,
  fc.dictionary(fc.string(), fc.string()).map((data) => JSON.stringify(data)),
);

test("garbage on every stream and among the retries stops no loop", async () => {
  const { redis, keys } = pipeline;
  const seed = inject("seed");
  const some = <Value>(arbitrary: fc.Arbitrary<Value>, numRuns: number) =>
    fc.sample(arbitrary, { seed, numRuns });
  for (const fields of some(entry, 150))
    await redis.xadd(keys.stream, "*", ...fields);
  for (const fields of some(logEntry, 150))
    await redis.xadd(keys.log, "*", ...fields);
  // Refused by the database, and once more in its plain form.
  const worst = '{"delivery_id":"no uuid","status":"sent","delivery":null}';
  await redis.xadd(keys.log, "*", "delivery_id", "no uuid", "record", worst);
  for (const fields of some(entry, 50))
    await redis.xadd(keys.dead, "*", ...fields);
  for (const [n, data] of some(retryData, 100).entries()) {
    const id = n % 2 === 0 ? randomUUID() : `garbage ${n}`;
    await redis.hset(keys.retriesData, id, data);
    if (n % 5 > 0) await redis.zadd(keys.retries, Date.now(), id);
    if (n % 7 === 0) await redis.hset(keys.homes, id, data.slice(0, 50));
  }
  for (let n = 0; n < 20; n++)
    await redis.zadd(keys.retries, Date.now(), `no data ${n}`);

  const good = [await pipeline.xadd("/flaky/1"), await pipeline.submit("/ok")];
  await until("the good ones arrive", () =>
    good.every((id, i) => requestsOf(id) === 2 - i),
  );
  const { stream, log, retries, logPending } = await until(
    "all has been taken away",
    async () => {
      const work = await pipeline.work();
      const { stream, log, retries } = work;
      return stream + log + retries === 0 ? work : null;
    },
    40_000,
  );
  expect([stream, log, retries, logPending]).toEqual([0, 0, 0, 0]);
  const statuses = new Map(
    (await pipeline.allRows()).map(({ id, status }) => [id, status]),
  );
  expect(good.map((id) => statuses.get(id))).toEqual(["success", "success"]);
  const problems = pipeline.problems();
  expect(problems.filter((line) => line.includes("loop.faulted"))).toEqual([]);
  expect(Math.max(...problems.map((line) => line.length))).toBeLessThan(2000);

  const api = `${pipeline.running("ingest")[0]!.url}/api/webhook-delivery`;
  const listed = await fetch(`${api}/dead-letters?limit=100`);
  expect(listed.status).toBe(200);
  const replayed = await pipeline.post("/dead-letters/replay", {});
  expect(replayed.status).toBe(202);
  expect(pipeline.running()).toHaveLength(3);
});
