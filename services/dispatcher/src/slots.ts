// The dispatcher's hands: at most `concurrency` deliveries at once, each endpoint within its share, each with a token.
import { createHash } from "node:crypto";
import { abortableSleep } from "@pipeline/shared/loop";
import type { Scripts } from "@pipeline/shared/scripts";
import type { Logger } from "@pipeline/shared/logger";
import type { EndpointGate, EndpointHealth } from "./core/endpoint-gate.ts";
import type { Deliver } from "./deliver.ts";
import type { Limiter } from "./limiter.ts";
import type { Work } from "./work.ts";

export interface Slots {
  /** Slots for new work: neither running nor parked. */
  free: () => number;
  /** Resolves when `count` slots are free, after `timeoutMs`, or when stopping. */
  waitFor: (count: number, timeoutMs: number) => Promise<void>;
  /** Starts, parks or defers the work; it must hold a token, which goes back when no request follows. */
  accept: (work: Work) => void;
  has: (entryId: string) => boolean;
  /** Entries held for at least `ms`. */
  heldFor: (ms: number) => string[];
  /** Puts parked work of endpoints that have become suspect off. */
  sweep: () => void;
  running: () => number;
  /** Forgets what has not begun; it stays pending in Redis, for the caller to release. */
  dropParked: () => void;
}

export interface SlotsOptions {
  concurrency: number;
  gate: EndpointGate;
  deliver: Deliver;
  limiter: Limiter;
  /** Null when endpoints have no rate limit. */
  endpointRatePerSecond: number | null;
  scripts: Scripts;
  logger: Logger;
  signal: AbortSignal;
  now: () => number;
}

const RESERVATION_HORIZON_MS = 3_600_000;
const REPEAT_PAUSE_MS = 500;

export function createSlots(options: SlotsOptions): Slots {
  const {
    concurrency,
    gate,
    deliver,
    limiter,
    endpointRatePerSecond,
    scripts,
    logger,
    signal,
    now,
  } = options;
  const running = new Map<string, { work: Work; startedAt: number }>();
  const parked = new Map<string, { work: Work; since: number }[]>();
  let parkedCount = 0;
  let waiter: { count: number; resolve: () => void } | undefined;

  const free = () => concurrency - running.size - parkedCount;

  function end(entryId: string): void {
    running.delete(entryId);
    if (waiter !== undefined && free() >= waiter.count) waiter.resolve();
  }

  /** Repeats while Redis is away; null when stopping. */
  async function insist<Result>(
    ask: () => Promise<Result>,
  ): Promise<Result | null> {
    while (!signal.aborted) {
      try {
        return await ask();
      } catch (error) {
        logger.debug({ err: error }, "slots.repeated");
        await abortableSleep(REPEAT_PAUSE_MS, signal);
      }
    }
    return null;
  }

  /** Ms until the endpoint's rate limit lets this delivery through. */
  async function reservedDelay({
    endpoint,
    delivery,
  }: Work): Promise<number | null> {
    if (endpointRatePerSecond === null || delivery.isReserved) return 0;
    const burst = Math.max(1, Math.ceil(endpointRatePerSecond / 10));
    const horizonMs = RESERVATION_HORIZON_MS;
    return insist(
      async () =>
        (await scripts.reserve(
          // The path of a URL may be a credential, and a key's name is seen by everyone.
          createHash("sha256").update(endpoint).digest("base64url"),
          endpointRatePerSecond,
          burst,
          horizonMs,
        )) ?? horizonMs,
    );
  }

  /** "not asked" without having settled when stopping: the entry stays pending and is released. */
  async function perform(
    work: Work,
    hasToken: boolean,
  ): Promise<EndpointHealth> {
    const delayMs = await reservedDelay(work);
    if (delayMs === null) return "not asked";
    if (delayMs > 0) {
      if (hasToken) limiter.giveBack(1);
      await deliver.defer(work, delayMs, delayMs < RESERVATION_HORIZON_MS);
      return "not asked";
    }
    if (!hasToken && !(await insist(() => limiter.take(1, signal))))
      return "not asked";
    return deliver.deliver(work);
  }

  async function run(
    work: Work,
    startedAt: number,
    hasToken: boolean,
  ): Promise<void> {
    running.set(work.entryId, { work, startedAt });
    let health: EndpointHealth = "not asked";
    try {
      health = await perform(work, hasToken);
    } catch (error) {
      // The entry stays pending: when stopping it is released, else it is claimed after the idle time.
      const { entryId, delivery } = work;
      const facts = { err: error, deliveryId: delivery.id, entryId };
      if (signal.aborted) logger.info(facts, "delivery.abandoned");
      else logger.error(facts, "delivery.faulted");
    }
    gate.leave(work.endpoint, startedAt, now(), health);
    end(work.entryId);
    resume(work.endpoint);
  }

  async function defer(work: Work, delayMs: number): Promise<void> {
    try {
      await deliver.defer(work, delayMs, work.delivery.isReserved);
    } catch (error) {
      logger.error(
        { err: error, deliveryId: work.delivery.id, entryId: work.entryId },
        "delivery.faulted",
      );
    }
    end(work.entryId);
  }

  /** False when the endpoint has no slot for it and it should go on waiting here. */
  function place(work: Work, hasToken: boolean, ahead: number): boolean {
    const at = now();
    const answer = gate.ask(work.endpoint, at, ahead);
    switch (answer.kind) {
      case "go":
        void run(work, at, hasToken);
        return true;
      case "park":
        return false;
      case "defer":
        if (hasToken) limiter.giveBack(1);
        running.set(work.entryId, { work, startedAt: at }); // ours until it is settled
        void defer(work, answer.delayMs);
        return true;
    }
  }

  function resume(endpoint: string): void {
    const queue = parked.get(endpoint);
    if (queue === undefined || signal.aborted) return;
    while (queue.length > 0 && place(queue[0]!.work, false, 0)) {
      queue.shift();
      parkedCount--;
    }
    if (queue.length === 0) parked.delete(endpoint);
  }

  return {
    free,
    running: () => running.size,
    has: (entryId) =>
      running.has(entryId) ||
      [...parked.values()].some((queue) =>
        queue.some(({ work }) => work.entryId === entryId),
      ),
    waitFor: (count, timeoutMs) =>
      new Promise((resolve) => {
        const done = () => {
          clearTimeout(timer);
          waiter = undefined;
          resolve();
        };
        const timer = setTimeout(done, timeoutMs);
        waiter = { count, resolve: done };
        if (free() >= count || signal.aborted) done();
      }),
    accept: (work) => {
      const queue = parked.get(work.endpoint);
      if (place(work, true, queue?.length ?? 0)) return;
      limiter.giveBack(1);
      const item = { work, since: now() };
      if (queue === undefined) parked.set(work.endpoint, [item]);
      else queue.push(item);
      parkedCount++;
    },
    heldFor: (ms) => {
      const before = now() - ms;
      const held = [...running.entries()]
        .filter(([, { startedAt }]) => startedAt <= before)
        .map(([entryId]) => entryId);
      const waiting = [...parked.values()]
        .flat()
        .filter(({ since }) => since <= before)
        .map(({ work }) => work.entryId);
      return [...held, ...waiting];
    },
    sweep: () => {
      for (const endpoint of parked.keys())
        if (gate.isSuspect(endpoint, now())) resume(endpoint);
    },
    dropParked: () => {
      parked.clear();
      parkedCount = 0;
    },
  };
}
