// What the scripts promise, in memory: where each delivery lives, who holds which entry, what is logged and dead.
// Redis must look exactly like it after every step.
import { expect } from "vitest";
import type { Queue } from "../../support/queue.ts";

export interface ModelEntry {
  deliveryId: string;
  attempt: number;
  /** Null until it has been read. */
  owner: string | null;
}

export type Home =
  | { kind: "entry"; entryId: string }
  | { kind: "retry"; attempt: number; isDue: boolean }
  | { kind: "log"; logId: string };

export interface Model {
  entries: Map<string, ModelEntry>;
  homes: Map<string, Home>;
  /** Log entry id to delivery id, in order. */
  log: Map<string, string>;
  /** Dead letter's entry id to delivery id. */
  dead: Map<string, string>;
  /** What each consumer has read or claimed and not admitted yet. */
  arrived: Map<string, string[]>;
  /** What each consumer has admitted and may settle, at any time later and more than once. */
  known: Map<string, Map<string, ModelEntry>>;
  /** Accepted, and neither delivered, dead nor cancelled. */
  unfinished: Set<string>;
}

export function createModel(consumers: string[]): Model {
  return {
    entries: new Map(),
    homes: new Map(),
    log: new Map(),
    dead: new Map(),
    arrived: new Map(consumers.map((consumer) => [consumer, []])),
    known: new Map(consumers.map((consumer) => [consumer, new Map()])),
    unfinished: new Set(),
  };
}

export function homeText(home: Home | undefined): string | null {
  switch (home?.kind) {
    case undefined:
      return null;
    case "entry":
      return home.entryId;
    case "retry":
      return "retry";
    case "log":
      return `log:${home.logId}`;
  }
}

async function look(queue: Queue) {
  const { redis, keys } = queue;
  const [stream, owners, homes, retries, data, log, dead] = await Promise.all([
    queue.waiting(),
    queue.owners(),
    redis.hgetall(keys.homes),
    redis.zrange(keys.retries, "0", "-1"),
    redis.hgetall(keys.retriesData),
    queue.log(),
    queue.dead(),
  ]);
  return { stream, owners, homes, retries, data, log, dead };
}

/** One home per delivery, told apart from the model's bookkeeping: from what stands in Redis alone. */
function expectOneHome(
  model: Model,
  redis: Awaited<ReturnType<typeof look>>,
): void {
  for (const deliveryId of model.unfinished) {
    const home = redis.homes[deliveryId];
    const entries = redis.stream.filter(
      ({ fields }) => fields["id"] === deliveryId,
    );
    const isRetry =
      redis.retries.includes(deliveryId) &&
      redis.data[deliveryId] !== undefined;
    const isQueued = entries.some(({ entryId }) => entryId === home);
    // Entries by hand have no place until they are read.
    const isUnread = home === undefined && entries.length > 0;
    const places = [isRetry, isQueued, isUnread].filter(Boolean).length;
    expect(
      places,
      `${deliveryId} lives in ${places} places, homes says ${home}`,
    ).toBe(1);
  }
}

export async function expectSame(model: Model, queue: Queue): Promise<void> {
  const redis = await look(queue);
  expectOneHome(model, redis);
  const inRedis = redis.stream.map(({ entryId, fields }) => [
    entryId,
    fields["id"],
    fields["attempt"],
    redis.owners[entryId] ?? null,
  ]);
  expect(inRedis, "stream").toEqual(
    [...model.entries].map(([entryId, { deliveryId, attempt, owner }]) => [
      entryId,
      deliveryId,
      String(attempt),
      owner,
    ]),
  );
  const homes = [...model.homes].map(([deliveryId, home]) => [
    deliveryId,
    homeText(home),
  ]);
  expect(redis.homes, "homes").toEqual(Object.fromEntries(homes));
  const waiting = [...model.homes].filter(([, home]) => home.kind === "retry");
  expect(new Set(redis.retries), "retries").toEqual(
    new Set(waiting.map(([deliveryId]) => deliveryId)),
  );
  const attempts = Object.entries(redis.data).map(([id, text]) => [
    id,
    (JSON.parse(text) as { attempt: string }).attempt,
  ]);
  expect(Object.fromEntries(attempts), "retries:data").toEqual(
    Object.fromEntries(
      waiting.map(([id, home]) => [
        id,
        String(home.kind === "retry" && home.attempt),
      ]),
    ),
  );
  expect(
    redis.log.map(({ entryId, fields }) => [entryId, fields["delivery_id"]]),
    "log",
  ).toEqual([...model.log]);
  expect(
    redis.dead.map(({ entryId, fields }) => [entryId, fields["id"]]),
    "dead",
  ).toEqual([...model.dead]);
}
