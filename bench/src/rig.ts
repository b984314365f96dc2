// The system under test as real processes, and what /proc tells about each of them.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync, readdirSync } from "node:fs";
import { repositoryRoot } from "@pipeline/dev-stack/paths";
import { freePort } from "@pipeline/dev-stack/ports";
import {
  serviceEnvironment,
  type ServiceName,
  waitForHttp,
} from "@pipeline/dev-stack/services";
import type { Stack } from "@pipeline/dev-stack/stack";
import { startStack } from "@pipeline/dev-stack/start-stack";
import { createKeys, type Keys } from "@pipeline/shared/queue/keys";
import { Redis } from "ioredis";
import pg from "pg";

export interface Rig {
  stack: Stack;
  redis: Redis;
  database: pg.Client;
  keys: Keys;
  receiverUrl: string;
  env: Record<string, string>;
  start: (
    name: ServiceName,
    overrides?: Record<string, string>,
  ) => Promise<RunningService>;
  stopServices: () => Promise<void>;
  /** Empties Redis and the delivery tables; services must be stopped. */
  reset: () => Promise<void>;
  receiverStats: () => Promise<ReceiverStats>;
  /** Pids of every process, by role. */
  pids: () => Record<string, number[]>;
  stop: () => Promise<void>;
}

export interface RunningService {
  name: ServiceName;
  url: string;
  pid: number;
  stop: () => Promise<void>;
}

export interface ReceiverStats {
  received: number;
  lateness: number[];
  arrivals: number[];
}

const PORT_OF: Record<ServiceName, string> = {
  ingest: "PORT",
  dispatcher: "METRICS_PORT",
  "retry-scheduler": "METRICS_PORT",
};

function stopped(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve) =>
    child.exitCode === null && child.signalCode === null
      ? child.once("exit", resolve)
      : resolve(null),
  );
}

export async function startRig(
  onProgress: (line: string) => void,
): Promise<Rig> {
  const folder = `${repositoryRoot}.data/bench`;
  mkdirSync(folder, { recursive: true });
  const stack = await startStack({ kind: "processes", onProgress });
  const env = await serviceEnvironment(stack);
  const keys = createKeys("webhook:deliveries");
  const redis = new Redis(stack.redisUrl);
  const database = new pg.Client({ connectionString: stack.postgresUrl });
  await database.connect();
  const receiverPort = await freePort();
  const receiverUrl = `http://127.0.0.1:${receiverPort}`;
  const receiver = spawn(
    process.execPath,
    [`${repositoryRoot}bench/src/receiver.ts`],
    {
      env: { PORT: String(receiverPort) },
      stdio: "inherit",
    },
  );
  await waitForHttp(`${receiverUrl}/stats`);
  let children: { child: ChildProcess; name: ServiceName }[] = [];

  async function start(
    name: ServiceName,
    overrides: Record<string, string> = {},
  ): Promise<RunningService> {
    const port = await freePort();
    const log = openSync(`${folder}/${name}.log`, "w");
    const child = spawn(
      process.execPath,
      [`${repositoryRoot}services/${name}/src/main.ts`],
      {
        cwd: repositoryRoot,
        env: { ...env, [PORT_OF[name]]: String(port), ...overrides },
        stdio: ["ignore", log, log],
      },
    );
    children.push({ child, name });
    const url = `http://127.0.0.1:${port}`;
    await waitForHttp(`${url}/healthz`);
    const stop = async () => {
      child.kill("SIGTERM");
      await stopped(child);
      children = children.filter((each) => each.child !== child);
    };
    return { name, url, pid: child.pid!, stop };
  }

  async function stopServices(): Promise<void> {
    for (const { child } of children) child.kill("SIGTERM");
    await Promise.all(children.map(({ child }) => stopped(child)));
    children = [];
  }

  return {
    stack,
    redis,
    database,
    keys,
    receiverUrl,
    env,
    start,
    stopServices,
    reset: async () => {
      await redis.flushall();
      await database.query(
        "truncate webhook_deliveries, webhook_delivery_logs, leads cascade",
      );
      await fetch(`${receiverUrl}/stats`);
    },
    receiverStats: async () =>
      (await (await fetch(`${receiverUrl}/stats`)).json()) as ReceiverStats,
    pids: () => {
      const pids: Record<string, number[]> = { receiver: [receiver.pid!] };
      for (const { child, name } of children)
        (pids[name] ??= []).push(child.pid!);
      pids["redis"] = pidsOf(
        (command) =>
          command.includes("redis-server") &&
          command.includes(new URL(stack.redisUrl).port),
      );
      pids["postgrest"] = pidsOf((command) => command.includes("postgrest"));
      pids["postgres"] = pidsOf((command) =>
        /postgres(:| -D)|bin\/postgres/.test(command),
      );
      pids["gateway"] = pidsOf((command) => command.includes("gateway"));
      return pids;
    },
    stop: async () => {
      await stopServices();
      redis.disconnect();
      await database.end();
      receiver.kill();
      await stack.stop();
    },
  };
}

/** Processes whose command line matches, among the descendants of this one. */
function pidsOf(matches: (command: string) => boolean): number[] {
  const parents = new Map<number, number>();
  const commands = new Map<number, string>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      parents.set(
        Number(name),
        Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]),
      );
      commands.set(
        Number(name),
        readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " "),
      );
    } catch {
      // gone in the meantime
    }
  }
  const isOurs = (pid: number): boolean => {
    for (
      let each: number | undefined = pid;
      each !== undefined && each > 1;
      each = parents.get(each)
    ) {
      if (each === process.pid) return true;
    }
    return false;
  };
  return [...commands]
    .filter(([pid, command]) => matches(command) && isOurs(pid))
    .map(([pid]) => pid);
}

const TICKS_PER_SECOND = 100;

/** CPU seconds used so far, children that have ended included. */
export function cpuSeconds(pids: number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const fields = stat
        .slice(stat.lastIndexOf(")") + 2)
        .split(" ")
        .map(Number);
      // utime, stime, and those of children that have ended
      for (const index of [11, 12, 13, 14]) ticks += fields[index]!;
    } catch {
      // ended: what it used is lost to us
    }
  }
  return ticks / TICKS_PER_SECOND;
}

export function rssMegabytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
}
