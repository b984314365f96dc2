// Removes what nobody will miss: consumers of processes that ended without removing themselves, and old dead letters.
import type { Logger } from "@pipeline/shared/logger";
import type { DeadLetters } from "@pipeline/shared/queue/dead-letters";
import type { IdleConsumers } from "@pipeline/shared/queue/idle-consumers";

/** Far beyond the longest silence of a living consumer, which reads at least every few seconds. */
const CONSUMER_IDLE_MS = 3_600_000;
const DAY_MS = 86_400_000;

export interface CleanUpOptions {
  consumers: IdleConsumers;
  deadLetters: Pick<DeadLetters, "trim">;
  logger: Logger;
  intervalMs: number;
  deadRetentionDays: number;
  consumerIdleMs?: number;
}

export function createCleanUp(options: CleanUpOptions) {
  const { logger, intervalMs, deadRetentionDays } = options;
  const { consumerIdleMs = CONSUMER_IDLE_MS } = options;
  return {
    /** Resolves to the ms until the next round. */
    runOnce: async (): Promise<number> => {
      const consumers = await options.consumers.remove(consumerIdleMs);
      const oldest = Date.now() - deadRetentionDays * DAY_MS;
      const deadLetters = await options.deadLetters.trim(oldest);
      if (consumers + deadLetters > 0)
        logger.info({ consumers, deadLetters }, "redis.cleaned_up");
      return intervalMs;
    },
  };
}
