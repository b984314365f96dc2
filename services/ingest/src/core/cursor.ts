// A place in the list of deliveries, newest first: where the last page ended.

export interface Cursor {
  /** As Postgres writes it, to the microsecond. */
  createdAt: string;
  id: string;
}

export function encodeCursor({ createdAt, id }: Cursor): string {
  return Buffer.from(`${createdAt} ${id}`).toString("base64url");
}

/** Null when the text is not a cursor of ours. */
export function decodeCursor(text: string): Cursor | null {
  const [, createdAt, id] =
    /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[+-]\d\d:\d\d|Z)) ([\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12})$/.exec(
      Buffer.from(text, "base64url").toString("utf8"),
    ) ?? [];
  return createdAt === undefined ||
    id === undefined ||
    Number.isNaN(Date.parse(createdAt))
    ? null
    : { createdAt, id };
}
