// Postgres slow is not Postgres away: somebody keeps rows locked, or a commit hangs, while others want to be served.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { expect, inject, onTestFinished, test } from "vitest";
import { until } from "../support/until.ts";
import {
  type Ingest,
  openDatabase,
  sample,
  startIngest,
  startSupabaseProxy,
} from "./ingest.ts";

const LOCKED_MS = 15_000;

async function connect(): Promise<Client> {
  const sql = new Client({ connectionString: inject("stack").postgresUrl });
  await sql.connect();
  onTestFinished(() => sql.end());
  return sql;
}

async function setUp(options: Parameters<typeof startIngest>[0] = {}) {
  const database = openDatabase();
  onTestFinished(() => database.close());
  const ingest = await startIngest(options);
  onTestFinished(() => ingest.stop());
  return { database, ingest };
}

interface Answer {
  status: number;
  error: string;
  ms: number;
}

async function timed(ingest: Ingest, body: unknown): Promise<Answer> {
  const startedAt = performance.now();
  const reply = await ingest.post("", body);
  const { error = "" } = reply.body as { error?: string };
  return { status: reply.status, error, ms: performance.now() - startedAt };
}

/** Sends what `next` makes at 20/s for a while, without waiting for answers. */
async function steadily(
  ms: number,
  ingest: Ingest,
  next: () => unknown,
): Promise<Answer[]> {
  const answers: Promise<Answer>[] = [];
  const end = performance.now() + ms;
  while (performance.now() < end) {
    answers.push(timed(ingest, next()));
    await sleep(50);
  }
  return Promise.all(answers);
}

function describeAll(what: string, answers: Answer[]): void {
  const times = answers.map(({ ms }) => ms).sort((a, b) => a - b);
  const at = (part: number) =>
    times[Math.min(times.length - 1, Math.floor(part * times.length))]!;
  const counts: Record<number, number> = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  console.log(
    `${what}: ${JSON.stringify(counts)}, p50 ${at(0.5).toFixed(0)} ms, p99 ${at(0.99).toFixed(0)} ms`,
  );
}

function expectUnharmed(answers: Answer[], part = 0.99): void {
  const unharmed = answers.filter(
    ({ status, ms }) => status === 202 && ms < 2500,
  );
  expect(unharmed.length / answers.length).toBeGreaterThanOrEqual(part);
}

test("a lead that is locked for 15 s harms its own requests and no others", async () => {
  const { database, ingest } = await setUp();
  const [locked, free] = await Promise.all([
    database.insertLead(),
    database.insertLead(),
  ]);
  const holder = await connect();
  await holder.query("begin");
  await holder.query("select from leads where id = $1 for update", [locked.id]);
  const { webhookUrl } = sample();
  let n = 0;
  const [own, unrelated] = await Promise.all([
    steadily(LOCKED_MS, ingest, () => ({ leadId: locked.id, webhookUrl })),
    steadily(LOCKED_MS, ingest, () =>
      n++ % 2 === 0 ? sample() : { leadId: free.id, webhookUrl },
    ),
  ]);
  describeAll("unrelated", unrelated);
  describeAll("of the locked lead", own);
  expectUnharmed(unrelated);
  for (const { status, error, ms } of own) {
    expect(status).toBe(503);
    expect(error).toContain("nothing was stored");
    expect(ms).toBeLessThan(3000);
  }
  await holder.query("rollback");
  await until(
    "the lead's requests are taken again",
    async () =>
      (await timed(ingest, { leadId: locked.id, webhookUrl })).status === 202,
    3000,
  );
  const rows = await holder.query<{ count: number }>(
    "select count(*)::int from webhook_deliveries where lead_id = $1",
    [locked.id],
  );
  expect(rows.rows[0]!.count).toBe(1);
}, 60_000);

test("deliveries that are locked by somebody cost only those who retry or cancel them", async () => {
  const { ingest } = await setUp();
  const made = await Promise.all(
    Array.from({ length: 20 }, () => ingest.post("", sample())),
  );
  const ids = made.map(({ body }) => body.delivery.id);
  await ingest.queue.redis.flushdb(); // they are nowhere, so that Postgres is asked
  const holder = await connect();
  await holder.query("begin");
  await holder.query(
    "select from webhook_deliveries where id = any ($1) for update",
    [ids],
  );
  const stop = new AbortController();
  const statuses = new Set<number>();
  const attack = async (id: string) => {
    while (!stop.signal.aborted)
      statuses.add((await ingest.post(`/${id}/retry`)).status);
  };
  const attacks = ids.map(attack);
  const unrelated = await steadily(5000, ingest, () => sample());
  stop.abort();
  await Promise.all(attacks);
  describeAll("unrelated", unrelated);
  expectUnharmed(unrelated);
  expect([...statuses]).toEqual([503]);
  await holder.query("rollback");
  expect((await ingest.post(`/${ids[0]}/retry`)).status).toBe(202);
}, 60_000);

test("a table that is locked for a while harms the requests that need it and no others", async () => {
  const { database, ingest } = await setUp();
  const endpoint = await database.insert("webhook_endpoints", {
    url: sample().webhookUrl,
    name: "test",
  });
  const holder = await connect();
  await holder.query("begin");
  await holder.query("lock table webhook_endpoints in access exclusive mode");
  const [own, unrelated] = await Promise.all([
    steadily(5000, ingest, () => ({ test: true, endpointId: endpoint.id })),
    steadily(5000, ingest, () => sample()),
  ]);
  describeAll("unrelated", unrelated);
  describeAll("of the locked table", own);
  expectUnharmed(unrelated);
  expect(own.every(({ status, ms }) => status === 503 && ms < 3000)).toBe(true);
  await holder.query("rollback");
}, 60_000);

test("a connection that is reset is noticed by nobody", async () => {
  const proxy = await startSupabaseProxy();
  onTestFinished(proxy.close);
  const { ingest } = await setUp({ supabaseUrl: proxy.url });
  await Promise.all(
    Array.from({ length: 20 }, () => ingest.post("", sample())),
  );
  let requests = 0;
  const cutting = setInterval(() => {
    requests = proxy.calls.length;
    proxy.cut();
  }, 500);
  onTestFinished(() => clearInterval(cutting));
  const answers = await steadily(5000, ingest, () => sample());
  describeAll("while connections are cut", answers);
  expect(requests).toBeGreaterThan(20);
  expect(answers.every(({ status }) => status === 202)).toBe(true);
}, 60_000);

/** The commit of a delivery to this URL takes a while, as with a standby that is slow to confirm. */
async function slowCommits(
  sql: Client,
  seconds: number,
  leadId?: string,
): Promise<string> {
  const name = `slow_${randomUUID().replaceAll("-", "")}`;
  const url = `https://${name}.example.com/`;
  const isSlow =
    leadId === undefined
      ? `new.webhook_url = '${url}'`
      : `new.lead_id = '${leadId}'`;
  await sql.query(`
    create function public.${name}() returns trigger language plpgsql as $$
      begin perform pg_sleep(${seconds}); return null; end $$;
    create constraint trigger ${name} after insert on public.webhook_deliveries
      deferrable initially deferred for each row when (${isSlow}) execute function public.${name}();
  `);
  onTestFinished(async () => {
    await sql.query(
      `drop trigger ${name} on public.webhook_deliveries; drop function public.${name}()`,
    );
  });
  return url;
}

async function rowsOf(sql: Client, url: string) {
  const { rows } = await sql.query<{
    id: string;
    status: string;
    idempotency_key: string | null;
  }>(
    "select id, status, idempotency_key from webhook_deliveries where webhook_url = $1",
    [url],
  );
  return rows;
}

test("a commit that takes longer than a call may is waited for: 202, and stored once", async () => {
  const sql = await connect();
  const { ingest } = await setUp();
  const url = await slowCommits(sql, 5);
  const [slow, unrelated] = await Promise.all([
    timed(ingest, sample({ webhookUrl: url })),
    sleep(100).then(() => steadily(5000, ingest, () => sample())),
  ]);
  console.log(slow);
  expect(slow.status).toBe(202);
  expect(slow.ms).toBeLessThan(9000);
  describeAll("beside a slow commit", unrelated);
  expectUnharmed(unrelated);
  expect(await rowsOf(sql, url)).toMatchObject([{ status: "pending" }]);
  await until(
    "it is queued",
    async () => (await ingest.queue.redis.xlen(ingest.queue.keys.stream)) > 0,
  );
}, 60_000);

test("a lead whose commits are slow, again and again, harms no other", async () => {
  const sql = await connect();
  const { database, ingest } = await setUp();
  const [slow, free] = await Promise.all([
    database.insertLead(),
    database.insertLead(),
  ]);
  await slowCommits(sql, 4, slow.id);
  const { webhookUrl } = sample();
  let n = 0;
  const [own, unrelated] = await Promise.all([
    steadily(12_000, ingest, () => ({ leadId: slow.id, webhookUrl })),
    // Between those: what arrives in the same two milliseconds shares a commit.
    sleep(25).then(() =>
      steadily(12_000, ingest, () =>
        n++ % 2 === 0 ? sample() : { leadId: free.id, webhookUrl },
      ),
    ),
  ]);
  describeAll("unrelated", unrelated);
  describeAll("of the slow lead", own);
  // Those that shared a commit with it in the first quarter of a second wait as long as it does.
  expectUnharmed(unrelated, 0.95);
  expect(own.some(({ status }) => status === 202)).toBe(true);
}, 60_000);

test("what is told to be unknown is withdrawn without a key, and comes once with a key", async () => {
  const sql = await connect();
  const { ingest } = await setUp();
  const url = await slowCommits(sql, 11);
  const idempotencyKey = randomUUID();
  const [without, withKey] = await Promise.all([
    timed(ingest, sample({ webhookUrl: url })),
    sleep(300).then(() =>
      timed(ingest, sample({ webhookUrl: url, idempotencyKey })),
    ),
  ]);
  console.log({ without, withKey });
  for (const { status, ms } of [without, withKey]) {
    expect(status).toBe(503);
    expect(ms).toBeLessThan(10_000);
  }
  expect(without.error).toContain("will be withdrawn");
  expect(withKey.error).toContain("same idempotency key");
  const kept = await until("only the one with the key is left", async () => {
    const found = await rowsOf(sql, url);
    const isAlone =
      found.length === 1 && found[0]!.idempotency_key === idempotencyKey;
    return isAlone ? found : null;
  });
  const again = await ingest.post(
    "",
    sample({ webhookUrl: url, idempotencyKey }),
  );
  expect(again).toMatchObject({
    status: 200,
    body: { delivery: { id: kept[0]!.id } },
  });
  await until("the one with the key is queued, the other is not", async () => {
    const { redis, keys } = ingest.queue;
    const entries = await redis.xrange(keys.stream, "-", "+");
    return entries.length === 1 && entries[0]![1].includes(kept[0]!.id);
  });
}, 60_000);

test.each(["lost", "late", "bad gateway", "held back"] as const)(
  "a creation whose answer is %s is never stored behind its client's back",
  async (mode) => {
    const sql = await connect();
    const proxy = await startSupabaseProxy();
    onTestFinished(proxy.close);
    const { ingest } = await setUp({ supabaseUrl: proxy.url });
    proxy.set(mode);
    const webhookUrl = `https://${randomUUID()}.example.com/`;
    const { status, error, ms } = await timed(ingest, sample({ webhookUrl }));
    expect(status).toBe(503);
    expect(error).toContain("will be withdrawn");
    expect(ms).toBeLessThan(6000);
    proxy.set("open");
    proxy.letGo();
    await sleep(1000);
    await until(
      "nothing is stored",
      async () => (await rowsOf(sql, webhookUrl)).length === 0,
    );
    const again = await until("the database is asked again", async () => {
      const reply = await ingest.post("", sample({ webhookUrl }));
      return reply.status === 202 ? reply : null;
    });
    const left = await rowsOf(sql, webhookUrl);
    expect(left).toMatchObject([{ id: again.body.delivery.id }]);
    expect(await ingest.queue.redis.xlen(ingest.queue.keys.stream)).toBe(1);
  },
  60_000,
);
