import type { ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { spawnTracked } from "./children.ts";
import { waitUntil } from "./wait-until.ts";

const script = fileURLToPath(new URL("gateway.ts", import.meta.url));

/** Runs the gateway as a process of its own: in ours it would share the event loop with tests and measurements. */
export async function spawnGateway(options: {
  port: number;
  postgrestUrl: string;
  logFile: string;
}): Promise<ChildProcess> {
  const gateway = spawnTracked(process.execPath, [script], {
    name: "gateway",
    logFile: options.logFile,
    env: {
      ...process.env,
      HOST: "127.0.0.1",
      PORT: String(options.port),
      POSTGREST_URL: options.postgrestUrl,
    },
  });
  // A path without a route shows that it listens, even before PostgREST does.
  await waitUntil(
    `gateway answers (log: ${options.logFile})`,
    15_000,
    async () =>
      (await fetch(`http://127.0.0.1:${options.port}/`)).status === 404,
  );
  return gateway;
}
