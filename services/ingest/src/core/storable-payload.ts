// Finds what would keep a payload from being sent or stored, so that the caller is told which part it is.
import { MAX_PAYLOAD_BYTES } from "@pipeline/shared/entries";
import { type Result, refuse } from "./refusal.ts";

// Consumes every escape as a whole, so that a backslash that is itself escaped begins nothing. The group is what Postgres
// cannot hold: NUL, and half a surrogate pair.
const ESCAPE =
  /\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|u(0000|[dD][89a-fA-F][\da-fA-F]{2})|.)/g;

function hasUnstorable(text: string): boolean {
  if (!/\\u(?:0000|[dD][89a-fA-F])/.test(text)) return false;
  for (const [, unstorable] of text.matchAll(ESCAPE))
    if (unstorable !== undefined) return true;
  return false;
}

/** `text`: the payload as JSON, as it is to be stored and sent. */
export function storablePayload(text: string): Result<string> {
  if (
    text.length > MAX_PAYLOAD_BYTES ||
    Buffer.byteLength(text) > MAX_PAYLOAD_BYTES
  ) {
    const error = `payload must be at most ${MAX_PAYLOAD_BYTES} bytes of JSON`;
    return { ok: false, refusal: { status: 413, error, issues: [] } };
  }
  if (hasUnstorable(text)) {
    return refuse(
      422,
      "payload",
      "must not contain NUL or lone surrogates, which the database cannot store",
    );
  }
  return { ok: true, value: text };
}
