// Receivers that misbehave: each attempt ends, in time, with a small and classified outcome.
import type { Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { gzipSync } from "node:zlib";
import { freePort } from "@pipeline/dev-stack/ports";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import { rawReceiver } from "../support/raw-receiver.ts";
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

const rawServer = async (onRequest: (socket: Socket) => void) =>
  (await rawReceiver(onRequest)).url;

function drip(socket: Socket, beginning: string, piece: string): void {
  socket.write(beginning);
  const timer = setInterval(() => socket.write(piece), 100);
  socket.once("close", () => clearInterval(timer));
}

test.each<[string, (socket: Socket) => void]>([
  ["says nothing", () => undefined],
  ["stops in its status line", (socket) => void socket.write("HTTP/1.1 20")],
  ["drips its status line", (socket) => drip(socket, "HTTP/1.1 200 ", "O")],
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
  [
    "does not speak HTTP",
    (socket) => void socket.write("220 mail.example ESMTP\r\n"),
  ],
  [
    "sends a status line without end",
    (socket) => drip(socket, "HTTP/1.1 200 ", "b".repeat(8000)),
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
    async () => (await receiverForTest()).url.replace("http:", "https:"),
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
