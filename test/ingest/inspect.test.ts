import { randomUUID } from "node:crypto";
import { Client } from "pg";
import { describe, expect, inject, test } from "vitest";
import {
  HOOK,
  type Ingest,
  sample,
  startIngest,
  type TestDatabase,
  useIngest,
} from "./ingest.ts";

let ingest: Ingest;
let database: TestDatabase;

useIngest((shared) => ({ ingest, database } = shared));

/** Deliveries of an endpoint of their own, oldest first. */
async function submitMany(count: number) {
  const endpoint = await database.insert("webhook_endpoints", { url: HOOK });
  const ids: string[] = [];
  for (let i = 0; i < count; i++) {
    const { body } = await ingest.post("", {
      test: true,
      endpointId: endpoint.id,
    });
    ids.push(body.delivery.id);
  }
  return { endpointId: endpoint.id, ids };
}

const idsOf = (deliveries: { id: string }[]) => deliveries.map(({ id }) => id);

describe("GET /api/webhook-delivery", () => {
  test("pages through a filter newest first, the total being the filter's", async () => {
    const { endpointId, ids } = await submitMany(5);
    const seen: string[] = [];
    let cursor = "";
    for (let page = 0; page < 3; page++) {
      const { status, body } = await ingest.get(
        `?endpointId=${endpointId}&limit=2${cursor}`,
      );
      expect(status).toBe(200);
      expect(body.total).toBe(5);
      seen.push(...idsOf(body.deliveries));
      expect(body.nextCursor === null).toBe(page === 2);
      cursor = `&cursor=${body.nextCursor}`;
    }
    expect(seen).toEqual(ids.toReversed());
  });

  test("neither skips nor repeats deliveries of one moment", async () => {
    const { body } = await ingest.post("/batch", {
      deliveries: Array.from({ length: 7 }, () => sample()),
    });
    const ids = body.deliveries.map(({ delivery }) => delivery.id);
    const row = await database.row(ids[0]!);
    const after = new Date(Date.parse(String(row!["created_at"])) - 5);
    const seen = new Set<string>();
    let cursor = "";
    do {
      const reply = await ingest.get(
        `?limit=3&after=${after.toISOString()}${cursor}`,
      );
      for (const id of idsOf(reply.body.deliveries)) {
        expect(seen).not.toContain(id);
        seen.add(id);
      }
      cursor =
        reply.body.nextCursor === null
          ? ""
          : `&cursor=${reply.body.nextCursor}`;
    } while (cursor !== "");
    for (const id of ids) expect(seen).toContain(id);
  });

  test("counts up to 10,000 and says whether there are more", async () => {
    const { endpointId } = await submitMany(2);
    const few = await ingest.get(`?endpointId=${endpointId}&limit=1`);
    expect(few.body).toMatchObject({ total: 2, more: false });

    const client = new Client({
      connectionString: inject("stack").postgresUrl,
    });
    await client.connect();
    const fill = (count: number) =>
      client.query(
        "insert into webhook_deliveries (payload, status, endpoint_id) select '{}', 'failed', $1 from generate_series(1, $2::int)",
        [endpointId, count],
      );
    try {
      await fill(9_998);
      const all = await ingest.get(`?endpointId=${endpointId}&limit=1`);
      expect(all.body).toMatchObject({ total: 10_000, more: false });
      await fill(1);
      const many = await ingest.get(`?endpointId=${endpointId}&limit=1`);
      expect(many.body).toMatchObject({ total: 10_000, more: true });
    } finally {
      await client.query(
        "delete from webhook_deliveries where endpoint_id = $1",
        [endpointId],
      );
      await client.end();
    }
  });

  test("filters by id, lead, status and time", async () => {
    const lead = await database.insertLead();
    const first = await ingest.post("", { leadId: lead.id, webhookUrl: HOOK });
    const between = new Date();
    const second = await ingest.post("", { leadId: lead.id, webhookUrl: HOOK });
    const [a, b] = [first.body.delivery.id, second.body.delivery.id];
    await database.record(b, 1, "success");

    const list = async (query: string) =>
      idsOf((await ingest.get(`?leadId=${lead.id}${query}`)).body.deliveries);
    expect(await list("")).toEqual([b, a]);
    expect(await list(`&deliveryId=${a}`)).toEqual([a]);
    expect(await list("&status=success")).toEqual([b]);
    expect(await list("&status=failed")).toEqual([]);
    const row = await database.row(b);
    expect(await list(`&before=${between.toISOString()}`)).toEqual([a]);
    expect(await list(`&after=${between.toISOString()}`)).toEqual([b]);
    expect(row).toBeDefined();
  });

  test("shows no secret, header or path of a URL", async () => {
    const endpoint = await database.insert("webhook_endpoints", {
      url: HOOK,
      secret: "s3cret",
      headers: { "x-token": "t0ken" },
    });
    const { body } = await ingest.post("", {
      test: true,
      endpointId: endpoint.id,
    });
    const replies = await Promise.all([
      ingest.get(`?deliveryId=${body.delivery.id}`),
      ingest.get(`/${body.delivery.id}`),
    ]);
    for (const reply of replies) {
      expect(JSON.stringify(reply.body)).not.toMatch(
        /s3cret|t0ken|sealed|abcdef/,
      );
    }
    expect(replies[0].body.deliveries[0]).toEqual({
      id: body.delivery.id,
      leadId: null,
      endpointId: endpoint.id,
      event: "lead_captured",
      format: "raw",
      webhookUrl: "https://hooks.example.com/***",
      status: "pending",
      attempt: 1,
      maxAttempts: 4,
      responseStatus: null,
      lastError: null,
      sentAt: null,
      nextRetryAt: null,
      createdAt: expect.any(String),
      updatedAt: expect.any(String),
    });
  });

  test.each([
    "status=done",
    "limit=0",
    "limit=201",
    "limit=many",
    "leadId=x",
    "before=yesterday",
    "cursor=nonsense",
  ])("refuses ?%s by name", async (query) => {
    const { status, body } = await ingest.get(`?${query}`);
    expect(status).toBe(422);
    expect(body.issues.map(({ path }) => path)).toEqual([query.split("=")[0]]);
  });
});

describe("GET /api/webhook-delivery/:id", () => {
  test("shows the attempts in order", async () => {
    const { body } = await ingest.post("", sample());
    const { id } = body.delivery;
    await database.record(id, 2, "failed");
    await database.record(id, 1, "sent");
    const reply = await ingest.get(`/${id}`);
    expect(reply.status).toBe(200);
    expect(reply.body.delivery).toMatchObject({
      id,
      status: "failed",
      attempt: 2,
      lastError: "HTTP 500",
      responseBody: "body",
      payload: { event: "lead_captured" },
      attempts: [
        { attemptNumber: 1, willRetry: true, errorType: "http" },
        { attemptNumber: 2, willRetry: false, responseStatus: 500 },
      ],
    });
  });

  test.each(["nonsense", randomUUID()])("does not know %s", async (id) => {
    expect((await ingest.get(`/${id}`)).status).toBe(404);
  });
});

describe("GET /api/webhook-delivery/stats", () => {
  test("counts what the queue holds and how deliveries ended", async () => {
    const fresh = await startIngest();
    try {
      const before = (await fresh.get("/stats")).body;
      expect(before.queue).toEqual({
        waiting: 0,
        waitingForShare: 0,
        inFlight: 0,
        retries: 0,
        dead: 0,
        unrecorded: 0,
      });
      for (let i = 0; i < 5; i++) await fresh.post("", sample());
      const [first, second, third] = await fresh.queue.read("me", 3);
      await fresh.queue.settleOne("me", first!, { kind: "retry" });
      await fresh.queue.settleOne("me", second!, { kind: "dead" });
      await database.record(third!.deliveryId, 1, "success");
      const after = (await fresh.get("/stats")).body;
      expect(after.queue).toEqual({
        waiting: 2,
        waitingForShare: 0,
        inFlight: 1,
        retries: 1,
        dead: 1,
        unrecorded: 2,
      });
      expect(after.outcomes["success"]).toBeGreaterThan(
        before.outcomes["success"]!,
      );
    } finally {
      await fresh.stop();
    }
  });
});

describe("times to the microsecond", () => {
  test("before and after find exactly the rows on their side of a createdAt", async () => {
    const { endpointId, ids } = await submitMany(3);
    const at = (digits: string) => `2026-03-01T12:00:00.${digits}+00:00`;
    for (const [index, digits] of ["123455", "123456", "123457"].entries())
      await database.client
        .from("webhook_deliveries")
        .update({ created_at: at(digits) })
        .eq("id", ids[index]!)
        .throwOnError();
    const list = async (query: string) =>
      idsOf(
        (await ingest.get(`?endpointId=${endpointId}&${query}`)).body
          .deliveries,
      );
    const shown = await ingest.get(`?endpointId=${endpointId}`);
    expect(shown.body.deliveries.map((each) => Object(each).createdAt)).toEqual(
      [at("123457"), at("123456"), at("123455")],
    );
    for (const encode of [encodeURIComponent, (text: string) => text]) {
      const middle = encode(at("123456"));
      expect(await list(`before=${middle}`)).toEqual([ids[0]]);
      expect(await list(`after=${middle}`)).toEqual([ids[2]]);
      const nanoseconds = encode(at("1234560001"));
      expect(await list(`before=${nanoseconds}`)).toEqual([ids[1], ids[0]]);
      expect(await list(`after=${nanoseconds}`)).toEqual([ids[2]]);
    }
  });

  test.each(["0000-01-01", "infinity", "2026-01-31T25:00:00Z"])(
    "%s is refused",
    async (text) => {
      const { status, body } = await ingest.get(`?before=${text}`);
      expect(status).toBe(422);
      expect(body.issues[0]!.path).toBe("before");
    },
  );
});
