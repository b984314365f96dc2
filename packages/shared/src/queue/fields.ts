// The fields of a stream entry: an object here, a flat list of alternating names and values in Redis.

export type Fields = Record<string, string>;

export function flatten(fields: Fields): string[] {
  return Object.entries(fields).flat();
}

/** If a name is repeated, its last value counts. */
export function unflatten(flat: readonly string[]): Fields {
  const fields: Fields = {};
  for (let i = 0; i + 1 < flat.length; i += 2) fields[flat[i]!] = flat[i + 1]!;
  return fields;
}
