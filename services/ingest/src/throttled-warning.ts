import type { Logger } from "@pipeline/shared/logger";

export type Warn = (event: string, facts: object) => void;

/** Logs a warning at most once per event and interval: an outage is one fact, not one per request. */
export function createThrottledWarning(
  logger: Logger,
  intervalMs: number,
  now: () => number,
): Warn {
  const loggedAt = new Map<string, number>();
  return (event, facts) => {
    if (now() - (loggedAt.get(event) ?? -Infinity) < intervalMs) return;
    loggedAt.set(event, now());
    logger.warn(facts, event);
  };
}
