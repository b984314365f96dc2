import type { Delivery } from "@pipeline/shared/entries";

/** A delivery that this dispatcher has read and must settle. */
export interface Work {
  entryId: string;
  delivery: Delivery;
  /** What the per-endpoint share and rate limit count by: the endpoint's id, or the URL without its query. */
  endpoint: string;
  /** The host it goes to, as `https://host:port`; null when only the id of an endpoint is known so far. */
  origin: string | null;
  /** It has been in its endpoint's waiting list. */
  hasWaited: boolean;
  /** False for what could be salvaged of an entry that does not parse. */
  isParsed: boolean;
}

/** `originOf`: where an endpoint's id leads, if that is known. */
export function destinationOf(
  { endpointId, webhookUrl }: Delivery,
  originOf: (endpointId: string) => string | null,
): { endpoint: string; origin: string | null } {
  const known = endpointId === null ? null : originOf(endpointId);
  if (endpointId !== null && (known !== null || webhookUrl === null))
    return { endpoint: endpointId, origin: known };
  const { origin, pathname } = new URL(webhookUrl!);
  return { endpoint: endpointId ?? origin + pathname, origin };
}
