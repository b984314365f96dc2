// The way back for what has failed for good: through the API, to the receiver, under the same webhook-id.
import { afterAll, beforeAll, expect, test } from "vitest";
import { settled } from "../support/chaos.ts";
import { type Pipeline, startPipeline } from "../support/crash-pipeline.ts";

let pipeline: Pipeline;
beforeAll(async () => {
  pipeline = await startPipeline({
    env: { RETRY_DELAYS_SECONDS: "0.1,0.1,0.1", LOG_LEVEL: "warn" },
  });
  await pipeline.startServices();
});
afterAll(() => pipeline.stop());

interface Letter {
  entryId: string;
  deliveryId: string;
  reason: string;
  attempt: number;
}

async function letters(query = ""): Promise<Letter[]> {
  const [ingest] = pipeline.running("ingest");
  const response = await fetch(
    `${ingest!.url}/api/webhook-delivery/dead-letters?limit=100&${query}`,
  );
  return ((await response.json()) as { deadLetters: Letter[] }).deadLetters;
}
const requestsOf = (id: string) =>
  pipeline.receiver.tallies.get(id)?.requestedAt.length ?? 0;
const rowsOf = async (ids: string[]) =>
  (await pipeline.allRows()).filter(({ id }) => ids.includes(id));
const attemptsOf = async (id: string) =>
  (await pipeline.attempts(id)).map(({ attempt_number, error }) => [
    attempt_number,
    error,
  ]);

test("one that is replayed arrives under its webhook-id and keeps its history", async () => {
  // Fails four times, which is all it gets; the fifth request is answered 200.
  const ids = [
    await pipeline.submit("/flaky/4"),
    await pipeline.xadd("/flaky/4"),
  ];
  await settled(pipeline, 20_000);
  for (const id of ids) {
    expect(requestsOf(id)).toBe(4);
    const letter = (await letters()).find(
      ({ deliveryId }) => deliveryId === id,
    );
    expect(letter).toMatchObject({ attempt: 4 });
    expect(letter!.reason).toMatch(/^HTTP 500/);
    const path = `/dead-letters/${letter!.entryId}/replay`;
    const { status, body } = await pipeline.post(path, {});
    expect(status).toBe(202);
    expect(body.delivery).toMatchObject({ deliveryId: id, attempt: 5 });
    expect((await pipeline.post(path, {})).status).toBe(404);
  }
  await settled(pipeline, 20_000);
  expect(await rowsOf(ids)).toEqual([
    expect.objectContaining({ status: "success", attempt: 5 }),
    expect.objectContaining({ status: "success", attempt: 5 }),
  ]);
  for (const id of ids) {
    expect(requestsOf(id)).toBe(5);
    expect(await attemptsOf(id)).toEqual([
      [1, "HTTP 500"],
      [2, "HTTP 500"],
      [3, "HTTP 500"],
      [4, "HTTP 500"],
      [5, null],
    ]);
  }
  expect(await letters()).toEqual([]);
});

test("many are replayed by filter, after a dry run that only counts", async () => {
  const broken = await Promise.all(
    Array.from({ length: 30 }, () => pipeline.submit("/flaky/4")),
  );
  const gone = await pipeline.submit("/404");
  await settled(pipeline, 20_000);
  expect(await letters()).toHaveLength(31);
  const filter = {
    reason: "http 500",
    webhookUrlOrigin: pipeline.receiver.url,
  };
  const replay = (dryRun: boolean) =>
    pipeline.post("/dead-letters/replay", { filter, dryRun });
  const dry = await replay(true);
  expect([dry.status, dry.body["count"]]).toEqual([200, 30]);
  expect(broken.map(requestsOf)).toEqual(broken.map(() => 4));
  expect(await letters()).toHaveLength(31);

  const done = await replay(false);
  expect([done.status, done.body["count"]]).toEqual([202, 30]);
  expect(done.body["skipped"]).toEqual([]);
  await settled(pipeline, 20_000);
  expect(broken.map(requestsOf)).toEqual(broken.map(() => 5));
  const statuses = (await rowsOf(broken)).map(({ status }) => status);
  expect(statuses).toEqual(broken.map(() => "success"));
  expect((await letters()).map(({ deliveryId }) => deliveryId)).toEqual([gone]);
});
