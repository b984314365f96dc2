// Endpoints cannot be looked up while deliveries are due: Supabase hangs, or somebody has locked the table.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { unwrap } from "@pipeline/shared/database";
import { Client } from "pg";
import { expect, inject, onTestFinished, test } from "vitest";
import { startSupabaseProxy } from "../ingest/ingest.ts";
import { type OwnStream, ownStreamForTest } from "../support/own-stream.ts";
import {
  receiverForTest,
  type TestReceiver,
} from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

const ENDPOINTS = 20;
const DELIVERIES = 400;
const STALE_AFTER_MS = 3000;

async function createEndpoints(
  own: OwnStream,
  count: number,
  url: (index: number) => string,
): Promise<string[]> {
  const rows = Array.from({ length: count }, (_, index) => ({
    id: randomUUID(),
    name: "test",
    url: url(index),
  }));
  await unwrap(own.client.from("webhook_endpoints").insert(rows).select("id"));
  return rows.map(({ id }) => id);
}

/** Adds deliveries and tells how long each takes to its receiver. */
function createTrips(own: OwnStream, receiver: TestReceiver) {
  const addedAt = new Map<string, number>();
  return {
    add: async (fields: Record<string, string>) => {
      const at = Date.now();
      const id = await own.add({ payload: "{}", ...fields });
      addedAt.set(id, at);
    },
    ids: () => [...addedAt.keys()],
    /** Ms, ascending; of those that have arrived. */
    times: () => {
      const firstAt = new Map<string, number>();
      for (const { id, at } of receiver.requests)
        if (!firstAt.has(id)) firstAt.set(id, at);
      return [...addedAt]
        .flatMap(([id, at]) => {
          const arrivedAt = firstAt.get(id);
          return arrivedAt === undefined ? [] : [arrivedAt - at];
        })
        .toSorted((x, y) => x - y);
    },
  };
}

type Trouble = (
  proxy: Awaited<ReturnType<typeof startSupabaseProxy>>,
) => Promise<() => Promise<unknown>>;

const hang: Trouble = async (proxy) => {
  proxy.set("silent");
  return async () => {
    proxy.set("open");
    proxy.cut();
  };
};
const lockTable: Trouble = async () => {
  const sql = new Client({ connectionString: inject("stack").postgresUrl });
  await sql.connect();
  onTestFinished(() => sql.end());
  await sql.query("begin");
  await sql.query("lock table webhook_endpoints in access exclusive mode");
  return () => sql.query("rollback");
};

test.each([
  ["Supabase takes calls and never answers", hang],
  ["somebody has locked the endpoints", lockTable],
])(
  "%s: known endpoints get their deliveries, unknown ones cost no attempt, and neighbours notice nothing",
  async (_, trouble) => {
    const receiver = await receiverForTest();
    const proxy = await startSupabaseProxy();
    onTestFinished(proxy.close);
    const own = await ownStreamForTest({
      schedulers: 1,
      env: {
        SUPABASE_URL: proxy.url,
        DISPATCHER_CONCURRENCY: "5",
        RATE_LIMIT_PER_SECOND: "0",
        // Records cannot be written either while the table is locked; they are taken up again after this time.
        CLAIM_IDLE_MS: "2000",
      },
    });
    const url = (index: number) => `${receiver.url}/${index}`;
    const known = await createEndpoints(own, ENDPOINTS, url);
    const unknown = await createEndpoints(own, 50, url);
    const toEndpoint = (endpoint_id: string) =>
      own.add({ endpoint_id, payload: "{}" });
    const toUrl = () =>
      own.add({ webhook_url: `${receiver.url}/url`, payload: "{}" });
    const warm = await Promise.all([toUrl(), ...known.map(toEndpoint)]);
    for (const id of warm) await own.ended(id);

    const end = await trouble(proxy);
    await sleep(STALE_AFTER_MS);
    const [cold, byEndpoint, byUrl] = [
      createTrips(own, receiver),
      createTrips(own, receiver),
      createTrips(own, receiver),
    ];
    for (let i = 0; i < DELIVERIES; i++) {
      if (i % 8 === 0) await cold.add({ endpoint_id: unknown[i / 8]! });
      await byEndpoint.add({ endpoint_id: known[i % ENDPOINTS]! });
      if (i % 4 !== 0) continue;
      await byUrl.add({ webhook_url: `${receiver.url}/url` });
      await sleep(100);
    }
    await until(
      "all have arrived",
      () =>
        byUrl.times().length === DELIVERIES / 4 &&
        byEndpoint.times().length === DELIVERIES,
    );
    for (const [who, trips] of Object.entries({ byUrl, byEndpoint })) {
      const times = trips.times();
      const p90 = times[Math.floor(times.length * 0.9)]!;
      console.log(`${who}: ${times.length}, p90 ${p90} ms`);
      expect(p90).toBeLessThan(2000);
    }

    await end();
    for (const id of cold.ids()) {
      const row = await own.ended(id, 30_000);
      expect(row).toMatchObject({ status: "success", attempt: 1 });
    }
  },
  120_000,
);

test("an endpoint that is switched off or deleted gets nothing more after two seconds", async () => {
  const receiver = await receiverForTest();
  const own = await ownStreamForTest({});
  const [off, deleted] = await createEndpoints(
    own,
    2,
    (index) => `${receiver.url}/${index}`,
  );
  const add = (endpoint_id: string | undefined) =>
    own.add({ endpoint_id: endpoint_id!, payload: "{}" });
  const stop = new AbortController();
  const adding = (async () => {
    const ids: string[] = [];
    while (!stop.signal.aborted) {
      ids.push(await add(off), await add(deleted));
      await sleep(100);
    }
    return ids;
  })();
  await until("both are served", () => receiver.requests.length > 10);
  const endpoints = () => own.client.from("webhook_endpoints");
  await unwrap(
    endpoints().update({ active: false }).eq("id", off!).select("id"),
  );
  await unwrap(endpoints().delete().eq("id", deleted!).select("id"));
  const changedAt = Date.now();
  await sleep(4000);
  stop.abort();
  for (const id of await adding) await own.ended(id);
  const latest = Math.max(...receiver.requests.map(({ at }) => at));
  console.log(
    `the last request came ${latest - changedAt} ms after the change`,
  );
  expect(latest - changedAt).toBeLessThan(2000);
});
