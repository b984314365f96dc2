// Receivers behind TLS, under a name and with a certificate of their own.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createServer, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dnsServer } from "../support/dns-server.ts";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import { type RawAnswer, rawReceiver } from "../support/raw-receiver.ts";

const pemPath = (kind: string) =>
  fileURLToPath(new URL(`../support/hook-test.${kind}.pem`, import.meta.url));
const cert = readFileSync(pemPath("cert"));
const key = readFileSync(pemPath("key"));
const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

let own: OwnStream;
let stopDns: () => Promise<void>;
beforeAll(async () => {
  const server = await dnsServer(
    { "hook.test": { addresses: ["127.0.0.1"] } },
    (stop) => (stopDns = stop),
  );
  own = await startOwnStream({
    env: {
      DNS_SERVERS: server.address,
      NODE_EXTRA_CA_CERTS: pemPath("cert"),
    },
  });
});
afterAll(async () => {
  await own.close();
  await stopDns();
});

const tlsReceiver = (answer: RawAnswer) =>
  rawReceiver(answer, {
    listener: (onConnection) => createServer({ cert, key }, onConnection),
  });

async function deliver(webhook_url: string) {
  const id = await own.add({ webhook_url, payload: "{}", max_attempts: "1" });
  const { status } = await own.ended(id);
  return { ...(await own.attempts(id))[0]!, status };
}

test.each(["hook.test", "hook.test.", "HOOK.test."])(
  "a receiver at %s is asked for as hook.test, and gets the host as the URL has it",
  async (host) => {
    const servernames: unknown[] = [];
    const receiver = await tlsReceiver((socket) => {
      servernames.push((socket as TLSSocket).servername);
      socket.write(OK);
    });
    const authority = `${host}:${receiver.port}`;
    expect(await deliver(`https://${authority}/hook`)).toMatchObject({
      status: "success",
    });
    expect(servernames).toEqual(["hook.test"]);
    expect(receiver.requests[0]!.head).toContain(
      `\r\nhost: ${authority.toLowerCase()}\r\n`,
    );
  },
);

test("a certificate for another name is a network failure", async () => {
  const receiver = await tlsReceiver((socket) => socket.write(OK));
  expect(
    await deliver(`https://localhost:${receiver.port}/hook`),
  ).toMatchObject({ status: "failed", error_type: "network" });
  expect(receiver.requests).toEqual([]);
});

test.each(["end", "destroy"] as const)(
  "a reused connection that dies (%s) is replaced within the attempt",
  async (hangUp) => {
    const receiver = await tlsReceiver((socket, { onConnection }) => {
      if (onConnection === 1) socket.write(OK);
      else socket[hangUp]();
    });
    const url = `https://hook.test:${receiver.port}/hook`;
    expect(await deliver(url)).toMatchObject({ status: "success" });
    expect(await deliver(url)).toMatchObject({ status: "success" });
    expect(receiver.requests.map(({ onConnection }) => onConnection)).toEqual([
      1, 2, 1,
    ]);
  },
);

test.each(["end", "destroy"] as const)(
  "an answer whose body is cut (%s) counts by its status",
  async (hangUp) => {
    const receiver = await tlsReceiver((socket) => {
      socket.write("HTTP/1.1 201 OK\r\ncontent-length: 9\r\n\r\nabc", () =>
        setTimeout(() => socket[hangUp](), 50),
      );
    });
    expect(
      await deliver(`https://hook.test:${receiver.port}/hook`),
    ).toMatchObject({ status: "success", response_status: 201 });
  },
);
