// Row level security, as the holders of the three kinds of API keys meet it.
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { createOwnDatabase } from "./own-database.ts";

const OPEN_COLUMNS =
  "id, lead_id, client_id, webhook_url, payload, status, attempt, last_error";

async function createTwoClients() {
  const database = await createOwnDatabase();
  await database.migrate();
  const { client } = database;
  const parties = [];
  for (const name of ["Acme", "Globex"]) {
    const [clientId, userId, deliveryId, endpointId] = [
      randomUUID(),
      randomUUID(),
      randomUUID(),
      randomUUID(),
    ];
    await client.query("insert into clients (id, name) values ($1, $2)", [
      clientId,
      name,
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
    parties.push({ clientId, userId, deliveryId, endpointId });
  }
  return { database, acme: parties[0]!, globex: parties[1]! };
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
    "select unfinished_deliveries(now(), gen_random_uuid(), 1)",
    "select delivery_stats()",
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
