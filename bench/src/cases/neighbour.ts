// One endpoint hangs with a tenth of the traffic: what that costs the others, against the same traffic with all well.
import { createScripts } from "@pipeline/shared/scripts";
import { randomUUID } from "node:crypto";
import { samplePayload } from "../payload.ts";
import { steadily } from "../load.ts";
import { type Case, type CaseContext, percentile, stated } from "./case.ts";

const SETTINGS = [
  { name: "default 5 slots, 50/s", rate: 40, overrides: {} },
  {
    name: "128 slots, no limit",
    rate: 1000,
    overrides: { RATE_LIMIT_PER_SECOND: "0", DISPATCHER_CONCURRENCY: "128" },
  },
];
const ENDPOINTS = 10;

interface Others {
  perSecond: number;
  p99: number;
}

/** A tenth of the traffic goes to one endpoint, which hangs or answers; the rest to nine that take 10 ms. */
async function traffic(
  context: CaseContext,
  rate: number,
  overrides: Record<string, string>,
  hangs: boolean,
): Promise<Others> {
  const { rig, quick } = context;
  const seconds = quick ? 15 : 25;
  await rig.reset();
  const scripts = createScripts(rig.redis, rig.keys);
  await rig.start("retry-scheduler");
  await rig.start("dispatcher", { ATTEMPT_TIMEOUT_MS: "10000", ...overrides });
  await rig.receiverStats();
  await steadily(rate, seconds, async (index) => {
    const id = randomUUID();
    const endpoint = index % ENDPOINTS;
    const path =
      endpoint === 0
        ? hangs
          ? "hang"
          : "tenth"
        : `at/${Date.now()}/${endpoint}`;
    await scripts.enqueue(
      [
        {
          id,
          fields: {
            id,
            webhook_url: `${rig.receiverUrl}/${path}`,
            payload: samplePayload(index),
          },
        },
      ],
      1e6,
    );
  });
  const stats = await rig.receiverStats();
  await rig.stopServices();
  const lateness = stats.lateness["/at"] ?? [];
  return {
    perSecond: lateness.length / seconds,
    p99: percentile(lateness, 0.99),
  };
}

export const neighbourCase: Case = {
  name: "neighbour",
  run: async (context) => {
    const figures: Record<string, number> = {};
    for (const { name, rate, overrides } of SETTINGS) {
      context.progress(`${name}: all well`);
      const well = await traffic(context, rate, overrides, false);
      context.progress(`${name}: one hangs`);
      const hanging = await traffic(context, rate, overrides, true);
      figures[`${name}: throughput of the others`] =
        hanging.perSecond / well.perSecond;
      figures[`${name}: p99 of the others, all well`] = well.p99;
      figures[`${name}: p99 of the others, one hangs`] = hanging.p99;
      figures[`${name}: p99 against all well`] = hanging.p99 / well.p99;
    }
    return figures;
  },
  figures: SETTINGS.flatMap(({ name }) => [
    {
      figure: `${name}: throughput of the others`,
      unit: "×",
      goal: "≥ 0.8",
      isMet: (share: number) => share >= 0.8,
    },
    stated(`${name}: p99 of the others, all well`, "ms"),
    stated(`${name}: p99 of the others, one hangs`, "ms"),
    {
      figure: `${name}: p99 against all well`,
      unit: "×",
      goal: "≤ 2",
      isMet: (ratio: number) => ratio <= 2,
    },
  ]),
};
