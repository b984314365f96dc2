// Recognises the calls of the Lua scripts on their way to Redis.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

/** True of what a client sends when it calls the script: its text the first time, its digest from then on. */
export function callOf(name: string): (sent: Buffer) => boolean {
  const lua = readFileSync(
    new URL(`../../packages/shared/lua/${name}.lua`, import.meta.url),
    "utf8",
  );
  const digest = createHash("sha1").update(lua).digest("hex");
  const [header = ""] = lua.split("\n");
  return (sent) => sent.includes(digest) || sent.includes(header);
}
