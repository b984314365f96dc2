// Rate limits over all dispatchers: one token bucket for everything, one reservation queue per endpoint.
import type { Redis } from "ioredis";
import type { Keys } from "./keys.ts";
import { keyScript } from "./script.ts";

export interface Limits {
  /** Takes up to `want` tokens of a bucket `burst` deep; `waitMs` is when `batch` tokens will be there. */
  lease: (
    ratePerSecond: number,
    burst: number,
    want: number,
    batch: number,
  ) => Promise<{ granted: number; waitMs: number }>;
  /**
   * Reserves the endpoint's next free moment and resolves to the ms until then (0: now); null when it lies beyond the
   * horizon, and nothing was reserved. `endpoint` is what its deliveries are counted by.
   */
  reserve: (
    endpoint: string,
    ratePerSecond: number,
    burst: number,
    horizonMs: number,
  ) => Promise<number | null>;
}

export function createLimits(redis: Redis, keys: Keys): Limits {
  const lease = keyScript(redis, "lease");
  const reserve = keyScript(redis, "reserve");
  return {
    lease: async (ratePerSecond, burst, want, batch) => {
      const args = [ratePerSecond, burst, want, batch];
      const reply = await lease(keys.bucket, ...args);
      const [granted, waitMs] = reply as [number, number];
      return { granted, waitMs };
    },
    reserve: async (endpoint, ratePerSecond, burst, horizonMs) => {
      const key = keys.endpointBucket(endpoint);
      const reply = await reserve(key, ratePerSecond, burst, horizonMs);
      const delayMs = reply as number;
      return delayMs < 0 ? null : delayMs;
    },
  };
}
