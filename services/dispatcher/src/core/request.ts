// The HTTP request of one attempt: Standard Webhooks headers, and those of the product's existing receivers.
import { legacySignature, signingKey, standardSignature } from "./signature.ts";

export const USER_AGENT = "webhook-pipeline/1.0";

// Set by us or by the HTTP client; a tenant's value would break the request or forge its origin.
const RESERVED_HEADERS = new Set([
  "accept-encoding",
  "connection",
  "content-length",
  "content-type",
  "expect",
  "host",
  "keep-alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "x-webhook-signature",
  "x-webhook-timestamp",
  "x-webhook-version",
]);

function isReserved(name: string): boolean {
  return RESERVED_HEADERS.has(name) || /^(proxy|webhook)-/.test(name);
}

const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}$/;
// eslint-disable-next-line no-control-regex -- exactly the bytes RFC 9110 allows in a field value
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]{0,4096}$/;

export type CustomHeaders =
  { ok: true; headers: Record<string, string> } | { ok: false; error: string };

/** A JSON object of header names and string values; names are lower-cased. The error names the header, not its value. */
export function parseCustomHeaders(text: string | null): CustomHeaders {
  if (text === null) return { ok: true, headers: {} };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { ok: false, error: "headers: must be a JSON object" };
  }
  if (value === null) return { ok: true, headers: {} };
  if (typeof value !== "object" || Array.isArray(value))
    return { ok: false, error: "headers: must be a JSON object" };
  const headers: Record<string, string> = {};
  for (const [name, content] of Object.entries(value)) {
    if (!HEADER_NAME.test(name))
      return {
        ok: false,
        error: "headers: has a name that is not an HTTP header name",
      };
    if (isReserved(name.toLowerCase()))
      return { ok: false, error: `headers: ${name} is set by the dispatcher` };
    if (typeof content !== "string" || !HEADER_VALUE.test(content)) {
      return {
        ok: false,
        error: `headers: ${name} must be a string that HTTP allows`,
      };
    }
    headers[name.toLowerCase()] = content;
  }
  return { ok: true, headers };
}

export interface AttemptRequest {
  deliveryId: string;
  payload: string;
  secret: string | null;
  customHeaders: Record<string, string>;
}

export interface SignedAttempt {
  headers: Record<string, string>;
  /** Null without a secret. */
  signature: string | null;
}

/** `now`: ms since 1970, of this attempt. */
export function signAttempt(
  { deliveryId, payload, secret, customHeaders }: AttemptRequest,
  now: number,
): SignedAttempt {
  const timestampSeconds = Math.floor(now / 1000);
  const headers: Record<string, string> = {
    "user-agent": USER_AGENT,
    ...customHeaders,
    "content-type": "application/json",
    "accept-encoding": "identity",
    "webhook-id": deliveryId,
    "webhook-timestamp": String(timestampSeconds),
    "x-webhook-timestamp": String(timestampSeconds),
    "x-webhook-version": "1.0",
  };
  if (secret === null) return { headers, signature: null };
  const key = signingKey(secret);
  const signature = standardSignature(key, {
    webhookId: deliveryId,
    timestampSeconds,
    body: payload,
  });
  headers["webhook-signature"] = signature;
  headers["x-webhook-signature"] = legacySignature(secret, payload);
  return { headers, signature };
}
