// Bounds in bytes for what is read, written or moved in one go. Redis does one thing at a time, so a long command keeps
// everybody waiting.
import { MAX_PAYLOAD_BYTES } from "../entries.ts";

/**
 * The most that one command should carry. Measured with payloads of 250 kB: a script that parses and appends entries takes
 * 7 ms per MB, and a read takes 0.6 ms.
 */
export const BATCH_BYTES = 2 * 1024 * 1024;

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
export function createReadSize(bytes = BATCH_BYTES): ReadSize {
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
