// Receivers close connections that have been idle. What is sent at that moment must arrive all the same, within its attempt.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import { rawReceiver } from "../support/raw-receiver.ts";

let own: OwnStream;
beforeAll(async () => {
  own = await startOwnStream({
    env: { ATTEMPT_TIMEOUT_MS: "2000", RATE_LIMIT_PER_SECOND: "0" },
  });
});
afterAll(() => own.close());

const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async function deliver(webhook_url: string) {
  const id = await own.add({ webhook_url, payload: "{}", max_attempts: "1" });
  const row = await own.ended(id);
  const attempts = await own.attempts(id);
  expect(attempts).toHaveLength(1);
  return { id, status: row.status, ...attempts[0] };
}

async function deliverMany(webhook_url: string, count: number) {
  const ids = [];
  for (let i = 0; i < count; i++) {
    ids.push(await own.add({ webhook_url, payload: "{}", max_attempts: "1" }));
    await new Promise((resolve) => setTimeout(resolve, i % 12));
  }
  return Promise.all(
    ids.map(async (id) => ({ id, status: (await own.ended(id)).status })),
  );
}

test.each([
  ["closes", "end"],
  ["resets", "resetAndDestroy"],
  ["drops", "destroy"],
] as const)(
  "a receiver that %s a reused connection gets every delivery within its one attempt",
  async (_, hangUp) => {
    const receiver = await rawReceiver((socket, { onConnection }) => {
      if (onConnection === 1) socket.write(OK);
      else socket[hangUp]();
    });
    const ended = await deliverMany(receiver.url, 60);
    expect(ended.filter(({ status }) => status !== "success")).toEqual([]);
    // Otherwise no connection was used a second time, and nothing is shown here.
    expect(receiver.requests.some(({ onConnection }) => onConnection > 1)).toBe(
      true,
    );
    const seen = Map.groupBy(receiver.requests, ({ id }) => id);
    expect(Math.max(...Array.from(seen.values(), ({ length }) => length))).toBe(
      2,
    );
  },
);

test("a receiver that closes its connections after a few idle milliseconds gets every delivery once", async () => {
  const receiver = await rawReceiver((socket) => {
    socket.write(OK);
    socket.setTimeout(5, () => socket.end());
  });
  const ended = await deliverMany(receiver.url, 200);
  expect(ended.filter(({ status }) => status !== "success")).toEqual([]);
});

test("a fresh connection that dies is a failed attempt, and the request is not repeated", async () => {
  const receiver = await rawReceiver((socket) => socket.resetAndDestroy());
  const ended = await deliver(receiver.url);
  expect(ended).toMatchObject({ status: "failed", error_type: "network" });
  expect(receiver.requests).toHaveLength(1);
});

test("a request is repeated once, not for as long as connections die", async () => {
  const receiver = await rawReceiver((socket) => {
    if (receiver.requests.length === 1) socket.write(OK);
    else socket.resetAndDestroy();
  });
  expect(await deliver(receiver.url)).toMatchObject({ status: "success" });
  const ended = await deliver(receiver.url);
  expect(ended).toMatchObject({ status: "failed", error_type: "network" });
  expect(receiver.requests.map(({ onConnection }) => onConnection)).toEqual([
    1, 2, 1,
  ]);
});

test("a reused connection on which the answer had begun is a failed attempt", async () => {
  const receiver = await rawReceiver((socket, { onConnection }) => {
    if (onConnection === 1) socket.write(OK);
    else socket.end("H");
  });
  expect(await deliver(receiver.url)).toMatchObject({ status: "success" });
  const ended = await deliver(receiver.url);
  expect(ended).toMatchObject({ status: "failed", error_type: "network" });
  expect(receiver.requests).toHaveLength(2);
});

test("the repeated request has what is left of the attempt's time", async () => {
  const receiver = await rawReceiver((socket) => {
    if (receiver.requests.length === 1) socket.write(OK);
    else if (receiver.requests.length === 2)
      setTimeout(() => socket.resetAndDestroy(), 1000);
  });
  await deliver(receiver.url);
  const ended = await deliver(receiver.url);
  expect(ended).toMatchObject({ status: "failed", error_type: "timeout" });
  expect(receiver.requests).toHaveLength(3);
  expect(ended.duration_ms).toBeGreaterThanOrEqual(1990);
  expect(ended.duration_ms).toBeLessThan(2900);
});

test("a receiver that closes after each answer gets each delivery once, on a connection of its own", async () => {
  const receiver = await rawReceiver((socket) =>
    socket.end(
      "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
    ),
  );
  const ended = await deliverMany(receiver.url, 30);
  expect(ended.filter(({ status }) => status !== "success")).toEqual([]);
  expect(receiver.requests).toHaveLength(30);
  expect(receiver.connections()).toBe(30);
});
