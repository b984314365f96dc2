// Keeps long attempts ours: entries in flight have their idle time reset well before others would claim them.
import type { Scripts } from "@pipeline/shared/scripts";
import type { Logger } from "@pipeline/shared/logger";
import type { Slots } from "./slots.ts";

export interface HeartbeatOptions {
  scripts: Scripts;
  slots: Slots;
  consumer: string;
  claimIdleMs: number;
  logger: Logger;
}

export function createHeartbeat({
  scripts,
  slots,
  consumer,
  claimIdleMs,
  logger,
}: HeartbeatOptions) {
  const intervalMs = claimIdleMs / 4;
  return async (): Promise<number> => {
    const held = slots.heldFor(intervalMs / 2);
    if (held.length > 0) {
      const owned = new Set(await scripts.heartbeat(consumer, held));
      const lost = held.filter(
        (entryId) => !owned.has(entryId) && slots.has(entryId),
      );
      // Another dispatcher took them over while this one stalled; of both results the script accepts one.
      if (lost.length > 0)
        logger.warn({ entryIds: lost }, "entries.taken_over");
    }
    return intervalMs;
  };
}
