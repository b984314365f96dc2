// A receiver for many deliveries: it keeps a few numbers per webhook-id instead of whole requests.
//   /ok  /500  /404  /flaky/<n> fails n times first  /slow/<ms>  /slow-500/<ms>
//   /hang/… never answers, and /busy/… answers 429 to more than ten a second, until `recover` is called
import { createHash } from "node:crypto";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

const BUSY_PER_SECOND = 10;

export interface Tally {
  path: string;
  /** When each request came, ms since 1970. */
  requestedAt: number[];
  /** Requests that were answered 2xx, or would have been had the sender stayed. */
  accepted: number;
}

export interface TallyReceiver {
  url: string;
  tallies: Map<string, Tally>;
  /** What must never happen: a request without an id, or one id with two payloads. */
  faults: string[];
  requests: () => number;
  /** What hangs answers from now on, and nothing is too much any more. */
  recover: () => void;
  close: () => Promise<void>;
}

export async function startTallyReceiver(): Promise<TallyReceiver> {
  const tallies = new Map<string, Tally>();
  const digests = new Map<string, string>();
  const faults: string[] = [];
  let requests = 0;
  let isWell = false;
  /** In the present second. */
  const taken = { second: 0, count: 0 };

  function isTooMuch(): boolean {
    const second = Math.floor(Date.now() / 1000);
    if (taken.second !== second) Object.assign(taken, { second, count: 0 });
    return !isWell && ++taken.count > BUSY_PER_SECOND;
  }

  function answer(tally: Tally, response: ServerResponse): void {
    const [, mode, value] = tally.path.split(/[/?]/);
    const end = (status: number) => {
      if (status === 200) tally.accepted++;
      response.writeHead(status).end();
    };
    if (mode === "hang" && !isWell) return;
    if (mode === "slow") setTimeout(end, Number(value), 200);
    else if (mode === "slow-500") setTimeout(end, Number(value), 500);
    else if (mode === "flaky")
      end(tally.requestedAt.length > Number(value) ? 200 : 500);
    else if (mode === "busy") end(isTooMuch() ? 429 : 200);
    else if (mode === "hang" || tally.path === "/ok") end(200);
    else end(Number(mode) || 404);
  }

  function take(
    id: string,
    path: string,
    body: Buffer,
    response: ServerResponse,
  ): void {
    requests++;
    // Rebuilt from Postgres, a payload is the same JSON in jsonb's spelling.
    const json = JSON.stringify(JSON.parse(body.toString()));
    const digest = createHash("sha1").update(json).digest("base64");
    if (id === "") faults.push("a request without a webhook-id");
    if ((digests.get(id) ?? digest) !== digest)
      faults.push(`${id}: two payloads under one webhook-id`);
    digests.set(id, digest);
    let tally = tallies.get(id);
    if (tally === undefined) {
      tally = { path, requestedAt: [], accepted: 0 };
      tallies.set(id, tally);
    }
    tally.requestedAt.push(Date.now());
    answer(tally, response);
  }

  const server = createServer((request, response) => {
    const id = String(request.headers["webhook-id"] ?? "");
    buffer(request).then(
      (body) => take(id, request.url ?? "", body, response),
      () => undefined, // the sender was killed in the middle of its request
    );
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    tallies,
    faults,
    requests: () => requests,
    recover: () => {
      isWell = true;
    },
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}
