import { Resolver } from "node:dns";
import {
  commonVariables,
  integer,
  readEnvironment,
  scheduleVariable,
} from "@pipeline/shared/config";
import { z } from "zod";
import { parseNetworks } from "./core/address.ts";

const networks = z.string().transform((text, context) => {
  const parsed = parseNetworks(text);
  if (parsed !== null) return parsed;
  context.addIssue({
    code: "custom",
    message: "must be CIDR ranges separated by commas, like 10.0.0.0/8,::1/128",
  });
  return z.NEVER;
});

const dnsServers = z.string().transform((text, context) => {
  const servers = text.split(",").map((part) => part.trim());
  const named = servers.filter((part) => part !== "");
  if (named.length === 0) return null; // those of the system
  try {
    new Resolver().setServers(named);
    return named;
  } catch {
    context.addIssue({
      code: "custom",
      message:
        "must be addresses separated by commas, like 10.0.0.53,[fd00::53]:5353",
    });
    return z.NEVER;
  }
});

export const environment = z.object({
  ...commonVariables,
  METRICS_PORT: integer(0, 65_535).default(9101),
  DISPATCHER_CONCURRENCY: integer(1, 2000).default(5),
  RATE_LIMIT_PER_SECOND: integer(0, 1_000_000).default(50),
  ENDPOINT_RATE_LIMIT_PER_SECOND: integer(0, 100_000).default(0),
  ATTEMPT_TIMEOUT_MS: integer(100, 600_000).default(30_000),
  ...scheduleVariable,
  RETRY_JITTER: z.coerce
    .number("must be a number from 0 to 1")
    .min(0, "must be a number from 0 to 1")
    .max(1, "must be a number from 0 to 1")
    .default(0),
  DEAD_MAX_BYTES: integer(1_000_000, 1_000_000_000_000).default(268_435_456),
  CLAIM_IDLE_MS: integer(500, 3_600_000).default(60_000),
  ALLOW_PRIVATE_NETWORKS: networks.prefault(""),
  DNS_SERVERS: dnsServers.prefault(""),
});

export type Config = ReturnType<typeof readConfig>;

/** Throws CONFIG_INVALID, every fault in its message. */
export function readConfig(env: NodeJS.ProcessEnv) {
  const variables = readEnvironment(environment, env);
  return {
    redisUrl: variables.REDIS_URL,
    supabaseUrl: variables.NEXT_PUBLIC_SUPABASE_URL,
    serviceRoleKey: variables.SUPABASE_SERVICE_ROLE_KEY,
    encryptionKey: variables.WEBHOOK_ENCRYPTION_KEY,
    streamKey: variables.STREAM_KEY,
    logLevel: variables.LOG_LEVEL,
    shutdownGraceMs: variables.SHUTDOWN_GRACE_MS,
    metricsPort: variables.METRICS_PORT,
    concurrency: variables.DISPATCHER_CONCURRENCY,
    ratePerSecond: variables.RATE_LIMIT_PER_SECOND,
    endpointRatePerSecond: variables.ENDPOINT_RATE_LIMIT_PER_SECOND,
    attemptTimeoutMs: variables.ATTEMPT_TIMEOUT_MS,
    retrySchedule: variables.RETRY_DELAYS_SECONDS,
    retryJitter: variables.RETRY_JITTER,
    deadMaxBytes: variables.DEAD_MAX_BYTES,
    claimIdleMs: variables.CLAIM_IDLE_MS,
    allowedNetworks: variables.ALLOW_PRIVATE_NETWORKS,
    dnsServers: variables.DNS_SERVERS,
  } as const;
}
