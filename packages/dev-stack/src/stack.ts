import type { Restartable } from "./server-process.ts";

/** Redis, and Postgres behind PostgREST and the `/rest/v1` gateway, with the migrations applied. */
export interface Stack extends StackAddresses {
  kind: "processes" | "containers";
  redis: Restartable;
  postgres: Restartable;
  postgrest: Restartable;
  stop(): Promise<void>;
}

export interface StackAddresses {
  redisUrl: string;
  postgresUrl: string;
  /** URL of the gateway, as supabase-js expects it; it serves /rest/v1. */
  supabaseUrl: string;
  serviceRoleKey: string;
  anonKey: string;
  /** API key of the role `authenticated` for the user with this id, as Supabase Auth would issue it. */
  userKey(sub: string): string;
}

export interface StackOptions {
  /** A folder for data and logs, which is kept. Without it they go to a temporary folder that is deleted on stop. */
  dataDirectory?: string;
  onProgress: (line: string) => void;
  redisArguments?: string[];
  postgresSettings?: Record<string, string | number>;
  ports?: { redis?: number; postgres?: number; gateway?: number };
}
