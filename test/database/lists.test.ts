// What the functions behind lists, counts and figures answer, compared with the plain question over all rows.
import { randomUUID } from "node:crypto";
import { expect, inject, test } from "vitest";
import { createRandom } from "../support/seed.ts";
import { createOwnDatabase } from "./own-database.ts";

type OwnDatabase = Awaited<ReturnType<typeof createOwnDatabase>>;

/** The statuses that a row may have. */
async function statusesOf({ client }: OwnDatabase): Promise<string[]> {
  const { rows } = await client.query<{ definition: string }>(
    "select pg_get_constraintdef(oid) as definition from pg_constraint where conname = 'webhook_deliveries_status_check'",
  );
  return Array.from(
    rows[0]!.definition.matchAll(/'(\w+)'/g),
    ([, name]) => name!,
  );
}

/** Some hundred rows of few moments, leads and endpoints, so that most filters match several rows of one moment. */
async function fill(database: OwnDatabase) {
  const { client } = database;
  await database.migrate();
  const statuses = await statusesOf(database);
  const [leads, endpoints] = [
    [randomUUID(), randomUUID()],
    [randomUUID(), randomUUID()],
  ];
  await client.query("insert into leads (id) select unnest($1::uuid[])", [
    leads,
  ]);
  await client.query(
    `insert into webhook_deliveries (payload, status, lead_id, endpoint_id, created_at, updated_at)
     select '{}', ($1::text[])[1 + n % array_length($1, 1)], ($2::uuid[])[1 + n % 3], ($3::uuid[])[1 + n % 4],
       now() - (n / 40) * interval '1 microsecond', now() - n * interval '11 minutes'
     from generate_series(0, 399) n`,
    [statuses, leads, endpoints],
  );
  return { statuses, leads, endpoints };
}

interface Filter {
  id?: string;
  lead_id?: string;
  endpoint_id?: string;
  status?: string;
  before?: string;
  after?: string;
}

async function plainly({ client }: OwnDatabase, filter: Filter) {
  const { rows } = await client.query<{ id: string }>(
    `select id from webhook_deliveries where ($1::uuid is null or id = $1) and ($2::uuid is null or lead_id = $2)
       and ($3::uuid is null or endpoint_id = $3) and ($4::text is null or status = $4)
       and ($5::timestamptz is null or created_at < $5) and ($6::timestamptz is null or created_at > $6)
     order by created_at desc, id desc`,
    [
      filter.id,
      filter.lead_id,
      filter.endpoint_id,
      filter.status,
      filter.before,
      filter.after,
    ],
  );
  return rows.map(({ id }) => id);
}

async function pageByPage({ client }: OwnDatabase, filter: Filter) {
  const ids: string[] = [];
  for (let cursor: object | undefined; ;) {
    const { rows } = await client.query<{ id: string; created_at: string }>(
      "select id, created_at::text from list_deliveries($1, 7)",
      [JSON.stringify({ ...filter, cursor })],
    );
    ids.push(...rows.map(({ id }) => id));
    cursor = rows.at(-1);
    if (rows.length < 7) return ids;
  }
}

test("pages and counts of any filter are those of the plain question", async () => {
  const database = await createOwnDatabase();
  const { statuses, leads, endpoints } = await fill(database);
  const random = createRandom(inject("seed"), "lists");
  const { rows } = await database.client.query<{ id: string; at: string }>(
    "select id, created_at::text as at from webhook_deliveries order by id",
  );
  const oneOf = <Item>(items: Item[]) =>
    items[Math.floor(random() * items.length)]!;
  const maybe = <Value>(value: Value) => (random() < 0.4 ? value : undefined);
  for (let n = 0; n < 80; n++) {
    const filter = {
      id: random() < 0.1 ? oneOf(rows).id : undefined,
      lead_id: maybe(oneOf(leads)),
      endpoint_id: maybe(oneOf(endpoints)),
      status: maybe(oneOf(statuses)),
      before: maybe(oneOf(rows).at),
      after: maybe(oneOf(rows).at),
    };
    const expected = await plainly(database, filter as Filter);
    const label = JSON.stringify(filter);
    expect(await pageByPage(database, filter as Filter), label).toEqual(
      expected,
    );
    for (const limit of [5, 1000]) {
      const counted = await database.client.query<{ count: string }>(
        "select count_deliveries($1, $2) as count",
        [label, limit],
      );
      expect(Number(counted.rows[0]!.count), label).toBe(
        Math.min(expected.length, limit),
      );
    }
  }
});

async function figures({ client }: OwnDatabase) {
  const { rows } = await client.query(
    "select status, total::int, last_24_hours::int from delivery_stats() where total <> 0 order by status",
  );
  const counted = await client.query(
    `select status, count(*)::int as total, (count(*) filter (
       where date_bin('10 minutes', least(updated_at, '9999-01-01'), 'epoch') > now() - interval '24 hours 10 minutes'))::int as last_24_hours
     from webhook_deliveries group by status order by status`,
  );
  return { kept: rows, counted: counted.rows };
}

test("the figures follow every change of rows, folded or not", async () => {
  const database = await createOwnDatabase();
  const { leads } = await fill(database);
  const { client } = database;
  const fold = async () => {
    // Folding waits until there is something to gain.
    await client.query(
      "insert into webhook_private.delivery_counts select 'failed', now() - n * interval '1 hour', 0 from generate_series(1, 5000) n",
    );
    await client.query("select tidy_deliveries()");
    const { rows } = await client.query<{ count: string }>(
      "select count(*) from webhook_private.delivery_counts",
    );
    expect(Number(rows[0]!.count)).toBeLessThan(1000);
  };
  const changes: [string, unknown[]?][] = [
    ["select 1"],
    [
      "update webhook_deliveries set status = 'failed', updated_at = now() where status = 'pending'",
    ],
    [
      "update webhook_deliveries set updated_at = now() - interval '2 days' where status = 'success'",
    ],
    ["delete from leads where id = $1", [leads[0]]],
    ["insert into webhook_deliveries (payload) values ('{}'), ('{}')"],
    [
      "insert into webhook_deliveries (id, payload) select id, '{}' from webhook_deliveries on conflict do nothing",
    ],
    ["update webhook_deliveries set status = 'success' where false"],
    ["delete from webhook_deliveries where status = 'failed'"],
    [
      "insert into webhook_deliveries (payload, updated_at) select '{}', at::timestamptz from unnest(array['infinity', '-infinity', '4713-01-01 BC', '294276-12-31']) at",
    ],
    ["truncate webhook_deliveries cascade"],
    ["insert into webhook_deliveries (payload) values ('{}')"],
  ];
  for (const [sql, values] of changes) {
    await client.query(sql, values);
    const { kept, counted } = await figures(database);
    expect(kept, sql).toEqual(counted);
    await fold();
    expect((await figures(database)).kept, `${sql}, folded`).toEqual(counted);
  }
});

test("changes side by side neither wait for one another nor get lost", async () => {
  const database = await createOwnDatabase();
  await database.migrate();
  const other = await database.connect();
  const insert =
    "insert into webhook_deliveries (payload) select '{}' from generate_series(1, 3)";
  await database.client.query("begin");
  await database.client.query(insert);
  await other.query("set lock_timeout = '1s'");
  await other.query(insert);
  await other.query("select tidy_deliveries()");
  await database.client.query("commit");
  const { kept, counted } = await figures(database);
  expect(kept).toEqual(counted);
  expect(kept).toEqual([{ status: "pending", total: 6, last_24_hours: 6 }]);
});
