// Postgres jsonb holds neither NUL nor half a surrogate pair, and both are legal in JSON text.
const ESCAPE =
  /\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([0-9a-fA-F]{4})|[^u])/g;

/** JSON text without NUL escapes, and with U+FFFD for lone surrogates. Other text is returned as it is. */
export function storableJson(json: string): string {
  if (!json.includes("\\u") || !/\\u(0000|[dD][89a-fA-F])/.test(json))
    return json;
  return json.replaceAll(ESCAPE, (escape, single: string | undefined) => {
    if (single === undefined) return escape;
    if (single === "0000") return "";
    return /^[dD][89a-fA-F]/.test(single) ? "\\ufffd" : escape;
  });
}
