// Receivers that misbehave: each attempt ends, in time, with a small and classified outcome.
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { gzipSync } from "node:zlib";
import { freePort } from "@pipeline/dev-stack/ports";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import { type Answer, receiverForTest } from "../support/test-receiver.ts";

const DEADLINE_MS = 1000;
let own: OwnStream;
beforeAll(async () => {
  own = await startOwnStream({
    env: { ATTEMPT_TIMEOUT_MS: String(DEADLINE_MS) },
  });
});
afterAll(() => own.close());

async function attempt(webhook_url: string) {
  const id = await own.add({ webhook_url, payload: "{}", max_attempts: "1" });
  const row = await own.ended(id);
  const [logged] = await own.attempts(id);
  return { ...logged!, status: row.status };
}

const attemptWith = async (answer: Answer) =>
  attempt((await receiverForTest(answer)).url);

/** A server below HTTP: `onRequest` gets the socket when the first bytes of the request are there. */
async function rawServer(onRequest: (socket: Socket) => void) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined); // the sender hangs up
    socket.once("data", () => onRequest(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function drip(socket: Socket, beginning: string, piece: string): void {
  socket.write(beginning);
  const timer = setInterval(() => socket.write(piece), 100);
  socket.once("close", () => clearInterval(timer));
}

const OK = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";

test.each<[string, (socket: Socket) => void]>([
  ["says nothing", () => undefined],
  [
    "drips its headers",
    (socket) => drip(socket, "HTTP/1.1 200 OK\r\n", "x-a: b\r\n"),
  ],
  ["drips its body", (socket) => drip(socket, OK, ".")],
  [
    "stops in the middle of its body",
    (socket) => void socket.write(`${OK}abc`),
  ],
])(
  "a receiver that %s ends at the attempt's deadline as a timeout",
  async (_, behave) => {
    const ended = await attempt(await rawServer(behave));
    expect(ended).toMatchObject({
      status: "failed",
      error_type: "timeout",
      error: `no answer within ${DEADLINE_MS} ms`,
      response_status: null,
    });
    expect(ended.duration_ms).toBeGreaterThanOrEqual(DEADLINE_MS - 5);
    expect(ended.duration_ms).toBeLessThan(DEADLINE_MS + 500);
  },
);

test.each<[string, (socket: Socket) => void]>([
  ["resets the connection", (socket) => void socket.resetAndDestroy()],
  ["closes the connection", (socket) => void socket.end()],
  ["breaks off in its body", (socket) => void socket.end(`${OK}abc`)],
  [
    "does not speak HTTP",
    (socket) => void socket.end("220 mail.example ESMTP\r\n"),
  ],
  [
    "sends headers without end",
    (socket) =>
      drip(socket, "HTTP/1.1 200 OK\r\n", `x-a: ${"b".repeat(8000)}\r\n`),
  ],
])("a receiver that %s is a network failure", async (_, behave) => {
  const ended = await attempt(await rawServer(behave));
  expect(ended).toMatchObject({ status: "failed", error_type: "network" });
  expect(ended.error).not.toBe("");
});

test.each([
  [
    "nobody listens",
    async () => `http://127.0.0.1:${await freePort()}/`,
    /ECONNREFUSED/,
  ],
  [
    "the name does not exist",
    async () => "http://no-such-host.invalid/",
    /ENOTFOUND|EAI_AGAIN/,
  ],
  [
    "TLS is not spoken there",
    async () =>
      (
        await rawServer((socket) =>
          socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"),
        )
      ).replace("http:", "https:"),
    /.+/,
  ],
])("where %s is a network failure", async (_, url, error) => {
  const ended = await attempt(await url());
  expect(ended).toMatchObject({
    error_type: "network",
    error: expect.stringMatching(error),
  });
});

test("a network failure and a timeout are retried", async () => {
  for (const url of [
    `http://127.0.0.1:${await freePort()}/`,
    await rawServer(() => undefined),
  ]) {
    const id = await own.add({ webhook_url: url, payload: "{}" });
    const entry = async () => own.redis.hget(own.keys.retriesData, id);
    await expect.poll(entry, { timeout: 10_000 }).toMatch(/"attempt":"2"/);
    await own.redis.zrem(own.keys.retries, id);
    await own.redis.hdel(own.keys.retriesData, id);
    await own.redis.hdel(own.keys.homes, id);
  }
});

test("an early hint is not yet the answer", async () => {
  const ended = await attemptWith((_request, response) => {
    response.writeEarlyHints({ link: "</style.css>; rel=preload" });
    response.writeHead(201).end("done");
  });
  expect(ended).toMatchObject({
    status: "success",
    response_status: 201,
    response_body: "done",
  });
});

async function residentBytes(): Promise<number> {
  const page = await (await fetch(`${own.services[0]!.url}/metrics`)).text();
  return Number(/^process_resident_memory_bytes (\S+)/m.exec(page)?.[1]);
}

test("a body without end is cut off, its status counts, and the memory stays flat", async () => {
  const chunk = Buffer.alloc(64 * 1024, "x");
  let written = 0;
  const before = await residentBytes();
  function* endless() {
    for (;;) {
      written += chunk.length;
      yield chunk;
    }
  }
  const answer: Answer = (_request, response) =>
    pipeline(endless(), response.writeHead(200));
  const { url } = await receiverForTest(answer);
  const all = await Promise.all(Array.from({ length: 20 }, () => attempt(url)));
  for (const ended of all) {
    expect(ended).toMatchObject({
      status: "success",
      response_status: 200,
      response_body: "x".repeat(1000),
    });
  }
  // What left this process may wait in the kernel's buffers.
  expect(written / all.length).toBeLessThan(16 * 1024 * 1024);
  expect((await residentBytes()) - before).toBeLessThan(64 * 1024 * 1024);
});

test("a compressed body is not inflated", async () => {
  const bomb = gzipSync(Buffer.alloc(50 * 1024 * 1024));
  const before = await residentBytes();
  const ended = await attemptWith((_request, response) => {
    response.writeHead(200, { "content-encoding": "gzip" }).end(bomb);
  });
  expect(ended.status).toBe("success");
  expect(ended.response_body?.length).toBeLessThanOrEqual(1000);
  expect((await residentBytes()) - before).toBeLessThan(40 * 1024 * 1024);
});
