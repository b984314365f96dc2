// One typed function per Lua script; the scripts' own headers tell what they guarantee.
import { readFileSync } from "node:fs";
import type { Redis } from "ioredis";
import { DISPATCHERS_GROUP, type Keys, RECORDERS_GROUP } from "./keys.ts";

export type Fields = Record<string, string>;

export interface Settlement {
  entryId: string;
  deliveryId: string;
  attempt: number;
  outcome: "success" | "retry" | "dead" | "defer";
  delayMs: number;
  /** The next entry (retry, defer) or the dead letter (dead). */
  fields: Fields | null;
  /** JSON for the recorder. */
  record: string | null;
}

export type RequeueResult =
  | { kind: "requeued"; entryId: string }
  | { kind: "queued" | "unrecorded" | "gone" };

const flatten = (fields: Fields): string[] => Object.entries(fields).flat();

function define(redis: Redis, name: string, numberOfKeys: number) {
  const lua = readFileSync(
    new URL(`../lua/${name}.lua`, import.meta.url),
    "utf8",
  );
  redis.defineCommand(name, { numberOfKeys, lua });
  const command = (
    redis as unknown as Record<
      string,
      (...args: (string | number)[]) => Promise<unknown>
    >
  )[name]!;
  return command.bind(redis);
}

export function createScripts(redis: Redis, keys: Keys) {
  const { stream, retries, retriesData, dead, log, inflight, bucket, epoch } =
    keys;
  const enqueue = define(redis, "enqueue", 2);
  const admit = define(redis, "admit", 4);
  const settle = define(redis, "settle", 6);
  const promote = define(redis, "promote", 7);
  const lease = define(redis, "lease", 1);
  const reserve = define(redis, "reserve", 1);
  const heartbeat = define(redis, "heartbeat", 1);
  const release = define(redis, "release", 2);
  const removeConsumer = define(redis, "remove-consumer", 1);
  const homeless = define(redis, "homeless", 5);
  const reinject = define(redis, "reinject", 4);
  const requeue = define(redis, "requeue", 5);
  const cancel = define(redis, "cancel", 4);
  const recorded = define(redis, "recorded", 2);

  return {
    /** Per delivery its entry id, or what holds it already; null when the stream is full. At most ~200 per call. */
    enqueue: async (
      deliveries: { id: string; fields: Fields }[],
      maxLength: number,
    ): Promise<(string | null)[]> => {
      const args = deliveries.flatMap(({ id, fields }) => {
        const flat = flatten(fields);
        return [id, flat.length, ...flat];
      });
      const results = (await enqueue(
        stream,
        inflight,
        maxLength,
        ...args,
      )) as string[];
      return results.map((result) => (result === "" ? null : result));
    },

    /** Per entry: whether it is its delivery's only one. Duplicates have been removed. */
    admit: async (
      entries: { entryId: string; deliveryId: string }[],
    ): Promise<boolean[]> => {
      const args = entries.flatMap(({ entryId, deliveryId }) => [
        entryId,
        deliveryId,
      ]);
      const results = (await admit(
        stream,
        inflight,
        retries,
        log,
        DISPATCHERS_GROUP,
        ...args,
      )) as number[];
      return results.map((result) => result === 1);
    },

    /** Per settlement: 1 settled, 2 a late success that cancelled a waiting retry, 0 stale. Repeating changes nothing. */
    settle: async (
      consumer: string,
      settlements: Settlement[],
    ): Promise<number[]> => {
      const args = settlements.flatMap((s) => [
        s.entryId,
        s.deliveryId,
        s.attempt,
        s.outcome,
        s.delayMs,
        s.fields === null ? "" : JSON.stringify(s.fields),
        s.record ?? "",
      ]);
      const groups = [DISPATCHERS_GROUP, consumer];
      return (await settle(
        stream,
        retries,
        retriesData,
        dead,
        log,
        inflight,
        ...groups,
        ...args,
      )) as number[];
    },

    /** Moves due retries to the stream; `nextMs` is null when none is waiting. */
    promote: async (limit: number) => {
      const reply = await promote(
        retries,
        retriesData,
        stream,
        inflight,
        dead,
        log,
        epoch,
        limit,
      );
      const [moved, nextMs, unreadable, hasEpoch] = reply as [
        number,
        number,
        number,
        number,
      ];
      return {
        moved,
        nextMs: nextMs < 0 ? null : nextMs,
        unreadable,
        hasEpoch: hasEpoch === 1,
      };
    },

    /** Takes up to `want` tokens; `waitMs` is when `batch` tokens will be there. */
    lease: async (
      ratePerSecond: number,
      burst: number,
      want: number,
      batch: number,
    ) => {
      const [granted, waitMs] = (await lease(
        bucket,
        ratePerSecond,
        burst,
        want,
        batch,
      )) as [number, number];
      return { granted, waitMs };
    },

    /** Ms until this delivery may be sent (0: now); null when the horizon is full and nothing was reserved. */
    reserve: async (
      endpoint: string,
      ratePerSecond: number,
      burst: number,
      horizonMs: number,
    ) => {
      const delayMs = (await reserve(
        keys.endpointBucket(endpoint),
        ratePerSecond,
        burst,
        horizonMs,
      )) as number;
      return delayMs < 0 ? null : delayMs;
    },

    /** Resets the idle time of entries still owned; resolves to those. */
    heartbeat: async (
      consumer: string,
      entryIds: string[],
    ): Promise<string[]> =>
      (await heartbeat(
        stream,
        DISPATCHERS_GROUP,
        consumer,
        ...entryIds,
      )) as string[],

    /** Gives entries back for others to read at once; resolves to their number. */
    release: async (
      consumer: string,
      entries: { entryId: string; deliveryId: string }[],
    ): Promise<number> => {
      const args = entries.flatMap(({ entryId, deliveryId }) => [
        entryId,
        deliveryId,
      ]);
      return (await release(
        stream,
        inflight,
        DISPATCHERS_GROUP,
        consumer,
        ...args,
      )) as number;
    },

    /** False when the consumer still owns entries and so was kept. */
    removeConsumer: async (
      queue: "stream" | "log",
      consumer: string,
    ): Promise<boolean> => {
      const [key, group] =
        queue === "stream"
          ? [stream, DISPATCHERS_GROUP]
          : [log, RECORDERS_GROUP];
      return (await removeConsumer(key, group, consumer)) === 1;
    },

    /** Those of the deliveries that Redis holds nowhere. At most ~5000 per call. */
    homeless: async (deliveryIds: string[]): Promise<string[]> =>
      deliveryIds.length === 0
        ? []
        : ((await homeless(
            stream,
            retries,
            retriesData,
            log,
            inflight,
            ...deliveryIds,
          )) as string[]),

    /** Per delivery: whether it was injected, having had no home. `dueAt`: ms since 1970, 0 for now. */
    reinject: async (
      deliveries: { id: string; dueAt: number; fields: Fields }[],
    ): Promise<boolean[]> => {
      const args = deliveries.flatMap(({ id, dueAt, fields }) => [
        id,
        dueAt,
        JSON.stringify(fields),
      ]);
      const results = (await reinject(
        stream,
        retries,
        retriesData,
        inflight,
        ...args,
      )) as number[];
      return results.map((result) => result === 1);
    },

    /** Sends again at once; with `deadEntryId` the dead letter is consumed in the same step. */
    requeue: async (
      id: string,
      fields: Fields,
      deadEntryId: string | null,
    ): Promise<RequeueResult> => {
      const args = [id, deadEntryId ?? "", ...flatten(fields)];
      const reply = await requeue(
        stream,
        retries,
        retriesData,
        inflight,
        dead,
        ...args,
      );
      const [kind, entryId] = reply as [
        "requeued" | "queued" | "unrecorded" | "gone",
        string,
      ];
      return kind === "requeued" ? { kind, entryId } : { kind };
    },

    /** Takes a delivery out of the queue unless an attempt is running or its outcome is not recorded yet. */
    cancel: async (deliveryId: string) =>
      (await cancel(
        stream,
        retries,
        retriesData,
        inflight,
        DISPATCHERS_GROUP,
        deliveryId,
      )) as "cancelled" | "in_flight" | "unrecorded",

    /** Removes log entries that are in Postgres. Idempotent. */
    recorded: async (
      entries: { entryId: string; deliveryId: string }[],
    ): Promise<number> =>
      (await recorded(
        log,
        inflight,
        RECORDERS_GROUP,
        ...entries.map(({ entryId }) => entryId),
        ...entries.map(({ deliveryId }) => deliveryId),
      )) as number,
  };
}

export type Scripts = ReturnType<typeof createScripts>;
