// A queue of the test's own, and what a test wants to know about it.
import { randomUUID } from "node:crypto";
import {
  DISPATCHERS_GROUP,
  createKeys,
  RECORDERS_GROUP,
} from "@pipeline/shared/queue/keys";
import { createLogger } from "@pipeline/shared/logger";
import {
  createConsumer,
  type Settlement,
} from "@pipeline/shared/queue/consumer";
import { type Fields, unflatten } from "@pipeline/shared/queue/fields";
import { createInspection } from "@pipeline/shared/queue/inspection";
import { createLimits } from "@pipeline/shared/queue/limits";
import { createProducer } from "@pipeline/shared/queue/producer";
import { createDeletionQueue } from "@pipeline/shared/queue/deletions";
import { createHolds } from "@pipeline/shared/queue/holds";
import {
  createReconcileQueue,
  type Injection,
} from "@pipeline/shared/queue/reconcile";
import { createRecords } from "@pipeline/shared/queue/records";
import { createRetries } from "@pipeline/shared/queue/retries";
import { createWaiting } from "@pipeline/shared/queue/waiting";
import { Redis } from "ioredis";
import { beforeAll, beforeEach } from "vitest";
import { startTestRedis, type TestRedis } from "./redis-server.ts";

export const NO_LIMIT = 1_000_000;

export interface Entry {
  entryId: string;
  deliveryId: string;
}

type StreamReply = [string, string[]][];

/** The fields of a delivery that no test looks into. */
export function fieldsOf(id: string, attempt = 1): Fields {
  const webhook_url = "https://receiver.test/hook";
  return { id, webhook_url, attempt: String(attempt), payload: "{}" };
}

export async function createQueue(url: string) {
  const redis = new Redis(url, { maxRetriesPerRequest: 1 });
  redis.on("error", () => undefined); // commands reject with it as well
  const keys = createKeys(`test:${randomUUID()}`);
  const logger = createLogger("test", "silent");
  const readerOptions = { blocking: redis, commands: redis, keys, logger };
  const producer = createProducer(redis, keys);
  const holds = createHolds(redis, keys);
  const reconcile = createReconcileQueue(redis, keys);
  const consumer = (name: string) =>
    createConsumer({ ...readerOptions, consumer: name });
  await redis.xgroup("CREATE", keys.stream, DISPATCHERS_GROUP, "0", "MKSTREAM");
  await redis.xgroup("CREATE", keys.log, RECORDERS_GROUP, "0", "MKSTREAM");

  const entriesOf = async (key: string) => {
    const reply = await redis.xrange(key, "-", "+");
    return reply.map(([entryId, flat]) => ({
      entryId,
      fields: unflatten(flat),
    }));
  };

  async function read(consumer: string, count = 100): Promise<Entry[]> {
    const reply = (await redis.xreadgroup(
      "GROUP",
      DISPATCHERS_GROUP,
      consumer,
      "COUNT",
      count,
      "STREAMS",
      keys.stream,
      ">",
    )) as [string, StreamReply][] | null;
    return (reply?.[0]?.[1] ?? []).map(([entryId, flat]) => ({
      entryId,
      deliveryId: unflatten(flat)["id"] ?? "",
    }));
  }

  return {
    url,
    redis,
    keys,
    producer,
    consumer,
    recorder: (name: string) =>
      createRecords({ ...readerOptions, consumer: name }),
    retries: createRetries(redis, keys),
    reconcile,
    holds,
    deletions: createDeletionQueue(redis, keys),
    /** What reconcile does with deliveries whose rows are unfinished. Per delivery: whether it was injected; null when there is no room. */
    reinject: async (deliveries: Injection[]): Promise<(boolean | null)[]> => {
      await reconcile.homeless(deliveries.map(({ id }) => id));
      return reconcile.reinject(deliveries);
    },
    /** What a manual retry or a replay does, Postgres apart. */
    requeue: async (
      id: string,
      fields: Fields,
      letter: string | null,
    ): Promise<string> => {
      const held = await holds.holdToResend(id, letter);
      if (held.kind !== "held") return held.kind;
      return (await held.hold.requeue(fields)) ? "requeued" : "over";
    },
    /** What a cancellation does, Postgres apart. */
    cancel: async (id: string): Promise<string> => {
      const held = await holds.holdToCancel(id);
      if (held.kind !== "held") return held.kind;
      await held.hold.letGo("cancelled");
      return "cancelled";
    },
    /** As if the time of every tombstone had passed. */
    expireTombstones: async () => {
      for (const [id, home] of Object.entries(await redis.hgetall(keys.homes)))
        await redis.hset(
          keys.homes,
          id,
          home.replace(/^([a-z]{4,}):\d+:/, "$1:1:"),
        );
      for (const id of await redis.zrange(keys.tombstones, "0", "-1"))
        await redis.zadd(keys.tombstones, 1, id);
    },
    lists: createWaiting(redis, keys),
    inspection: createInspection(redis, keys),
    limits: createLimits(redis, keys),
    entriesOf,
    read,
    /** Enqueues one delivery and lets `consumer` read it. */
    inFlight: async (consumer: string, attempt = 1): Promise<Entry> => {
      const id = randomUUID();
      await producer.enqueue([{ id, fields: fieldsOf(id, attempt) }], NO_LIMIT);
      const [entry] = await read(consumer);
      return entry!;
    },
    claim: (consumer: string, entryId: string) =>
      redis.xclaim(keys.stream, DISPATCHERS_GROUP, consumer, 0, entryId),
    settleOne: async (
      name: string,
      entry: Entry,
      rest: Partial<Settlement> & Pick<Settlement, "kind">,
    ) => {
      const attempt = rest.attempt ?? 1;
      const next = { ...fieldsOf(entry.deliveryId, attempt + 1) };
      const fields = rest.kind === "success" ? null : next;
      const record = JSON.stringify({ attempt });
      const [result] = await consumer(name).settle([
        {
          ...entry,
          attempt,
          delayMs: 60_000,
          fields,
          endpoint: "https://receiver.test/hook",
          record,
          ...rest,
        },
      ]);
      return result;
    },
    waiting: () => entriesOf(keys.stream),
    dead: () => entriesOf(keys.dead),
    log: () => entriesOf(keys.log),
    home: (id: string) => redis.hget(keys.homes, id),
    dueAt: async (id: string) => {
      const score = await redis.zscore(keys.retries, id);
      return score === null ? null : Number(score);
    },
    retryFields: async (id: string): Promise<Fields | null> => {
      const text = await redis.hget(keys.retriesData, id);
      return text === null ? null : (JSON.parse(text) as Fields);
    },
    owners: async (): Promise<Record<string, string>> => {
      const reply = (await redis.xpending(
        keys.stream,
        DISPATCHERS_GROUP,
        "-",
        "+",
        1000,
      )) as [string, string][];
      return Object.fromEntries(
        reply.map(([entryId, consumer]) => [entryId, consumer]),
      );
    },
    /** Makes a waiting retry due. */
    makeDue: (id: string) => redis.zadd(keys.retries, "XX", 1, id),
    /** Everything in Redis under this queue's name, for "nothing changed". */
    snapshot: async () => {
      const names = (await redis.keys(`*${keys.stream}*`)).sort();
      const dumps = await Promise.all(
        names.map(async (name) => [name, await redis.dump(name)]),
      );
      return Object.fromEntries(dumps) as Record<string, string>;
    },
    close: () => redis.disconnect(),
  };
}

export type Queue = Awaited<ReturnType<typeof createQueue>>;

/** A Redis for the file and a fresh queue on it for every test: call it once, at the top, and ask it for the queue inside the tests. */
export function useQueue(): () => Queue {
  let server: TestRedis;
  let queue: Queue;
  beforeAll(async () => {
    server = await startTestRedis();
    return server.stop;
  });
  beforeEach(async () => {
    queue = await createQueue(server.url);
    return queue.close;
  });
  return () => queue;
}
