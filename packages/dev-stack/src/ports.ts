import { createServer } from "node:net";

const taken = new Set<number>();

/**
 * A free loopback port below the kernel's ephemeral range. While our server restarts, the kernel may give a port inside
 * that range to a client that tries to reconnect. On loopback the client may even connect to itself and so keep the port.
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

/** The port itself, or another free one when it is taken. */
export async function portOrFree(port: number): Promise<number> {
  return (await canListen(port)) ? port : freePort();
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
