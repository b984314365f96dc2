import {
  commonVariables,
  integer,
  queueVariable,
  readEnvironment,
  scheduleVariable,
} from "@pipeline/shared/config";
import { scheduleLength } from "@pipeline/shared/retry-schedule";
import { z } from "zod";

const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost"]);

const apiKeys = z.string().transform((text, context) => {
  const keys = text
    .split(",")
    .map((key) => key.trim())
    .filter((key) => key !== "");
  if (keys.every((key) => /^[\x21-\x7e]+$/.test(key))) return keys;
  context.addIssue({
    code: "custom",
    message: "must be keys of visible ASCII characters, separated by commas",
  });
  return z.NEVER;
});

export const environment = z
  .object({
    ...commonVariables,
    PORT: integer(0, 65_535).default(3000),
    HOST: z.string().optional(),
    INGEST_API_KEYS: apiKeys.prefault(""),
    ...queueVariable,
    ...scheduleVariable,
  })
  .superRefine(({ HOST, INGEST_API_KEYS }, context) => {
    if (
      INGEST_API_KEYS.length === 0 &&
      HOST !== undefined &&
      !LOOPBACK.has(HOST)
    ) {
      context.addIssue({
        code: "custom",
        path: ["HOST"],
        message:
          "may only be a loopback address while INGEST_API_KEYS is not set",
      });
    }
  });

export type Config = ReturnType<typeof readConfig>;

/** Throws CONFIG_INVALID, every fault in its message. */
export function readConfig(env: NodeJS.ProcessEnv) {
  const variables = readEnvironment(environment, env);
  const apiKeys = variables.INGEST_API_KEYS;
  return {
    redisUrl: variables.REDIS_URL,
    supabaseUrl: variables.NEXT_PUBLIC_SUPABASE_URL,
    serviceRoleKey: variables.SUPABASE_SERVICE_ROLE_KEY,
    encryptionKey: variables.WEBHOOK_ENCRYPTION_KEY,
    streamKey: variables.STREAM_KEY,
    logLevel: variables.LOG_LEVEL,
    shutdownGraceMs: variables.SHUTDOWN_GRACE_MS,
    port: variables.PORT,
    // Without keys anybody who reaches the port can send leads anywhere, so only this machine reaches it.
    host: variables.HOST ?? (apiKeys.length > 0 ? "0.0.0.0" : "127.0.0.1"),
    apiKeys,
    maxQueueLength: variables.MAX_QUEUE_LENGTH,
    maxAttempts: scheduleLength(variables.RETRY_DELAYS_SECONDS),
  } as const;
}
