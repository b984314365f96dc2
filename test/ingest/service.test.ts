// Ingest as its own process: how it starts, who may call test, how it ends.
import { randomUUID } from "node:crypto";
import { freePort } from "@pipeline/dev-stack/ports";
import { type Service, startService } from "@pipeline/dev-stack/services";
import { afterEach, beforeEach, describe, expect, inject, test } from "vitest";
import { openDatabase, sample, startSupabaseProxy } from "./ingest.ts";
import { createProcesses, type Processes } from "../support/processes.ts";
import { createQueue } from "../support/queue.ts";
import { apiOf, send } from "../support/send.ts";
import { until } from "../support/until.ts";

let streamKey: string;
let processes: Processes;
beforeEach(() => {
  streamKey = `test:${randomUUID()}`;
  processes = createProcesses(
    inject("stack"),
    { STREAM_KEY: streamKey },
    "/healthz",
  );
});
afterEach(() => processes.stopAll("SIGKILL"));

const start = (env?: Record<string, string>) => processes.start("ingest", env);
const textOf = (service: Service) => service.lines.join("\n");

describe("the ingest service", () => {
  test("lists every fault of its environment and exits 1", async () => {
    const env = { PORT: "http", WEBHOOK_ENCRYPTION_KEY: "short" };
    const service = startService("ingest", env);
    expect(await service.exited).toBe(1);
    expect(textOf(service)).toContain(
      "Missing required environment variables: REDIS_URL, NEXT_PUBLIC_SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY",
    );
    expect(textOf(service)).toMatch(/WEBHOOK_ENCRYPTION_KEY must be 32 bytes/);
    expect(textOf(service)).toMatch(/PORT must be a whole number/);
  });

  test("says how to get Redis when it is not there, and exits 1", async () => {
    const service = await processes.launch("ingest", {
      REDIS_URL: `redis://127.0.0.1:${await freePort()}`,
    });
    expect(await service.exited).toBe(1);
    expect(textOf(service)).toContain("Could not connect to Redis");
  });

  test("starts without Supabase, and says so", async () => {
    const env = {
      SUPABASE_URL: `http://127.0.0.1:${await freePort()}`,
    };
    const service = await start(env);
    const ready = await fetch(`${service.url}/readyz`);
    expect(ready.status).toBe(503);
    expect(await service.stop()).toBe(0);
    expect(textOf(service)).toContain("supabase.unreachable");
    expect(textOf(service)).toContain(
      "[WEBHOOK_API] Listening on http://127.0.0.1:",
    );
  });

  test("asks for a key on its API and only there", async () => {
    const env = { INGEST_API_KEYS: "first-key,second-key" };
    const { url: origin } = await start(env);
    const withKey = (authorization: string) =>
      send(apiOf(origin), "POST", sample(), {
        authorization,
      });
    for (const header of [
      "",
      "Bearer",
      "Bearer wrong-key",
      "Basic first-key",
      "Bearer first-key,second-key",
    ]) {
      const reply = await withKey(header);
      expect(reply.status).toBe(401);
      expect(reply.body).toMatchObject({ status: "error", issues: [] });
    }
    expect((await withKey("Bearer first-key")).status).toBe(202);
    expect((await withKey("bearer second-key")).status).toBe(202);
    for (const path of [
      "/healthz",
      "/readyz",
      "/metrics",
      "/openapi.json",
      "/docs/",
    ]) {
      expect((await fetch(`${origin}${path}`)).status).toBe(200);
    }
    const metrics = await (await fetch(`${origin}/metrics`)).text();
    expect(metrics).toContain(
      'webhook_deliveries_enqueued_total{format="raw"} 2',
    );
    expect(metrics).toContain(
      'webhook_ingest_requests_total{route="POST /api/webhook-delivery",status_class="4xx"} 5',
    );
  });

  test("describes its routes from the schemas it validates with", async () => {
    const { url: origin } = await start();
    const document = (await (await fetch(`${origin}/openapi.json`)).json()) as {
      paths: Record<string, object>;
      components: { schemas: Record<string, { properties: object }> };
    };
    expect(Object.keys(document.paths).sort()).toEqual([
      "/api/webhook-delivery/",
      "/api/webhook-delivery/batch",
      "/api/webhook-delivery/dead-letters",
      "/api/webhook-delivery/dead-letters/replay",
      "/api/webhook-delivery/dead-letters/{entryId}/replay",
      "/api/webhook-delivery/stats",
      "/api/webhook-delivery/{id}",
      "/api/webhook-delivery/{id}/retry",
    ]);
    const text = JSON.stringify(document);
    for (const [, name] of text.matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
      expect(document.components.schemas).toHaveProperty(name!);
    }
    expect(
      document.components.schemas["DeliveryRequestInput"]?.properties,
    ).toHaveProperty("idempotencyKey");
  });

  test("answers the requests under way before it ends", async () => {
    const proxy = await startSupabaseProxy();
    const env = { SUPABASE_URL: proxy.url };
    const service = await start(env);
    proxy.set("slow");
    proxy.calls.length = 0;
    const reply = send(apiOf(service.url), "POST", sample());
    await until("it calls Supabase", () => proxy.calls.length === 1, 1000);
    expect(await service.stop()).toBe(0);
    expect((await reply).status).toBe(202);
    proxy.close();
  });

  test("finishes what it has begun when it is told to stop, and loses nothing it has accepted", async () => {
    const service = await start();
    const url = apiOf(service.url);
    const accepted: string[] = [];
    let isStopping = false;
    const client = async () => {
      for (;;) {
        try {
          const { status, body } = await send(url, "POST", sample());
          if (status === 202) accepted.push(body.delivery.id);
          expect(status).toBe(202);
        } catch (error) {
          if (isStopping && error instanceof TypeError) return; // no longer listening
          throw error;
        }
      }
    };
    const clients = Promise.all(Array.from({ length: 20 }, client));
    await new Promise((resolve) => setTimeout(resolve, 500));
    isStopping = true;
    expect(await service.stop()).toBe(0);
    await clients;

    expect(accepted.length).toBeGreaterThan(20);
    const queue = await createQueue(inject("stack").redisUrl);
    const database = openDatabase();
    const waiting = await queue.entriesOf(streamKey);
    const queued = new Set(waiting.map(({ fields }) => fields["id"]));
    for (const id of accepted) expect(queued).toContain(id);
    expect(await database.row(accepted.at(-1)!)).not.toBeNull();
    queue.close();
    await database.close();
  });
});
