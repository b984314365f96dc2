// One endpoint hangs with a tenth of the traffic: what that costs the nine others, against the same traffic with all well.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createProducer } from "@pipeline/shared/queue/producer";
import { steadily } from "../load.ts";
import { samplePayload } from "../payload.ts";
import type { Rig } from "../rig.ts";
import {
  type Case,
  type CaseContext,
  type FigureKind,
  percentile,
  stated,
} from "./case.ts";
import { UNLIMITED } from "./drain.ts";

const ENDPOINTS = 10;
const ANSWER_MS = 10;
/** Short, so that the hanging endpoint runs into it several times in each run. */
const TIMEOUT = { ATTEMPT_TIMEOUT_MS: "3000" };
const SETTINGS = [
  { name: "default 5 slots, 40/s", rate: 40, overrides: TIMEOUT },
  {
    name: "128 slots, 1,000/s",
    rate: 1000,
    overrides: { ...TIMEOUT, ...UNLIMITED },
  },
];
const BACKLOG = "128 slots, a backlog";

/** The delivery numbered `index`: a tenth go to the endpoint that hangs or, with all well, answers like the others. */
function entry(rig: Rig, index: number, hangs: boolean, at: number) {
  const id = randomUUID();
  const endpoint = index % ENDPOINTS;
  const path =
    endpoint > 0
      ? `slow/${endpoint}?ms=${ANSWER_MS}&at=${at}`
      : hangs
        ? "hang"
        : `slow/0?ms=${ANSWER_MS}`;
  return {
    id,
    fields: {
      id,
      webhook_url: `${rig.receiverUrl}/${path}`,
      payload: samplePayload(index),
    },
  };
}

/** At a steady rate: how many of the others' deliveries arrive per second, and how late. */
async function steadyTraffic(
  { rig, quick }: CaseContext,
  { rate, overrides }: (typeof SETTINGS)[number],
  hangs: boolean,
): Promise<{ samples: number; perSecond: number; p99: number }> {
  const seconds = quick ? 10 : 20;
  await rig.reset();
  const producer = createProducer(rig.redis, rig.keys);
  await rig.start("retry-scheduler");
  await rig.start("dispatcher", overrides);
  await rig.receiverStats();
  await steadily(rate, seconds, async (index) => {
    await producer.enqueue([entry(rig, index, hangs, Date.now())], 1e6);
  });
  const { lateness } = await rig.receiverStats();
  await rig.stopServices();
  return {
    samples: lateness.length,
    perSecond: lateness.length / seconds,
    p99: percentile(lateness, 0.99),
  };
}

/** As fast as it goes: the others' deliveries per second while a backlog is worked off. */
async function backlogTraffic(
  { rig, quick }: CaseContext,
  hangs: boolean,
): Promise<number> {
  const count = quick ? 10_000 : 60_000;
  await rig.reset();
  const producer = createProducer(rig.redis, rig.keys);
  for (let from = 0; from < count; from += 200) {
    const some = Array.from({ length: 200 }, (_, i) =>
      entry(rig, from + i, hangs, 0),
    );
    await producer.enqueue(some, 1e6);
  }
  await rig.start("retry-scheduler");
  await rig.start("dispatcher", { ...TIMEOUT, ...UNLIMITED });
  // Late since 1970: the arrivals themselves.
  const arrivals: number[] = [];
  const others = (count / ENDPOINTS) * (ENDPOINTS - 1);
  for (let looks = 0; arrivals.length < others; looks++) {
    if (looks > 240) throw new Error(`${arrivals.length} of ${others} arrived`);
    await sleep(250);
    for (const at of (await rig.receiverStats()).lateness) arrivals.push(at);
  }
  await rig.stopServices();
  const from = arrivals.reduce((a, b) => Math.min(a, b));
  const to = arrivals.reduce((a, b) => Math.max(a, b));
  return (arrivals.length / (to - from)) * 1000;
}

export const neighbourCase: Case = {
  name: "neighbour",
  run: async (context) => {
    const figures: Record<string, number> = {};
    for (const setting of SETTINGS) {
      const { name } = setting;
      context.progress(`${name}: all well`);
      const well = await steadyTraffic(context, setting, false);
      context.progress(`${name}: one hangs`);
      const hanging = await steadyTraffic(context, setting, true);
      figures[`${name}: throughput of the others`] =
        hanging.perSecond / well.perSecond;
      figures[`${name}: deliveries to the others`] = hanging.samples;
      figures[`${name}: p99 of the others, all well`] = well.p99;
      figures[`${name}: p99 of the others, one hangs`] = hanging.p99;
      figures[`${name}: p99 against all well`] = hanging.p99 / well.p99;
    }
    context.progress(`${BACKLOG}: all well`);
    const well = await backlogTraffic(context, false);
    context.progress(`${BACKLOG}: one hangs`);
    const hanging = await backlogTraffic(context, true);
    figures[`${BACKLOG}: others, all well`] = well;
    figures[`${BACKLOG}: others, one hangs`] = hanging;
    figures[`${BACKLOG}: throughput of the others`] = hanging / well;
    return figures;
  },
  figures: [
    ...SETTINGS.flatMap(({ name }): FigureKind[] => [
      throughput(name),
      stated(`${name}: deliveries to the others`, ""),
      stated(`${name}: p99 of the others, all well`, "ms"),
      stated(`${name}: p99 of the others, one hangs`, "ms"),
      {
        figure: `${name}: p99 against all well`,
        unit: "×",
        goal: "≤ 2",
        isMet: (ratio) => ratio <= 2,
      },
    ]),
    { figure: `${BACKLOG}: others, all well`, unit: "/s", isRate: true },
    { figure: `${BACKLOG}: others, one hangs`, unit: "/s", isRate: true },
    throughput(BACKLOG),
  ],
};

function throughput(name: string): FigureKind {
  return {
    figure: `${name}: throughput of the others`,
    unit: "×",
    goal: "≥ 0.8",
    isMet: (share) => share >= 0.8,
  };
}
