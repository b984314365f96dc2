import { randomUUID } from "node:crypto";
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  test,
} from "vitest";
import {
  HOOK,
  type Ingest,
  openDatabase,
  sample,
  startIngest,
  type TestDatabase,
} from "./ingest.ts";

let ingest: Ingest;
let database: TestDatabase;

beforeAll(() => {
  database = openDatabase();
});
afterAll(() => database.close());
beforeEach(async () => {
  ingest = await startIngest();
});
afterEach(() => ingest.stop());

/** A delivery that failed for good, as a dispatcher leaves it. */
async function fail(reason: string, request: object = sample()) {
  const { body } = await ingest.post("", request);
  const { id } = body.delivery;
  const [waiting] = await ingest.queue.waiting();
  const [entry] = await ingest.queue.read("me", 1);
  await ingest.queue.settleOne("me", entry!, {
    kind: "dead",
    fields: { ...waiting!.fields, reason, failed_at: new Date().toISOString() },
    record: null,
  });
  await database.record(id, 1, "failed");
  return id;
}

const letters = async (query = "") =>
  (await ingest.get(`/dead-letters${query}`)).body.deadLetters;

describe("GET /api/webhook-delivery/dead-letters", () => {
  test("lists the newest first, filtered and in pages", async () => {
    const first = await fail("HTTP 500");
    const second = await fail("timeout");
    const third = await fail("HTTP 404");
    const all = await letters();
    expect(all.map(({ deliveryId }) => deliveryId)).toEqual([
      third,
      second,
      first,
    ]);
    expect(all[1]).toEqual({
      entryId: expect.stringMatching(/^\d+-\d+$/),
      kind: "delivery",
      deliveryId: second,
      leadId: null,
      endpointId: null,
      event: "lead_captured",
      webhookUrl: "https://hooks.example.com/***",
      reason: "timeout",
      failedAt: expect.any(String),
      attempt: 1,
    });
    expect(await letters("?reason=http")).toHaveLength(2);

    const page = (await ingest.get("/dead-letters?limit=2")).body;
    expect(page.deadLetters).toEqual(all.slice(0, 2));
    const rest = (
      await ingest.get(`/dead-letters?limit=2&cursor=${page.nextCursor}`)
    ).body;
    expect(rest).toMatchObject({ deadLetters: all.slice(2), nextCursor: null });

    const at = new Date(Number(all[1]!.entryId.split("-")[0])).toISOString();
    expect(await letters(`?before=${at}`)).toEqual(all.slice(2));
    expect(await letters(`?after=${at}`)).toEqual(all.slice(0, 1));
  });
});

describe("POST /api/webhook-delivery/dead-letters/:entryId/replay", () => {
  test("sends it again under its id, the attempts going on, and takes it off the list", async () => {
    const id = await fail("HTTP 500");
    const [letter] = await letters();
    const reply = await ingest.post(`/dead-letters/${letter!.entryId}/replay`);
    expect(reply.status).toBe(202);
    expect(reply.body.delivery).toEqual({ deliveryId: id, attempt: 2 });
    const [entry] = await ingest.queue.waiting();
    expect(entry!.fields).toMatchObject({
      id,
      attempt: "2",
      max_attempts: "5",
      schedule_start: "2",
      persisted: "1",
      webhook_url: HOOK,
    });
    expect(entry!.fields).not.toHaveProperty("reason");
    expect(entry!.fields).not.toHaveProperty("failed_at");
    expect(await database.row(id)).toMatchObject({ status: "pending" });
    expect(await letters()).toEqual([]);
    const again = await ingest.post(`/dead-letters/${letter!.entryId}/replay`);
    expect(again.status).toBe(404);
  });

  test("sends the entry's own fields when Postgres knows no such delivery", async () => {
    const id = randomUUID();
    const entryId = await ingest.queue.redis.xadd(
      ingest.queue.keys.dead,
      "*",
      "id",
      id,
      "webhook_url",
      HOOK,
      "payload",
      '{"a": 1}',
      "reason",
      "crash_loop",
      "failed_at",
      new Date().toISOString(),
    );
    const reply = await ingest.post(`/dead-letters/${entryId}/replay`);
    expect(reply.status).toBe(202);
    const [entry] = await ingest.queue.waiting();
    expect(entry!.fields).toEqual({
      id,
      webhook_url: HOOK,
      payload: '{"a": 1}',
      attempt: "1",
      v: "1",
    });
  });

  test("says what keeps a dead letter from being sent", async () => {
    const entryId = await ingest.queue.redis.xadd(
      ingest.queue.keys.dead,
      "*",
      "payload",
      "{}",
      "reason",
      "webhook_url is required",
    );
    const reply = await ingest.post(`/dead-letters/${entryId}/replay`);
    expect(reply.status).toBe(422);
    expect(reply.body.issues).toMatchObject([{ path: "webhook_url" }]);
    expect(await letters()).toHaveLength(1);
  });

  test("refuses while the delivery is in the queue", async () => {
    const id = await fail("HTTP 500");
    const [letter] = await letters();
    expect((await ingest.post(`/${id}/retry`)).status).toBe(202);
    const reply = await ingest.post(`/dead-letters/${letter!.entryId}/replay`);
    expect(reply.status).toBe(409);
    expect(await ingest.queue.waiting()).toHaveLength(1);
  });

  test.each(["nonsense", "1-1"])("does not know %s", async (entryId) => {
    const reply = await ingest.post(`/dead-letters/${entryId}/replay`);
    expect(reply.status).toBe(404);
  });
});

describe("a dead letter whose delivery was retried by hand and arrived", () => {
  test("is not sent again, alone or among many", async () => {
    const id = await fail("HTTP 500");
    await database.record(id, 2, "success");
    const [letter] = await letters();
    const alone = await ingest.post(`/dead-letters/${letter!.entryId}/replay`);
    expect(alone.status).toBe(409);
    expect(alone.body.error).toBe("The delivery is no longer failed: success");
    const many = await ingest.post("/dead-letters/replay", {});
    expect(many.body).toMatchObject({ count: 0, skipped: [{}] });
    expect(await ingest.queue.waiting()).toEqual([]);
  });
});

describe("POST /api/webhook-delivery/dead-letters/replay", () => {
  test("counts in a dry run and replays what the filter matches", async () => {
    const elsewhere = { webhookUrl: "https://other.example.com/hook" };
    const ids = [
      await fail("HTTP 500"),
      await fail("HTTP 503"),
      await fail("timeout"),
      await fail("HTTP 502", sample(elsewhere)),
    ];
    const filter = {
      reason: "HTTP",
      webhookUrlOrigin: "https://hooks.example.com",
    };
    const dry = await ingest.post("/dead-letters/replay", {
      filter,
      dryRun: true,
    });
    expect(dry.status).toBe(200);
    expect(dry.body).toMatchObject({ dryRun: true, count: 2, skipped: [] });
    expect(await letters()).toHaveLength(4);

    const wet = await ingest.post("/dead-letters/replay", { filter });
    expect(wet.status).toBe(202);
    expect(wet.body).toMatchObject({ dryRun: false, count: 2, skipped: [] });
    const waiting = await ingest.queue.waiting();
    expect(new Set(waiting.map(({ fields }) => fields["id"]))).toEqual(
      new Set(ids.slice(0, 2)),
    );
    expect(await letters()).toHaveLength(2);
  });

  test("goes on past those that cannot be sent, and stops at its limit", async () => {
    for (let i = 0; i < 3; i++) await fail("HTTP 500");
    await ingest.queue.redis.xadd(ingest.queue.keys.dead, "*", "reason", "x");
    const reply = await ingest.post("/dead-letters/replay", { limit: 3 });
    expect(reply.body).toMatchObject({
      count: 2,
      skipped: [{ error: expect.stringContaining("payload") }],
    });
    expect(await letters()).toHaveLength(2);
  });

  test.each([
    [{ dryRun: "yes" }, "dryRun"],
    [{ limit: 0 }, "limit"],
    [{ filter: { webhookUrlOrigin: "somewhere" } }, "filter.webhookUrlOrigin"],
    [{ filter: { after: "soon" } }, "filter.after"],
  ])("refuses %j", async (request, path) => {
    const { status, body } = await ingest.post("/dead-letters/replay", request);
    expect(status).toBe(422);
    expect(body.issues[0]!.path).toBe(path);
  });
});

describe("a dead letter's kind", () => {
  const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

  test("tells a refused record by its own delivery, and it is nothing to replay", async () => {
    const deliveryId = randomUUID();
    const { queue } = ingest;
    const { redis, keys } = queue;
    const fields = ["delivery_id", deliveryId, "record", "{}"];
    const entryId = (await redis.xadd(keys.log, "*", ...fields))!;
    const logEntry = { entryId, deliveryId, record: "{}" };
    // Repeated, because the reply may be lost.
    for (let times = 0; times < 2; times++)
      await queue.recorder("me").setAside(logEntry, "23514", Date.now());
    expect(await letters()).toHaveLength(1);
    const [letter] = await letters();
    expect(letter).toMatchObject({ kind: "record", deliveryId });
    expect(letter).toHaveProperty("failedAt", expect.stringMatching(ISO));
    const { status, body } = await ingest.post(
      `/dead-letters/${letter!.entryId}/replay`,
    );
    expect(status).toBe(422);
    expect(body.issues[0]!.path).toBe("record");
  });

  test("tells a retry that could not be read, with a date like all others", async () => {
    const deliveryId = randomUUID();
    const { redis, keys, retries } = ingest.queue;
    await redis.zadd(keys.retries, 1, deliveryId);
    await redis.hset(keys.retriesData, deliveryId, "garbage");
    await retries.promote(10, Date.now());
    const [letter] = await letters();
    expect(letter).toMatchObject({ kind: "entry", deliveryId });
    expect(letter).toHaveProperty("failedAt", expect.stringMatching(ISO));
  });
});
