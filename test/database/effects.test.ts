// What records may change besides the log: only what they report for the first time, and only what it still applies to.
import { randomUUID } from "node:crypto";
import { Client } from "pg";
import { expect, inject, onTestFinished, test } from "vitest";
import { createOwnDatabase } from "./own-database.ts";

const HOOK = "https://crm.example.com/hook";

async function setup() {
  const database = await createOwnDatabase();
  await database.migrate();
  const { client } = database;
  const one = async <Row>(sql: string, values: unknown[] = []) =>
    (await client.query(sql, values)).rows[0] as Row;
  const idOf = async (sql: string, values: unknown[] = []) =>
    (await one<{ id: string }>(`${sql} returning id`, values)).id;
  const clientId = await idOf("insert into clients (name) values ('ACME')");
  const campaignId = await idOf(
    "insert into campaigns (client_id, name) values ($1, 'Spring')",
    [clientId],
  );
  const leadId = await idOf(
    "insert into leads (campaign_id, email) values ($1, 'grace@example.com')",
    [campaignId],
  );
  const endpointId = await idOf(
    "insert into webhook_endpoints (client_id, url) values ($1, $2)",
    [clientId, HOOK],
  );
  const deliveryId = randomUUID();
  await client.query("select * from create_deliveries($1)", [
    JSON.stringify([
      {
        id: deliveryId,
        lead_id: leadId,
        client_id: clientId,
        endpoint_id: endpointId,
        webhook_url: HOOK,
        payload: '{"lead":{"email":"grace@example.com"}}',
        max_attempts: 4,
      },
    ]),
  ]);

  const attempt = (number: number, status: "sent" | "failed" | "success") => ({
    delivery_id: deliveryId,
    attempt: number,
    attempted_at: new Date().toISOString(),
    duration_ms: 5,
    status,
    response_status: status === "success" ? 200 : 500,
    ...(status !== "success" && { error: "HTTP 500", error_type: "http" }),
  });
  return {
    ...database,
    deliveryId,
    leadId,
    endpointId,
    attempt,
    gone: (number: number) => ({
      ...attempt(number, "failed"),
      response_status: 410,
      disable_endpoint: endpointId,
      answered_url: HOOK,
    }),
    record: (...records: object[]) =>
      client.query("select record_attempts($1)", [
        JSON.stringify({ attempts: records, count: records.length }),
      ]),
    row: () =>
      one<{ status: string; attempt: number; lead_id: string | null }>(
        "select status, attempt, lead_id from webhook_deliveries where id = $1",
        [deliveryId],
      ),
    isActive: async () =>
      (
        await one<{ active: boolean }>(
          "select active from webhook_endpoints where id = $1",
          [endpointId],
        )
      ).active,
    leadStatus: async () =>
      (
        await one<{ status: string }>(
          "select status from leads where id = $1",
          [leadId],
        )
      ).status,
    deletions: async () =>
      (
        await client.query(
          "select id, kind, step from webhook_deletions order by kind",
        )
      ).rows as { id: string; kind: string; step: string | null }[],
    secondConnection: async () => {
      const url = new URL(inject("stack").postgresUrl);
      const name = (
        await one<{ name: string }>("select current_database() as name")
      ).name;
      const second = new Client({
        connectionString: Object.assign(url, { pathname: `/${name}` }).href,
      });
      await second.connect();
      onTestFinished(() => second.end());
      return second;
    },
  };
}

test("a batch that is recorded again disables nothing and tells nobody anything", async () => {
  const { client, record, gone, attempt, ...see } = await setup();
  const batch = [gone(1), attempt(2, "success")];
  await record(...batch);
  expect(await see.isActive()).toBe(false);
  expect(await see.leadStatus()).toBe("webhook_sent");

  await client.query("update webhook_endpoints set active = true");
  await client.query("update leads set status = 'email_captured'");
  await client.query("update webhook_deliveries set status = 'cancelled'");
  await record(...batch);
  expect(await see.isActive()).toBe(true);
  expect(await see.leadStatus()).toBe("email_captured");
  expect(await see.row()).toMatchObject({ status: "cancelled", attempt: 2 });
});

test("a 410 from the URL that an endpoint had before does not disable it", async () => {
  const { client, record, gone, isActive } = await setup();
  await client.query(
    "update webhook_endpoints set url = 'https://crm.example.com/new'",
  );
  await record(gone(1));
  expect(await isActive()).toBe(true);
});

test("a 410 that another result of the same attempt outweighs disables nothing", async () => {
  const { record, gone, attempt, isActive } = await setup();
  await record(attempt(1, "success"));
  await record(gone(1));
  expect(await isActive()).toBe(true);
});

test("a success counts whenever it comes, and nothing that is late takes it back", async () => {
  for (const number of [1, 2, 3]) {
    const { record, attempt, row, leadStatus } = await setup();
    await record(attempt(1, "sent"), attempt(2, "sent"), attempt(3, "failed"));
    await record(attempt(number, "success"));
    expect(await row()).toMatchObject({ status: "success", attempt: 3 });
    expect(await leadStatus()).toBe("webhook_sent");
    await record(attempt(4, "failed"), attempt(number, "failed"));
    expect(await row()).toMatchObject({ status: "success" });
  }
});

test("a manual retry takes the number after an attempt that is being recorded at the same time", async () => {
  const { client, record, attempt, deliveryId, secondConnection } =
    await setup();
  const second = await secondConnection();
  await client.query("begin");
  await record(attempt(1, "failed"));
  const restarting = second.query(
    "select attempt from restart_delivery($1, 4)",
    [deliveryId],
  );
  await new Promise((done) => setTimeout(done, 200));
  await client.query("commit");
  expect((await restarting).rows).toEqual([{ attempt: 2 }]);
});

test("an attempt that Postgres refuses because of its lead is closed all the same", async () => {
  const { client, record, attempt, row, leadStatus, deliveryId } =
    await setup();
  await client.query("alter table leads add check (status <> 'webhook_sent')");
  await expect(record(attempt(1, "success"))).rejects.toThrow("check");
  for (let times = 0; times < 2; times++)
    await client.query("select close_attempt($1)", [
      JSON.stringify(attempt(1, "success")),
    ]);
  expect(await row()).toMatchObject({ status: "success", attempt: 1 });
  expect(await leadStatus()).toBe("email_captured");
  const logs = await client.query(
    "select attempt_number, response_status from webhook_delivery_logs where delivery_id = $1",
    [deliveryId],
  );
  expect(logs.rows).toEqual([{ attempt_number: 1, response_status: 200 }]);
});

test.each(['{ "n" : 1.0 }', "not json"])(
  "the row that a refused record brings along is made with the payload that was sent (%s)",
  async (payload) => {
    const { client, attempt } = await setup();
    const id = randomUUID();
    const delivery = { webhook_url: HOOK, payload, max_attempts: 4 };
    const record = { ...attempt(1, "failed"), delivery_id: id, delivery };
    await client.query("select close_attempt($1)", [JSON.stringify(record)]);
    const { rows } = await client.query(
      "select status, payload::text from webhook_deliveries where id = $1",
      [id],
    );
    const text = payload[0] === "{" ? payload : JSON.stringify(payload);
    expect(rows).toEqual([{ status: "failed", payload: text }]);
  },
);

test("a record of which only the delivery's id can be read closes the delivery as failed, unless it is finished", async () => {
  const { client, record, attempt, row, deliveryId } = await setup();
  const close = () =>
    client.query("select close_attempt($1)", [
      JSON.stringify({ delivery_id: deliveryId, error: "unreadable" }),
    ]);
  await close();
  expect(await row()).toMatchObject({ status: "failed", attempt: 1 });
  await record(attempt(1, "success"));
  await close();
  expect(await row()).toMatchObject({ status: "success" });
});

test("what is deleted is noted, and a late record does not store it anew", async () => {
  const { client, record, attempt, deletions, row, ...ids } = await setup();
  const { deliveryId, leadId, endpointId } = ids;
  const unknown = randomUUID();
  const delivery = {
    lead_id: leadId,
    webhook_url: HOOK,
    payload: '{"email":"grace@example.com"}',
    max_attempts: 4,
    schedule_start: 1,
    created_at: new Date().toISOString(),
  };
  await client.query("delete from leads where id = $1", [leadId]);
  expect(await deletions()).toEqual([
    { id: deliveryId, kind: "delivery", step: "queue" },
    { id: leadId, kind: "lead", step: null },
  ]);
  // One that had a row, and one that came straight from a producer and had none yet.
  const { rows } = await record(
    { ...attempt(1, "sent"), delivery },
    { ...attempt(1, "sent"), delivery_id: unknown, delivery },
  );
  expect(new Set(rows.map((each) => each.record_attempts as string))).toEqual(
    new Set([deliveryId, unknown]),
  );
  const stored = await client.query("select id from webhook_deliveries");
  expect(stored.rows).toEqual([]);
  expect(await deletions()).toContainEqual({
    id: unknown,
    kind: "delivery",
    step: "queue",
  });
  await client.query("select close_attempt($1)", [
    JSON.stringify({ ...attempt(1, "sent"), delivery }),
  ]);
  expect(await row()).toBeUndefined();
  expect(endpointId).not.toBeNull();
});

test("the unfinished deliveries of a deleted endpoint are cancelled page by page and are not sent again", async () => {
  const { client, deletions, endpointId, deliveryId, row } = await setup();
  await client.query(
    `insert into webhook_deliveries (endpoint_id, webhook_url, payload, status, created_at)
     select $1, $2, '{}', case n % 4 when 0 then 'success' when 1 then 'failed' when 2 then 'sent' else 'pending' end,
       now() - (n / 7) * interval '1 second'
     from generate_series(1, 50) n`,
    [endpointId, HOOK],
  );
  await client.query("delete from webhook_endpoints where id = $1", [
    endpointId,
  ]);
  let pages = 1;
  for (; ; pages++) {
    const { rows } = await client.query(
      "select cancel_deliveries_of_deleted_endpoint($1, 10) as more",
      [endpointId],
    );
    if (!rows[0].more) break;
  }
  expect(pages).toBe(3);
  const counts = await client.query(
    "select status, count(*)::int from webhook_deliveries group by status order by status",
  );
  expect(counts.rows).toEqual([
    { status: "cancelled", count: 26 },
    { status: "failed", count: 13 },
    { status: "success", count: 12 },
  ]);
  const noted = (await deletions()).filter(({ kind }) => kind === "delivery");
  expect(noted).toHaveLength(39);
  const restarted = await client.query(
    "select id from restart_delivery($1, 4)",
    [deliveryId],
  );
  expect(restarted.rows).toEqual([]);
  expect(await row()).toMatchObject({ status: "cancelled" });

  // A request that had looked it up before may create one more.
  await client.query(
    "insert into webhook_deliveries (endpoint_id, webhook_url, payload) values ($1, $2, '{}')",
    [endpointId, HOOK],
  );
  await client.query("select cancel_deliveries_of_deleted_endpoint($1, 10)", [
    endpointId,
  ]);
  const pending = await client.query(
    "select id from webhook_deliveries where status = 'pending'",
  );
  expect(pending.rows).toEqual([]);
});
