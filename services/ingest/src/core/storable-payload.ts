// Finds what would keep a payload from being sent or stored, so that the caller is told which part it is.
import { MAX_PAYLOAD_BYTES } from "@pipeline/shared/entries";
import { type Result, refuse } from "./refusal.ts";

// JSON.stringify writes \u escapes only for control characters and lone surrogates; an even number of backslashes before
// one means that the escape is real and not part of a text.
const UNSTORABLE = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/;

/** The payload as the JSON text that is stored and sent. */
export function payloadText(payload: object): Result<string> {
  const text = JSON.stringify(payload);
  if (
    text.length > MAX_PAYLOAD_BYTES ||
    Buffer.byteLength(text) > MAX_PAYLOAD_BYTES
  ) {
    return refuse(
      422,
      "payload",
      `must be at most ${MAX_PAYLOAD_BYTES} bytes of JSON`,
    );
  }
  if (text.includes("\\u") && UNSTORABLE.test(text)) {
    return refuse(
      422,
      "payload",
      "must not contain NUL or lone surrogates, which the database cannot store",
    );
  }
  return { ok: true, value: text };
}
