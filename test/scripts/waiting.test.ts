// The endpoints' waiting lists: in, out in order and in turn, and nothing lost or doubled on the way.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { fieldsOf, NO_LIMIT, useQueue } from "../support/queue.ts";

const queue = useQueue();
afterEach(() => queue().redis.config("SET", "maxmemory", 0));

const URL_A = "https://receiver.test/hook"; // as fieldsOf has it
const A_LOT = 1_000_000;

const letOut = (count: number, endpoint = URL_A, bytes = A_LOT) =>
  queue().lists.letOut([{ endpoint, count }], bytes, Date.now());
const endpoints = async (limit = 100) =>
  (await queue().lists.turns(limit)).map(({ endpoint }) => endpoint);
const inStream = async () =>
  (await queue().waiting()).map(({ fields }) => fields["id"]);
const waitingData = () => queue().redis.hgetall(queue().keys.waitingData);
const listKeys = async () => {
  const names = await queue().redis.keys(`${queue().keys.waiting}:*`);
  return names.filter((name) => !/:(data|out)$/.test(name));
};
const enqueue = async (url = URL_A) => {
  const id = randomUUID();
  const fields = { ...fieldsOf(id), webhook_url: url };
  const [home] = await queue().producer.enqueue([{ id, fields }], NO_LIMIT);
  return { id, home };
};

/** Added by hand, read, and sent to its endpoint's list. */
async function waits(endpoint = URL_A): Promise<string> {
  const deliveryId = randomUUID();
  const fields = { ...fieldsOf(deliveryId), webhook_url: endpoint };
  const flat = Object.entries(fields).flat();
  await queue().redis.xadd(queue().keys.stream, "*", ...flat);
  const [entry] = await queue().read("a");
  const settled = await queue().settleOne("a", entry!, {
    kind: "wait",
    endpoint,
    fields,
    record: null,
  });
  expect(settled).toBe("settled");
  return deliveryId;
}

/** So that new deliveries go to the list; the deliveries that wait. */
async function line(length: number): Promise<string[]> {
  // All are read before the first one waits, because from then on what is new goes to the list.
  const entries = [];
  for (let n = 0; n < length; n++) entries.push(await queue().inFlight("a"));
  for (const entry of entries)
    await queue().settleOne("a", entry, { kind: "wait", record: null });
  return entries.map(({ deliveryId }) => deliveryId);
}

describe("settled as waiting", () => {
  test("a delivery is in its endpoint's list and nowhere else, with its fields", async () => {
    const entry = await queue().inFlight("a");
    const id = entry.deliveryId;
    const fields = fieldsOf(id);
    await queue().settleOne("a", entry, { kind: "wait", fields, record: null });
    expect(await queue().home(id)).toBe("waiting");
    expect(await waitingData()).toEqual({ [id]: JSON.stringify(fields) });
    expect(await inStream()).toEqual([]);
    expect(await queue().owners()).toEqual({});
    expect(await queue().log()).toEqual([]);
    expect(await queue().reconcile.homeless([id])).toEqual([]);
    expect(await queue().inspection.waitingForShare()).toBe(1);
  });

  test("twice, or by a consumer that has lost the entry, changes nothing more", async () => {
    const entry = await queue().inFlight("a");
    const lost = await queue().inFlight("a");
    await queue().claim("b", lost.entryId);
    await queue().settleOne("a", entry, { kind: "wait", record: null });
    const before = await queue().snapshot();
    for (const each of [entry, lost])
      for (const kind of ["wait", "rewait"] as const)
        expect(await queue().settleOne("a", each, { kind })).toBe("stale");
    expect(await queue().snapshot()).toEqual(before);
  });

  test("what has waited before goes back to the head of the list", async () => {
    const [first, second, third] = await line(3);
    await letOut(1);
    const [entry] = await queue().read("a");
    expect(entry?.deliveryId).toBe(first);
    await queue().settleOne("a", entry!, { kind: "rewait", record: null });
    await letOut(3);
    expect(await inStream()).toEqual([first, second, third]);
  });

  test("a late success takes the delivery out of the list", async () => {
    const entry = await queue().inFlight("a");
    await queue().claim("b", entry.entryId);
    const fields = fieldsOf(entry.deliveryId);
    await queue().settleOne("b", entry, {
      kind: "wait",
      fields,
      record: null,
    });
    expect(await queue().settleOne("a", entry, { kind: "success" })).toBe(
      "late",
    );
    expect(await queue().home(entry.deliveryId)).toMatch(/^log:/);
    expect(await letOut(10)).toEqual([0]);
    expect(await inStream()).toEqual([]);
  });

  test.each(["waiting", "waitingData"] as const)(
    "a %s key of the wrong type loses nothing: once it is repaired, the same settlement works",
    async (name) => {
      const entry = await queue().inFlight("a");
      await queue().redis.set(queue().keys[name], "garbage");
      for (let times = 0; times < 3; times++)
        await expect(
          queue().settleOne("a", entry, { kind: "wait" }),
        ).rejects.toThrow("WRONGTYPE");
      expect(await queue().owners()).toEqual({ [entry.entryId]: "a" });
      await queue().redis.del(queue().keys[name]);
      expect(await queue().settleOne("a", entry, { kind: "wait" })).toBe(
        "settled",
      );
      expect(await letOut(10)).toEqual([1]);
    },
  );

  test("a list of the wrong type leaves no data behind", async () => {
    await waits();
    const [list] = await listKeys();
    const entry = await queue().inFlight("b");
    expect(entry).toBeUndefined(); // others wait: it went to the list
    await letOut(2);
    const read = await queue().read("a");
    await queue().redis.set(list!, "garbage");
    await expect(
      queue().settleOne("a", read[0]!, { kind: "wait" }),
    ).rejects.toThrow("WRONGTYPE");
    expect(await waitingData()).toEqual({});
    expect(await queue().home(read[0]!.deliveryId)).toBe(read[0]!.entryId);
  });

  test("a list's name does not tell a URL, whose path may be a credential", async () => {
    await waits("https://receiver.test/token/secret");
    const [list] = await listKeys();
    expect(list).not.toContain("secret");
  });
});

describe("turns", () => {
  const B = "https://b.test/";
  const C = "https://c.test/";

  test("are given to endpoints for which deliveries wait, and to no others", async () => {
    expect(await endpoints()).toEqual([]);
    await line(1);
    expect(await queue().lists.turns(100)).toEqual([
      { endpoint: URL_A, heldMs: 0 },
    ]);
    await letOut(1);
    await endpoints(); // notices that the list is empty
    expect(await endpoints()).toEqual([]);
    expect(await queue().redis.exists(queue().keys.letOut)).toBe(0);
  });

  test("go round when there are more endpoints than turns", async () => {
    for (const endpoint of [URL_A, B, C]) await waits(endpoint);
    const seen = [];
    for (let n = 0; n < 3; n++) {
      seen.push(...(await endpoints(2)));
      await sleep(2); // the order is kept to the millisecond
    }
    for (const endpoint of [URL_A, B, C])
      expect(seen.filter((each) => each === endpoint)).toHaveLength(2);
  });

  test("come first to those that got nothing the last times, not to those that did", async () => {
    for (const endpoint of [URL_A, B, C]) {
      await waits(endpoint);
      await enqueue(endpoint);
    }
    const [first] = await endpoints();
    for (let n = 0; n < 3; n++) expect((await endpoints())[0]).toBe(first);
    expect(await letOut(1, first)).toEqual([1]);
    const after = await endpoints();
    expect(after[0]).not.toBe(first);
    expect(after[2]).toBe(first);
    await letOut(1, after[0]);
    expect(await endpoints()).toEqual([after[1], after[2], after[0]]);
  });

  test("tell how long an endpoint is held, which a later hold does not shorten", async () => {
    await line(1);
    await queue().lists.hold(URL_A, 5000);
    await queue().lists.hold(URL_A, 10);
    const [turn] = await queue().lists.turns(100);
    expect(turn?.heldMs).toBeGreaterThan(4000);
    expect(turn?.heldMs).toBeLessThanOrEqual(5000);
    await letOut(0);
    expect((await queue().lists.turns(100))[0]?.heldMs).toBeGreaterThan(4000);
  });

  test("and holds are over when the clock steps back by an hour", async () => {
    await waits(B);
    await waits(C);
    await line(2);
    await endpoints();
    await letOut(1);
    await queue().lists.hold(B, 30_000);
    // What the clock has shown is an hour ahead of what it shows now.
    for (const endpoint of [URL_A, B, C])
      await queue().redis.zincrby(queue().keys.waiting, 3_600_000, endpoint);
    const turns = await queue().lists.turns(100);
    expect(turns.map(({ heldMs }) => heldMs)).toEqual([0, 0, 0]);
    await queue().lists.hold(B, 30_000);
    const held = (await queue().lists.turns(100)).filter(
      ({ heldMs }) => heldMs > 0,
    );
    expect(held.map(({ endpoint }) => endpoint)).toEqual([B]);
  });

  test("an endpoint that is held and for which nobody waits sends what is new to its list, and is forgotten afterwards", async () => {
    await queue().lists.hold(URL_A, 30);
    const { id, home } = await enqueue();
    expect(home).toBe("waiting");
    await sleep(40);
    expect(await queue().lists.turns(100)).toEqual([
      { endpoint: URL_A, heldMs: 0 },
    ]);
    await letOut(1);
    expect(await inStream()).toEqual([id]);
    await endpoints();
    expect(await endpoints()).toEqual([]);
  });
});

describe("let out", () => {
  test("in order, marked, each with a new entry as its home", async () => {
    const ids = await line(3);
    expect(await letOut(2)).toEqual([2]);
    const entries = await queue().waiting();
    expect(entries.map(({ fields }) => fields["id"])).toEqual(ids.slice(0, 2));
    for (const { entryId, fields } of entries) {
      expect(Object.keys(fields)[0]).toBe("waited");
      expect(await queue().home(fields["id"]!)).toBe(entryId);
    }
    expect(Object.keys(await waitingData())).toEqual([ids[2]]);
  });

  test("no more before what was let out has been read", async () => {
    await line(3);
    expect(await letOut(1)).toEqual([1]);
    expect(await letOut(1)).toEqual([0]);
    await queue().read("a");
    expect(await letOut(1)).toEqual([1]);
  });

  test("more, when what was let out has been taken out of the stream unread", async () => {
    const [first] = await line(2);
    await letOut(1);
    expect(await queue().cancel(first!)).toBe("cancelled");
    expect(await letOut(1)).toEqual([1]);
  });

  test("by several dispatchers at once, each delivery once", async () => {
    const ids = await line(40);
    let taken = 0;
    while (taken < 40) {
      const results = await Promise.all([letOut(3), letOut(3), letOut(3)]);
      const sum = results.flat().reduce((a, b) => a + b);
      expect(sum).toBeLessThanOrEqual(3);
      taken += sum;
      await queue().read("a");
    }
    expect(await inStream()).toEqual(ids);
  });

  test("none that was cancelled, however many of them stand first", async () => {
    const ids = await line(50);
    for (const id of ids.slice(0, 49))
      expect(await queue().cancel(id)).toBe("cancelled");
    expect(await letOut(1)).toEqual([1]);
    expect(await inStream()).toEqual([ids[49]]);
  });

  test("many that were cancelled keep no other endpoint waiting", async () => {
    const B = "https://z.test/";
    const cancelled = Array.from({ length: 3000 }, () => randomUUID());
    await waits();
    const [list] = await listKeys();
    await queue().redis.lpush(list!, ...cancelled);
    const other = await waits(B);
    const grants = async () =>
      (await endpoints()).map((endpoint) => ({ endpoint, count: 1 }));
    await queue().lists.letOut(await grants(), A_LOT, Date.now());
    await queue().lists.letOut(await grants(), A_LOT, Date.now());
    expect(await inStream()).toContain(other);
  });

  test("one that a person's action holds is looked at once", async () => {
    const B = "https://b.test/";
    const [held] = await line(1);
    const other = await waits(B);
    await queue().holds.holdToCancel(held!);
    const grants = [URL_A, B].map((endpoint) => ({ endpoint, count: 1 }));
    expect(await queue().lists.letOut(grants, A_LOT, Date.now())).toEqual([
      0, 1,
    ]);
    expect(await inStream()).toEqual([other]);
  });

  test("once, when it was cancelled and has come again", async () => {
    const [id, other] = await line(2);
    await queue().cancel(id!);
    expect(
      await queue().producer.enqueue(
        [{ id: id!, fields: fieldsOf(id!) }],
        NO_LIMIT,
      ),
    ).toEqual(["waiting"]);
    expect(await letOut(10)).toEqual([2]);
    expect(new Set(await inStream())).toEqual(new Set([id, other]));
    expect(await waitingData()).toEqual({});
  });

  test("not when it has another home by now", async () => {
    const [id] = await line(1);
    const elsewhere = await queue().redis.xadd(
      queue().keys.stream,
      "*",
      ...Object.entries(fieldsOf(id!)).flat(),
    );
    await queue().redis.hset(queue().keys.homes, id!, elsewhere!);
    expect(await letOut(10)).toEqual([0]);
    expect(await queue().home(id!)).toBe(elsewhere);
    expect(await inStream()).toEqual([id]);
    expect(await waitingData()).toEqual({});
  });

  test("about as many bytes as asked for, and at least one", async () => {
    await line(10);
    const [size] = Object.values(await waitingData()).map(
      (text) => text.length,
    );
    expect(await letOut(10, URL_A, 3 * size! - 1)).toEqual([3]);
    await queue().read("a");
    expect(await letOut(10, URL_A, 1)).toEqual([1]);
  });

  test.each([
    ["no JSON", "{"],
    ["no object", "[]"],
    ["an object of other things", '{"a":1}'],
    ["an empty object", "{}"],
    ["a list", '["a","b"]'],
    [
      "more than an entry takes",
      JSON.stringify(
        Object.fromEntries(Array.from({ length: 5000 }, (_, n) => [n, ""])),
      ),
    ],
  ])(
    "spoiled data (%s) becomes a dead letter, and the next is let out",
    async (_, text) => {
      const [spoiled, next] = await line(2);
      await queue().redis.hset(queue().keys.waitingData, spoiled!, text);
      expect(await letOut(1)).toEqual([1]);
      expect(await inStream()).toEqual([next]);
      expect((await queue().dead()).map(({ fields }) => fields)).toMatchObject([
        { kind: "entry", id: spoiled, data: text },
      ]);
      expect(await queue().home(spoiled!)).toBeNull();
      expect(await waitingData()).toEqual({});
    },
  );

  test.each(["dead", "letOut", "stream"] as const)(
    "a %s key of the wrong type loses nothing",
    async (name) => {
      const ids = await line(2);
      await queue().redis.set(queue().keys[name], "garbage");
      await expect(letOut(2)).rejects.toThrow("WRONGTYPE");
      await queue().redis.del(queue().keys[name]);
      expect(await letOut(2)).toEqual([2]);
      expect(await inStream()).toEqual(ids);
    },
  );

  test("a stream that takes no more entries loses nothing: what waits stays in its list", async () => {
    const ids = await line(1);
    const last = "18446744073709551615-18446744073709551615";
    await queue().redis.xadd(queue().keys.stream, last, "a", "b");
    await expect(letOut(1)).rejects.toThrow(/exhausted|ID/);
    await queue().redis.del(queue().keys.stream);
    expect(await letOut(1)).toEqual([1]);
    expect(await inStream()).toEqual(ids);
  });

  test("works without a group, and what is let out is read when there is one again", async () => {
    const ids = await line(1);
    await queue().redis.xgroup("DESTROY", queue().keys.stream, "dispatchers");
    expect(await letOut(1)).toEqual([1]);
    expect(await inStream()).toEqual(ids);
  });
});

describe("look-ahead", () => {
  const add = async (id: string, url = URL_A) => {
    const fields = { ...fieldsOf(id), webhook_url: url };
    const flat = Object.entries(fields).flat();
    return (await queue().redis.xadd(queue().keys.stream, "*", ...flat))!;
  };
  const divert = (entryId: string, deliveryId: string, endpoint = URL_A) =>
    queue().lists.divert([
      { entryId, deliveryId, endpoint, fields: fieldsOf(deliveryId) },
    ]);

  test("finds what nobody has read, within its limits", async () => {
    await add("read");
    await queue().read("a");
    const entryIds = [];
    for (let n = 0; n < 60; n++) entryIds.push(await add(`d${n}`));
    const all = await queue().lists.unread(1000, A_LOT);
    expect(all.entries.map(({ entryId }) => entryId)).toEqual(entryIds);
    expect(all.hasMore).toBe(false);
    const few = await queue().lists.unread(30, A_LOT);
    expect(few.entries.length).toBeLessThan(60);
    expect(few.hasMore).toBe(true);
    const light = await queue().lists.unread(1000, 10);
    expect(light.entries).toHaveLength(20);
    expect(light.hasMore).toBe(true);
  });

  test("finds everything without a group, and nothing without a stream", async () => {
    await add("x");
    await queue().redis.xgroup("DESTROY", queue().keys.stream, "dispatchers");
    expect((await queue().lists.unread(10, A_LOT)).entries).toHaveLength(1);
    await queue().redis.del(queue().keys.stream);
    expect((await queue().lists.unread(10, A_LOT)).entries).toEqual([]);
  });

  test("diverts an unread entry to the tail of a list where others wait", async () => {
    const [first] = await line(1);
    const entryId = await add("later");
    expect(await divert(entryId, "later")).toBe(1);
    expect(await inStream()).toEqual([]);
    expect(await queue().home("later")).toBe("waiting");
    expect(await divert(entryId, "later")).toBe(0);
    expect(await letOut(10)).toEqual([2]);
    expect(await inStream()).toEqual([first, "later"]);
  });

  test("leaves alone what has been read, what has another home, and what nobody waits for", async () => {
    await line(1);
    const read = await add("read");
    await queue().read("a");
    const [other, twin, elsewhere] = [
      await add("other"),
      await add("other"),
      await add("elsewhere", "https://b.test/"),
    ];
    await queue().redis.hset(queue().keys.homes, "other", twin);
    const before = await queue().snapshot();
    expect(await divert(read, "read")).toBe(0);
    expect(await divert(other, "other")).toBe(0);
    expect(await divert(elsewhere, "elsewhere", "https://b.test/")).toBe(0);
    expect(await divert("1-1", "gone")).toBe(0);
    expect(await queue().snapshot()).toEqual(before);
  });

  test("of two entries of one delivery diverts one, and the other is removed when it is read", async () => {
    await line(1);
    const [one, two] = [await add("twice"), await add("twice")];
    const fields = fieldsOf("twice");
    const diversion = { deliveryId: "twice", endpoint: URL_A, fields };
    expect(
      await queue().lists.divert([
        { ...diversion, entryId: one },
        { ...diversion, entryId: two },
      ]),
    ).toBe(1);
    const read = await queue().read("a");
    expect(await queue().consumer("a").admit(read)).toEqual([false]);
    expect(await letOut(10)).toEqual([2]);
  });

  test("leaves to the dispatchers what is not UTF-8", async () => {
    await line(1);
    const latin1 = Buffer.from([0x22, 0xe9, 0x22]);
    const entry = ["webhook_url", URL_A, "payload", latin1] as const;
    await queue().redis.xadd(queue().keys.stream, "*", ...entry);
    await add("later");
    const { entries } = await queue().lists.unread(10, A_LOT);
    expect(entries.map(({ fields }) => fields[1])).toEqual(["later"]);
  });

  test("diverts without a group", async () => {
    await line(1);
    const entryId = await add("later");
    await queue().redis.xgroup("DESTROY", queue().keys.stream, "dispatchers");
    expect(await divert(entryId, "later")).toBe(1);
  });
});

describe("a list that exists", () => {
  test.each([
    [URL_A, URL_A],
    [`${URL_A}?token=1#x`, URL_A],
    ["https://bare.test", "https://bare.test/"],
  ])("takes a new delivery to %s", async (url, endpoint) => {
    await waits(endpoint);
    const { id, home } = await enqueue(url);
    expect(home).toBe("waiting");
    expect(await queue().home(id)).toBe("waiting");
    expect(await inStream()).toEqual([]);
    expect(
      await queue().producer.enqueue([{ id, fields: fieldsOf(id) }], 1),
    ).toEqual(["waiting"]);
    expect(await letOut(10, endpoint)).toEqual([2]);
  });

  test("takes a new delivery to an endpoint's id, in whatever case", async () => {
    const endpoint = randomUUID();
    await waits(endpoint);
    const id = randomUUID();
    const fields = { ...fieldsOf(id), endpoint_id: endpoint.toUpperCase() };
    expect(await queue().producer.enqueue([{ id, fields }], NO_LIMIT)).toEqual([
      "waiting",
    ]);
    expect(await listKeys()).toEqual([`${queue().keys.waiting}:${endpoint}`]);
  });

  test("takes none for other endpoints", async () => {
    await line(1);
    const { id, home } = await enqueue("https://other.test/hook");
    expect(home).toMatch(/^\d+-\d+$/);
    expect(await inStream()).toEqual([id]);
  });

  test("takes a due retry, behind those that wait", async () => {
    const retry = await queue().inFlight("a");
    const [first] = await line(1);
    await queue().settleOne("a", retry, { kind: "retry", record: null });
    await queue().makeDue(retry.deliveryId);
    expect(await queue().retries.promote(10, Date.now())).toMatchObject({
      moved: 1,
    });
    expect(await queue().home(retry.deliveryId)).toBe("waiting");
    expect(await queue().retryFields(retry.deliveryId)).toBeNull();
    await letOut(10);
    expect(await inStream()).toEqual([first, retry.deliveryId]);
    const [, entry] = await queue().waiting();
    expect(entry?.fields["attempt"]).toBe("2");
  });
});

describe("a delivery that waits", () => {
  test("can be cancelled, once and for all", async () => {
    const [id] = await line(1);
    expect(await queue().cancel(id!)).toBe("cancelled");
    expect(await queue().home(id!)).not.toBe("waiting");
    expect(await waitingData()).toEqual({});
    expect(await letOut(10)).toEqual([0]);
    expect(await inStream()).toEqual([]);
  });

  test("is queued already for whoever sends it again, enqueues it, injects it or adds it by hand", async () => {
    const [id] = await line(1);
    const fields = fieldsOf(id!);
    expect(await queue().requeue(id!, fields, null)).toBe("queued");
    expect(
      await queue().producer.enqueue([{ id: id!, fields }], NO_LIMIT),
    ).toEqual(["waiting"]);
    expect(await queue().reinject([{ id: id!, dueAt: 0, fields }])).toEqual([
      false,
    ]);
    const flat = Object.entries(fields).flat();
    await queue().redis.xadd(queue().keys.stream, "*", ...flat);
    const read = await queue().read("b");
    expect(await queue().consumer("b").admit(read)).toEqual([false]);
    expect(await letOut(10)).toEqual([1]);
  });

  test("has lost its home when its data is gone, and can be injected again", async () => {
    const [id] = await line(1);
    await queue().redis.hdel(queue().keys.waitingData, id!);
    expect(await queue().reconcile.homeless([id!])).toEqual([id]);
    const injected = { id: id!, dueAt: 0, fields: fieldsOf(id!) };
    expect(await queue().reinject([injected])).toEqual([true]);
    expect(await letOut(10)).toEqual([0]);
    expect(await inStream()).toEqual([id]);
  });
});

describe("out of memory", () => {
  const runOut = () => queue().redis.config("SET", "maxmemory", 1);

  test("what is in goes on waiting, is let out, diverted and held; nothing new comes into a list", async () => {
    const entry = await queue().inFlight("a");
    const [first] = await line(1);
    const late = (await queue().redis.xadd(
      queue().keys.stream,
      "*",
      ...Object.entries(fieldsOf("late")).flat(),
    ))!;
    await runOut();
    expect(
      await queue().settleOne("a", entry, { kind: "wait", record: null }),
    ).toBe("settled");
    await expect(enqueue()).rejects.toThrow("OOM");
    expect(
      await queue().lists.divert([
        {
          entryId: late,
          deliveryId: "late",
          endpoint: URL_A,
          fields: fieldsOf("late"),
        },
      ]),
    ).toBe(1);
    expect(await endpoints()).toEqual([URL_A]);
    expect(await letOut(10)).toEqual([3]);
    expect(await inStream()).toEqual([first, entry.deliveryId, "late"]);
    await queue().lists.hold(URL_A, 1000);
  });
});
