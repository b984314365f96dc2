// What producers, schedulers, the recorder and people do with deliveries.
import { expect } from "vitest";
import { fieldsOf, NO_LIMIT, type Queue } from "../../support/queue.ts";
import { addEntry, command, DELIVERIES, nth } from "./command.ts";
import { homeText, type Model } from "./model.ts";

export const enqueue = (id: string) =>
  command(`enqueue(${id})`, async (model, queue) => {
    const before = homeText(model.homes.get(id));
    const [result] = await queue.producer.enqueue(
      [{ id, fields: fieldsOf(id) }],
      NO_LIMIT,
    );
    if (before === null) addEntry(model, result!, id, 1, true);
    else expect(result).toBe(before);
  });

export const addByHand = (id: string) =>
  command(`XADD(${id})`, async (model, queue) => {
    const entryId = await queue.redis.xadd(
      queue.keys.stream,
      "*",
      ...Object.entries(fieldsOf(id)).flat(),
    );
    // Of a delivery that lives elsewhere it is a duplicate and does not count.
    const isKnown = model.homes.has(id);
    const wasUnfinished = model.unfinished.has(id);
    addEntry(model, entryId!, id, 1, false);
    if (isKnown && !wasUnfinished) model.unfinished.delete(id);
  });

export const makeDue = (id: string) =>
  command(
    `time passes(${id})`,
    async (model, queue) => {
      await queue.makeDue(id);
      const home = model.homes.get(id)!;
      if (home.kind === "retry") home.isDue = true;
    },
    (model) => model.homes.get(id)?.kind === "retry",
  );

export const promote = (limit: number) =>
  command(`promote(${limit})`, async (model, queue) => {
    const due = [...model.homes]
      .filter(([, home]) => home.kind === "retry" && home.isDue)
      .map(([id]) => id);
    const moving = due.sort((a, b) => (a < b ? -1 : 1)).slice(0, limit);
    expect(await queue.retries.promote(limit, Date.now())).toMatchObject({
      moved: moving.length,
      unreadable: 0,
    });
    for (const id of moving) {
      const home = model.homes.get(id)!;
      addEntry(
        model,
        (await queue.home(id))!,
        id,
        home.kind === "retry" ? home.attempt : 0,
        true,
      );
    }
  });

export const reinject = (id: string, isLater: boolean) =>
  command(
    `reinject(${id}, ${isLater ? "later" : "now"})`,
    async (model, queue) => {
      const dueAt = isLater ? Date.now() + 3_600_000 : 0;
      const [injected] = await queue.reinject([
        { id, dueAt, fields: fieldsOf(id, 2) },
      ]);
      expect(injected).toBe(!model.homes.has(id));
      if (!injected) return;
      if (!isLater)
        return addEntry(model, (await queue.home(id))!, id, 2, true);
      model.homes.set(id, { kind: "retry", attempt: 2, isDue: false });
      model.unfinished.add(id);
    },
  );

async function requeue(
  id: string,
  letter: string | null,
  model: Model,
  queue: Queue,
): Promise<void> {
  const home = model.homes.get(id)?.kind;
  const result = await queue.requeue(id, fieldsOf(id, 7), letter);
  expect(result).toBe(
    home === "log" ? "unrecorded" : home === "entry" ? "queued" : "requeued",
  );
  if (result !== "requeued") return;
  if (letter !== null) model.dead.delete(letter);
  addEntry(model, (await queue.home(id))!, id, 7, true);
}

export const sendAgain = (id: string) =>
  command(`requeue(${id})`, (model, queue) => requeue(id, null, model, queue));

export const replay = (n: number) =>
  command(
    `replay(${n})`,
    async (model, queue) => {
      const [letter, id] = nth(model.dead, n);
      await requeue(id, letter, model, queue);
      if (!model.dead.has(letter))
        expect(await queue.requeue(id, fieldsOf(id), letter)).toBe("queued");
    },
    (model) => model.dead.size > 0,
  );

export const cancel = (id: string) =>
  command(`cancel(${id})`, async (model, queue) => {
    const home = model.homes.get(id);
    const entry =
      home?.kind === "entry" ? model.entries.get(home.entryId) : undefined;
    const result = await queue.cancel(id);
    if (home?.kind === "log") return expect(result).toBe("unrecorded");
    if (entry?.owner) return expect(result).toBe("in_flight");
    expect(result).toBe("cancelled");
    if (home?.kind === "entry") model.entries.delete(home.entryId);
    model.homes.delete(id);
    if (home === undefined) {
      // Redis had not heard of it: an enqueue on its way is refused for a while.
      expect(await queue.home(id)).toMatch(/^closed:/);
      expect(
        await queue.producer.enqueue([{ id, fields: fieldsOf(id) }], NO_LIMIT),
      ).toEqual([expect.stringMatching(/^closed:/)]);
      await queue.redis.hdel(queue.keys.homes, id); // as if that while had passed
      await queue.redis.zrem(queue.keys.tombstones, id);
    }
    // Another entry, by hand, makes it a delivery again.
    if (
      ![...model.entries.values()].some(({ deliveryId }) => deliveryId === id)
    )
      model.unfinished.delete(id);
  });

export const record = (count: number) =>
  command(`record(${count})`, async (model, queue) => {
    const batch = [...model.log].slice(0, count);
    const entries = batch.map(([entryId, deliveryId]) => ({
      entryId,
      deliveryId,
    }));
    expect(await queue.recorder("a").recorded(entries)).toBe(entries.length);
    expect(await queue.recorder("a").recorded(entries)).toBe(0);
    for (const [logId, id] of batch) {
      model.log.delete(logId);
      if (homeText(model.homes.get(id)) === `log:${logId}`)
        model.homes.delete(id);
    }
  });

export const trim = (id: string) =>
  command(
    `XDEL by hand(${id})`,
    async (model, queue) => {
      const home = model.homes.get(id)!;
      if (home.kind !== "entry") return;
      await queue.redis.xdel(queue.keys.stream, home.entryId);
      expect(await queue.reconcile.homeless(DELIVERIES)).toContain(id);
      await queue.reconcile.unmark(DELIVERIES);
      model.entries.delete(home.entryId);
      model.homes.delete(id);
      if (
        ![...model.entries.values()].some(({ deliveryId }) => deliveryId === id)
      )
        model.unfinished.delete(id);
    },
    (model) => {
      const home = model.homes.get(id);
      return (
        home?.kind === "entry" &&
        model.entries.get(home.entryId)!.owner === null
      );
    },
  );

export const homeless = () =>
  command("homeless", async (model, queue) => {
    expect(await queue.reconcile.homeless(DELIVERIES)).toEqual(
      DELIVERIES.filter((id) => !model.homes.has(id)),
    );
    await queue.reconcile.unmark(DELIVERIES);
  });
