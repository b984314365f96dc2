import { createHmac, timingSafeEqual } from "node:crypto";
import {
  createServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

/**
 * A webhook receiver to try deliveries on. The path of the URL chooses how it behaves (see `modes`). Its signature check
 * follows the Standard Webhooks specification and shares no code with the sender, so that a mistake in one cannot hide
 * behind the same mistake in the other.
 */
export interface ReceivedRequest {
  webhookId: string;
  path: string;
  headers: Record<string, string>;
  /** Decoded as UTF-8. */
  body: string;
  /** Milliseconds since 1970. */
  receivedAt: number;
  /** 0 until a status has been sent. */
  statusSent: number;
  signature: "valid" | "invalid" | "unsigned";
}

export interface Receiver {
  url: string;
  requests: ReceivedRequest[];
  close(): Promise<void>;
}

export interface ReceiverOptions {
  port?: number;
  host?: string;
  /** Without a secret every signed request counts as invalid. */
  secret?: string;
  onRequest?: (request: ReceivedRequest) => void;
}

type Mode = (
  response: ServerResponse,
  context: {
    /** How many requests with this webhook-id this path has had before. */
    seenBefore: number;
    query: URLSearchParams;
  },
) => void;

const modes: Record<string, Mode> = {
  "/ok": (response) => respond(response, 200, "ok"),
  "/flaky": (response, { seenBefore, query }) =>
    seenBefore < Number(query.get("fail") ?? 1)
      ? respond(response, 500, "not yet")
      : respond(response, 200, "ok"),
  "/500": (response) => respond(response, 500, "always broken"),
  "/429": (response, { seenBefore, query }) => {
    if (seenBefore > 0) return respond(response, 200, "ok");
    response.setHeader("retry-after", query.get("after") ?? "1");
    respond(response, 429, "too many");
  },
  "/404": (response) => respond(response, 404, "no such hook"),
  "/410": (response) => respond(response, 410, "gone"),
  "/slow": (response, { query }) => {
    const timer = setTimeout(
      () => respond(response, 200, "ok, at last"),
      Number(query.get("ms") ?? 1000),
    );
    response.once("close", () => clearTimeout(timer));
  },
  "/drip": (response) => {
    response.writeHead(200, { "content-type": "text/plain" });
    const timer = setInterval(() => response.write("."), 1000);
    response.once("close", () => clearInterval(timer));
  },
  "/redirect": (response) => {
    response.setHeader("location", "/ok");
    respond(response, 302, "over there");
  },
  "/big": (response) => respond(response, 200, "x".repeat(5 * 1024 * 1024)),
};

const unknownMode: Mode = (response) =>
  respond(
    response,
    404,
    `unknown path; known: ${Object.keys(modes).join(" ")}`,
  );

export async function startReceiver(
  options: ReceiverOptions = {},
): Promise<Receiver> {
  const requests: ReceivedRequest[] = [];
  const timesSeen = new Map<string, number>();

  async function handle(
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const url = new URL(request.url ?? "/", "http://receiver");
    if (request.method === "GET" && url.pathname === "/healthz")
      return respond(response, 200, "ok");
    if (request.method === "GET" && url.pathname === "/_requests")
      return respond(
        response,
        200,
        JSON.stringify(requests),
        "application/json",
      );

    const body = await buffer(request);
    const headers = Object.fromEntries(
      Object.entries(request.headers).map(([name, value]) => [
        name,
        String(value),
      ]),
    );
    const received: ReceivedRequest = {
      webhookId: headers["webhook-id"] ?? "",
      path: request.url ?? "/",
      headers,
      body: body.toString("utf8"),
      receivedAt: Date.now(),
      statusSent: 0,
      signature: checkSignature(headers, body, options.secret),
    };
    requests.push(received);
    const key = `${received.webhookId} ${url.pathname}`;
    const seenBefore = timesSeen.get(key) ?? 0;
    timesSeen.set(key, seenBefore + 1);

    const mode = modes[url.pathname] ?? unknownMode;
    // A request whose signature is wrong must not look like a success to the sender.
    if (received.signature === "invalid")
      respond(response, 401, "bad signature");
    else mode(response, { seenBefore, query: url.searchParams });
    const onStatusSent = () => {
      received.statusSent = response.statusCode;
      options.onRequest?.(received);
    };
    // /drip sends its status at once but never finishes; /slow sends nothing before it finishes.
    if (response.headersSent) onStatusSent();
    else response.once("finish", onStatusSent);
  }

  const server = createServer((request, response) => {
    // Rejects when the sender disconnects before its body is complete.
    handle(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port ?? 0, options.host ?? "127.0.0.1", resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

function respond(
  response: ServerResponse,
  status: number,
  body: string,
  type = "text/plain",
): void {
  response
    .writeHead(status, {
      "content-type": type,
      "content-length": Buffer.byteLength(body),
    })
    .end(body);
}

/** Valid only if every signature present is right: that of Standard Webhooks, and that in the older hex header. */
export function checkSignature(
  headers: Record<string, string>,
  body: Buffer,
  secret: string | undefined,
): ReceivedRequest["signature"] {
  const standard = headers["webhook-signature"];
  const legacy = headers["x-webhook-signature"];
  if (standard === undefined && legacy === undefined) return "unsigned";
  if (secret === undefined) return "invalid";

  const key = secret.startsWith("whsec_")
    ? Buffer.from(secret.slice("whsec_".length), "base64")
    : Buffer.from(secret, "utf8");
  if (standard !== undefined) {
    const timestamp = headers["webhook-timestamp"] ?? "";
    const isFresh = Math.abs(Date.now() / 1000 - Number(timestamp)) < 300;
    const expected = createHmac("sha256", key)
      .update(`${headers["webhook-id"]}.${timestamp}.`)
      .update(body)
      .digest("base64");
    // During a secret rotation the header contains several signatures, separated by spaces.
    if (
      !isFresh ||
      !standard
        .split(" ")
        .some((candidate) => equal(candidate, `v1,${expected}`))
    )
      return "invalid";
  }
  // Receivers that check this header do not know the whsec_ form: to them the secret is the text they were given.
  if (
    legacy !== undefined &&
    !equal(legacy, createHmac("sha256", secret).update(body).digest("hex"))
  )
    return "invalid";
  return "valid";
}

function equal(left: string, right: string): boolean {
  return (
    left.length === right.length &&
    timingSafeEqual(Buffer.from(left), Buffer.from(right))
  );
}

if (import.meta.main) {
  const secret = process.env["WEBHOOK_SECRET"];
  const receiver = await startReceiver({
    port: Number(process.env["PORT"] ?? 4000),
    host: process.env["HOST"] ?? "127.0.0.1",
    ...(secret === undefined ? {} : { secret }),
    onRequest: ({ path, webhookId, statusSent, signature }) =>
      console.log(`${statusSent} ${path} ${webhookId} signature ${signature}`),
  });
  console.log(
    `receiver listening on ${receiver.url}\npaths: ${Object.keys(modes).join(" ")}`,
  );
  for (const signal of ["SIGTERM", "SIGINT"])
    process.once(signal, () => void receiver.close());
}
