import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { connect } from "node:net";
import { serverProcess, type ServerProcess } from "./server-process.ts";

// As a production Redis must be set up for this pipeline: nothing evicted, at most a second of writes lost.
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
}): ServerProcess {
  const data = `${options.folder}/redis`;
  mkdirSync(data, { recursive: true });
  return serverProcess({
    name: "redis-server",
    command,
    arguments: [
      ...Object.entries({
        ...redisSettings,
        bind: "127.0.0.1",
        port: options.port,
        dir: data,
      }).flatMap(([name, value]) => [`--${name}`, String(value)]),
      ...options.extraArguments,
    ],
    logFile: `${options.folder}/redis.log`,
    stopSignal: "SIGTERM",
    isReady: () => redisAnswers(options.port),
    whenMissing: `${command} was not found. Install it with: apt-get install redis-server (Debian, Ubuntu) or brew install redis (macOS), or set REDIS_SERVER to its path.`,
  });
}

export function redisAnswers(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1" }, () =>
      socket.write("PING\r\n"),
    );
    socket.setTimeout(1_000, () =>
      socket.destroy(new Error("Redis is silent")),
    );
    socket.once("error", reject);
    // Docker's port proxy accepts, then closes without a word, while nothing listens behind it.
    socket.once("close", () => resolve(false));
    socket.once("data", (data) => {
      socket.destroy();
      resolve(data.toString().startsWith("+PONG"));
    });
  });
}
