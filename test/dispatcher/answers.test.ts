// Answers as receivers send them, whole and broken: a status that was read decides, whatever follows it.
import type { Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import { type RawAnswer, rawReceiver } from "../support/raw-receiver.ts";

const DEADLINE_MS = 1000;
let own: OwnStream;
beforeAll(async () => {
  own = await startOwnStream({
    // The zone shows whether dates that name none are taken for GMT.
    env: { ATTEMPT_TIMEOUT_MS: String(DEADLINE_MS), TZ: "America/New_York" },
  });
});
afterAll(() => own.close());

async function deliver(answer: RawAnswer) {
  const receiver = await rawReceiver(answer);
  const id = await own.add({
    webhook_url: receiver.url,
    payload: "{}",
    max_attempts: "1",
  });
  const row = await own.ended(id);
  const [attempt] = await own.attempts(id);
  expect(receiver.requests).toHaveLength(1);
  return { ...attempt!, status: row.status };
}

/** Writes each piece when the one before has certainly been read. */
async function inPieces(socket: Socket, pieces: Iterable<string>) {
  for (const piece of pieces) {
    socket.write(piece);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function drip(socket: Socket, beginning: string, piece: string): void {
  socket.write(beginning);
  const timer = setInterval(() => socket.write(piece), 50);
  socket.once("close", () => clearInterval(timer));
}

const BROKEN: [string, string, string][] = [
  ["a body that is cut", "content-length: 100\r\n\r\nabc", "abc"],
  [
    "a chunked body that is cut",
    "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nde",
    "abcde",
  ],
  [
    "a chunked body with a wrong size",
    "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
    "abc",
  ],
  [
    "two equal lengths",
    "content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "abc",
  ],
  [
    "two different lengths",
    "content-length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "abc",
  ],
  ["a list of lengths", "content-length: 3, 3\r\n\r\nabc", "abc"],
  [
    "both framings",
    "transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "",
  ],
  [
    "both framings, the other way round",
    "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "",
  ],
  [
    "a header that is none",
    "x y: z\r\nno colon\r\ncontent-length: 3\r\n\r\nabc",
    "abc",
  ],
  ["headers that are cut", "x-a: b\r\nx-c", ""],
];

describe.each(BROKEN)("an answer with %s", (_, rest, body) => {
  test("that says 201 is a success", async () => {
    const ended = await deliver((socket) =>
      socket.end(`HTTP/1.1 201 Created\r\n${rest}`),
    );
    expect(ended).toMatchObject({
      status: "success",
      response_status: 201,
      response_body: body,
      error: null,
      error_type: null,
    });
  });

  test("that says 404 is final", async () => {
    const ended = await deliver((socket) =>
      socket.end(`HTTP/1.1 404 Not Found\r\n${rest}`),
    );
    expect(ended).toMatchObject({
      status: "failed",
      response_status: 404,
      error: "HTTP 404",
      error_type: "http",
    });
  });

  test("that says 429 keeps its Retry-After, also when it comes in pieces", async () => {
    const answer = `HTTP/1.1 429 Slow down\r\nretry-after: 7\r\n${rest}`;
    for (const size of [answer.length, 10]) {
      const pieces = answer.match(new RegExp(`[^]{1,${size}}`, "g"))!;
      const ended = await deliver((socket) => {
        void inPieces(socket, pieces).then(() => socket.end());
      });
      expect(ended).toMatchObject({
        response_status: 429,
        response_headers: { "retry-after": "7" },
      });
    }
  });
});

test.each<[string, (socket: Socket) => void]>([
  ["stops in its body", (s) => void s.write("content-length: 9\r\n\r\nabc")],
  ["drips its body", (s) => drip(s, "content-length: 900\r\n\r\n", ".")],
  [
    "drips its chunks",
    (s) => drip(s, "transfer-encoding: chunked\r\n\r\n", "1\r\n.\r\n"),
  ],
  ["has a body without end", (s) => drip(s, "\r\n", "x".repeat(100))],
  ["drips its headers", (s) => drip(s, "", "x-a: b\r\n")],
  ["stops in its headers", (s) => void s.write("x-a: b\r\n")],
])(
  "an answer that %s ends at the deadline with its status",
  async (_, behave) => {
    const ended = await deliver((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n");
      behave(socket);
    });
    expect(ended).toMatchObject({ status: "success", response_status: 200 });
    expect(ended.duration_ms).toBeGreaterThanOrEqual(DEADLINE_MS - 5);
  },
);

test("headers without end are cut off, and their status counts", async () => {
  const ended = await deliver((socket) =>
    drip(socket, "HTTP/1.1 500 Oops\r\n", `x-a: ${"b".repeat(8000)}\r\n`),
  );
  expect(ended).toMatchObject({ error_type: "http", response_status: 500 });
  expect(ended.duration_ms).toBeLessThan(DEADLINE_MS - 100);
});

test.each([
  ["that is cut in its status line", "HTTP/1.1 20"],
  ["that is a greeting of another protocol", "220 mail.example ESMTP\r\n"],
  ["that is a page without a head", "<html>HTTP/1.1 200 OK\r\n\r\n"],
])("an answer %s has no status", async (_, bytes) => {
  const ended = await deliver((socket) => socket.end(bytes));
  expect(ended).toMatchObject({
    status: "failed",
    error_type: "network",
    response_status: null,
  });
});

const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n";

test.each([
  ["100", CONTINUE],
  ["102", "HTTP/1.1 102 Processing\r\n\r\n"],
  ["103", "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"],
  ["101", "HTTP/1.1 101 Switching\r\n\r\n"],
  ["many of them", CONTINUE.repeat(20)],
  ["100, of HTTP/1.0", "HTTP/1.0 100 Continue\r\n\r\n"],
])(
  "informational answers that nobody asked for (%s) are passed over",
  async (_, informational) => {
    const answer = informational + OK;
    for (const size of [answer.length, informational.length, 7]) {
      const pieces = answer.match(new RegExp(`[^]{1,${size}}`, "g"))!;
      const ended = await deliver((socket) => void inPieces(socket, pieces));
      expect(ended).toMatchObject({
        status: "success",
        response_status: 200,
        response_body: "ok",
      });
    }
  },
);

test("informational answers without end are a network failure", async () => {
  const ended = await deliver((socket) => drip(socket, "", CONTINUE.repeat(9)));
  expect(ended).toMatchObject({
    error_type: "network",
    error: "informational answers without end",
  });
});

test.each([
  ["lines that end with LF alone", OK.replaceAll("\r", "")],
  ["line breaks before it", `\r\n\r\n${OK}`],
  ["no reason", "HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok"],
  ["one byte at a time", OK],
])("an answer with %s is understood", async (how, answer) => {
  const pieces = how.startsWith("one byte") ? answer : [answer];
  const ended = await deliver((socket) => void inPieces(socket, pieces));
  expect(ended).toMatchObject({
    status: "success",
    response_status: 200,
    response_body: "ok",
  });
});

test.each([
  ["one header of 20 kB", `x-a: ${"b".repeat(20_000)}\r\n`],
  ["headers of 60 kB together", `x-a: ${"b".repeat(500)}\r\n`.repeat(118)],
])(
  "an answer with %s is understood, and little of it is kept",
  async (_, headers) => {
    const server = `server: ${"s".repeat(900)}\r\n`;
    const ended = await deliver((socket) =>
      socket.write(
        `HTTP/1.1 200 OK\r\n${headers}${server}content-length: 2\r\n\r\nok`,
      ),
    );
    expect(ended).toMatchObject({
      status: "success",
      response_body: "ok",
      response_headers: { server: "s".repeat(500), "content-length": "2" },
    });
  },
);

test("where a redirect leads is kept without its path", async () => {
  const ended = await deliver((socket) =>
    socket.end(
      "HTTP/1.1 302 Found\r\nlocation: https://hooks.test/marker-path\r\ncontent-length: 0\r\n\r\n",
    ),
  );
  expect(ended).toMatchObject({
    response_status: 302,
    response_headers: { location: "https://hooks.test/***" },
  });
  expect(JSON.stringify(ended)).not.toContain("marker-path");
  expect(own.output()).not.toContain("marker-path");
});

test.each([
  ["of asctime", () => asctime(new Date(Date.now() + 61_000))],
  ["with a fraction", () => "60.0"],
  ["that comes twice", () => "60\r\nretry-after: 60"],
])("a Retry-After %s is kept to", async (_, retryAfter) => {
  const receiver = await rawReceiver((socket) => {
    socket.end(
      `HTTP/1.1 503 Busy\r\nretry-after: ${retryAfter()}\r\ncontent-length: 0\r\n\r\n`,
    );
  });
  const fields = { webhook_url: receiver.url, payload: "{}" };
  const id = await own.add(fields);
  const dueAt = async () =>
    Number(await own.redis.zscore(own.keys.retries, id));
  await expect.poll(dueAt, { timeout: 10_000 }).toBeGreaterThan(0);
  const waitMs = (await dueAt()) - Date.now();
  expect(waitMs).toBeGreaterThan(50_000);
  expect(waitMs).toBeLessThanOrEqual(62_000);
  await own.redis.zrem(own.keys.retries, id);
  await own.redis.hdel(own.keys.retriesData, id);
  await own.redis.hdel(own.keys.homes, id);
});

/** As C's function of that name writes a date, without a zone. */
function asctime(date: Date): string {
  const [day, dayOfMonth, month, year, time] = date
    .toUTCString()
    .replace(",", "")
    .split(" ");
  return `${day} ${month} ${String(Number(dayOfMonth)).padStart(2)} ${time} ${year}`;
}
