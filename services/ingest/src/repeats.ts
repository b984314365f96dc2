// Requests repeated under their idempotency key that cannot be carried out any more: the endpoint has been disabled, the lead
// deleted or edited, the queue is full. The key counts before all of these, so such a request gets its first delivery.
// Creating a delivery looks its key up anyway, so that only a request that comes to nothing pays for looking it up alone.
import { type Batcher, createBatcher } from "@pipeline/shared/batcher";
import type {
  CreatedRow,
  DeliveryCreations,
} from "./adapters/delivery-rows.ts";
import type { DeliveryRequest } from "./core/delivery-request.ts";
import { type RequestKey, requestKey } from "./core/idempotency.ts";
import { KEY_USED, QUEUE_FULL, type Refusal } from "./core/refusal.ts";

const LOOKED_UP_TOGETHER = 500;

export interface Repeats {
  /** Null when the key is new, or there is none, or the refusal is not about the request. */
  firstDelivery: (
    request: DeliveryRequest,
    text: string | undefined,
    refusal: Refusal,
  ) => Promise<CreatedRow | null>;
  drain: () => Promise<void>;
}

function mayBeRepeat(refusal: Refusal): boolean {
  if (refusal === QUEUE_FULL) return true;
  return refusal !== KEY_USED && refusal.status !== 503;
}

export function createRepeats(
  writes: Pick<DeliveryCreations, "firstOfKeys">,
): Repeats {
  const keys: Batcher<RequestKey, CreatedRow | null> = createBatcher({
    maxItems: LOOKED_UP_TOGETHER,
    delayMs: 1,
    maxConcurrent: 2,
    maxConcurrentPartial: 2,
    run: writes.firstOfKeys,
  });
  return {
    firstDelivery: async (request, text, refusal) => {
      const key = mayBeRepeat(refusal) ? requestKey(request, text) : null;
      return key === null ? null : keys.add(key);
    },
    drain: keys.drain,
  };
}
