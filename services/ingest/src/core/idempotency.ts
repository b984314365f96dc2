// Idempotency keys: a request that is repeated under its key is answered with the delivery that it made the first time,
// whatever has become of its lead, its endpoint or the delivery since. What is compared is the request as it was sent.
import { createHash } from "node:crypto";
import { type DeliveryRequest, isObject } from "./delivery-request.ts";
import { exactRequest } from "./exact-request.ts";

export interface RequestKey {
  key: string;
  /** Hex SHA-256; tells a repeated request from another one. */
  hash: string;
}

/** JSON with the keys of every object in order, so that equal requests give equal text. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    isObject(item)
      ? Object.fromEntries(
          Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)),
        )
      : item,
  );
}

/** Null for a request without a key. `text`: the JSON it came as, in which no number has changed. */
export function requestKey(
  request: DeliveryRequest,
  text: string | undefined,
): RequestKey | null {
  const { idempotencyKey: key } = request;
  if (key === undefined) return null;
  const { idempotencyKey: _key, ...rest } = exactRequest(request, text);
  const hash = createHash("sha256").update(canonicalJson(rest)).digest("hex");
  return { key, hash };
}
