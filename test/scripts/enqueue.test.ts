import { adoptHomes } from "@pipeline/shared/queue/adopt-homes";
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { fieldsOf, NO_LIMIT, useQueue } from "../support/queue.ts";

const queue = useQueue();

const item = (id: string) => ({ id, fields: fieldsOf(id) });

describe("enqueue", () => {
  test("appends each delivery once, however often the client sends it", async () => {
    const [first, second] = [item(randomUUID()), item(randomUUID())];
    const results = await queue().producer.enqueue([first, second], NO_LIMIT);
    expect(await queue().producer.enqueue([second, first], NO_LIMIT)).toEqual([
      results[1],
      results[0],
    ]);
    expect(await queue().producer.enqueue([first], NO_LIMIT)).toEqual([
      results[0],
    ]);
    expect((await queue().waiting()).map(({ fields }) => fields)).toEqual([
      first.fields,
      second.fields,
    ]);
    expect(await queue().home(first.id)).toBe(results[0]);
  });

  test("appends a delivery once that stands twice in one call", async () => {
    const twice = item(randomUUID());
    const [one, two] = await queue().producer.enqueue([twice, twice], NO_LIMIT);
    expect(one).toBe(two);
    expect(await queue().waiting()).toHaveLength(1);
  });

  test("tells where a delivery is that waits for its retry or its record", async () => {
    const [waiting, done] = [
      await queue().inFlight("a"),
      await queue().inFlight("a"),
    ];
    await queue().settleOne("a", waiting, { kind: "retry" });
    await queue().settleOne("a", done, { kind: "success" });
    const results = await queue().producer.enqueue(
      [item(waiting.deliveryId), item(done.deliveryId)],
      NO_LIMIT,
    );
    expect(results).toEqual(["retry", expect.stringMatching(/^log:/)]);
    expect(await queue().waiting()).toEqual([]);
  });

  test("refuses what is above the ceiling, and takes it when there is room", async () => {
    const items = [item(randomUUID()), item(randomUUID()), item(randomUUID())];
    const [first, second, third] = await queue().producer.enqueue(items, 2);
    expect([typeof first, typeof second, third]).toEqual([
      "string",
      "string",
      null,
    ]);
    expect(await queue().home(items[2]!.id)).toBeNull();
    // What is queued already is no refusal.
    expect(await queue().producer.enqueue(items, 2)).toEqual([
      first,
      second,
      null,
    ]);
    const [entry] = await queue().read("a", 1);
    await queue().settleOne("a", entry!, { kind: "success" });
    // Its outcome still takes its place.
    expect(await queue().producer.enqueue([items[2]!], 2)).toEqual([null]);
    const [logged] = await queue().log();
    await queue()
      .recorder("a")
      .recorded([{ ...entry!, entryId: logged!.entryId }]);
    expect(await queue().producer.enqueue([items[2]!], 2)).toEqual([
      expect.any(String),
    ]);
  });

  test("counts what waits for its retry", async () => {
    for (let n = 0; n < 3; n++) {
      const entry = await queue().inFlight("a");
      const rest = { kind: "retry", record: null } as const;
      await queue().settleOne("a", entry, rest);
    }
    expect(await queue().producer.measure()).toMatchObject({ length: 3 });
    const [one, two] = [item(randomUUID()), item(randomUUID())];
    expect(await queue().producer.enqueue([one, two], 4)).toEqual([
      expect.any(String),
      null,
    ]);
  });

  test("keeps to the ceiling when many enqueue and settle at once", async () => {
    const CEILING = 50;
    const over = new AbortController();
    let most = 0;
    const watch = async () => {
      while (!over.signal.aborted) {
        const { length } = await queue().producer.measure();
        most = Math.max(most, length!);
      }
    };
    const fail = async (name: string) => {
      while (!over.signal.aborted) {
        for (const entry of await queue().read(name, 5)) {
          const rest = { kind: "retry", record: null } as const;
          await queue().settleOne(name, entry, rest);
        }
      }
    };
    const add = async () => {
      let added = 0;
      for (let n = 0; n < 25; n++) {
        const items = Array.from({ length: 10 }, () => item(randomUUID()));
        const results = await queue().producer.enqueue(items, CEILING);
        added += results.filter((result) => result !== null).length;
      }
      return added;
    };
    const others = [watch(), fail("a"), fail("b")];
    const added = await Promise.all(Array.from({ length: 8 }, add));
    over.abort();
    await Promise.all(others);
    expect(added.reduce((sum, each) => sum + each)).toBe(CEILING);
    expect(most).toBeLessThanOrEqual(CEILING);
  });

  test.each(["stream", "homes"] as const)(
    "a %s key of the wrong type is an error and nothing is appended",
    async (name) => {
      await queue().redis.set(queue().keys[name], "garbage");
      await expect(
        queue().producer.enqueue([item(randomUUID())], NO_LIMIT),
      ).rejects.toThrow("WRONGTYPE");
      await queue().redis.del(queue().keys[name]);
      expect(await queue().waiting()).toEqual([]);
    },
  );

  test("keeps every byte of a payload", async () => {
    const id = randomUUID();
    const payload = '{"text":"ü€😀\\u0000\\n\\"  ","big":12345678901234567890}';
    await queue().producer.enqueue(
      [{ id, fields: { ...fieldsOf(id), payload } }],
      NO_LIMIT,
    );
    expect((await queue().waiting())[0]?.fields["payload"]).toBe(payload);
  });
});

describe("admit", () => {
  const addByHand = async (id: string) => {
    const entryId = await queue().redis.xadd(
      queue().keys.stream,
      "*",
      "id",
      id,
      "payload",
      "{}",
    );
    return { entryId: entryId!, deliveryId: id };
  };

  test("gives an entry added by hand its place, and again when it is read again", async () => {
    const entry = await addByHand(randomUUID());
    expect(await queue().consumer("a").admit([entry])).toEqual([true]);
    expect(await queue().consumer("a").admit([entry])).toEqual([true]);
    expect(await queue().home(entry.deliveryId)).toBe(entry.entryId);
  });

  test("removes a second entry of a delivery that is in the stream", async () => {
    const first = await addByHand(randomUUID());
    const second = await addByHand(first.deliveryId);
    await queue().read("a");
    expect(await queue().consumer("a").admit([first, second])).toEqual([
      true,
      false,
    ]);
    expect((await queue().waiting()).map(({ entryId }) => entryId)).toEqual([
      first.entryId,
    ]);
    expect(await queue().owners()).toEqual({ [first.entryId]: "a" });
  });

  test.each(["retry", "success"] as const)(
    "removes an entry of a delivery that has settled as %s and is not finished with",
    async (kind) => {
      const entry = await queue().inFlight("a");
      await queue().settleOne("a", entry, { kind });
      const second = await addByHand(entry.deliveryId);
      expect(await queue().consumer("a").admit([second])).toEqual([false]);
      expect(await queue().waiting()).toEqual([]);
    },
  );

  const leftOvers = {
    "an entry that was trimmed": () => "1-1",
    "a retry that was removed": () => "retry",
    "a log entry that was trimmed": () => "log:1-1",
  };
  test.each(Object.entries(leftOvers))(
    "takes the place left over from %s",
    async (_, leftOver) => {
      const entry = await addByHand(randomUUID());
      await queue().redis.hset(
        queue().keys.homes,
        entry.deliveryId,
        leftOver(),
      );
      expect(await queue().consumer("a").admit([entry])).toEqual([true]);
      expect(await queue().home(entry.deliveryId)).toBe(entry.entryId);
    },
  );

  test("works without a group", async () => {
    const [first, second] = [await addByHand("x"), await addByHand("x")];
    await queue().redis.xgroup("DESTROY", queue().keys.stream, "dispatchers");
    expect(await queue().consumer("a").admit([first, second])).toEqual([
      true,
      false,
    ]);
  });
});

test("a hash of homes under its former name is taken over once, and never over the new one", async () => {
  const { redis, keys } = queue();
  await adoptHomes(redis, keys);
  await redis.hset(keys.formerHomes, "a", "1-1");
  await adoptHomes(redis, keys);
  expect(await redis.hgetall(keys.homes)).toEqual({ a: "1-1" });
  await redis.hset(keys.formerHomes, "a", "2-2");
  await adoptHomes(redis, keys);
  expect(await redis.hgetall(keys.homes)).toEqual({ a: "1-1" });
});
