// What is deleted in Postgres is sent no more, and leaves nothing of itself in Redis.
import { setTimeout as sleep } from "node:timers/promises";
import { createHolds } from "@pipeline/shared/queue/holds";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Pipeline, startPipeline } from "../support/crash-pipeline.ts";
import { apiOf, send } from "../support/send.ts";
import { until } from "../support/until.ts";

const EMAIL = "grace@example.com";
const STOPPED_WITHIN_MS = 2000;

let pipeline: Pipeline;
let sql: Client;
beforeAll(async () => {
  pipeline = await startPipeline({
    env: {
      // The second attempt comes too early to be stopped, the third must not come.
      RETRY_DELAYS_SECONDS: "0.1,2.5,0.5",
      CLAIM_IDLE_MS: "60000",
      LOG_LEVEL: "warn",
    },
  });
  await pipeline.startServices();
  sql = new Client({ connectionString: pipeline.stack.postgresUrl });
  await sql.connect();
});
afterAll(async () => {
  await sql.end();
  await pipeline.stop();
});

const idOf = async (query: string, values: unknown[]) =>
  (await sql.query<{ id: string }>(`${query} returning id`, values)).rows[0]!
    .id;
async function createLead() {
  const clientId = await idOf("insert into clients (name) values ($1)", ["X"]);
  const campaignId = await idOf(
    "insert into campaigns (client_id, name) values ($1, 'Spring')",
    [clientId],
  );
  const leadId = await idOf(
    "insert into leads (campaign_id, email) values ($1, $2)",
    [campaignId, EMAIL],
  );
  return { clientId, leadId };
}
const createEndpoint = async (path: string, clientId: string | null = null) =>
  idOf("insert into webhook_endpoints (client_id, url) values ($1, $2)", [
    clientId,
    pipeline.receiver.url + path,
  ]);
const requestsOf = (id: string) =>
  pipeline.receiver.tallies.get(id)?.requestedAt ?? [];
const failedTwice = (id: string) =>
  until("two attempts are recorded", async () => {
    return (await pipeline.attempts(id)).length === 2;
  });
async function call(method: string, path: string) {
  const [ingest] = pipeline.running("ingest");
  return send(apiOf(ingest!.url) + path, method);
}

/** Every text that Redis holds. */
async function everything(): Promise<string> {
  const { redis, keys } = pipeline;
  return JSON.stringify([
    await redis.xrange(keys.stream, "-", "+"),
    await redis.xrange(keys.dead, "-", "+"),
    await redis.xrange(keys.log, "-", "+"),
    await redis.hgetall(keys.retriesData),
    await redis.hgetall(keys.homes),
  ]);
}
const isGone = async (id: string) => !(await everything()).includes(id);

/** No request comes that was not under way when the time was up. */
async function expectNoMore(ids: string[], since: number): Promise<void> {
  await sleep(since + 6000 - Date.now());
  const late = ids.flatMap((id) =>
    requestsOf(id).filter((at) => at > since + STOPPED_WITHIN_MS),
  );
  expect(late).toEqual([]);
}

test("a lead's deliveries stop with it, whatever way they came, and nothing of them is left", async () => {
  const { leadId } = await createLead();
  const byApi = await pipeline.submit("/500", { leadId, payload: undefined });
  const payload = JSON.stringify({ email: EMAIL });
  const byHand = await pipeline.xadd("/500", { lead_id: leadId, payload });
  await Promise.all([byApi, byHand].map(failedTwice));
  expect(await everything()).toContain(EMAIL);

  const since = Date.now();
  await sql.query("delete from leads where id = $1", [leadId]);
  await until("it is out of the queue", () => isGone(byApi), STOPPED_WITHIN_MS);
  await expectNoMore([byApi, byHand], since);
  expect(await everything()).not.toContain(EMAIL);
  for (const id of [byApi, byHand]) {
    expect(requestsOf(id)).toHaveLength(2);
    expect(await pipeline.row(id)).toBeNull();
    expect((await call("POST", `/${id}/retry`)).status).toBe(404);
  }
});

test("one whose lead is deleted while its first attempt runs is not stored, and not sent again", async () => {
  const { leadId } = await createLead();
  const payload = JSON.stringify({ email: EMAIL });
  const id = await pipeline.xadd("/slow-500/700", { lead_id: leadId, payload });
  await until("it is on its way", () => requestsOf(id).length === 1);
  const since = Date.now();
  await sql.query("delete from leads where id = $1", [leadId]);
  await expectNoMore([id], since);
  expect(await pipeline.row(id)).toBeNull();
  expect(await everything()).not.toContain(EMAIL);
});

test("a client's deletion reaches what its leads and endpoints have in Redis", async () => {
  const { leadId, clientId } = await createLead();
  const endpointId = await createEndpoint("/500", clientId);
  const id = await pipeline.submit("/500", {
    leadId,
    payload: undefined,
    webhookUrl: undefined,
    endpointId,
  });
  await failedTwice(id);
  const since = Date.now();
  await sql.query("delete from clients where id = $1", [clientId]);
  await expectNoMore([id], since);
  expect(await pipeline.row(id)).toBeNull();
  expect(await everything()).not.toContain(EMAIL);
});

test("an endpoint's deliveries stop with it and are cancelled; the finished ones stay as they are", async () => {
  const endpointId = await createEndpoint("/500");
  const to = (more: object = {}) =>
    pipeline.submit("/500", { webhookUrl: undefined, endpointId, ...more });
  const finishedEndpoint = await createEndpoint("/404");
  const finished = await pipeline.submit("", {
    webhookUrl: undefined,
    endpointId: finishedEndpoint,
  });
  await until("it has failed", async () => {
    return (await pipeline.row(finished))?.status === "failed";
  });
  const letter = await until("its dead letter", async () => {
    const letters = (await call("GET", "/dead-letters?limit=200")).body
      .deadLetters as unknown as { entryId: string; deliveryId: string }[];
    return letters.find(({ deliveryId }) => deliveryId === finished);
  });
  const ids = await Promise.all(Array.from({ length: 20 }, () => to()));
  const byHand = await pipeline.xadd("/500", { endpoint_id: endpointId });
  await Promise.all([...ids, byHand].map(failedTwice));

  const since = Date.now();
  await sql.query("delete from webhook_endpoints where id = any ($1)", [
    [endpointId, finishedEndpoint],
  ]);
  const retried = await call("POST", `/${finished}/retry`);
  const path = `/dead-letters/${letter.entryId}/replay`;
  const replayed = await call("POST", path);
  expect([retried.status, replayed.status]).toEqual([409, 409]);
  expect(retried.body.error).toContain("endpoint was deleted");

  await expectNoMore([...ids, byHand, finished], since);
  for (const id of [...ids, byHand])
    expect(await pipeline.row(id)).toMatchObject({
      status: "cancelled",
      last_error: "the endpoint was deleted",
    });
  expect(await pipeline.row(finished)).toMatchObject({ status: "failed" });
  await until("no copy is left", () => isGone(finished), 15_000);
  expect((await call("POST", path)).status).toBe(404);
  expect((await call("POST", `/${ids[0]!}/retry`)).status).toBe(409);
});

test("a dead letter of a deleted lead is not replayed, and soon gone", async () => {
  const { leadId } = await createLead();
  const payload = JSON.stringify({ email: EMAIL });
  const ids = [
    await pipeline.submit("/404", { leadId, payload: undefined }),
    await pipeline.xadd("/404", { lead_id: leadId, payload }),
  ];
  const letters = await until("the dead letters", async () => {
    const all = (await call("GET", "/dead-letters?limit=200")).body
      .deadLetters as unknown as { entryId: string; deliveryId: string }[];
    const own = all.filter(({ deliveryId }) => ids.includes(deliveryId));
    return own.length === 2 ? own : null;
  });
  await until("their records", async () => {
    return (await Promise.all(ids.map(pipeline.row))).every(Boolean);
  });
  await until("the log is drained", pipeline.isIdle);
  await sql.query("delete from leads where id = $1", [leadId]);
  for (const { entryId } of letters) {
    const reply = await call("POST", `/dead-letters/${entryId}/replay`);
    expect(reply.status).toBe(404);
  }
  await until(
    "no copy is left",
    async () => !(await everything()).includes(EMAIL),
    15_000,
  );
  for (const id of ids) expect(requestsOf(id)).toHaveLength(1);
});

test("what was deleted while no scheduler ran is carried out when one starts, as often as it takes", async () => {
  const { leadId } = await createLead();
  const [scheduler] = pipeline.running("retry-scheduler");
  await scheduler!.stop("SIGKILL");
  const id = await pipeline.submit("/500", { leadId, payload: undefined });
  await until("one attempt", () => requestsOf(id).length === 1);
  await until("its retry", async () => {
    return (await pipeline.redis.hget(pipeline.keys.homes, id)) === "retry";
  });
  await sql.query("delete from leads where id = $1", [leadId]);
  await pipeline.start("retry-scheduler");
  await sleep(3000);
  // Its first retry was overdue, so either loop may have been first.
  expect(requestsOf(id).length).toBeLessThanOrEqual(2);
  await until("no copy is left", () => isGone(id), 25_000);
});

test("a delivery whose cancelling process died before it reached Redis is not sent", async () => {
  const id = await pipeline.submit("/flaky/2");
  await until("one attempt is recorded", async () => {
    return (await pipeline.attempts(id)).length === 1;
  });
  await failedTwice(id);
  const { holdToCancel } = createHolds(pipeline.redis, pipeline.keys);
  expect(await holdToCancel(id)).toMatchObject({ kind: "held" });
  await sql.query("select cancel_delivery($1)", [id]);
  await until("it is out of the queue", () => isGone(id), 8000);
  await sleep(4000); // the hold would have expired by then
  expect(requestsOf(id)).toHaveLength(2);
  expect(await pipeline.row(id)).toMatchObject({ status: "cancelled" });
  // Sent again by hand, it is no longer a cancelled one.
  const before = requestsOf(id).length;
  expect((await call("POST", `/${id}/retry`)).status).toBe(202);
  await until("it is sent", () => requestsOf(id).length > before);
});

test("an idle scheduler asks Redis nothing on account of deletions", async () => {
  await until(
    "all deletions are carried out",
    async () => {
      const { rows } = await sql.query(
        "select from webhook_deletions where check_at is not null",
      );
      return rows.length === 0;
    },
    45_000,
  );
  await until("nothing is left to do", pipeline.isIdle, 15_000);
  const purges = async () => {
    const stats = await pipeline.redis.info("commandstats");
    return Number(/cmdstat_xdel:calls=(\d+)/.exec(stats)?.[1] ?? 0);
  };
  const before = await purges();
  await sleep(3000);
  expect(await purges()).toBe(before);
});
