// Postgres and PostgREST away, slow, or refusing single rows: deliveries go on, and every record gets where it belongs.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import {
  afterAll,
  beforeAll,
  expect,
  inject,
  onTestFinished,
  test,
} from "vitest";
import { createLoad, reckon, settled } from "../support/chaos.ts";
import { type Pipeline, startPipeline } from "../support/crash-pipeline.ts";
import { createRandom } from "../support/seed.ts";
import { until } from "../support/until.ts";

const AWAY_MS = 20_000;
const PROCESSES = 4;

let pipeline: Pipeline;
let accepted: Map<string, string>;
beforeAll(async () => {
  pipeline = await startPipeline({
    dispatcher: 2,
    env: { LOG_LEVEL: "warn" },
  });
  const sql = new Client({ connectionString: pipeline.stack.postgresUrl });
  await sql.connect();
  // 8 s at Supabase, and here until it is said otherwise. PostgREST's connections learn of it when they are made.
  await sql.query("alter role authenticator set statement_timeout = '1s'");
  await sql.end();
  await pipeline.stack.postgrest.stop();
  await pipeline.stack.postgrest.start();
  await pipeline.startServices();
  accepted = new Map();
});
afterAll(() => pipeline.stop());

async function connectToPostgres(): Promise<Client> {
  const sql = new Client({ connectionString: pipeline.stack.postgresUrl });
  sql.on("error", () => undefined); // the server ends before its client when a test has failed
  await sql.connect();
  onTestFinished(() => sql.end());
  return sql;
}

async function timedPost() {
  const startedAt = performance.now();
  const { status, headers } = await pipeline.post("", {
    payload: { n: 1 },
    webhookUrl: `${pipeline.receiver.url}/ok`,
  });
  return { status, headers, ms: performance.now() - startedAt };
}

async function nothingLost(): Promise<number> {
  await settled(pipeline, 60_000);
  const { losses, repeated } = await reckon(pipeline, accepted, []);
  console.log({ accepted: accepted.size, repeated });
  expect(losses.slice(0, 10)).toEqual([]);
  return repeated;
}

test.each(["postgrest", "postgres"] as const)(
  "%s is away under load: 503 at once, deliveries go on, records follow, nothing is sent twice",
  async (server) => {
    const repeatedBefore = await nothingLost();
    const linesBefore = pipeline.problems().length;
    const before = createLoad(
      pipeline,
      createRandom(inject("seed"), "before"),
      ["api", "xadd"],
    );
    await before.run(200, 200); // some are waiting for their retries now
    await pipeline.stack[server].stop();
    const since = performance.now();
    const load = createLoad(pipeline, createRandom(inject("seed")), ["xadd"]);
    const loading = load.run(1200, 1200 / (AWAY_MS / 1000));

    await timedPost();
    for (let i = 0; i < 5; i++) {
      const { status, headers, ms } = await timedPost();
      expect(status).toBe(503);
      expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
      expect(ms).toBeLessThan(1000);
      await sleep(400);
    }
    await loading;
    const { tallies } = pipeline.receiver;
    await until("all were sent without Supabase", () =>
      [...load.accepted.keys()].every((id) => tallies.has(id)),
    );
    expect(await pipeline.redis.xlen(pipeline.keys.log)).toBeGreaterThan(1000);
    await sleep(Math.max(0, AWAY_MS - (performance.now() - since)));

    await pipeline.stack[server].start();
    const returned = performance.now();
    for (const [id, url] of [...before.accepted, ...load.accepted])
      accepted.set(id, url);
    expect(await nothingLost()).toBe(repeatedBefore);
    const seconds = (performance.now() - returned) / 1000;
    const lines = pipeline.problems().length - linesBefore;
    console.log(
      `all recorded ${seconds.toFixed(1)} s after ${server} came back, ${lines} lines`,
    );
    expect(lines).toBeLessThan(12 * PROCESSES);
    await until("ingest takes deliveries again", () => pipeline.submit("/ok"));
  },
  90_000,
);

test("a row that someone keeps locked holds up its own record and no other", async () => {
  const [sql, holder] = [await connectToPostgres(), await connectToPostgres()];
  const { rows } = await sql.query<{ id: string }>(
    "insert into leads (email) values ('a@example.com'), ('b@example.com'), ('c@example.com') returning id",
  );
  const leadIds = rows.map(({ id }) => id);
  await holder.query("begin");
  await holder.query("select from leads where id = any ($1) for update", [
    leadIds,
  ]);
  const add = (leadId: string) => pipeline.xadd("/ok", { lead_id: leadId });
  const isStuck = (count: number) =>
    until(`${count} recorders wait for a lock`, async () => {
      const { rows } = await sql.query<{ count: number }>(
        "select count(*)::int from pg_stat_activity where wait_event_type = 'Lock'",
      );
      return rows[0]!.count >= count;
    });
  const locked = [await add(leadIds[0]!)];
  await isStuck(1);
  locked.push(await add(leadIds[1]!));
  await isStuck(2);
  // Both recorders are held up now; what comes next is one batch, and one of it is locked as well.
  const [third, ...others] = await Promise.all([
    add(leadIds[2]!),
    ...Array.from({ length: 60 }, () => pipeline.xadd("/ok")),
  ]);
  locked.push(third);
  const since = performance.now();
  await until(
    "the others are recorded",
    async () => {
      const statuses = new Map(
        (await pipeline.allRows()).map(({ id, status }) => [id, status]),
      );
      return others.every((id) => statuses.get(id) === "success");
    },
    45_000,
  );
  const ms = performance.now() - since;
  console.log(
    `neighbours of a locked row were recorded after ${(ms / 1000).toFixed(1)} s`,
  );
  expect(ms).toBeLessThan(5000);
  for (const id of locked) expect(await pipeline.row(id)).toBeNull();
  expect(
    pipeline.problems().filter((line) => line.includes("record.timed_out")),
  ).not.toEqual([]);
  await holder.query("rollback");
  await settled(pipeline, 30_000);
  for (const id of locked)
    expect((await pipeline.row(id))?.status).toBe("success");
}, 90_000);

test("rows that the database refuses are set aside or simplified, and their neighbours are unharmed", async () => {
  const sql = await connectToPostgres();
  const leads = await sql.query<{ id: string }>(
    "insert into leads (email) values ('gone@example.com') returning id",
  );
  const leadId = leads.rows[0]!.id;
  const ofGoneLead = await pipeline.submit("/slow/500", {
    leadId,
    payload: undefined,
  });
  await until("it is on its way", () =>
    pipeline.receiver.tallies.has(ofGoneLead),
  );
  await sql.query("delete from leads where id = $1", [leadId]);
  const withNul = await pipeline.xadd("/ok", {
    payload: String.raw`{"text":"a\u0000b"}`,
  });
  const withUnknownLead = await pipeline.xadd("/ok", { lead_id: randomUUID() });
  const event = "x".repeat(100);
  const long = await pipeline.xadd(`/ok?${"x".repeat(1900)}`, { event });
  const refused = randomUUID();
  const record = JSON.stringify({
    delivery_id: refused,
    attempt: "not a number",
    status: "success",
  });
  const { redis, keys } = pipeline;
  await redis.xadd(keys.log, "*", "delivery_id", refused, "record", record);
  const neighbours = await Promise.all(
    Array.from({ length: 40 }, () => pipeline.xadd("/ok")),
  );
  await settled(pipeline, 30_000);
  const statuses = new Map(
    (await pipeline.allRows()).map(({ id, status }) => [id, status]),
  );
  for (const id of [withNul, withUnknownLead, ...neighbours])
    expect(statuses.get(id)).toBe("success");
  expect(statuses.get(long)).toBe("failed"); // the receiver knows no such path
  expect(statuses.get(ofGoneLead)).toBeUndefined();
  const letters = await redis.xrange(keys.dead, "-", "+");
  expect(letters.filter(([, fields]) => fields.includes(refused))).toHaveLength(
    1,
  );
  // The line is written after the letter.
  const lines = () =>
    pipeline
      .problems()
      .filter(
        (line) => line.includes("record.refused") && line.includes(refused),
      );
  await until("the log says so", () => lines().length > 0);
  expect(lines()).toHaveLength(1);
});
