import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { fieldsOf, NO_LIMIT, useQueue } from "../support/queue.ts";

const queue = useQueue();

async function waitingRetry(): Promise<string> {
  const entry = await queue().inFlight("a");
  await queue().settleOne("a", entry, { kind: "retry" });
  return entry.deliveryId;
}

describe("requeue", () => {
  test("replaces a waiting retry by an entry that is due at once", async () => {
    const id = await waitingRetry();
    const result = await queue().retries.requeue(id, fieldsOf(id, 3), null);
    const [entry] = await queue().waiting();
    expect(result).toEqual({ kind: "requeued", entryId: entry?.entryId });
    expect(entry?.fields).toEqual(fieldsOf(id, 3));
    expect(await queue().dueAt(id)).toBeNull();
    expect(await queue().retryFields(id)).toBeNull();
    expect(await queue().home(id)).toBe(entry?.entryId);
  });

  test("changes nothing while the delivery is in the stream or its outcome unrecorded", async () => {
    const entry = await queue().inFlight("a");
    const id = entry.deliveryId;
    expect(await queue().retries.requeue(id, fieldsOf(id), null)).toEqual({
      kind: "queued",
    });
    expect(await queue().waiting()).toHaveLength(1);
    await queue().settleOne("a", entry, { kind: "dead" });
    expect(await queue().retries.requeue(id, fieldsOf(id), null)).toEqual({
      kind: "unrecorded",
    });
    expect(await queue().waiting()).toEqual([]);
  });

  test("replays a dead letter once", async () => {
    const entry = await queue().inFlight("a");
    const id = entry.deliveryId;
    await queue().settleOne("a", entry, { kind: "dead", record: null });
    const [letter] = await queue().dead();
    expect(
      await queue().retries.requeue(id, fieldsOf(id), letter!.entryId),
    ).toMatchObject({ kind: "requeued" });
    expect(await queue().dead()).toEqual([]);
    const [again] = await queue().read("a");
    await queue().settleOne("a", again!, { kind: "success", record: null });
    expect(
      await queue().retries.requeue(id, fieldsOf(id), letter!.entryId),
    ).toEqual({ kind: "gone" });
    expect(await queue().waiting()).toEqual([]);
  });

  test("takes the place left over from an entry that was trimmed", async () => {
    const { entryId, deliveryId } = await queue().inFlight("a");
    await queue().redis.xdel(queue().keys.stream, entryId);
    expect(
      await queue().retries.requeue(deliveryId, fieldsOf(deliveryId), null),
    ).toMatchObject({ kind: "requeued" });
  });
});

describe("cancel", () => {
  test("takes out what waits in the stream or for its retry", async () => {
    const id = randomUUID();
    await queue().producer.enqueue([{ id, fields: fieldsOf(id) }], NO_LIMIT);
    expect(await queue().retries.cancel(id)).toBe("cancelled");
    const retried = await waitingRetry();
    expect(await queue().retries.cancel(retried)).toBe("cancelled");
    expect(await queue().waiting()).toEqual([]);
    expect(
      await queue().redis.exists(
        queue().keys.homes,
        queue().keys.retries,
        queue().keys.retriesData,
      ),
    ).toBe(0);
    expect(await queue().retries.cancel(id)).toBe("cancelled");
  });

  test("leaves a running attempt and an unrecorded outcome alone", async () => {
    const entry = await queue().inFlight("a");
    expect(await queue().retries.cancel(entry.deliveryId)).toBe("in_flight");
    await queue().settleOne("a", entry, { kind: "success" });
    expect(await queue().retries.cancel(entry.deliveryId)).toBe("unrecorded");
    expect(await queue().home(entry.deliveryId)).toMatch(/^log:/);
  });

  test("works before there is a group", async () => {
    const id = randomUUID();
    await queue().redis.xgroup("DESTROY", queue().keys.stream, "dispatchers");
    await queue().producer.enqueue([{ id, fields: fieldsOf(id) }], NO_LIMIT);
    expect(await queue().retries.cancel(id)).toBe("cancelled");
    expect(await queue().waiting()).toEqual([]);
  });
});
