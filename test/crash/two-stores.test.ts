// Actions that touch Redis and Postgres, many at once on one delivery: it is sent as often as was asked, and no row is left
// pending, which would be sent again at every reconcile.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { settled } from "../support/chaos.ts";
import { type Pipeline, startPipeline } from "../support/crash-pipeline.ts";
import { apiOf, send } from "../support/send.ts";
import { until } from "../support/until.ts";

const CALLERS = 10;
/** Several reconciles after the grace. */
const RECONCILED_MS = 5000;

let pipeline: Pipeline;
let sql: Client;
beforeAll(async () => {
  pipeline = await startPipeline({
    ingest: 2,
    "retry-scheduler": 2,
    env: {
      RETRY_DELAYS_SECONDS: "0.1,0.1,0.1",
      RECONCILE_INTERVAL_MS: "200",
      RECONCILE_GRACE_MS: "1000",
      LOG_LEVEL: "warn",
    },
  });
  await pipeline.startServices();
  sql = new Client({ connectionString: pipeline.stack.postgresUrl });
  await sql.connect();
});
afterAll(async () => {
  await sql.end();
  await pipeline.stop();
});

const requestsOf = (id: string) =>
  pipeline.receiver.tallies.get(id)?.requestedAt.length ?? 0;
/** Answers of the API, through each ingest in turn. */
const call = (n: number, method: string, path: string) => {
  const ingests = pipeline.running("ingest");
  return send(apiOf(ingests[n % ingests.length]!.url) + path, method);
};
const statusesOf = async (ids: string[]) => {
  const rows = await pipeline.allRows();
  return rows.filter(({ id }) => ids.includes(id)).map(({ status }) => status);
};

test("ten callers who ask for the same retry: it is sent once for each yes", async () => {
  const ids = await Promise.all(
    Array.from({ length: 20 }, () => pipeline.submit("/ok")),
  );
  await settled(pipeline, 20_000);
  const wanted = new Map(ids.map((id) => [id, 1]));
  for (let round = 0; round < 3; round++) {
    await Promise.all(
      ids.flatMap((id) =>
        Array.from({ length: CALLERS }, async (_, n) => {
          await sleep(n * 5);
          const { status } = await call(n, "POST", `/${id}/retry`);
          if (status === 202) wanted.set(id, wanted.get(id)! + 1);
        }),
      ),
    );
  }
  await settled(pipeline, 20_000);
  await sleep(RECONCILED_MS);
  const sent = new Map(ids.map((id) => [id, requestsOf(id)]));
  expect(sent).toEqual(wanted);
  expect(new Set(await statusesOf(ids))).toEqual(new Set(["success"]));
});

test("ten callers who replay the same dead letter: it is sent once", async () => {
  const ids = await Promise.all(
    Array.from({ length: 10 }, () => pipeline.submit("/flaky/4")),
  );
  await settled(pipeline, 20_000);
  const [ingest] = pipeline.running("ingest");
  const reply = await fetch(`${apiOf(ingest!.url)}/dead-letters?limit=100`);
  const { deadLetters } = (await reply.json()) as {
    deadLetters: { entryId: string; deliveryId: string }[];
  };
  const wanted = new Map(ids.map((id) => [id, 4]));
  await Promise.all(
    deadLetters
      .filter(({ deliveryId }) => ids.includes(deliveryId))
      .flatMap(({ entryId, deliveryId }) =>
        Array.from({ length: CALLERS }, async (_, n) => {
          await sleep(n * 3);
          const path = `/dead-letters/${entryId}/replay`;
          const { status } = await call(n, "POST", path);
          if (status === 202)
            wanted.set(deliveryId, wanted.get(deliveryId)! + 1);
        }),
      ),
  );
  await settled(pipeline, 20_000);
  await sleep(RECONCILED_MS);
  expect(new Map(ids.map((id) => [id, requestsOf(id)]))).toEqual(wanted);
  expect(new Set(wanted.values())).toEqual(new Set([5]));
  expect(new Set(await statusesOf(ids))).toEqual(new Set(["success"]));
});

test("what is cancelled while reconcile is about to inject it is not sent", async () => {
  // Unfinished rows that Redis does not know, so that reconcile is at work on them when they are cancelled.
  const ids: string[] = [];
  const cancelled = new Set<string>();
  for (let round = 0; round < 15; round++) {
    const { rows } = await sql.query<{ id: string }>(
      `insert into webhook_deliveries (webhook_url, payload, updated_at)
       select $1, jsonb_build_object('n', gen_random_uuid()), now() - interval '1 hour' from generate_series(1, 60)
       returning id`,
      [`${pipeline.receiver.url}/ok`],
    );
    const batch = rows.map(({ id }) => id);
    ids.push(...batch);
    await Promise.all(
      batch.map(async (id, n) => {
        await sleep(n * 5);
        const { status } = await call(n, "DELETE", `/${id}`);
        if (status === 200) cancelled.add(id);
      }),
    );
  }
  await settled(pipeline, 20_000);
  await sleep(RECONCILED_MS);
  const sent = ids.filter((id) => requestsOf(id) > 0);
  expect(sent.filter((id) => cancelled.has(id))).toEqual([]);
  expect(sent).toHaveLength(ids.length - cancelled.size);
  expect(cancelled.size).toBeGreaterThan(0);
  expect(ids.map(requestsOf).filter((count) => count > 1)).toEqual([]);
});

test("a record that Postgres refuses for good ends its delivery all the same", async () => {
  const lead = await sql.query<{ id: string }>(
    "insert into leads (email) values ('grace@example.com') returning id",
  );
  await sql.query(
    "alter table leads add constraint never_sent check (status <> 'webhook_sent')",
  );
  onTestFinished(() => {
    void sql.query("alter table leads drop constraint never_sent");
  });
  const leadId = lead.rows[0]!.id;
  const id = await pipeline.submit("/ok", { leadId, payload: undefined });
  await until(
    "it is over",
    async () => {
      const row = await pipeline.row(id);
      return row?.status === "success";
    },
    20_000,
  );
  await sleep(RECONCILED_MS);
  expect(requestsOf(id)).toBe(1);
  const attempts = await pipeline.attempts(id);
  expect(attempts).toMatchObject([{ attempt_number: 1, response_status: 200 }]);
  const letters = await pipeline.deadLetters();
  expect(
    letters.filter((letter) => letter["delivery_id"] === id),
  ).toMatchObject([{ kind: "record" }]);
  expect(await pipeline.isIdle()).toBe(true);
});

test("a row that cannot be closed at all is not sent again, and is told of", async () => {
  const id = randomUUID();
  await sql.query(
    `create function refuse_one() returns trigger language plpgsql as
     $$ begin raise check_violation using message = 'not this one'; end $$`,
  );
  await sql.query(
    `create trigger refuse_one before update on webhook_deliveries for each row
     when (old.id = '${id}') execute function refuse_one()`,
  );
  onTestFinished(async () => {
    await sql.query("drop function refuse_one cascade");
  });
  await sql.query(
    "insert into webhook_deliveries (id, webhook_url, payload, updated_at) values ($1, $2, '{}', now() - interval '1 hour')",
    [id, `${pipeline.receiver.url}/ok`],
  );
  await until("it is sent", () => requestsOf(id) > 0, 20_000);
  await sleep(2 * RECONCILED_MS);
  expect(requestsOf(id)).toBe(1);
  expect(await pipeline.row(id)).toMatchObject({ status: "pending" });
  const problems = pipeline.problems().join("\n");
  expect(problems).toContain("record.not_closed");
  await sql.query("drop trigger refuse_one on webhook_deliveries");
  await until(
    "it is recorded when that is mended",
    async () => {
      const row = await pipeline.row(id);
      return row?.status === "success";
    },
    20_000,
  );
  expect(requestsOf(id)).toBe(1);
});
