// An ingest of the test's own, on the run's stack or on servers that the test takes away.
import { randomBytes } from "node:crypto";
import {
  createServer,
  request as httpRequest,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { createDatabase, unwrap } from "@pipeline/shared/database";
import { createLogger } from "@pipeline/shared/logger";
import { afterAll, beforeAll, inject } from "vitest";
import { createApp } from "../../services/ingest/src/app.ts";
import { readConfig } from "../../services/ingest/src/config.ts";
import { createDeliveries } from "../support/deliveries.ts";
import { createQueue } from "../support/queue.ts";
import { apiOf, send } from "../support/send.ts";

const SLOW_MS = 500;
export const HOOK = "https://hooks.example.com/catch/12345/abcdef/";
export const ENCRYPTION_KEY = randomBytes(32).toString("base64");

export interface IngestOptions {
  redisUrl?: string;
  supabaseUrl?: string;
  env?: Record<string, string>;
}

export async function startIngest(options: IngestOptions = {}) {
  const stack = inject("stack");
  const redisUrl = options.redisUrl ?? stack.redisUrl;
  const queue = await createQueue(redisUrl);
  const config = readConfig({
    REDIS_URL: redisUrl,
    SUPABASE_URL: options.supabaseUrl ?? stack.supabaseUrl,
    SUPABASE_SERVICE_ROLE_KEY: stack.serviceRoleKey,
    WEBHOOK_ENCRYPTION_KEY: ENCRYPTION_KEY,
    STREAM_KEY: queue.keys.stream,
    PORT: "0",
    LOG_LEVEL: "silent",
    ...options.env,
  });
  const app = await createApp(config, createLogger("ingest", config.logLevel));
  const origin = await app.start();
  const api = apiOf(origin);
  return {
    origin,
    api,
    queue,
    post: (path: string, body?: unknown, headers?: Record<string, string>) =>
      send(`${api}${path}`, "POST", body, headers),
    get: (path: string) => send(`${api}${path}`, "GET"),
    remove: (path: string) => send(`${api}${path}`, "DELETE"),
    stop: async () => {
      await app.stop();
      queue.close();
    },
  };
}

export type Ingest = Awaited<ReturnType<typeof startIngest>>;

/** Supabase as the service role sees it. */
export function openDatabase() {
  const stack = inject("stack");
  const { client, callWithText, close } = createDatabase(
    stack.supabaseUrl,
    stack.serviceRoleKey,
    10_000,
  );
  async function insert(table: string, row: object): Promise<{ id: string }> {
    const rows: { id: string }[] = await unwrap(
      client.from(table).insert(row).select("id"),
    );
    return rows[0]!;
  }
  return {
    client,
    close,
    insert,
    /** A lead of a campaign of a client. */
    insertLead: async (lead: object = {}) => {
      const owner = await insert("clients", { name: "ACME" });
      const magnet = await insert("lead_magnets", {
        client_id: owner.id,
        name: "Guide",
      });
      const campaign = await insert("campaigns", {
        client_id: owner.id,
        name: "Spring",
        lead_magnet_id: magnet.id,
      });
      const { id } = await insert("leads", {
        campaign_id: campaign.id,
        email: "grace@example.com",
        first_name: "Grace",
        custom_fields: { plan: "pro" },
        ...lead,
      });
      return { id, clientId: owner.id, campaignId: campaign.id };
    },
    row: createDeliveries({ client }).row,
    /** Records an attempt, as the dispatcher's recorder does. */
    record: async (
      id: string,
      attempt: number,
      status: "sent" | "success" | "failed",
      more: object = {},
    ) => {
      const at = new Date().toISOString();
      const attempts = [
        {
          delivery_id: id,
          attempt,
          attempted_at: at,
          duration_ms: 5,
          status,
          response_status: status === "success" ? 200 : 500,
          response_body: "body",
          error: status === "success" ? null : "HTTP 500",
          error_type: status === "success" ? null : "http",
          retry_at: status === "sent" ? at : null,
          ...more,
        },
      ];
      await callWithText(
        "record_attempts",
        JSON.stringify({ attempts, count: 1 }),
      );
    },
  };
}

export type TestDatabase = ReturnType<typeof openDatabase>;

/** For a file whose tests share one ingest. `started` is told before its tests run. */
export function useIngest(
  started: (shared: { ingest: Ingest; database: TestDatabase }) => void,
): void {
  let ingest: Ingest;
  let database: TestDatabase;
  beforeAll(async () => {
    database = openDatabase();
    ingest = await startIngest();
    started({ ingest, database });
  });
  afterAll(async () => {
    await ingest.stop();
    await database.close();
  });
}

/** A way to the run's Supabase that a test can block. */
export async function startSupabaseProxy() {
  const upstream = new URL(inject("stack").supabaseUrl);
  const calls: string[] = [];
  const silent = new Set<ServerResponse>();
  let mode:
    | "open"
    | "slow"
    | "down"
    | "silent"
    /** Passed on, and then: the connection is reset, the answer comes too late, a gateway answers in its place. */
    | "lost"
    | "late"
    | "bad gateway"
    /** Passed on when the test lets them go. */
    | "held back" = "open";
  const heldBack: (() => void)[] = [];
  const server = createServer((request, response) => {
    calls.push(request.url ?? "");
    if (mode === "silent") {
      silent.add(response);
      return;
    }
    if (mode === "down") {
      response.writeHead(503, { "content-type": "application/json" });
      response.end('{"message":"PostgREST does not answer"}');
      return;
    }
    const forwarded = httpRequest(
      {
        host: upstream.hostname,
        port: upstream.port,
        path: request.url,
        method: request.method,
        headers: request.headers,
      },
      (reply) => {
        if (mode === "lost") {
          request.socket.resetAndDestroy();
          reply.resume();
          return;
        }
        if (mode === "bad gateway") {
          response.writeHead(502, { "content-type": "text/html" });
          response.end("<html>Bad Gateway</html>");
          reply.resume();
          return;
        }
        if (mode === "late") {
          silent.add(response);
          reply.resume();
          return;
        }
        response.writeHead(reply.statusCode ?? 500, reply.headers);
        reply.pipe(response);
      },
    );
    forwarded.on("error", () => response.destroy());
    if (mode === "held back") {
      // Read at once, so that it is whole although its client does not wait for the answer.
      buffer(request).then(
        (body) => heldBack.push(() => forwarded.end(body)),
        () => forwarded.destroy(),
      );
    } else if (mode === "slow")
      setTimeout(() => request.pipe(forwarded), SLOW_MS);
    else request.pipe(forwarded);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    set: (next: typeof mode) => {
      mode = next;
    },
    /** Passes on what was held back. */
    letGo: () => {
      for (const passOn of heldBack.splice(0)) passOn();
    },
    /** Resets the connections that are in use or idle. */
    cut: () => server.closeAllConnections(),
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

export const sample = (more: object = {}) => ({
  test: true,
  webhookUrl: HOOK,
  ...more,
});
