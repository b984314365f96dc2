// Group commit: items that arrive within a few milliseconds travel together, and each caller gets its own result.

export interface BatcherOptions<Item, Result> {
  maxItems: number;
  /** Bounds the sizes of a batch's items, added up; an item that is larger travels alone. */
  maxBytes?: number;
  sizeOf?: (item: Item) => number;
  /** How long the first item of a batch waits for others. */
  delayMs: number;
  /** Batches running at once; further items wait, which makes the next batches larger. */
  maxConcurrent: number;
  /** The same limit for batches that are not full. Fewer calls at once mean larger calls, which cost less per item. */
  maxConcurrentPartial: number;
  /**
   * A batch that has run for longer than `afterMs` no longer counts to these limits, so that what comes after a slow batch
   * need not wait for it; `maxBatches` may be slow at once. Without this, every batch counts until it ends.
   */
  slow?: { afterMs: number; maxBatches: number };
  /** Resolves to one result per item, in order. A rejection rejects every item of the batch. */
  run: (items: Item[]) => Promise<Result[]>;
}

export interface Batcher<Item, Result> {
  add: (item: Item) => Promise<Result>;
  /** Resolves when nothing is waiting or running. */
  drain: () => Promise<void>;
}

interface Waiting<Item, Result> {
  item: Item;
  size: number;
  resolve: (result: Result) => void;
  reject: (error: unknown) => void;
}

export function createBatcher<Item, Result>(
  options: BatcherOptions<Item, Result>,
): Batcher<Item, Result> {
  const { maxItems, maxBytes = Infinity, sizeOf = () => 0 } = options;
  let waiting: Waiting<Item, Result>[] = [];
  let waitingBytes = 0;
  let timer: NodeJS.Timeout | undefined;
  const running = new Set<Promise<void>>();
  let slow = 0;

  async function run(batch: Waiting<Item, Result>[]): Promise<void> {
    try {
      const results = await options.run(batch.map(({ item }) => item));
      for (const [index, { resolve }] of batch.entries())
        resolve(results[index]!);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  const isFull = () => waiting.length >= maxItems || waitingBytes >= maxBytes;

  function nextBatch(): Waiting<Item, Result>[] {
    let count = 0;
    let bytes = 0;
    for (const { size } of waiting) {
      if (count === maxItems || (count > 0 && bytes + size > maxBytes)) break;
      count++;
      bytes += size;
    }
    const batch = waiting.slice(0, count);
    waiting = waiting.slice(count);
    waitingBytes -= bytes;
    return batch;
  }

  function mayStart(): boolean {
    if (waiting.length === 0) return false;
    return (
      running.size - slow <
      (isFull() ? options.maxConcurrent : options.maxConcurrentPartial)
    );
  }

  function watch(): () => void {
    if (options.slow === undefined) return () => undefined;
    const { afterMs, maxBatches } = options.slow;
    let isSlow = false;
    const slowTimer = setTimeout(() => {
      if (slow >= maxBatches) return;
      isSlow = true;
      slow++;
      if (timer === undefined) flush();
    }, afterMs);
    return () => {
      clearTimeout(slowTimer);
      if (isSlow) slow--;
    };
  }

  function flush(): void {
    clearTimeout(timer);
    timer = undefined;
    while (mayStart()) {
      const stopWatch = watch();
      const round = run(nextBatch()).finally(() => {
        running.delete(round);
        stopWatch();
        if (waiting.length > 0 && timer === undefined) flush();
      });
      running.add(round);
    }
  }

  return {
    add: (item) =>
      new Promise((resolve, reject) => {
        const size = sizeOf(item);
        waiting.push({ item, size, resolve, reject });
        waitingBytes += size;
        if (isFull()) flush();
        else timer ??= setTimeout(flush, options.delayMs);
      }),
    drain: async () => {
      while (waiting.length > 0 || running.size > 0) {
        flush();
        await Promise.all(running);
      }
    },
  };
}
