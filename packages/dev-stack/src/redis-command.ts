import { connect } from "node:net";

export type RedisReply = string | number | null | RedisReply[];

/** Sends one command over a connection of its own, as redis-cli does. */
export function redisCommand(
  redisUrl: string,
  command: string[],
): Promise<RedisReply> {
  const { hostname, port } = new URL(redisUrl);
  return new Promise((resolve, reject) => {
    let received = "";
    const socket = connect({ host: hostname, port: Number(port || 6379) });
    // With latin1 every byte is one character, so lengths in the reply can be counted in characters.
    socket.setEncoding("latin1");
    socket.setTimeout(5_000, () =>
      socket.destroy(new Error("Redis does not answer")),
    );
    socket.once("error", reject);
    socket.once("close", () =>
      reject(new Error("Redis closed the connection")),
    );
    socket.on("data", (chunk: string) => {
      received += chunk;
      const parsed = parseReply(received, 0);
      if (parsed === undefined) return;
      if (parsed.reply instanceof Error) reject(parsed.reply);
      else resolve(parsed.reply);
      socket.destroy();
    });
    const parts = command.map(
      (part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`,
    );
    socket.write(`*${command.length}\r\n${parts.join("")}`);
  });
}

/** Undefined while the reply is incomplete. */
function parseReply(
  text: string,
  start: number,
): { reply: RedisReply | Error; end: number } | undefined {
  const lineEnd = text.indexOf("\r\n", start);
  if (lineEnd === -1) return undefined;
  const rest = text.slice(start + 1, lineEnd);
  const next = lineEnd + 2;
  switch (text.charAt(start)) {
    case "-":
      return { reply: new Error(rest), end: next };
    case ":":
      return { reply: Number(rest), end: next };
    case "$": {
      const length = Number(rest);
      if (length === -1) return { reply: null, end: next };
      if (text.length < next + length + 2) return undefined;
      const value = Buffer.from(text.slice(next, next + length), "latin1");
      return { reply: value.toString("utf8"), end: next + length + 2 };
    }
    case "*": {
      const items: RedisReply[] = [];
      let end = next;
      for (let count = Number(rest); count > 0; count--) {
        const item = parseReply(text, end);
        if (item === undefined || item.reply instanceof Error) return item;
        items.push(item.reply);
        end = item.end;
      }
      return { reply: items, end };
    }
    default:
      return { reply: rest, end: next };
  }
}
