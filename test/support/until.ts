import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 20;

/** Resolves to the first truthy value of `condition`; rejects after `timeoutMs`, telling the last value or error. */
export async function until<Value>(
  what: string,
  condition: () => Value | Promise<Value>,
  timeoutMs = 20_000,
): Promise<NonNullable<Value>> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    let last: unknown;
    try {
      const value = await condition();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) {
      throw new Error(
        `not within ${timeoutMs} ms: ${what} (last: ${String(last)})`,
        { cause: last },
      );
    }
    await sleep(POLL_MS);
  }
}
