// A TCP connection that a test can spoil: what a network does between a service and its server.
import { connect, createServer, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

/** `holes`: connections are accepted and stay open, and nothing passes in either direction. */
export type ProxyMode = "pass" | "refuse" | "holes";

export interface TcpProxy {
  port: number;
  connections: () => number;
  /** For present and future connections. `refuse` also resets the present ones. */
  set: (mode: ProxyMode) => void;
  /** Resets the present connections; new ones pass. */
  cut: () => void;
  /**
   * Looks at what clients send. When `isIt` is true of a chunk, that chunk still reaches the server, but the connection is
   * reset before any answer to it comes back. Once; resolves when it has happened.
   */
  loseReplyTo: (isIt: (sent: Buffer) => boolean) => Promise<void>;
  close: () => Promise<void>;
}

interface Link {
  client: Socket;
  server: Socket;
  isDoomed: boolean;
}

export async function startTcpProxy(target: {
  port: number;
  host?: string;
}): Promise<TcpProxy> {
  const links = new Set<Link>();
  let mode: ProxyMode = "pass";
  let trap: { isIt: (sent: Buffer) => boolean; sprung: () => void } | undefined;

  function reset(link: Link): void {
    link.client.resetAndDestroy();
    link.server.destroy();
    links.delete(link);
  }

  const proxy = createServer((client) => {
    if (mode === "refuse") {
      client.resetAndDestroy();
      return;
    }
    const server = connect(target.port, target.host ?? "127.0.0.1");
    const link: Link = { client, server, isDoomed: false };
    links.add(link);
    client.setNoDelay(true);
    server.setNoDelay(true);
    client.on("data", (sent) => {
      if (mode === "holes") return;
      server.write(sent);
      if (trap?.isIt(sent) !== true) return;
      link.isDoomed = true;
      trap.sprung();
      trap = undefined;
    });
    server.on("data", (answer) => {
      if (mode === "holes") return;
      // The server has answered, so the command has run; nobody will hear of it.
      if (link.isDoomed) reset(link);
      else client.write(answer);
    });
    for (const socket of [client, server]) {
      socket.on("error", () => undefined); // "close" follows
      socket.on("close", () => {
        if (mode !== "holes") reset(link);
      });
    }
  });
  await new Promise<void>((resolve) => {
    proxy.listen(0, "127.0.0.1", resolve);
  });

  return {
    port: (proxy.address() as AddressInfo).port,
    connections: () => links.size,
    set: (next) => {
      // What was swallowed is gone: a connection that went on from there would be out of step with its server.
      if (next === "refuse" || mode === "holes")
        for (const link of links) reset(link);
      mode = next;
    },
    cut: () => {
      for (const link of links) reset(link);
    },
    loseReplyTo: (isIt) =>
      new Promise((resolve) => {
        trap = { isIt, sprung: resolve };
      }),
    close: async () => {
      const closed = new Promise((resolve) => proxy.close(resolve));
      for (const link of links) reset(link);
      await closed;
    },
  };
}
