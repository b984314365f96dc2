// The whole pipeline with servers of its own: real processes that a test may kill, stop and starve.
import { randomUUID } from "node:crypto";
import {
  createDatabase,
  type Database,
  unwrap,
} from "@pipeline/shared/database";
import {
  createKeys,
  DISPATCHERS_GROUP,
  RECORDERS_GROUP,
} from "@pipeline/shared/queue/keys";
import {
  type Service,
  serviceEnvironment,
  type ServiceName,
  startService,
  waitForHttp,
} from "@pipeline/dev-stack/services";
import type { Stack } from "@pipeline/dev-stack/stack";
import { startStack } from "@pipeline/dev-stack/start-stack";
import { Redis } from "ioredis";
import { startTallyReceiver } from "./tally-receiver.ts";

/** Everything that takes minutes in production takes seconds here. */
export const QUICK = {
  RETRY_DELAYS_SECONDS: "0.3,0.6,0.9",
  CLAIM_IDLE_MS: "2000",
  RECONCILE_INTERVAL_MS: "1000",
  RECONCILE_GRACE_MS: "3000",
  ATTEMPT_TIMEOUT_MS: "5000",
  SHUTDOWN_GRACE_MS: "6000",
  RATE_LIMIT_PER_SECOND: "0",
  DISPATCHER_CONCURRENCY: "20",
};

export interface PipelineOptions {
  /** How many processes of each service to start with. */
  ingest?: number;
  dispatcher?: number;
  "retry-scheduler"?: number;
  env?: Record<string, string>;
  /** Where the services find Redis or Supabase, when that is not the server itself (a proxy). */
  through?: (stack: Stack) => Promise<Record<string, string>>;
  stack?: Parameters<typeof startStack>[0];
}

export interface Row {
  id: string;
  status: string;
  attempt: number;
  last_error: string | null;
  webhook_url: string | null;
}

const PAGE = 1000;

export async function startPipeline(options: PipelineOptions = {}) {
  const stack = await startStack(options.stack);
  const receiver = await startTallyReceiver();
  const redis = new Redis(stack.redisUrl, { maxRetriesPerRequest: null });
  redis.on("error", () => undefined); // commands wait for its return
  const keys = createKeys("webhook:deliveries");
  const database: Database = createDatabase(
    stack.supabaseUrl,
    stack.serviceRoleKey,
    20_000,
  );
  const overrides = {
    ...QUICK,
    ...(await options.through?.(stack)),
    ...options.env,
  };
  /** Also those that have ended: their lines still count. */
  const services: Service[] = [];
  const urls = new Map<Service, string>();

  async function launch(name: ServiceName, env: Record<string, string> = {}) {
    const environment = await serviceEnvironment(stack, {
      ...overrides,
      ...env,
    });
    const service = startService(name, environment);
    services.push(service);
    const port = environment[name === "ingest" ? "PORT" : "METRICS_PORT"] ?? "";
    urls.set(service, `http://127.0.0.1:${port}`);
    return service;
  }

  /** Resolves when the service answers /healthz. */
  async function start(name: ServiceName, env?: Record<string, string>) {
    const service = await launch(name, env);
    const killed = service.exited.then((code) => {
      if (code === null) return; // by the test
      throw new Error(`${name} ended:\n${service.lines.join("\n")}`);
    });
    const url = `${urls.get(service)}/healthz`;
    await Promise.race([waitForHttp(url, 30_000), killed]);
    return service;
  }

  const isRunning = ({ child }: Service) =>
    child.exitCode === null && child.signalCode === null;
  const running = (name?: ServiceName) =>
    services.filter(
      (service) =>
        isRunning(service) && (name === undefined || service.name === name),
    );

  async function select<Found>(
    table: string,
    columns: string,
    order: string[],
  ): Promise<Found[]> {
    const all: Found[] = [];
    for (;;) {
      let query = database.client.from(table).select(columns);
      for (const column of order) query = query.order(column);
      const page = await unwrap<Found[]>(
        query
          .range(all.length, all.length + PAGE - 1)
          .overrideTypes<Found[], { merge: false }>(),
      );
      all.push(...page);
      if (page.length < PAGE) return all;
    }
  }

  /** Entries read and not acknowledged; 0 when there is no group. */
  const pendingOf = async (key: string, group: string) => {
    try {
      return Number((await redis.xpending(key, group))[0]);
    } catch {
      return 0;
    }
  };

  async function post(path: string, body: unknown, service?: Service) {
    const to = service ?? running("ingest")[0];
    const response = await fetch(
      `${urls.get(to!)}/api/webhook-delivery${path}`,
      {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(15_000),
      },
    );
    return {
      status: response.status,
      headers: response.headers,
      body: (await response.json()) as Record<string, unknown> & {
        delivery?: { id: string; attempt: number };
        deliveries?: { status: string; delivery?: { id: string } }[];
      },
    };
  }

  return {
    stack,
    receiver,
    redis,
    keys,
    database,
    launch,
    start,
    services,
    running,
    urlOf: (service: Service) => urls.get(service)!,
    post,
    /** One delivery through the API; resolves to its id. */
    submit: async (path: string, more: object = {}): Promise<string> => {
      const { status, body } = await post("", {
        payload: { n: randomUUID() },
        webhookUrl: receiver.url + path,
        ...more,
      });
      if (status !== 202)
        throw new Error(`ingest answered ${status}: ${JSON.stringify(body)}`);
      return body.delivery!.id;
    },
    /** One delivery straight into the stream; resolves to its id. */
    xadd: async (path: string, more: object = {}): Promise<string> => {
      const id = randomUUID();
      const fields = {
        id,
        webhook_url: receiver.url + path,
        payload: JSON.stringify({ n: id }),
        ...more,
      };
      await redis.xadd(keys.stream, "*", ...Object.entries(fields).flat());
      return id;
    },
    rows: () =>
      select<Row>(
        "webhook_deliveries",
        "id,status,attempt,last_error,webhook_url",
        ["id"],
      ),
    attempts: () =>
      select<{
        delivery_id: string;
        attempt_number: number;
        error: string | null;
      }>("webhook_delivery_logs", "delivery_id,attempt_number,error", [
        "delivery_id",
        "attempt_number",
      ]),
    /** What Redis still has to do; all zero when every delivery has ended and is recorded. */
    work: async () => ({
      stream: await redis.xlen(keys.stream),
      pending: await pendingOf(keys.stream, DISPATCHERS_GROUP),
      retries: await redis.zcard(keys.retries),
      retriesData: await redis.hlen(keys.retriesData),
      homes: await redis.hlen(keys.homes),
      log: await redis.xlen(keys.log),
      logPending: await pendingOf(keys.log, RECORDERS_GROUP),
    }),
    /** Lines of level warn and above, from all processes. */
    problems: () =>
      services.flatMap(({ name, lines }) =>
        lines.flatMap((line) => {
          const isProblem =
            /^\{"level":"(warn|error|fatal)"/.test(line) || line[0] !== "{";
          return isProblem ? [`${name} ${line}`] : [];
        }),
      ),
    stop: async () => {
      await Promise.all(running().map((service) => service.stop("SIGKILL")));
      await receiver.close();
      redis.disconnect();
      await database.close();
      await stack.stop();
    },
    /** Starts what the options ask for; apart from `startPipeline`, so that a test can prepare the servers first. */
    startServices: async () => {
      const names = ["ingest", "dispatcher", "retry-scheduler"] as const;
      await Promise.all(
        names.flatMap((name) =>
          Array.from({ length: options[name] ?? 1 }, () => start(name)),
        ),
      );
    },
  };
}

export type Pipeline = Awaited<ReturnType<typeof startPipeline>>;
export type Work = Awaited<ReturnType<Pipeline["work"]>>;

export const NO_WORK: Work = {
  stream: 0,
  pending: 0,
  retries: 0,
  retriesData: 0,
  homes: 0,
  log: 0,
  logPending: 0,
};
