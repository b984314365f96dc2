import type { Delivery } from "@pipeline/shared/entries";

/** A delivery that this dispatcher has read and must settle. */
export interface Work {
  entryId: string;
  delivery: Delivery;
  /** What the per-endpoint share and rate limit count by: the endpoint's id, or the URL without its query. */
  endpoint: string;
  /** False for what could be salvaged of an entry that does not parse. */
  isParsed: boolean;
}

export function endpointOf(delivery: Delivery): string {
  if (delivery.endpointId !== null) return delivery.endpointId;
  const { origin, pathname } = new URL(delivery.webhookUrl!);
  return origin + pathname;
}
