import { createHash } from "node:crypto";
import { isObject } from "./delivery-request.ts";

/** JSON with the keys of every object in order, so that equal requests give equal text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    isObject(item)
      ? Object.fromEntries(
          Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)),
        )
      : item,
  );
}

/** Tells a repeated request from another one under the same idempotency key. */
export function requestHash(request: object): string {
  return createHash("sha256")
    .update(canonicalJson({ ...request, idempotencyKey: undefined }))
    .digest("hex");
}
