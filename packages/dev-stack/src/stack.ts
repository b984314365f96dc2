import { startProcesses } from "./processes.ts";

/** A server that can be stopped, killed and started again on the same port, with its data. */
export interface Restartable {
  /** Resolves when the process is gone. Without a signal the server shuts down in order. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Resolves when it answers again. */
  start(): Promise<void>;
  pid?: number;
}

/** Redis, and Postgres behind PostgREST and the `/rest/v1` gateway, with the migrations applied. */
export interface Stack {
  kind: "processes" | "containers";
  redisUrl: string;
  postgresUrl: string;
  /** Base of the gateway, as supabase-js wants it; it serves /rest/v1. */
  supabaseUrl: string;
  serviceRoleKey: string;
  anonKey: string;
  /** Key of role `authenticated` for the user with this id, as Supabase Auth would issue it. */
  userKey(sub: string): string;
  redis: Restartable;
  postgres: Restartable;
  postgrest: Restartable;
  stop(): Promise<void>;
}

export interface StackOptions {
  /** "auto" takes containers when Docker answers and the images are there, else processes. */
  kind?: "processes" | "containers" | "auto";
  /** Where data and logs go and stay; without it a temporary folder that is deleted on stop. */
  dataDirectory?: string;
  onProgress?: (line: string) => void;
  redisArguments?: string[];
  postgresSettings?: Record<string, string | number>;
  ports?: { redis?: number; postgres?: number; gateway?: number };
}

export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const kind = options.kind ?? "auto";
  const onProgress = options.onProgress ?? (() => undefined);
  if (kind !== "processes") {
    // Loaded late: it takes half a second, which a stack of processes need not wait for.
    const { startContainers, whyNoContainers } =
      await import("./containers.ts");
    const reason =
      kind === "auto" ? await whyNoContainers(onProgress) : undefined;
    if (reason === undefined)
      return startContainers({ ...options, onProgress });
    onProgress(`no containers (${reason}): using local processes`);
  }
  return startProcesses({ ...options, onProgress });
}
