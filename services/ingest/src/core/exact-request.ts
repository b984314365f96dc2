import type { DeliveryRequest, JsonObject } from "./delivery-request.ts";
import { memberText, parseExact } from "./exact-json.ts";

/**
 * The request with the numbers of its payload and custom fields as they stand in its text. Only for what is hashed or written
 * anew: a payload that is passed on is cut out of the text, and need not be read twice.
 */
export function exactRequest(
  request: DeliveryRequest,
  text: string | undefined,
): DeliveryRequest {
  if (text === undefined) return request;
  const exact = { ...request };
  for (const name of ["payload", "customFields"] as const) {
    if (request[name] === undefined) continue;
    const own = memberText(text, name);
    if (own !== null) exact[name] = parseExact(own) as JsonObject;
  }
  return exact;
}
