// Trouble with a name is that name's alone: neighbours neither wait for it nor fail with it.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type DnsAnswer, dnsServer } from "../support/dns-server.ts";
import { ownStreamForTest } from "../support/own-stream.ts";
import { receiverForTest } from "../support/test-receiver.ts";

const HERE: DnsAnswer = { addresses: ["127.0.0.1"], ttl: 0 };

async function dispatcherAsking(
  answers: Record<string, DnsAnswer>,
  env: Record<string, string> = {},
) {
  const server = await dnsServer(answers);
  const own = await ownStreamForTest({
    env: {
      DNS_SERVERS: server.address,
      DISPATCHER_CONCURRENCY: "30",
      RATE_LIMIT_PER_SECOND: "0",
      ...env,
    },
  });
  const receiver = await receiverForTest();
  const { port } = new URL(receiver.url);
  const add = (name: string, path = "hook") =>
    own.add({
      webhook_url: `http://${name}:${port}/${path}`,
      payload: "{}",
      max_attempts: "1",
    });
  const attemptOf = async (id: string) => {
    const { status } = await own.ended(id);
    return { ...(await own.attempts(id))[0]!, status };
  };
  return { server, own, receiver, add, attemptOf };
}

test("names whose name servers are silent fail alone, and every neighbour connects at once", async () => {
  const names = Array.from({ length: 8 }, (_, i) => `silent-${i}.test`);
  const neighbours = Array.from({ length: 20 }, (_, i) => `hook-${i}.test`);
  const { add, attemptOf } = await dispatcherAsking({
    ...Object.fromEntries(names.map((name) => [name, "silent"])),
    ...Object.fromEntries(neighbours.map((name) => [name, HERE])),
  });
  const silent = await Promise.all(names.map((name) => add(name)));
  await sleep(500); // their lookups are under way
  const healthy = await Promise.all(neighbours.map((name) => add(name)));
  for (const attempt of await Promise.all(healthy.map(attemptOf))) {
    expect(attempt.status).toBe("success");
    expect(attempt.duration_ms).toBeLessThan(3000);
  }
  for (const attempt of await Promise.all(silent.map(attemptOf))) {
    expect(attempt).toMatchObject({
      status: "failed",
      error_type: "network",
      error: expect.stringMatching(/^DNS: silent-\d\.test .* \(ETIMEOUT\)$/),
    });
    expect(attempt.duration_ms).toBeLessThan(5000);
  }
});

test("also with little time for an attempt, a name in trouble is a network failure that says so", async () => {
  const { add, attemptOf } = await dispatcherAsking(
    { "silent.test": "silent", "broken.test": { code: 2 } },
    { ATTEMPT_TIMEOUT_MS: "1000" },
  );
  const [silent, broken, unknown] = await Promise.all(
    ["silent.test", "broken.test", "unknown.test"].map(async (name) =>
      attemptOf(await add(name)),
    ),
  );
  expect(silent).toMatchObject({
    error_type: "network",
    error: expect.stringMatching(/^DNS: .*ETIMEOUT/),
  });
  expect(broken).toMatchObject({
    error_type: "network",
    error: expect.stringMatching(/^DNS: .*ESERVFAIL/),
  });
  expect(unknown).toMatchObject({
    error_type: "network",
    error: "DNS: unknown.test does not exist (ENOTFOUND)",
  });
});

test("a name is refused when one of its addresses is", async () => {
  const { add, attemptOf, receiver } = await dispatcherAsking({
    "mixed.test": { addresses: ["127.0.0.1", "10.0.0.1"] },
    "six.test": { addresses: ["127.0.0.1", "fe80::1"] },
    "private.test": { addresses: ["10.0.0.1"] },
    "hook.test": HERE,
  });
  for (const name of ["mixed.test", "six.test", "private.test"]) {
    expect(await attemptOf(await add(name))).toMatchObject({
      status: "failed",
      error_type: "blocked",
      error: `${name} resolves to an address that is not allowed`,
    });
  }
  expect(receiver.requests).toEqual([]);
  expect(await attemptOf(await add("hook.test"))).toMatchObject({
    status: "success",
  });
});

test("the next address is tried when the first does not take the connection", async () => {
  const { add, attemptOf } = await dispatcherAsking({
    "hook.test": { addresses: ["127.0.0.99", "127.0.0.1"] },
  });
  expect(await attemptOf(await add("hook.test"))).toMatchObject({
    status: "success",
  });
});
