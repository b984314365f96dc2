// More dispatchers against a receiver that takes 50 ms: at first their slots are what is short, then the processors.
import { cpus } from "node:os";
import { fillThroughIngest, untilFinished } from "../queue.ts";
import { type Case, stated, steadyRate } from "./case.ts";
import { UNLIMITED } from "./drain.ts";

const DISPATCHERS = [1, 2, 4];
const SLOTS = Number(UNLIMITED.DISPATCHER_CONCURRENCY);
const ANSWER_MS = 50;

/** Milliseconds that the processors together have worked and have existed. */
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
      progress(`${count} dispatchers of ${SLOTS} slots`);
      await Promise.all(
        Array.from({ length: count }, () => rig.start("dispatcher", UNLIMITED)),
      );
      const before = processorTime();
      await untilFinished(rig, 120_000);
      const after = processorTime();
      const { arrivals } = await rig.receiverStats();
      figures[`${count} dispatchers`] = steadyRate(arrivals);
      figures[`processors busy with ${count}`] =
        ((after.busy - before.busy) / (after.all - before.all)) * 100;
      await rig.stopServices();
    }
    figures["4 against 1"] =
      figures["4 dispatchers"]! / figures["1 dispatchers"]!;
    return figures;
  },
  figures: [
    ...DISPATCHERS.flatMap((count) => [
      {
        figure: `${count} dispatchers`,
        unit: "/s",
        goal: `slots allow ${((count * SLOTS * 1000) / ANSWER_MS).toLocaleString("en")}`,
        isRate: true,
      },
      stated(`processors busy with ${count}`, "%"),
    ]),
    {
      figure: "4 against 1",
      unit: "×",
      goal: "grows",
      isMet: (ratio) => ratio > 1.5,
    },
  ],
};
