import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { redisCommand } from "./redis-command.ts";
import { serverProcess, type Restartable } from "./server-process.ts";

/** What this pipeline needs of a production Redis: nothing is evicted, and a crash loses at most a second of writes. */
export const redisSettings = {
  save: "",
  appendonly: "yes",
  appendfsync: "everysec",
  "maxmemory-policy": "noeviction",
};

const command = process.env["REDIS_SERVER"] ?? "redis-server";

export function isRedisInstalled(): boolean {
  return spawnSync(command, ["--version"]).status === 0;
}

export function redisServer(options: {
  folder: string;
  port: number;
  extraArguments: string[];
}): Restartable {
  const data = `${options.folder}/redis`;
  mkdirSync(data, { recursive: true });
  return serverProcess({
    name: "redis-server",
    command,
    arguments: [
      ...redisArguments({
        ...redisSettings,
        bind: "127.0.0.1",
        port: String(options.port),
        dir: data,
      }),
      ...options.extraArguments,
    ],
    logFile: `${options.folder}/redis.log`,
    stopSignal: "SIGTERM",
    isReady: () => redisAnswers(`redis://127.0.0.1:${options.port}`),
    whenMissing:
      `${command} was not found. Install it with apt-get install redis-server (Debian, Ubuntu) ` +
      "or brew install redis (macOS), or set REDIS_SERVER to its path.",
  });
}

export function redisArguments(settings: Record<string, string>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => [
    `--${name}`,
    value,
  ]);
}

export async function redisAnswers(redisUrl: string): Promise<boolean> {
  return (await redisCommand(redisUrl, ["PING"])) === "PONG";
}
