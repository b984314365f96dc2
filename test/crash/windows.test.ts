// The crash table, row by row: the fault happens exactly where the row says. A proxy between the service and Redis sees the
// call go by and lets it vanish, or run and its answer vanish; then the process is killed, or goes on.
import {
  afterAll,
  afterEach,
  beforeAll,
  expect,
  onTestFinished,
  test,
} from "vitest";
import { settled } from "../support/chaos.ts";
import {
  type Pipeline,
  QUICK,
  startPipeline,
} from "../support/crash-pipeline.ts";
import { callOf } from "../support/script-calls.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { until } from "../support/until.ts";

const CLAIM_MS = Number(QUICK.CLAIM_IDLE_MS);

let pipeline: Pipeline;
let proxy: TcpProxy;
let through: { REDIS_URL: string };
beforeAll(async () => {
  pipeline = await startPipeline({ env: { LOG_LEVEL: "warn" } });
  proxy = await startTcpProxy(pipeline.stack.redisUrl);
  through = { REDIS_URL: `redis://127.0.0.1:${proxy.port}` };
});
afterAll(async () => {
  await proxy.close();
  await pipeline.stop();
});
afterEach(async () => {
  await Promise.all(
    pipeline.running().map((service) => service.stop("SIGKILL")),
  );
});

const now = () => performance.now();
const tallyOf = (id: string) => pipeline.receiver.tallies.get(id);
const requestsOf = (id: string) => tallyOf(id)?.requestedAt.length ?? 0;
const attemptsOf = async (id: string) =>
  (await pipeline.attempts(id)).map(({ attempt_number }) => attempt_number);

/** Starts a scheduler and waits until its reconcile has looked at an overdue row. */
async function reconciled(): Promise<void> {
  const scheduler = await pipeline.start("retry-scheduler", {
    LOG_LEVEL: "debug",
  });
  await until("reconcile has looked at it", () =>
    scheduler.lines.some((line) => /"examined":[1-9]/.test(line)),
  );
}

async function ended(id: string, status = "success"): Promise<void> {
  await settled(pipeline, 30_000);
  expect((await pipeline.row(id))?.status).toBe(status);
}

function report(row: string, sinceMs: number): number {
  const seconds = (now() - sinceMs) / 1000;
  console.log(`recovered in ${seconds.toFixed(1)} s: ${row}`);
  return seconds;
}

test("ingest dies after the row and before the enqueue: reconcile enqueues the row", async () => {
  const ingest = await pipeline.start("ingest", through);
  const vanished = proxy.swallow(callOf("enqueue"));
  const answer = pipeline.submit("/ok").catch(() => "no answer");
  await vanished;
  await ingest.stop("SIGKILL");
  expect(await answer).toBe("no answer");
  const since = now();
  const row = (await pipeline.allRows()).find(
    ({ status }) => status === "pending",
  );
  expect(row).toBeDefined();
  expect(await pipeline.redis.xlen(pipeline.keys.stream)).toBe(0);

  await pipeline.start("dispatcher");
  await pipeline.start("retry-scheduler");
  await until("it arrives", () => requestsOf(row!.id) > 0);
  report("row without an entry", since);
  await ended(row!.id);
  expect(requestsOf(row!.id)).toBe(1);
});

test("the enqueue's reply is lost and the client sends again: one entry", async () => {
  await pipeline.start("ingest", through);
  const lost = proxy.loseReplyTo(callOf("enqueue"));
  const request = {
    payload: { n: 1 },
    webhookUrl: `${pipeline.receiver.url}/ok`,
    idempotencyKey: `lost-reply-${Date.now()}`,
  };
  const first = await pipeline.post("", request);
  await lost;
  expect(first.status).toBe(202);
  const again = await pipeline.post("", request);
  expect(again.status).toBe(200);
  const { id } = first.body.delivery;
  expect(again.body.delivery.id).toBe(id);
  await reconciled();
  expect(await pipeline.redis.xlen(pipeline.keys.stream)).toBe(1);

  await pipeline.start("dispatcher");
  await ended(id);
  expect(requestsOf(id)).toBe(1);
});

test("ingest dies after the enqueue and before its answer: the client's second try finds the first delivery", async () => {
  const [ingest] = [await pipeline.start("ingest", through)];
  const other = await pipeline.start("ingest");
  const lost = proxy.loseReplyTo(callOf("enqueue"));
  const request = {
    payload: { n: 1 },
    webhookUrl: `${pipeline.receiver.url}/ok`,
    idempotencyKey: `dies-${Date.now()}`,
  };
  const answer = pipeline.post("", request, ingest).catch(() => "no answer");
  await lost;
  await ingest.stop("SIGKILL");
  await answer;
  const again = await pipeline.post("", request, other);
  expect(again.status).toBe(200);
  expect(await pipeline.redis.xlen(pipeline.keys.stream)).toBe(1);
  await pipeline.start("dispatcher");
  await ended(again.body.delivery.id);
});

test("a dispatcher dies between reading an entry and sending it: another claims it", async () => {
  const dispatcher = await pipeline.start("dispatcher", through);
  const vanished = proxy.swallow(callOf("admit"));
  const id = await pipeline.xadd("/ok");
  await vanished;
  await dispatcher.stop("SIGKILL");
  const since = now();
  await pipeline.start("dispatcher");
  await until("it arrives", () => requestsOf(id) > 0);
  expect(report("read, not sent", since)).toBeLessThan(CLAIM_MS / 1000 + 5);
  await ended(id);
  expect(requestsOf(id)).toBe(1);
});

test("a dispatcher dies during the request: the attempt runs again under its number and webhook-id", async () => {
  const dispatcher = await pipeline.start("dispatcher");
  const id = await pipeline.xadd("/slow/800");
  await until("the request runs", () => requestsOf(id) === 1);
  await dispatcher.stop("SIGKILL");
  const since = now();
  await pipeline.start("dispatcher");
  await until("it arrives again", () => requestsOf(id) === 2);
  report("killed during the request", since);
  await ended(id);
  expect(await attemptsOf(id)).toEqual([1]);
  expect(requestsOf(id)).toBe(2);
});

test("a dispatcher dies between the 2xx and the settlement: the receiver sees the webhook-id twice", async () => {
  const dispatcher = await pipeline.start("dispatcher", through);
  const vanished = proxy.swallow(callOf("settle"));
  const id = await pipeline.xadd("/ok");
  await vanished;
  await dispatcher.stop("SIGKILL");
  expect(tallyOf(id)!.accepted).toBe(1);
  const since = now();
  await pipeline.start("dispatcher");
  await until("it arrives again", () => requestsOf(id) === 2);
  report("2xx, not settled", since);
  await ended(id);
  expect(await attemptsOf(id)).toEqual([1]);
});

test.each([
  ["/ok", "success", 1],
  ["/flaky/1", "success", 2],
  ["/404", "failed", 1],
])(
  "a settlement of %s whose reply is lost is repeated and changes nothing",
  async (path, status, attempts) => {
    await pipeline.start("dispatcher", through);
    await pipeline.start("retry-scheduler");
    const lettersBefore = await pipeline.redis.xlen(pipeline.keys.dead);
    const lost = proxy.loseReplyTo(callOf("settle"));
    const id = await pipeline.xadd(path);
    await lost;
    await ended(id, status);
    expect(requestsOf(id)).toBe(attempts);
    expect(await attemptsOf(id)).toHaveLength(attempts);
    const letters = await pipeline.redis.xlen(pipeline.keys.dead);
    expect(letters - lettersBefore).toBe(status === "failed" ? 1 : 0);
  },
);

test("a dispatcher dies right after its settlement: nothing is sent again", async () => {
  const dispatcher = await pipeline.start("dispatcher", through);
  const lost = proxy.loseReplyTo(callOf("settle"));
  const id = await pipeline.xadd("/ok");
  await lost;
  await until("it is settled", async () => {
    return (await pipeline.redis.xlen(pipeline.keys.stream)) === 0;
  });
  await dispatcher.stop("SIGKILL");
  await pipeline.start("dispatcher");
  await ended(id);
  expect(requestsOf(id)).toBe(1);
});

test("a recorder dies between the rows and their removal from Redis: the same rows again change nothing", async () => {
  const dispatcher = await pipeline.start("dispatcher", through);
  const vanished = proxy.swallow(callOf("recorded"));
  const id = await pipeline.xadd("/ok");
  await vanished;
  await dispatcher.stop("SIGKILL");
  expect((await pipeline.row(id))?.status).toBe("success");
  expect(await pipeline.redis.xlen(pipeline.keys.log)).toBe(1);
  const since = now();
  await pipeline.start("retry-scheduler");
  await pipeline.start("dispatcher");
  await ended(id);
  report("recorded, not removed", since);
  expect(requestsOf(id)).toBe(1);
  expect(await attemptsOf(id)).toEqual([1]);
});

test("delivered and not recorded yet, because the recorder cannot reach Supabase: reconcile does not send it again", async () => {
  const away = await startTcpProxy(pipeline.stack.supabaseUrl);
  onTestFinished(away.close);
  away.set("refuse");
  await pipeline.start("dispatcher", {
    SUPABASE_URL: `http://127.0.0.1:${away.port}`,
  });
  await pipeline.start("ingest");
  const id = await pipeline.submit("/ok");
  await until("it arrives", () => requestsOf(id) === 1);
  await reconciled();
  expect((await pipeline.row(id))?.status).toBe("pending");
  away.set("pass");
  await ended(id);
  expect(requestsOf(id)).toBe(1);
});

test.each(["before", "after"] as const)(
  "a scheduler dies %s its promotion has run: each retry is promoted once, by another",
  async (moment) => {
    const scheduler = await pipeline.start("retry-scheduler", through);
    await pipeline.start("dispatcher", { RETRY_DELAYS_SECONDS: "2" });
    // The one promotion that matters is the one that finds work: stop the scheduler's clock until the retries are due.
    scheduler.child.kill("SIGSTOP");
    const ids = await Promise.all(
      Array.from({ length: 30 }, () => pipeline.xadd("/flaky/1")),
    );
    await until("all are due", async () => {
      const { redis, keys } = pipeline;
      return (await redis.zcount(keys.retries, 0, Date.now())) === ids.length;
    });
    const isPromotion = callOf("promote");
    const reached =
      moment === "before"
        ? proxy.swallow(isPromotion)
        : proxy.loseReplyTo(isPromotion);
    scheduler.child.kill("SIGCONT");
    await reached;
    const left = moment === "before" ? ids.length : 0;
    await until("it has run, or not", async () => {
      return (await pipeline.redis.zcard(pipeline.keys.retries)) === left;
    });
    await scheduler.stop("SIGKILL");
    expect(await pipeline.redis.zcard(pipeline.keys.retries)).toBe(left);
    await pipeline.start("retry-scheduler");
    await settled(pipeline, 30_000);
    expect(ids.map(requestsOf)).toEqual(ids.map(() => 2));
  },
);
