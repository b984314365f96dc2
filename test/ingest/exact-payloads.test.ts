// A payload goes through as the text it came as, however it is written, encoded or sized.
import { randomUUID } from "node:crypto";
import { gzipSync } from "node:zlib";
import { MAX_PAYLOAD_BYTES } from "@pipeline/shared/entries";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
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

async function payloadOf(id: string): Promise<string> {
  const entries = await ingest.queue.waiting();
  const own = entries.filter(({ fields }) => fields["id"] === id);
  expect(own).toHaveLength(1);
  return own[0]!.fields["payload"]!;
}

async function post(
  body: Uint8Array<ArrayBuffer> | string,
  headers: Record<string, string> = {},
  path = "",
) {
  const response = await fetch(`${ingest.api}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body,
  });
  return {
    status: response.status,
    body: (await response.json()) as Awaited<
      ReturnType<typeof ingest.post>
    >["body"],
  };
}

const NUMBERS =
  '{"a":9007199254740993,"b":[12345678901234567890,-0,1.0],"c":{"huge":1e400,"beyond":1e200000,"price":1.50}}';
const ODD =
  '{ "z": 1,\n\t"b" : "\\u00e9 \\/ \\ud83e\\udd8a",  "10": 1, "2": [ 1.0 , 1E5 ], "a":1, "a":{"last": "of two"} }';

describe("a payload", () => {
  test.each([
    ["numbers that JavaScript cannot hold", NUMBERS],
    ["blanks, escapes, an order and a repetition of its own", ODD],
  ])(
    "with %s is queued, stored, shown and sent again as it came",
    async (_what, text) => {
      const request = `{"webhookUrl":"${HOOK}", "payload" : ${text} }`;
      const alone = await post(request);
      const batch = await post(
        `{"deliveries": [ {"test":true,"webhookUrl":"${HOOK}"} , ${request}, 7 ]}`,
        {},
        "/batch",
      );
      for (const id of [
        alone.body.delivery.id,
        batch.body.deliveries[1]!.delivery.id,
      ]) {
        expect(await payloadOf(id)).toBe(text);
        const { rows } = await postgres.query(
          "select payload::text from webhook_deliveries where id = $1",
          [id],
        );
        expect(rows).toEqual([{ payload: text }]);
      }

      const { id } = alone.body.delivery;
      const read = await ingest.queue.read("me", 1000);
      const entry = read.find(({ deliveryId }) => deliveryId === id);
      await ingest.queue.settleOne("me", entry!, {
        kind: "dead",
        record: null,
      });
      await database.record(id, 1, "failed");
      expect((await ingest.post(`/${id}/retry`)).status).toBe(202);
      expect(await payloadOf(id)).toBe(text);
    },
  );

  test("is shown with its numbers as they came", async () => {
    const { body } = await post(
      `{"webhookUrl":"${HOOK}","payload":${NUMBERS}}`,
    );
    const shown = await fetch(`${ingest.api}/${body.delivery.id}`);
    expect(await shown.text()).toContain(`"payload":${NUMBERS}`);
  });

  test("that is given another campaign or format keeps its numbers", async () => {
    const { body } = await post(
      `{"webhookUrl":"${HOOK}","campaignName":"X","customFields":{"n":1e400},"format":"zapier",` +
        '"payload":{"lead":{"score":9007199254740993},"price":1.50}}',
    );
    const payload = await payloadOf(body.delivery.id);
    expect(payload).toContain('"score":9007199254740993');
    expect(payload).toContain('"custom_n":1e400');
    expect(payload).toContain('"price":1.50');
  });

  test("of a lead has the numbers of the lead's row", async () => {
    const lead = await database.insertLead();
    await postgres.query("update leads set custom_fields = $2 where id = $1", [
      lead.id,
      '{"n":12345678901234567890,"price":1.50}',
    ]);
    const { body } = await ingest.post("", {
      leadId: lead.id,
      webhookUrl: HOOK,
    });
    const payload = await payloadOf(body.delivery.id);
    expect(payload).toContain('"n":12345678901234567890');
    expect(payload).toContain('"price":1.50');
  });

  test("that differs in the last digit of a number is another request under the same key", async () => {
    const request = (n: string) =>
      `{"webhookUrl":"${HOOK}","idempotencyKey":"${key}","payload":{"n":${n}}}`;
    const key = randomUUID();
    expect((await post(request("9007199254740993"))).status).toBe(202);
    expect((await post(request("9007199254740993"))).status).toBe(200);
    expect((await post(request("9007199254740992"))).status).toBe(409);
  });

  test("nested without end around a number is refused", async () => {
    const deep = `{"a":${"[".repeat(50_000)}1.0${"]".repeat(50_000)}}`;
    const reply = await post(`{"webhookUrl":"${HOOK}","payload":${deep}}`);
    expect(reply.status).toBe(422);
  });

  test.each([
    [0, 202],
    [1, 413],
  ])(
    "of 256 KiB and %i bytes is answered with %i, alone as in a batch, however long its request is",
    async (more, status) => {
      const filler = "é".repeat((MAX_PAYLOAD_BYTES - 8) / 2);
      const payload = { a: `${filler}${"x".repeat(more)}` };
      expect(Buffer.byteLength(JSON.stringify(payload))).toBe(
        MAX_PAYLOAD_BYTES + more,
      );
      const request = { payload, webhookUrl: HOOK };
      expect((await ingest.post("", request)).status).toBe(status);
      const batch = await ingest.post("/batch", { deliveries: [request] });
      expect(batch.body.deliveries[0]!.status).toBe(
        status === 202 ? "success" : "error",
      );
    },
  );

  test("in a request of more than 1 MiB is refused alone as in a batch", async () => {
    const request = sample({ customFields: { a: "x".repeat(1024 * 1024) } });
    expect((await ingest.post("", request)).status).toBe(413);
    const { body } = await ingest.post("/batch", {
      deliveries: [request, sample()],
    });
    expect(body.deliveries.map((item) => item.status)).toEqual([
      "error",
      "success",
    ]);
    expect(body.deliveries[0]!.error).toContain("too large");
  });
});

describe("a body", () => {
  const text = `{"webhookUrl":"${HOOK}","payload":{"name":"Zoë Müller"}}`;

  test.each([
    ["UTF-8", Buffer.from(text), "application/json"],
    [
      "UTF-8 with a byte order mark",
      Buffer.from(`\ufeff${text}`),
      "application/json; charset=utf-8",
    ],
    [
      "Latin-1 that says so",
      Buffer.from(text, "latin1"),
      "application/json; charset=ISO-8859-1",
    ],
    [
      "UTF-16 that says so",
      Buffer.from(text, "utf16le"),
      'application/json;charset="utf-16le"',
    ],
  ])("in %s is understood", async (_what, bytes, type) => {
    const { status, body } = await post(new Uint8Array(bytes), {
      "content-type": type,
    });
    expect(status).toBe(202);
    expect(await payloadOf(body.delivery.id)).toBe('{"name":"Zoë Müller"}');
  });

  test.each([
    ["Latin-1 that does not say so", "latin1", "application/json", 400],
    [
      "Latin-1 that says UTF-8",
      "latin1",
      "application/json;charset=utf-8",
      400,
    ],
    [
      "a charset nobody knows",
      "utf8",
      "application/json; charset=klingon",
      415,
    ],
  ] as const)("in %s is refused", async (_what, encoding, type, status) => {
    const before = await ingest.queue.redis.xlen(ingest.queue.keys.stream);
    const reply = await post(new Uint8Array(Buffer.from(text, encoding)), {
      "content-type": type,
    });
    expect(reply.status).toBe(status);
    expect(reply.body.error).toMatch(/charset/);
    expect(await ingest.queue.redis.xlen(ingest.queue.keys.stream)).toBe(
      before,
    );
  });

  test.each(["gzip", "br", "deflate, gzip"])(
    "that is compressed with %s is refused with 415",
    async (encoding) => {
      const reply = await post(new Uint8Array(gzipSync(text)), {
        "content-encoding": encoding,
      });
      expect(reply.status).toBe(415);
      expect(reply.body.error).toContain("must not be compressed");
    },
  );

  test("with the content encoding identity is taken", async () => {
    const reply = await post(text, { "content-encoding": "identity" });
    expect(reply.status).toBe(202);
  });
});
