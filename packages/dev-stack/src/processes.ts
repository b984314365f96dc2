import type { ChildProcess } from "node:child_process";
import { stopChild } from "./children.ts";
import { spawnGateway } from "./gateway-process.ts";
import { migrate } from "./migrate.ts";
import { postgresServer } from "./postgres-server.ts";
import { postgrestServer } from "./postgrest-server.ts";
import { prepareStack } from "./prepare-stack.ts";
import { redisServer } from "./redis-server.ts";
import type { Stack, StackOptions } from "./stack.ts";
import { sweep } from "./sweep.ts";

/** The stack as plain local processes, without Docker. */
export async function startProcesses(options: StackOptions): Promise<Stack> {
  const { onProgress } = options;
  for (const line of await sweep({ live: false })) onProgress(line);
  const { folder, removeFolder, ports, addresses } =
    await prepareStack(options);
  const redis = redisServer({
    folder,
    port: ports.redis,
    extraArguments: options.redisArguments ?? [],
  });
  const postgres = await postgresServer({
    folder,
    port: ports.postgres,
    settings: options.postgresSettings ?? {},
    onProgress,
  });
  const postgrest = postgrestServer({
    folder,
    port: ports.postgrest,
    adminPort: ports.postgrestAdmin,
    postgresPort: ports.postgres,
  });

  let gateway: ChildProcess | undefined;
  async function stop(): Promise<void> {
    if (gateway !== undefined) await stopChild(gateway, "SIGKILL");
    await Promise.all([postgrest.stop(), redis.stop()]);
    await postgres.stop();
    await postgres.cleanUp();
    await removeFolder();
  }

  const startPostgres = async () => {
    await postgres.start();
    onProgress(`Postgres ${postgres.version} on port ${ports.postgres}`);
    const applied = await migrate(addresses.postgresUrl);
    onProgress(`migrations applied: ${applied.length}`);
    // After the migrations, so that its schema cache is complete from the first request on.
    await postgrest.start();
    onProgress(`PostgREST on port ${ports.postgrest}`);
  };
  const startRedis = async () => {
    await redis.start();
    onProgress(`Redis on port ${ports.redis}`);
  };
  const startGateway = async () => {
    gateway = await spawnGateway({
      port: ports.gateway,
      postgrestUrl: postgrest.url,
      logFile: `${folder}/gateway.log`,
    });
  };
  // allSettled: stopping while another start is under way would leave that child behind.
  const results = await Promise.allSettled([
    startRedis(),
    startPostgres(),
    startGateway(),
  ]);
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) {
    await stop();
    throw failed.reason;
  }
  return { kind: "processes", ...addresses, redis, postgres, postgrest, stop };
}
