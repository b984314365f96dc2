import { randomBytes } from "node:crypto";
import { createInterface } from "node:readline";
import type { ChildProcess } from "node:child_process";
import { createWriteStream } from "node:fs";
import { spawnTracked, stopChild } from "./children.ts";
import { repositoryRoot } from "./paths.ts";
import { freePort } from "./ports.ts";
import type { Stack } from "./stack.ts";
import { waitUntil } from "./wait-until.ts";

export type ServiceName = "ingest" | "dispatcher" | "retry-scheduler";

export interface Service {
  name: ServiceName;
  child: ChildProcess;
  pid: number;
  /** What it has printed so far to stdout and stderr. */
  lines: string[];
  exited: Promise<number | null>;
  /** Sends SIGTERM by default. Resolves with the exit code, or null if a signal ended the process. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

export interface ServiceOptions {
  onLine?: (line: string) => void;
  /** Output is also appended to this file. */
  logFile?: string;
  /** How long `stop` waits before SIGKILL. */
  graceMs?: number;
}

/** Starts `services/<name>` as its own process. It inherits nothing but what Node itself needs. */
export function startService(
  name: ServiceName,
  env: Record<string, string>,
  options: ServiceOptions = {},
): Service {
  const inherited = Object.fromEntries(
    ["PATH", "HOME", "NODE_OPTIONS", "NODE_COMPILE_CACHE"].map((key) => [
      key,
      process.env[key],
    ]),
  );
  const child = spawnTracked(
    process.execPath,
    [`${repositoryRoot}services/${name}/src/main.ts`],
    {
      name: `service ${name}`,
      cwd: repositoryRoot,
      env: { ...inherited, ...env },
      killSignal: "SIGKILL",
    },
  );
  const lines: string[] = [];
  const file =
    options.logFile === undefined
      ? undefined
      : createWriteStream(options.logFile, { flags: "a" });
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue;
    createInterface({ input: stream }).on("line", (line) => {
      lines.push(line);
      file?.write(`${line}\n`);
      options.onLine?.(line);
    });
  }
  // "close" comes after the last line has been read, "exit" may come before.
  const exited = new Promise<number | null>((resolve) => {
    child.once("close", (code) => {
      file?.end();
      resolve(code);
    });
    child.once("error", () => resolve(null));
  });
  return {
    name,
    child,
    pid: child.pid ?? 0,
    lines,
    exited,
    async stop(signal = "SIGTERM") {
      await stopChild(child, signal, options.graceMs ?? 45_000);
      return exited;
    },
  };
}

/** What every service needs to run against the stack, with free ports. */
export async function serviceEnvironment(
  stack: Pick<Stack, "redisUrl" | "supabaseUrl" | "serviceRoleKey">,
  overrides: Record<string, string> = {},
): Promise<Record<string, string>> {
  const [port, metricsPort] = await Promise.all([freePort(), freePort()]);
  return {
    REDIS_URL: stack.redisUrl,
    SUPABASE_URL: stack.supabaseUrl,
    SUPABASE_SERVICE_ROLE_KEY: stack.serviceRoleKey,
    WEBHOOK_ENCRYPTION_KEY: encryptionKey,
    PORT: String(port),
    METRICS_PORT: String(metricsPort),
    ALLOW_PRIVATE_NETWORKS: "127.0.0.0/8,::1/128",
    ...overrides,
  };
}

// The same for all services that this process starts: the dispatcher must open what ingest has sealed.
const encryptionKey = randomBytes(32).toString("base64");

/** Resolves when the URL answers 2xx. */
export async function waitForHttp(
  url: string,
  timeoutMs = 15_000,
): Promise<void> {
  await waitUntil(
    `${url} answers 2xx`,
    timeoutMs,
    async () => (await fetch(url, { signal: AbortSignal.timeout(2_000) })).ok,
  );
}
