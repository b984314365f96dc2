// Service processes on one stream, and what a test does to them and asks about them.
import type { Service } from "@pipeline/dev-stack/services";
import { createDatabase } from "@pipeline/shared/database";
import { deriveDeliveryId } from "@pipeline/shared/entries";
import { type Fields, unflatten } from "@pipeline/shared/queue/fields";
import {
  createKeys,
  DISPATCHERS_GROUP,
  RECORDERS_GROUP,
} from "@pipeline/shared/queue/keys";
import { Redis } from "ioredis";
import { createDeliveries, type DeliveryRow } from "./deliveries.ts";
import {
  createProcesses,
  type RunningService,
  type Servers,
} from "./processes.ts";
import { apiOf, send } from "./send.ts";
import { until } from "./until.ts";

export interface HarnessOptions {
  servers: Servers;
  streamKey: string;
  /** For every service; REDIS_URL and SUPABASE_URL may lead through a proxy. */
  env: Record<string, string>;
  readyPath: "/healthz" | "/readyz";
}

export const NO_WORK = {
  stream: 0,
  pending: 0,
  retries: 0,
  retriesData: 0,
  waiting: 0,
  homes: 0,
  log: 0,
  logPending: 0,
};

/** Starts nothing yet. */
export function createHarness(options: HarnessOptions) {
  const { servers, streamKey } = options;
  const env = { STREAM_KEY: streamKey, ...options.env };
  const processes = createProcesses(servers, env, options.readyPath);
  const keys = createKeys(streamKey);
  const redis = new Redis(servers.redisUrl, { maxRetriesPerRequest: null });
  redis.on("error", () => undefined); // a test may stop Redis: commands wait for its return
  const database = createDatabase(
    servers.supabaseUrl,
    servers.serviceRoleKey,
    20_000,
  );
  const deliveries = createDeliveries(database);

  /** Entries read and not acknowledged; 0 when there is no group. */
  const pendingOf = async (key: string, group: string) => {
    try {
      return Number((await redis.xpending(key, group))[0]);
    } catch {
      return 0;
    }
  };

  /** What Redis still has to do; all zero when every delivery has ended and is recorded. */
  async function work(): Promise<typeof NO_WORK> {
    // In the direction in which the work moves, so that none is missed on its way.
    return {
      stream: await redis.xlen(keys.stream),
      pending: await pendingOf(keys.stream, DISPATCHERS_GROUP),
      retries: await redis.zcard(keys.retries),
      retriesData: await redis.hlen(keys.retriesData),
      waiting: await redis.hlen(keys.waitingData),
      // Tombstones are no work: they pass by themselves.
      homes: (await redis.hvals(keys.homes)).filter(
        (home) => !/^clos(ing|ed):/.test(home),
      ).length,
      log: await redis.xlen(keys.log),
      logPending: await pendingOf(keys.log, RECORDERS_GROUP),
    };
  }

  return {
    ...processes,
    ...deliveries,
    streamKey,
    keys,
    redis,
    client: database.client,
    work,
    isIdle: async () =>
      Object.values(await work()).every((count) => count === 0),
    /** Through the API, of any running ingest unless one is given. */
    post: (
      path: string,
      body: unknown,
      ingest: Service | undefined = processes.running("ingest")[0],
    ) => send(apiOf((ingest as RunningService).url) + path, "POST", body),
    /** XADDs an entry as a producer's hand would; resolves to the delivery's id. */
    add: async (fields: Fields): Promise<string> => {
      const flat = Object.entries(fields).flat();
      const entryId = (await redis.xadd(streamKey, "*", ...flat))!;
      return fields["id"] ?? deriveDeliveryId(streamKey, entryId);
    },
    /** Waits until the delivery has succeeded or failed. */
    ended: (id: string, timeoutMs?: number): Promise<DeliveryRow> =>
      until(
        `delivery ${id} ended`,
        async () => {
          const found = await deliveries.row(id);
          const isOver = /^(success|failed)$/.test(found?.status ?? "");
          return isOver ? found : null;
        },
        timeoutMs,
      ),
    deadLetters: async (): Promise<Fields[]> => {
      const letters = await redis.xrange(keys.dead, "-", "+");
      return letters.map(([, flat]) => unflatten(flat));
    },
    consumers: async (group: string): Promise<string[]> => {
      const stream = group === DISPATCHERS_GROUP ? keys.stream : keys.log;
      const reply = (await redis
        .xinfo("CONSUMERS", stream, group)
        .catch(() => [])) as string[][]; // no group: nothing was ever started
      return reply.map((flat) => unflatten(flat)["name"]!);
    },
    /** Kills what still runs and lets go of the servers. */
    release: async (): Promise<void> => {
      await processes.stopAll("SIGKILL");
      redis.disconnect();
      await database.close();
    },
  };
}
