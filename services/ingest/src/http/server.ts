import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { Logger } from "@pipeline/shared/logger";
import { addOpsRoutes, type OpsOptions } from "@pipeline/shared/ops-server";
import Fastify, { type FastifyInstance, type FastifyReply } from "fastify";
import {
  jsonSchemaTransform,
  jsonSchemaTransformObject,
} from "fastify-type-provider-zod";
import { MAX_REQUEST_BYTES } from "../core/delivery-request.ts";
import type { Warn } from "../throttled-warning.ts";
import { requireApiKey } from "./authorization.ts";
import { addBodyParsers } from "./body.ts";
import { addErrorHandling, toErrorBody } from "./errors.ts";
import type { Metrics } from "./metrics.ts";
import {
  addDeadLetterRoutes,
  type DeadLetterRoutes,
} from "./routes/dead-letters.ts";
import { addInspectRoutes, type InspectRoutes } from "./routes/inspect.ts";
import { addManageRoutes, type ManageRoutes } from "./routes/manage.ts";
import { addSubmitRoutes, type SubmitRoutes } from "./routes/submit.ts";
import { withSchemas } from "./typed-server.ts";

export interface ServerOptions {
  apiKeys: readonly string[];
  metrics: Metrics;
  ops: Omit<OpsOptions, "registry">;
  routes: SubmitRoutes & InspectRoutes & ManageRoutes & DeadLetterRoutes;
  logger: Logger;
  warn: Warn;
}

async function addDocument(server: FastifyInstance): Promise<void> {
  await server.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Webhook delivery",
        version: "1.0.0",
        description:
          "Delivers leads as signed webhooks, at least once. Every answer that is no success is an `Error`.",
      },
      components: {
        securitySchemes: { apiKey: { type: "http", scheme: "bearer" } },
      },
      security: [{ apiKey: [] }],
    },
    transform: jsonSchemaTransform,
    transformObject: jsonSchemaTransformObject,
  });
  await server.register(swaggerUi, { routePrefix: "/docs" });
  server.get("/openapi.json", { schema: { hide: true } }, () =>
    server.swagger(),
  );
}

export async function createServer(
  options: ServerOptions,
): Promise<FastifyInstance> {
  const { apiKeys, metrics, ops, routes, logger, warn } = options;
  const server = Fastify({
    logger: false,
    bodyLimit: MAX_REQUEST_BYTES,
    requestTimeout: 30_000,
    // While draining, requests that are on their way on open connections are still answered.
    return503OnClosing: false,
    frameworkErrors: (error, _request, reply) => {
      void (reply as FastifyReply)
        .code(error.statusCode ?? 400)
        .send(toErrorBody("The URL is not valid"));
    },
  });
  const typed = withSchemas(server);
  addBodyParsers(server);
  addErrorHandling(server, logger, warn);
  await addDocument(server);
  addOpsRoutes(server, { ...ops, registry: metrics.registry });
  await typed.register(
    async (api) => {
      requireApiKey(api, apiKeys);
      metrics.observe(api);
      addSubmitRoutes(api, routes);
      addInspectRoutes(api, routes);
      addManageRoutes(api, routes);
      addDeadLetterRoutes(api, routes);
    },
    { prefix: "/api/webhook-delivery" },
  );
  return server;
}
