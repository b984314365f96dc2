import { hasCode } from "./errors.ts";

export type Isolated<Item, Result> =
  { item: Item; result: Result } | { item: Item; refused: unknown };

/**
 * Runs a batch. When the database refuses it (DATABASE_REFUSED), the batch is halved until each refused item is alone and
 * all others have gone through. `run` must have no effect when it rejects. Other faults are thrown. Results keep the items'
 * order.
 */
export async function isolateRefused<Item, Result>(
  items: Item[],
  run: (items: Item[]) => Promise<Result[]>,
): Promise<Isolated<Item, Result>[]> {
  try {
    const results = await run(items);
    return items.map((item, index) => ({ item, result: results[index]! }));
  } catch (error) {
    if (!hasCode(error, "DATABASE_REFUSED")) throw error;
    if (items.length === 1) return [{ item: items[0]!, refused: error }];
    const middle = Math.ceil(items.length / 2);
    const first = await isolateRefused(items.slice(0, middle), run);
    return [...first, ...(await isolateRefused(items.slice(middle), run))];
  }
}
