// /healthz, /readyz and /metrics, the same for every service.
import type { AddressInfo } from "node:net";
import Fastify, { type FastifyInstance, type FastifySchema } from "fastify";
import type { Registry } from "prom-client";
import type { Logger } from "./logger.ts";
import { errorMessage } from "./errors.ts";

export interface OpsOptions {
  registry: Registry;
  /** Named checks that reject with the reason when a dependency does not answer. */
  checks: Record<string, () => Promise<unknown>>;
  isDraining: () => boolean;
}

export interface OpsServer {
  port: number;
  close: () => Promise<unknown>;
}

const CHECK_TIMEOUT_MS = 2000;

async function resultOf(check: () => Promise<unknown>): Promise<string> {
  const controller = new AbortController();
  const timeout = new Promise((_, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`no answer within ${CHECK_TIMEOUT_MS} ms`)),
      CHECK_TIMEOUT_MS,
    );
    controller.signal.addEventListener("abort", () => clearTimeout(timer));
  });
  try {
    await Promise.race([check(), timeout]);
    return "ok";
  } catch (error) {
    return errorMessage(error);
  } finally {
    controller.abort();
  }
}

/** Adds the three routes to a server; they need no API key. */
export function addOpsRoutes(
  server: FastifyInstance,
  { registry, checks, isDraining }: OpsOptions,
): void {
  // `hide` keeps the routes out of the OpenAPI document.
  const hidden = {
    schema: { hide: true } as FastifySchema,
    logLevel: "silent" as const,
  };
  server.get("/healthz", hidden, async () => ({ status: "ok" }));
  server.get("/readyz", hidden, async (_request, reply) => {
    const names = Object.keys(checks);
    const results = await Promise.all(
      names.map((name) => resultOf(checks[name]!)),
    );
    const isReady = !isDraining() && results.every((result) => result === "ok");
    return reply.code(isReady ? 200 : 503).send({
      status: isReady ? "ready" : isDraining() ? "draining" : "not ready",
      checks: Object.fromEntries(
        names.map((name, index) => [name, results[index]]),
      ),
    });
  });
  server.get("/metrics", hidden, async (_request, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()),
  );
}

/**
 * Starts a separate server, for the services that have no API; resolves to it and the port it listens on. If the port is
 * taken, for example by a second dispatcher on the same machine, any free one is used and a warning is logged.
 */
export async function startOpsServer(
  port: number,
  options: OpsOptions,
  logger: Logger,
): Promise<OpsServer> {
  const listen = async (wanted: number) => {
    // A health checker's keep-alive connection must not delay the exit.
    const server = Fastify({ logger: false, forceCloseConnections: true });
    addOpsRoutes(server, options);
    await server.listen({ port: wanted, host: "0.0.0.0" });
    const address = server.server.address() as AddressInfo;
    return { port: address.port, close: () => server.close() };
  };
  try {
    return await listen(port);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    const started = await listen(0);
    logger.warn(
      { wanted: port, port: started.port },
      "metrics_port.taken: health and metrics are on another port; set METRICS_PORT",
    );
    return started;
  }
}
