// Random kills under load, and the reckoning afterwards. Shared by the kill test and the soak.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Service } from "@pipeline/dev-stack/services";
import type { Pipeline } from "./crash-pipeline.ts";
import type { DeliverySummary } from "./deliveries.ts";
import { NO_WORK } from "./harness.ts";
import { until } from "./until.ts";

/** How deliveries are meant to end, by path, and how often each is chosen. */
const PATHS = [
  { path: "/ok", weight: 65, attempts: 1, status: "success" },
  { path: "/slow/150", weight: 10, attempts: 1, status: "success" },
  { path: "/flaky/1", weight: 12, attempts: 2, status: "success" },
  { path: "/flaky/2", weight: 5, attempts: 3, status: "success" },
  { path: "/500", weight: 4, attempts: 4, status: "failed" },
  { path: "/404", weight: 4, attempts: 1, status: "failed" },
] as const;
const BATCH = 20;

export interface Kill {
  name: Service["name"];
  at: number;
}

export interface Reckoning {
  deliveries: number;
  requests: number;
  kills: Record<string, number>;
  /** Requests beyond one per recorded attempt. */
  repeated: number;
  /** What breaks the promise, in words; empty when all is well. */
  losses: string[];
}

function pickPath(random: () => number): string {
  let mark = random() * PATHS.reduce((sum, { weight }) => sum + weight, 0);
  return PATHS.find(({ weight }) => (mark -= weight) < 0)?.path ?? "/ok";
}

/** Adds deliveries, a batch at a time by each way in, until told to stop; `accepted` holds those that were promised. */
export function createLoad(
  pipeline: Pipeline,
  random: () => number,
  ways: ("api" | "xadd")[] = ["api", "xadd"],
) {
  const accepted = new Map<string, string>();
  const stopping = new AbortController();
  const { receiver, redis, keys } = pipeline;

  /** As a careful client does: the same keys again until there is an answer. */
  async function submit(): Promise<void> {
    const wanted = Array.from({ length: BATCH }, () => ({
      payload: { n: randomUUID() },
      webhookUrl: receiver.url + pickPath(random),
      idempotencyKey: randomUUID(),
    }));
    for (;;) {
      const ingests = pipeline.running("ingest");
      const target = ingests[Math.floor(random() * ingests.length)];
      try {
        if (target === undefined) throw new Error("no ingest is running");
        const { status, body } = await pipeline.post(
          "/batch",
          { deliveries: wanted },
          target,
        );
        const items = status === 202 ? body.deliveries : [];
        for (const [i, { delivery }] of items.entries()) {
          if (delivery !== undefined)
            accepted.set(delivery.id, wanted[i]!.webhookUrl);
        }
        if (items.every(({ delivery }) => delivery !== undefined)) {
          if (items.length > 0) return;
        }
      } catch {
        // killed in the middle, or not up yet: whether it was stored is what the second try finds out
      }
      await sleep(100);
    }
  }

  async function xadd(): Promise<void> {
    const batch = redis.pipeline();
    const added = new Map<string, string>();
    for (let i = 0; i < BATCH; i++) {
      const id = randomUUID();
      const url = receiver.url + pickPath(random);
      const payload = JSON.stringify({ n: id });
      batch.xadd(
        keys.stream,
        "*",
        "id",
        id,
        "webhook_url",
        url,
        "payload",
        payload,
      );
      added.set(id, url);
    }
    // An answer that was lost with its connection makes ioredis send the command again: same id, one delivery.
    const replies = (await batch.exec()) ?? [];
    for (const [i, [id, url]] of [...added].entries())
      if (replies[i]?.[0] === null) accepted.set(id, url);
  }

  async function repeat(add: () => Promise<void>, count: number, ms: number) {
    for (let added = 0; added < count && !stopping.signal.aborted; added++) {
      await add();
      await sleep(ms);
    }
  }

  return {
    accepted,
    stop: () => stopping.abort(),
    /** `total` deliveries at about `perSecond`. */
    run: async (total: number, perSecond: number): Promise<void> => {
      const add = { api: submit, xadd };
      const ms = (1000 * BATCH * ways.length) / perSecond;
      const times = total / BATCH / ways.length;
      await Promise.all(ways.map((way) => repeat(add[way], times, ms)));
    },
  };
}

export type Load = ReturnType<typeof createLoad>;

/** Kills a random service with SIGKILL now and then and starts another in its place. */
export function createKiller(pipeline: Pipeline, random: () => number) {
  const kills: Kill[] = [];
  const replacements: Promise<unknown>[] = [];
  const controller = new AbortController();

  return {
    kills,
    stop: async () => {
      controller.abort();
      await Promise.all(replacements);
    },
    run: async (pauseMs: number): Promise<void> => {
      const { signal } = controller;
      while (!signal.aborted) {
        await sleep(pauseMs * (0.5 + random()), undefined, { signal }).catch(
          () => undefined,
        );
        const running = pipeline.running();
        const victim = running[Math.floor(random() * running.length)];
        if (victim === undefined || signal.aborted) continue;
        kills.push({ name: victim.name, at: Date.now() });
        await victim.stop("SIGKILL");
        replacements.push(pipeline.start(victim.name));
      }
    },
  };
}

/** Resolves when every delivery has ended and Redis has nothing left to do. */
export async function settled(
  pipeline: Pipeline,
  timeoutMs: number,
): Promise<void> {
  // A row whose enqueue failed is in Redis only after a reconcile: Redis alone may be idle too early.
  const wanted = JSON.stringify({ ...NO_WORK, unfinishedRows: 0 });
  let last = "";
  const look = async () => {
    const work = await pipeline.work();
    const unfinishedRows = (await pipeline.unfinished()).length;
    return (last = JSON.stringify({ ...work, unfinishedRows })) === wanted;
  };
  try {
    await until("nothing is left to do", look, timeoutMs);
  } catch (error) {
    throw new Error(`left after ${timeoutMs} ms: ${last}`, { cause: error });
  }
}

function wrongEnd(row: DeliverySummary, url: string): string | null {
  const expected = PATHS.find(({ path }) => url.endsWith(path))!;
  if (row.status !== expected.status)
    return `${row.id} ${expected.path}: ${row.status} (${row.last_error})`;
  // An attempt whose sender was killed is made again under its number, so kills can only save attempts.
  return row.attempt > expected.attempts
    ? `${row.id} ${expected.path}: took ${row.attempt} attempts`
    : null;
}

/** Compares what was promised with what Postgres and the receiver say. */
export async function reckon(
  pipeline: Pipeline,
  accepted: Map<string, string>,
  kills: Kill[],
): Promise<Reckoning> {
  const { tallies, faults } = pipeline.receiver;
  const losses = [...faults];
  const rows = new Map((await pipeline.allRows()).map((row) => [row.id, row]));
  const numbers = new Map<string, number[]>();
  for (const { delivery_id, attempt_number } of await pipeline.allAttempts()) {
    const known = numbers.get(delivery_id);
    if (known === undefined) numbers.set(delivery_id, [attempt_number]);
    else known.push(attempt_number);
  }

  for (const [id, url] of accepted) {
    const row = rows.get(id);
    const wrong = row === undefined ? `${id}: no row` : wrongEnd(row, url);
    if (wrong !== null) losses.push(wrong);
  }
  let repeated = 0;
  for (const row of rows.values()) {
    const tally = tallies.get(row.id);
    const attempts = numbers.get(row.id) ?? [];
    if (row.status === "success" && (tally?.accepted ?? 0) === 0)
      losses.push(`${row.id}: success, and the receiver never got it`);
    if (row.status !== "success" && row.status !== "failed")
      losses.push(`${row.id}: still ${row.status}`);
    if (attempts.join() !== attempts.map((_, i) => i + 1).join())
      losses.push(`${row.id}: attempts recorded: ${attempts.join()}`);
    if (attempts.length !== row.attempt)
      losses.push(
        `${row.id}: at attempt ${row.attempt}, ${attempts.length} recorded`,
      );
    repeated += Math.max(0, (tally?.requestedAt.length ?? 0) - attempts.length);
  }
  for (const id of tallies.keys())
    if (!rows.has(id)) losses.push(`${id}: was sent and has no row`);

  const counts: Record<string, number> = {};
  for (const { name } of kills) counts[name] = (counts[name] ?? 0) + 1;
  return {
    deliveries: rows.size,
    requests: pipeline.receiver.requests(),
    kills: counts,
    repeated,
    losses,
  };
}
