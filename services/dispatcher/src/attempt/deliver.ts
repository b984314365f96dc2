// One delivery, read downwards: where it goes, the request, what its answer means, what follows, and the settlement.
// Whatever goes wrong with an attempt is an outcome, not an exception.
import type { Delivery } from "@pipeline/shared/entries";
import { errorMessage } from "@pipeline/shared/errors";
import type { RetrySchedule } from "@pipeline/shared/retry-schedule";
import type { Sealer } from "@pipeline/shared/seal";
import { type Decision, decide } from "../core/decide.ts";
import { classify, type SendResult } from "../core/outcome.ts";
import { signAttempt } from "../core/request.ts";
import {
  type Attempt,
  deferral,
  type Plan,
  planOf,
  settlementOf,
  type SettlementOptions,
  waitSettlement,
} from "../core/settlement.ts";
import type { EndpointHealth } from "../core/share.ts";
import type { Work } from "../core/work.ts";
import type { Endpoints } from "./endpoints.ts";
import type { HttpSender } from "./http-sender.ts";
import type { Report } from "./report.ts";
import type { Settler } from "./settler.ts";
import { createFindTarget, type Target } from "./target.ts";

export interface DeliverDependencies {
  endpoints: Endpoints;
  sender: Pick<HttpSender, "send">;
  settler: Pick<Settler, "settle" | "bury">;
  sealer: Sealer;
  schedule: RetrySchedule;
  jitter: number;
  report: Report;
  /** Nothing begins at the endpoint for so long: its receiver said so (Retry-After), or it cannot be looked up. */
  hold: (endpoint: string, ms: number) => void;
  /** Ms since 1970, for time stamps. */
  now: () => number;
  /** Ms of a clock that nobody sets, for durations. */
  monotonic: () => number;
  /** In [0, 1). */
  random: () => number;
}

/** All reject only when settling was abandoned; the entry then stays pending in Redis. */
export interface Deliver {
  /** Sends and settles. `onSend` is called when a request follows. */
  deliver: (work: Work, onSend: () => void) => Promise<EndpointHealth>;
  /** Puts the delivery into its endpoint's waiting list. */
  wait: (work: Work) => Promise<void>;
  /** Puts the delivery off without an attempt, until a moment that is known. */
  defer: (work: Work, delayMs: number, isReserved: boolean) => Promise<void>;
  /** Ends a delivery without sending it. `entryFields` become its dead letter. */
  giveUp: (
    work: Work,
    error: string,
    entryFields: Record<string, string>,
  ) => Promise<void>;
}

/** While an endpoint's URL is unknown because Supabase is away, its deliveries wait in its list. Not an attempt. */
const LOOKUP_PAUSE_MS = 5000;

function healthOf(result: SendResult): EndpointHealth {
  if (result.kind === "answer") {
    if (result.isCutShort === true) return "timeout";
    return result.status === 429 ? "busy" : "answered";
  }
  switch (result.errorType) {
    case "network":
      return "failed";
    case "timeout":
      return "timeout";
    case "blocked":
    case "invalid":
      return "not asked";
  }
}

/** An attempt that ended before a request. */
function unsent(error: string, now: number): Attempt {
  const result: SendResult = { kind: "failure", errorType: "invalid", error };
  const outcome = classify(result, now);
  const startedAt = now;
  return {
    url: null,
    result,
    outcome,
    signature: null,
    startedAt,
    durationMs: 0,
  };
}

export function createDeliver(dependencies: DeliverDependencies): Deliver {
  const { endpoints, sender, settler, sealer, report } = dependencies;
  const { schedule, jitter, hold, now, monotonic, random } = dependencies;
  const settlementOptions: SettlementOptions = { schedule, seal: sealer.seal };
  const findTarget = createFindTarget(endpoints, sealer);

  async function send(
    delivery: Delivery,
    target: Extract<Target, { kind: "target" }>,
  ): Promise<Attempt> {
    const { url, secret, headers: customHeaders } = target;
    const { id: deliveryId, payload } = delivery;
    const startedAt = now();
    const beganAt = monotonic();
    const request = { deliveryId, payload, secret, customHeaders };
    const { headers, signature } = signAttempt(request, startedAt);
    const result = await sender.send({ url, headers, body: payload });
    const durationMs = Math.round(monotonic() - beganAt);
    const outcome = classify(result, now());
    return { url, result, outcome, signature, startedAt, durationMs };
  }

  /**
   * What `make` returns. If it throws, the entry is buried instead: nothing may be sent that could not be settled, and what
   * this dispatcher cannot handle the next one could not either.
   */
  async function orBury<Made>(
    { entryId }: Work,
    isDelivered: boolean,
    make: () => Made | Promise<Made>,
  ): Promise<Made | null> {
    try {
      return await make();
    } catch (error) {
      const reason = `the dispatcher cannot handle it: ${errorMessage(error)}`;
      await settler.bury({ entryId, isDelivered, reason });
      return null;
    }
  }

  const plan = (work: Work) =>
    orBury(work, false, () => planOf(work, now(), settlementOptions));

  async function settle(
    made: Plan,
    attempt: Attempt,
    decision: Decision,
    entryFields: Record<string, string> | null,
  ): Promise<void> {
    const { work } = made;
    const isDelivered = decision.kind === "success";
    const settlement = await orBury(work, isDelivered, () =>
      settlementOf(made, attempt, decision, settlementOptions, entryFields),
    );
    if (settlement === null) return;
    const settled = await settler.settle(settlement);
    report.attempted(work, attempt, decision, settled === "stale");
  }

  async function defer(
    work: Work,
    delayMs: number,
    isReserved: boolean,
  ): Promise<void> {
    const settlement = await orBury(work, false, () =>
      deferral(work, delayMs, isReserved, settlementOptions),
    );
    if (settlement === null) return;
    report.deferred();
    await settler.settle(settlement);
  }

  async function wait(work: Work): Promise<void> {
    const settlement = await orBury(work, false, () =>
      waitSettlement(work, settlementOptions),
    );
    if (settlement === null) return;
    report.deferred();
    await settler.settle(settlement);
  }

  return {
    wait,
    defer,
    deliver: async (work, onSend) => {
      const { delivery } = work;
      const target = await orBury(work, false, () => findTarget(delivery));
      if (target === null) return "not asked";
      if (target.kind === "unknown") {
        // Held first: otherwise it would be let out at once, only to find the same.
        hold(work.endpoint, LOOKUP_PAUSE_MS);
        await wait(work);
        return "not asked";
      }
      const made = await plan(work);
      if (made === null) return "not asked";
      if (target.kind === "target") onSend();
      const attempt = await orBury(work, false, () =>
        target.kind === "target"
          ? send(delivery, target)
          : unsent(target.error, now()),
      );
      if (attempt === null) return "not asked";
      const { outcome } = attempt;
      const decision = decide(
        outcome,
        delivery,
        { schedule, jitter },
        random(),
      );
      const isGone = outcome.kind === "final" && outcome.isGone;
      if (isGone && delivery.endpointId !== null)
        endpoints.disable(delivery.endpointId);
      if (outcome.kind === "retryable" && outcome.retryAfterMs !== null)
        hold(work.endpoint, outcome.retryAfterMs);
      await settle(made, attempt, decision, null);
      return healthOf(attempt.result);
    },
    giveUp: async (work, error, entryFields) => {
      const made = await plan(work);
      if (made === null) return;
      const decision: Decision = { kind: "dead", reason: error };
      await settle(made, unsent(error, now()), decision, entryFields);
    },
  };
}
