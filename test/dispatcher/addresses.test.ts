// URLs come from tenants: whatever the spelling, nothing inside the network is reached unless the operator allows it.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import {
  startTestReceiver,
  type TestReceiver,
} from "../support/test-receiver.ts";

let guarded: OwnStream;
let allowing: OwnStream;
let receiver: TestReceiver;
beforeAll(async () => {
  receiver = await startTestReceiver();
  [guarded, allowing] = await Promise.all([
    startOwnStream({ env: { ALLOW_PRIVATE_NETWORKS: "" } }),
    startOwnStream({ env: { ALLOW_PRIVATE_NETWORKS: "127.0.0.0/8" } }),
  ]);
});
afterAll(async () => {
  await Promise.all([guarded.close(), allowing.close()]);
  await receiver.close();
});

const LOOPBACK = [
  "127.0.0.1",
  "127.0.0.1.",
  "127.1",
  "2130706433",
  "0x7f.1",
  "0x7f000001",
  "0177.0.0.1",
  "017700000001",
  "１２７.0.0.1",
  "127。0。0。1",
  "127.255.255.254",
  "[::ffff:127.0.0.1]",
  "[::ffff:7f00:1]",
  "[0:0:0:0:0:ffff:7f00:0001]",
];
const ELSEWHERE = [
  "0.0.0.0",
  "0",
  "[::]",
  "[::1]",
  "[::127.0.0.1]",
  "[::ffff:0:7f00:1]",
  "[64:ff9b::127.0.0.1]",
  "[64:ff9b:1::7f00:1]",
  "[2002:7f00:1::1]",
  "10.0.0.1",
  "100.100.100.200",
  "169.254.169.254",
  "0xa9fea9fe",
  "[::ffff:a9fe:a9fe]",
  "172.16.0.1",
  "192.168.1.1",
  "168.63.129.16",
  "192.0.0.192",
  "255.255.255.255",
  "224.0.0.1",
  "[fd00:ec2::254]",
  "[fe80::1]",
  "[ff02::1]",
];
const NAMES = ["localhost", "LOCALHOST"];

/** How a delivery to each host ended: `failed` and why, or `success`. */
async function endings(own: OwnStream, hosts: string[]) {
  const port = new URL(receiver.url).port;
  const ending = async (host: string) => {
    const webhook_url = `http://${host}:${port}/hook`;
    const id = await own.add({ webhook_url, payload: "{}", max_attempts: "1" });
    const { status } = await own.ended(id);
    return [host, status, (await own.attempts(id))[0]?.error_type] as const;
  };
  return Promise.all(hosts.map(ending));
}

test("by default loopback, private, link-local and metadata addresses are refused in every spelling, unsent", async () => {
  const before = receiver.requests.length;
  const hosts = [...LOOPBACK, ...ELSEWHERE, ...NAMES];
  expect(await endings(guarded, hosts)).toEqual(
    hosts.map((host) => [host, "failed", "blocked"]),
  );
  expect(receiver.requests).toHaveLength(before);
});

test("an allowed network is reached in every spelling, and by names that resolve to it alone", async () => {
  const before = receiver.requests.length;
  // All of 127.0.0.0/8 is this machine, but the receiver listens on one address of it.
  const hosts = LOOPBACK.filter((host) => host !== "127.255.255.254");
  expect(await endings(allowing, hosts)).toEqual(
    hosts.map((host) => [host, "success", null]),
  );
  expect(receiver.requests).toHaveLength(before + hosts.length);
});

test("beside an allowed network everything else stays refused", async () => {
  const before = receiver.requests.length;
  expect(await endings(allowing, ELSEWHERE)).toEqual(
    ELSEWHERE.map((host) => [host, "failed", "blocked"]),
  );
  expect(receiver.requests).toHaveLength(before);
});

test("a refusal names the host and nothing of the path, and is not retried", async () => {
  const webhook_url = "http://localhost:1/hooks/catch/marker-path";
  const id = await guarded.add({ webhook_url, payload: "{}" });
  expect(await guarded.ended(id)).toMatchObject({
    status: "failed",
    attempt: 1,
    response_status: null,
    last_error: "localhost resolves to an address that is not allowed",
  });
  expect(guarded.output()).not.toContain("marker-path");
});
