import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { fieldsOf, useQueue } from "../support/queue.ts";

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

test("a late success of an earlier attempt leaves a later attempt's retry alone", async () => {
  const entry = await queue().inFlight("a");
  await queue().claim("b", entry.entryId);
  await queue().settleOne("b", entry, {
    kind: "retry",
    fields: fieldsOf(entry.deliveryId, 3),
  });
  expect(await queue().settleOne("a", entry, { kind: "success" })).toBe(
    "stale",
  );
  expect(await queue().dueAt(entry.deliveryId)).not.toBeNull();
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

test("without its group nothing is settled, the entry stays, and the group is made again", async () => {
  const entry = await queue().inFlight("a");
  await queue().redis.xgroup("DESTROY", queue().keys.stream, "dispatchers");
  await queue().redis.set(queue().keys.epoch, "known");
  expect(await queue().settleOne("a", entry, { kind: "success" })).toBe(
    "stale",
  );
  expect(await queue().read("b")).toEqual([entry]);
  // So that the retry-scheduler looks for what Redis has lost besides.
  expect(await queue().redis.exists(queue().keys.epoch)).toBe(0);
  expect(await queue().waiting()).toHaveLength(1);
  expect(await queue().log()).toEqual([]);
});

test("settling an entry that never existed changes nothing", async () => {
  const before = await queue().snapshot();
  const entry = { entryId: "1-1", deliveryId: randomUUID() };
  expect(await queue().settleOne("a", entry, { kind: "success" })).toBe(
    "stale",
  );
  expect(await queue().settleOne("a", entry, { kind: "retry" })).toBe("stale");
  expect(await queue().snapshot()).toEqual(before);
});
