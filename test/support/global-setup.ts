// One Redis, Postgres and PostgREST, and one seed, for the whole run: containers when Docker answers, local processes when not.
import { startStack } from "@pipeline/dev-stack/start-stack";
import type { TestProject } from "vitest/node";
import { readSeed } from "./seed.ts";

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
    /** Every random choice follows from it. */
    seed: number;
  }
}

export default async function setup({ vitest }: TestProject) {
  // Vitest calls this once for each project, one after the other. What the root project provides, all of them have.
  const root = vitest.getRootProject();
  if ("stack" in root.getProvidedContext()) return undefined;
  const kind = KINDS.find(
    (name) => name === (process.env["TEST_STACK"] ?? "auto"),
  );
  if (kind === undefined)
    throw new Error(`TEST_STACK must be one of ${KINDS.join(", ")}`);
  const seed = readSeed();
  const stack = await startStack({ kind });
  console.log(
    `Integration tests run against ${stack.kind}. SEED=${seed} makes the same random choices again.`,
  );
  const { redisUrl, postgresUrl, supabaseUrl, serviceRoleKey, anonKey } = stack;
  root.provide("seed", seed);
  root.provide("stack", {
    kind: stack.kind,
    redisUrl,
    postgresUrl,
    supabaseUrl,
    serviceRoleKey,
    anonKey,
  });
  return () => stack.stop();
}
