// What an operator sees: health, metrics, start-up lines, and what a wrong set-up says.
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { freePort } from "@pipeline/dev-stack/ports";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  type OwnStream,
  ownStreamForTest,
  startOwnStream,
} from "../support/own-stream.ts";
import { until } from "../support/until.ts";
import { answerWith, receiverForTest } from "../support/test-receiver.ts";

async function ask(own: OwnStream, path: string) {
  const response = await fetch(own.services[0]!.url + path);
  return { status: response.status, text: await response.text() };
}

const messagesOf = (lines: string[]) =>
  lines.map((line) => (JSON.parse(line) as { msg: string }).msg);

test("a running dispatcher tells its health, its metrics and how it is set up", async () => {
  const receiver = await receiverForTest((request, response) =>
    answerWith(request.path === "/ok" ? 200 : 404)(request, response),
  );
  const own = await ownStreamForTest();
  const [dispatcher] = own.services;
  for (const path of ["/ok", "/ok", "/ok", "/gone"])
    await own.ended(
      await own.add({ webhook_url: receiver.url + path, payload: "{}" }),
    );

  expect(await ask(own, "/healthz")).toEqual({
    status: 200,
    text: '{"status":"ok"}',
  });
  const ready = await ask(own, "/readyz");
  expect(ready.status).toBe(200);
  expect(JSON.parse(ready.text)).toEqual({
    status: "ready",
    checks: { redis: "ok", supabase: "ok" },
  });
  const { text } = await ask(own, "/metrics");
  for (const line of [
    'webhook_attempts_total{outcome="success",status_class="2xx",error_type="none"} 3',
    'webhook_attempts_total{outcome="dead",status_class="4xx",error_type="http"} 1',
    'webhook_deliveries_total{status="success"} 3',
    'webhook_deliveries_total{status="failed"} 1',
    "webhook_attempt_duration_seconds_count 4",
    "webhook_deferred_total 0",
    "webhook_stream_waiting 0",
    "webhook_stream_in_flight 0",
    "webhook_in_flight 0",
    "webhook_attempts_recorded_total",
    "webhook_unrecorded_attempts",
    "process_resident_memory_bytes",
  ]) {
    expect(text).toContain(line);
  }
  // Bounded: no label names a delivery, an endpoint or a URL.
  expect(text).not.toContain(receiver.url);

  await dispatcher!.stop();
  const messages = messagesOf(dispatcher!.lines);
  expect(messages[0]).toBe(
    "[WEBHOOK_WORKER] Starting webhook delivery worker...",
  );
  for (const line of [
    /Worker started successfully$/,
    /Redis: redis:\/\/(127\.0\.0\.1|localhost):\d+$/,
    /Supabase: http:\/\//,
    new RegExp(`Processing stream: ${own.streamKey} as consumer \\S+$`),
    /Concurrency: 5 deliveries at once$/,
    /Rate limit: 50 deliveries\/second over all dispatchers$/,
    /Attempt timeout: 30000 ms; retries after 1, 2, 3 seconds$/,
    /Listening for deliveries\.\.\.$/,
    /ALLOW_PRIVATE_NETWORKS is set/,
  ]) {
    expect(messages).toContainEqual(expect.stringMatching(line));
  }
  const summary = dispatcher!.lines.find((line) =>
    line.includes("worker.metrics"),
  );
  expect(JSON.parse(summary!)).toMatchObject({
    attemptsPerSecond: expect.any(Number),
    deliveriesPerSecond: expect.any(Number),
    successRate: 0.75,
    averageAttempts: 1,
    failedDeliveries: 1,
  });
});

describe.concurrent(
  "a dispatcher that cannot start says why and exits with 1",
  () => {
    /** Starts it with this environment on top of a good one; resolves when it has exited. */
    async function failure(
      env: Record<string, string>,
      onTestFinished: (end: () => Promise<void>) => void,
    ) {
      const own = await startOwnStream({ dispatchers: 0, leavesWork: true });
      onTestFinished(own.close);
      const service = await own.launch("dispatcher", env);
      const code = await service.exited;
      return { code, lines: service.lines };
    }

    test("with variables missing or wrong, all of them at once", async ({
      onTestFinished,
    }) => {
      const { code, lines } = await failure(
        {
          REDIS_URL: "",
          SUPABASE_URL: "",
          WEBHOOK_ENCRYPTION_KEY: "short",
          DISPATCHER_CONCURRENCY: "none",
          RETRY_DELAYS_SECONDS: "soon",
        },
        onTestFinished,
      );
      expect(code).toBe(1);
      expect(lines).toEqual([
        "Missing required environment variables: REDIS_URL, NEXT_PUBLIC_SUPABASE_URL",
        "Invalid environment variable: WEBHOOK_ENCRYPTION_KEY must be 32 bytes in base64 (openssl rand -base64 32)",
        "Invalid environment variable: DISPATCHER_CONCURRENCY must be a whole number from 1 to 2000",
        'Invalid environment variable: RETRY_DELAYS_SECONDS must be seconds separated by commas, like 5,25,125, or "extended"',
      ]);
    });

    test("without Redis", async ({ onTestFinished }) => {
      const url = `redis://:s3cret@127.0.0.1:${await freePort()}`;
      const { code, lines } = await failure({ REDIS_URL: url }, onTestFinished);
      expect(code).toBe(1);
      expect(lines.at(-1)).toBe(
        `Could not connect to Redis at ${url.replace(":s3cret@", "")} (no answer). Start it with \`redis-server\`, or correct REDIS_URL.`,
      );
      expect(lines.join("\n")).not.toMatch(/s3cret|^\s+at /m);
    });
  },
);

test("a dispatcher whose port is taken takes another, says so and works", async () => {
  const server = createServer().listen(0, "0.0.0.0");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const own = await ownStreamForTest({ dispatchers: 0 });
  const dispatcher = await own.launch("dispatcher", {
    METRICS_PORT: String(port),
  });
  const url = await until("it tells where its health is", () => {
    const told = /http:\/\/localhost:(\d+)\/healthz/.exec(own.output());
    return told === null ? null : `http://127.0.0.1:${told[1]}`;
  });
  expect(url).not.toBe(dispatcher.url);
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
});
