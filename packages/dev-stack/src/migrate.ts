import { readdir, readFile } from "node:fs/promises";
import { Client, type DatabaseError } from "pg";
import { migrationsFolder, rolesFile } from "./paths.ts";

/**
 * Applies the files of supabase/migrations that are new, in order, each in one transaction. It records them in the table
 * of the Supabase CLI, so that either tool can continue where the other stopped. PostgREST then reloads its schema cache.
 */
export async function migrate(
  databaseUrl: string,
  options: { folder?: string; authenticatorPassword?: string } = {},
): Promise<string[]> {
  const folder = options.folder ?? migrationsFolder;
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    // Two processes that start together must not apply the same file twice.
    await client.query(
      "select pg_advisory_lock(hashtext('supabase_migrations'))",
    );
    await client.query(await readFile(rolesFile, "utf8"));
    if (options.authenticatorPassword !== undefined) {
      await client.query(
        `alter role authenticator password ${client.escapeLiteral(options.authenticatorPassword)}`,
      );
    }
    await client.query(`
      create schema if not exists supabase_migrations;
      create table if not exists supabase_migrations.schema_migrations (
        version text primary key, statements text[], name text
      );
    `);
    const done = await client.query<{ version: string }>(
      "select version from supabase_migrations.schema_migrations",
    );
    const versions = new Set(done.rows.map((row) => row.version));

    const applied: string[] = [];
    for (const file of (await readdir(folder)).sort()) {
      const [, version, name] = /^(\d+)_(.+)\.sql$/.exec(file) ?? [];
      if (version === undefined || name === undefined || versions.has(version))
        continue;
      await apply(client, {
        version,
        name,
        sql: await readFile(`${folder}/${file}`, "utf8"),
      });
      applied.push(file);
    }
    await client.query("notify pgrst, 'reload schema'");
    return applied;
  } finally {
    await client.end();
  }
}

async function apply(
  client: Client,
  migration: { version: string; name: string; sql: string },
): Promise<void> {
  await client.query("begin");
  try {
    await client.query(migration.sql);
    await client.query(
      "insert into supabase_migrations.schema_migrations (version, name) values ($1, $2)",
      [migration.version, migration.name],
    );
    await client.query("commit");
  } catch (error) {
    await client.query("rollback");
    const { message, position } = error as DatabaseError;
    const line =
      position === undefined
        ? ""
        : ` (line ${migration.sql.slice(0, Number(position)).split("\n").length})`;
    throw new Error(
      `migration ${migration.version}_${migration.name}.sql${line}: ${message}`,
      { cause: error },
    );
  }
}

if (import.meta.main) {
  const databaseUrl = process.env["DATABASE_URL"];
  if (databaseUrl === undefined) {
    console.error("Missing required environment variables: DATABASE_URL");
    process.exit(1);
  }
  const authenticatorPassword = process.env["AUTHENTICATOR_PASSWORD"];
  const applied = await migrate(
    databaseUrl,
    authenticatorPassword === undefined ? {} : { authenticatorPassword },
  );
  console.log(
    applied.length === 0
      ? "Nothing new to apply."
      : applied.map((file) => `Applied ${file}`).join("\n"),
  );
}
