// Every function that the services call gives up before its caller does, on a lock and as a whole.
import { randomUUID } from "node:crypto";
import { createDatabase, unwrap } from "@pipeline/shared/database";
import { isHeld } from "@pipeline/shared/database-fault";
import { Client } from "pg";
import { expect, inject, onTestFinished, test } from "vitest";

/** Shorter than the callers' own limits in the services' `app.ts`. */
const LONGEST: Record<string, { lockMs: number; statementMs: number }> = {
  create_deliveries: { lockMs: 500, statementMs: 2500 },
  withdraw_deliveries: { lockMs: 500, statementMs: 2500 },
  restart_delivery: { lockMs: 500, statementMs: 2500 },
  cancel_delivery: { lockMs: 500, statementMs: 2500 },
  leads_for_delivery: { lockMs: 500, statementMs: 2500 },
  endpoints_for_delivery: { lockMs: 500, statementMs: 2500 },
  delivery_stats: { lockMs: 1000, statementMs: 4500 },
  record_attempts: { lockMs: 500, statementMs: 9000 },
  unfinished_deliveries: { lockMs: 1000, statementMs: 9000 },
};

async function connect(): Promise<Client> {
  const sql = new Client({ connectionString: inject("stack").postgresUrl });
  await sql.connect();
  onTestFinished(() => sql.end());
  return sql;
}

function connectAsService() {
  const { supabaseUrl, serviceRoleKey } = inject("stack");
  const database = createDatabase(supabaseUrl, serviceRoleKey, 20_000);
  onTestFinished(database.close);
  return database;
}

test.each(Object.entries(LONGEST))(
  "%s has a lock timeout and a statement timeout",
  async (name, { lockMs, statementMs }) => {
    const sql = await connect();
    const { rows } = await sql.query<{ proconfig: string[] | null }>(
      "select proconfig from pg_proc where proname = $1 and pronamespace = 'public'::regnamespace",
      [name],
    );
    expect(rows).not.toEqual([]);
    for (const { proconfig } of rows) {
      const limit = (setting: string) =>
        Number(
          (proconfig ?? [])
            .find((each) => each.startsWith(`${setting}=`))
            ?.match(/=(\d+)ms$/)?.[1],
        );
      expect(limit("lock_timeout")).toBeLessThanOrEqual(lockMs);
      expect(limit("statement_timeout")).toBeLessThanOrEqual(statementMs);
    }
  },
);

async function msUntilHeld(call: Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  const error = await call.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(isHeld(error), String(error)).toBe(true);
  return performance.now() - startedAt;
}

test("through PostgREST, a call that meets a locked row gives up within the lock timeout", async () => {
  const [sql, database] = [await connect(), connectAsService()];
  const id = randomUUID();
  await sql.query(
    "insert into webhook_deliveries (id, payload) values ($1, '{}')",
    [id],
  );
  await sql.query("begin");
  await sql.query("select from webhook_deliveries where id = $1 for update", [
    id,
  ]);
  const args = { delivery_id: id };
  const ms = await msUntilHeld(
    unwrap(database.client.rpc("cancel_delivery", args)),
  );
  expect(ms).toBeGreaterThan(250);
  expect(ms).toBeLessThan(2000);
  await sql.query("rollback");
});

test("through PostgREST, a call that takes too long is ended by Postgres", async () => {
  const [sql, database] = [await connect(), connectAsService()];
  const name = `slow_${randomUUID().replaceAll("-", "")}`;
  const url = `https://${name}.example.com/`;
  await sql.query(`
    create function public.${name}() returns trigger language plpgsql as $$
      begin perform pg_sleep(15); return new; end $$;
    create trigger ${name} before insert on public.webhook_deliveries
      for each row when (new.webhook_url = '${url}') execute function public.${name}();
  `);
  onTestFinished(async () => {
    const admin = new Client({ connectionString: inject("stack").postgresUrl });
    await admin.connect();
    await admin.query(
      `drop trigger ${name} on public.webhook_deliveries; drop function public.${name}()`,
    );
    await admin.end();
  });
  const delivery = {
    id: randomUUID(),
    payload: "{}",
    webhook_url: url,
    max_attempts: 4,
  };
  const ms = await msUntilHeld(
    database.callWithText("create_deliveries", JSON.stringify([delivery])),
  );
  expect(ms).toBeGreaterThan(1500);
  expect(ms).toBeLessThan(3000);
});
