import { spawn } from "node:child_process";
import {
  GenericContainer,
  getContainerRuntimeClient,
  ImageName,
  Network,
  Wait,
  type StartedNetwork,
  type StartedTestContainer,
} from "testcontainers";
import { runAtEnd, stopChild } from "./children.ts";
import { spawnGateway } from "./gateway-process.ts";
import { migrate } from "./migrate.ts";
import { postgresAnswers, postgresArguments } from "./postgres-server.ts";
import { postgrestAnswers, postgrestSettings } from "./postgrest-server.ts";
import { prepareStack } from "./prepare-stack.ts";
import { redisAnswers, redisArguments, redisSettings } from "./redis-server.ts";
import type { Restartable } from "./server-process.ts";
import type { Stack, StackOptions } from "./stack.ts";
import { waitUntil } from "./wait-until.ts";

const images = () => ({
  redis: process.env["REDIS_IMAGE"] ?? "redis:7",
  postgres: process.env["POSTGRES_IMAGE"] ?? "postgres:17",
  postgrest: process.env["POSTGREST_IMAGE"] ?? "postgrest/postgrest:v12.2.8",
});

const PULL_TIMEOUT_MS = 180_000;

/** Pulls missing images. Undefined when containers can be started; otherwise the reason why not. */
export async function whyNoContainers(
  onProgress: (line: string) => void,
): Promise<string | undefined> {
  try {
    const { image } = await getContainerRuntimeClient();
    for (const name of Object.values(images())) {
      const parsed = ImageName.fromString(name);
      if (await image.exists(parsed)) continue;
      onProgress(`pulling ${name}`);
      await within(PULL_TIMEOUT_MS, image.pull(parsed));
    }
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** The stack in containers. */
export async function startContainers(options: StackOptions): Promise<Stack> {
  const { onProgress } = options;
  const { folder, removeFolder, ports, addresses } =
    await prepareStack(options);
  const names = images();
  const undo = [removeFolder];
  const containers: StartedTestContainer[] = [];
  async function stop(): Promise<void> {
    for (const step of undo.splice(0).toReversed()) await step();
  }
  async function run(
    container: GenericContainer,
    name: string,
    isReady: () => Promise<boolean>,
  ): Promise<Restartable> {
    // We ask the server itself whether it is ready: the library's own check needs a shell, which the PostgREST image lacks.
    const started = await container
      .withWaitStrategy(Wait.forLogMessage(/./))
      .start();
    undo.push(async () => {
      await started.stop({ remove: true, removeVolumes: true, timeout: 5_000 });
    });
    containers.push(started);
    const untilReady = () => waitUntil(`${name} answers`, 60_000, isReady);
    await untilReady();
    onProgress(`${name} in a container`);
    return restartable(started, untilReady);
  }

  try {
    const network = await startNetwork(onProgress);
    undo.push(async () => {
      await network.stop();
    });
    const cancelRemoval = removeAtEnd(network, containers);
    undo.push(async () => cancelRemoval());

    const redis = await run(
      new GenericContainer(names.redis)
        .withCommand([
          "redis-server",
          ...redisArguments({ ...redisSettings, "protected-mode": "no" }),
          ...(options.redisArguments ?? []),
        ])
        .withExposedPorts({ container: 6379, host: ports.redis }),
      names.redis,
      () => redisAnswers(addresses.redisUrl),
    );
    const postgres = await run(
      new GenericContainer(names.postgres)
        .withEnvironment({ POSTGRES_PASSWORD: "postgres" })
        .withCommand([
          "postgres",
          ...postgresArguments(options.postgresSettings ?? {}),
        ])
        .withNetwork(network)
        .withHostname("postgres")
        .withNetworkAliases("postgres")
        .withExposedPorts({ container: 5432, host: ports.postgres }),
      names.postgres,
      () => postgresAnswers(addresses.postgresUrl),
    );
    const applied = await migrate(addresses.postgresUrl, {
      authenticatorPassword: "postgres",
    });
    onProgress(`migrations applied: ${applied.length}`);
    const postgrest = await run(
      new GenericContainer(names.postgrest)
        .withEnvironment({
          ...postgrestSettings("postgres:5432"),
          PGRST_SERVER_PORT: "3000",
          PGRST_ADMIN_SERVER_PORT: "3001",
        })
        .withNetwork(network)
        .withExposedPorts(
          { container: 3000, host: ports.postgrest },
          { container: 3001, host: ports.postgrestAdmin },
        ),
      names.postgrest,
      () => postgrestAnswers(ports.postgrestAdmin),
    );
    const gateway = await spawnGateway({
      port: ports.gateway,
      postgrestUrl: `http://127.0.0.1:${ports.postgrest}`,
      logFile: `${folder}/gateway.log`,
    });
    undo.push(() => stopChild(gateway, "SIGKILL"));

    return {
      kind: "containers",
      ...addresses,
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

/**
 * With the first network the library starts its reaper, a container that removes ours once this process has ended.
 * The reaper's image may be unavailable even when ours are there.
 */
async function startNetwork(
  onProgress: (line: string) => void,
): Promise<StartedNetwork> {
  try {
    return await new Network().start();
  } catch (error) {
    if (isReaperDisabled()) throw error;
    process.env["TESTCONTAINERS_RYUK_DISABLED"] = "true";
    onProgress(
      `continuing without the testcontainers reaper: ${(error as Error).message}`,
    );
    return new Network().start();
  }
}

function isReaperDisabled(): boolean {
  return process.env["TESTCONTAINERS_RYUK_DISABLED"] === "true";
}

/** Asks Docker directly, because a container that the library has stopped cannot be started again. */
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

/** Does the reaper's work when there is none. Returns a function that cancels the removal. */
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
