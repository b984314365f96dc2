// The benchmark's receiver. It speaks as little HTTP as a keep-alive POST needs, so that it is not what limits a case.
// Every case sends to it, and so does the reference. Paths:
//   /ok             answers at once
//   /hang           never answers
//   any?ms=<n>      answers after n ms
//   any?at=<time>   also counts how late the request is; <time> is in ms since 1970
//   GET /stats      answers with the counts, and starts them anew
import { createServer } from "node:net";

export interface ReceiverStats {
  /** When each request arrived, in ms since 1970. */
  arrivals: number[];
  /** Arrival minus `at`, in ms, of each request with `at` in its query. */
  lateness: number[];
}

const emptyStats = (): ReceiverStats => ({ arrivals: [], lateness: [] });
const OK = httpOk("ok");
let stats = emptyStats();

function httpOk(body: string): string {
  return `HTTP/1.1 200 OK\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

/** What to answer, and when. Null: never. */
function answer(head: string): { text: string; afterMs: number } | null {
  if (head.startsWith("GET")) {
    const text = httpOk(JSON.stringify(stats));
    stats = emptyStats();
    return { text, afterMs: 0 };
  }
  const now = Date.now();
  stats.arrivals.push(now);
  const target = head.slice(head.indexOf(" ") + 1, head.indexOf(" HTTP/"));
  if (target === "/hang") return null;
  const queryStart = target.indexOf("?");
  if (queryStart === -1) return { text: OK, afterMs: 0 };
  const query = new URLSearchParams(target.slice(queryStart));
  const at = query.get("at");
  if (at !== null) stats.lateness.push(now - Number(at));
  return { text: OK, afterMs: Number(query.get("ms") ?? 0) };
}

function listen(port: number): void {
  const server = createServer((socket) => {
    let buffered = "";
    socket.setNoDelay(true);
    socket.on("error", () => undefined); // the sender has given up
    socket.on("data", (chunk) => {
      // With latin1 every byte is one character, so content-length can be compared with the length of the text.
      buffered += chunk.toString("latin1");
      for (;;) {
        const end = buffered.indexOf("\r\n\r\n");
        if (end === -1) return;
        const head = buffered.slice(0, end + 2);
        const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
        if (buffered.length < end + 4 + length) return;
        buffered = buffered.slice(end + 4 + length);
        const reply = answer(head);
        if (reply === null) continue;
        if (reply.afterMs === 0) socket.write(reply.text);
        else setTimeout(() => socket.write(reply.text), reply.afterMs);
      }
    });
  });
  server.listen(port, "127.0.0.1");
}

if (import.meta.main) listen(Number(process.env["PORT"]));
