// The rule for secrets that sign requests. It is asked before a delivery is accepted and again before it is sent, because
// a row of an endpoint may be edited in between.

const STANDARD_PREFIX = "whsec_";
/** 128 bits. A shorter key can be guessed; an empty one signs what anybody could sign. */
const LEAST_KEY_BYTES = 16;
// Node's decoder skips what is not base64, so that a wrong secret would give a shorter key, or an empty one.
const BASE64 =
  /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/;

/** What is wrong with a secret, to be read after its name; null when it can sign. `secret` is in plain text. */
export function secretFault(secret: string): string | null {
  if (secret === "") return "must not be empty";
  if (!secret.startsWith(STANDARD_PREFIX)) return null;
  const key = secret.slice(STANDARD_PREFIX.length);
  if (!BASE64.test(key)) return "must be base64 after whsec_";
  return Buffer.byteLength(key, "base64") < LEAST_KEY_BYTES
    ? `must hold at least ${LEAST_KEY_BYTES} bytes of base64 after whsec_`
    : null;
}
