// Deliveries whose client was told that nobody knows whether they were stored. They may be, or may yet be: a commit may
// take long, and a gateway may pass a call on late. One without an idempotency key is sent again under another id by a
// client that obeys, so it is withdrawn when it is found: it must never be sent. One with a key is what the repeated request
// will get, so it goes into the queue when it is found.
import type { Delivery } from "@pipeline/shared/entries";
import { abortableSleep, createLoop, type Loop } from "@pipeline/shared/loop";
import type { Logger } from "@pipeline/shared/logger";
import type { DeliveryCreations } from "./adapters/delivery-rows.ts";

export interface Unsure {
  add: (id: string, hasKey: boolean) => void;
  /** Looks for a page of them. Resolves to the ms until the next round. */
  runOnce: () => Promise<number>;
  start: Loop["start"];
  /** Looks once more and then names what was not found. */
  stop: () => Promise<void>;
}

export interface UnsureOptions {
  writes: Pick<DeliveryCreations, "withdraw" | "pending">;
  enqueue: (deliveries: Delivery[]) => Promise<number>;
  logger: Logger;
  now: () => number;
}

/** Calls without an answer shut the gate, so more than a few thousand are not to be expected. Some 100 bytes each. */
const REMEMBERED = 20_000;
/** Ids travel in the URL. */
const PAGE = 100;
/** Sooner than reconcile looks, however it is configured. */
const PAUSE_MS = 100;
/** Most are found at once or never existed. */
const SOON_MS = 30_000;
const LATER_PAUSE_MS = 5000;
const LOOKED_FOR_MS = 600_000;
const IDLE_MS = 60_000;
const STOP_MS = 3000;

export function createUnsure(options: UnsureOptions): Unsure {
  const { writes, enqueue, logger, now } = options;
  const looked = new Map<string, { since: number; hasKey: boolean }>();

  async function withdraw(ids: string[]): Promise<string[]> {
    const withdrawn = await writes.withdraw(ids);
    if (withdrawn.length > 0)
      logger.info({ count: withdrawn.length }, "deliveries.withdrawn");
    return withdrawn;
  }

  async function enqueueFound(ids: string[]): Promise<string[]> {
    const found = await writes.pending(ids);
    if (found.length > 0) await enqueue(found);
    return found.map(({ id }) => id);
  }

  async function look(page: string[]): Promise<void> {
    const withKey = page.filter((id) => looked.get(id)!.hasKey);
    const withoutKey = page.filter((id) => !looked.get(id)!.hasKey);
    const found = [
      ...(withoutKey.length > 0 ? await withdraw(withoutKey) : []),
      ...(withKey.length > 0 ? await enqueueFound(withKey) : []),
    ];
    for (const id of found) looked.delete(id);
    for (const id of page) {
      const entry = looked.get(id);
      if (entry === undefined) continue;
      looked.delete(id);
      // To the end of the line.
      if (now() - entry.since < LOOKED_FOR_MS) looked.set(id, entry);
    }
  }

  async function runOnce(): Promise<number> {
    const page = [...looked.keys()].slice(0, PAGE);
    if (page.length > 0) await look(page);
    if (looked.size === 0) return IDLE_MS;
    const isRecent = [...looked.values()].some(
      ({ since }) => now() - since < SOON_MS,
    );
    const pauseMs = isRecent ? PAUSE_MS : LATER_PAUSE_MS;
    return (pauseMs * Math.min(looked.size, PAGE)) / looked.size;
  }

  const loop = createLoop({ name: "unsure", runOnce, logger });

  async function finish(): Promise<void> {
    await loop.stop();
    const all = [...looked.keys()];
    for (let start = 0; start < all.length; start += PAGE)
      await look(all.slice(start, start + PAGE));
  }

  return {
    runOnce,
    start: loop.start,
    add: (id, hasKey) => {
      if (looked.size >= REMEMBERED) {
        logger.warn({ deliveryIds: [id] }, "deliveries.unsure");
        return;
      }
      looked.set(id, { since: now(), hasKey });
      loop.wake();
    },
    stop: async () => {
      const finished = new AbortController();
      const isEnded = finish().then(
        () => finished.abort(),
        () => finished.abort(),
      );
      await Promise.race([isEnded, abortableSleep(STOP_MS, finished.signal)]);
      const deliveryIds = [...looked]
        .filter(([, { hasKey }]) => !hasKey)
        .map(([id]) => id);
      if (deliveryIds.length > 0)
        logger.warn({ deliveryIds }, "deliveries.unsure");
    },
  };
}
