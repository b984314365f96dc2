// What producers, schedulers, the recorder and people do with deliveries.
import { expect } from "vitest";
import { fieldsOf, NO_LIMIT, type Queue } from "../../support/queue.ts";
import { addEntry, command, DELIVERIES, nth, putInLine } from "./command.ts";
import { ENDPOINT, homeText, type Model } from "./model.ts";

export const enqueue = (id: string) =>
  command(`enqueue(${id})`, async (model, queue) => {
    const before = homeText(model.homes.get(id));
    const [result] = await queue.producer.enqueue(
      [{ id, fields: fieldsOf(id) }],
      NO_LIMIT,
    );
    if (before !== null) return expect(result).toBe(before);
    if (!model.isInLine) return addEntry(model, result!, id, 1, true);
    expect(result).toBe("waiting");
    putInLine(model, id, 1);
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
      const attempt = home.kind === "retry" ? home.attempt : 0;
      if (model.isInLine) putInLine(model, id, attempt);
      else addEntry(model, (await queue.home(id))!, id, attempt, true);
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
    home === "log"
      ? "unrecorded"
      : home === "entry" || home === "waiting"
        ? "queued"
        : "requeued",
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

/** Lets out what the list begins with, unless what was let out before is still unread. */
export const letOut = (count: number) =>
  command(`let out(${count})`, async (model, queue) => {
    const isUnread =
      model.letOut !== null &&
      model.entries.has(model.letOut) &&
      model.entries.get(model.letOut)!.owner === null;
    const most = isUnread ? 0 : count;
    const out: { id: string; attempt: number }[] = [];
    while (out.length < most && model.line.length > 0) {
      const id = model.line.shift()!;
      const home = model.homes.get(id);
      // Others have been cancelled, or have succeeded late.
      if (home?.kind !== "waiting") continue;
      out.push({ id, attempt: home.attempt });
      model.homes.delete(id);
    }
    const grants = [{ endpoint: ENDPOINT, count }];
    expect(await queue.lists.letOut(grants, 1_000_000, Date.now())).toEqual([
      out.length,
    ]);
    for (const { id, attempt } of out) {
      const entryId = (await queue.home(id))!;
      addEntry(model, entryId, id, attempt, true);
      model.letOut = entryId;
    }
  });

export const turns = () =>
  command("turns", async (model, queue) => {
    expect(await queue.lists.turns(10)).toEqual(
      model.isInLine ? [{ endpoint: ENDPOINT, heldMs: 0 }] : [],
    );
    if (model.line.length > 0) return;
    model.isInLine = false;
    model.letOut = null;
  });

/** What a dispatcher sees ahead goes to the list, if there is one. */
export const lookAhead = () =>
  command("look ahead", async (model, queue) => {
    const unread = [...model.entries].filter(([, { owner }]) => owner === null);
    const { entries } = await queue.lists.unread(100, 1_000_000);
    expect(entries.map(({ entryId }) => entryId)).toEqual(
      unread.map(([entryId]) => entryId),
    );
    let moved = 0;
    for (const [entryId, { deliveryId, attempt }] of unread) {
      const home = homeText(model.homes.get(deliveryId));
      if (!model.isInLine || (home !== null && home !== entryId)) continue;
      model.entries.delete(entryId);
      putInLine(model, deliveryId, attempt);
      moved++;
    }
    const diversions = unread.map(([entryId, { deliveryId, attempt }]) => ({
      entryId,
      deliveryId,
      endpoint: ENDPOINT,
      fields: fieldsOf(deliveryId, attempt),
    }));
    expect(await queue.lists.divert(diversions)).toBe(moved);
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
