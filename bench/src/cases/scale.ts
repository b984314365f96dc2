// More and more dispatchers, and a receiver that takes 50 ms: first their slots limit the rate, then the processors do.
import { cpus } from "node:os";
import { fillThroughIngest, untilFinished } from "../queue.ts";
import { UNLIMITED } from "../rig.ts";
import { steadyRate } from "../statistics.ts";
import { type Case, withoutGoal } from "./case.ts";

const DISPATCHERS = [1, 2, 4];
const SLOTS = Number(UNLIMITED.DISPATCHER_CONCURRENCY);
const ANSWER_MS = 50;

/** Milliseconds that all processors together have worked, and all their milliseconds since the machine started. */
function processorTime(): { busy: number; all: number } {
  let busy = 0;
  let all = 0;
  for (const { times } of cpus()) {
    const worked = times.user + times.nice + times.sys + times.irq;
    busy += worked;
    all += worked + times.idle;
  }
  return { busy, all };
}

export const scaleCase: Case = {
  name: "scale",
  run: async ({ rig, quick, progress }) => {
    const figures: Record<string, number> = {};
    for (const count of DISPATCHERS) {
      const deliveries = (quick ? 3000 : 10_000) * count;
      await rig.reset();
      const url = `${rig.receiverUrl}/slow?ms=${ANSWER_MS}`;
      await fillThroughIngest(rig, deliveries, url);
      progress(`dispatchers with ${SLOTS} slots each: ${count}`);
      await Promise.all(
        Array.from({ length: count }, () => rig.start("dispatcher", UNLIMITED)),
      );
      const before = processorTime();
      await untilFinished(rig, 120_000);
      const after = processorTime();
      const { arrivals } = await rig.takeReceiverStats();
      figures[`dispatchers: ${count}`] = steadyRate(arrivals);
      figures[`dispatchers: ${count}, processors busy`] =
        ((after.busy - before.busy) / (after.all - before.all)) * 100;
      await rig.stopServices();
    }
    figures["4 dispatchers vs. 1"] =
      figures["dispatchers: 4"]! / figures["dispatchers: 1"]!;
    return figures;
  },
  figures: [
    ...DISPATCHERS.flatMap((count) => [
      {
        figure: `dispatchers: ${count}`,
        unit: "/s",
        goal: `slots allow ${((count * SLOTS * 1000) / ANSWER_MS).toLocaleString("en")}`,
        isRate: true,
      },
      withoutGoal(`dispatchers: ${count}, processors busy`, "%"),
    ]),
    {
      figure: "4 dispatchers vs. 1",
      unit: "×",
      goal: "> 1.5",
      isMet: (ratio) => ratio > 1.5,
    },
  ],
};
