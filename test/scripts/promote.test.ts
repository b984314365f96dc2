import { createRetries } from "@pipeline/shared/queue/retries";
import { describe, expect, test } from "vitest";
import { fieldsOf, useQueue } from "../support/queue.ts";

const queue = useQueue();

async function dueRetry(): Promise<string> {
  const entry = await queue().inFlight("a");
  await queue().settleOne("a", entry, { kind: "retry" });
  await queue().makeDue(entry.deliveryId);
  return entry.deliveryId;
}

describe("promote", () => {
  test("moves a due retry to the stream with its fields", async () => {
    const id = await dueRetry();
    expect(await queue().retries.promote(10, Date.now())).toEqual({
      moved: 1,
      nextMs: null,
      unreadable: 0,
      hasEpoch: false,
    });
    const [entry] = await queue().waiting();
    expect(entry?.fields).toEqual(fieldsOf(id, 2));
    expect(await queue().home(id)).toBe(entry?.entryId);
    expect(await queue().dueAt(id)).toBeNull();
    expect(await queue().retryFields(id)).toBeNull();
  });

  test("tells how long the next retry has to wait, and moves nothing early", async () => {
    const entry = await queue().inFlight("a");
    await queue().settleOne("a", entry, { kind: "retry", delayMs: 400 });
    const { moved, nextMs } = await queue().retries.promote(10, Date.now());
    expect(moved).toBe(0);
    expect(nextMs).toBeGreaterThan(200);
    expect(nextMs).toBeLessThanOrEqual(400);
    expect(await queue().waiting()).toEqual([]);
  });

  test("moves at most the limit and says that more is due", async () => {
    for (let n = 0; n < 3; n++) await dueRetry();
    expect(await queue().retries.promote(2, Date.now())).toMatchObject({
      moved: 2,
      nextMs: 0,
    });
    expect(await queue().retries.promote(2, Date.now())).toMatchObject({
      moved: 1,
      nextMs: null,
    });
  });

  test("two schedulers at once move each retry once", async () => {
    const ids = [];
    for (let n = 0; n < 20; n++) ids.push(await dueRetry());
    const other = queue().redis.duplicate();
    const schedulers = [queue().retries, createRetries(other, queue().keys)];
    const results = await Promise.all(
      Array.from({ length: 8 }, (_, n) =>
        schedulers[n % 2]!.promote(5, Date.now()),
      ),
    );
    other.disconnect();
    expect(results.reduce((sum, { moved }) => sum + moved, 0)).toBe(20);
    const moved = (await queue().waiting()).map(({ fields }) => fields["id"]);
    expect(moved).toHaveLength(20);
    expect(new Set(moved)).toEqual(new Set(ids));
  });

  test("says whether the epoch is there", async () => {
    await queue().redis.set(queue().keys.epoch, "x");
    expect(await queue().retries.promote(1, Date.now())).toMatchObject({
      hasEpoch: true,
    });
  });

  const garbage: Record<string, string | null> = {
    "no data": null,
    "no JSON": "{broken",
    "an empty object": "{}",
    "an array": '["a","b"]',
    "a string": '"text"',
    null: "null",
    "a number for a field": '{"attempt":2}',
    "an object for a field": '{"payload":{}}',
    "deep nesting": "[".repeat(5000),
    "thousands of fields": JSON.stringify(
      Object.fromEntries(
        Array.from({ length: 5000 }, (_, i) => [`f${i}`, "x"]),
      ),
    ),
  };
  test.each(Object.entries(garbage))(
    "a retry with %s becomes a dead letter and holds up no other",
    async (_, text) => {
      const [bad, good] = [await dueRetry(), await dueRetry()];
      await (text === null
        ? queue().redis.hdel(queue().keys.retriesData, bad)
        : queue().redis.hset(queue().keys.retriesData, bad, text));
      expect(await queue().retries.promote(10, Date.now())).toMatchObject({
        moved: 1,
        unreadable: 1,
        nextMs: null,
      });
      expect(
        (await queue().waiting()).map(({ fields }) => fields["id"]),
      ).toEqual([good]);
      const [letter] = await queue().dead();
      expect(letter?.fields).toMatchObject({
        id: bad,
        data: text ?? "",
        reason: expect.stringContaining("retry data"),
      });
      // Reconcile may rebuild it.
      expect(await queue().home(bad)).toBeNull();
      expect(await queue().retries.promote(10, Date.now())).toMatchObject({
        moved: 0,
        unreadable: 0,
      });
    },
  );

  test.each(["success", "waiting"] as const)(
    "drops a retry whose delivery lives elsewhere (%s)",
    async (elsewhere) => {
      const entry = await queue().inFlight("a");
      if (elsewhere === "success")
        await queue().settleOne("a", entry, { kind: "success" });
      const home = await queue().home(entry.deliveryId);
      await queue().redis.zadd(queue().keys.retries, 1, entry.deliveryId);
      await queue().redis.hset(
        queue().keys.retriesData,
        entry.deliveryId,
        JSON.stringify(fieldsOf(entry.deliveryId, 2)),
      );
      expect(await queue().retries.promote(10, Date.now())).toMatchObject({
        moved: 0,
        nextMs: null,
      });
      expect(await queue().waiting()).toHaveLength(
        elsewhere === "waiting" ? 1 : 0,
      );
      expect(await queue().home(entry.deliveryId)).toBe(home);
    },
  );

  test.each([null, "1-1", "log:1-1"])(
    "moves a retry whose place in homes is left over or missing (%s)",
    async (leftOver) => {
      const id = await dueRetry();
      await (leftOver === null
        ? queue().redis.hdel(queue().keys.homes, id)
        : queue().redis.hset(queue().keys.homes, id, leftOver));
      expect(await queue().retries.promote(10, Date.now())).toMatchObject({
        moved: 1,
      });
      expect(await queue().waiting()).toHaveLength(1);
    },
  );

  test.each(["stream", "homes", "dead"] as const)(
    "a %s key of the wrong type loses no retry and repeats none",
    async (name) => {
      const [bad, good] = [await dueRetry(), await dueRetry()];
      if (name === "dead")
        await queue().redis.hdel(queue().keys.retriesData, bad);
      await queue().redis.set(queue().keys[name], "garbage");
      for (let times = 0; times < 3; times++)
        await expect(queue().retries.promote(10, Date.now())).rejects.toThrow(
          "WRONGTYPE",
        );
      await queue().redis.del(queue().keys[name]);
      await queue().retries.promote(10, Date.now());
      const ids = (await queue().waiting()).map(({ fields }) => fields["id"]);
      expect(new Set(ids)).toEqual(
        new Set(name === "dead" ? [good] : [bad, good]),
      );
      expect(ids).toHaveLength(name === "dead" ? 1 : 2);
      expect(await queue().dead()).toHaveLength(name === "dead" ? 1 : 0);
    },
  );
});
