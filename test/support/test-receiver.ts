// A receiver that keeps the bytes and the moment of each request, and behaves as the test says.
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { onTestFinished } from "vitest";

export interface Received {
  /** Ms since 1970, when the headers were there. */
  at: number;
  /** The delivery's id, from `webhook-id`. */
  id: string;
  /** With the query. */
  path: string;
  method: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
  /** Requests of this delivery before this one. */
  seenBefore: number;
}

export type Answer = (
  request: Received,
  response: ServerResponse,
) => void | Promise<void>;

export const answerWith =
  (status: number, headers: Record<string, string> = {}): Answer =>
  (_request, response) => {
    response.writeHead(status, headers).end(`status ${status}`);
  };

export interface TestReceiver {
  url: string;
  requests: Received[];
  /** Requests under way at once, at most. */
  mostAtOnce: () => number;
  of: (id: string) => Received[];
  close: () => Promise<void>;
}

/** Without an answer of its own it says 200. It listens on 127.0.0.1. */
export async function startTestReceiver(
  answer: Answer = answerWith(200),
): Promise<TestReceiver> {
  const requests: Received[] = [];
  const timesSeen = new Map<string, number>();
  let atOnce = 0;
  let mostAtOnce = 0;

  async function handle(
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const at = Date.now();
    mostAtOnce = Math.max(mostAtOnce, ++atOnce);
    response.once("close", () => atOnce--);
    const id = String(request.headers["webhook-id"]);
    const seenBefore = timesSeen.get(id) ?? 0;
    timesSeen.set(id, seenBefore + 1);
    const received: Received = {
      at,
      id,
      path: request.url ?? "",
      method: request.method ?? "",
      headers: request.headers,
      body: await buffer(request),
      seenBefore,
    };
    requests.push(received);
    await answer(received, response);
  }

  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy()); // the sender went away
  });
  await new Promise<void>((resolve) =>
    server.listen(0, "127.0.0.1", 1024, resolve),
  );
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    mostAtOnce: () => mostAtOnce,
    of: (id) => requests.filter((request) => request.id === id),
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** For one test, which closes it at its end; concurrent tests pass the `onTestFinished` of their context. */
export async function receiverForTest(
  answer?: Answer,
  onFinished: (close: () => Promise<void>) => void = onTestFinished,
): Promise<TestReceiver> {
  const receiver = await startTestReceiver(answer);
  onFinished(receiver.close);
  return receiver;
}
