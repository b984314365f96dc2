// Standard Webhooks signatures (specification 1.0.0), and the hex header of the product this pipeline replaces.
import { createHmac } from "node:crypto";

/** `whsec_` secrets are base64; any other text is used as its UTF-8 bytes. */
export function signingKey(secret: string): Buffer {
  return secret.startsWith("whsec_")
    ? Buffer.from(secret.slice(6), "base64")
    : Buffer.from(secret, "utf8");
}

export interface SignedRequest {
  webhookId: string;
  /** Unix seconds of this attempt. */
  timestampSeconds: number;
  body: string;
}

/** `v1,<base64>` of HMAC-SHA256 over `id.timestamp.body`. */
export function standardSignature(key: Buffer, request: SignedRequest): string {
  const hmac = createHmac("sha256", key);
  hmac.update(
    `${request.webhookId}.${request.timestampSeconds}.${request.body}`,
    "utf8",
  );
  return `v1,${hmac.digest("base64")}`;
}

/** Hex HMAC-SHA256 of the body alone. Existing receivers use the whole secret as the key, a `whsec_` one too. */
export function legacySignature(secret: string, body: string): string {
  return createHmac("sha256", secret).update(body, "utf8").digest("hex");
}
