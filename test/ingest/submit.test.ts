import { randomUUID } from "node:crypto";
import { createSealer } from "@pipeline/shared/seal";
import { describe, expect, test } from "vitest";
import {
  ENCRYPTION_KEY,
  HOOK,
  type Ingest,
  sample,
  type TestDatabase,
  useIngest,
} from "./ingest.ts";

const sealer = createSealer(ENCRYPTION_KEY);
let ingest: Ingest;
let database: TestDatabase;

useIngest((shared) => ({ ingest, database } = shared));

async function entryOf(id: string): Promise<Record<string, string>> {
  const entries = await ingest.queue.waiting();
  const own = entries.filter(({ fields }) => fields["id"] === id);
  expect(own).toHaveLength(1);
  return own[0]!.fields;
}

describe("POST /api/webhook-delivery", () => {
  test("stores and queues a lead's payload, the secret sealed in both", async () => {
    const lead = await database.insertLead();
    const { status, body } = await ingest.post("", {
      leadId: lead.id,
      webhookUrl: HOOK,
      webhookSecret: "plain secret",
      campaignName: "Renamed",
      customFields: { size: 3 },
    });
    expect(status).toBe(202);
    expect(body).toEqual({
      status: "success",
      delivery: {
        id: expect.any(String),
        leadId: lead.id,
        webhookUrl: "https://hooks.example.com/***",
        status: "pending",
        attempt: 1,
      },
    });

    const row = await database.row(body.delivery.id);
    const entry = await entryOf(body.delivery.id);
    expect(row).toMatchObject({
      lead_id: lead.id,
      client_id: lead.clientId,
      webhook_url: HOOK,
      event: "lead_captured",
      format: "raw",
      status: "pending",
      attempt: 1,
      max_attempts: 4,
      payload: {
        event: "lead_captured",
        lead: { id: lead.id, email: "grace@example.com", lastName: null },
        campaign: {
          id: lead.campaignId,
          name: "Renamed",
          leadMagnetName: "Guide",
        },
        custom_fields: { plan: "pro", size: 3 },
      },
    });
    expect(JSON.parse(entry["payload"]!)).toEqual(row!["payload"]);
    expect(entry).toMatchObject({
      webhook_url: HOOK,
      lead_id: lead.id,
      attempt: "1",
      max_attempts: "4",
      persisted: "1",
    });
    expect(entry["secret"]).toBe(row!["secret"]);
    expect(entry["secret"]).toMatch(/^sealed:v1:/);
    expect(sealer.open(entry["secret"]!)).toBe("plain secret");
  });

  test("uses an endpoint's URL, format, secret and headers", async () => {
    const endpoint = await database.insert("webhook_endpoints", {
      url: HOOK,
      format: "zapier",
      secret: "theirs",
      headers: { "x-token": "t" },
    });
    const { status, body } = await ingest.post("", {
      test: true,
      endpointId: endpoint.id,
    });
    expect(status).toBe(202);
    const entry = await entryOf(body.delivery.id);
    expect(entry).toMatchObject({
      endpoint_id: endpoint.id,
      webhook_url: HOOK,
      format: "zapier",
    });
    expect(JSON.parse(entry["payload"]!)).toMatchObject({
      first_name: "Ada",
      campaign_name: "Sample campaign",
      custom_plan: "sample",
    });
    expect(sealer.open(entry["secret"]!)).toBe("theirs");
    expect(sealer.open(entry["headers"]!)).toBe('{"x-token":"t"}');
  });

  test("sends a payload as it was given", async () => {
    const payload = { b: [1, { "€": "\u2028 " }], a: null };
    const { body } = await ingest.post("", { payload, webhookUrl: HOOK });
    expect((await entryOf(body.delivery.id))["payload"]).toBe(
      JSON.stringify(payload),
    );
  });

  test("gives the first delivery again for the same idempotency key and request, and refuses another request", async () => {
    const key = randomUUID();
    const first = await ingest.post("", sample(), { "idempotency-key": key });
    const again = await ingest.post("", sample({ idempotencyKey: key }));
    const other = await ingest.post("", sample({ event: "lead_qualified" }), {
      "idempotency-key": key,
    });
    expect([first.status, again.status, other.status]).toEqual([202, 200, 409]);
    expect(again.body).toEqual(first.body);
    await entryOf(first.body.delivery.id);
  });

  test("makes one delivery of many simultaneous requests with one idempotency key", async () => {
    const request = sample({ idempotencyKey: randomUUID() });
    const before = await ingest.queue.redis.xlen(ingest.queue.keys.stream);
    const replies = await Promise.all(
      Array.from({ length: 30 }, () => ingest.post("", request)),
    );
    const ids = new Set(replies.map(({ body }) => body.delivery.id));
    expect(ids.size).toBe(1);
    expect(replies.filter(({ status }) => status === 202)).toHaveLength(1);
    expect(replies.filter(({ status }) => status === 200)).toHaveLength(29);
    await entryOf([...ids][0]!);
    expect(await ingest.queue.redis.xlen(ingest.queue.keys.stream)).toBe(
      before + 1,
    );
  });

  test("refuses an endpoint that is switched off", async () => {
    const endpoint = await database.insert("webhook_endpoints", {
      url: HOOK,
      active: false,
    });
    const { status, body } = await ingest.post("", {
      test: true,
      endpointId: endpoint.id,
    });
    expect(status).toBe(409);
    expect(body.issues).toEqual([
      { path: "endpointId", message: expect.stringContaining("switched off") },
    ]);
  });

  test("refuses ConvertKit's format for a lead without an e-mail", async () => {
    const lead = await database.insertLead({ email: null });
    const { status, body } = await ingest.post("", {
      leadId: lead.id,
      webhookUrl: HOOK,
      format: "convertkit",
    });
    expect(status).toBe(422);
    expect(body.issues[0]!.path).toBe("lead.email");
  });

  const deep = `{"payload":{"a":${"[".repeat(50_000)}${"]".repeat(50_000)}},"webhookUrl":"${HOOK}"}`;
  test.each([
    ["malformed JSON", "{", 400, []],
    ["no body", undefined, 422, [""]],
    [
      "an unknown lead",
      { leadId: randomUUID(), webhookUrl: HOOK },
      404,
      ["leadId"],
    ],
    [
      "a lead id that is no UUID",
      { leadId: "test-lead-id", webhookUrl: HOOK },
      404,
      ["leadId"],
    ],
    [
      "an unknown endpoint",
      { test: true, endpointId: randomUUID() },
      404,
      ["endpointId"],
    ],
    [
      "neither payload nor lead",
      { webhookUrl: HOOK },
      422,
      ["leadId", "payload", "test"],
    ],
    ["a NUL", { payload: { a: "\0" }, webhookUrl: HOOK }, 422, ["payload"]],
    ["a payload nested without end", deep, 422, ["payload"]],
    [
      "more than 256 KiB",
      sample({ customFields: { a: "x".repeat(256 * 1024) } }),
      413,
      [],
    ],
  ])("refuses %s", async (_what, request, status, paths) => {
    const reply = await ingest.post("", request);
    expect(reply.status).toBe(status);
    expect(reply.body).toMatchObject({
      status: "error",
      error: expect.stringMatching(/\w/),
    });
    expect(reply.body.issues.map(({ path }) => path)).toEqual(paths);
    expect(JSON.stringify(reply.body)).not.toContain(".ts:");
  });

  test.each([
    ["PUT", "/api/webhook-delivery", "application/json", 404],
    ["GET", "/nowhere", "application/json", 404],
    ["GET", "/api/webhook-delivery/%zz", "application/json", 400],
    ["POST", "/api/webhook-delivery", "text/plain", 415],
    ["POST", "/api/webhook-delivery", "application/xml", 415],
  ])(
    "answers %s %s of %s with %i in JSON",
    async (method, path, type, status) => {
      const response = await fetch(`${ingest.origin}${path}`, {
        method,
        headers: { "content-type": type },
        ...(method !== "GET" && { body: "{}" }),
      });
      expect(response.status).toBe(status);
      expect(await response.json()).toMatchObject({
        status: "error",
        issues: [],
      });
    },
  );
});

describe("POST /api/webhook-delivery/batch", () => {
  test("answers every item in its place and lets no bad one harm a good one", async () => {
    const key = randomUUID();
    const { status, body } = await ingest.post("/batch", {
      deliveries: [
        sample(),
        { nonsense: true },
        sample({ idempotencyKey: key }),
        sample({ idempotencyKey: key }),
        7,
        { leadId: "unknown", webhookUrl: HOOK },
        sample({ customFields: { a: "\0" } }),
        sample({ customFields: { a: "x".repeat(256 * 1024) } }),
        sample({ idempotencyKey: key, event: "lead_qualified" }),
        sample(),
      ],
    });
    expect(status).toBe(202);
    expect(body.deliveries.map((item) => item.status)).toEqual([
      "success",
      "error",
      "success",
      "success",
      "error",
      "error",
      "error",
      "error",
      "error",
      "success",
    ]);
    expect(body.deliveries[3]!.delivery).toEqual(body.deliveries[2]!.delivery);
    expect(body.deliveries[5]!.issues[0]!.path).toBe("leadId");
    for (const place of [0, 2, 9])
      await entryOf(body.deliveries[place]!.delivery.id);
  });

  test("takes a thousand items, and no more", async () => {
    const deliveries = Array.from({ length: 1000 }, () => sample());
    const before = await ingest.queue.redis.xlen(ingest.queue.keys.stream);
    const { status, body } = await ingest.post("/batch", { deliveries });
    expect(status).toBe(202);
    expect(
      new Set(body.deliveries.map(({ delivery }) => delivery.id)).size,
    ).toBe(1000);
    expect(await ingest.queue.redis.xlen(ingest.queue.keys.stream)).toBe(
      before + 1000,
    );
    const tooMany = await ingest.post("/batch", {
      deliveries: [...deliveries, sample()],
    });
    expect(tooMany.status).toBe(422);
    expect(tooMany.body.issues[0]!.path).toBe("deliveries");
  });
});

describe("a field that is not known", () => {
  const asked = sample({ webhook_secret: "s3cret" });
  const issue = {
    path: "webhook_secret",
    message: "is not known; did you mean webhookSecret?",
  };

  test("is named with the one that was meant, alone and in a batch, and its value is not repeated", async () => {
    const before = await ingest.queue.redis.xlen(ingest.queue.keys.stream);
    const alone = await ingest.post("", asked);
    expect(alone.status).toBe(422);
    expect(alone.body.issues).toEqual([issue]);
    expect(JSON.stringify(alone.body)).not.toContain("s3cret");
    const batch = await ingest.post("/batch", {
      deliveries: [sample(), asked],
    });
    expect(batch.body.deliveries[1]!.issues).toEqual([issue]);
    expect(await ingest.queue.redis.xlen(ingest.queue.keys.stream)).toBe(
      before + 1,
    );
  });

  test.each([
    ["/batch", { deliverys: [] }, "deliverys", "deliveries"],
    ["/dead-letters/replay", { dryrun: true }, "dryrun", "dryRun"],
    [
      "/dead-letters/replay",
      { filter: { endpoint: "x" } },
      "filter.endpoint",
      "endpointId",
    ],
  ])("of POST %s %j is refused", async (path, body, field, meant) => {
    const reply = await ingest.post(path, body);
    expect(reply.status).toBe(422);
    expect(reply.body.issues).toContainEqual({
      path: field,
      message: `is not known; did you mean ${meant}?`,
    });
  });

  test.each([
    ["?state=failed", "state"],
    ["?lead_id=x", "lead_id"],
    ["/dead-letters?resaon=x", "resaon"],
  ])("in the query of GET %s is refused", async (path, field) => {
    const reply = await ingest.get(path);
    expect(reply.status).toBe(422);
    expect(reply.body.issues[0]).toMatchObject({ path: field });
  });
});
