import { setTimeout as sleep } from "node:timers/promises";

/** Thrown by the condition to end the wait at once, because asking again cannot help. */
export class GiveUp extends Error {}

/** Asks again and again until the answer is true. An error other than `GiveUp` counts as "not yet". */
export async function waitUntil(
  what: string,
  timeoutMs: number,
  isTrue: () => boolean | Promise<boolean>,
  pollMs = 15,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  let lastError: unknown;
  for (;;) {
    try {
      if (await isTrue()) return;
    } catch (error) {
      if (error instanceof GiveUp) throw error;
      lastError = error;
    }
    if (Date.now() > deadline)
      throw new Error(`${what}: not within ${timeoutMs / 1000} s`, {
        cause: lastError,
      });
    await sleep(pollMs);
  }
}
