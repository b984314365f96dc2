import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { Pool } from "undici";

/**
 * Does for a client of the database what Supabase's own API gateway does: it passes /rest/v1/* on to PostgREST's /*,
 * requires an `apikey` header, and uses that as the bearer token when there is no Authorization header. Bodies stream
 * through unchanged in both directions.
 */
const prefix = "/rest/v1";
// Hop-by-hop headers concern one connection only. The gateway has a host name of its own, and itself answers `expect`.
const notForwarded = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "host",
  "expect",
]);

export interface Gateway {
  url: string;
  close(): Promise<void>;
}

export async function startGateway(options: {
  postgrestUrl: string;
  port?: number;
  host?: string;
}): Promise<Gateway> {
  const pool = new Pool(options.postgrestUrl, {
    connections: 64,
    keepAliveTimeout: 30_000,
    headersTimeout: 70_000,
    bodyTimeout: 70_000,
  });
  const server = createServer((request, response) =>
    handle(pool, request, response),
  );
  server.keepAliveTimeout = 75_000;
  await listen(server, options.port ?? 0, options.host ?? "127.0.0.1");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      const timer = setTimeout(() => server.closeAllConnections(), 5_000);
      await closed;
      clearTimeout(timer);
      await pool.close();
    },
  };
}

function handle(
  pool: Pool,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const target = request.url ?? "/";
  if (target === "/healthz")
    return proxy(
      pool,
      { path: "/", method: "HEAD", headers: [], body: null },
      response,
    );
  if (
    target !== prefix &&
    !target.startsWith(`${prefix}/`) &&
    !target.startsWith(`${prefix}?`)
  ) {
    return reply(response, 404, {
      message: "no Route matched with those values",
    });
  }
  const apiKey = request.headers["apikey"];
  if (typeof apiKey !== "string") {
    request.resume();
    return reply(response, 401, {
      message: "No API key found in request",
      hint: "No `apikey` request header or url param was found.",
    });
  }
  const path = target.slice(prefix.length);
  const hasBody =
    request.headers["content-length"] !== undefined ||
    request.headers["transfer-encoding"] !== undefined;
  const upstream = {
    path: path.startsWith("/") ? path : `/${path}`,
    method: request.method ?? "GET",
    headers: forwardedHeaders(request, apiKey),
    body: hasBody ? request : null,
  };
  proxy(pool, upstream, response);
}

function proxy(
  pool: Pool,
  upstream: {
    path: string;
    method: string;
    headers: string[];
    body: IncomingMessage | null;
  },
  response: ServerResponse,
): void {
  pool
    .stream(upstream, ({ statusCode, headers }) => {
      for (const [name, value] of Object.entries(headers)) {
        if (value !== undefined && !notForwarded.has(name))
          response.setHeader(name, value);
      }
      return response.writeHead(statusCode);
    })
    .catch((error: Error) => {
      if (response.headersSent) response.destroy();
      else
        reply(response, 503, {
          message: "PostgREST does not answer",
          details: error.message,
        });
    });
}

function forwardedHeaders(request: IncomingMessage, apiKey: string): string[] {
  const headers: string[] = [];
  const raw = request.rawHeaders;
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] ?? "";
    if (!notForwarded.has(name.toLowerCase()))
      headers.push(name, raw[index + 1] ?? "");
  }
  if (request.headers.authorization === undefined)
    headers.push("authorization", `Bearer ${apiKey}`);
  return headers;
}

function reply(response: ServerResponse, status: number, body: object): void {
  response
    .writeHead(status, { "content-type": "application/json; charset=utf-8" })
    .end(JSON.stringify(body));
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
}

if (import.meta.main) {
  const gateway = await startGateway({
    postgrestUrl: process.env["POSTGREST_URL"] ?? "http://127.0.0.1:3000",
    port: Number(process.env["PORT"] ?? 8000),
    host: process.env["HOST"] ?? "127.0.0.1",
  });
  console.log(`gateway listening on ${gateway.url}`);
  for (const signal of ["SIGTERM", "SIGINT"])
    process.once(signal, () => void gateway.close());
}
