// What the attempts at one endpoint, or at one origin, tell of it.

export interface Health {
  /** When the running attempts began, oldest first. All times in ms of a monotonic clock. */
  startedAt: number[];
  /** Moving average of the answer time; null before the first answer. */
  answerMs: number | null;
  answeredAt: number;
  /** When the last attempt that hung had begun. */
  hungAt: number;
  seenAt: number;
}

export const SHORTEST_OVERDUE_MS = 1000;
const NEW_ANSWER_WEIGHT = 0.2;

export function createHealth(now: number): Health {
  return {
    startedAt: [],
    answerMs: null,
    answeredAt: -Infinity,
    hungAt: -Infinity,
    seenAt: now,
  };
}

/** An attempt that takes longer is overdue: four times the usual answer time, at least a second. */
export function overdueAfterMs({ answerMs }: Health): number {
  return Math.max(SHORTEST_OVERDUE_MS, 4 * (answerMs ?? 0));
}

export function countOverdue(health: Health, now: number): number {
  const before = now - overdueAfterMs(health);
  const index = health.startedAt.findIndex((startedAt) => startedAt >= before);
  return index === -1 ? health.startedAt.length : index;
}

/**
 * Whether it seems to hang: an attempt is overdue or has hung, and nothing has answered since that one began. Single
 * requests that hang among others that are answered say nothing of the rest. One that began at the moment of an answer came
 * after it: an answer lets the next delivery go.
 */
export function isSick(health: Health, now: number): boolean {
  const { startedAt, answeredAt, hungAt } = health;
  if (hungAt > -Infinity && hungAt >= answeredAt) return true;
  const before = now - overdueAfterMs(health);
  if ((startedAt[0] ?? now) >= before) return false;
  const sinceAnswer = startedAt.find((each) => each >= answeredAt);
  return sinceAnswer !== undefined && sinceAnswer < before;
}

export function begin(health: Health, now: number): void {
  health.startedAt.push(now);
}

export function end(health: Health, startedAt: number): void {
  const index = health.startedAt.lastIndexOf(startedAt);
  if (index !== -1) health.startedAt.splice(index, 1);
}

export function answered(health: Health, startedAt: number, now: number): void {
  const { answerMs } = health;
  const ms = now - startedAt;
  health.answerMs =
    answerMs === null ? ms : answerMs + NEW_ANSWER_WEIGHT * (ms - answerMs);
  health.answeredAt = now;
}

export function hung(health: Health, startedAt: number): void {
  health.hungAt = Math.max(health.hungAt, startedAt);
}
