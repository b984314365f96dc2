import { readFileSync, statSync } from "node:fs";

const LOOK_INTERVAL_MS = 1000;

/**
 * A small file that an administrator may change while we run. It is read synchronously, which takes some 50 us at most once
 * a second: the threads that serve asynchronous reads can all be waiting for a name server themselves.
 */
export function createSystemFile<Content>(
  path: string,
  parse: (text: string) => Content,
  now: () => number,
): () => Content {
  let content = parse("");
  let version = "";
  let lookedAt = -Infinity;

  return () => {
    if (now() - lookedAt < LOOK_INTERVAL_MS) return content;
    lookedAt = now();
    try {
      const { mtimeMs, size, ino } = statSync(path);
      const found = `${mtimeMs} ${size} ${ino}`;
      if (found === version) return content;
      content = parse(readFileSync(path, "utf8"));
      version = found;
    } catch {
      // A system without this file is in order; a file that is just being replaced will be there next time.
    }
    return content;
  };
}
