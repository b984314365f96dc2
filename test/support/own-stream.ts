// The services as real processes on a stream of the test's own, against the run's shared stack.
import { randomUUID } from "node:crypto";
import {
  type Service,
  serviceEnvironment,
  type ServiceName,
  startService,
  waitForHttp,
} from "@pipeline/dev-stack/services";
import type { Stack } from "@pipeline/dev-stack/stack";
import { createDatabase, unwrap } from "@pipeline/shared/database";
import { deriveDeliveryId } from "@pipeline/shared/entries";
import {
  createKeys,
  DISPATCHERS_GROUP,
  RECORDERS_GROUP,
} from "@pipeline/shared/queue/keys";
import { type Fields, unflatten } from "@pipeline/shared/queue/fields";
import { Redis } from "ioredis";
import { expect, inject, onTestFailed, onTestFinished } from "vitest";
import type { StackAddresses } from "./global-setup.ts";
import { until } from "./until.ts";

export interface OwnStreamOptions {
  dispatchers?: number;
  schedulers?: number;
  env?: Record<string, string>;
  /** The run's shared stack unless given. */
  stack?: StackAddresses;
  /** Set when the test leaves work behind on purpose; otherwise nothing may be left in Redis but dead letters. */
  leavesWork?: boolean;
}

export interface RunningService extends Service {
  /** Base of its /healthz, /readyz and /metrics. */
  url: string;
}

export interface DeliveryRow {
  id: string;
  status: string;
  attempt: number;
  last_error: string | null;
  [column: string]: unknown;
}

export interface AttemptRow {
  attempt_number: number;
  attempted_at: string;
  duration_ms: number;
  response_status: number | null;
  response_body: string | null;
  error: string | null;
  error_type: string | null;
  [column: string]: unknown;
}

export type OwnStream = Awaited<ReturnType<typeof startOwnStream>>;

/** Everything is ready when this resolves. Retries come after 1, 2 and 3 seconds unless `env` says otherwise. */
export async function startOwnStream(options: OwnStreamOptions = {}) {
  const stack = options.stack ?? inject("stack");
  const streamKey = `test:${randomUUID()}`;
  const keys = createKeys(streamKey);
  const redis = new Redis(stack.redisUrl, { maxRetriesPerRequest: null });
  redis.on("error", () => undefined); // a test may stop Redis
  const database = createDatabase(
    stack.supabaseUrl,
    stack.serviceRoleKey,
    10_000,
  );
  const { client } = database;
  const services: RunningService[] = [];

  /** Does not wait until it is ready. */
  async function launch(
    name: ServiceName,
    overrides: Record<string, string> = {},
  ): Promise<RunningService> {
    // Only its addresses and its key are read.
    const env = await serviceEnvironment(stack as Stack, {
      STREAM_KEY: streamKey,
      RETRY_DELAYS_SECONDS: "1,2,3",
      RECONCILE_GRACE_MS: "3600000",
      ...options.env,
      ...overrides,
    });
    const url = `http://127.0.0.1:${env["METRICS_PORT"]}`;
    const service = Object.assign(startService(name, env), { url });
    services.push(service);
    return service;
  }

  async function start(
    name: ServiceName,
    overrides?: Record<string, string>,
  ): Promise<RunningService> {
    const service = await launch(name, overrides);
    const exited = service.exited.then((code) => {
      throw new Error(
        `${name} exited with ${code}:\n${service.lines.join("\n")}`,
      );
    });
    exited.catch(() => undefined); // of interest only while it starts
    await Promise.race([waitForHttp(`${service.url}/readyz`), exited]);
    return service;
  }

  async function lengths() {
    const [stream, retries, homes, log] = await Promise.all([
      redis.xlen(keys.stream),
      redis.zcard(keys.retries),
      redis.hlen(keys.homes),
      redis.xlen(keys.log),
    ]);
    return { stream, retries, homes, log };
  }

  const isIdle = async () =>
    Object.values(await lengths()).every((length) => length === 0);

  async function consumers(group: string): Promise<string[]> {
    const stream = group === DISPATCHERS_GROUP ? keys.stream : keys.log;
    const reply = (await redis
      .xinfo("CONSUMERS", stream, group)
      .catch(() => [])) as string[][]; // no group: nothing was ever started
    return reply.map((flat) => unflatten(flat)["name"]!);
  }

  async function stopServices(): Promise<void> {
    const running = services.filter(
      ({ child }) => child.exitCode === null && child.signalCode === null,
    );
    const codes = await Promise.all(running.map((service) => service.stop()));
    expect(codes, "exit codes").toEqual(running.map(() => 0));
  }

  async function close(): Promise<void> {
    try {
      if (options.leavesWork !== true)
        await until("Redis holds no work", isIdle).catch(() => undefined); // told by the expectation below
      await stopServices();
      if (options.leavesWork === true) return;
      const nothing = { stream: 0, retries: 0, homes: 0, log: 0 };
      expect(await lengths(), "left in Redis").toEqual(nothing);
      expect(await consumers(DISPATCHERS_GROUP)).toEqual([]);
      expect(await consumers(RECORDERS_GROUP)).toEqual([]);
    } finally {
      await Promise.all(services.map((service) => service.stop("SIGKILL")));
      const names = await redis.keys(`*${streamKey}*`);
      if (names.length > 0) await redis.del(names);
      redis.disconnect();
      await database.close();
    }
  }

  async function add(fields: Fields): Promise<string> {
    const flat = Object.entries(fields).flat();
    const entryId = (await redis.xadd(streamKey, "*", ...flat))!;
    return fields["id"] ?? deriveDeliveryId(streamKey, entryId);
  }

  async function row(id: string): Promise<DeliveryRow | null> {
    const found = client.from("webhook_deliveries").select("*").eq("id", id);
    return ((await unwrap(found))[0] as DeliveryRow | undefined) ?? null;
  }

  const own = {
    streamKey,
    keys,
    redis,
    client,
    services,
    launch,
    start,
    close,
    lengths,
    isIdle,
    consumers,
    /** XADDs an entry as a producer's hand would; resolves to the delivery's id. */
    add,
    row,
    attempts: async (id: string): Promise<AttemptRow[]> => {
      const found = client
        .from("webhook_delivery_logs")
        .select("*")
        .eq("delivery_id", id)
        .order("attempt_number");
      return (await unwrap(found)) as AttemptRow[];
    },
    /** Waits until the delivery has succeeded or failed. */
    ended: (id: string, timeoutMs?: number): Promise<DeliveryRow> =>
      until(
        `delivery ${id} ended`,
        async () => {
          const found = await row(id);
          const isOver = /^(success|failed)$/.test(found?.status ?? "");
          return isOver ? found : null;
        },
        timeoutMs,
      ),
    deadLetters: async (): Promise<Fields[]> => {
      const letters = await redis.xrange(keys.dead, "-", "+");
      return letters.map(([, flat]) => unflatten(flat));
    },
    /** What all the services have printed. */
    output: () => services.flatMap(({ lines }) => lines).join("\n"),
  };

  try {
    // The rows in Postgres are everyone's: a reconcile would bring other tests' unfinished deliveries here. With an epoch
    // the retry-scheduler takes Redis for complete, and with its long grace nothing is overdue.
    await redis.set(keys.epoch, "known");
    const count = (name: ServiceName, times = 0) =>
      Array.from({ length: times }, () => start(name));
    await Promise.all([
      ...count("dispatcher", options.dispatchers ?? 1),
      ...count("retry-scheduler", options.schedulers),
    ]);
    services.sort((a, b) => a.name.localeCompare(b.name)); // dispatchers first, whichever were quicker
  } catch (error) {
    await close().catch(() => undefined); // the first failure is the one to tell
    throw error;
  }
  return own;
}

/** For one test, at whose end it is stopped and must have left nothing behind. */
export async function ownStreamForTest(
  options?: OwnStreamOptions,
): Promise<OwnStream> {
  const own = await startOwnStream(options);
  onTestFinished(own.close);
  onTestFailed(() => console.log(own.output().slice(-6000)));
  return own;
}
