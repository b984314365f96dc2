// A TCP connection that a test can spoil: what a network, or a death at a chosen moment, does to a service and its server.
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** `holes`: connections are made and stay open, and nothing passes. Present connections turn into holes and stay so. */
export type ProxyMode = "pass" | "refuse" | "holes";
type IsIt = (sent: Buffer) => boolean;

export interface TcpProxy {
  port: number;
  /** For new connections; `refuse` and `holes` also end the use of the present ones. */
  set: (mode: ProxyMode) => void;
  /** Resets the present connections; new ones pass. */
  cut: () => void;
  /**
   * Waits for a chunk that is the one and passes it on, but resets the connection when the server answers: what was asked
   * for has been done, and nobody hears of it. Once.
   */
  loseReplyTo: (isIt: IsIt) => Promise<void>;
  /** Waits for a chunk that is the one; it never arrives, and the connection is a hole from there on. Once. */
  swallow: (isIt: IsIt) => Promise<void>;
  close: () => Promise<void>;
}

interface Link {
  client: Socket;
  server: Socket;
  isHole: boolean;
  isDoomed: boolean;
}

export async function startTcpProxy(target: string): Promise<TcpProxy> {
  const { hostname, port } = new URL(target);
  const links = new Set<Link>();
  let mode: ProxyMode = "pass";
  let trap:
    | { isIt: IsIt; spring: (link: Link) => void; sprung: () => void }
    | undefined;

  function reset(link: Link): void {
    links.delete(link);
    link.client.resetAndDestroy();
    link.server.destroy();
  }
  const resetAll = () => {
    for (const link of links) reset(link);
  };

  function sent(link: Link, chunk: Buffer): void {
    if (trap?.isIt(chunk) === true) {
      trap.spring(link);
      trap.sprung();
      trap = undefined;
    }
    if (!link.isHole) link.server.write(chunk);
  }

  function answered(link: Link, chunk: Buffer): void {
    if (link.isHole) return;
    if (link.isDoomed) reset(link);
    else link.client.write(chunk);
  }

  const proxy = createServer({ noDelay: true }, (client) => {
    if (mode === "refuse") {
      client.resetAndDestroy();
      return;
    }
    const server = connect({
      port: Number(port),
      host: hostname,
      noDelay: true,
    });
    const isHole = mode === "holes";
    const link: Link = { client, server, isHole, isDoomed: false };
    links.add(link);
    client.on("data", (chunk) => sent(link, chunk));
    server.on("data", (chunk) => answered(link, chunk));
    for (const socket of [client, server]) socket.on("error", () => undefined); // "close" follows
    client.on("close", () => reset(link));
    server.on("close", () => {
      if (!link.isHole) reset(link);
    });
  });
  await new Promise<void>((resolve) => {
    proxy.listen(0, "127.0.0.1", resolve);
  });

  const waitFor = (isIt: IsIt, spring: (link: Link) => void) =>
    new Promise<void>((sprung) => {
      trap = { isIt, spring, sprung };
    });

  return {
    port: (proxy.address() as AddressInfo).port,
    set: (next) => {
      mode = next;
      if (next === "refuse") resetAll();
      if (next === "holes") for (const link of links) link.isHole = true;
    },
    cut: resetAll,
    loseReplyTo: (isIt) =>
      waitFor(isIt, (link) => {
        link.isDoomed = true;
      }),
    swallow: (isIt) =>
      waitFor(isIt, (link) => {
        link.isHole = true;
      }),
    close: async () => {
      const closed = new Promise((resolve) => proxy.close(resolve));
      resetAll();
      await closed;
    },
  };
}
