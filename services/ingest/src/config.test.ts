import { describe, expect, test } from "vitest";
import { readConfig } from "./config.ts";

const REQUIRED = {
  REDIS_URL: "redis://localhost:6379",
  SUPABASE_URL: "http://localhost:54321",
  SUPABASE_SERVICE_ROLE_KEY: "key",
  WEBHOOK_ENCRYPTION_KEY: Buffer.alloc(32).toString("base64"),
};

describe("the configuration", () => {
  test("needs only what the pipeline cannot guess, and then listens on this machine alone", () => {
    expect(readConfig(REQUIRED)).toMatchObject({
      port: 3000,
      host: "127.0.0.1",
      apiKeys: [],
      maxQueueLength: 1_000_000,
      maxAttempts: 4,
    });
  });

  test("listens everywhere once there are keys", () => {
    expect(
      readConfig({ ...REQUIRED, INGEST_API_KEYS: "first-key, second-key," }),
    ).toMatchObject({
      host: "0.0.0.0",
      apiKeys: ["first-key", "second-key"],
    });
  });

  test("names every fault at once", () => {
    const env = {
      PORT: "http",
      INGEST_API_KEYS: "schlüssel",
      RETRY_DELAYS_SECONDS: "soon",
      REDIS_URL: "localhost",
    };
    expect(() => readConfig(env)).toThrow(
      /^Missing required environment variables: NEXT_PUBLIC_SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY, WEBHOOK_ENCRYPTION_KEY\n(?=.*REDIS_URL)(?=[^]*PORT)(?=[^]*INGEST_API_KEYS)(?=[^]*RETRY_DELAYS_SECONDS)/,
    );
  });

  test("refuses an open address without keys", () => {
    expect(() => readConfig({ ...REQUIRED, HOST: "0.0.0.0" })).toThrow(
      "HOST may only be a loopback address",
    );
    expect(
      readConfig({
        ...REQUIRED,
        HOST: "0.0.0.0",
        INGEST_API_KEYS: "a-long-key",
      }).host,
    ).toBe("0.0.0.0");
  });
});
