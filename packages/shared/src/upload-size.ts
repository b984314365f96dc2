// How many bytes to send to the database in one call. A batch that is too large for a slow line, or for a gateway on the way,
// would fail each time it is repeated. So the size is halved when a call fails for want of time or room, and grows again
// while calls are quick.
import { isTooLarge } from "./database-fault.ts";
import { hasCode } from "./errors.ts";
import { splitBySize } from "./queue/batch-size.ts";

/** A larger call would keep the database busy for longer than a request may wait. */
const MOST_BYTES = 2 * 1024 * 1024;
/** Small records never go one by one because of their size. */
const LEAST_BYTES = 64 * 1024;
const QUICK_MS = 1000;
const SLOW_MS = 3000;

/** After a failure it grows no more for so long: a size that has just failed would fail again. */
const REST_MS = 10_000;

/** Too large for a gateway, or no answer in time. A database that is away or says no tells nothing about sizes. */
function isForSize(error: unknown): boolean {
  if (isTooLarge(error)) return true;
  return (
    hasCode(error, "DATABASE_UNAVAILABLE") &&
    error.contact !== "unreached" &&
    error.contact !== "answered"
  );
}

export interface UploadSize {
  /** Consecutive items that may be sent together at present; an item that is larger is alone. */
  split: <Item>(
    items: readonly Item[],
    sizeOf: (item: Item) => number,
  ) => Item[][];
  /** Takes note of how a call went; `error` is null when it succeeded. */
  learn: (tookMs: number, error: unknown) => void;
  /** Runs a call and learns from it. */
  run: <Result>(call: () => Promise<Result>) => Promise<Result>;
}

/** `now` in ms. */
export function createUploadSize(now: () => number): UploadSize {
  let bytes = MOST_BYTES;
  let failedAt = -Infinity;
  const resize = (factor: number) => {
    bytes = Math.min(MOST_BYTES, Math.max(LEAST_BYTES, bytes * factor));
  };
  const learn: UploadSize["learn"] = (tookMs, error) => {
    if (error !== null) {
      if (!isForSize(error)) return;
      failedAt = now();
      resize(0.5);
    } else if (tookMs > SLOW_MS) resize(0.5);
    else if (tookMs < QUICK_MS && now() - failedAt >= REST_MS) resize(2);
  };
  return {
    split: (items, sizeOf) => splitBySize(items, sizeOf, bytes),
    learn,
    run: async (call) => {
      const startedAt = now();
      try {
        const result = await call();
        learn(now() - startedAt, null);
        return result;
      } catch (error) {
        learn(now() - startedAt, error);
        throw error;
      }
    },
  };
}
