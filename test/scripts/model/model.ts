// What the scripts promise, in memory: where each delivery lives, who holds which entry, what is logged and dead.
// Redis must look exactly like it after every step.
import { createHash } from "node:crypto";
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
  | { kind: "waiting"; attempt: number }
  | { kind: "log"; logId: string };

export interface Model {
  entries: Map<string, ModelEntry>;
  homes: Map<string, Home>;
  /** The only waiting list: delivery ids, those among them that have left it otherwise. */
  line: string[];
  /** Whether the endpoint is known to have a list; it is until somebody sees that the list is empty. */
  isInLine: boolean;
  /** The last entry that was let out. */
  letOut: string | null;
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
    line: [],
    isInLine: false,
    letOut: null,
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
    case "waiting":
      return home.kind;
    case "log":
      return `log:${home.logId}`;
  }
}

/** The endpoint of every delivery: see `fieldsOf`. */
export const ENDPOINT = "https://receiver.test/hook";

function lineOf({ keys }: Queue): string {
  const digest = createHash("sha1").update(ENDPOINT).digest("hex");
  return `${keys.waiting}:${digest}`;
}

function attemptsIn(data: Record<string, string>): Record<string, string> {
  const attempts = Object.entries(data).map(([id, text]) => [
    id,
    (JSON.parse(text) as { attempt: string }).attempt,
  ]);
  return Object.fromEntries(attempts) as Record<string, string>;
}

async function look(queue: Queue) {
  const { redis, keys } = queue;
  return {
    stream: await queue.waiting(),
    owners: await queue.owners(),
    homes: await redis.hgetall(keys.homes),
    retries: await redis.zrange(keys.retries, "0", "-1"),
    data: await redis.hgetall(keys.retriesData),
    waitingData: await redis.hgetall(keys.waitingData),
    line: await redis.lrange(lineOf(queue), "0", "-1"),
    log: await queue.log(),
    dead: await queue.dead(),
  };
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
    const isWaiting =
      redis.line.includes(deliveryId) &&
      redis.waitingData[deliveryId] !== undefined;
    const places = [isRetry, isQueued, isUnread, isWaiting].filter(
      Boolean,
    ).length;
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
  expect(attemptsIn(redis.data), "retries:data").toEqual(
    Object.fromEntries(
      waiting.map(([id, home]) => [
        id,
        String(home.kind === "retry" && home.attempt),
      ]),
    ),
  );
  expect(redis.line, "waiting list").toEqual(model.line);
  expect(attemptsIn(redis.waitingData), "waiting:data").toEqual(
    Object.fromEntries(
      [...model.homes].flatMap(([id, home]) =>
        home.kind === "waiting" ? [[id, String(home.attempt)]] : [],
      ),
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
