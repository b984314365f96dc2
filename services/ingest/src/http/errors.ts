// Every answer that is not a success, in one form: {status: "error", error, issues}.
import { errorMessage, hasCode } from "@pipeline/shared/errors";
import { isHeld } from "@pipeline/shared/database-fault";
import type { Logger } from "@pipeline/shared/logger";
import type {
  FastifyError,
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
} from "fastify";
import { z } from "zod";
import {
  BROKEN,
  type Issue,
  REDIS_UNAVAILABLE,
  type Refusal,
  HELD,
  UNANSWERED,
} from "../core/refusal.ts";
import { unknownFields } from "../core/strict-object.ts";
import type { Warn } from "../throttled-warning.ts";

export const errorBody = z
  .object({
    status: z.literal("error"),
    error: z.string(),
    issues: z.array(z.object({ path: z.string(), message: z.string() })),
  })
  .meta({ id: "Error" });

export type ErrorBody = z.output<typeof errorBody>;

export function toErrorBody(error: string, issues: Issue[] = []): ErrorBody {
  return { status: "error", error, issues };
}

/** Thrown by the validator; syntax is 400, a well-formed request that breaks the schema is 422. */
export class InvalidRequest extends Error {
  readonly statusCode = 422;
  readonly issues: Issue[];

  constructor(issues: Issue[]) {
    super(summary(issues));
    this.issues = issues;
  }
}

function summary(issues: Issue[]): string {
  return issues
    .map(({ path, message }) =>
      path === "" ? `The request ${message}` : `${path} ${message}`,
    )
    .join("; ");
}

/** zod's own texts start with "Invalid input: expected string, received number"; ours follow the field's name. */
export function toIssues(error: z.ZodError): Issue[] {
  const issues = error.issues.flatMap((issue) =>
    issue.code === "unrecognized_keys" ? unknownFields(issue) : issue,
  );
  return issues.map(({ path, message }) => ({
    path: path.join("."),
    message: message
      .replace(
        /^Invalid input: expected \w+, received undefined$/,
        "is required",
      )
      .replace(
        /^Invalid input: expected (\w+), received (\w+)$/,
        "must be of type $1, not $2",
      ),
  }));
}

export function sendRefusal(
  reply: FastifyReply,
  refusal: Refusal,
): FastifyReply {
  if (refusal.retryAfterSeconds !== undefined)
    reply.header("retry-after", String(refusal.retryAfterSeconds));
  return reply
    .code(refusal.status)
    .send(toErrorBody(refusal.error, refusal.issues));
}

const TEXTS: Record<string, string> = {
  FST_ERR_CTP_BODY_TOO_LARGE: "The request body is too large",
  FST_ERR_BAD_URL: "The URL is not valid",
};

export function addErrorHandling(
  server: FastifyInstance,
  logger: Logger,
  warn: Warn,
): void {
  server.setErrorHandler(
    (error: FastifyError, request: FastifyRequest, reply: FastifyReply) => {
      if (error instanceof InvalidRequest) {
        return reply
          .code(error.statusCode)
          .send(toErrorBody(error.message, error.issues));
      }
      if (hasCode(error, "DATABASE_UNAVAILABLE")) {
        warn("request.database_unavailable", { error: error.message });
        return sendRefusal(reply, isHeld(error) ? HELD : UNANSWERED);
      }
      if (hasCode(error, "REDIS_UNAVAILABLE")) {
        warn("request.redis_unavailable", { error: error.message });
        return sendRefusal(reply, REDIS_UNAVAILABLE);
      }
      const { statusCode = 500 } = error;
      if (statusCode < 500) {
        return reply
          .code(statusCode)
          .send(toErrorBody(TEXTS[error.code] ?? errorMessage(error)));
      }
      logger.error(
        { err: error, route: request.routeOptions.url },
        "request.failed",
      );
      return sendRefusal(reply, BROKEN);
    },
  );
  server.setNotFoundHandler((request, reply) => {
    const [path] = request.url.split("?");
    return reply
      .code(404)
      .send(toErrorBody(`There is no ${request.method} ${path}; see /docs`));
  });
}
