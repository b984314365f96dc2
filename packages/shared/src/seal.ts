// Keeps secrets unreadable in Redis and Postgres: AES-256-GCM, a random 96-bit nonce, text form `sealed:v1:<base64>`.
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

const PREFIX = "sealed:v1:";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const CACHED_TEXTS = 10_000;

export interface Sealer {
  /** Sealed text is returned unchanged, so sealing twice is harmless. */
  seal: (text: string) => string;
  /** Plain text is returned unchanged. Null when the text was sealed with another key or tampered with. */
  open: (text: string) => string | null;
}

export function isSealed(text: string): boolean {
  return text.startsWith(PREFIX);
}

/** `keyBase64`: 32 bytes. */
export function createSealer(keyBase64: string): Sealer {
  const key = Buffer.from(keyBase64, "base64");
  // Each delivery carries its endpoint's secret. With both directions cached, the cipher runs once per secret.
  const sealedTexts = new Map<string, string>();
  const openedTexts = new Map<string, string>();

  function seal(text: string): string {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    const sealed = Buffer.concat([
      nonce,
      cipher.update(text, "utf8"),
      cipher.final(),
      cipher.getAuthTag(),
    ]);
    return PREFIX + sealed.toString("base64");
  }

  function open(text: string): string | null {
    const sealed = Buffer.from(text.slice(PREFIX.length), "base64");
    if (sealed.length < NONCE_BYTES + TAG_BYTES) return null;
    const decipher = createDecipheriv(
      "aes-256-gcm",
      key,
      sealed.subarray(0, NONCE_BYTES),
    );
    decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
    try {
      return (
        decipher.update(
          sealed.subarray(NONCE_BYTES, -TAG_BYTES),
          undefined,
          "utf8",
        ) + decipher.final("utf8")
      );
    } catch {
      return null; // the tag does not match: another key, or tampered text
    }
  }

  function cached(
    cache: Map<string, string>,
    text: string,
    compute: () => string | null,
  ): string | null {
    const known = cache.get(text);
    if (known !== undefined) return known;
    const value = compute();
    if (value === null) return null;
    if (cache.size >= CACHED_TEXTS) cache.clear();
    cache.set(text, value);
    return value;
  }

  return {
    seal: (text) =>
      isSealed(text) ? text : cached(sealedTexts, text, () => seal(text))!,
    open: (text) =>
      isSealed(text) ? cached(openedTexts, text, () => open(text)) : text,
  };
}
