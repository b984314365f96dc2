import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { Hold, HoldResult } from "@pipeline/shared/queue/holds";
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
    const result = await queue().requeue(id, fieldsOf(id, 3), null);
    const [entry] = await queue().waiting();
    expect(result).toBe("requeued");
    expect(entry?.fields).toEqual(fieldsOf(id, 3));
    expect(await queue().dueAt(id)).toBeNull();
    expect(await queue().retryFields(id)).toBeNull();
    expect(await queue().home(id)).toBe(entry?.entryId);
  });

  test("changes nothing while the delivery is in the stream or its outcome unrecorded", async () => {
    const entry = await queue().inFlight("a");
    const id = entry.deliveryId;
    expect(await queue().requeue(id, fieldsOf(id), null)).toBe("queued");
    expect(await queue().waiting()).toHaveLength(1);
    await queue().settleOne("a", entry, { kind: "dead" });
    expect(await queue().requeue(id, fieldsOf(id), null)).toBe("unrecorded");
    expect(await queue().waiting()).toEqual([]);
  });

  test("replays a dead letter once", async () => {
    const entry = await queue().inFlight("a");
    const id = entry.deliveryId;
    await queue().settleOne("a", entry, { kind: "dead", record: null });
    const [letter] = await queue().dead();
    expect(await queue().requeue(id, fieldsOf(id), letter!.entryId)).toBe(
      "requeued",
    );
    expect(await queue().dead()).toEqual([]);
    const [again] = await queue().read("a");
    await queue().settleOne("a", again!, { kind: "success", record: null });
    expect(await queue().requeue(id, fieldsOf(id), letter!.entryId)).toBe(
      "gone",
    );
    expect(await queue().waiting()).toEqual([]);
  });

  test("takes the place left over from an entry that was trimmed", async () => {
    const { entryId, deliveryId } = await queue().inFlight("a");
    await queue().redis.xdel(queue().keys.stream, entryId);
    expect(await queue().requeue(deliveryId, fieldsOf(deliveryId), null)).toBe(
      "requeued",
    );
  });
});

describe("cancel", () => {
  test("takes out what waits in the stream or for its retry", async () => {
    const id = randomUUID();
    await queue().producer.enqueue([{ id, fields: fieldsOf(id) }], NO_LIMIT);
    expect(await queue().cancel(id)).toBe("cancelled");
    const retried = await waitingRetry();
    expect(await queue().cancel(retried)).toBe("cancelled");
    expect(await queue().waiting()).toEqual([]);
    expect(
      await queue().redis.exists(
        queue().keys.homes,
        queue().keys.retries,
        queue().keys.retriesData,
      ),
    ).toBe(0);
    expect(await queue().cancel(id)).toBe("cancelled");
  });

  test("leaves a running attempt and an unrecorded outcome alone", async () => {
    const entry = await queue().inFlight("a");
    expect(await queue().cancel(entry.deliveryId)).toBe("in_flight");
    await queue().settleOne("a", entry, { kind: "success" });
    expect(await queue().cancel(entry.deliveryId)).toBe("unrecorded");
    expect(await queue().home(entry.deliveryId)).toMatch(/^log:/);
  });

  test("works before there is a group", async () => {
    const id = randomUUID();
    await queue().redis.xgroup("DESTROY", queue().keys.stream, "dispatchers");
    await queue().producer.enqueue([{ id, fields: fieldsOf(id) }], NO_LIMIT);
    expect(await queue().cancel(id)).toBe("cancelled");
    expect(await queue().waiting()).toEqual([]);
  });
});

describe("a hold", () => {
  const held = async (result: Promise<HoldResult>): Promise<Hold> => {
    const reply = await result;
    if (reply.kind !== "held") throw new Error(`not held: ${reply.kind}`);
    return reply.hold;
  };
  const nothingLeft = async () =>
    (await queue().redis.exists(
      queue().keys.homes,
      queue().keys.tombstones,
      queue().keys.retries,
      queue().keys.retriesData,
      queue().keys.stream,
    )) === 0;
  /** An empty stream is still a key. */
  const forgetStream = () => queue().redis.del(queue().keys.stream);

  test("belongs to one action, whichever comes first", async () => {
    const id = randomUUID();
    const results = await Promise.all(
      Array.from({ length: 10 }, (_, n) =>
        n % 2 === 0
          ? queue().holds.holdToResend(id, null)
          : queue().holds.holdToCancel(id),
      ),
    );
    expect(results.map(({ kind }) => kind).sort()).toEqual([
      ...Array<string>(9).fill("busy"),
      "held",
    ]);
  });

  test("keeps everything else away until it ends", async () => {
    const id = await waitingRetry();
    const hold = await held(queue().holds.holdToResend(id, null));
    await queue().makeDue(id);
    const promoted = await queue().retries.promote(10, Date.now());
    expect(promoted).toMatchObject({ moved: 0, unreadable: 0 });
    expect(await queue().reconcile.homeless([id])).toEqual([]);
    await queue().producer.enqueue([{ id, fields: fieldsOf(id) }], NO_LIMIT);
    expect(await queue().waiting()).toEqual([]);
    // One that was added by hand is neither sent nor dropped.
    await queue().redis.xadd(queue().keys.stream, "*", "id", id);
    const entries = await queue().read("b");
    expect(await queue().consumer("b").admit(entries)).toEqual([false]);
    expect(Object.values(await queue().owners())).toEqual(["b"]);

    await hold.letGo("kept");
    expect(await queue().home(id)).toBe("retry");
    expect(await queue().retries.promote(10, Date.now())).toMatchObject({
      moved: 1,
    });
  });

  test("lets a retry that is not due yet wait for its own time", async () => {
    const id = await waitingRetry();
    const dueAt = await queue().dueAt(id);
    const hold = await held(queue().holds.holdToCancel(id));
    await hold.letGo("kept");
    expect(await queue().dueAt(id)).toBe(dueAt);
    expect(await queue().home(id)).toBe("retry");
  });

  test("of a delivery in the stream gives it back as it was", async () => {
    const id = randomUUID();
    const fields = { ...fieldsOf(id), payload: '{"a":"\u2028/\\"é"}' };
    await queue().producer.enqueue([{ id, fields }], NO_LIMIT);
    const hold = await held(queue().holds.holdToCancel(id));
    expect(await queue().read("a")).toEqual([]);
    await hold.letGo("kept");
    await queue().retries.promote(10, Date.now());
    const [entry] = await queue().waiting();
    expect(entry?.fields).toEqual(fields);
  });

  test.each(["resend", "cancel"] as const)(
    "to %s whose process has died expires, and nothing is lost",
    async (purpose) => {
      const id = await waitingRetry();
      const unknown = randomUUID();
      for (const each of [id, unknown])
        await (purpose === "resend"
          ? queue().holds.holdToResend(each, null)
          : queue().holds.holdToCancel(each));
      await queue().makeDue(id);
      await queue().expireTombstones();
      expect(await queue().retries.promote(10, Date.now())).toMatchObject({
        moved: 1,
      });
      const [entry] = await queue().waiting();
      expect(await queue().home(id)).toBe(entry?.entryId);
      expect(await queue().home(unknown)).toBeNull();
      expect(await queue().redis.exists(queue().keys.tombstones)).toBe(0);
    },
  );

  test("that is over sends nothing, whoever has the delivery now", async () => {
    const id = randomUUID();
    const hold = await held(queue().holds.holdToResend(id, null));
    await queue().expireTombstones();
    const other = await held(queue().holds.holdToResend(id, null));
    expect(await hold.requeue(fieldsOf(id))).toBe(false);
    await hold.letGo("cancelled");
    expect(await other.requeue(fieldsOf(id, 2))).toBe(true);
    // Redis may have run it, and the reply may have been lost.
    expect(await other.requeue(fieldsOf(id, 2))).toBe(false);
    expect(await queue().waiting()).toHaveLength(1);
  });

  test("gives way to a success that comes late", async () => {
    const entry = await queue().inFlight("a");
    const id = entry.deliveryId;
    await queue().claim("b", entry.entryId);
    await queue().settleOne("b", entry, { kind: "retry", record: null });
    const hold = await held(queue().holds.holdToResend(id, null));
    expect(await queue().settleOne("a", entry, { kind: "success" })).toBe(
      "late",
    );
    expect(await hold.requeue(fieldsOf(id, 2))).toBe(false);
    expect(await queue().home(id)).toMatch(/^log:/);
    expect(await queue().waiting()).toEqual([]);
  });

  test.each(["retry", "wait"] as const)(
    "gives way to a success that comes late, and takes along what it held (%s)",
    async (kind) => {
      const entry = await queue().inFlight("a");
      const id = entry.deliveryId;
      await queue().claim("b", entry.entryId);
      const fields = fieldsOf(id, kind === "retry" ? 2 : 1);
      await queue().settleOne("b", entry, { kind, fields, record: null });
      await queue().holds.holdToCancel(id);
      expect(await queue().settleOne("a", entry, { kind: "success" })).toBe(
        "late",
      );
      const recorder = queue().recorder("r");
      await recorder.recorded(await recorder.read(10, 10));
      await queue().makeDue(id);
      await queue().retries.promote(10, Date.now());
      const endpoint = String(fields["webhook_url"]);
      await queue().lists.letOut([{ endpoint, count: 1 }], 1000, Date.now());
      expect(await queue().waiting()).toEqual([]);
    },
  );

  test("that cancels leaves nothing behind but, where Redis had not heard of the delivery, a tombstone", async () => {
    const known = randomUUID();
    await queue().producer.enqueue(
      [{ id: known, fields: fieldsOf(known) }],
      NO_LIMIT,
    );
    expect(await queue().cancel(known)).toBe("cancelled");
    await forgetStream();
    expect(await nothingLeft()).toBe(true);

    const id = randomUUID();
    expect(await queue().cancel(id)).toBe("cancelled");
    await queue().producer.enqueue([{ id, fields: fieldsOf(id) }], NO_LIMIT);
    expect(await queue().waiting()).toEqual([]);
    // A person may send it again at once.
    expect(await queue().requeue(id, fieldsOf(id), null)).toBe("requeued");
    expect(await queue().cancel(id)).toBe("cancelled");
    await forgetStream();
    expect(await nothingLeft()).toBe(true);
  });
});

describe("purge", () => {
  test("clears what waits and what runs, and leaves an outcome to its record", async () => {
    const retried = await waitingRetry();
    const running = await queue().inFlight("a");
    const logged = await queue().inFlight("a");
    await queue().settleOne("a", logged, { kind: "success" });
    const waiting = randomUUID();
    await queue().producer.enqueue(
      [{ id: waiting, fields: fieldsOf(waiting) }],
      NO_LIMIT,
    );
    const ids = [waiting, retried, running.deliveryId, logged.deliveryId];
    const purge = (isNew: boolean) =>
      queue().deletions.purge(ids.map((id) => ({ id, isNew })));
    expect(await purge(false)).toEqual([true, true, true, false]);
    expect(await queue().settleOne("a", running, { kind: "dead" })).toBe(
      "stale",
    );
    expect(await queue().waiting()).toEqual([]);
    expect(await queue().dead()).toEqual([]);
    expect(
      Object.keys(await queue().redis.hgetall(queue().keys.homes)),
    ).toEqual([logged.deliveryId]);
    await purge(true);
    await queue().producer.enqueue(
      [{ id: waiting, fields: fieldsOf(waiting) }],
      NO_LIMIT,
    );
    expect(await queue().waiting()).toEqual([]);
  });

  test("removes the dead letters of the deliveries it is given, and no others", async () => {
    const letters = [];
    for (let n = 0; n < 60; n++) {
      const entry = await queue().inFlight("a");
      await queue().settleOne("a", entry, { kind: "dead", record: null });
      letters.push(entry.deliveryId);
    }
    const doomed = new Set(letters.filter((_, n) => n % 3 === 0));
    const { signal } = new AbortController();
    const { removeLetters } = queue().deletions;
    expect(await removeLetters(doomed, Date.now() + 60_000, signal)).toBe(0);
    expect(await removeLetters(doomed, 0, signal)).toBe(20);
    expect(await removeLetters(doomed, 0, signal)).toBe(0);
    const left = (await queue().dead()).map(({ fields }) => fields["id"]!);
    expect(left).toEqual(letters.filter((id) => !doomed.has(id)));
  });
});
