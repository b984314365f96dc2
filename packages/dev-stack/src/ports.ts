import { createServer } from "node:net";

const taken = new Set<number>();

/**
 * A free loopback port below the kernel's ephemeral range. A port inside the range can be handed to a client
 * that reconnects while our server restarts; on loopback it may even connect to itself and keep the port.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 200; tries++) {
    const port = 15_000 + Math.floor(Math.random() * 17_000);
    if (taken.has(port) || !(await canListen(port))) continue;
    taken.add(port);
    return port;
  }
  throw new Error("found no free port between 15000 and 32000");
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
