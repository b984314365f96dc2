import type { Delivery } from "@pipeline/shared/entries";

/** A delivery that this dispatcher has read and must settle. */
export interface Work {
  entryId: string;
  delivery: Delivery;
  /** What the per-endpoint share and rate limit count by: the endpoint's id, or the URL without its query. */
  endpoint: string;
  /** The host it goes to, as `https://host:port`; null when only the id of an endpoint is known so far. */
  origin: string | null;
  /** How often it was read without coming to an end, this time included; absent for once. */
  timesRead?: number;
  /** It has been in its endpoint's waiting list. */
  hasWaited: boolean;
  /** False for what could be salvaged of an entry that does not parse. */
  isParsed: boolean;
}

/**
 * How often a delivery was read before it was put off, and so became a new entry that Redis counts from the start. Anybody may
 * have written the field.
 */
export function timesReadBefore(fields: readonly string[]): number {
  for (let i = 0; i + 1 < fields.length; i += 2)
    if (fields[i] === "times_read")
      return Number(/^\d{1,3}$/.exec(fields[i + 1]!) ?? 0);
  return 0;
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
