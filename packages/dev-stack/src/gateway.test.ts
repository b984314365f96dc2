import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startGateway, type Gateway } from "./gateway.ts";

interface Seen {
  method: string | undefined;
  url: string | undefined;
  headers: IncomingHttpHeaders;
  body: string;
}

let upstream: Server;
let gateway: Gateway;
let seen: Seen[];

async function answer(request: IncomingMessage, response: ServerResponse) {
  const { method, url, headers } = request;
  seen.push({ method, url, headers, body: await text(request) });
  response
    .writeHead(206, { "content-range": "0-1/7" })
    .end(method === "HEAD" ? undefined : "rows");
}

beforeEach(async () => {
  seen = [];
  upstream = createServer(
    (request, response) => void answer(request, response),
  );
  await new Promise<void>((resolve) =>
    upstream.listen(0, "127.0.0.1", resolve),
  );
  gateway = await startGateway({
    postgrestUrl: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`,
  });
});

afterEach(async () => {
  await gateway.close();
  upstream.closeAllConnections();
  upstream.close();
});

test("a request to /rest/v1 reaches PostgREST unchanged, and its answer comes back unchanged", async () => {
  const response = await fetch(
    `${gateway.url}/rest/v1/rpc/f?select=a%2Cb&x=eq.1`,
    {
      method: "POST",
      headers: {
        apikey: "k",
        authorization: "Bearer other",
        prefer: "count=exact",
        "content-type": "application/json",
      },
      body: '{"é":1}',
    },
  );
  expect([
    response.status,
    response.headers.get("content-range"),
    await response.text(),
  ]).toEqual([206, "0-1/7", "rows"]);
  expect(seen).toMatchObject([
    {
      method: "POST",
      url: "/rpc/f?select=a%2Cb&x=eq.1",
      headers: {
        authorization: "Bearer other",
        prefer: "count=exact",
        apikey: "k",
      },
      body: '{"é":1}',
    },
  ]);
});

test("a body of unknown length is passed on as a stream", async () => {
  const body = new ReadableStream({
    start(controller) {
      for (let index = 0; index < 100; index++)
        controller.enqueue(new TextEncoder().encode("0123456789".repeat(1000)));
      controller.close();
    },
  });
  await fetch(`${gateway.url}/rest/v1/t`, {
    method: "POST",
    headers: { apikey: "k" },
    body,
    duplex: "half",
  });
  expect(seen[0]?.body.length).toBe(1_000_000);
});

test("HEAD is answered without a body", async () => {
  const response = await fetch(`${gateway.url}/rest/v1/t`, {
    method: "HEAD",
    headers: { apikey: "k" },
  });
  expect([response.status, response.headers.get("content-range")]).toEqual([
    206,
    "0-1/7",
  ]);
});

test("a request without an apikey is refused and not passed on", async () => {
  const response = await fetch(`${gateway.url}/rest/v1/t`, {
    headers: { authorization: "Bearer k" },
  });
  expect(response.status).toBe(401);
  expect(seen).toEqual([]);
});

test("the apikey is the bearer token when there is no Authorization header", async () => {
  await fetch(`${gateway.url}/rest/v1/t`, { headers: { apikey: "k" } });
  expect(seen[0]?.headers.authorization).toBe("Bearer k");
});

test("a path outside /rest/v1 is not found", async () => {
  const response = await fetch(`${gateway.url}/rest/v12/t`, {
    headers: { apikey: "k" },
  });
  expect(response.status).toBe(404);
  expect(seen).toEqual([]);
});

test("requests are answered 503 while PostgREST is away, and served again when it is back", async () => {
  const { port } = upstream.address() as AddressInfo;
  upstream.closeAllConnections();
  await new Promise((resolve) => upstream.close(resolve));
  const away = await fetch(`${gateway.url}/rest/v1/t`, {
    headers: { apikey: "k" },
  });
  expect(away.status).toBe(503);
  await new Promise<void>((resolve) =>
    upstream.listen(port, "127.0.0.1", resolve),
  );
  const back = await fetch(`${gateway.url}/rest/v1/t`, {
    headers: { apikey: "k" },
  });
  expect(back.status).toBe(206);
});
