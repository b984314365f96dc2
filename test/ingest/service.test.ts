// Ingest as its own process: how it starts, who may call it, how it ends.
import { randomBytes, randomUUID } from "node:crypto";
import { freePort } from "@pipeline/dev-stack/ports";
import {
  type Service,
  startService,
  waitForHttp,
} from "@pipeline/dev-stack/services";
import { afterEach, describe, expect, inject, it, vi } from "vitest";
import { openDatabase, sample, send, startSupabaseProxy } from "./ingest.ts";
import { createQueue } from "../support/queue.ts";

const services: Service[] = [];
afterEach(async () => {
  await Promise.all(
    services.splice(0).map((service) => service.stop("SIGKILL")),
  );
});

async function environment(more: Record<string, string> = {}) {
  const stack = inject("stack");
  return {
    REDIS_URL: stack.redisUrl,
    SUPABASE_URL: stack.supabaseUrl,
    SUPABASE_SERVICE_ROLE_KEY: stack.serviceRoleKey,
    WEBHOOK_ENCRYPTION_KEY: randomBytes(32).toString("base64"),
    STREAM_KEY: `test:${randomUUID()}`,
    PORT: String(await freePort()),
    ...more,
  };
}

function start(env: Record<string, string>): Service {
  const service = startService("ingest", env);
  services.push(service);
  return service;
}

const textOf = (service: Service) => service.lines.join("\n");

describe("the ingest service", () => {
  it("lists every fault of its environment and exits 1", async () => {
    const service = start({ PORT: "http", WEBHOOK_ENCRYPTION_KEY: "short" });
    expect(await service.exited).toBe(1);
    expect(textOf(service)).toContain(
      "Missing required environment variables: REDIS_URL, NEXT_PUBLIC_SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY",
    );
    expect(textOf(service)).toMatch(/WEBHOOK_ENCRYPTION_KEY must be 32 bytes/);
    expect(textOf(service)).toMatch(/PORT must be a whole number/);
  });

  it("says how to get Redis when it is not there, and exits 1", async () => {
    const service = start(
      await environment({ REDIS_URL: `redis://127.0.0.1:${await freePort()}` }),
    );
    expect(await service.exited).toBe(1);
    expect(textOf(service)).toContain("Could not connect to Redis");
  });

  it("starts without Supabase, and says so", async () => {
    const env = await environment({
      SUPABASE_URL: `http://127.0.0.1:${await freePort()}`,
    });
    const service = start(env);
    await waitForHttp(`http://127.0.0.1:${env.PORT}/healthz`);
    const ready = await fetch(`http://127.0.0.1:${env.PORT}/readyz`);
    expect(ready.status).toBe(503);
    expect(await service.stop()).toBe(0);
    expect(textOf(service)).toContain("supabase.unreachable");
    expect(textOf(service)).toContain(
      "[WEBHOOK_API] Listening on http://127.0.0.1:",
    );
  });

  it("asks for a key on its API and only there", async () => {
    const env = await environment({ INGEST_API_KEYS: "first-key,second-key" });
    start(env);
    const origin = `http://127.0.0.1:${env.PORT}`;
    await waitForHttp(`${origin}/healthz`);
    const withKey = (authorization: string) =>
      send(`${origin}/api/webhook-delivery`, "POST", sample(), {
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

  it("describes its routes from the schemas it validates with", async () => {
    const env = await environment();
    start(env);
    const origin = `http://127.0.0.1:${env.PORT}`;
    await waitForHttp(`${origin}/healthz`);
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

  it("answers the requests under way before it ends", async () => {
    const proxy = await startSupabaseProxy();
    const env = await environment({ SUPABASE_URL: proxy.url });
    const service = start(env);
    const origin = `http://127.0.0.1:${env.PORT}`;
    await waitForHttp(`${origin}/healthz`);
    proxy.set("slow");
    proxy.calls.length = 0;
    const reply = send(`${origin}/api/webhook-delivery`, "POST", sample());
    await vi.waitFor(() => expect(proxy.calls).toHaveLength(1));
    expect(await service.stop()).toBe(0);
    expect((await reply).status).toBe(202);
    proxy.close();
  });

  it("finishes what it has begun when it is told to stop, and loses nothing it has accepted", async () => {
    const env = await environment();
    const service = start(env);
    const url = `http://127.0.0.1:${env.PORT}/api/webhook-delivery`;
    await waitForHttp(`http://127.0.0.1:${env.PORT}/healthz`);
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
    const waiting = await queue.entriesOf(env.STREAM_KEY);
    const queued = new Set(waiting.map(({ fields }) => fields["id"]));
    for (const id of accepted) expect(queued).toContain(id);
    expect(await database.row(accepted.at(-1)!)).toBeDefined();
    queue.close();
    await database.close();
  });
});
