import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { type Entry, fieldsOf, useQueue } from "../support/queue.ts";

const queue = useQueue();

test("a success removes the entry and keeps the delivery's place until its record is in Postgres", async () => {
  const entry = await queue().inFlight("a");
  expect(await queue().settleOne("a", entry, { kind: "success" })).toBe(
    "settled",
  );
  expect(await queue().waiting()).toEqual([]);
  expect(await queue().owners()).toEqual({});
  const [logged] = await queue().log();
  expect(logged?.fields).toEqual({
    delivery_id: entry.deliveryId,
    record: '{"attempt":1}',
  });
  expect(await queue().home(entry.deliveryId)).toBe(`log:${logged?.entryId}`);
});

test("a success without a record leaves nothing behind", async () => {
  const entry = await queue().inFlight("a");
  await queue().settleOne("a", entry, { kind: "success", record: null });
  expect(await queue().home(entry.deliveryId)).toBeNull();
  expect(await queue().log()).toEqual([]);
});

test("a retry waits with its fields for exactly its delay", async () => {
  const entry = await queue().inFlight("a");
  const before = Date.now();
  expect(
    await queue().settleOne("a", entry, { kind: "retry", delayMs: 5000 }),
  ).toBe("settled");
  const dueAt = (await queue().dueAt(entry.deliveryId))!;
  expect(dueAt).toBeGreaterThanOrEqual(before + 5000);
  expect(dueAt).toBeLessThanOrEqual(Date.now() + 5000);
  expect(await queue().retryFields(entry.deliveryId)).toEqual(
    fieldsOf(entry.deliveryId, 2),
  );
  expect(await queue().home(entry.deliveryId)).toBe("retry");
  expect(await queue().waiting()).toEqual([]);
});

test("a dead delivery becomes one dead letter and waits for its record", async () => {
  const entry = await queue().inFlight("a");
  const letter = {
    ...fieldsOf(entry.deliveryId),
    reason: "410 Gone",
    failed_at: "1",
  };
  expect(
    await queue().settleOne("a", entry, { kind: "dead", fields: letter }),
  ).toBe("settled");
  expect((await queue().dead()).map(({ fields }) => fields)).toEqual([letter]);
  expect(await queue().home(entry.deliveryId)).toMatch(/^log:/);
});

test.each(["success", "retry", "dead", "defer"] as const)(
  "settling a %s twice changes nothing",
  async (kind) => {
    const entry = await queue().inFlight("a");
    expect(await queue().settleOne("a", entry, { kind })).toBe("settled");
    const before = await queue().snapshot();
    expect(await queue().settleOne("a", entry, { kind })).toBe("stale");
    expect(await queue().snapshot()).toEqual(before);
  },
);

test.each(["retry", "dead", "defer"] as const)(
  "a %s from a consumer that lost the entry changes nothing",
  async (kind) => {
    const entry = await queue().inFlight("a");
    await queue().claim("b", entry.entryId);
    const before = await queue().snapshot();
    expect(await queue().settleOne("a", entry, { kind })).toBe("stale");
    expect(await queue().snapshot()).toEqual(before);
  },
);

test("a success counts from a consumer that lost the entry, and the new owner's failure no longer does", async () => {
  const entry = await queue().inFlight("a");
  await queue().claim("b", entry.entryId);
  expect(await queue().settleOne("a", entry, { kind: "success" })).toBe(
    "settled",
  );
  expect(await queue().settleOne("b", entry, { kind: "retry" })).toBe("stale");
  expect(await queue().dueAt(entry.deliveryId)).toBeNull();
});

test.each(["retry", "defer"] as const)(
  "a late success cancels the %s that the new owner has scheduled",
  async (kind) => {
    const entry = await queue().inFlight("a");
    await queue().claim("b", entry.entryId);
    const attempt = kind === "retry" ? 2 : 1;
    await queue().settleOne("b", entry, {
      kind,
      fields: fieldsOf(entry.deliveryId, attempt),
    });
    expect(await queue().settleOne("a", entry, { kind: "success" })).toBe(
      "late",
    );
    expect(await queue().dueAt(entry.deliveryId)).toBeNull();
    expect(await queue().retryFields(entry.deliveryId)).toBeNull();
    expect(await queue().home(entry.deliveryId)).toMatch(/^log:/);
  },
);

/** The entry is in the hands of `b`, which fails with it. */
async function takenOver(kind: "retry" | "dead"): Promise<Entry> {
  const entry = await queue().inFlight("a");
  await queue().claim("b", entry.entryId);
  await queue().settleOne("b", entry, { kind });
  return entry;
}

async function expectLate(entry: Entry): Promise<void> {
  expect(await queue().settleOne("a", entry, { kind: "success" })).toBe("late");
  expect(await queue().waiting()).toEqual([]);
  expect(await queue().owners()).toEqual({});
  expect(await queue().dueAt(entry.deliveryId)).toBeNull();
  expect(await queue().dead()).toEqual([]);
  const logged = (await queue().log()).at(-1)!;
  expect(logged.fields["delivery_id"]).toBe(entry.deliveryId);
  expect(await queue().home(entry.deliveryId)).toBe(`log:${logged.entryId}`);
  // The same again changes nothing.
  const before = await queue().snapshot();
  expect(await queue().settleOne("a", entry, { kind: "success" })).toBe(
    "stale",
  );
  expect(await queue().snapshot()).toEqual(before);
}

test("a late success withdraws the retry that has been promoted and not read", async () => {
  const entry = await takenOver("retry");
  await queue().makeDue(entry.deliveryId);
  await queue().retries.promote(10, Date.now());
  expect(await queue().waiting()).toHaveLength(1);
  await expectLate(entry);
});

test("a late success ends an attempt that runs elsewhere: its failure no longer counts", async () => {
  const entry = await takenOver("retry");
  await queue().makeDue(entry.deliveryId);
  await queue().retries.promote(10, Date.now());
  const [again] = await queue().read("b");
  await expectLate(entry);
  expect(await queue().settleOne("b", again!, { kind: "retry" })).toBe("stale");
});

test.each([1, 2, 150])(
  "a late success withdraws the dead letter, the newest but %d",
  async (newer) => {
    const entry = await takenOver("dead");
    const { redis, keys } = queue();
    for (let n = 1; n < newer; n++)
      await redis.xadd(keys.dead, "*", "id", randomUUID(), "payload", "x");
    const letters = await queue().dead();
    expect(await queue().settleOne("a", entry, { kind: "success" })).toBe(
      "late",
    );
    expect(await queue().dead()).toEqual(letters.slice(1));
  },
);

test("a late success withdraws the dead letter that has been recorded already", async () => {
  const entry = await takenOver("dead");
  const [logged] = await queue().log();
  await queue()
    .recorder("r")
    .recorded([{ ...logged!, ...entry, entryId: logged!.entryId }]);
  expect(await queue().home(entry.deliveryId)).toBeNull();
  await expectLate(entry);
});

test("a late success is recorded even if Redis knows nothing of the delivery any more", async () => {
  const entry = await queue().inFlight("a");
  const { redis, keys } = queue();
  await redis.del(keys.stream, keys.homes);
  expect(await queue().settleOne("a", entry, { kind: "success" })).toBe("late");
  expect(await queue().log()).toHaveLength(1);
});

test.each(["retry", "stream"])(
  "a late success is recorded, and what a person has asked to be sent again stays (%s)",
  async (place) => {
    const entry = await takenOver("dead");
    const [logged] = await queue().log();
    await queue()
      .recorder("r")
      .recorded([{ ...logged!, ...entry, entryId: logged!.entryId }]);
    const anew = { ...fieldsOf(entry.deliveryId, 2), schedule_start: "2" };
    const dueAt = place === "retry" ? Date.now() + 60_000 : 0;
    await queue().reinject([{ id: entry.deliveryId, dueAt, fields: anew }]);
    const home = await queue().home(entry.deliveryId);
    expect(await queue().settleOne("a", entry, { kind: "success" })).toBe(
      "late",
    );
    expect(await queue().home(entry.deliveryId)).toBe(home);
    expect(await queue().log()).toHaveLength(1);
  },
);

test("a text with half a surrogate pair can be settled, as a dead letter and as a retry that is promoted", async () => {
  const odd = { "half \ud83d": "value \ud83d", deep: "[".repeat(5000) };
  const [one, two] = [await queue().inFlight("a"), await queue().inFlight("a")];
  const oddFields = ({ deliveryId }: Entry) => ({
    ...fieldsOf(deliveryId, 2),
    ...odd,
  });
  await queue().settleOne("a", one, { kind: "dead", fields: oddFields(one) });
  await queue().settleOne("a", two, { kind: "retry", fields: oddFields(two) });
  await queue().makeDue(two.deliveryId);
  expect(await queue().retries.promote(10, Date.now())).toMatchObject({
    moved: 1,
    unreadable: 0,
  });
  const expected = { "half \ufffd": "value \ufffd", deep: odd.deep };
  expect((await queue().dead())[0]?.fields).toMatchObject(expected);
  expect((await queue().waiting())[0]?.fields).toMatchObject(expected);
});

test("a batch settles each entry on its own", async () => {
  const [mine, lost, failed] = [
    await queue().inFlight("a"),
    await queue().inFlight("a"),
    await queue().inFlight("a"),
  ];
  await queue().claim("b", lost.entryId);
  const common = { attempt: 1, delayMs: 1000, record: null, endpoint: "" };
  const results = await queue()
    .consumer("a")
    .settle([
      { ...mine, ...common, kind: "success", fields: null },
      {
        ...lost,
        ...common,
        kind: "retry",
        fields: fieldsOf(lost.deliveryId, 2),
      },
      {
        ...failed,
        ...common,
        kind: "retry",
        fields: fieldsOf(failed.deliveryId, 2),
      },
    ]);
  expect(results).toEqual(["settled", "stale", "settled"]);
  expect(await queue().owners()).toEqual({ [lost.entryId]: "b" });
});

const COMPANIONS = ["retries", "retriesData", "dead", "log", "homes"] as const;
test.each(COMPANIONS)(
  "a %s key of the wrong type loses nothing: once it is repaired, the same settlement works once",
  async (name) => {
    const kind =
      name === "retries" || name === "retriesData" ? "retry" : "dead";
    const entry = await queue().inFlight("a");
    await queue().redis.set(queue().keys[name], "garbage");
    for (let times = 0; times < 3; times++)
      await expect(queue().settleOne("a", entry, { kind })).rejects.toThrow(
        "WRONGTYPE",
      );
    expect(await queue().owners()).toEqual({ [entry.entryId]: "a" });
    await queue().redis.del(queue().keys[name]);
    expect(await queue().settleOne("a", entry, { kind })).toBe("settled");
    expect(await queue().waiting()).toEqual([]);
    expect(await queue().dead()).toHaveLength(kind === "dead" ? 1 : 0);
    expect(await queue().log()).toHaveLength(1);
    expect(await queue().redis.zcard(queue().keys.retries)).toBe(
      kind === "retry" ? 1 : 0,
    );
  },
);

test("a dead letter of thousands of fields is kept, as text", async () => {
  const entry = await queue().inFlight("a");
  const many = Object.fromEntries(
    Array.from({ length: 9000 }, (_, i) => [`field${i}`, "x"]),
  );
  const letter = {
    id: entry.deliveryId,
    ...many,
    reason: "too many fields",
    failed_at: "1",
  };
  expect(
    await queue().settleOne("a", entry, { kind: "dead", fields: letter }),
  ).toBe("settled");
  const [dead] = await queue().dead();
  expect(dead?.fields).toMatchObject({
    id: entry.deliveryId,
    reason: "too many fields",
    failed_at: "1",
  });
  expect(JSON.parse(dead!.fields["data"]!)).toEqual(letter);
});

test("without its group no failure is settled, the entry stays, and the group is made again", async () => {
  const entry = await queue().inFlight("a");
  await queue().redis.xgroup("DESTROY", queue().keys.stream, "dispatchers");
  await queue().redis.set(queue().keys.epoch, "known");
  expect(await queue().settleOne("a", entry, { kind: "retry" })).toBe("stale");
  expect(await queue().read("b")).toEqual([entry]);
  // So that the retry-scheduler looks for what Redis has lost besides.
  expect(await queue().redis.exists(queue().keys.epoch)).toBe(0);
  expect(await queue().waiting()).toHaveLength(1);
  expect(await queue().log()).toEqual([]);
});

test("without its group a success counts all the same, and its entry is not sent again", async () => {
  const entry = await queue().inFlight("a");
  await queue().redis.xgroup("DESTROY", queue().keys.stream, "dispatchers");
  expect(await queue().settleOne("a", entry, { kind: "success" })).toBe("late");
  expect(await queue().waiting()).toEqual([]);
  expect(await queue().log()).toHaveLength(1);
});

test("a failure of an entry that never existed changes nothing", async () => {
  const before = await queue().snapshot();
  const entry = { entryId: "1-1", deliveryId: randomUUID() };
  expect(await queue().settleOne("a", entry, { kind: "dead" })).toBe("stale");
  expect(await queue().settleOne("a", entry, { kind: "retry" })).toBe("stale");
  expect(await queue().snapshot()).toEqual(before);
});
