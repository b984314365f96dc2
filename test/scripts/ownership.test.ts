import { describe, expect, test } from "vitest";
import { fieldsOf, useQueue } from "../support/queue.ts";

const queue = useQueue();

const idleMs = async (entryId: string) => {
  const reply = await queue().redis.xpending(
    queue().keys.stream,
    "dispatchers",
    entryId,
    entryId,
    1,
  );
  const [, , idle, timesRead] = (
    reply as [string, string, number, number][]
  )[0]!;
  return { idle, timesRead };
};

describe("heartbeat", () => {
  test("resets the idle time of what the caller owns, without counting a read, and steals nothing back", async () => {
    const [mine, lost] = [
      await queue().inFlight("a"),
      await queue().inFlight("a"),
    ];
    await queue().claim("b", lost.entryId);
    for (const { entryId } of [mine, lost]) {
      const owner = entryId === mine.entryId ? "a" : "b";
      await queue().redis.xclaim(
        queue().keys.stream,
        "dispatchers",
        owner,
        0,
        entryId,
        "IDLE",
        90_000,
        "JUSTID",
      );
    }
    expect(
      await queue()
        .consumer("a")
        .heartbeat([mine.entryId, lost.entryId, "1-1"]),
    ).toEqual([mine.entryId]);
    expect(await idleMs(mine.entryId)).toMatchObject({
      idle: expect.closeTo(0, -3),
      timesRead: 1,
    });
    expect((await idleMs(lost.entryId)).idle).toBeGreaterThanOrEqual(90_000);
    expect(await queue().owners()).toEqual({
      [mine.entryId]: "a",
      [lost.entryId]: "b",
    });
  });

  test("an entry that has been settled is no longer owned", async () => {
    const entry = await queue().inFlight("a");
    await queue().settleOne("a", entry, { kind: "success" });
    expect(await queue().consumer("a").heartbeat([entry.entryId])).toEqual([]);
  });
});

describe("release", () => {
  test("puts an entry where another consumer reads it at once, as if it had never been read", async () => {
    const entry = await queue().inFlight("a");
    expect(await queue().consumer("a").release([entry])).toBe(1);
    expect(await queue().owners()).toEqual({});
    const [again] = await queue().read("b");
    expect(again?.deliveryId).toBe(entry.deliveryId);
    expect(await queue().consumer("a").admit([again!])).toEqual([true]);
    expect(await idleMs(again!.entryId)).toMatchObject({ timesRead: 1 });
    expect((await queue().waiting())[0]?.fields).toEqual(
      fieldsOf(entry.deliveryId),
    );
  });

  test("twice changes nothing", async () => {
    const entry = await queue().inFlight("a");
    await queue().consumer("a").release([entry]);
    const before = await queue().snapshot();
    expect(await queue().consumer("a").release([entry])).toBe(0);
    expect(await queue().snapshot()).toEqual(before);
  });

  test("leaves alone what another consumer has claimed, settled or nobody knows", async () => {
    const [claimed, settled] = [
      await queue().inFlight("a"),
      await queue().inFlight("a"),
    ];
    await queue().claim("b", claimed.entryId);
    await queue().settleOne("a", settled, { kind: "retry" });
    const before = await queue().snapshot();
    const unknown = { entryId: "1-1", deliveryId: "x" };
    expect(
      await queue().consumer("a").release([claimed, settled, unknown]),
    ).toBe(0);
    expect(await queue().snapshot()).toEqual(before);
  });

  test("leaves alone a duplicate of a delivery that lives elsewhere", async () => {
    const entry = await queue().inFlight("a");
    await queue().redis.xadd(
      queue().keys.stream,
      "*",
      ...Object.entries(fieldsOf(entry.deliveryId)).flat(),
    );
    const [duplicate] = await queue().read("b");
    expect(await queue().consumer("b").release([duplicate!])).toBe(0);
    expect(await queue().home(entry.deliveryId)).toBe(entry.entryId);
  });

  test.each([[], ["id", ""]])(
    "keeps the id that was derived from the entry (%s)",
    async (...idField) => {
      const entryId = await queue().redis.xadd(
        queue().keys.stream,
        "*",
        ...idField,
        "payload",
        "{}",
      );
      await queue().read("a");
      const entry = {
        entryId: entryId!,
        deliveryId: "11111111-1111-8111-8111-111111111111",
      };
      await queue().consumer("a").admit([entry]);
      expect(await queue().consumer("a").release([entry])).toBe(1);
      const [again] = await queue().read("b");
      expect(again?.deliveryId).toBe(entry.deliveryId);
    },
  );

  test("leaves an entry of thousands of fields to be claimed", async () => {
    const fields = Array.from({ length: 5000 }, (_, i) => [
      `f${i}`,
      "x",
    ]).flat();
    await queue().redis.xadd(queue().keys.stream, "*", ...fields);
    const [entry] = await queue().read("a");
    expect(
      await queue()
        .consumer("a")
        .release([{ ...entry!, deliveryId: "x" }, await queue().inFlight("a")]),
    ).toBe(1);
    expect(await queue().owners()).toEqual({ [entry!.entryId]: "a" });
  });
});

describe("removeConsumer", () => {
  test("keeps a consumer that owns entries and removes it when it owns none", async () => {
    const entry = await queue().inFlight("a");
    expect(await queue().consumer("a").leave()).toBe(false);
    expect(await queue().owners()).toEqual({ [entry.entryId]: "a" });
    await queue().settleOne("a", entry, { kind: "success" });
    expect(await queue().consumer("a").leave()).toBe(true);
    expect(await queue().consumer("a").leave()).toBe(true);
    expect(
      await queue().redis.xinfo(
        "CONSUMERS",
        queue().keys.stream,
        "dispatchers",
      ),
    ).toEqual([]);
  });

  test("says that the group is missing", async () => {
    await queue().redis.xgroup("DESTROY", queue().keys.log, "recorders");
    await expect(queue().recorder("a").leave()).rejects.toThrow("NOGROUP");
  });
});

describe("recorded", () => {
  test("removes the record and, with the last one, the delivery's place; repeating changes nothing", async () => {
    const entry = await queue().inFlight("a");
    await queue().settleOne("a", entry, { kind: "retry" });
    const [first] = await queue().log();
    const firstRecord = {
      entryId: first!.entryId,
      deliveryId: entry.deliveryId,
    };
    expect(await queue().recorder("a").recorded([firstRecord])).toBe(1);
    expect(await queue().home(entry.deliveryId)).toBe("retry");
    await queue().makeDue(entry.deliveryId);
    await queue().retries.promote(1, Date.now());
    const [again] = await queue().read("a");
    await queue().settleOne("a", again!, { kind: "success", attempt: 2 });
    const [last] = await queue().log();
    const lastRecord = { entryId: last!.entryId, deliveryId: entry.deliveryId };
    expect(
      await queue().recorder("a").recorded([firstRecord, lastRecord]),
    ).toBe(1);
    expect(await queue().redis.exists(queue().keys.homes)).toBe(0);
    expect(
      await queue().recorder("a").recorded([firstRecord, lastRecord]),
    ).toBe(0);
    expect(await queue().log()).toEqual([]);
  });

  test("keeps the place of a delivery that was sent again meanwhile", async () => {
    const entry = await queue().inFlight("a");
    await queue().settleOne("a", entry, { kind: "success" });
    const [logged] = await queue().log();
    await queue().redis.hset(queue().keys.homes, entry.deliveryId, "9-9");
    await queue()
      .recorder("a")
      .recorded([{ entryId: logged!.entryId, deliveryId: entry.deliveryId }]);
    expect(await queue().home(entry.deliveryId)).toBe("9-9");
  });

  test("works without a group", async () => {
    const entry = await queue().inFlight("a");
    await queue().settleOne("a", entry, { kind: "success" });
    await queue().redis.xgroup("DESTROY", queue().keys.log, "recorders");
    const [logged] = await queue().log();
    expect(
      await queue()
        .recorder("a")
        .recorded([{ entryId: logged!.entryId, deliveryId: entry.deliveryId }]),
    ).toBe(1);
  });
});
