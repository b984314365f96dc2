// A receiver below HTTP: it reads whole requests, and answers each with whatever bytes the test writes.
import { once } from "node:events";
import {
  type AddressInfo,
  createServer,
  type Server,
  type Socket,
} from "node:net";
import { onTestFinished } from "vitest";

export interface RawRequest {
  /** The delivery's id, from `webhook-id`. */
  id: string;
  head: string;
  /** 1 for the first request on its connection. */
  onConnection: number;
  /** Requests of this delivery before this one. */
  seenBefore: number;
}

export interface RawReceiver {
  port: number;
  url: string;
  requests: RawRequest[];
  /** Connections so far. */
  connections: () => number;
  /** Connections now. */
  open: () => number;
}

export type RawAnswer = (socket: Socket, request: RawRequest) => void;

export interface RawOptions {
  /** Makes the server that hands over sockets; one of TCP unless given. */
  listener?: (onConnection: (socket: Socket) => void) => Server;
}

const HEAD_END = "\r\n\r\n";

/** Takes one whole request off the beginning of `received`, if it is there. */
function takeRequest(received: string): { head: string; rest: string } | null {
  const headEnd = received.indexOf(HEAD_END);
  if (headEnd === -1) return null;
  const head = received.slice(0, headEnd);
  const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
  const end = headEnd + HEAD_END.length + length;
  return received.length < end ? null : { head, rest: received.slice(end) };
}

/** For one test, at whose end it is closed. It listens on 127.0.0.1. */
export async function rawReceiver(
  answer: RawAnswer,
  { listener = createServer }: RawOptions = {},
): Promise<RawReceiver> {
  const sockets = new Set<Socket>();
  const requests: RawRequest[] = [];
  let connections = 0;
  const server = listener((socket) => {
    connections++;
    sockets.add(socket);
    let received = "";
    let onConnection = 0;
    socket.on("error", () => undefined); // the sender hangs up
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (chunk: Buffer) => {
      received += chunk.toString("latin1");
      const taken = takeRequest(received);
      if (taken === null) return;
      received = taken.rest;
      const id = /^webhook-id: (.*)$/im.exec(taken.head)?.[1]?.trim() ?? "";
      const seenBefore = requests.filter((each) => each.id === id).length;
      const { head } = taken;
      const request = { id, head, onConnection: ++onConnection, seenBefore };
      requests.push(request);
      answer(socket, request);
    });
  });
  server.listen(0, "127.0.0.1", 1024);
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}/hook`;
  return {
    port,
    url,
    requests,
    connections: () => connections,
    open: () => sockets.size,
  };
}
