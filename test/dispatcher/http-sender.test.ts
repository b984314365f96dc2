// What the sender does that cannot be seen from outside the dispatcher.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLogger } from "@pipeline/shared/logger";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { createHttpSender } from "../../services/dispatcher/src/attempt/http-sender.ts";
import { createResolver } from "../../services/dispatcher/src/dns/resolver.ts";
import { rawReceiver } from "../support/raw-receiver.ts";

const NAMES = Array.from({ length: 1100 }, (_, i) => `hook-${i}.test`);
const OK =
  "HTTP/1.1 200 OK\r\nkeep-alive: timeout=60\r\ncontent-length: 0\r\n\r\n";

let hostsPath: string;
beforeEach(async () => {
  const directory = await mkdtemp(join(tmpdir(), "hosts-"));
  hostsPath = join(directory, "hosts");
  await writeFile(hostsPath, `127.0.0.1 ${NAMES.join(" ")}\n`);
  return () => rm(directory, { recursive: true });
});

function senderForTest(attemptTimeoutMs: number) {
  const now = () => performance.now();
  const sender = createHttpSender({
    attemptTimeoutMs,
    isAllowed: () => true,
    resolver: createResolver({ servers: null, timeoutMs: 500, now, hostsPath }),
    logger: createLogger("test", "silent"),
  });
  onTestFinished(sender.close);
  return (url: string) => sender.send({ url, headers: {}, body: "{}" });
}

test("at most 1024 connections are idle; the one that was idle longest goes, and a new one is made when it is needed again", async () => {
  const receiver = await rawReceiver((socket) => socket.write(OK));
  const send = senderForTest(10_000);
  const sendTo = async (name: string) => {
    const result = await send(`http://${name}:${receiver.port}/hook`);
    expect(result).toMatchObject({ kind: "answer", status: 200 });
  };
  for (const name of NAMES) await sendTo(name);
  expect(receiver.connections()).toBe(NAMES.length);
  await expect.poll(receiver.open, { timeout: 5000 }).toBe(1024);
  for (const name of NAMES.slice(-100)) await sendTo(name);
  expect(receiver.connections()).toBe(NAMES.length);
  for (const name of NAMES.slice(0, 10)) await sendTo(name);
  expect(receiver.connections()).toBe(NAMES.length + 10);
  await expect.poll(receiver.open, { timeout: 5000 }).toBe(1024);
});

test.each([
  ["a body", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"],
  ["headers", "HTTP/1.1 200 OK\r\nx-a: b\r\n"],
])("that the deadline came before the end of %s is known", async (_, bytes) => {
  const receiver = await rawReceiver((socket) => socket.write(bytes));
  expect(await senderForTest(300)(receiver.url)).toMatchObject({
    status: 200,
    isCutShort: true,
  });
});

test("an answer that broke off was not cut short by the deadline", async () => {
  const receiver = await rawReceiver((socket) =>
    socket.end("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"),
  );
  const result = await senderForTest(300)(receiver.url);
  expect(result).toMatchObject({ status: 200, body: "abc" });
  expect(result).not.toHaveProperty("isCutShort");
});
