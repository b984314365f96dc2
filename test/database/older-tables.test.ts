// The migrations over the tables of the product being replaced, with its rows in them.
import { randomUUID } from "node:crypto";
import { readdir } from "node:fs/promises";
import { migrationsFolder } from "@pipeline/dev-stack/paths";
import { expect, test } from "vitest";
import { createOwnDatabase } from "./own-database.ts";

const OLDER_TABLES = `
  create table clients (id uuid primary key default gen_random_uuid(), name text not null);
  create table campaigns (id uuid primary key default gen_random_uuid(), client_id uuid references clients, name text not null);
  create table leads (id uuid primary key default gen_random_uuid(), campaign_id uuid references campaigns, email text,
    first_name text, last_name text, linkedin_id text not null, linkedin_url text, company text, title text, source text,
    status text check (status in ('comment_detected', 'dm_sent', 'email_captured', 'webhook_sent', 'completed')),
    created_at timestamptz default now());
  create table webhook_deliveries (id uuid primary key default gen_random_uuid(),
    lead_id uuid not null references leads on delete cascade, webhook_url text not null, payload jsonb not null,
    signature text not null, attempt integer default 1, max_attempts integer default 4,
    status text check (status in ('pending', 'sent', 'failed', 'success')) default 'pending', last_error text,
    next_retry_at timestamptz, sent_at timestamptz, response_status integer, response_body text,
    created_at timestamptz default now(), updated_at timestamptz default now());
  create index idx_webhook_deliveries_status on webhook_deliveries (status);
  alter table webhook_deliveries enable row level security;
  create policy "Service role can update webhook deliveries" on webhook_deliveries for update using (true) with check (true);
  create policy "Service role can manage webhook deliveries" on webhook_deliveries for insert with check (true);
  create table webhook_delivery_logs (id uuid primary key default gen_random_uuid(),
    delivery_id uuid not null references webhook_deliveries on delete cascade, attempt_number integer not null,
    attempted_at timestamptz default now(), response_status integer, response_body text, response_headers jsonb, error text,
    error_type text, will_retry boolean default false, retry_at timestamptz, created_at timestamptz default now());
  create table webhook_endpoints (id uuid primary key default gen_random_uuid(), client_id uuid not null references clients,
    url text not null, name text, type text, secret text not null, active boolean default true, last_tested_at timestamptz,
    last_test_status integer, headers jsonb, format text, created_at timestamptz default now(), updated_at timestamptz);
`;

async function fillOlderTables(
  query: (sql: string, values?: unknown[]) => Promise<unknown>,
) {
  const [clientId, campaignId, leadId, deliveryId] = [
    randomUUID(),
    randomUUID(),
    randomUUID(),
    randomUUID(),
  ];
  await query("insert into clients values ($1, 'Acme')", [clientId]);
  await query("insert into campaigns values ($1, $2, 'Autumn')", [
    campaignId,
    clientId,
  ]);
  await query(
    "insert into leads (id, campaign_id, email, linkedin_id, status) values ($1, $2, 'a@b.co', 'x', 'email_captured')",
    [leadId, campaignId],
  );
  await query(
    "insert into webhook_deliveries (id, lead_id, webhook_url, payload, signature, status, attempt) values ($1, $2, 'https://example.com', '{}', 'abc', 'sent', 2)",
    [deliveryId, leadId],
  );
  for (const second of [1, 2]) {
    await query(
      "insert into webhook_delivery_logs (delivery_id, attempt_number, attempted_at) values ($1, 1, now() + make_interval(secs => $2))",
      [deliveryId, second],
    );
  }
  return { clientId, campaignId, leadId, deliveryId };
}

test("the older product's rows stay as they are and the new functions work on its tables", async () => {
  const database = await createOwnDatabase();
  await database.client.query(OLDER_TABLES);
  const { clientId, leadId, deliveryId } = await fillOlderTables(
    (sql, values) => database.client.query(sql, values),
  );

  expect(await database.migrate()).toEqual(
    (await readdir(migrationsFolder)).toSorted(),
  );
  expect(await database.migrate()).toEqual([]);

  const { rows } = await database.client.query(
    "select * from webhook_deliveries",
  );
  expect(rows).toMatchObject([
    {
      id: deliveryId,
      lead_id: leadId,
      status: "sent",
      attempt: 2,
      client_id: clientId,
      schedule_start: 1,
    },
  ]);
  const logs = await database.client.query(
    "select attempt_number from webhook_delivery_logs order by attempted_at",
  );
  expect(logs.rows).toEqual([{ attempt_number: 1 }, { attempt_number: 2 }]);

  const created = randomUUID();
  const delivery = {
    id: created,
    lead_id: leadId,
    webhook_url: "https://example.com",
    payload: "{}",
    max_attempts: 4,
  };
  await database.client.query("select * from create_deliveries($1)", [
    JSON.stringify([delivery]),
  ]);
  const attempt = {
    delivery_id: created,
    attempt: 1,
    attempted_at: new Date().toISOString(),
    duration_ms: 3,
    status: "success",
  };
  await database.client.query("select * from record_attempts($1)", [
    JSON.stringify({
      attempts: [{ ...attempt, response_status: 200 }],
      count: 1,
    }),
  ]);
  const lead = await database.client.query(
    "select status from leads where id = $1",
    [leadId],
  );
  expect(lead.rows).toEqual([{ status: "webhook_sent" }]);
});

test("the older policies that let everyone insert and update are gone", async () => {
  const database = await createOwnDatabase();
  await database.client.query(OLDER_TABLES);
  await fillOlderTables((sql, values) => database.client.query(sql, values));
  await database.migrate();

  for (const role of ["anon", "authenticated"] as const) {
    const update = database.as(
      role,
      randomUUID(),
      "update webhook_deliveries set status = 'success'",
    );
    await expect(update).rejects.toThrow("permission denied");
  }
});

test.each([
  "create view paid as select id from webhook_deliveries where payload @> '{\"a\":1}'",
  "create index on webhook_deliveries using gin (payload)",
  "create index on webhook_deliveries using gin (payload jsonb_path_ops)",
  "alter table webhook_deliveries add check (jsonb_typeof(payload) = 'object')",
])(
  "where the product needs jsonb, payloads stay jsonb and the functions work all the same: %s",
  async (sql) => {
    const database = await createOwnDatabase();
    await database.client.query(OLDER_TABLES);
    await database.client.query(sql);
    await database.migrate();
    const [own, produced] = [randomUUID(), randomUUID()];
    const delivery = {
      webhook_url: "https://example.com",
      payload: '{"n":9007199254740993}',
      max_attempts: 4,
    };
    await database.client.query("select * from create_deliveries($1)", [
      JSON.stringify([{ id: own, ...delivery }]),
    ]);
    const attempt = {
      delivery_id: produced,
      attempt: 1,
      attempted_at: new Date().toISOString(),
      duration_ms: 3,
      status: "success",
      delivery: {
        ...delivery,
        schedule_start: 1,
        created_at: new Date().toISOString(),
      },
    };
    await database.client.query("select * from record_attempts($1)", [
      JSON.stringify({ attempts: [attempt], count: 1 }),
    ]);
    const { rows } = await database.client.query(
      "select payload::text, pg_typeof(payload) as type from webhook_deliveries",
    );
    expect(rows).toHaveLength(2);
    for (const row of rows)
      expect(row).toEqual({
        payload: '{"n": 9007199254740993}',
        type: "jsonb",
      });
  },
);
