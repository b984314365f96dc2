import fc from "fast-check";
import { expect, inject, test } from "vitest";
import { createQueue, useQueue } from "../support/queue.ts";
import { allCommands, CONSUMERS } from "./model/commands.ts";
import { createModel, expectSame } from "./model/model.ts";

const RUNS = Number(process.env["MODEL_RUNS"] ?? 250);

const queue = useQueue();

test(
  "whatever happens in whatever order, each unfinished delivery has one home and nothing happens twice",
  async () => {
    let runs = 0;
    let steps = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.commands(allCommands, { maxCommands: 120, size: "max" }),
        async (commands) => {
          const real = await createQueue(queue().url);
          try {
            const model = createModel(CONSUMERS);
            await fc.asyncModelRun(() => ({ model, real }), commands);
            await expectSame(model, real);
            runs++;
            steps += [...commands].length;
          } finally {
            real.close();
          }
        },
      ),
      // No time limit of fast-check's: one that is reached counts as success. Too slow is a failure here.
      { numRuns: RUNS, seed: inject("seed") },
    );
    expect(runs).toBe(RUNS);
    expect(steps).toBeGreaterThan(RUNS);
  },
  60_000 + RUNS * 400,
);
