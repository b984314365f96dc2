import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import {
  GenericContainer,
  getContainerRuntimeClient,
  ImageName,
  Network,
  Wait,
  type StartedNetwork,
  type StartedTestContainer,
} from "testcontainers";
import { localJwtSecret, signApiKey } from "./api-keys.ts";
import { runAtEnd, stopChild, trackFolder, untrackFolder } from "./children.ts";
import { spawnGateway } from "./gateway-process.ts";
import { migrate } from "./migrate.ts";
import { freePort } from "./ports.ts";
import { postgresAnswers } from "./postgres-server.ts";
import { redisCommand } from "./redis-command.ts";
import { redisSettings } from "./redis-server.ts";
import { waitUntil } from "./server-process.ts";
import type { Restartable, Stack, StackOptions } from "./stack.ts";

const images = () => ({
  redis: process.env["REDIS_IMAGE"] ?? "redis:7",
  postgres: process.env["POSTGRES_IMAGE"] ?? "postgres:17",
  postgrest: process.env["POSTGREST_IMAGE"] ?? "postgrest/postgrest:v12.2.8",
});

/** Undefined when containers can be started; else why not. Pulls what is missing, within `pullTimeoutMs`. */
export async function whyNoContainers(
  onProgress: (line: string) => void,
  pullTimeoutMs = 180_000,
): Promise<string | undefined> {
  try {
    const { image } = await getContainerRuntimeClient();
    for (const name of Object.values(images())) {
      const parsed = ImageName.fromString(name);
      if (await image.exists(parsed)) continue;
      onProgress(`pulling ${name}`);
      await within(pullTimeoutMs, image.pull(parsed));
    }
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** The stack in containers. Ports are fixed before the start, so that a restarted container keeps its address. */
export async function startContainers(
  options: StackOptions & { onProgress: (line: string) => void },
): Promise<Stack> {
  const { onProgress, dataDirectory } = options;
  const folder = dataDirectory ?? (await mkdtemp(`${tmpdir()}/webhook-stack-`));
  if (dataDirectory === undefined) trackFolder(folder);
  await mkdir(folder, { recursive: true });
  const [redisPort, postgresPort, postgrestPort, adminPort, gatewayPort] =
    await Promise.all([
      options.ports?.redis ?? freePort(),
      options.ports?.postgres ?? freePort(),
      freePort(),
      freePort(),
      options.ports?.gateway ?? freePort(),
    ]);
  const redisUrl = `redis://127.0.0.1:${redisPort}`;
  const postgresUrl = `postgresql://postgres:postgres@127.0.0.1:${postgresPort}/postgres`;
  const names = images();
  const undo: (() => Promise<unknown>)[] = [];
  const containers: StartedTestContainer[] = [];
  async function stop(): Promise<void> {
    for (const step of undo.splice(0).toReversed()) await step();
    if (dataDirectory === undefined) {
      await rm(folder, { recursive: true, force: true });
      untrackFolder(folder);
    }
  }
  async function run(
    container: GenericContainer,
    what: string,
    isReady: () => Promise<boolean>,
  ): Promise<Restartable> {
    // Our own questions decide about readiness; the built-in check needs a shell, which the PostgREST image has not.
    const started = await container
      .withWaitStrategy(Wait.forLogMessage(/./))
      .start();
    undo.push(() =>
      started.stop({ remove: true, removeVolumes: true, timeout: 5_000 }),
    );
    containers.push(started);
    await waitUntil(what, 60_000, isReady);
    onProgress(`${what} in a container`);
    return restartable(started, () => waitUntil(what, 60_000, isReady));
  }

  try {
    const network = await startNetwork(onProgress);
    undo.push(() => network.stop());
    const drop = removeAtEnd(network, containers);
    undo.push(async () => drop());

    const redis = await run(
      new GenericContainer(names.redis)
        .withCommand([
          "redis-server",
          ...Object.entries(redisSettings).flatMap(([name, value]) => [
            `--${name}`,
            value,
          ]),
          "--protected-mode",
          "no",
          ...(options.redisArguments ?? []),
        ])
        .withExposedPorts({ container: 6379, host: redisPort }),
      names.redis,
      async () => (await redisCommand(redisUrl, ["PING"])) === "PONG",
    );
    const postgres = await run(
      new GenericContainer(names.postgres)
        .withEnvironment({ POSTGRES_PASSWORD: "postgres" })
        .withCommand([
          "postgres",
          ...Object.entries(options.postgresSettings ?? {}).flatMap(
            ([name, value]) => ["-c", `${name}=${value}`],
          ),
        ])
        .withNetwork(network)
        .withHostname("postgres")
        .withNetworkAliases("postgres")
        .withExposedPorts({ container: 5432, host: postgresPort }),
      names.postgres,
      () => postgresAnswers(postgresPort),
    );
    const applied = await migrate(postgresUrl, {
      authenticatorPassword: "postgres",
    });
    onProgress(`${applied.length} migrations applied`);
    const postgrest = await run(
      new GenericContainer(names.postgrest)
        .withEnvironment({
          PGRST_DB_URI:
            "postgresql://authenticator:postgres@postgres:5432/postgres",
          PGRST_DB_SCHEMAS: "public",
          PGRST_DB_ANON_ROLE: "anon",
          PGRST_DB_POOL: "20",
          PGRST_JWT_SECRET: localJwtSecret,
          PGRST_SERVER_PORT: "3000",
          PGRST_ADMIN_SERVER_PORT: "3001",
        })
        .withNetwork(network)
        .withExposedPorts(
          { container: 3000, host: postgrestPort },
          { container: 3001, host: adminPort },
        ),
      names.postgrest,
      async () => (await fetch(`http://127.0.0.1:${adminPort}/ready`)).ok,
    );
    const gateway = await spawnGateway({
      port: gatewayPort,
      postgrestUrl: `http://127.0.0.1:${postgrestPort}`,
      logFile: `${folder}/gateway.log`,
    });
    undo.push(() => stopChild(gateway, "SIGKILL"));

    return {
      kind: "containers",
      redisUrl,
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
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The first start brings the library's reaper along, whose image may be out of reach when ours are not. */
async function startNetwork(
  onProgress: (line: string) => void,
): Promise<StartedNetwork> {
  try {
    return await new Network().start();
  } catch (error) {
    if (isReaperDisabled()) throw error;
    process.env["TESTCONTAINERS_RYUK_DISABLED"] = "true";
    onProgress(
      `going on without the testcontainers reaper: ${(error as Error).message}`,
    );
    return new Network().start();
  }
}

function isReaperDisabled(): boolean {
  return process.env["TESTCONTAINERS_RYUK_DISABLED"] === "true";
}

/** Goes to Docker itself: the library's own stop() forgets the container. */
async function restartable(
  started: StartedTestContainer,
  untilReady: () => Promise<void>,
): Promise<Restartable> {
  const { container } = await getContainerRuntimeClient();
  const handle = container.getById(started.getId());
  return {
    async stop(signal) {
      if (signal === undefined) await handle.stop({ t: 10 });
      else {
        await handle.kill({ signal });
        await handle.wait();
      }
    },
    async start() {
      await handle.start();
      await untilReady();
    },
  };
}

/** Without the library's reaper container nobody else would remove ours after the end of this process. */
function removeAtEnd(
  network: StartedNetwork,
  containers: StartedTestContainer[],
): () => void {
  if (!isReaperDisabled()) return () => undefined;
  return runAtEnd(() => {
    const ids = containers.map((container) => container.getId()).join(" ");
    const script = `docker rm --force --volumes ${ids}; docker network rm ${network.getId()}`;
    spawn("sh", ["-c", script], { detached: true, stdio: "ignore" }).unref();
  });
}

async function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new Error(`took longer than ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}
