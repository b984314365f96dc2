// Entries that no program of ours would write, through a real dispatcher: whatever is sent is settled at once, and nothing
// is read or sent a second time.
import { deriveDeliveryId, MAX_PAYLOAD_BYTES } from "@pipeline/shared/entries";
import fc from "fast-check";
import { expect, inject, test } from "vitest";
import { type OwnStream, ownStreamForTest } from "../support/own-stream.ts";
import { answerWith, receiverForTest } from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

const IDLE = { CLAIM_IDLE_MS: "3000" };

async function expectAllSettled(own: OwnStream): Promise<void> {
  await until("all is settled and recorded", own.isIdle, 30_000);
  expect(own.output()).not.toMatch(
    /delivery\.faulted|settle\.repeated|entry\.buried/,
  );
}

test.each([
  ["in nanoseconds", "1764000000000000000-0"],
  ["in microseconds", "1764000000000000-0"],
  ["the largest there is, but one", "18446744073709551615-0"],
  ["1", "1-0"],
])(
  "an entry whose id is %s is sent once, and so are those after it",
  async (_unit, explicitId) => {
    const receiver = await receiverForTest();
    const own = await ownStreamForTest({ env: IDLE });
    const startedAt = Date.now();
    const fields = ["webhook_url", receiver.url, "payload", "{}"];
    const ids: string[] = [];
    for (const entryId of [explicitId, "*", "*", "*"]) {
      const added = await own.redis.xadd(own.streamKey, entryId, ...fields);
      ids.push(deriveDeliveryId(own.streamKey, added!));
    }
    await expectAllSettled(own);
    for (const id of ids) {
      const row = await own.row(id);
      expect(row).toMatchObject({ status: "success", attempt: 1 });
      expect(Date.parse(String(row!.created_at))).toBeGreaterThan(
        startedAt - 60_000,
      );
      expect(receiver.of(id)).toHaveLength(1);
    }
  },
);

test("retries and dead letters work on a stream whose ids are nanoseconds", async () => {
  const receiver = await receiverForTest(answerWith(500));
  const own = await ownStreamForTest({ schedulers: 1, env: IDLE });
  const added = await own.redis.xadd(
    own.streamKey,
    "1764000000000000000-0",
    "webhook_url",
    receiver.url,
    "payload",
    "{}",
    "max_attempts",
    "3",
  );
  const id = deriveDeliveryId(own.streamKey, added!);
  expect(await own.ended(id)).toMatchObject({ status: "failed", attempt: 3 });
  expect(receiver.of(id)).toHaveLength(3);
  expect(await own.deadLetters()).toMatchObject([{ id, kind: "delivery" }]);
  await expectAllSettled(own);
});

test("a secret that becomes longer by being sealed is still there for the second attempt", async () => {
  const receiver = await receiverForTest(({ seenBefore }, response) => {
    response.writeHead(seenBefore === 0 ? 500 : 200).end();
  });
  const own = await ownStreamForTest({ schedulers: 1 });
  const id = await own.add({
    webhook_url: receiver.url,
    payload: "{}",
    secret: "ü".repeat(4096),
  });
  expect(await own.ended(id)).toMatchObject({ status: "success", attempt: 2 });
});

test("the highest attempt is the last one", async () => {
  const receiver = await receiverForTest(answerWith(500));
  const own = await ownStreamForTest({ schedulers: 1 });
  const highest = { attempt: "9999", schedule_start: "9999" };
  const id = await own.add({
    webhook_url: receiver.url,
    payload: "{}",
    ...highest,
  });
  expect(await own.ended(id)).toMatchObject({ status: "failed" });
  expect((await own.deadLetters())[0]?.["reason"]).toMatch(/^HTTP 500/);
});

/** 300,000 characters are kept of a field in a dead letter; the cut goes through the middle of an emoji. */
const cutEmoji = `${"x".repeat(299_999)}😀`;
const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 60 }),
  fc.json(),
  fc.constantFrom("", "\0", "a\0b", "😀", '"\\ud83d"', '"\\u0000"', "1e400"),
  fc.constantFrom("[".repeat(9000), `"${"y".repeat(MAX_PAYLOAD_BYTES)}"`),
  fc.constantFrom(cutEmoji, `"${cutEmoji}"`, "😀".repeat(150_001)),
);
/** CESU-8, an overlong form, and a text that ends in the middle of a character. */
const bytes = fc
  .oneof(
    fc.constantFrom("eda0bd", "c080", "f09f98", "ff00ff"),
    fc
      .uint8Array({ maxLength: 20 })
      .map((random) => Buffer.from(random).toString("hex")),
  )
  .map((hex) => Buffer.from(hex, "hex"));
const number = fc.oneof(
  fc.constantFrom("0", "-1", "1", "9999", "10000", "1e9", "NaN", "Infinity"),
  text,
);
/** Mostly absent, so that an entry has one oddity or two. */
const rarely = (arbitrary: fc.Arbitrary<string | Buffer>) =>
  fc.oneof(
    { weight: 9, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary },
  );
const fieldsFor = (url: string) =>
  fc.record({
    webhook_url: fc.oneof(
      { weight: 9, arbitrary: fc.constantFrom(url, `${url}?a=😀`) },
      { weight: 1, arbitrary: text },
    ),
    payload: fc.oneof(
      { weight: 3, arbitrary: fc.json() },
      { weight: 1, arbitrary: fc.oneof(text, bytes) },
    ),
    id: rarely(fc.oneof(fc.uuid(), text)),
    lead_id: rarely(fc.oneof(fc.uuid(), text)),
    event: rarely(fc.oneof(text, bytes)),
    secret: rarely(
      fc.oneof(fc.string({ minLength: 3000, maxLength: 4096 }), text),
    ),
    headers: rarely(text),
    attempt: rarely(number),
    max_attempts: rarely(number),
    schedule_start: rarely(number),
    traceparent: rarely(text),
    persisted: rarely(fc.constantFrom("", "1", "0")),
    [cutEmoji]: rarely(text),
    constructor: rarely(text),
  });

test("odd entries, failing and succeeding, are each read once, and end", async () => {
  const receiver = await receiverForTest(({ body }, response) => {
    response.writeHead(body.length % 3 === 0 ? 404 : 200).end("\ud83d\0");
  });
  const own = await ownStreamForTest({ env: IDLE });
  const seed = inject("seed");
  for (const fields of fc.sample(fieldsFor(receiver.url), {
    seed,
    numRuns: 150,
  })) {
    const flat = Object.entries(fields).filter(
      (field): field is [string, string | Buffer] => field[1] !== null,
    );
    await own.redis.xadd(own.streamKey, "*", ...flat.flat());
  }
  await expectAllSettled(own);
  const sent = receiver.requests.map(({ id }) => id);
  const ids = new Set(sent);
  expect(sent).toHaveLength(ids.size);
  // Enough of them were good for the test to mean something, and enough were not.
  expect(ids.size).toBeGreaterThan(20);
  expect((await own.deadLetters()).length).toBeGreaterThan(20);
});
