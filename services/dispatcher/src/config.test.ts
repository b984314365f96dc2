import { EXTENDED_SCHEDULE } from "@pipeline/shared/retry-schedule";
import { expect, test } from "vitest";
import { readConfig } from "./config.ts";

const required = {
  REDIS_URL: "redis://localhost:6379",
  NEXT_PUBLIC_SUPABASE_URL: "https://project.supabase.co",
  SUPABASE_SERVICE_ROLE_KEY: "service-key",
  WEBHOOK_ENCRYPTION_KEY: Buffer.alloc(32, 7).toString("base64"),
};

function faultsOf(env: Record<string, string>): string[] {
  try {
    readConfig(env);
  } catch (error) {
    return (error as Error).message.split("\n");
  }
  return [];
}

test("everything but the required four has its default", () => {
  expect(readConfig(required)).toEqual({
    redisUrl: required.REDIS_URL,
    supabaseUrl: required.NEXT_PUBLIC_SUPABASE_URL,
    serviceRoleKey: required.SUPABASE_SERVICE_ROLE_KEY,
    encryptionKey: required.WEBHOOK_ENCRYPTION_KEY,
    streamKey: "webhook:deliveries",
    logLevel: "info",
    shutdownGraceMs: 35_000,
    metricsPort: 9101,
    concurrency: 5,
    ratePerSecond: 50,
    endpointRatePerSecond: 0,
    attemptTimeoutMs: 30_000,
    retrySchedule: [5, 25, 125],
    retryJitter: 0,
    deadMaxBytes: 268_435_456,
    claimIdleMs: 60_000,
    allowedNetworks: [],
    dnsServers: null,
  });
});

test("the shorter Supabase names do as well", () => {
  const config = readConfig({
    REDIS_URL: required.REDIS_URL,
    WEBHOOK_ENCRYPTION_KEY: required.WEBHOOK_ENCRYPTION_KEY,
    SUPABASE_URL: "http://localhost:54321",
    SUPABASE_SECRET_KEY: "sb_secret",
  });
  expect(config.supabaseUrl).toBe("http://localhost:54321");
  expect(config.serviceRoleKey).toBe("sb_secret");
});

test("all missing variables are named in one line; an empty one is missing", () => {
  expect(faultsOf({ REDIS_URL: " " })).toEqual([
    "Missing required environment variables: REDIS_URL, NEXT_PUBLIC_SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY, WEBHOOK_ENCRYPTION_KEY",
  ]);
});

test("every fault is told at once and no value is repeated", () => {
  const faults = faultsOf({
    ...required,
    REDIS_URL: "http://marker@x",
    WEBHOOK_ENCRYPTION_KEY: "marker",
    SUPABASE_SERVICE_ROLE_KEY: "",
    STREAM_KEY: "{marker}",
    LOG_LEVEL: "marker",
    METRICS_PORT: "70000",
    DISPATCHER_CONCURRENCY: "0",
    RATE_LIMIT_PER_SECOND: "-1",
    ENDPOINT_RATE_LIMIT_PER_SECOND: "marker",
    ATTEMPT_TIMEOUT_MS: "1.5",
    RETRY_DELAYS_SECONDS: "5,marker",
    RETRY_JITTER: "2",
    CLAIM_IDLE_MS: "1",
    SHUTDOWN_GRACE_MS: "marker",
    ALLOW_PRIVATE_NETWORKS: "marker",
    DNS_SERVERS: "marker",
  });
  const named = faults.map((fault) => /variables?: (\w+)/.exec(fault)?.[1]);
  expect(new Set(named)).toEqual(
    new Set([
      "ALLOW_PRIVATE_NETWORKS",
      "ATTEMPT_TIMEOUT_MS",
      "CLAIM_IDLE_MS",
      "DISPATCHER_CONCURRENCY",
      "DNS_SERVERS",
      "ENDPOINT_RATE_LIMIT_PER_SECOND",
      "LOG_LEVEL",
      "METRICS_PORT",
      "RATE_LIMIT_PER_SECOND",
      "REDIS_URL",
      "RETRY_DELAYS_SECONDS",
      "RETRY_JITTER",
      "SHUTDOWN_GRACE_MS",
      "STREAM_KEY",
      "SUPABASE_SERVICE_ROLE_KEY",
      "WEBHOOK_ENCRYPTION_KEY",
    ]),
  );
  expect(faults.join("\n")).not.toContain("marker");
});

test("the retry schedule is a list of seconds, or extended", () => {
  const scheduleOf = (text: string) =>
    readConfig({ ...required, RETRY_DELAYS_SECONDS: text }).retrySchedule;
  expect(scheduleOf("1, 2,0.5")).toEqual([1, 2, 0.5]);
  expect(scheduleOf("extended")).toEqual(EXTENDED_SCHEDULE);
});

test("private networks are allowed range by range", () => {
  const { allowedNetworks } = readConfig({
    ...required,
    ALLOW_PRIVATE_NETWORKS: "127.0.0.0/8,::1/128",
  });
  expect(allowedNetworks).toHaveLength(2);
  expect(faultsOf({ ...required, ALLOW_PRIVATE_NETWORKS: "10.0.0.0" })).toEqual(
    [
      "Invalid environment variable: ALLOW_PRIVATE_NETWORKS must be CIDR ranges separated by commas, like 10.0.0.0/8,::1/128",
    ],
  );
});

test("name servers are addresses, with a port or without; without any the system's are asked", () => {
  const serversOf = (text: string) =>
    readConfig({ ...required, DNS_SERVERS: text }).dnsServers;
  expect(serversOf("10.0.0.53, [fd00::53]:5353")).toEqual([
    "10.0.0.53",
    "[fd00::53]:5353",
  ]);
  expect(serversOf("")).toBeNull();
  expect(faultsOf({ ...required, DNS_SERVERS: "10.0.0.53:99999" })).toEqual([
    "Invalid environment variable: DNS_SERVERS must be addresses separated by commas, like 10.0.0.53,[fd00::53]:5353",
  ]);
});

test("a rate limit of 0 switches it off, and is allowed", () => {
  const config = readConfig({ ...required, RATE_LIMIT_PER_SECOND: "0" });
  expect(config.ratePerSecond).toBe(0);
});
