// What the recorder's function makes of batches that are late, repeated or contradict one another.
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { createOwnDatabase } from "./own-database.ts";

async function setup() {
  const database = await createOwnDatabase();
  await database.migrate();
  const { client } = database;
  const deliveryId = randomUUID();
  const row = {
    id: deliveryId,
    webhook_url: "https://example.com",
    payload: "{}",
    max_attempts: 4,
  };
  await client.query("select * from create_deliveries($1)", [
    JSON.stringify([row]),
  ]);

  const failed = (attempt: number, status: "sent" | "failed") => ({
    delivery_id: deliveryId,
    attempt,
    attempted_at: new Date(1_790_000_000_000 + attempt * 1000).toISOString(),
    duration_ms: 5,
    status,
    response_status: 500,
    error: "HTTP 500",
    error_type: "http",
  });
  const succeeded = (attempt: number) => ({
    delivery_id: deliveryId,
    attempt,
    attempted_at: new Date(1_790_000_000_000 + attempt * 1000).toISOString(),
    duration_ms: 5,
    status: "success",
    response_status: 200,
  });
  return {
    deliveryId,
    failed,
    succeeded,
    client,
    record: async (...records: object[]) => {
      const { rows } = await client.query(
        "select record_attempts($1) as missing",
        [JSON.stringify({ attempts: records, count: records.length })],
      );
      return rows.map(({ missing }) => missing as string);
    },
    state: async () => {
      const delivery = await client.query(
        "select status, attempt, last_error from webhook_deliveries where id = $1",
        [deliveryId],
      );
      const logs = await client.query(
        "select attempt_number as attempt, error, will_retry from webhook_delivery_logs where delivery_id = $1 order by 1",
        [deliveryId],
      );
      return { ...delivery.rows[0], logs: logs.rows };
    },
  };
}

test("a batch that is recorded twice changes nothing the second time", async () => {
  const { record, failed, state, client, deliveryId } = await setup();
  await record(failed(1, "sent"), failed(2, "failed"));
  const before = await state();
  expect(before).toMatchObject({
    status: "failed",
    attempt: 2,
    last_error: "HTTP 500",
  });
  expect(before.logs).toHaveLength(2);

  await client.query("select * from restart_delivery($1, 4)", [deliveryId]);
  await record(failed(1, "sent"), failed(2, "failed"));
  expect(await state()).toEqual({ ...before, status: "pending", attempt: 3 });
});

test("a late batch adds its log rows and does not move the delivery backwards", async () => {
  const { record, failed, succeeded, state } = await setup();
  await record(succeeded(3));
  await record(failed(1, "sent"), failed(2, "sent"));
  const { status, attempt, logs } = await state();
  expect({ status, attempt, logged: logs.length }).toEqual({
    status: "success",
    attempt: 3,
    logged: 3,
  });
});

test("of two results for one attempt the success counts, in either order, and one row is logged", async () => {
  for (const order of ["failure first", "success first", "together"]) {
    const { record, failed, succeeded, state } = await setup();
    if (order === "together") await record(failed(1, "sent"), succeeded(1));
    else if (order === "failure first")
      await record(failed(1, "sent")).then(() => record(succeeded(1)));
    else await record(succeeded(1)).then(() => record(failed(1, "sent")));
    expect(await state(), order).toEqual({
      status: "success",
      attempt: 1,
      last_error: null,
      logs: [{ attempt: 1, error: null, will_retry: false }],
    });
  }
});

test("a cancelled delivery stays cancelled after a failure, and becomes a success if it did arrive", async () => {
  const { record, failed, succeeded, state, client, deliveryId } =
    await setup();
  await client.query("select * from cancel_delivery($1)", [deliveryId]);
  await record(failed(1, "sent"));
  expect(await state()).toMatchObject({ status: "cancelled" });
  await record(succeeded(2));
  expect(await state()).toMatchObject({ status: "success" });
});

test("a record without its delivery is named and harms no other", async () => {
  const { record, succeeded, state } = await setup();
  const gone = randomUUID();
  expect(
    await record({ ...succeeded(1), delivery_id: gone }, succeeded(1)),
  ).toEqual([gone]);
  expect(await state()).toMatchObject({ status: "success" });
});

test("a delivery that comes along with its record is made first, without a lead that is gone", async () => {
  const { record, succeeded, client } = await setup();
  const id = randomUUID();
  const delivery = {
    lead_id: randomUUID(),
    webhook_url: "https://example.com",
    payload: '{"a":1}',
    max_attempts: 4,
    schedule_start: 1,
  };
  const created_at = "2026-11-01T00:00:00.000Z";
  await record({
    ...succeeded(1),
    delivery_id: id,
    delivery: { ...delivery, created_at },
  });
  const { rows } = await client.query(
    "select lead_id, payload, status, created_at from webhook_deliveries where id = $1",
    [id],
  );
  expect(rows).toEqual([
    {
      lead_id: null,
      payload: { a: 1 },
      status: "success",
      created_at: new Date(created_at),
    },
  ]);
});

test("a producer's payload is kept as its text, which is what is sent again", async () => {
  const { record, failed, client } = await setup();
  const [plain, changed] = [randomUUID(), randomUUID()];
  const text = '{ "z":9007199254740993, "a" : 1.0,"a":1e400 }';
  const original = String.raw`{"a":"\u0000"}`;
  const delivery = {
    webhook_url: "https://example.com",
    max_attempts: 4,
    schedule_start: 1,
    created_at: "2026-11-01T00:00:00.000Z",
  };
  await record(
    {
      ...failed(1, "sent"),
      delivery_id: plain,
      delivery: { ...delivery, payload: text },
    },
    {
      ...failed(1, "sent"),
      delivery_id: changed,
      delivery: { ...delivery, payload: '{"a":""}', payload_text: original },
    },
  );
  const { rows } = await client.query(
    "select id, payload::text as sent from webhook_deliveries where id in ($1, $2)",
    [plain, changed],
  );
  expect(new Map(rows.map(({ id, sent }) => [id, sent]))).toEqual(
    new Map([
      [plain, text],
      [changed, original],
    ]),
  );
});

test("a manual retry goes on with the next attempt number and a schedule that starts over", async () => {
  const { record, failed, client, deliveryId } = await setup();
  await record(
    failed(1, "sent"),
    failed(2, "sent"),
    failed(3, "sent"),
    failed(4, "failed"),
  );
  const { rows } = await client.query(
    "select status, attempt, schedule_start, max_attempts, next_retry_at from restart_delivery($1, 4)",
    [deliveryId],
  );
  expect(rows).toEqual([
    {
      status: "pending",
      attempt: 5,
      schedule_start: 5,
      max_attempts: 8,
      next_retry_at: null,
    },
  ]);
});

test("neither function ever reads the whole table, however small it was when its plan was made", async () => {
  const { client, record, succeeded } = await setup();
  await client.query("truncate webhook_deliveries cascade");
  await client.query("vacuum analyze webhook_deliveries");
  const wholeReads = async () => {
    await client.query("select pg_stat_force_next_flush()");
    const { rows } = await client.query(
      "select seq_scan::int from pg_stat_user_tables where relname = 'webhook_deliveries'",
    );
    return rows[0].seq_scan as number;
  };
  const before = await wholeReads();
  // After five calls Postgres keeps one plan for all that follow.
  for (let call = 0; call < 10; call++) {
    const rows = Array.from({ length: 20 }, () => ({
      id: randomUUID(),
      webhook_url: "https://example.com",
      payload: "{}",
      max_attempts: 4,
      schedule_start: 1,
      created_at: new Date().toISOString(),
    }));
    const create = "select * from create_deliveries($1)";
    await client.query(create, [JSON.stringify(rows)]);
    await client.query(create, [JSON.stringify(rows)]); // again: the rows are looked up
    const attempts = rows.map(({ id }, index) => ({
      ...succeeded(1),
      delivery_id: index % 2 === 0 ? id : randomUUID(),
      ...(index % 2 === 1 && { delivery: rows[index] }),
    }));
    await record(...attempts);
  }
  expect(await wholeReads()).toBe(before);
});

test("an attempt that names no delivery is refused, and its batch with it", async () => {
  const { record, succeeded, state } = await setup();
  const before = await state();
  await expect(
    record(succeeded(1), { ...succeeded(1), delivery_id: null }),
  ).rejects.toThrow("delivery_id");
  expect(await state()).toEqual(before);
});

test("a text that swallows its neighbours is refused", async () => {
  const { client, succeeded, state } = await setup();
  const before = await state();
  const swallowing = `{"x":[{},${JSON.stringify(succeeded(1))},{}]}`;
  await expect(
    client.query("select record_attempts($1)", [
      `{"attempts":[${swallowing}],"count":3}`,
    ]),
  ).rejects.toThrow("holds 1 attempts and not 3");
  expect(await state()).toEqual(before);
});
