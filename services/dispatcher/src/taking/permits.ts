// At most `concurrency` deliveries at once, each endpoint within its share. To be sent, a delivery needs a permit: a slot,
// and a token of the global rate limit.
import type { Logger } from "@pipeline/shared/logger";
import type { EndpointHealth } from "../core/share.ts";
import type { Placement, Traffic } from "../core/traffic.ts";
import type { Work } from "../core/work.ts";
import type { Limiter } from "./limiter.ts";

export interface Permit {
  work: Work;
  /** Waits for the token if the permit holds none yet. False when the dispatcher stops first. */
  ready: () => Promise<boolean>;
  /** The token is used up: a request follows. */
  spend: () => void;
  /** Frees the slot, and gives the token back unless it was spent. Idempotent. */
  release: (health: EndpointHealth) => void;
}

export interface Permits {
  /** Slots for new work: neither running nor parked. */
  free: () => number;
  /** Resolves when `count` slots are free, after `timeoutMs`, or when stopping. */
  waitFor: (count: number, timeoutMs: number) => Promise<void>;
  /**
   * Starts the work, parks it or sends it to its waiting list. A token for it is at hand. With `mustRun` it starts whatever
   * its endpoint's share says.
   */
  offer: (work: Work, mustRun?: boolean) => void;
  has: (entryId: string) => boolean;
  /** Entries held for at least `ms`. */
  heldFor: (ms: number) => string[];
  /** Looks for attempts that are overdue. Parked work whose turn will not come soon leaves. */
  sweep: () => void;
  running: () => number;
  /** Forgets what has not begun; it stays pending in Redis, to be released from there. */
  dropParked: () => void;
}

export interface PermitsOptions {
  traffic: Traffic<Work>;
  limiter: Limiter;
  /** Sends and settles. Rejects when the entry could not be settled; it then stays pending in Redis. */
  deliver: (permit: Permit) => Promise<EndpointHealth>;
  /** Puts the delivery into its endpoint's waiting list. Rejects in the same case. */
  wait: (work: Work) => Promise<void>;
  /** Called when a share has become free for which deliveries may be waiting. */
  onRoom: (endpoint: string) => void;
  logger: Logger;
  signal: AbortSignal;
  now: () => number;
}

export function createPermits(options: PermitsOptions): Permits {
  const { traffic, limiter, deliver, wait, onRoom } = options;
  const { logger, signal, now } = options;
  let waiter: { count: number; resolve: () => void } | undefined;

  function endWait(): void {
    if (waiter !== undefined && traffic.free() >= waiter.count)
      waiter.resolve();
  }

  function createPermit(work: Work, token: number): Permit {
    let tokens = token;
    let isReleased = false;
    return {
      work,
      ready: async () => {
        if (tokens === 0) tokens = await limiter.insist(1, signal);
        return tokens > 0;
      },
      spend: () => {
        tokens = 0;
        traffic.begin(work, now());
      },
      release: (health) => {
        if (isReleased) return;
        isReleased = true;
        limiter.giveBack(tokens);
        for (const placement of traffic.leave(work, now(), health))
          carryOut(placement, 0);
        onRoom(work.endpoint);
        endWait();
      },
    };
  }

  async function hold(
    permit: Permit,
    action: () => Promise<EndpointHealth>,
  ): Promise<void> {
    let health: EndpointHealth = "not asked";
    try {
      health = await action();
    } catch (error) {
      // The entry stays pending: when stopping it is released, otherwise it is claimed after the idle time.
      const { entryId, delivery } = permit.work;
      const facts = { err: error, deliveryId: delivery.id, entryId };
      if (signal.aborted) logger.info(facts, "delivery.abandoned");
      else logger.error(facts, "delivery.faulted");
    }
    permit.release(health);
  }

  function carryOut(placement: Placement<Work>, tokens: number): void {
    switch (placement.kind) {
      case "park":
        limiter.giveBack(tokens);
        return;
      case "go": {
        const permit = createPermit(placement.work, tokens);
        void hold(permit, () => deliver(permit));
        return;
      }
      case "wait": {
        const permit = createPermit(placement.work, tokens);
        void hold(permit, async () => {
          await wait(placement.work);
          return "not asked";
        });
      }
    }
  }

  return {
    free: traffic.free,
    running: traffic.running,
    has: traffic.has,
    waitFor: (count, timeoutMs) =>
      new Promise((resolve) => {
        const done = () => {
          clearTimeout(timer);
          waiter = undefined;
          resolve();
        };
        const timer = setTimeout(done, timeoutMs);
        waiter = { count, resolve: done };
        if (traffic.free() >= count || signal.aborted) done();
      }),
    offer: (work, mustRun = false) =>
      carryOut(traffic.offer(work, now(), mustRun), 1),
    heldFor: (ms) => traffic.heldSince(now() - ms),
    sweep: () => {
      for (const placement of traffic.sweep(now())) carryOut(placement, 0);
      endWait();
    },
    dropParked: traffic.dropParked,
  };
}
