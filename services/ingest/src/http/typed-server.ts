// Fastify with the zod schemas of its routes: they validate requests, type them, and make the OpenAPI document.
import type { FastifyInstance, FastifyTypeProvider } from "fastify";
import type { z } from "zod";
import { InvalidRequest, toIssues } from "./errors.ts";

/** Requests have the types of their routes' zod schemas. */
interface ZodTypes extends FastifyTypeProvider {
  validator: this["schema"] extends z.ZodType
    ? z.output<this["schema"]>
    : unknown;
}

/** A server that validates with the zod schemas of its routes. */
export type ApiServer = ReturnType<typeof withSchemas>;

export function withSchemas(server: FastifyInstance) {
  server.setValidatorCompiler<z.ZodType>(({ schema }) => (data: unknown) => {
    const parsed = schema.safeParse(data);
    return parsed.success
      ? { value: parsed.data }
      : { error: new InvalidRequest(toIssues(parsed.error)) };
  });
  // Response schemas are for the OpenAPI document only: checking our own answers costs more than making them.
  server.setSerializerCompiler(() => (data: unknown) => JSON.stringify(data));
  return server.withTypeProvider<ZodTypes>();
}
