// A Redis of the test's own: for what would disturb others (memory limits, restarts) and for other servers
// (REDIS_SERVER names the binary: Redis 7 or 8, Valkey).
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { freePort } from "@pipeline/dev-stack/ports";
import { redisServer } from "@pipeline/dev-stack/redis-server";

export interface TestRedis {
  url: string;
  port: number;
  /** Ends it for good. */
  stop: () => Promise<void>;
  /** Takes it away, as an outage does; what it held is lost. */
  interrupt: () => Promise<void>;
  resume: () => Promise<void>;
}

/** `settings` as on the command line, e.g. `["--maxmemory", "10mb"]`. Nothing is written to disk. */
export async function startTestRedis(
  settings: string[] = [],
): Promise<TestRedis> {
  const folder = await mkdtemp(`${tmpdir()}/webhook-redis-`);
  const port = await freePort();
  const server = redisServer({
    folder,
    port,
    extraArguments: ["--appendonly", "no", ...settings],
  });
  await server.start();
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    interrupt: () => server.stop("SIGKILL"),
    resume: () => server.start(),
    stop: async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}
