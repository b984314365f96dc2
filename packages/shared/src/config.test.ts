import { expect, test } from "vitest";
import { z } from "zod";
import {
  commonVariables,
  integer,
  readEnvironment,
  scheduleVariable,
} from "./config.ts";
import { errorMessage, hasCode } from "./errors.ts";

const schema = z.object({
  ...commonVariables,
  PORT: integer(1, 65_535).default(3000),
  ...scheduleVariable,
});
const complete = {
  REDIS_URL: "redis://user:hidden@localhost:6379",
  NEXT_PUBLIC_SUPABASE_URL: "https://project.supabase.co",
  SUPABASE_SERVICE_ROLE_KEY: "service-key",
  WEBHOOK_ENCRYPTION_KEY: Buffer.alloc(32).toString("base64"),
};

function faultOf(env: NodeJS.ProcessEnv): string {
  try {
    readEnvironment(schema, env);
  } catch (error) {
    if (hasCode(error, "CONFIG_INVALID")) return errorMessage(error);
  }
  throw new Error("the environment was accepted");
}

test("a complete environment gets its defaults and needs nothing else", () => {
  expect(readEnvironment(schema, complete)).toMatchObject({
    ...complete,
    STREAM_KEY: "webhook:deliveries",
    LOG_LEVEL: "info",
    PORT: 3000,
  });
});

test("every missing variable is named in one line, an empty one counting as missing", () => {
  expect(faultOf({ REDIS_URL: " " })).toBe(
    "Missing required environment variables: REDIS_URL, NEXT_PUBLIC_SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY, WEBHOOK_ENCRYPTION_KEY",
  );
});

test("every wrong value is named together with the missing ones, and none is echoed", () => {
  const message = faultOf({
    ...complete,
    REDIS_URL: "http://hidden",
    PORT: "hidden",
    WEBHOOK_ENCRYPTION_KEY: "hidden",
    SUPABASE_SERVICE_ROLE_KEY: "",
    STREAM_KEY: "a{hidden}",
  });
  const lines = message.split("\n");
  expect(lines[0]).toBe(
    "Missing required environment variables: SUPABASE_SERVICE_ROLE_KEY",
  );
  for (const name of [
    "REDIS_URL",
    "PORT",
    "WEBHOOK_ENCRYPTION_KEY",
    "STREAM_KEY",
  ]) {
    expect(lines).toContainEqual(
      expect.stringContaining(`Invalid environment variable: ${name} must`),
    );
  }
  expect(message).not.toContain("hidden");
});

test("Supabase's own names for its URL and its key are understood", () => {
  const { NEXT_PUBLIC_SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY, ...rest } =
    complete;
  const env = {
    ...rest,
    SUPABASE_URL: NEXT_PUBLIC_SUPABASE_URL,
    SUPABASE_SECRET_KEY: SUPABASE_SERVICE_ROLE_KEY,
  };
  expect(readEnvironment(schema, env)).toMatchObject(complete);
});

test.each(["1.5", "0", "65536", "1e9", "-1", "abc", "NaN"])(
  "a port of %s is refused",
  (PORT) => {
    expect(faultOf({ ...complete, PORT })).toBe(
      "Invalid environment variable: PORT must be a whole number from 1 to 65535",
    );
  },
);

test("a retry schedule is read, and a wrong one refused", () => {
  expect(
    readEnvironment(schema, { ...complete, RETRY_DELAYS_SECONDS: "1, 2" })
      .RETRY_DELAYS_SECONDS,
  ).toEqual([1, 2]);
  expect(faultOf({ ...complete, RETRY_DELAYS_SECONDS: "1,x" })).toContain(
    "RETRY_DELAYS_SECONDS must be seconds",
  );
});
