// Reads the environment once, with zod, and reports all faults together.
import { z } from "zod";
import { PipelineError } from "./errors.ts";
import { parseRetrySchedule } from "./retry-schedule.ts";

export const redisUrl = z.url({
  protocol: /^rediss?$/,
  error: "must be a redis:// or rediss:// URL",
});
export const httpUrl = z.url({
  protocol: /^https?$/,
  error: "must be an http:// or https:// URL",
});

export function integer(minimum: number, maximum: number) {
  const range = `must be a whole number from ${minimum} to ${maximum}`;
  return z.coerce
    .number(range)
    .int(range)
    .min(minimum, range)
    .max(maximum, range);
}

const retrySchedule = z.string().transform((text, context) => {
  const schedule = parseRetrySchedule(text);
  if (schedule !== null) return schedule;
  context.addIssue({
    code: "custom",
    message:
      'must be seconds separated by commas, like 5,25,125, or "extended"',
  });
  return z.NEVER;
});

/** The variables that every service reads. The names are the environment's. */
export const commonVariables = {
  REDIS_URL: redisUrl,
  NEXT_PUBLIC_SUPABASE_URL: httpUrl,
  SUPABASE_SERVICE_ROLE_KEY: z.string(),
  WEBHOOK_ENCRYPTION_KEY: z
    .string()
    .refine(
      (text) => Buffer.from(text, "base64").length === 32,
      "must be 32 bytes in base64 (openssl rand -base64 32)",
    ),
  STREAM_KEY: z
    .string()
    .regex(/^[^{}\s]+$/, "must not contain braces or spaces")
    .default("webhook:deliveries"),
  LOG_LEVEL: z
    .enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"])
    .default("info"),
  SHUTDOWN_GRACE_MS: integer(0, 3_600_000).default(35_000),
};

/** Read by ingest, which needs the number of attempts, and by the dispatcher, which needs the delays. */
export const scheduleVariable = {
  RETRY_DELAYS_SECONDS: retrySchedule.prefault("5,25,125"),
};

/** Read by ingest and the retry-scheduler, which bring deliveries into Redis. */
export const queueVariable = {
  MAX_QUEUE_LENGTH: integer(1, 1_000_000_000).default(1_000_000),
};

const ALIASES: Record<string, string> = {
  SUPABASE_URL: "NEXT_PUBLIC_SUPABASE_URL",
  SUPABASE_SECRET_KEY: "SUPABASE_SERVICE_ROLE_KEY",
};

/**
 * Parses the environment; an empty variable counts as missing. Throws CONFIG_INVALID with a message that lists every
 * missing variable and every wrong value; values are not echoed.
 */
export function readEnvironment<Schema extends z.ZodType>(
  schema: Schema,
  env: NodeJS.ProcessEnv,
): z.output<Schema> {
  const variables: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && value.trim() !== "")
      variables[name] = value.trim();
  }
  for (const [alias, name] of Object.entries(ALIASES)) {
    if (variables[alias] !== undefined) variables[name] = variables[alias];
  }
  const parsed = schema.safeParse(variables);
  if (parsed.success) return parsed.data;

  const missing = new Set<string>();
  const wrong: string[] = [];
  for (const issue of parsed.error.issues) {
    const name = String(issue.path[0]);
    if (variables[name] === undefined) missing.add(name);
    else wrong.push(`Invalid environment variable: ${name} ${issue.message}`);
  }
  const lines =
    missing.size > 0
      ? [`Missing required environment variables: ${[...missing].join(", ")}`]
      : [];
  throw new PipelineError("CONFIG_INVALID", [...lines, ...wrong].join("\n"));
}
