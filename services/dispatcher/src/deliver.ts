// One attempt, from the endpoint's settings to the settlement. Whatever goes wrong with it is an outcome, not an exception.
import { type Delivery, toFields } from "@pipeline/shared/entries";
import type { Fields, Settlement } from "@pipeline/shared/scripts";
import type { Sealer } from "@pipeline/shared/seal";
import type { Logger } from "@pipeline/shared/logger";
import type { Endpoints } from "./adapters/endpoints.ts";
import type { HttpSender } from "./adapters/http-sender.ts";
import {
  type Decision,
  decide,
  maxAttemptsOf,
  type RetryPolicy,
} from "./core/decide.ts";
import type { EndpointHealth } from "./core/endpoint-gate.ts";
import { classify, type Outcome, type SendResult } from "./core/outcome.ts";
import { attemptRecord } from "./core/record.ts";
import { signAttempt } from "./core/request.ts";
import type { Metrics } from "./metrics.ts";
import type { Settler } from "./settler.ts";
import { createFindTarget, type Target } from "./target.ts";
import { addedAt, type Work } from "./work.ts";

export interface DeliverDependencies {
  endpoints: Endpoints;
  sender: HttpSender;
  settler: Settler;
  sealer: Sealer;
  policy: RetryPolicy;
  metrics: Metrics;
  logger: Logger;
  now: () => number;
  random: () => number;
}

export type Deliver = ReturnType<typeof createDeliver>;

/** While an endpoint's URL is unknown because Supabase is away. Not an attempt. */
const LOOKUP_DEFER_MS = 5000;

interface Answered {
  /** Where it was sent; null when it was not. */
  url: string | null;
  result: SendResult;
  outcome: Outcome;
  signature: string | null;
  startedAt: number;
  durationMs: number;
}

/** The path of a Zapier or Make hook is its credential, so logs get the origin only. */
function originOf(url: string | null): string | null {
  return url !== null && URL.canParse(url) ? new URL(url).origin : null;
}

function healthOf(result: SendResult): EndpointHealth {
  if (result.kind === "answer") return "answered";
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

export function createDeliver(dependencies: DeliverDependencies) {
  const { endpoints, sender, settler, sealer, policy } = dependencies;
  const { metrics, logger, now, random } = dependencies;
  const findTarget = createFindTarget(endpoints, sealer);

  async function attempt(
    delivery: Delivery,
    target: Exclude<Target, { kind: "unknown" }>,
  ): Promise<Answered> {
    const startedAt = now();
    if (target.kind === "invalid") {
      const result: SendResult = {
        kind: "failure",
        errorType: "invalid",
        error: target.error,
      };
      return {
        url: null,
        result,
        outcome: classify(result, startedAt),
        signature: null,
        startedAt,
        durationMs: 0,
      };
    }
    const request = {
      deliveryId: delivery.id,
      payload: delivery.payload,
      secret: target.secret,
      customHeaders: target.headers,
    };
    const { headers, signature } = signAttempt(request, startedAt);
    const result = await sender.send({
      url: target.url,
      headers,
      body: delivery.payload,
    });
    const endedAt = now();
    return {
      url: target.url,
      result,
      outcome: classify(result, endedAt),
      signature,
      startedAt,
      durationMs: endedAt - startedAt,
    };
  }

  /** The delivery as it may stand in Redis and Postgres. */
  function sealed(delivery: Delivery): Delivery {
    return {
      ...delivery,
      secret: delivery.secret === null ? null : sealer.seal(delivery.secret),
      headers: delivery.headers === null ? null : sealer.seal(delivery.headers),
    };
  }

  const ending = (reason: string) => ({
    reason,
    failed_at: new Date(now()).toISOString(),
  });

  function settlementOf(
    { entryId, delivery }: Work,
    answered: Answered,
    decision: Decision,
  ): Settlement {
    const stored = sealed(delivery);
    const maxAttempts = maxAttemptsOf(delivery, policy.schedule);
    const record = attemptRecord({
      ...answered,
      delivery: stored,
      maxAttempts,
      decision,
      createdAt: addedAt(entryId),
    });
    const settlement = {
      entryId,
      deliveryId: delivery.id,
      attempt: delivery.attempt,
      record,
      delayMs: 0,
      fields: null,
    };
    switch (decision.kind) {
      case "success":
        return { ...settlement, outcome: "success" };
      case "retry": {
        const fields = toFields({
          ...stored,
          attempt: delivery.attempt + 1,
          maxAttempts,
          isReserved: false,
        });
        return {
          ...settlement,
          outcome: "retry",
          delayMs: decision.delayMs,
          fields,
        };
      }
      case "dead": {
        return {
          ...settlement,
          outcome: "dead",
          fields: { ...toFields(stored), ...ending(decision.reason) },
        };
      }
    }
  }

  function report(
    { entryId, delivery }: Work,
    answered: Answered,
    decision: Decision,
    isStale: boolean,
  ): void {
    const { url, result, outcome, durationMs } = answered;
    const status = result.kind === "answer" ? result.status : null;
    const errorType = outcome.kind === "delivered" ? null : outcome.errorType;
    metrics.attempted({
      outcome: decision.kind,
      attempt: delivery.attempt,
      durationMs,
      status,
      errorType,
    });
    logger.info(
      {
        deliveryId: delivery.id,
        entryId,
        origin: originOf(url ?? delivery.webhookUrl),
        endpointId: delivery.endpointId,
        attempt: delivery.attempt,
        maxAttempts: maxAttemptsOf(delivery, policy.schedule),
        outcome: decision.kind,
        status,
        errorType,
        error: outcome.kind === "delivered" ? null : outcome.error,
        durationMs,
        retryInMs: decision.kind === "retry" ? decision.delayMs : null,
        isStale,
      },
      "delivery.attempted",
    );
  }

  async function defer(
    { entryId, delivery }: Work,
    delayMs: number,
    isReserved: boolean,
  ): Promise<void> {
    metrics.deferred();
    const { id: deliveryId, attempt } = delivery;
    const fields = toFields({ ...sealed(delivery), isReserved });
    await settler.settle({
      entryId,
      deliveryId,
      attempt,
      outcome: "defer",
      delayMs,
      fields,
      record: null,
    });
  }

  return {
    /** Sends and settles. Rejects only when settling was abandoned. */
    deliver: async (work: Work): Promise<EndpointHealth> => {
      const target = await findTarget(work.delivery);
      if (target.kind === "unknown") {
        await defer(work, LOOKUP_DEFER_MS, work.delivery.isReserved);
        return "not asked";
      }
      const answered = await attempt(work.delivery, target);
      const { result, outcome } = answered;
      const decision = decide(outcome, work.delivery, policy, random());
      const { endpointId } = work.delivery;
      if (outcome.kind === "final" && outcome.isGone && endpointId !== null)
        endpoints.disable(endpointId);
      const settled = await settler.settle(
        settlementOf(work, answered, decision),
      );
      report(work, answered, decision, settled === "stale");
      return healthOf(result);
    },
    /** Puts the delivery off without an attempt. */
    defer,
    /**
     * Ends a delivery without sending it: its entry does not parse, or crashed its readers. `letter` is the dead letter's
     * fields where the delivery does not hold them all.
     */
    giveUp: async (
      work: Work,
      error: string,
      letter: Fields | null,
    ): Promise<void> => {
      const result: SendResult = {
        kind: "failure",
        errorType: "invalid",
        error,
      };
      const startedAt = now();
      const answered = {
        url: null,
        result,
        outcome: classify(result, startedAt),
        signature: null,
        startedAt,
        durationMs: 0,
      };
      const decision: Decision = { kind: "dead", reason: error };
      const settlement = settlementOf(work, answered, decision);
      const settled = await settler.settle(
        letter === null
          ? settlement
          : { ...settlement, fields: { ...letter, ...ending(error) } },
      );
      report(work, answered, decision, settled === "stale");
    },
  };
}
