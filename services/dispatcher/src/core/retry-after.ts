/** What a receiver may ask for at most. */
export const LONGEST_RETRY_AFTER_MS = 3_600_000;

/** Longer than any header that means something, even if it came a few times. */
const LONGEST_HEADER = 500;
const SECONDS = /^\d+(?:\.\d+)?$/;
/** A comma parts two values, but not the name of a day from its date. */
const BETWEEN_VALUES = /(?<!\b(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*),/i;
const ISO_DATE = /^\d{4}-\d\d-\d\dT/i;
const TIME_ZONE = /(?:GMT|UTC?|Z|[ECMP][SD]T|[+-]\d\d:?\d\d)$/i;

/** Ms since 1970. A date that names no zone, as asctime's does not, is meant in GMT (RFC 9110 §5.6.7). */
function parseDate(text: string): number {
  // Date.parse alone would take "3" for a year.
  if (!/[a-z]/i.test(text)) return Number.NaN;
  if (TIME_ZONE.test(text)) return Date.parse(text);
  return Date.parse(ISO_DATE.test(text) ? `${text}Z` : `${text} GMT`);
}

function asksFor(text: string, now: number): number {
  return SECONDS.test(text)
    ? Math.ceil(Number(text) * 1000)
    : parseDate(text) - now;
}

/**
 * Ms from `now` that a Retry-After header asks for: seconds, or an HTTP date (RFC 9110 §10.2.3). When it came several times
 * the longest wait counts. Null when absent or unreadable; at most an hour, at least 0.
 */
export function retryAfterMs(
  header: string | undefined,
  now: number,
): number | null {
  if (header === undefined || header.length > LONGEST_HEADER) return null;
  const waits = header
    .split(BETWEEN_VALUES)
    .map((text) => asksFor(text.trim(), now))
    .filter((ms) => !Number.isNaN(ms));
  return waits.length === 0
    ? null
    : Math.min(Math.max(...waits, 0), LONGEST_RETRY_AFTER_MS);
}
