// Rows of leads and endpoints that nothing can be made of: the caller is told at once, and no other delivery suffers.
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { createSealer } from "@pipeline/shared/seal";
import { Client } from "pg";
import {
  HOOK,
  type Ingest,
  sample,
  type TestDatabase,
  useIngest,
} from "./ingest.ts";

let ingest: Ingest;
let database: TestDatabase;
let postgres: Client;

useIngest((shared) => ({ ingest, database } = shared));
beforeAll(async () => {
  postgres = new Client({ connectionString: inject("stack").postgresUrl });
  await postgres.connect();
});
afterAll(() => postgres.end());

const queued = () => ingest.queue.redis.xlen(ingest.queue.keys.stream);

/** How a request is refused, alone as in a batch, in which its neighbours must be stored. */
async function refusalOf(request: object) {
  const before = await queued();
  const alone = await ingest.post("", request);
  const batch = await ingest.post("/batch", {
    deliveries: [sample(), request, sample()],
  });
  expect(batch.status).toBe(202);
  expect(batch.body.deliveries.map((item) => item.status)).toEqual([
    "success",
    "error",
    "success",
  ]);
  expect(batch.body.deliveries[1]!.issues).toEqual(alone.body.issues);
  expect(await queued()).toBe(before + 2);
  return { status: alone.status, issues: alone.body.issues };
}

const blaming = (path: string, message: RegExp) => ({
  status: 422,
  issues: [{ path, message: expect.stringMatching(message) as string }],
});

describe("a lead", () => {
  test.each(["infinity", "-infinity", "20000-01-01", "0044-03-15 BC"])(
    "that was captured at %s is refused",
    async (created_at) => {
      const lead = await database.insertLead({ created_at });
      expect(await refusalOf({ leadId: lead.id, webhookUrl: HOOK })).toEqual(
        blaming("leadId", /created_at is not a date/),
      );
    },
  );

  test.each(["raw", "zapier", "makecom", "convertkit"])(
    "whose custom fields are nested without end is refused as %s",
    async (format) => {
      const { id } = await database.insertLead();
      await postgres.query(
        "update leads set custom_fields = (repeat('{\"a\":', 3000) || '1' || repeat('}', 3000))::jsonb where id = $1",
        [id],
      );
      expect(await refusalOf({ leadId: id, webhookUrl: HOOK, format })).toEqual(
        blaming("leadId", /nested deeper than 100 levels/),
      );
    },
  );

  test("whose custom fields are no object is sent without any", async () => {
    const { id } = await database.insertLead({ custom_fields: [1, "x"] });
    const { status, body } = await ingest.post("", {
      leadId: id,
      webhookUrl: HOOK,
    });
    expect(status).toBe(202);
    expect(await database.row(body.delivery.id)).toMatchObject({
      payload: { custom_fields: {} },
    });
  });
});

describe("an endpoint", () => {
  const foreign = createSealer(Buffer.alloc(32, 9).toString("base64"));
  const foreignText = foreign.seal("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
  test.each([
    ["headers that are a list", { headers: [] }, /headers: must be a JSON/],
    ["headers that are a number", { headers: 42 }, /headers: must be a JSON/],
    ["headers that are a text", { headers: "x-a: b" }, /headers: must be a/],
    [
      "a header that is null",
      { headers: { "X-Token": null } },
      /X-Token must be a string/,
    ],
    [
      "a header that is a number",
      { headers: { "X-Token": 42 } },
      /X-Token must be a string/,
    ],
    [
      "a line break at the end of a header",
      { headers: { "X-Token": "abc\n" } },
      /X-Token must be a string that HTTP allows/,
    ],
    [
      "a content type of its own",
      { headers: { "Content-Type": "text/xml" } },
      /Content-Type is set by the dispatcher/,
    ],
    [
      "a signature of its own",
      { headers: { "Webhook-Signature": "v1,x" } },
      /Webhook-Signature is set/,
    ],
    ["an empty whsec_ secret", { secret: "whsec_" }, /secret: must hold/],
    ["a whsec_ secret of nothing", { secret: "whsec_!!!!" }, /secret: must be/],
    ["a whsec_ secret of 3 bytes", { secret: "whsec_AAAA" }, /secret: must ho/],
    ["a secret sealed elsewhere", { secret: foreignText }, /was not sealed/],
    ["headers sealed elsewhere", { headers: foreignText }, /was not sealed/],
    ["an ftp URL", { url: "ftp://example.com" }, /URL is not an http/],
  ])("with %s is refused", async (_what, values, message) => {
    const { id } = await database.insert("webhook_endpoints", {
      url: HOOK,
      ...values,
    });
    expect(await refusalOf({ test: true, endpointId: id })).toEqual(
      blaming("endpointId", message),
    );
  });

  test.each([
    ["no headers", { headers: null }],
    ["an empty object of headers", { headers: {} }],
    ["no secret", { secret: null }],
    ["the empty secret that the older table demands", { secret: "" }],
  ])("with %s is used", async (_what, values) => {
    const { id } = await database.insert("webhook_endpoints", {
      url: HOOK,
      ...values,
    });
    const { status } = await ingest.post("", { test: true, endpointId: id });
    expect(status).toBe(202);
  });
});

describe("a secret of the request's own", () => {
  const foreign = createSealer(Buffer.alloc(32, 9).toString("base64"));
  test.each([
    ["whsec_", /must hold at least 16 bytes/],
    ["whsec_!!!!", /must be base64/],
    ["whsec_AAAA", /must hold at least 16 bytes/],
    ["", /must not be empty/],
    [foreign.seal("secret"), /was not sealed with this/],
  ])("is refused: %s", async (webhookSecret, message) => {
    expect(await refusalOf(sample({ webhookSecret }))).toEqual(
      blaming("webhookSecret", message),
    );
  });
});
