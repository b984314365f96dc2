// The last resort for an entry that cannot be settled: it must work whatever the entry holds.
import { randomUUID } from "node:crypto";
import { deriveDeliveryId } from "@pipeline/shared/entries";
import { DISPATCHERS_GROUP } from "@pipeline/shared/queue/keys";
import fc from "fast-check";
import { expect, inject, test } from "vitest";
import { fieldsOf, useQueue } from "../support/queue.ts";

const queue = useQueue();
const NOW = Date.parse("2026-03-01T12:00:00Z");
const REASON = 'Redis refused to settle it: "bad\n\\ field" 😀';
const PLAIN_REASON = "Redis refused to settle it:  bad   field    ";

const bury = (consumer: string, entryId: string, isDelivered = false) =>
  queue()
    .consumer(consumer)
    .bury({ entryId, isDelivered, reason: REASON }, NOW);

/** Adds an entry and lets `a` read it. */
async function inFlight(...flat: (string | Buffer)[]): Promise<string> {
  const { redis, keys, read } = queue();
  const entryId = await redis.xadd(keys.stream, "*", ...flat);
  await read("a");
  return entryId!;
}

const recordsOf = async () =>
  (await queue().log()).map(
    ({ fields }) =>
      JSON.parse(fields["record"]!) as Record<string, string | number>,
  );

test("a buried entry becomes a dead letter without its secrets, and closes its row", async () => {
  const id = randomUUID();
  const entryId = await inFlight(
    ...Object.entries({
      ...fieldsOf(id.toUpperCase(), 3),
      webhook_url: "https://user:pass@x.test/a@b",
      secret: "s3cret",
      Webhook_Token: "t0ken",
    }).flat(),
  );
  expect(await bury("a", entryId)).toBe("settled");
  expect(await queue().waiting()).toEqual([]);
  expect(await queue().owners()).toEqual({});
  expect((await queue().dead()).map(({ fields }) => fields)).toEqual([
    {
      kind: "delivery",
      id,
      reason: PLAIN_REASON,
      failed_at: "2026-03-01T12:00:00.000Z",
      webhook_url: "https://***@x.test/a@b",
      attempt: "3",
      payload: "{}",
    },
  ]);
  expect(await recordsOf()).toMatchObject([
    { delivery_id: id, attempt: 3, status: "failed", error_type: "invalid" },
  ]);
  const [logged] = await queue().log();
  expect(await queue().home(id)).toBe(`log:${logged!.entryId}`);
});

test("what was delivered leaves no dead letter when it is buried: its row becomes a success", async () => {
  const id = randomUUID();
  const entryId = await inFlight(...Object.entries(fieldsOf(id)).flat());
  await queue().claim("b", entryId); // a 2xx counts whoever owns the entry
  expect(await bury("a", entryId, true)).toBe("settled");
  expect(await queue().dead()).toEqual([]);
  expect(await recordsOf()).toMatchObject([
    { delivery_id: id, attempt: 1, status: "success" },
  ]);
});

test("an entry that another consumer has taken over is not buried, and none is buried twice", async () => {
  const entryId = await inFlight("payload", "{}");
  await queue().claim("b", entryId);
  const before = await queue().snapshot();
  expect(await bury("a", entryId)).toBe("stale");
  expect(await queue().snapshot()).toEqual(before);
  expect(await bury("b", entryId)).toBe("settled");
  const after = await queue().snapshot();
  expect(await bury("b", entryId)).toBe("stale");
  expect(await queue().snapshot()).toEqual(after);
});

const value = fc.oneof(
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  fc
    .constantFrom("", "1", "9999", "10000", "%s", '"}', "\0")
    .map((text) => Buffer.from(text)),
  fc.constantFrom("x".repeat(400_000)).map((text) => Buffer.from(text)),
);
const name = fc.oneof(
  fc
    .constantFrom("id", "attempt", "kind", "reason", "payload", "webhook_url")
    .map((text) => Buffer.from(text)),
  fc.uint8Array({ maxLength: 10 }).map((bytes) => Buffer.from(bytes)),
);

test("whatever an entry holds, it can be buried", async () => {
  const entries = fc.sample(
    fc.array(fc.tuple(name, value), { minLength: 1, maxLength: 100 }),
    { seed: inject("seed"), numRuns: 50 },
  );
  for (const fields of entries) {
    const entryId = await inFlight(...fields.flat());
    expect(await bury("a", entryId)).toBe("settled");
    const { redis, keys } = queue();
    expect(await redis.xlen(keys.stream)).toBe(0);
    // Not read as text: it may be no UTF-8.
    const [letter] = await redis.xrevrangeBuffer(
      keys.dead,
      "+",
      "-",
      "COUNT",
      1,
    );
    expect(Buffer.concat(letter![1]).length).toBeLessThan(1_100_000);
  }
  for (const { delivery_id, attempt } of await recordsOf()) {
    expect(delivery_id).toMatch(/^[\da-f-]{36}$/);
    expect(Number.isInteger(attempt)).toBe(true);
  }
  const [pending] = await queue().redis.xpending(
    queue().keys.stream,
    DISPATCHERS_GROUP,
  );
  expect(pending).toBe(0);
});

test("an entry without an id is buried under the one that is derived from it", async () => {
  const { keys } = queue();
  const entryId = await inFlight("payload", "{}", "id", "7");
  await bury("a", entryId);
  expect(await recordsOf()).toMatchObject([
    { delivery_id: deriveDeliveryId(keys.stream, entryId) },
  ]);
});
