// Keeps entries in flight ours during long attempts: resets their idle time well before others would claim them.
import type { Logger } from "@pipeline/shared/logger";
import type { Consumer } from "@pipeline/shared/queue/consumer";
import type { Permits } from "./permits.ts";

export interface HeartbeatOptions {
  queue: Pick<Consumer, "heartbeat">;
  permits: Permits;
  claimIdleMs: number;
  logger: Logger;
}

export function createHeartbeat({
  queue,
  permits,
  claimIdleMs,
  logger,
}: HeartbeatOptions) {
  const intervalMs = claimIdleMs / 4;
  return async (): Promise<number> => {
    const held = permits.heldFor(intervalMs / 2);
    if (held.length > 0) {
      const owned = new Set(await queue.heartbeat(held));
      const lost = held.filter(
        (entryId) => !owned.has(entryId) && permits.has(entryId),
      );
      // Another dispatcher took them over while this one stalled; the script accepts only one of the two results.
      if (lost.length > 0)
        logger.warn({ entryIds: lost }, "entries.taken_over");
    }
    return intervalMs;
  };
}
