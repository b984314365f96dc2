// The HTTP request of one attempt: Standard Webhooks headers, and those of the product's existing receivers.
import { legacySignature, signingKey, standardSignature } from "./signature.ts";

export const USER_AGENT = "webhook-pipeline/1.0";

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
