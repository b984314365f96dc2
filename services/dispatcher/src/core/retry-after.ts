/** What a receiver may ask for at most. */
export const LONGEST_RETRY_AFTER_MS = 3_600_000;

/**
 * Ms from `now` that a Retry-After header asks for: whole seconds, or an HTTP date (RFC 9110 §10.2.3). Null when absent or
 * unreadable; at most an hour, at least 0.
 */
export function retryAfterMs(
  header: string | undefined,
  now: number,
): number | null {
  if (header === undefined) return null;
  const text = header.trim();
  // Date.parse alone would take "3" for a year.
  const ms = /^\d+$/.test(text)
    ? Number(text) * 1000
    : /[a-z]/i.test(text)
      ? Date.parse(text) - now
      : Number.NaN;
  return Number.isNaN(ms)
    ? null
    : Math.min(Math.max(ms, 0), LONGEST_RETRY_AFTER_MS);
}
