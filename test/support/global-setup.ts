// One Redis, Postgres and PostgREST for the whole run: containers when Docker answers, local processes when not.
import { startStack } from "@pipeline/dev-stack/start-stack";
import type { TestProject } from "vitest/node";

const KINDS = ["auto", "containers", "processes"] as const;

export interface StackAddresses {
  kind: "containers" | "processes";
  redisUrl: string;
  postgresUrl: string;
  supabaseUrl: string;
  serviceRoleKey: string;
  anonKey: string;
}

declare module "vitest" {
  export interface ProvidedContext {
    stack: StackAddresses;
  }
}

export default async function setup(project: TestProject) {
  const kind = KINDS.find(
    (name) => name === (process.env["TEST_STACK"] ?? "auto"),
  );
  if (kind === undefined)
    throw new Error(`TEST_STACK must be one of ${KINDS.join(", ")}`);
  const stack = await startStack({ kind });
  console.log(`Integration tests run against ${stack.kind}.`);
  const { redisUrl, postgresUrl, supabaseUrl, serviceRoleKey, anonKey } = stack;
  project.provide("stack", {
    kind: stack.kind,
    redisUrl,
    postgresUrl,
    supabaseUrl,
    serviceRoleKey,
    anonKey,
  });
  return () => stack.stop();
}
