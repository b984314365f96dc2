// The clients' endpoints, looked up together and kept for a while: a retry uses the endpoint's present URL and secret.
//
//   read within the last second   served
//   longer ago, or never          read again and waited for: a quarter of a second, or half of one if it was never read
//
// If the answer does not come in that time, the database counts as slow, and nobody waits for it until it has answered
// quickly again: what is known is served at once for up to an hour, and what is not known rejects, so that the delivery waits in its list.
// An attempt therefore never holds its slot for longer than half a second because of a look-up.
import { createBatcher } from "@pipeline/shared/batcher";
import { PipelineError } from "@pipeline/shared/errors";
import { originOf } from "@pipeline/shared/mask-url";
import type { Endpoint, ReadEndpoints } from "./read-endpoints.ts";

export interface Endpoints {
  /** Null: no such endpoint. Rejects with DATABASE_UNAVAILABLE when it is not known and the database does not say. */
  find: (endpointId: string) => Promise<Endpoint | null>;
  /** Where the endpoint's URL leads; null when it has not been looked up, or has no valid URL. */
  originOf: (endpointId: string) => string | null;
  /** For this process, until the row has been written to; the attempt's record switches it off in the database. */
  disable: (endpointId: string) => void;
}

/** Shorter than any retry delay in use, so that a retry goes by the settings as they are then. */
const FRESH_FOR_MS = 1000;
const SERVED_WHILE_SLOW_FOR_MS = 3_600_000;
const WAIT_IF_KNOWN_MS = 250;
const WAIT_IF_UNKNOWN_MS = 500;
/** Between reads while the database is slow: what was asked for is answered for all. */
const ASK_AGAIN_MS = 1000;
/** The record of a 410 may be as late as the log is long. */
const DISABLED_FOR_MS = 600_000;
const KEPT_ENDPOINTS = 50_000;
const KEPT_CHARACTERS = 32 * 1024 * 1024;
const KEPT_DISABLED = 10_000;

interface Known {
  endpoint: Endpoint | null;
  readAt: number;
}

function sizeOf({ endpoint }: Known): number {
  if (endpoint === null) return 0;
  const { url, secret, headers } = endpoint;
  return url.length + (secret?.length ?? 0) + (headers?.length ?? 0);
}

/** The endpoints that were read last, within a number and a size. */
function createKept() {
  const known = new Map<string, Known>();
  let characters = 0;

  function forget(id: string): void {
    const entry = known.get(id);
    if (entry === undefined) return;
    known.delete(id);
    characters -= sizeOf(entry);
  }

  return {
    get: (id: string) => known.get(id),
    set: (id: string, entry: Known) => {
      forget(id);
      known.set(id, entry);
      characters += sizeOf(entry);
      for (const oldest of known.keys()) {
        if (known.size <= KEPT_ENDPOINTS && characters <= KEPT_CHARACTERS)
          break;
        forget(oldest);
      }
    },
  };
}

/** False when the time is over first. Never rejects. */
async function endsWithin(ms: number, task: Promise<void>): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(resolve, ms, false);
  const ended = task.then(
    () => true,
    () => true,
  );
  const isInTime = await Promise.race([ended, promise]);
  clearTimeout(timer);
  return isInTime;
}

/** `now` is monotonic, in ms. */
export function createEndpoints(
  read: ReadEndpoints,
  now: () => number,
): Endpoints {
  const kept = createKept();
  const reading = new Map<string, Promise<void>>();
  const disabled = new Map<string, { endpoint: Endpoint; until: number }>();
  let isSlow = false;
  let askAt = 0;
  let fault: unknown;
  const batcher = createBatcher({
    maxItems: 100,
    delayMs: 2,
    maxConcurrent: 2,
    maxConcurrentPartial: 2,
    run: read,
  });

  /** As the row is, unless it still says what it said when its receiver answered 410. */
  function present(id: string, endpoint: Endpoint | null): Endpoint | null {
    const mark = disabled.get(id);
    if (mark === undefined) return endpoint;
    const isUnchanged =
      endpoint?.isActive === true &&
      endpoint.url === mark.endpoint.url &&
      endpoint.updatedAt === mark.endpoint.updatedAt;
    if (isUnchanged && now() < mark.until)
      return { ...endpoint, isActive: false };
    disabled.delete(id);
    return endpoint;
  }

  async function refresh(id: string): Promise<void> {
    const askedAt = now();
    try {
      const endpoint = await batcher.add(id);
      kept.set(id, { endpoint: present(id, endpoint), readAt: now() });
      isSlow = now() - askedAt > WAIT_IF_UNKNOWN_MS;
    } catch (error) {
      fault = error;
      turnSlow();
    } finally {
      reading.delete(id);
    }
  }

  function turnSlow(): void {
    isSlow = true;
    askAt = now() + ASK_AGAIN_MS;
  }

  /** One read per id at a time; while the database is slow, one bundle of reads a second. */
  function readAgain(id: string): Promise<void> {
    const running = reading.get(id);
    if (running !== undefined) return running;
    if (isSlow && (now() < askAt || reading.size >= 100))
      return Promise.resolve();
    const task = refresh(id);
    reading.set(id, task);
    return task;
  }

  /**
   * Also a disabled one: to put its deliveries off would let those that carry a URL of their own go there. But that there
   * is no such endpoint ends a delivery for good, and may have changed.
   */
  const isGoodWhileSlow = ({ endpoint, readAt }: Known): boolean =>
    endpoint !== null && now() - readAt < SERVED_WHILE_SLOW_FOR_MS;

  return {
    find: async (endpointId) => {
      const entry = kept.get(endpointId);
      if (entry !== undefined && now() - entry.readAt < FRESH_FOR_MS)
        return entry.endpoint;
      const task = readAgain(endpointId);
      if (!isSlow) {
        const ms = entry === undefined ? WAIT_IF_UNKNOWN_MS : WAIT_IF_KNOWN_MS;
        if (!(await endsWithin(ms, task))) turnSlow();
      }
      const latest = kept.get(endpointId);
      if (latest !== undefined && now() - latest.readAt < FRESH_FOR_MS)
        return latest.endpoint;
      if (entry !== undefined && isGoodWhileSlow(entry)) return entry.endpoint;
      throw new PipelineError(
        "DATABASE_UNAVAILABLE",
        "the endpoint could not be looked up in time",
        { cause: fault },
      );
    },
    originOf: (endpointId) =>
      originOf(kept.get(endpointId)?.endpoint?.url ?? null),
    disable: (endpointId) => {
      const endpoint = kept.get(endpointId)?.endpoint;
      if (endpoint === undefined || endpoint === null) return;
      for (const oldest of disabled.keys()) {
        if (disabled.size < KEPT_DISABLED) break;
        disabled.delete(oldest);
      }
      disabled.set(endpointId, { endpoint, until: now() + DISABLED_FOR_MS });
      kept.set(endpointId, {
        endpoint: { ...endpoint, isActive: false },
        readAt: now(),
      });
    },
  };
}
