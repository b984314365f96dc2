// Recognises the calls of the Lua scripts on their way to Redis.
import { createHash } from "node:crypto";
import { scriptText } from "@pipeline/shared/queue/script";

/** True of what a client sends when it calls the script: its text the first time, its digest from then on. */
export function callOf(name: string): (sent: Buffer) => boolean {
  const lua = scriptText(name);
  const digest = createHash("sha1").update(lua).digest("hex");
  return (sent) => sent.includes(digest) || sent.includes(lua);
}
