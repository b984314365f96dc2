// A name server over UDP that answers what the test says, and keeps what it was asked.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { isIPv4 } from "node:net";
import { onTestFinished } from "vitest";

export type DnsAnswer =
  | { addresses: string[]; ttl?: number; delayMs?: number }
  /** The code of RFC 1035 §4.1.1: 2 is a failure of the server, 3 says that the name does not exist. */
  | { code: 2 | 3 }
  | "silent";

export interface DnsServer {
  /** As DNS_SERVERS takes it. */
  address: string;
  /** `name type`, in the order in which they were asked. */
  questions: string[];
  /** Of names that are missing here it says that they do not exist. */
  answers: Record<string, DnsAnswer>;
}

const TYPES: Record<number, "A" | "AAAA"> = { 1: "A", 28: "AAAA" };
const HEADER_BYTES = 12;

function readName(message: Buffer): { name: string; end: number } {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (let length = message[at]!; length !== 0; length = message[at]!) {
    labels.push(message.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join(".").toLowerCase(), end: at + 1 };
}

function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split(".").map(Number));
  const [left = "", right = ""] = address.split("::");
  const groups = (text: string) =>
    text.split(":").filter((part) => part !== "");
  const missing = 8 - groups(left).length - groups(right).length;
  const all = [
    ...groups(left),
    ...Array.from({ length: missing }, () => "0"),
    ...groups(right),
  ];
  return Buffer.from(
    all.map((group) => group.padStart(4, "0")).join(""),
    "hex",
  );
}

function addressRecord(address: string, ttl: number): Buffer {
  const data = addressBytes(address);
  const fixed = Buffer.alloc(12);
  fixed.writeUInt16BE(0xc000 + HEADER_BYTES, 0); // the question's name
  fixed.writeUInt16BE(data.length === 4 ? 1 : 28, 2);
  fixed.writeUInt16BE(1, 4);
  fixed.writeUInt32BE(ttl, 6);
  fixed.writeUInt16BE(data.length, 10);
  return Buffer.concat([fixed, data]);
}

/** For one test, at whose end it is closed, unless somebody else sees to that. It listens on 127.0.0.1. */
export async function dnsServer(
  answers: Record<string, DnsAnswer>,
  onFinished: (stop: () => Promise<void>) => void = onTestFinished,
): Promise<DnsServer> {
  const questions: string[] = [];
  const socket = createSocket("udp4");
  socket.on("message", (message, from) => {
    const { name, end } = readName(message);
    const type = TYPES[message.readUInt16BE(end)] ?? "other";
    questions.push(`${name} ${type}`);
    const answer = answers[name] ?? answers[`${name} ${type}`] ?? { code: 3 };
    if (answer === "silent") return;
    const code = "code" in answer ? answer.code : 0;
    const all = "code" in answer ? [] : answer.addresses;
    const ttl = ("ttl" in answer ? answer.ttl : undefined) ?? 60;
    const records = all
      .filter((address) => isIPv4(address) === (type === "A"))
      .map((address) => addressRecord(address, ttl));
    const header = Buffer.alloc(HEADER_BYTES);
    message.copy(header, 0, 0, 2);
    header.writeUInt16BE(0x8180 + code, 2); // an answer, by a server that asks others
    header.writeUInt16BE(1, 4);
    header.writeUInt16BE(records.length, 6);
    const question = message.subarray(HEADER_BYTES, end + 4);
    const reply = Buffer.concat([header, question, ...records]);
    const delayMs = ("delayMs" in answer ? answer.delayMs : undefined) ?? 0;
    setTimeout(() => socket.send(reply, from.port, from.address), delayMs);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  onFinished(async () => {
    socket.close();
    await once(socket, "close");
  });
  const address = `127.0.0.1:${socket.address().port}`;
  return { address, questions, answers };
}
