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
  // The response schemas are the document's; checking our own answers against them costs more than making the answers.
  server.setSerializerCompiler(() => (data: unknown) => JSON.stringify(data));
  return server.withTypeProvider<ZodTypes>();
}
