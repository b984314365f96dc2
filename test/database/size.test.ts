// What the services, the API and signed-in users ask costs the same however many rows there are. Cost is counted, not timed: rows read
// and pages touched, of a table of which each question wants a small part and would, without its index, read all.
import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { createOwnDatabase } from "./own-database.ts";

type OwnDatabase = Awaited<ReturnType<typeof createOwnDatabase>>;

const NIL = "00000000-0000-0000-0000-000000000000";
const ids = {
  client: randomUUID(),
  user: randomUUID(),
  otherClient: randomUUID(),
  lead: randomUUID(),
  endpoint: randomUUID(),
  delivery: randomUUID(),
};

/**
 * 10,000 rows of each kind that no question wants in full. The newest are another endpoint's, the wanted ones lie beneath them.
 * Never analysed by itself: the planner must not depend on it.
 */
const FILL = `
  alter table webhook_deliveries set (autovacuum_enabled = off);
  alter table webhook_delivery_logs set (autovacuum_enabled = off);
  insert into clients (id, name) values ('${ids.client}', 'Acme'), ('${ids.otherClient}', 'Globex');
  insert into users (id, client_id) values ('${ids.user}', '${ids.client}');
  insert into users (client_id) select '${ids.otherClient}' from generate_series(1, 10000);
  insert into campaigns (client_id, name) select '${ids.otherClient}', 'Autumn' from generate_series(1, 10000);
  insert into leads (id) values ('${ids.lead}');
  insert into leads select from generate_series(1, 10000);
  insert into webhook_endpoints (id, client_id, url) values ('${ids.endpoint}', '${ids.client}', 'https://receiver.test');
  insert into webhook_deliveries (id, lead_id, client_id, endpoint_id, payload, status, created_at, updated_at)
  select case when n = 1 then '${ids.delivery}' else gen_random_uuid() end, case when n <= 5 then '${ids.lead}'::uuid end,
    '${ids.client}', '${ids.endpoint}', '{}', (array['success', 'failed', 'cancelled', 'pending', 'sent'])[1 + n % 5],
    now() - interval '40 days' + n * interval '1 second', now() - interval '1 hour'
  from generate_series(1, 200) n;
  insert into webhook_deliveries (client_id, endpoint_id, payload, status, created_at, updated_at, next_retry_at)
  select '${ids.otherClient}', '${randomUUID()}', '{"much": "less than a page"}', status, now() - n * interval '1 second',
    now() - age, now() - age + pause
  from generate_series(1, 10000) n, (values
    ('sent', interval '1 hour', interval '2 hours'),
    ('sent', interval '30 days', interval '0'),
    ('pending', interval '1 minute', null),
    ('success', interval '1 hour', null),
    ('failed', interval '1 hour', null)) kind (status, age, pause);
  insert into webhook_delivery_logs (delivery_id, attempt_number) select id, 1 from webhook_deliveries;
`;

/** Rows read and pages touched by one statement, as this role. */
async function costOf(
  { client }: OwnDatabase,
  sql: string,
  user: string | null = null,
) {
  // The figures of a session go on from one transaction to the next.
  const rowsRead = async () => {
    const { rows } = await client.query<{ read: string }>(
      "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) as read from pg_stat_xact_user_tables",
    );
    return Number(rows[0]!.read);
  };
  await client.query("begin");
  try {
    const before = await rowsRead();
    await client.query(
      `set local role ${user === null ? "service_role" : "authenticated"}`,
    );
    await client.query("select set_config('request.jwt.claims', $1, true)", [
      JSON.stringify({ sub: user }),
    ]);
    const explained = await client.query<{ "QUERY PLAN": { Plan: Plan }[] }>(
      `explain (analyze, buffers, format json) ${sql}`,
    );
    await client.query("reset role");
    const plan = explained.rows[0]!["QUERY PLAN"][0]!.Plan;
    return {
      rows: (await rowsRead()) - before,
      pages: plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
      answered: plan["Actual Rows"],
    };
  } finally {
    await client.query("rollback");
  }
}

/** The first call of a function in a session also reads some hundred pages of the catalogue. */
interface Plan {
  "Shared Hit Blocks": number;
  "Shared Read Blocks": number;
  "Actual Rows": number;
}

const PLACE = {
  created_at: new Date(Date.now() - 39.999 * 86_400_000).toISOString(),
  id: NIL,
};
const LONG_AGO = new Date(Date.now() - 39.9985 * 86_400_000).toISOString();
const SELECTIONS: Record<string, string>[] = [
  {},
  ...["pending", "sent", "success", "failed", "cancelled"].map((status) => ({
    status,
  })),
  { endpoint_id: ids.endpoint },
  { endpoint_id: ids.endpoint, status: "failed" },
  { lead_id: ids.lead },
  { lead_id: ids.lead, status: "failed" },
  { lead_id: ids.lead, endpoint_id: ids.endpoint },
  { id: ids.delivery },
];
const FILTERS = SELECTIONS.flatMap((selection) => [
  selection,
  { ...selection, after: LONG_AGO },
  { ...selection, before: LONG_AGO },
  { ...selection, cursor: PLACE },
  { ...selection, cursor: PLACE, after: LONG_AGO },
]);

describe("over many rows", () => {
  let database: OwnDatabase;
  beforeAll(async () => {
    let drop;
    database = await createOwnDatabase((atEnd) => (drop = atEnd));
    await database.migrate();
    await database.client.query(FILL);
    await database.client.query(
      "vacuum webhook_deliveries, webhook_delivery_logs",
    );
    return drop;
  });

  // First without the planner's statistics, as after a sudden load, then with them.
  describe.each(["no", "good"])("with %s statistics", (statistics) => {
    beforeAll(async () => {
      if (statistics === "good") await database.client.query("analyze");
    });

    test("a page of overdue deliveries reads its own rows", async () => {
      const first = await costOf(
        database,
        `select * from unfinished_deliveries(now() - interval '5 minutes', '-infinity', '${NIL}', 500)`,
      );
      expect(first).toMatchObject({ answered: 80, rows: 80 });
      expect(first.pages).toBeLessThan(1000);
      const next = await costOf(
        database,
        `select * from unfinished_deliveries('infinity', now() + interval '30 minutes', '${NIL}', 500)`,
      );
      expect(next).toMatchObject({ answered: 500, rows: 500 });
      expect(next.pages).toBeLessThan(1500);
    });

    test.each(FILTERS)(
      "a page of %j reads some pages of rows",
      async (filter) => {
        const cost = await costOf(
          database,
          `select * from list_deliveries('${JSON.stringify(filter)}', 51)`,
        );
        expect(cost.rows).toBeLessThanOrEqual(5 * 51);
        expect(cost.pages).toBeLessThan(1000);
      },
    );

    test.each(FILTERS)("counting %j stops at its limit", async (filter) => {
      const cost = await costOf(
        database,
        `select * from count_deliveries('${JSON.stringify(filter)}', 1001)`,
      );
      expect(cost.rows).toBeLessThanOrEqual(1001);
      expect(cost.pages).toBeLessThan(1000);
    });

    test("the figures read no delivery", async () => {
      const cost = await costOf(database, "select * from delivery_stats()");
      expect(cost.rows).toBeLessThan(100);
    });

    test.each([
      `id, attempt_number from webhook_delivery_logs where delivery_id = '${ids.delivery}' order by attempt_number`,
      `id, status from webhook_deliveries where id = '${ids.delivery}'`,
      "id, status from webhook_deliveries order by created_at desc limit 50",
      "id, url from webhook_endpoints",
      // As PostgREST asks for the newest deliveries with their attempts.
      `d.id, l.attempts from (select id from webhook_deliveries order by created_at desc limit 10) d, lateral (
         select json_agg(attempt_number) as attempts from webhook_delivery_logs where delivery_id = d.id) l`,
    ])("a signed-in user reads a few rows for %s", async (question) => {
      const cost = await costOf(database, `select ${question}`, ids.user);
      expect(cost.answered).toBeGreaterThan(0);
      expect(cost.rows).toBeLessThan(100);
      expect(cost.pages).toBeLessThan(1000);
    });

    test.each([
      `leads where id = '${ids.lead}'`,
      `webhook_endpoints where id = '${ids.endpoint}'`,
      `webhook_deliveries where id = '${ids.delivery}'`,
      `clients where id = '${ids.client}'`,
      "webhook_deliveries where created_at < now() - interval '39 days 23 hours 58 minutes' and status in ('success', 'failed', 'cancelled')",
    ])("deleting %s reads what goes with it", async (rows) => {
      expect((await costOf(database, `delete from ${rows}`)).rows).toBeLessThan(
        400,
      );
    });
  });

  test("deliveries that have ended since, and are not vacuumed yet, are passed over", async () => {
    const endpoint = randomUUID();
    await database.client.query(
      "insert into webhook_deliveries (endpoint_id, payload) select $1, '{}' from generate_series(1, 20000)",
      [endpoint],
    );
    await database.client.query(
      "update webhook_deliveries set status = 'success' where endpoint_id = $1",
      [endpoint],
    );
    await database.client.query("select tidy_deliveries()");
    for (const filter of [{}, { status: "pending" }]) {
      const cost = await costOf(
        database,
        `select * from list_deliveries('${JSON.stringify(filter)}', 51)`,
      );
      expect(cost.pages, JSON.stringify(filter)).toBeLessThan(1500);
    }
  });
});
