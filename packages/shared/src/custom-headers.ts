// The extra headers that an endpoint or a producer asks for. The rule is asked before a delivery is accepted and again
// before it is sent, because a row of an endpoint may be edited in between.

// Set by us or by the HTTP client; a tenant's value would break the request or forge its origin.
const RESERVED_HEADERS = new Set([
  "accept-encoding",
  "connection",
  // The body is what it is; a name for another encoding makes it unreadable.
  "content-encoding",
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
