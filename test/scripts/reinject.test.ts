import { randomUUID } from "node:crypto";
import { createReconcileQueue } from "@pipeline/shared/queue/reconcile";
import { describe, expect, test } from "vitest";
import { fieldsOf, NO_LIMIT, useQueue } from "../support/queue.ts";

const queue = useQueue();

const lost = (dueAt = 0) => {
  const id = randomUUID();
  return { id, dueAt, fields: fieldsOf(id) };
};

describe("reinject", () => {
  test("appends a lost delivery once", async () => {
    const delivery = lost();
    expect(await queue().reinject([delivery, delivery])).toEqual([true, false]);
    expect(await queue().reinject([delivery])).toEqual([false]);
    const [entry, ...others] = await queue().waiting();
    expect(others).toEqual([]);
    expect(entry?.fields).toEqual(delivery.fields);
    expect(await queue().home(delivery.id)).toBe(entry?.entryId);
  });

  test("fills the queue up to the ceiling and says what has no room", async () => {
    const waiting = await queue().inFlight("a");
    await queue().settleOne("a", waiting, { kind: "retry", record: null });
    const { redis, keys } = queue();
    const bounded = createReconcileQueue(redis, keys, 3);
    const [first, second, third] = [lost(), lost(Date.now() + 60_000), lost()];
    await bounded.homeless([first.id, second.id, third.id]);
    expect(await bounded.reinject([first, second, third, first])).toEqual([
      true,
      true,
      null,
      false,
    ]);
    expect(await queue().home(third.id)).toMatch(/^lost:/);
    await queue().cancel(waiting.deliveryId);
    expect(await bounded.reinject([third])).toEqual([true]);
  });

  test("puts a delivery that is due later back among the retries, at its time", async () => {
    const delivery = lost(Date.now() + 60_000);
    expect(await queue().reinject([delivery])).toEqual([true]);
    expect(await queue().dueAt(delivery.id)).toBe(delivery.dueAt);
    expect(await queue().retryFields(delivery.id)).toEqual(delivery.fields);
    expect(await queue().home(delivery.id)).toBe("retry");
    expect(await queue().waiting()).toEqual([]);
  });

  test("appends what was due in the past", async () => {
    await queue().reinject([lost(Date.now() - 1)]);
    expect(await queue().waiting()).toHaveLength(1);
  });

  test("leaves alone what is queued, waits for its retry or for its record", async () => {
    const entries = [
      await queue().inFlight("a"),
      await queue().inFlight("a"),
      await queue().inFlight("a"),
    ];
    await queue().settleOne("a", entries[1]!, { kind: "retry" });
    await queue().settleOne("a", entries[2]!, { kind: "success" });
    const before = await queue().snapshot();
    const again = entries.map(({ deliveryId: id }) => ({
      id,
      dueAt: 0,
      fields: fieldsOf(id),
    }));
    expect(await queue().reinject(again)).toEqual([false, false, false]);
    expect(await queue().snapshot()).toEqual(before);
  });

  test("gives a waiting retry its place back when homes has lost it", async () => {
    const entry = await queue().inFlight("a");
    await queue().settleOne("a", entry, { kind: "retry" });
    await queue().redis.del(queue().keys.homes);
    const id = entry.deliveryId;
    expect(
      await queue().reinject([{ id, dueAt: 0, fields: fieldsOf(id) }]),
    ).toEqual([false]);
    expect(await queue().home(id)).toBe("retry");
    expect(await queue().waiting()).toEqual([]);
  });

  test("one entry is sent when another without a place was still in the stream", async () => {
    const id = randomUUID();
    await queue().producer.enqueue([{ id, fields: fieldsOf(id) }], NO_LIMIT);
    await queue().redis.del(queue().keys.homes);
    await queue().reinject([{ id, dueAt: 0, fields: fieldsOf(id) }]);
    const entries = await queue().read("a");
    const admitted = await queue().consumer("a").admit(entries);
    expect(admitted.filter(Boolean)).toHaveLength(1);
    expect(await queue().waiting()).toHaveLength(1);
  });

  test("brings back nothing that happened to a delivery since it was found to be lost", async () => {
    const others = {
      "it was cancelled": (id: string) => queue().cancel(id),
      "it is being sent again": (id: string) =>
        queue().holds.holdToResend(id, null),
      "it was enqueued": (id: string) =>
        queue().producer.enqueue([{ id, fields: fieldsOf(id) }], NO_LIMIT),
      "it was sent, and that is recorded": async (id: string) => {
        await queue().producer.enqueue(
          [{ id, fields: fieldsOf(id) }],
          NO_LIMIT,
        );
        const entries = await queue().read("a");
        const entry = entries.find(({ deliveryId }) => deliveryId === id)!;
        const kind = "success";
        await queue().settleOne("a", entry, { kind, record: null });
      },
      "its deletion was carried out": (id: string) =>
        queue().deletions.purge([{ id, isNew: false }]),
      "too much time has passed": () => queue().expireTombstones(),
    };
    for (const [what, happens] of Object.entries(others)) {
      const delivery = lost();
      const { id } = delivery;
      expect(await queue().reconcile.homeless([id])).toEqual([id]);
      await happens(id);
      const entries = await queue().waiting();
      expect(await queue().reconcile.reinject([delivery]), what).toEqual([
        false,
      ]);
      expect(await queue().waiting(), what).toEqual(entries);
    }
  });

  test.each(["stream", "retries", "retriesData", "homes"] as const)(
    "a %s key of the wrong type injects nothing, or nothing twice",
    async (name) => {
      const deliveries = [lost(), lost(Date.now() + 60_000)];
      await queue().redis.set(queue().keys[name], "garbage");
      for (let times = 0; times < 3; times++)
        await expect(queue().reinject(deliveries)).rejects.toThrow("WRONGTYPE");
      await queue().redis.del(queue().keys[name]);
      await queue().reinject(deliveries);
      expect(
        (await queue().waiting()).map(({ fields }) => fields["id"]),
      ).toEqual([deliveries[0]!.id]);
      expect(await queue().dueAt(deliveries[1]!.id)).toBe(deliveries[1]!.dueAt);
    },
  );
});

describe("homeless", () => {
  test("names what Redis does not know, and nothing that has a home", async () => {
    const entries = [
      await queue().inFlight("a"),
      await queue().inFlight("a"),
      await queue().inFlight("a"),
    ];
    await queue().settleOne("a", entries[1]!, { kind: "retry" });
    await queue().settleOne("a", entries[2]!, { kind: "success" });
    const before = await queue().snapshot();
    const unknown = randomUUID();
    expect(
      await queue().reconcile.homeless([
        ...entries.map(({ deliveryId }) => deliveryId),
        unknown,
      ]),
    ).toEqual([unknown]);
    await queue().reconcile.unmark([unknown]);
    expect(await queue().snapshot()).toEqual(before);
    expect(await queue().reconcile.homeless([])).toEqual([]);
  });

  const losses = {
    "its entry was deleted": () => queue().redis.del(queue().keys.stream),
    "its retry was removed": () => queue().redis.del(queue().keys.retries),
    "its retry lost its data": () =>
      queue().redis.del(queue().keys.retriesData),
    "its record was deleted": () => queue().redis.del(queue().keys.log),
  };
  test.each(Object.entries(losses))(
    "names a delivery when %s, and marks its place",
    async (_, lose) => {
      const entries = [
        await queue().inFlight("a"),
        await queue().inFlight("a"),
        await queue().inFlight("a"),
      ];
      await queue().settleOne("a", entries[1]!, { kind: "retry" });
      await queue().settleOne("a", entries[2]!, { kind: "success" });
      await lose();
      const [id, ...others] = await queue().reconcile.homeless(
        entries.map(({ deliveryId }) => deliveryId),
      );
      expect(others).toEqual([]);
      expect(await queue().home(id!)).toMatch(/^lost:/);
      expect(
        await queue().reconcile.reinject([
          { id: id!, dueAt: 0, fields: fieldsOf(id!) },
        ]),
      ).toEqual([true]);
    },
  );

  test("names a delivery whose place is garbage", async () => {
    await queue().redis.hset(
      queue().keys.homes,
      "x",
      "garbage",
      "y",
      "1-1-1",
      "z",
      "log:",
    );
    expect(await queue().reconcile.homeless(["x", "y", "z"])).toEqual([
      "x",
      "y",
      "z",
    ]);
    await queue().reconcile.unmark(["x", "y", "z"]);
    expect(await queue().redis.exists(queue().keys.homes)).toBe(0);
    expect(await queue().redis.exists(queue().keys.tombstones)).toBe(0);
  });
});
