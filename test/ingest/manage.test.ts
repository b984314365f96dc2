import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type Ingest, sample, type TestDatabase, useIngest } from "./ingest.ts";

let ingest: Ingest;
let database: TestDatabase;

useIngest((shared) => ({ ingest, database } = shared));

async function submit(): Promise<string> {
  return (await ingest.post("", sample())).body.delivery.id;
}

/** A delivery whose first attempt a dispatcher has read. */
async function submitAndRead() {
  const id = await submit();
  const entries = await ingest.queue.read("me", 1000);
  const entry = entries.find(({ deliveryId }) => deliveryId === id)!;
  return { id, entry };
}

/** A delivery that ended as `status`, recorded and gone from Redis. */
async function submitAndFinish(status: "success" | "failed"): Promise<string> {
  const { id, entry } = await submitAndRead();
  const kind = status === "success" ? "success" : "dead";
  await ingest.queue.settleOne("me", entry, { kind, record: null });
  await database.record(id, 1, status);
  return id;
}

async function waitingOf(id: string) {
  const entries = await ingest.queue.waiting();
  return entries
    .map(({ fields }) => fields)
    .filter((fields) => fields["id"] === id);
}

describe("POST /api/webhook-delivery/:id/retry", () => {
  test.each(["success", "failed"] as const)(
    "sends a %s delivery again under its id, with the next attempt number and a whole schedule",
    async (status) => {
      const id = await submitAndFinish(status);
      const reply = await ingest.post(`/${id}/retry`);
      expect(reply.status).toBe(202);
      expect(reply.body.delivery).toMatchObject({
        id,
        status: "pending",
        attempt: 2,
        maxAttempts: 5,
      });
      expect(await waitingOf(id)).toMatchObject([
        {
          attempt: "2",
          max_attempts: "5",
          schedule_start: "2",
          persisted: "1",
        },
      ]);
    },
  );

  test("sends a cancelled delivery for the first time", async () => {
    const id = await submit();
    expect((await ingest.remove(`/${id}`)).status).toBe(200);
    expect(await waitingOf(id)).toEqual([]);
    expect((await ingest.post(`/${id}/retry`)).status).toBe(202);
    expect(await waitingOf(id)).toMatchObject([{ attempt: "1" }]);
  });

  test("replaces a retry that is waiting", async () => {
    const { id, entry } = await submitAndRead();
    await ingest.queue.settleOne("me", entry, { kind: "retry" });
    await database.record(id, 1, "sent");
    expect((await ingest.post(`/${id}/retry`)).status).toBe(202);
    expect(await ingest.queue.dueAt(id)).toBeNull();
    expect(await waitingOf(id)).toMatchObject([{ attempt: "2" }]);
  });

  test("refuses what is in the queue or being sent, and leaves its row alone", async () => {
    const waiting = await submit();
    const { id: running } = await submitAndRead();
    await database.record(running, 1, "sent"); // a restart would ask for attempt 2
    for (const id of [waiting, running]) {
      expect((await ingest.post(`/${id}/retry`)).status).toBe(409);
      expect(await database.row(id)).toMatchObject({
        attempt: 1,
        schedule_start: 1,
      });
    }
  });

  test("asks to come back while the last outcome is not recorded", async () => {
    const { id, entry } = await submitAndRead();
    await ingest.queue.settleOne("me", entry, { kind: "dead" });
    const reply = await ingest.post(`/${id}/retry`);
    expect(reply.status).toBe(503);
    expect(reply.headers.get("retry-after")).toBe("1");
  });

  test.each(["nonsense", randomUUID()])("does not know %s", async (id) => {
    expect((await ingest.post(`/${id}/retry`)).status).toBe(404);
  });

  test("does not mind a content type without a body", async () => {
    const id = await submitAndFinish("failed");
    const response = await fetch(`${ingest.api}/${id}/retry`, {
      method: "POST",
      headers: { "content-type": "application/json" },
    });
    expect(response.status).toBe(202);
  });
});

describe("DELETE /api/webhook-delivery/:id", () => {
  test("takes a waiting delivery out of the queue, also when asked twice", async () => {
    const id = await submit();
    const first = await ingest.remove(`/${id}`);
    expect(first.status).toBe(200);
    expect(first.body.delivery).toMatchObject({ id, status: "cancelled" });
    expect(await waitingOf(id)).toEqual([]);
    expect(await ingest.queue.home(id)).toBeNull();
    expect((await ingest.remove(`/${id}`)).status).toBe(200);
  });

  test("takes a waiting retry away", async () => {
    const { id, entry } = await submitAndRead();
    await ingest.queue.settleOne("me", entry, { kind: "retry" });
    await database.record(id, 1, "sent");
    expect((await ingest.remove(`/${id}`)).status).toBe(200);
    expect(await ingest.queue.dueAt(id)).toBeNull();
    expect(await database.row(id)).toMatchObject({
      status: "cancelled",
      next_retry_at: null,
    });
  });

  test("refuses while an attempt is running or unrecorded", async () => {
    const { id, entry } = await submitAndRead();
    const running = await ingest.remove(`/${id}`);
    expect(running.status).toBe(409);
    expect(running.body.error).toContain("running");
    await ingest.queue.settleOne("me", entry, { kind: "dead" });
    expect((await ingest.remove(`/${id}`)).status).toBe(409);
    expect(await database.row(id)).toMatchObject({ status: "pending" });
  });

  test("refuses what is finished, and knows no strangers", async () => {
    const id = await submitAndFinish("success");
    const reply = await ingest.remove(`/${id}`);
    expect(reply.status).toBe(409);
    expect(reply.body.error).toContain("success");
    expect((await ingest.remove(`/${randomUUID()}`)).status).toBe(404);
    expect((await ingest.remove("/nonsense")).status).toBe(404);
  });
});

test.each([
  [
    "an empty form, as curl -d '' sends it",
    "application/x-www-form-urlencoded",
  ],
  ["no content type", undefined],
  ["an empty text", "text/plain"],
])("a retry is taken with %s", async (_what, type) => {
  const id = await submitAndFinish("failed");
  const response = await fetch(`${ingest.api}/${id}/retry`, {
    method: "POST",
    headers: {
      "content-length": "0",
      ...(type !== undefined && { "content-type": type }),
    },
    body: new Uint8Array(0),
  });
  expect(response.status).toBe(202);
});
