// Bounds in bytes for what is read, written or moved in one go. Redis does one thing at a time, so a long command keeps
// everybody waiting.
import { MAX_PAYLOAD_BYTES } from "../entries.ts";

/**
 * The most that one script should carry. Measured with payloads of 250 kB: one that parses and appends entries takes 3 to 7 ms
 * of processor time per MB, and several times as long when other processes want the processor too.
 */
export const BATCH_BYTES = 1024 * 1024;
/** The most that one read should bring. It takes 0.6 ms per MB. */
export const READ_BYTES = 2 * BATCH_BYTES;

export interface ReadSize {
  /** How many of `count` entries may be read at once; at least one. */
  fit: (count: number) => number;
  /** Takes note of the sizes of what was read. */
  learn: (sizes: readonly number[]) => void;
  /** The usual size of an entry, in bytes. */
  typicalBytes: () => number;
}

/**
 * Redis bounds a read by the number of entries only. This turns a number of bytes into a number of entries, by the size of
 * those that were read before. It begins with the largest size that is allowed. A larger average counts at once, a smaller one by half.
 */
export function createReadSize(bytes = READ_BYTES): ReadSize {
  let typical = MAX_PAYLOAD_BYTES;
  return {
    fit: (count) =>
      Math.max(1, Math.min(count, Math.floor(bytes / Math.max(1, typical)))),
    learn: (sizes) => {
      if (sizes.length === 0) return;
      const sum = sizes.reduce((total, size) => total + size, 0);
      const mean = sum / sizes.length;
      typical = Math.max(mean, (typical + mean) / 2);
    },
    typicalBytes: () => typical,
  };
}

/** In bytes, near enough: short texts are taken for ASCII. */
export function sizeOf(text: string): number {
  return text.length < 1000 ? text.length : Buffer.byteLength(text);
}

/** The size of a flat list of names and values. */
export function sizeOfFields(flat: readonly string[]): number {
  let size = 0;
  for (const text of flat) size += sizeOf(text);
  return size;
}

/** Consecutive items whose sizes add up to at most `bytes`; an item that is larger is alone. */
export function splitBySize<Item>(
  items: readonly Item[],
  sizeOfItem: (item: Item) => number,
  bytes = BATCH_BYTES,
  mostItems = Infinity,
): Item[][] {
  const groups: Item[][] = [];
  let group: Item[] = [];
  let size = 0;
  for (const item of items) {
    const own = sizeOfItem(item);
    if (group.length > 0 && (size + own > bytes || group.length >= mostItems)) {
      groups.push(group);
      group = [];
      size = 0;
    }
    group.push(item);
    size += own;
  }
  if (group.length > 0) groups.push(group);
  return groups;
}
