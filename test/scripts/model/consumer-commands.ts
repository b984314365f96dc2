// What dispatchers do with the entries they read.
import { expect } from "vitest";
import { fieldsOf } from "../../support/queue.ts";
import { addEntry, command, nth, putInLine } from "./command.ts";
import { homeText } from "./model.ts";

export const KINDS = [
  "success",
  "retry",
  "dead",
  "defer",
  "wait",
  "rewait",
] as const;

export const read = (consumer: string, count: number) =>
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

export const claim = (consumer: string, n: number) =>
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

export const admit = (consumer: string) =>
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
      expect(await queue.consumer("a").admit(entries)).toEqual(expected);
    },
    (model) => model.arrived.get(consumer)!.length > 0,
  );

export const settle = (
  consumer: string,
  n: number,
  kind: (typeof KINDS)[number],
) =>
  command(
    `settle(${consumer}, ${n}, ${kind})`,
    async (model, queue) => {
      const [entryId, { deliveryId, attempt }] = nth(
        model.known.get(consumer)!,
        n,
      );
      const next = kind === "retry" ? attempt + 1 : attempt;
      const isPut = kind === "wait" || kind === "rewait";
      const result = await queue.settleOne(
        consumer,
        { entryId, deliveryId },
        {
          kind,
          attempt,
          fields: fieldsOf(deliveryId, next),
          ...(isPut ? { record: null } : {}),
        },
      );
      const entry = model.entries.get(entryId);
      const home = model.homes.get(deliveryId);
      // In the model's world every dead letter is a recent one.
      const letter =
        home === undefined || home.kind === "log"
          ? [...model.dead].findLast(([, id]) => id === deliveryId)?.[0]
          : undefined;
      // An entry that nobody has read cannot be settled in the usual way.
      const isPending = entry !== undefined && entry.owner !== null;
      const isLate =
        kind === "success" &&
        !isPending &&
        (home?.kind !== "log" || letter !== undefined);
      const counts =
        kind === "success" ? isPending || isLate : entry?.owner === consumer;
      expect(result).toBe(counts ? (isLate ? "late" : "settled") : "stale");
      if (!counts) return;
      model.entries.delete(entryId);
      if (isLate && home?.kind === "entry") model.entries.delete(home.entryId);
      if (isLate && letter !== undefined) model.dead.delete(letter);
      if (isPut)
        return putInLine(model, deliveryId, attempt, kind === "rewait");
      const logged = (await queue.log()).at(-1)!;
      model.log.set(logged.entryId, deliveryId);
      if (kind === "retry" || kind === "defer") {
        model.homes.set(deliveryId, {
          kind: "retry",
          attempt: next,
          isDue: false,
        });
        return;
      }
      model.homes.set(deliveryId, { kind: "log", logId: logged.entryId });
      model.unfinished.delete(deliveryId);
      if (kind === "dead")
        model.dead.set((await queue.dead()).at(-1)!.entryId, deliveryId);
    },
    (model) => model.known.get(consumer)!.size > 0,
  );

export const heartbeat = (consumer: string) =>
  command(
    `heartbeat(${consumer})`,
    async (model, queue) => {
      const known = [...model.known.get(consumer)!.keys()];
      const owned = known.filter(
        (entryId) => model.entries.get(entryId)?.owner === consumer,
      );
      expect(await queue.consumer(consumer).heartbeat(known)).toEqual(owned);
    },
    (model) => model.known.get(consumer)!.size > 0,
  );

export const release = (consumer: string, n: number) =>
  command(
    `release(${consumer}, ${n})`,
    async (model, queue) => {
      const [entryId, { deliveryId }] = nth(model.known.get(consumer)!, n);
      const entry = model.entries.get(entryId);
      const released = await queue
        .consumer(consumer)
        .release([{ entryId, deliveryId }]);
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

export const removeConsumer = (consumer: string) =>
  command(`remove consumer(${consumer})`, async (model, queue) => {
    const ownsNothing = ![...model.entries.values()].some(
      ({ owner }) => owner === consumer,
    );
    expect(await queue.consumer(consumer).leave()).toBe(ownsNothing);
  });
