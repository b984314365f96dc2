import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createQueue } from "../support/queue.ts";
import { startTestRedis, type TestRedis } from "../support/redis-server.ts";
import { allCommands, CONSUMERS } from "./model/commands.ts";
import { createModel, expectSame } from "./model/model.ts";

const RUNS = Number(process.env["MODEL_RUNS"] ?? 250);

let server: TestRedis;
beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.stop());

test(
  "whatever happens in whatever order, each unfinished delivery has one home and nothing happens twice",
  async () => {
    let steps = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.commands(allCommands, { maxCommands: 120, size: "max" }),
        async (commands) => {
          const queue = await createQueue(server.url);
          try {
            const model = createModel(CONSUMERS);
            await fc.asyncModelRun(() => ({ model, real: queue }), commands);
            await expectSame(model, queue);
            steps += [...commands].length;
          } finally {
            queue.close();
          }
        },
      ),
      { numRuns: RUNS, interruptAfterTimeLimit: RUNS * 60 },
    );
    expect(steps).toBeGreaterThan(0);
  },
  60_000 + RUNS * 100,
);
