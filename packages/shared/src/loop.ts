import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";

export interface Loop {
  start: () => void;
  /** Skips the wait between rounds, now or after the running round. The wait after a fault is not skipped. */
  wake: () => void;
  /** Ends the loop after the current round. Idempotent. */
  stop: () => Promise<void>;
}

export interface LoopOptions {
  name: string;
  /** One round. Resolves to the ms to wait before the next one. */
  runOnce: (signal: AbortSignal) => Promise<number>;
  logger: Logger;
}

export interface InsistOptions {
  signal: AbortSignal;
  pauseMs: number;
  onFault: (error: unknown) => void;
}

const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 5000;
const FAULT_LOG_INTERVAL_MS = 10_000;

/** Resolves early, without an error, when the signal aborts. */
export async function abortableSleep(
  ms: number,
  signal: AbortSignal,
): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch {
    // aborted: the caller looks at the signal
  }
}

/** Repeats until `ask` resolves, for work in hand that must not be dropped at the first fault. Null when the signal aborts. */
export async function insist<Result>(
  ask: () => Promise<Result>,
  { signal, pauseMs, onFault }: InsistOptions,
): Promise<Result | null> {
  while (!signal.aborted) {
    try {
      return await ask();
    } catch (error) {
      onFault(error);
      await abortableSleep(pauseMs, signal);
    }
  }
  return null;
}

/** Runs rounds until stopped, never two at once. Faults are logged at most every 10 s; the pause after one grows to 5 s. */
export function createLoop({ name, runOnce, logger }: LoopOptions): Loop {
  const controller = new AbortController();
  const { signal } = controller;
  let running: Promise<void> | undefined;
  let isWoken = false;
  let endWait: (() => void) | undefined;

  async function wait(ms: number): Promise<void> {
    if (isWoken || signal.aborted || ms <= 0) return;
    const waiting = new AbortController();
    endWait = () => waiting.abort();
    await abortableSleep(ms, waiting.signal);
    endWait = undefined;
  }

  async function run(): Promise<void> {
    let faults = 0;
    // Not reset on recovery, or a dependency that comes and goes would be logged every time.
    let loggedAt = -Infinity;
    let hasLoggedFault = false;
    while (!signal.aborted) {
      isWoken = false;
      try {
        const waitMs = await runOnce(signal);
        if (hasLoggedFault)
          logger.info({ loop: name, faults }, "loop.recovered");
        hasLoggedFault = false;
        faults = 0;
        await wait(waitMs);
      } catch (error) {
        if (signal.aborted) break;
        faults++;
        if (performance.now() - loggedAt >= FAULT_LOG_INTERVAL_MS) {
          logger.warn({ loop: name, err: error, faults }, "loop.faulted");
          loggedAt = performance.now();
          hasLoggedFault = true;
        }
        const backoffMs = Math.min(
          FIRST_BACKOFF_MS * 2 ** Math.min(faults - 1, 10),
          LONGEST_BACKOFF_MS,
        );
        await abortableSleep(backoffMs, signal);
      }
    }
  }

  return {
    start: () => {
      running ??= run();
    },
    wake: () => {
      isWoken = true;
      endWait?.();
    },
    stop: async () => {
      controller.abort();
      endWait?.();
      await running;
    },
  };
}
