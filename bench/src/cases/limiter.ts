// Three dispatchers share one rate limit: they must not exceed it in any second by more than the burst, and must use it up.
import { fillWithXadd, untilFinished } from "../queue.ts";
import { mostInWindow } from "../statistics.ts";
import type { Case } from "./case.ts";

const RATES = [50, 1000];
const DISPATCHERS = 3;

export const limiterCase: Case = {
  name: "limiter",
  run: async ({ rig, quick, progress }) => {
    const figures: Record<string, number> = {};
    for (const rate of RATES) {
      await rig.reset();
      const seconds = quick ? 8 : 20;
      await fillWithXadd(rig, rate * seconds, `${rig.receiverUrl}/ok`);
      progress(`${rate}/s over ${DISPATCHERS} dispatchers`);
      const overrides = {
        RATE_LIMIT_PER_SECOND: String(rate),
        DISPATCHER_CONCURRENCY: rate > 500 ? "32" : "5",
      };
      await Promise.all(
        Array.from({ length: DISPATCHERS }, () =>
          rig.start("dispatcher", overrides),
        ),
      );
      await untilFinished(rig, seconds * 2000 + 10_000);
      const { arrivals } = await rig.takeReceiverStats();
      await rig.stopServices();
      arrivals.sort((a, b) => a - b);
      const lasted = (arrivals.at(-1)! - arrivals[0]!) / 1000;
      figures[`${rate}/s: most in any second`] = mostInWindow(arrivals, 1000);
      figures[`${rate}/s: long-run rate / limit`] =
        (arrivals.length - 1) / lasted / rate;
    }
    return figures;
  },
  figures: RATES.flatMap((rate) => [
    {
      figure: `${rate}/s: most in any second`,
      unit: "",
      goal: `≤ ${rate * 1.2} (rate + 20 %)`,
      isMet: (most: number) => most <= rate * 1.2,
    },
    {
      figure: `${rate}/s: long-run rate / limit`,
      unit: "×",
      goal: "≥ 0.98",
      isMet: (share: number) => share >= 0.98,
    },
  ]),
};
