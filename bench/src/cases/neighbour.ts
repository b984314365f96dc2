// One of ten endpoints hangs: what does that cost the other nine, compared with the same traffic when none hangs?
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createProducer } from "@pipeline/shared/queue/producer";
import { steadily } from "../load.ts";
import { samplePayload } from "../payload.ts";
import { type Rig, UNLIMITED } from "../rig.ts";
import { percentile } from "../statistics.ts";
import {
  type Case,
  type CaseContext,
  type FigureKind,
  withoutGoal,
} from "./case.ts";

const ENDPOINTS = 10;
const ANSWER_MS = 10;
/** Short, so that attempts at the hanging endpoint time out several times in each run. */
const TIMEOUT = { ATTEMPT_TIMEOUT_MS: "3000" };
const SETTINGS = [
  { name: "5 slots, 40/s", rate: 40, overrides: TIMEOUT },
  {
    name: "128 slots, 1,000/s",
    rate: 1000,
    overrides: { ...TIMEOUT, ...UNLIMITED },
  },
];
const BACKLOG = "128 slots, backlog";

/** Every tenth delivery goes to endpoint 0, which hangs or answers like the others; only those of the others carry `at`. */
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

/** At a steady rate: how many deliveries to the others arrive per second, and how late. */
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
  await rig.takeReceiverStats();
  await steadily(rate, seconds, async (index) => {
    await producer.enqueue([entry(rig, index, hangs, Date.now())], 1e6);
  });
  const { lateness } = await rig.takeReceiverStats();
  await rig.stopServices();
  return {
    samples: lateness.length,
    perSecond: lateness.length / seconds,
    p99: percentile(lateness, 0.99),
  };
}

/** As fast as possible: deliveries to the others per second while the dispatcher works through a backlog. */
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
  // With `at` 0 the lateness of a request is its time of arrival, and only the others carry `at`.
  const arrivals: number[] = [];
  const others = (count / ENDPOINTS) * (ENDPOINTS - 1);
  for (let looks = 0; arrivals.length < others; looks++) {
    if (looks > 240)
      throw new Error(`only ${arrivals.length} of ${others} have arrived`);
    await sleep(250);
    for (const at of (await rig.takeReceiverStats()).lateness)
      arrivals.push(at);
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
      context.progress(`${name}: none hangs`);
      const none = await steadyTraffic(context, setting, false);
      context.progress(`${name}: one hangs`);
      const one = await steadyTraffic(context, setting, true);
      figures[`${name}: others' throughput, ratio`] =
        one.perSecond / none.perSecond;
      figures[`${name}: others' deliveries`] = one.samples;
      figures[`${name}: others' p99, none hangs`] = none.p99;
      figures[`${name}: others' p99, one hangs`] = one.p99;
      figures[`${name}: others' p99, ratio`] = one.p99 / none.p99;
    }
    context.progress(`${BACKLOG}: none hangs`);
    const none = await backlogTraffic(context, false);
    context.progress(`${BACKLOG}: one hangs`);
    const one = await backlogTraffic(context, true);
    figures[`${BACKLOG}: others' rate, none hangs`] = none;
    figures[`${BACKLOG}: others' rate, one hangs`] = one;
    figures[`${BACKLOG}: others' throughput, ratio`] = one / none;
    return figures;
  },
  figures: [
    ...SETTINGS.flatMap(({ name }): FigureKind[] => [
      throughput(name),
      withoutGoal(`${name}: others' deliveries`, ""),
      withoutGoal(`${name}: others' p99, none hangs`, "ms"),
      withoutGoal(`${name}: others' p99, one hangs`, "ms"),
      {
        figure: `${name}: others' p99, ratio`,
        unit: "×",
        goal: "≤ 2",
        isMet: (ratio) => ratio <= 2,
      },
    ]),
    {
      figure: `${BACKLOG}: others' rate, none hangs`,
      unit: "/s",
      isRate: true,
    },
    { figure: `${BACKLOG}: others' rate, one hangs`, unit: "/s", isRate: true },
    throughput(BACKLOG),
  ],
};

function throughput(name: string): FigureKind {
  return {
    figure: `${name}: others' throughput, ratio`,
    unit: "×",
    goal: "≥ 0.8",
    isMet: (share) => share >= 0.8,
  };
}
