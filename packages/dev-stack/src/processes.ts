import type { ChildProcess } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { signApiKey } from "./api-keys.ts";
import { stopChild, trackFolder, untrackFolder } from "./children.ts";
import { spawnGateway } from "./gateway-process.ts";
import { migrate } from "./migrate.ts";
import { freePort } from "./ports.ts";
import { postgresServer } from "./postgres-server.ts";
import { postgrestServer } from "./postgrest-server.ts";
import { redisServer } from "./redis-server.ts";
import { sweep } from "./sweep.ts";
import type { Stack, StackOptions } from "./stack.ts";

type Resolved = StackOptions & { onProgress: (line: string) => void };

/** The stack as plain local processes, without Docker. */
export async function startProcesses(options: Resolved): Promise<Stack> {
  const { onProgress, dataDirectory } = options;
  for (const line of await sweep({ live: false })) onProgress(line);
  const folder = dataDirectory ?? (await mkdtemp(`${tmpdir()}/webhook-stack-`));
  if (dataDirectory === undefined) trackFolder(folder);
  await mkdir(folder, { recursive: true });
  // As root, Postgres runs as another user, who must be able to reach its folder inside this one.
  if (dataDirectory === undefined) await chmod(folder, 0o711);

  const [redisPort, postgresPort, postgrestPort, adminPort, gatewayPort] =
    await Promise.all([
      options.ports?.redis ?? freePort(),
      options.ports?.postgres ?? freePort(),
      freePort(),
      freePort(),
      options.ports?.gateway ?? freePort(),
    ]);
  const postgresUrl = `postgresql://postgres:postgres@127.0.0.1:${postgresPort}/postgres`;
  const redis = redisServer({
    folder,
    port: redisPort,
    extraArguments: options.redisArguments ?? [],
  });
  const postgres = await postgresServer({
    folder,
    port: postgresPort,
    settings: options.postgresSettings ?? {},
    onProgress,
  });
  const postgrest = postgrestServer({
    folder,
    port: postgrestPort,
    adminPort,
    postgresPort,
  });

  let gateway: ChildProcess | undefined;
  async function stop(): Promise<void> {
    if (gateway !== undefined) await stopChild(gateway, "SIGKILL");
    await Promise.all([postgrest.stop(), redis.stop()]);
    await postgres.stop();
    await postgres.cleanUp();
    if (dataDirectory === undefined) {
      await rm(folder, { recursive: true, force: true, maxRetries: 3 });
      untrackFolder(folder);
    }
  }

  try {
    const startPostgres = async () => {
      await postgres.start();
      onProgress(`Postgres ${postgres.version} on port ${postgresPort}`);
      const applied = await migrate(postgresUrl);
      onProgress(
        `${applied.length} migration${applied.length === 1 ? "" : "s"} applied`,
      );
      // Only now: its schema cache then holds everything from the first request on.
      await postgrest.start();
      onProgress(`PostgREST on port ${postgrestPort}`);
    };
    const startRedis = async () => {
      await redis.start();
      onProgress(`Redis on port ${redisPort}`);
    };
    const startGateway = async () => {
      gateway = await spawnGateway({
        port: gatewayPort,
        postgrestUrl: postgrest.url,
        logFile: `${folder}/gateway.log`,
      });
    };
    // allSettled: a stop() while another start is under way would leave that child behind.
    const results = await Promise.allSettled([
      startRedis(),
      startPostgres(),
      startGateway(),
    ]);
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  } catch (error) {
    await stop();
    throw error;
  }

  return {
    kind: "processes",
    redisUrl: `redis://127.0.0.1:${redisPort}`,
    postgresUrl,
    supabaseUrl: `http://127.0.0.1:${gatewayPort}`,
    serviceRoleKey: signApiKey({ role: "service_role" }),
    anonKey: signApiKey({ role: "anon" }),
    userKey: (sub) => signApiKey({ role: "authenticated", sub }),
    redis,
    postgres,
    postgrest,
    stop,
  };
}
