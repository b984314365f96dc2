import { randomUUID } from "node:crypto";
import { copyFile, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { migrate } from "@pipeline/dev-stack/migrate";
import { migrationsFolder, rolesFile } from "@pipeline/dev-stack/paths";
import { Client } from "pg";
import { inject, onTestFinished } from "vitest";

/** An empty database of the test's own on the run's server, prepared as a Supabase project is. `atEnd` is told how to drop it. */
export async function createOwnDatabase(
  atEnd: (drop: () => Promise<void>) => void = onTestFinished,
) {
  const { postgresUrl } = inject("stack");
  const name = `test_${randomUUID().replaceAll("-", "")}`;
  const admin = new Client({ connectionString: postgresUrl });
  await admin.connect();
  await admin.query(`create database ${name}`);
  const url = Object.assign(new URL(postgresUrl), {
    pathname: `/${name}`,
  }).href;
  const clients: Client[] = [];
  const connect = async () => {
    const client = new Client({ connectionString: url });
    clients.push(client);
    await client.connect();
    return client;
  };
  const client = await connect();
  // Roles belong to the whole server, and two tests at once may not change the same one.
  await admin.query("select pg_advisory_lock(1)");
  await client.query(await readFile(rolesFile, "utf8"));
  await admin.query("select pg_advisory_unlock(1)");
  atEnd(async () => {
    await Promise.all(clients.map((each) => each.end()));
    await admin.query(`drop database ${name} with (force)`);
    await admin.end();
  });

  return {
    client,
    /** Another connection to it. */
    connect,
    migrate: () => migrate(url),
    /** Applies only the migrations older than this version, as a database has them that was set up before it. */
    migrateBefore: async (version: string) => {
      const folder = await mkdtemp(`${tmpdir()}/webhook-migrations-`);
      try {
        for (const file of await readdir(migrationsFolder))
          if (file < version)
            await copyFile(`${migrationsFolder}/${file}`, `${folder}/${file}`);
        return await migrate(url, { folder });
      } finally {
        await rm(folder, { recursive: true });
      }
    },
    /** Runs a query with the rights of a Supabase API key; `sub` is the signed-in user's id. */
    as: async (
      role: "anon" | "authenticated" | "service_role",
      sub: string | null,
      sql: string,
    ) => {
      await client.query("begin");
      try {
        await client.query(`set local role ${role}`);
        await client.query(
          "select set_config('request.jwt.claims', $1, true)",
          [JSON.stringify({ sub, role })],
        );
        return (await client.query(sql)).rows;
      } finally {
        await client.query("rollback");
      }
    },
  };
}
