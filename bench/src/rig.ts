// The system under test: every part of it runs as a process of its own.
import type { ChildProcess } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { spawnTracked, stopChild } from "@pipeline/dev-stack/children";
import { dataRoot, repositoryRoot } from "@pipeline/dev-stack/paths";
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
import { descendants } from "./process-usage.ts";
import type { ReceiverStats } from "./receiver.ts";

export interface Rig {
  stack: Stack;
  redis: Redis;
  database: pg.Client;
  keys: Keys;
  receiverUrl: string;
  start: (
    name: ServiceName,
    overrides?: Record<string, string>,
  ) => Promise<RunningService>;
  stopServices: () => Promise<void>;
  /** Empties Redis and the delivery tables. Services must be stopped. */
  reset: () => Promise<void>;
  /** What the receiver has counted since the last call. */
  takeReceiverStats: () => Promise<ReceiverStats>;
  /** Pids of all processes, by role. */
  pids: () => Record<Role, number[]>;
  stop: () => Promise<void>;
}

export interface RunningService {
  url: string;
  pid: number;
  stop: () => Promise<void>;
}

export type Role =
  ServiceName | "receiver" | "redis" | "postgrest" | "postgres" | "gateway";

/** Settings of a dispatcher that nothing but the machine limits. */
export const UNLIMITED = {
  RATE_LIMIT_PER_SECOND: "0",
  DISPATCHER_CONCURRENCY: "128",
};

/** Results and logs. */
export const benchFolder = `${dataRoot}/bench`;

export async function startRig(
  onProgress: (line: string) => void,
): Promise<Rig> {
  mkdirSync(benchFolder, { recursive: true });
  const stack = await startStack({ kind: "processes", onProgress });
  const env = await serviceEnvironment(stack);
  const redis = new Redis(stack.redisUrl);
  const database = new pg.Client({ connectionString: stack.postgresUrl });
  await database.connect();
  const receiver = await startReceiver();
  const takeReceiverStats = async () =>
    (await (await fetch(`${receiver.url}/stats`)).json()) as ReceiverStats;

  let services: { child: ChildProcess; name: ServiceName }[] = [];
  async function start(
    name: ServiceName,
    overrides: Record<string, string> = {},
  ): Promise<RunningService> {
    const port = String(await freePort());
    const logFile = `${benchFolder}/${name}.log`;
    // A million deliveries write hundreds of megabytes: only the log of the last run is kept.
    if (services.every((each) => each.name !== name))
      rmSync(logFile, { force: true });
    const child = spawnNode(`services/${name}/src/main.ts`, {
      logFile,
      env: { ...env, PORT: port, METRICS_PORT: port, ...overrides },
    });
    services.push({ child, name });
    const url = `http://127.0.0.1:${port}`;
    await waitForHttp(`${url}/healthz`);
    const stop = async () => {
      services = services.filter((each) => each.child !== child);
      await stopChild(child, "SIGTERM", 45_000);
    };
    return { url, pid: child.pid!, stop };
  }

  async function stopServices(): Promise<void> {
    const running = services;
    services = [];
    await Promise.all(
      running.map(({ child }) => stopChild(child, "SIGTERM", 45_000)),
    );
  }

  return {
    stack,
    redis,
    database,
    keys: createKeys("webhook:deliveries"),
    receiverUrl: receiver.url,
    start,
    stopServices,
    reset: async () => {
      await redis.flushall();
      await database.query(
        "truncate webhook_deliveries, webhook_delivery_logs, leads cascade",
      );
      await takeReceiverStats();
    },
    takeReceiverStats,
    pids: () => {
      const processes = descendants();
      const matching = (pattern: RegExp) =>
        processes
          .filter(({ command }) => pattern.test(command))
          .map(({ pid }) => pid);
      return {
        ingest: matching(/services\/ingest\//),
        dispatcher: matching(/services\/dispatcher\//),
        "retry-scheduler": matching(/services\/retry-scheduler\//),
        receiver: matching(/bench\/src\/receiver\.ts/),
        redis: matching(/redis-server/),
        postgrest: matching(/postgrest *$/),
        postgres: matching(/bin\/postgres |^postgres: /),
        gateway: matching(/gateway\.ts/),
      };
    },
    stop: async () => {
      await stopServices();
      redis.disconnect();
      await database.end();
      await receiver.stop();
      await stack.stop();
    },
  };
}

async function startReceiver() {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const child = spawnNode("bench/src/receiver.ts", {
    logFile: `${benchFolder}/receiver.log`,
    env: { PORT: String(port) },
  });
  await waitForHttp(`${url}/stats`);
  return { url, stop: () => stopChild(child, "SIGKILL") };
}

/** Output goes straight to the file: reading it here would take CPU time from what is measured. */
function spawnNode(
  script: string,
  options: { logFile: string; env: Record<string, string> },
): ChildProcess {
  return spawnTracked(process.execPath, [`${repositoryRoot}${script}`], {
    name: script,
    cwd: repositoryRoot,
    ...options,
  });
}
