import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { Client } from "pg";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { migrate } from "./migrate.ts";
import { freePort } from "./ports.ts";
import { postgresServer, type PostgresServer } from "./postgres-server.ts";

let server: PostgresServer;
let client: Client;
let serverFolder: string;
let folder: string;
let databaseUrl: string;
let databases = 0;

beforeAll(async () => {
  serverFolder = await mkdtemp(`${tmpdir()}/webhook-migrate-`);
  const port = await freePort();
  server = await postgresServer({
    folder: serverFolder,
    port,
    settings: {},
    onProgress: () => undefined,
  });
  await server.start();
  databaseUrl = `postgresql://postgres:postgres@127.0.0.1:${port}/`;
}, 30_000);

afterAll(async () => {
  await client.end();
  await server.stop();
  await server.cleanUp();
  await rm(serverFolder, { recursive: true, force: true });
});

beforeEach(async () => {
  const name = `m${databases++}`;
  const admin = new Client({ connectionString: `${databaseUrl}postgres` });
  await admin.connect();
  await admin.query(`create database ${name}`);
  await admin.end();
  if (databases > 1) await client.end();
  client = new Client({ connectionString: databaseUrl + name });
  await client.connect();
  folder = await mkdtemp(`${tmpdir()}/webhook-migrations-`);
  await writeFile(
    `${folder}/20260101000000_create_a.sql`,
    "create table a (id int);",
  );
  return () => rm(folder, { recursive: true });
});

const run = () => migrate(`${databaseUrl}${client.database}`, { folder });

test("migrations are applied in the order of their names, and none twice", async () => {
  expect(await run()).toEqual(["20260101000000_create_a.sql"]);
  await writeFile(
    `${folder}/20260103000000_fill_a.sql`,
    "insert into a values (1);",
  );
  await writeFile(
    `${folder}/20260102000000_widen_a.sql`,
    "alter table a add n text default 'x';",
  );
  await writeFile(`${folder}/notes.sql`, "not sql");
  expect(await run()).toEqual([
    "20260102000000_widen_a.sql",
    "20260103000000_fill_a.sql",
  ]);
  expect(await run()).toEqual([]);
  expect((await client.query("select * from a")).rows).toEqual([
    { id: 1, n: "x" },
  ]);
  const recorded = await client.query(
    "select version, name from supabase_migrations.schema_migrations order by 1 limit 1",
  );
  expect(recorded.rows).toEqual([
    { version: "20260101000000", name: "create_a" },
  ]);
});

test("a migration that fails is undone, and the error names its file and line", async () => {
  await writeFile(
    `${folder}/20260102000000_break.sql`,
    "create table b (id int);\n\nselect nonsense;",
  );
  await expect(run()).rejects.toThrow(
    /20260102000000_break\.sql \(line 3\).*nonsense/,
  );
  expect(
    (await client.query("select to_regclass('a') as a, to_regclass('b') as b"))
      .rows,
  ).toEqual([{ a: "a", b: null }]);
});

test("runs at the same time apply each migration once", async () => {
  const results = await Promise.all([run(), run(), run()]);
  expect(results.flat()).toEqual(["20260101000000_create_a.sql"]);
});

test("the database gets what a Supabase project has: API roles, auth.uid() and open default privileges", async () => {
  await run();
  await client.query("set role authenticated");
  await client.query(
    `select set_config('request.jwt.claims', '{"sub":"4ad9b9b8-30b4-4a0e-a0b7-5c0d3d0d7f10"}', false)`,
  );
  const { rows } = await client.query(
    "select auth.uid() as uid, (select count(*)::int from a) as visible",
  );
  expect(rows).toEqual([
    { uid: "4ad9b9b8-30b4-4a0e-a0b7-5c0d3d0d7f10", visible: 0 },
  ]);
});
