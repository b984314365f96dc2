// Every attempt in the metrics and as one line of the log.
import type { Logger } from "@pipeline/shared/logger";
import { originOf } from "@pipeline/shared/mask-url";
import type { RetrySchedule } from "@pipeline/shared/retry-schedule";
import { type Decision, maxAttemptsOf } from "../core/decide.ts";
import type { Attempt } from "../core/settlement.ts";
import type { Work } from "../core/work.ts";
import type { Metrics } from "../metrics.ts";

export interface Report {
  /** `isStale`: another dispatcher had settled the delivery already. */
  attempted: (
    work: Work,
    attempt: Attempt,
    decision: Decision,
    isStale: boolean,
  ) => void;
  deferred: () => void;
}

export interface ReportOptions {
  metrics: Pick<Metrics, "attempted" | "deferred">;
  schedule: RetrySchedule;
  logger: Logger;
}

export function createReport(options: ReportOptions): Report {
  const { metrics, schedule, logger } = options;
  return {
    deferred: metrics.deferred,
    attempted: (work, attempt, decision, isStale) => {
      const { entryId, delivery } = work;
      const { url, result, outcome, durationMs } = attempt;
      const status = result.kind === "answer" ? result.status : null;
      const isDelivered = outcome.kind === "delivered";
      const errorType = isDelivered ? null : outcome.errorType;
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
          maxAttempts: maxAttemptsOf(delivery, schedule),
          outcome: decision.kind,
          status,
          errorType,
          error: isDelivered ? null : outcome.error,
          durationMs,
          retryInMs: decision.kind === "retry" ? decision.delayMs : null,
          isStale,
        },
        "delivery.attempted",
      );
    },
  };
}
