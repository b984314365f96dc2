// Entries whose bytes are not UTF-8. The client turns such bytes into U+FFFD, and what is sent would not be what the producer
// wrote. Reading everything as bytes would cost every entry, so only one that contains U+FFFD is fetched again as bytes.
import { isUtf8 } from "node:buffer";
import type { Redis } from "../redis.ts";
import type { StreamEntry } from "./group-reader.ts";

const REPLACEMENT = "\ufffd";

/** The fields that are not UTF-8: their names, and their bytes in base64. */
function undecodableOf(raw: Buffer[]): Map<string, string> {
  const found = new Map<string, string>();
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const [name, value] = [raw[i]!, raw[i + 1]!];
    if (!isUtf8(name) || !isUtf8(value))
      found.set(name.toString(), value.toString("base64"));
  }
  return found;
}

const isSuspect = ({ fields }: StreamEntry) =>
  fields.some((text) => text.includes(REPLACEMENT));

/** Resolves to the entries as they are, with what is not text marked; without those of which Redis did not answer. */
export function createTextCheck(commands: Redis, stream: string) {
  async function check(entry: StreamEntry): Promise<StreamEntry | null> {
    if (!isSuspect(entry)) return entry;
    try {
      const { entryId } = entry;
      const [found] = await commands.xrangeBuffer(stream, entryId, entryId);
      return found === undefined
        ? entry
        : { ...entry, undecodable: undecodableOf(found[1]) };
    } catch {
      return null; // it stays pending, and is taken over after the claim idle time
    }
  }

  return async (entries: StreamEntry[]): Promise<StreamEntry[]> => {
    if (!entries.some(isSuspect)) return entries;
    const checked = await Promise.all(entries.map(check));
    return checked.filter((entry) => entry !== null);
  };
}
