// The last gates before an attempt: the endpoint's own rate limit, then the token of the global one.
import { insist } from "@pipeline/shared/loop";
import type { Logger } from "@pipeline/shared/logger";
import type { Limits } from "@pipeline/shared/queue/limits";
import type { EndpointHealth } from "../core/share.ts";
import type { Work } from "../core/work.ts";
import type { Permit } from "./permits.ts";

const RESERVATION_HORIZON_MS = 3_600_000;
const REPEAT_PAUSE_MS = 500;

export interface BeginOptions {
  limits: Pick<Limits, "reserve">;
  /** Null when endpoints have no rate limit. */
  endpointRatePerSecond: number | null;
  deliver: (work: Work, onSend: () => void) => Promise<EndpointHealth>;
  defer: (work: Work, delayMs: number, isReserved: boolean) => Promise<void>;
  logger: Logger;
  signal: AbortSignal;
}

export function createBegin(options: BeginOptions) {
  const { limits, endpointRatePerSecond, deliver, defer, logger, signal } =
    options;

  /** Ms until the endpoint's rate limit lets this delivery through; null when stopping. */
  async function reservedDelayMs(work: Work): Promise<number | null> {
    if (endpointRatePerSecond === null || work.delivery.isReserved) return 0;
    const burst = Math.max(1, Math.ceil(endpointRatePerSecond / 10));
    const reserve = async () => {
      const delayMs = await limits.reserve(
        work.endpoint,
        endpointRatePerSecond,
        burst,
        RESERVATION_HORIZON_MS,
      );
      return delayMs ?? RESERVATION_HORIZON_MS;
    };
    return insist(reserve, {
      signal,
      pauseMs: REPEAT_PAUSE_MS,
      onFault: (err) => logger.debug({ err }, "reserve.repeated"),
    });
  }

  /** "not asked" without having settled when stopping: the entry stays pending and is released. */
  return async (permit: Permit): Promise<EndpointHealth> => {
    const { work } = permit;
    const delayMs = await reservedDelayMs(work);
    if (delayMs === null) return "not asked";
    if (delayMs > 0) {
      await defer(work, delayMs, delayMs < RESERVATION_HORIZON_MS);
      return "not asked";
    }
    if (!(await permit.ready())) return "not asked";
    return deliver(work, permit.spend);
  };
}
