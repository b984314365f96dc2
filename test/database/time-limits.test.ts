// Every function that the services call gives up before its caller does, on a lock and as a whole.
import { randomUUID } from "node:crypto";
import { createDatabase, unwrap } from "@pipeline/shared/database";
import { isHeld } from "@pipeline/shared/database-fault";
import { Client } from "pg";
import { expect, inject, onTestFinished, test } from "vitest";

/** Shorter than the callers' own limits in the services' `app.ts`: 3 s for ingest, but 5 s for what it reads. */
const STATEMENT_MS: Record<string, number> = {
  create_deliveries: 2500,
  withdraw_deliveries: 2500,
  deliveries_of_keys: 2500,
  restart_delivery: 2500,
  cancel_delivery: 2500,
  leads_for_delivery: 2500,
  endpoints_for_delivery: 2500,
  delivery_stats: 4500,
  list_deliveries: 4500,
  count_deliveries: 4500,
};
/** 10 s for the recorder and the retry-scheduler. */
const OTHER_STATEMENT_MS = 9000;
const LOCK_MS = 1000;
/** Not called by the services, but by other functions. */
const INNER = ["hash_of_key", "delivery_of_key"];

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

test("every function has a lock timeout and a statement timeout", async () => {
  const sql = await connect();
  const { rows } = await sql.query<{
    proname: string;
    proconfig: string[] | null;
  }>(
    `select proname, proconfig from pg_proc
     where pronamespace = 'public'::regnamespace and prorettype <> 'trigger'::regtype
       and not has_function_privilege('authenticated', oid, 'execute') and proname <> all ($1)`,
    [INNER],
  );
  const names = rows.map(({ proname }) => proname);
  for (const name of Object.keys(STATEMENT_MS)) expect(names).toContain(name);
  for (const { proname, proconfig } of rows) {
    const limitMs = (setting: string) => {
      const [, count, unit] =
        (proconfig ?? [])
          .find((each) => each.startsWith(`${setting}=`))
          ?.match(/=(\d+)(ms|s)$/) ?? [];
      return Number(count) * (unit === "s" ? 1000 : 1);
    };
    const statementMs = STATEMENT_MS[proname] ?? OTHER_STATEMENT_MS;
    expect(limitMs("lock_timeout"), proname).toBeLessThanOrEqual(LOCK_MS);
    expect(limitMs("statement_timeout"), proname).toBeLessThanOrEqual(
      statementMs,
    );
  }
});

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
