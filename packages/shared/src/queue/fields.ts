// The fields of a stream entry: an object here, a flat list of alternating names and values in Redis.

export type Fields = Record<string, string>;

/** As JSON.stringify writes it, or text that merely looks like it. */
const LONE_SURROGATE = /\\ud[89a-f]/;

export function flatten(fields: Fields): string[] {
  return Object.entries(fields).flat();
}

/**
 * JSON text that Redis's scripts can read. JSON.stringify writes half a surrogate pair as an escape, which cjson refuses, so
 * U+FFFD takes its place, as it does wherever such a text becomes bytes.
 */
export function fieldsToJson(fields: Fields): string {
  const text = JSON.stringify(fields);
  if (!LONE_SURROGATE.test(text)) return text;
  return JSON.stringify(
    Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [
        name.toWellFormed(),
        value.toWellFormed(),
      ]),
    ),
  );
}

/** If a name is repeated, its last value counts. */
export function unflatten(flat: readonly string[]): Fields {
  const fields: Fields = {};
  for (let i = 0; i + 1 < flat.length; i += 2) fields[flat[i]!] = flat[i + 1]!;
  return fields;
}
