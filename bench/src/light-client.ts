// An HTTP client that does as little as a keep-alive POST needs, because it shares the processors with what is measured.
// A connection carries one request at a time; further requests wait for a free one. Bodies must be ASCII.
import { connect, type Socket } from "node:net";

export interface LightClient {
  /** Resolves when the answer is complete. Rejects when its status is not `expected`. */
  post: (path: string, body: string, expected: number) => Promise<void>;
}

interface Exchange {
  text: string;
  expected: number;
  resolve: () => void;
  reject: (error: Error) => void;
}

export function createLightClient(
  url: string,
  connections: number,
): LightClient {
  const { hostname, port } = new URL(url);
  const idle: ((exchange: Exchange) => void)[] = [];
  const waiting: Exchange[] = [];
  let opened = 0;

  function open(first: Exchange): void {
    opened++;
    let current: Exchange | undefined;
    let received = "";
    const socket: Socket = connect(Number(port), hostname);
    socket.setNoDelay(true);
    socket.unref();
    const send = (exchange: Exchange) => {
      current = exchange;
      socket.write(exchange.text, "latin1");
    };
    const end = () => {
      opened--;
      current?.reject(new Error("the connection was closed before the answer"));
      current = undefined;
      const index = idle.indexOf(send);
      if (index !== -1) idle.splice(index, 1);
    };
    socket.on("error", end);
    socket.on("close", end);
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
      const head = received.indexOf("\r\n\r\n");
      if (head === -1 || current === undefined) return;
      const [, length] = /content-length: (\d+)/i.exec(received) ?? [];
      if (received.length < head + 4 + Number(length)) return;
      const { expected, resolve, reject } = current;
      const status = Number(received.slice(9, 12));
      if (status === expected) resolve();
      else reject(new Error(`${status} ${received.slice(head + 4)}`));
      received = "";
      current = undefined;
      const next = waiting.shift();
      if (next === undefined) idle.push(send);
      else send(next);
    });
    send(first);
  }

  return {
    post: (path, body, expected) =>
      new Promise((resolve, reject) => {
        const text =
          `POST ${path} HTTP/1.1\r\nhost: ${hostname}\r\ncontent-type: application/json\r\n` +
          `content-length: ${body.length}\r\n\r\n${body}`;
        const exchange = { text, expected, resolve, reject };
        const send = idle.pop();
        if (send !== undefined) send(exchange);
        else if (opened < connections) open(exchange);
        else waiting.push(exchange);
      }),
  };
}
