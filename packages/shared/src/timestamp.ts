// Instants from outside. An entry id may be any number its producer likes, for example nanoseconds, and neither Date nor
// Postgres takes every number.

/** The last millisecond that ISO 8601 writes with four digits of the year; Postgres does not read Date's longer form. */
const LAST_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
/** 2001. What lies before was not ms since 1970: seconds, or a counter. */
const FIRST_PLAUSIBLE_MS = 1e12;
/** The clocks of producers and of Redis are not exactly ours. */
const PLAUSIBLE_LEAD_MS = 86_400_000;

/** ISO 8601 of ms since 1970. Never throws: what is out of range becomes the nearest instant, what is no number 1970. */
export function isoTime(ms: number): string {
  const known = Number.isNaN(ms) ? 0 : ms;
  return new Date(Math.min(Math.max(known, 0), LAST_MS)).toISOString();
}

/** When a stream entry was added, ms since 1970, as its id says; `otherwise` if that cannot be the time. */
export function entryTime(entryId: string, otherwise: number): number {
  const ms = Number(entryId.split("-", 1)[0]);
  return ms >= FIRST_PLAUSIBLE_MS && ms <= otherwise + PLAUSIBLE_LEAD_MS
    ? ms
    : otherwise;
}
