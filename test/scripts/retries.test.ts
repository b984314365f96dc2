import { randomUUID } from "node:crypto";
import {
  afterAll,
  beforeAll,
  beforeEach,
  describe,
  expect,
  test,
} from "vitest";
import {
  createQueue,
  fieldsOf,
  NO_LIMIT,
  type Queue,
} from "../support/queue.ts";
import { startTestRedis, type TestRedis } from "../support/redis-server.ts";

let server: TestRedis;
let queue: Queue;
beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  queue = await createQueue(server.url);
  return queue.close;
});

const waitingRetry = async (outcome: "retry" | "defer" = "retry") => {
  const { deliveryId } = await queue.inFlight("a");
  const [entryId] = Object.keys(await queue.owners());
  await queue.settleOne("a", { entryId: entryId!, deliveryId }, { outcome });
  return deliveryId;
};
const dueRetry = async () => {
  const id = await waitingRetry();
  await queue.makeDue(id);
  return id;
};

describe("promote", () => {
  test("moves a due retry to the stream with its fields", async () => {
    const id = await dueRetry();
    expect(await queue.scripts.promote(10)).toEqual({
      moved: 1,
      nextMs: null,
      unreadable: 0,
      hasEpoch: false,
    });
    const [entry] = await queue.waiting();
    expect(entry?.fields).toEqual(fieldsOf(id, 2));
    expect(await queue.home(id)).toBe(entry?.entryId);
    expect(await queue.dueAt(id)).toBeNull();
    expect(await queue.retryFields(id)).toBeNull();
  });

  test("tells how long the next retry has to wait, and moves nothing early", async () => {
    const entry = await queue.inFlight("a");
    await queue.settleOne("a", entry, { outcome: "retry", delayMs: 400 });
    const { moved, nextMs } = await queue.scripts.promote(10);
    expect(moved).toBe(0);
    expect(nextMs).toBeGreaterThan(200);
    expect(nextMs).toBeLessThanOrEqual(400);
    expect(await queue.waiting()).toEqual([]);
  });

  test("moves at most the limit and says that more is due", async () => {
    for (let n = 0; n < 3; n++) await dueRetry();
    expect(await queue.scripts.promote(2)).toMatchObject({
      moved: 2,
      nextMs: 0,
    });
    expect(await queue.scripts.promote(2)).toMatchObject({
      moved: 1,
      nextMs: null,
    });
  });

  test("two schedulers at once move each retry once", async () => {
    const ids = [];
    for (let n = 0; n < 20; n++) ids.push(await dueRetry());
    const other = await createQueue(server.url);
    try {
      const results = await Promise.all(
        Array.from({ length: 8 }, () => queue.scripts.promote(5)),
      );
      expect(results.reduce((sum, { moved }) => sum + moved, 0)).toBe(20);
    } finally {
      other.close();
    }
    expect(
      (await queue.waiting()).map(({ fields }) => fields["id"]).sort(),
    ).toEqual(ids.sort());
  });

  test("says whether the epoch is there", async () => {
    await queue.redis.set(queue.keys.epoch, "x");
    expect(await queue.scripts.promote(1)).toMatchObject({ hasEpoch: true });
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
        ? queue.redis.hdel(queue.keys.retriesData, bad)
        : queue.redis.hset(queue.keys.retriesData, bad, text));
      expect(await queue.scripts.promote(10)).toMatchObject({
        moved: 1,
        unreadable: 1,
        nextMs: null,
      });
      expect((await queue.waiting()).map(({ fields }) => fields["id"])).toEqual(
        [good],
      );
      const [letter] = await queue.dead();
      expect(letter?.fields).toMatchObject({
        id: bad,
        data: text ?? "",
        reason: expect.stringContaining("retry data"),
      });
      // Reconcile may rebuild it.
      expect(await queue.home(bad)).toBeNull();
      expect(await queue.scripts.promote(10)).toMatchObject({
        moved: 0,
        unreadable: 0,
      });
    },
  );

  test.each(["success", "waiting"] as const)(
    "drops a retry whose delivery lives elsewhere (%s)",
    async (elsewhere) => {
      const entry = await queue.inFlight("a");
      if (elsewhere === "success")
        await queue.settleOne("a", entry, { outcome: "success" });
      const home = await queue.home(entry.deliveryId);
      await queue.redis.zadd(queue.keys.retries, 1, entry.deliveryId);
      await queue.redis.hset(
        queue.keys.retriesData,
        entry.deliveryId,
        JSON.stringify(fieldsOf(entry.deliveryId, 2)),
      );
      expect(await queue.scripts.promote(10)).toMatchObject({
        moved: 0,
        nextMs: null,
      });
      expect(await queue.waiting()).toHaveLength(
        elsewhere === "waiting" ? 1 : 0,
      );
      expect(await queue.home(entry.deliveryId)).toBe(home);
    },
  );

  test.each([null, "1-1", "log:1-1"])(
    "moves a retry whose place in inflight is left over or missing (%s)",
    async (leftOver) => {
      const id = await dueRetry();
      await (leftOver === null
        ? queue.redis.hdel(queue.keys.inflight, id)
        : queue.redis.hset(queue.keys.inflight, id, leftOver));
      expect(await queue.scripts.promote(10)).toMatchObject({ moved: 1 });
      expect(await queue.waiting()).toHaveLength(1);
    },
  );

  test.each(["stream", "inflight", "dead"] as const)(
    "a %s key of the wrong type loses no retry and repeats none",
    async (name) => {
      const [bad, good] = [await dueRetry(), await dueRetry()];
      if (name === "dead") await queue.redis.hdel(queue.keys.retriesData, bad);
      await queue.redis.set(queue.keys[name], "garbage");
      for (let times = 0; times < 3; times++)
        await expect(queue.scripts.promote(10)).rejects.toThrow("WRONGTYPE");
      await queue.redis.del(queue.keys[name]);
      await queue.scripts.promote(10);
      const ids = (await queue.waiting()).map(({ fields }) => fields["id"]);
      expect(ids.sort()).toEqual(name === "dead" ? [good] : [bad, good].sort());
      expect(await queue.dead()).toHaveLength(name === "dead" ? 1 : 0);
    },
  );
});

describe("requeue", () => {
  test("replaces a waiting retry by an entry that is due at once", async () => {
    const id = await waitingRetry();
    const result = await queue.scripts.requeue(id, fieldsOf(id, 3), null);
    const [entry] = await queue.waiting();
    expect(result).toEqual({ kind: "requeued", entryId: entry?.entryId });
    expect(entry?.fields).toEqual(fieldsOf(id, 3));
    expect(await queue.dueAt(id)).toBeNull();
    expect(await queue.retryFields(id)).toBeNull();
    expect(await queue.home(id)).toBe(entry?.entryId);
  });

  test("changes nothing while the delivery is in the stream or its outcome unrecorded", async () => {
    const entry = await queue.inFlight("a");
    const id = entry.deliveryId;
    expect(await queue.scripts.requeue(id, fieldsOf(id), null)).toEqual({
      kind: "queued",
    });
    expect(await queue.waiting()).toHaveLength(1);
    await queue.settleOne("a", entry, { outcome: "dead" });
    expect(await queue.scripts.requeue(id, fieldsOf(id), null)).toEqual({
      kind: "unrecorded",
    });
    expect(await queue.waiting()).toEqual([]);
  });

  test("replays a dead letter once", async () => {
    const entry = await queue.inFlight("a");
    const id = entry.deliveryId;
    await queue.settleOne("a", entry, { outcome: "dead", record: null });
    const [letter] = await queue.dead();
    expect(
      await queue.scripts.requeue(id, fieldsOf(id), letter!.entryId),
    ).toMatchObject({ kind: "requeued" });
    expect(await queue.dead()).toEqual([]);
    const [again] = await queue.read("a");
    await queue.settleOne("a", again!, { outcome: "success", record: null });
    expect(
      await queue.scripts.requeue(id, fieldsOf(id), letter!.entryId),
    ).toEqual({ kind: "gone" });
    expect(await queue.waiting()).toEqual([]);
  });

  test("takes the place left over from an entry that was trimmed", async () => {
    const { entryId, deliveryId } = await queue.inFlight("a");
    await queue.redis.xdel(queue.keys.stream, entryId);
    expect(
      await queue.scripts.requeue(deliveryId, fieldsOf(deliveryId), null),
    ).toMatchObject({ kind: "requeued" });
  });
});

describe("cancel", () => {
  test("takes out what waits in the stream or for its retry", async () => {
    const id = randomUUID();
    await queue.scripts.enqueue([{ id, fields: fieldsOf(id) }], NO_LIMIT);
    expect(await queue.scripts.cancel(id)).toBe("cancelled");
    const retried = await waitingRetry();
    expect(await queue.scripts.cancel(retried)).toBe("cancelled");
    expect(await queue.waiting()).toEqual([]);
    expect(
      await queue.redis.exists(
        queue.keys.inflight,
        queue.keys.retries,
        queue.keys.retriesData,
      ),
    ).toBe(0);
    expect(await queue.scripts.cancel(id)).toBe("cancelled");
  });

  test("leaves a running attempt and an unrecorded outcome alone", async () => {
    const entry = await queue.inFlight("a");
    expect(await queue.scripts.cancel(entry.deliveryId)).toBe("in_flight");
    await queue.settleOne("a", entry, { outcome: "success" });
    expect(await queue.scripts.cancel(entry.deliveryId)).toBe("unrecorded");
    expect(await queue.home(entry.deliveryId)).toMatch(/^log:/);
  });

  test("works before there is a group", async () => {
    const id = randomUUID();
    await queue.redis.xgroup("DESTROY", queue.keys.stream, "dispatchers");
    await queue.scripts.enqueue([{ id, fields: fieldsOf(id) }], NO_LIMIT);
    expect(await queue.scripts.cancel(id)).toBe("cancelled");
    expect(await queue.waiting()).toEqual([]);
  });
});
