import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { signApiKey } from "./api-keys.ts";
import { trackFolder, untrackFolder } from "./children.ts";
import { freePort } from "./ports.ts";
import type { StackAddresses, StackOptions } from "./stack.ts";

export interface PreparedStack {
  folder: string;
  /** Deletes the folder if it is temporary. */
  removeFolder: () => Promise<void>;
  ports: Record<
    "redis" | "postgres" | "postgrest" | "postgrestAdmin" | "gateway",
    number
  >;
  addresses: StackAddresses;
}

/** What a stack of either kind needs before its servers start. Fixed ports let a restarted server keep its address. */
export async function prepareStack(
  options: StackOptions,
): Promise<PreparedStack> {
  const isTemporary = options.dataDirectory === undefined;
  const folder =
    options.dataDirectory ?? (await mkdtemp(`${tmpdir()}/webhook-stack-`));
  if (isTemporary) {
    trackFolder(folder);
    // As root, Postgres runs as another user, who must be able to reach its folder inside this one.
    await chmod(folder, 0o711);
  } else {
    await mkdir(folder, { recursive: true });
  }

  const ports = {
    redis: options.ports?.redis ?? (await freePort()),
    postgres: options.ports?.postgres ?? (await freePort()),
    postgrest: await freePort(),
    postgrestAdmin: await freePort(),
    gateway: options.ports?.gateway ?? (await freePort()),
  };
  return {
    folder,
    async removeFolder() {
      if (!isTemporary) return;
      await rm(folder, { recursive: true, force: true, maxRetries: 3 });
      untrackFolder(folder);
    },
    ports,
    addresses: {
      redisUrl: `redis://127.0.0.1:${ports.redis}`,
      postgresUrl: `postgresql://postgres:postgres@127.0.0.1:${ports.postgres}/postgres`,
      supabaseUrl: `http://127.0.0.1:${ports.gateway}`,
      serviceRoleKey: signApiKey({ role: "service_role" }),
      anonKey: signApiKey({ role: "anon" }),
      userKey: (sub) => signApiKey({ role: "authenticated", sub }),
    },
  };
}
