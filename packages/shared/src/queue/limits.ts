// Rate limits across all dispatchers: one token bucket for all deliveries, and reserved moments per endpoint.
import type { Redis } from "ioredis";
import type { Keys } from "./keys.ts";
import { keyScript } from "./script.ts";

export interface Limits {
  /** Takes up to `want` tokens from a bucket that holds `burst`; in `waitMs` it will have `batch` tokens. */
  lease: (
    ratePerSecond: number,
    burst: number,
    want: number,
    batch: number,
  ) => Promise<{ granted: number; waitMs: number }>;
  /**
   * Reserves the endpoint's next free moment and resolves to the ms until then (0: now). Null when that moment is beyond
   * the horizon; nothing is reserved then. `endpoint` is `Work.endpoint`: an endpoint's id, or a URL without its query.
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
