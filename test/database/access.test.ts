// Row level security, as the holders of the three kinds of API keys meet it.
import { randomUUID } from "node:crypto";
import { signApiKey } from "@pipeline/dev-stack/api-keys";
import { Client } from "pg";
import { expect, inject, onTestFinished, test } from "vitest";
import { createOwnDatabase } from "./own-database.ts";

const OPEN_COLUMNS =
  "id, lead_id, client_id, webhook_url, payload, status, attempt, last_error";

/** A client with a user, an endpoint, a delivery and its attempt. */
async function addClient(client: Client) {
  const [clientId, userId, deliveryId, endpointId] = [
    randomUUID(),
    randomUUID(),
    randomUUID(),
    randomUUID(),
  ];
  await client.query("insert into clients (id, name) values ($1, 'Acme')", [
    clientId,
  ]);
  await client.query("insert into users (id, client_id) values ($1, $2)", [
    userId,
    clientId,
  ]);
  await client.query(
    "insert into webhook_endpoints (id, client_id, url, secret) values ($1, $2, 'https://example.com', 'hush')",
    [endpointId, clientId],
  );
  await client.query(
    "insert into webhook_deliveries (id, client_id, webhook_url, payload, secret) values ($1, $2, 'https://example.com', '{}', 'hush')",
    [deliveryId, clientId],
  );
  await client.query(
    "insert into webhook_delivery_logs (delivery_id, attempt_number) values ($1, 1)",
    [deliveryId],
  );
  return { clientId, userId, deliveryId, endpointId };
}

async function createTwoClients() {
  const database = await createOwnDatabase();
  await database.migrate();
  const acme = await addClient(database.client);
  await addClient(database.client);
  return { database, acme };
}

test("a signed-in user reads the rows of their own client and no others", async () => {
  const { database, acme } = await createTwoClients();
  const read = (sql: string) => database.as("authenticated", acme.userId, sql);

  expect(await read("select id from webhook_deliveries")).toEqual([
    { id: acme.deliveryId },
  ]);
  expect(await read("select delivery_id from webhook_delivery_logs")).toEqual([
    { delivery_id: acme.deliveryId },
  ]);
  expect(await read("select id from webhook_endpoints")).toEqual([
    { id: acme.endpointId },
  ]);
  expect(
    await read(`select ${OPEN_COLUMNS} from webhook_deliveries`),
  ).toHaveLength(1);
});

test("nobody but the service role reads a secret", async () => {
  const { database, acme } = await createTwoClients();
  for (const role of ["anon", "authenticated"] as const) {
    for (const table of ["webhook_deliveries", "webhook_endpoints"]) {
      for (const column of ["secret", "headers", "*"]) {
        const read = database.as(
          role,
          acme.userId,
          `select ${column} from ${table}`,
        );
        await expect(
          read,
          `${role} reads ${column} of ${table}`,
        ).rejects.toThrow("permission denied");
      }
    }
  }
  expect(
    await database.as(
      "service_role",
      null,
      "select secret from webhook_deliveries",
    ),
  ).toHaveLength(2);
});

test("an anonymous key, and a user without a client, read nothing", async () => {
  const { database } = await createTwoClients();
  for (const table of [
    "webhook_deliveries",
    "webhook_delivery_logs",
    "webhook_endpoints",
  ]) {
    await expect(
      database.as("anon", null, `select id from ${table}`),
    ).rejects.toThrow("permission denied");
    expect(
      await database.as(
        "authenticated",
        randomUUID(),
        `select id from ${table}`,
      ),
    ).toEqual([]);
  }
});

test("users neither write rows nor call the services' functions", async () => {
  const { database, acme } = await createTwoClients();
  const statements = [
    "insert into webhook_deliveries (payload) values ('{}')",
    "update webhook_deliveries set status = 'success'",
    "delete from webhook_delivery_logs",
    "update webhook_endpoints set url = 'https://evil.example'",
    "select create_deliveries('[]')",
    "select record_attempts('[]')",
    `select restart_delivery('${acme.deliveryId}', 4)`,
    `select cancel_delivery('${acme.deliveryId}')`,
    "select unfinished_deliveries(now(), now(), gen_random_uuid(), 1)",
    "select list_deliveries('{}', 1)",
    "select count_deliveries('{}', 1)",
    "select delivery_stats()",
    "select tidy_deliveries()",
    "select leads_for_delivery('{}')",
  ];
  for (const role of ["anon", "authenticated"] as const) {
    for (const statement of statements) {
      await expect(
        database.as(role, acme.userId, statement),
        `${role}: ${statement}`,
      ).rejects.toThrow("permission denied");
    }
  }
});

test("row level security is on for every table", async () => {
  const { database } = await createTwoClients();
  const { rows } = await database.client.query(
    "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' and not relrowsecurity",
  );
  expect(rows).toEqual([]);
});

test("users may execute no function of the schema that PostgREST exposes", async () => {
  const { database } = await createTwoClients();
  const { rows } = await database.client.query(
    `select role, p.oid::regprocedure::text as function from pg_proc p, unnest(array['anon', 'authenticated']) role
     where p.pronamespace = 'public'::regnamespace and has_function_privilege(role, p.oid, 'execute')`,
  );
  expect(rows).toEqual([]);
});

test("a policy's function may be executed in policies, by signed-in users, and called by nobody", async () => {
  const { database, acme } = await createTwoClients();
  const { rows } = await database.client.query(
    `select role, p.proname as function from pg_proc p, unnest(array['anon', 'authenticated']) role
     where p.pronamespace = 'webhook_private'::regnamespace and has_function_privilege(role, p.oid, 'execute')`,
  );
  expect(rows).toEqual([
    { role: "authenticated", function: "current_client_id" },
  ]);
  for (const role of ["anon", "authenticated"] as const) {
    const statements = [
      "select webhook_private.current_client_id()",
      "select * from webhook_private.delivery_counts",
    ];
    for (const statement of statements) {
      await expect(
        database.as(role, acme.userId, statement),
        `${role}: ${statement}`,
      ).rejects.toThrow("permission denied for schema webhook_private");
    }
  }
});

test("a database of an earlier version keeps its rows readable and loses the function that users could call", async () => {
  const database = await createOwnDatabase();
  await database.migrateBefore("20261125000400");
  const acme = await addClient(database.client);
  await addClient(database.client);
  const read = (sql: string) => database.as("authenticated", acme.userId, sql);
  const call = "select current_client_ids() as id";
  expect(await read(call)).toEqual([{ id: acme.clientId }]);

  await database.migrate();
  await expect(read(call)).rejects.toThrow("does not exist");
  const columns = {
    webhook_deliveries: "id",
    webhook_delivery_logs: "delivery_id",
  };
  for (const [table, column] of Object.entries(columns))
    expect(await read(`select ${column} as id from ${table}`)).toEqual([
      { id: acme.deliveryId },
    ]);
  expect(await read("select id from webhook_endpoints")).toEqual([
    { id: acme.endpointId },
  ]);
  expect(
    await database.as(
      "service_role",
      null,
      "select total::int from delivery_stats()",
    ),
  ).toEqual([{ total: 2 }]);
});

test("through PostgREST, users read their client's rows and reach no function behind the policies", async () => {
  const { postgresUrl, supabaseUrl, anonKey } = inject("stack");
  const client = new Client({ connectionString: postgresUrl });
  await client.connect();
  onTestFinished(() => client.end());
  const acme = await addClient(client);
  await addClient(client);
  const userKey = signApiKey({ role: "authenticated", sub: acme.userId });
  const ask = (
    apikey: string,
    path: string,
    init: { method?: string; headers?: Record<string, string> } = {},
  ) =>
    fetch(`${supabaseUrl}/rest/v1/${path}`, {
      ...init,
      headers: { apikey, ...init.headers },
    });
  const read = async (path: string): Promise<unknown> =>
    (await ask(userKey, path)).json();

  expect(await read("webhook_deliveries?select=id")).toEqual([
    { id: acme.deliveryId },
  ]);
  expect(await read("webhook_delivery_logs?select=delivery_id")).toEqual([
    { delivery_id: acme.deliveryId },
  ]);
  expect(await read("webhook_endpoints?select=id")).toEqual([
    { id: acme.endpointId },
  ]);
  for (const table of ["webhook_deliveries", "webhook_delivery_logs"])
    expect((await ask(anonKey, `${table}?select=id`)).status).toBe(401);

  const functions = [
    "current_client_ids",
    "current_client_id",
    "matching_deliveries",
    "count_deliveries_of_statement",
  ];
  for (const key of [anonKey, userKey]) {
    for (const name of functions) {
      const hidden = await ask(key, `rpc/${name}`, { method: "POST" });
      expect(hidden.status, name).toBe(404);
      const profile = { "content-profile": "webhook_private" };
      const refused = await ask(key, `rpc/${name}`, {
        method: "POST",
        headers: profile,
      });
      expect(refused.status, name).toBe(406);
    }
    const rows = await ask(key, "delivery_counts");
    expect(rows.status).toBe(404);
  }
});
