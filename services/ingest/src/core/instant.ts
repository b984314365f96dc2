// Moments to the microsecond, which is how exactly Postgres keeps them. A `Date` would cut them to milliseconds, and a filter
// by a `createdAt` from an answer would lose or repeat rows.

const INSTANT =
  /^(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d(?::\d\d)?)(?:\.(\d+))?(?:(Z)|([+ -])(\d\d):?(\d\d))?)?$/i;

/**
 * The time as ISO 8601 in UTC with six decimals; null when the text is no date or time of the years 1 to 9999. Without a zone,
 * UTC is meant. What is finer than a microsecond is rounded up or down.
 */
export function exactInstant(
  text: string,
  round: "up" | "down",
): string | null {
  const parts = INSTANT.exec(text);
  if (parts === null) return null;
  const [, date, time = "00:00", fraction = "", , sign, hours, minutes] = parts;
  // In a query string `+` means a blank, and our own times end with +00:00.
  const zone =
    sign === undefined ? "Z" : `${sign === "-" ? "-" : "+"}${hours}:${minutes}`;
  const wholeMs = Date.parse(`${date}T${time}${zone}`);
  if (Number.isNaN(wholeMs)) return null;
  const digits = fraction.padEnd(6, "0");
  const isRoundedUp = round === "up" && /[1-9]/.test(digits.slice(6));
  const micros = Number(digits.slice(0, 6)) + (isRoundedUp ? 1 : 0);
  const second = new Date(wholeMs + (micros === 1_000_000 ? 1000 : 0));
  const year = second.getUTCFullYear();
  if (year < 1 || year > 9999) return null;
  const decimals = String(micros % 1_000_000).padStart(6, "0");
  return `${second.toISOString().slice(0, 19)}.${decimals}Z`;
}

/** Of `exactInstant`'s answer: ms since 1970, rounded. */
export function toMs(instant: string, round: "up" | "down"): number {
  const ms = Date.parse(`${instant.slice(0, 23)}Z`);
  return round === "up" && instant.slice(23, 26) !== "000" ? ms + 1 : ms;
}
