// Names to addresses, against a name server that the test holds in its hand.
import { mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { createResolver } from "../../services/dispatcher/src/dns/resolver.ts";
import { type DnsAnswer, dnsServer } from "../support/dns-server.ts";

const TIMEOUT_MS = 1500;
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "resolver-"));
  return () => rm(directory, { recursive: true });
});

/** The clock of the cache stands still unless the test moves it. */
async function resolverWith(
  answers: Record<string, DnsAnswer>,
  files: { hosts?: string; resolvConf?: string } = {},
) {
  const server = await dnsServer(answers);
  const [hostsPath, resolvConfPath] = ["hosts", "resolv.conf"].map((name) =>
    join(directory, name),
  ) as [string, string];
  await writeFile(hostsPath, files.hosts ?? "");
  await writeFile(resolvConfPath, files.resolvConf ?? "");
  const clock = { aheadMs: 0 };
  const { lookup } = createResolver({
    servers: [server.address],
    timeoutMs: TIMEOUT_MS,
    now: () => performance.now() + clock.aheadMs,
    hostsPath,
    resolvConfPath,
  });
  return { server, lookup, clock, hostsPath };
}

async function timed<Result>(promise: Promise<Result>) {
  const startedAt = performance.now();
  const result = await promise.catch((error: Error) => error.message);
  return { result, ms: performance.now() - startedAt };
}

test("addresses of both kinds are found, those of IPv4 first", async () => {
  const { lookup, server } = await resolverWith({
    "hook.test": { addresses: ["2001:db8::1", "192.0.2.1", "192.0.2.2"] },
    "six.test": { addresses: ["2001:db8::2"] },
  });
  expect(await lookup("Hook.test")).toEqual([
    "192.0.2.1",
    "192.0.2.2",
    "2001:db8::1",
  ]);
  expect(await lookup("six.test.")).toEqual(["2001:db8::2"]);
  expect(server.questions.toSorted()).toEqual([
    "hook.test A",
    "hook.test AAAA",
    "six.test A",
    "six.test AAAA",
  ]);
});

test("names whose servers are silent do not delay others, and end in time with an error that says DNS", async () => {
  const names = Array.from({ length: 50 }, (_, i) => `silent-${i}.test`);
  const { lookup } = await resolverWith({
    "hook.test": { addresses: ["192.0.2.1"] },
    ...Object.fromEntries(names.map((name) => [name, "silent"])),
  });
  const silent = names.map((name) => timed(lookup(name)));
  await new Promise((resolve) => setTimeout(resolve, 200));
  const healthy = await timed(lookup("hook.test"));
  expect(healthy.result).toEqual(["192.0.2.1"]);
  expect(healthy.ms).toBeLessThan(200);
  for (const [i, { result, ms }] of (await Promise.all(silent)).entries()) {
    expect(result).toBe(
      `DNS: silent-${i}.test could not be resolved: no name server answered in time (ETIMEOUT)`,
    );
    expect(ms).toBeLessThan(TIMEOUT_MS + 500);
  }
});

test("a server that leaves one kind of question unanswered delays a lookup little", async () => {
  const { lookup } = await resolverWith({
    "hook.test A": { addresses: ["192.0.2.1"] },
    "hook.test AAAA": "silent",
  });
  const { result, ms } = await timed(lookup("hook.test"));
  expect(result).toEqual(["192.0.2.1"]);
  expect(ms).toBeLessThan(700);
});

test("lookups of one name share one question", async () => {
  const { lookup, server } = await resolverWith({
    "hook.test": { addresses: ["192.0.2.1"], delayMs: 100 },
  });
  await Promise.all(Array.from({ length: 20 }, () => lookup("hook.test")));
  expect(server.questions).toHaveLength(2);
});

test.each([
  ["a day, for five minutes", 86_400, 299, 301],
  ["20 seconds, for those", 20, 19, 21],
  ["nothing, for five seconds", 0, 4, 6],
])(
  "an answer that may be kept for %s",
  async (_, ttl, keptSeconds, goneSeconds) => {
    const { lookup, server, clock } = await resolverWith({
      "hook.test": { addresses: ["192.0.2.1"], ttl },
    });
    await lookup("hook.test");
    server.answers["hook.test"] = { addresses: ["192.0.2.2"] };
    clock.aheadMs = keptSeconds * 1000;
    expect(await lookup("hook.test")).toEqual(["192.0.2.1"]);
    clock.aheadMs = goneSeconds * 1000;
    expect(await lookup("hook.test")).toEqual(["192.0.2.2"]);
  },
);

test.each<[string, DnsAnswer, RegExp]>([
  [
    "does not exist",
    { code: 3 },
    /^DNS: hook\.test does not exist \(ENOTFOUND\)$/,
  ],
  ["has no address", { addresses: [] }, /\(ENODATA\)$/],
  ["is in trouble", { code: 2 }, /\(ESERVFAIL\)$/],
])(
  "that a name %s is remembered for three seconds",
  async (_, answer, message) => {
    const { lookup, server, clock } = await resolverWith({
      "hook.test": answer,
    });
    await expect(lookup("hook.test")).rejects.toThrow(message);
    const asked = server.questions.length;
    server.answers["hook.test"] = { addresses: ["192.0.2.1"] };
    clock.aheadMs = 2000;
    await expect(lookup("hook.test")).rejects.toThrow(message);
    expect(server.questions).toHaveLength(asked);
    clock.aheadMs = 4000;
    expect(await lookup("hook.test")).toEqual(["192.0.2.1"]);
  },
);

test.each<[string, DnsAnswer]>([
  ["silence", "silent"],
  ["failures", { code: 2 }],
])(
  "after an answer, %s of its server leave a name its addresses for five minutes",
  async (_, trouble) => {
    const { lookup, server, clock } = await resolverWith({
      "hook.test": { addresses: ["192.0.2.1"], ttl: 10 },
    });
    await lookup("hook.test");
    server.answers["hook.test"] = trouble;
    clock.aheadMs = 12_000;
    const { result, ms } = await timed(lookup("hook.test"));
    expect(result).toEqual(["192.0.2.1"]);
    expect(ms).toBeLessThan(600);
    clock.aheadMs = 300_000;
    expect(await lookup("hook.test")).toEqual(["192.0.2.1"]);
    clock.aheadMs = 320_000;
    await expect(lookup("hook.test")).rejects.toThrow(/^DNS: /);
  },
);

test("a name that was taken away is gone, whatever it was before", async () => {
  const { lookup, server, clock } = await resolverWith({
    "hook.test": { addresses: ["192.0.2.1"], ttl: 10 },
  });
  await lookup("hook.test");
  server.answers["hook.test"] = { code: 3 };
  clock.aheadMs = 12_000;
  await expect(lookup("hook.test")).rejects.toThrow(/ENOTFOUND/);
});

test("the hosts file comes first, and is read again when it changes", async () => {
  const { lookup, server, clock, hostsPath } = await resolverWith(
    { "crm.test": { addresses: ["192.0.2.9"] } },
    { hosts: "192.0.2.1 crm.test crm\n2001:db8::1 crm.test\n" },
  );
  expect(await lookup("CRM.test")).toEqual(["192.0.2.1", "2001:db8::1"]);
  expect(await lookup("crm.test.")).toEqual(["192.0.2.1", "2001:db8::1"]);
  expect(await lookup("crm")).toEqual(["192.0.2.1"]);
  expect(server.questions).toEqual([]);
  await writeFile(hostsPath, "192.0.2.2 crm\n");
  await utimes(hostsPath, 1, 1);
  clock.aheadMs = 2000;
  expect(await lookup("crm")).toEqual(["192.0.2.2"]);
  expect(await lookup("crm.test")).toEqual(["192.0.2.9"]);
  await rm(hostsPath);
  clock.aheadMs = 4000;
  expect(await lookup("crm")).toEqual(["192.0.2.2"]);
});

test("localhost is this machine, and no server is asked for it or for what cannot exist", async () => {
  const { lookup, server } = await resolverWith({});
  expect(await lookup("localhost")).toEqual(["127.0.0.1", "::1"]);
  expect(await lookup("app.localhost.")).toEqual(["127.0.0.1", "::1"]);
  await expect(lookup("no-such-host.invalid")).rejects.toThrow(/ENOTFOUND/);
  expect(server.questions).toEqual([]);
});

test("search domains are tried for short names, and after whole ones", async () => {
  const { lookup, server } = await resolverWith(
    {
      "crm.b.test": { addresses: ["192.0.2.1"] },
      "hook.crm.a.test": { addresses: ["192.0.2.2"] },
      "hook.test": { addresses: ["192.0.2.3"] },
    },
    { resolvConf: "search a.test b.test\n" },
  );
  expect(await lookup("crm")).toEqual(["192.0.2.1"]);
  expect(await lookup("hook.crm")).toEqual(["192.0.2.2"]);
  expect(server.questions.filter((each) => each.endsWith(" A"))).toEqual([
    "crm.a.test A",
    "crm.b.test A",
    "hook.crm A",
    "hook.crm.a.test A",
  ]);
  await expect(lookup("crm.")).rejects.toThrow(/^DNS: crm\. does not exist/);
  expect(await lookup("hook.test")).toEqual(["192.0.2.3"]);
});

test("without a name server that can be reached a lookup fails at once", async () => {
  const { lookup } = createResolver({
    servers: ["127.0.0.1:1"],
    timeoutMs: TIMEOUT_MS,
    now: () => performance.now(),
  });
  const { result, ms } = await timed(lookup("hook.test"));
  expect(result).toMatch(/no name server can be reached \(ECONNREFUSED\)$/);
  expect(ms).toBeLessThan(TIMEOUT_MS);
});
