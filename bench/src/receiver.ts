// The benchmark's receiver: as little HTTP as a keep-alive POST needs, so that it is never what is measured. Every case, the
// reference included, sends to it. Paths: /ok, /slow/...?ms=n (answers after n ms), /hang (never answers); `at=<ms>` in the query
// says when, in ms since 1970, the request should have arrived. GET /stats reports and resets.
import { createServer } from "node:net";

interface Stats {
  received: number;
  /** Arrival minus the moment in the query, ms, of each request that names one. */
  lateness: number[];
  /** When each request arrived, ms since 1970. */
  arrivals: number[];
}

const empty = (): Stats => ({ received: 0, lateness: [], arrivals: [] });
const ANSWER = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
let stats = empty();

function count(query: URLSearchParams): void {
  const now = Date.now();
  stats.received++;
  stats.arrivals.push(now);
  const at = query.get("at");
  if (at !== null) stats.lateness.push(now - Number(at));
}

function answer(head: string): { text: string | null; afterMs: number } {
  const target = head.slice(head.indexOf(" ") + 1, head.indexOf(" HTTP/"));
  if (head.startsWith("GET")) {
    const text = JSON.stringify(stats);
    stats = empty();
    return {
      text: `HTTP/1.1 200 OK\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
      afterMs: 0,
    };
  }
  if (!target.includes("?")) {
    // The common case, without a query to read.
    stats.received++;
    stats.arrivals.push(Date.now());
    return { text: target === "/hang" ? null : ANSWER, afterMs: 0 };
  }
  const query = new URLSearchParams(target.slice(target.indexOf("?")));
  count(query);
  return { text: ANSWER, afterMs: Number(query.get("ms") ?? 0) };
}

const server = createServer((socket) => {
  let buffered = "";
  socket.setNoDelay(true);
  socket.on("error", () => undefined); // a sender that gave up
  socket.on("data", (chunk) => {
    // latin1: one character per byte, so that content-length can be compared with the length of the text.
    buffered += chunk.toString("latin1");
    for (;;) {
      const end = buffered.indexOf("\r\n\r\n");
      if (end === -1) return;
      const head = buffered.slice(0, end + 2);
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
      if (buffered.length < end + 4 + length) return;
      buffered = buffered.slice(end + 4 + length);
      const { text, afterMs } = answer(head);
      if (text === null) continue;
      if (afterMs === 0) socket.write(text);
      else setTimeout(() => socket.write(text), afterMs);
    }
  });
});
server.listen(Number(process.env["PORT"]), "127.0.0.1");
