import { hasCode, PipelineError } from "./errors.ts";
import { isHeld } from "./database-fault.ts";

export type Isolated<Item, Result> =
  { item: Item; result: Result } | { item: Item; refused: unknown };

export interface IsolateOptions {
  /** When it says so nothing further is tried, and what was not tried is refused as unavailable. */
  isLate?: () => boolean;
}

/**
 * How many parts a refused batch is cut into. A part with a locked row waits for the lock before it fails, so few levels
 * matter more than few calls: 500 rows take three levels, where halving takes nine.
 */
const PARTS = 8;
const PARTS_AT_ONCE = 4;

async function inTurns<Part, Outcome>(
  parts: Part[],
  run: (part: Part) => Promise<Outcome>,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = Array.from({ length: parts.length });
  let next = 0;
  const work = async () => {
    while (next < parts.length) {
      const index = next++;
      outcomes[index] = await run(parts[index]!);
    }
  };
  const workers = Array.from({ length: PARTS_AT_ONCE }, work);
  // All of them come to an end before a fault is thrown, so that nothing runs on unseen.
  const ends = await Promise.allSettled(workers);
  for (const end of ends)
    if (end.status === "rejected") throw end.reason as Error;
  return outcomes;
}

/**
 * Runs a batch. When the database refuses it (DATABASE_REFUSED) or gives up on it because of a row that somebody holds
 * (`isHeld`), the batch is cut up until each such item is alone and all others have gone through, a few parts at a time.
 * `run` must have no effect when it rejects. Other faults are thrown. Results keep the items' order.
 */
export async function isolateRefused<Item, Result>(
  items: Item[],
  run: (items: Item[]) => Promise<Result[]>,
  options: IsolateOptions = {},
): Promise<Isolated<Item, Result>[]> {
  try {
    const results = await run(items);
    return items.map((item, index) => ({ item, result: results[index]! }));
  } catch (error) {
    if (!hasCode(error, "DATABASE_REFUSED") && !isHeld(error)) throw error;
    if (items.length === 1) return [{ item: items[0]!, refused: error }];
    if (options.isLate?.() === true) {
      const refused = new PipelineError(
        "DATABASE_UNAVAILABLE",
        `not tried alone for lack of time: ${error.message}`,
        { cause: error, contact: "answered" },
      );
      return items.map((item) => ({ item, refused }));
    }
    const size = Math.ceil(items.length / PARTS);
    const parts = Array.from(
      { length: Math.ceil(items.length / size) },
      (_, index) => items.slice(index * size, (index + 1) * size),
    );
    const outcomes = await inTurns(parts, (part) =>
      isolateRefused(part, run, options),
    );
    return outcomes.flat();
  }
}
