// One command per thing that a producer, a consumer, a scheduler, the recorder or a person may do, in any order.
import fc from "fast-check";
import { expect } from "vitest";
import { fieldsOf, NO_LIMIT, type Queue } from "../../support/queue.ts";
import { expectSame, homeText, type Model } from "./model.ts";

export const CONSUMERS = ["a", "b", "c"];
const DELIVERIES = ["d0", "d1", "d2", "d3"];
const OUTCOMES = ["success", "retry", "dead", "defer"] as const;

type Command = fc.AsyncCommand<Model, Queue>;

function command(
  name: string,
  run: (model: Model, queue: Queue) => Promise<void>,
  check: (model: Model) => boolean = () => true,
): Command {
  return {
    check,
    run: async (model, queue) => {
      await run(model, queue);
      await expectSame(model, queue);
    },
    toString: () => name,
  };
}

/** From the newest: what happened last is what later steps interfere with. */
const nth = <Item>(items: Iterable<Item>, n: number): Item => {
  const list = [...items];
  return list.at(-1 - (n % list.length))!;
};

function addEntry(
  model: Model,
  entryId: string,
  deliveryId: string,
  attempt: number,
  isHome: boolean,
): void {
  model.entries.set(entryId, { deliveryId, attempt, owner: null });
  model.unfinished.add(deliveryId);
  if (isHome) model.homes.set(deliveryId, { kind: "entry", entryId });
}

const enqueue = (id: string) =>
  command(`enqueue(${id})`, async (model, queue) => {
    const before = homeText(model.homes.get(id));
    const [result] = await queue.scripts.enqueue(
      [{ id, fields: fieldsOf(id) }],
      NO_LIMIT,
    );
    if (before === null) addEntry(model, result!, id, 1, true);
    else expect(result).toBe(before);
  });

const addByHand = (id: string) =>
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

const read = (consumer: string, count: number) =>
  command(`read(${consumer}, ${count})`, async (model, queue) => {
    const expected = [...model.entries]
      .filter(([, entry]) => entry.owner === null)
      .slice(0, count);
    const entries = await queue.read(consumer, count);
    expect(entries.map(({ entryId }) => entryId)).toEqual(
      expected.map(([entryId]) => entryId),
    );
    for (const [entryId, entry] of expected) {
      entry.owner = consumer;
      model.arrived.get(consumer)!.push(entryId);
    }
  });

const claim = (consumer: string, n: number) =>
  command(
    `claim(${consumer}, ${n})`,
    async (model, queue) => {
      const [entryId, entry] = nth(
        [...model.entries].filter(([, { owner }]) => owner !== null),
        n,
      );
      await queue.claim(consumer, entryId);
      entry.owner = consumer;
      model.arrived.get(consumer)!.push(entryId);
    },
    (model) => [...model.entries.values()].some(({ owner }) => owner !== null),
  );

const admit = (consumer: string) =>
  command(
    `admit(${consumer})`,
    async (model, queue) => {
      // What another consumer has claimed meanwhile is still in the reader's hands, as it is after a stall.
      const arrived = model.arrived
        .get(consumer)!
        .filter((entryId) => model.entries.has(entryId));
      model.arrived.set(consumer, []);
      const entries = arrived.map((entryId) => ({
        entryId,
        deliveryId: model.entries.get(entryId)!.deliveryId,
      }));
      if (entries.length === 0) return;
      const expected = entries.map(({ entryId, deliveryId }) => {
        const home = homeText(model.homes.get(deliveryId));
        if (!model.entries.has(entryId)) return home === null;
        if (home !== null && home !== entryId) {
          model.entries.delete(entryId);
          return false;
        }
        model.homes.set(deliveryId, { kind: "entry", entryId });
        model.known
          .get(consumer)!
          .set(entryId, { ...model.entries.get(entryId)! });
        return true;
      });
      expect(await queue.scripts.admit(entries)).toEqual(expected);
    },
    (model) => model.arrived.get(consumer)!.length > 0,
  );

const settle = (
  consumer: string,
  n: number,
  outcome: (typeof OUTCOMES)[number],
) =>
  command(
    `settle(${consumer}, ${n}, ${outcome})`,
    async (model, queue) => {
      const [entryId, { deliveryId, attempt }] = nth(
        model.known.get(consumer)!,
        n,
      );
      const next = outcome === "retry" ? attempt + 1 : attempt;
      const result = await queue.settleOne(
        consumer,
        { entryId, deliveryId },
        { outcome, attempt, fields: fieldsOf(deliveryId, next) },
      );
      const entry = model.entries.get(entryId);
      const home = model.homes.get(deliveryId);
      const isLate =
        entry === undefined &&
        home?.kind === "retry" &&
        (home.attempt === attempt || home.attempt === attempt + 1);
      const counts =
        outcome === "success"
          ? entry !== undefined || isLate
          : entry?.owner === consumer;
      expect(result).toBe(counts ? (isLate ? 2 : 1) : 0);
      if (!counts) return;
      model.entries.delete(entryId);
      const logged = (await queue.log()).at(-1)!;
      model.log.set(logged.entryId, deliveryId);
      if (outcome === "retry" || outcome === "defer") {
        model.homes.set(deliveryId, {
          kind: "retry",
          attempt: next,
          isDue: false,
        });
        return;
      }
      model.homes.set(deliveryId, { kind: "log", logId: logged.entryId });
      model.unfinished.delete(deliveryId);
      if (outcome === "dead")
        model.dead.set((await queue.dead()).at(-1)!.entryId, deliveryId);
    },
    (model) => model.known.get(consumer)!.size > 0,
  );

const heartbeat = (consumer: string) =>
  command(
    `heartbeat(${consumer})`,
    async (model, queue) => {
      const known = [...model.known.get(consumer)!.keys()];
      const owned = known.filter(
        (entryId) => model.entries.get(entryId)?.owner === consumer,
      );
      expect(await queue.scripts.heartbeat(consumer, known)).toEqual(owned);
    },
    (model) => model.known.get(consumer)!.size > 0,
  );

const release = (consumer: string, n: number) =>
  command(
    `release(${consumer}, ${n})`,
    async (model, queue) => {
      const [entryId, { deliveryId }] = nth(model.known.get(consumer)!, n);
      const entry = model.entries.get(entryId);
      const released = await queue.scripts.release(consumer, [
        { entryId, deliveryId },
      ]);
      expect(released).toBe(entry?.owner === consumer ? 1 : 0);
      if (released === 0) return;
      model.entries.delete(entryId);
      addEntry(
        model,
        (await queue.waiting()).at(-1)!.entryId,
        deliveryId,
        entry!.attempt,
        true,
      );
    },
    (model) => model.known.get(consumer)!.size > 0,
  );

const makeDue = (id: string) =>
  command(
    `time passes(${id})`,
    async (model, queue) => {
      await queue.makeDue(id);
      const home = model.homes.get(id)!;
      if (home.kind === "retry") home.isDue = true;
    },
    (model) => model.homes.get(id)?.kind === "retry",
  );

const promote = (limit: number) =>
  command(`promote(${limit})`, async (model, queue) => {
    const due = [...model.homes]
      .filter(([, home]) => home.kind === "retry" && home.isDue)
      .map(([id]) => id);
    const moving = due.sort((a, b) => (a < b ? -1 : 1)).slice(0, limit);
    expect(await queue.scripts.promote(limit)).toMatchObject({
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

const reinject = (id: string, isLater: boolean) =>
  command(
    `reinject(${id}, ${isLater ? "later" : "now"})`,
    async (model, queue) => {
      const dueAt = isLater ? Date.now() + 3_600_000 : 0;
      const [injected] = await queue.scripts.reinject([
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
  const result = await queue.scripts.requeue(id, fieldsOf(id, 7), letter);
  expect(result.kind).toBe(
    home === "log" ? "unrecorded" : home === "entry" ? "queued" : "requeued",
  );
  if (result.kind !== "requeued") return;
  if (letter !== null) model.dead.delete(letter);
  addEntry(model, result.entryId, id, 7, true);
}

const sendAgain = (id: string) =>
  command(`requeue(${id})`, (model, queue) => requeue(id, null, model, queue));

const replay = (n: number) =>
  command(
    `replay(${n})`,
    async (model, queue) => {
      const [letter, id] = nth(model.dead, n);
      await requeue(id, letter, model, queue);
      if (!model.dead.has(letter))
        expect(await queue.scripts.requeue(id, fieldsOf(id), letter)).toEqual({
          kind: "queued",
        });
    },
    (model) => model.dead.size > 0,
  );

const cancel = (id: string) =>
  command(`cancel(${id})`, async (model, queue) => {
    const home = model.homes.get(id);
    const entry =
      home?.kind === "entry" ? model.entries.get(home.entryId) : undefined;
    const result = await queue.scripts.cancel(id);
    if (home?.kind === "log") return expect(result).toBe("unrecorded");
    if (entry?.owner) return expect(result).toBe("in_flight");
    expect(result).toBe("cancelled");
    if (home?.kind === "entry") model.entries.delete(home.entryId);
    model.homes.delete(id);
    // Another entry, by hand, makes it a delivery again.
    if (
      ![...model.entries.values()].some(({ deliveryId }) => deliveryId === id)
    )
      model.unfinished.delete(id);
  });

const record = (count: number) =>
  command(`record(${count})`, async (model, queue) => {
    const batch = [...model.log].slice(0, count);
    const entries = batch.map(([entryId, deliveryId]) => ({
      entryId,
      deliveryId,
    }));
    expect(await queue.scripts.recorded(entries)).toBe(entries.length);
    expect(await queue.scripts.recorded(entries)).toBe(0);
    for (const [logId, id] of batch) {
      model.log.delete(logId);
      if (homeText(model.homes.get(id)) === `log:${logId}`)
        model.homes.delete(id);
    }
  });

const trim = (id: string) =>
  command(
    `XDEL by hand(${id})`,
    async (model, queue) => {
      const home = model.homes.get(id)!;
      if (home.kind !== "entry") return;
      await queue.redis.xdel(queue.keys.stream, home.entryId);
      expect(await queue.scripts.homeless(DELIVERIES)).toContain(id);
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

const homeless = command("homeless", async (model, queue) => {
  expect(await queue.scripts.homeless(DELIVERIES)).toEqual(
    DELIVERIES.filter((id) => !model.homes.has(id)),
  );
});

const removeConsumer = (consumer: string) =>
  command(`remove consumer(${consumer})`, async (model, queue) => {
    const ownsNothing = ![...model.entries.values()].some(
      ({ owner }) => owner === consumer,
    );
    expect(await queue.scripts.removeConsumer("stream", consumer)).toBe(
      ownsNothing,
    );
  });

const delivery = fc.constantFrom(...DELIVERIES);
const consumer = fc.constantFrom(...CONSUMERS);
const n = fc.nat(3);

export const allCommands = [
  delivery.map(enqueue),
  delivery.map(addByHand),
  fc
    .tuple(consumer, fc.integer({ min: 1, max: 4 }))
    .map((args) => read(...args)),
  consumer.map(admit),
  fc
    .tuple(consumer, n, fc.constantFrom(...OUTCOMES))
    .map((args) => settle(...args)),
  fc
    .tuple(consumer, n, fc.constantFrom(...OUTCOMES))
    .map((args) => settle(...args)),
  fc.tuple(consumer, n).map((args) => claim(...args)),
  consumer.map(heartbeat),
  fc.tuple(consumer, n).map((args) => release(...args)),
  delivery.map(makeDue),
  fc.integer({ min: 1, max: 5 }).map(promote),
  fc.tuple(delivery, fc.boolean()).map((args) => reinject(...args)),
  delivery.map(sendAgain),
  n.map(replay),
  delivery.map(cancel),
  fc.integer({ min: 1, max: 3 }).map(record),
  delivery.map(trim),
  fc.constant(homeless),
  consumer.map(removeConsumer),
];
