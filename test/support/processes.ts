// Services as processes that a test starts, stops and kills.
import {
  type Service,
  serviceEnvironment,
  type ServiceName,
  startService,
  waitForHttp,
} from "@pipeline/dev-stack/services";
import type { Stack } from "@pipeline/dev-stack/stack";

const READY_WITHIN_MS = 30_000;

export interface RunningService extends Service {
  /** Base of its /healthz, /readyz and /metrics, and of ingest's API. */
  url: string;
}

/** Where the services find their servers. */
export type Servers = Pick<
  Stack,
  "redisUrl" | "supabaseUrl" | "serviceRoleKey"
>;

export type Processes = ReturnType<typeof createProcesses>;

/** `env` is for every service; each start can override it. */
export function createProcesses(
  servers: Servers,
  env: Record<string, string>,
  readyPath: "/healthz" | "/readyz" = "/readyz",
) {
  /** Also those that have ended: their lines still count. */
  const services: RunningService[] = [];

  /** Does not wait until it is ready. */
  async function launch(
    name: ServiceName,
    overrides: Record<string, string> = {},
  ): Promise<RunningService> {
    const environment = await serviceEnvironment(servers, {
      ...env,
      ...overrides,
    });
    const port = environment[name === "ingest" ? "PORT" : "METRICS_PORT"] ?? "";
    const url = `http://127.0.0.1:${port}`;
    const service = Object.assign(startService(name, environment), { url });
    services.push(service);
    return service;
  }

  /** Resolves when the service answers on `path`. */
  async function start(
    name: ServiceName,
    overrides?: Record<string, string>,
    path = readyPath,
  ): Promise<RunningService> {
    const service = await launch(name, overrides);
    const ended = service.exited.then((code) => {
      if (code === null) return; // killed by the test
      throw new Error(`${name} ended:\n${service.lines.join("\n")}`);
    });
    ended.catch(() => undefined); // of interest only while it starts
    const ready = waitForHttp(service.url + path, READY_WITHIN_MS);
    await Promise.race([ready, ended]);
    return service;
  }

  const running = (name?: ServiceName) =>
    services.filter(
      (service) =>
        service.child.exitCode === null &&
        service.child.signalCode === null &&
        (name === undefined || service.name === name),
    );

  return {
    services,
    launch,
    start,
    running,
    startEach: async (counts: Partial<Record<ServiceName, number>>) => {
      const names = ["ingest", "dispatcher", "retry-scheduler"] as const;
      await Promise.all(
        names.flatMap((name) =>
          Array.from({ length: counts[name] ?? 0 }, () => start(name)),
        ),
      );
    },
    /** Stops those that are running; resolves to their exit codes. */
    stopAll: (signal?: NodeJS.Signals) =>
      Promise.all(running().map((service) => service.stop(signal))),
    /** What all the services have printed. */
    output: () => services.flatMap(({ lines }) => lines).join("\n"),
  };
}
