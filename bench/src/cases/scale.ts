// More dispatchers against a receiver that takes 50 ms, where slots and not the processor are what is short.
import { fill, untilFinished } from "../queue.ts";
import type { Case } from "./case.ts";

const DISPATCHERS = [1, 2, 4];
const SLOTS = 32;
const ANSWER_MS = 50;

export const scaleCase: Case = {
  name: "scale",
  run: async ({ rig, quick, progress }) => {
    const figures: Record<string, number> = {};
    for (const count of DISPATCHERS) {
      const deliveries = (quick ? 2000 : 6000) * count;
      await rig.reset();
      await fill(rig, {
        count: deliveries,
        urlOf: () => `${rig.receiverUrl}/slow?ms=${ANSWER_MS}`,
        throughIngest: true,
      });
      progress(`${count} dispatchers of ${SLOTS} slots`);
      const overrides = {
        RATE_LIMIT_PER_SECOND: "0",
        DISPATCHER_CONCURRENCY: String(SLOTS),
      };
      await Promise.all(
        Array.from({ length: count }, () => rig.start("dispatcher", overrides)),
      );
      await untilFinished(rig, 120_000, () => undefined);
      // From the first arrival, since the dispatchers do not start at the same moment.
      const { arrivals } = await rig.receiverStats();
      figures[`${count} dispatchers`] =
        (arrivals.length /
          (Math.max(...arrivals.slice(-100)) - arrivals[0]! + ANSWER_MS)) *
        1000;
      await rig.stopServices();
    }
    figures["4 against 1"] =
      figures["4 dispatchers"]! / figures["1 dispatchers"]!;
    return figures;
  },
  figures: () => [
    ...DISPATCHERS.map((count) => ({
      figure: `${count} dispatchers`,
      unit: "/s",
      goal: `slots allow ${(count * SLOTS * 1000) / ANSWER_MS}`,
      isMet: () => true,
      isRate: true,
    })),
    {
      figure: "4 against 1",
      unit: "×",
      goal: "grows",
      isMet: (ratio) => ratio > 1.5,
    },
  ],
};
