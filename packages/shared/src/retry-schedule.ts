// When a failed delivery is tried again. Pure: the random number is a parameter.

/** Delays after attempt 1, 2, ... of a schedule, in seconds. */
export type RetrySchedule = readonly number[];

/** The delays that the Standard Webhooks specification recommends: ten attempts over three days. */
export const EXTENDED_SCHEDULE: RetrySchedule = [
  5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400,
];

/** `5,25,125`, or `extended`. Null when it is neither. */
export function parseRetrySchedule(text: string): RetrySchedule | null {
  if (text.trim() === "extended") return EXTENDED_SCHEDULE;
  const delays = text
    .split(",")
    .map((part) => (part.trim() === "" ? Number.NaN : Number(part)));
  return delays.every(
    (delay) => Number.isFinite(delay) && delay >= 0 && delay <= 7 * 86_400,
  )
    ? delays
    : null;
}

/** The number of attempts of a whole schedule, including the first. */
export function scheduleLength(schedule: RetrySchedule): number {
  return schedule.length + 1;
}

/** The number of the last attempt of a schedule that began with attempt `scheduleStart`. */
export function lastAttemptOf(
  scheduleStart: number,
  schedule: RetrySchedule,
): number {
  return scheduleStart + scheduleLength(schedule) - 1;
}

/**
 * Milliseconds from attempt `position` (from 1, within its schedule) to the next one; beyond the schedule's end its last
 * delay is repeated. `jitter` 0.1 moves the delay by up to 10 % either way; `random` is in [0, 1).
 */
export function retryDelayMs(
  schedule: RetrySchedule,
  position: number,
  jitter: number,
  random: number,
): number {
  const seconds = schedule[Math.min(position, schedule.length) - 1] ?? 0;
  return Math.round(seconds * 1000 * (1 + jitter * (2 * random - 1)));
}
