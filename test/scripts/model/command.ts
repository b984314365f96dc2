// What every step of the model test is made of.
import type fc from "fast-check";
import type { Queue } from "../../support/queue.ts";
import { expectSame, type Model } from "./model.ts";

export const DELIVERIES = ["d0", "d1", "d2", "d3"];

/** One step on Redis and on the model; afterwards they must look the same. */
export function command(
  name: string,
  run: (model: Model, queue: Queue) => Promise<void>,
  check: (model: Model) => boolean = () => true,
): fc.AsyncCommand<Model, Queue> {
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
export const nth = <Item>(items: Iterable<Item>, n: number): Item => {
  const list = [...items];
  return list.at(-1 - (n % list.length))!;
};

/** Puts it into the waiting list, in front of the others when it has been there before. */
export function putInLine(
  model: Model,
  deliveryId: string,
  attempt: number,
  isFirst = false,
): void {
  if (isFirst) model.line.unshift(deliveryId);
  else model.line.push(deliveryId);
  model.isInLine = true;
  model.unfinished.add(deliveryId);
  model.homes.set(deliveryId, { kind: "waiting", attempt });
}

export function addEntry(
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
