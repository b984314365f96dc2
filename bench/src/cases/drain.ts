// Queued deliveries per second, delivered and recorded in Postgres: one dispatcher process, limiter off, everything on the
// same cores.
import { fill, succeeded, untilFinished } from "../queue.ts";
import { cpuSeconds, rssMegabytes } from "../rig.ts";
import type { Case, CaseContext } from "./case.ts";

export const UNLIMITED = {
  RATE_LIMIT_PER_SECOND: "0",
  DISPATCHER_CONCURRENCY: "128",
};
const ROLES = [
  "dispatcher",
  "receiver",
  "redis",
  "postgrest",
  "postgres",
  "gateway",
];

interface Drain {
  rate: number;
  /** Microseconds of CPU per delivery, by process. */
  cpu: Record<string, number>;
  /** Resident megabytes of the dispatcher after a tenth, at half and at the end. */
  rss: { start: number; middle: number; end: number };
  bytesPerEntry: number;
}

async function usedMemory(context: CaseContext): Promise<number> {
  return Number(
    /used_memory:(\d+)/.exec(await context.rig.redis.info("memory"))?.[1],
  );
}

export async function drain(
  context: CaseContext,
  count: number,
  throughIngest: boolean,
): Promise<Drain> {
  const { rig, progress } = context;
  await rig.reset();
  const emptyBytes = await usedMemory(context);
  progress(`queueing ${count} deliveries`);
  await fill(rig, {
    count,
    urlOf: () => `${rig.receiverUrl}/ok`,
    throughIngest,
  });
  const bytesPerEntry = ((await usedMemory(context)) - emptyBytes) / count;
  await rig.database.query("vacuum analyze webhook_deliveries");

  const dispatcher = await rig.start("dispatcher", UNLIMITED);
  const startedAt = performance.now();
  const pids = rig.pids();
  const before = Object.fromEntries(
    ROLES.map((role) => [role, cpuSeconds(pids[role] ?? [])]),
  );
  const rss = { start: 0, middle: 0, end: 0 };
  await untilFinished(rig, 1000 + count * 5, (left) => {
    const memory = rssMegabytes(dispatcher.pid);
    if (rss.start === 0) rss.start = memory;
    if (rss.middle === 0 && left < count / 2) rss.middle = memory;
    progress(`${left} of ${count} left, dispatcher ${memory} MB`);
  });
  const seconds = (performance.now() - startedAt) / 1000;
  rss.end = rssMegabytes(dispatcher.pid);
  const after = rig.pids();
  const cpu = Object.fromEntries(
    ROLES.map((role) => [
      role,
      ((cpuSeconds(after[role] ?? []) - before[role]!) / count) * 1e6,
    ]),
  );
  await rig.stopServices();
  const recorded = await succeeded(rig);
  if (recorded !== count)
    throw new Error(
      `${recorded} of ${count} deliveries are recorded as success`,
    );
  return { rate: count / seconds, cpu, rss, bytesPerEntry };
}

export const drainCase: Case = {
  name: "drain",
  run: async (context) => {
    const count = context.quick ? 10_000 : 50_000;
    const byIngest = await drain(context, count, true);
    const byHand = await drain(context, count, false);
    return {
      "queued by ingest": byIngest.rate,
      "queued by plain XADD": byHand.rate,
      "Redis bytes per queued delivery": byIngest.bytesPerEntry,
      ...Object.fromEntries(
        ROLES.map((role) => [`CPU of ${role}`, byIngest.cpu[role]!]),
      ),
    };
  },
  figures: ({ reference }) => [
    ...["queued by ingest", "queued by plain XADD"].map((figure) => ({
      figure,
      unit: "/s",
      goal: "≥ 0.30 R",
      isMet: (rate: number) => rate >= 0.3 * reference,
      isRate: true,
    })),
    {
      figure: "Redis bytes per queued delivery",
      unit: "B",
      goal: "",
      isMet: () => true,
    },
    ...ROLES.map((role) => ({
      figure: `CPU of ${role}`,
      unit: "µs per delivery",
      goal: "",
      isMet: () => true,
    })),
  ],
};

const LONG_COUNT = 1_000_000;

/** The cost of a delivery must not grow with the backlog, nor the process with what it has delivered. */
export const backlogCase: Case = {
  name: "backlog",
  repetitions: 1,
  run: async (context) => {
    const short = await drain(context, 50_000, true);
    const long = await drain(
      context,
      context.quick ? 100_000 : LONG_COUNT,
      true,
    );
    return {
      "rate against a backlog of 50,000": long.rate / short.rate,
      "with the long backlog": long.rate,
      "dispatcher RSS at the start": long.rss.start,
      "dispatcher RSS half-way": long.rss.middle,
      "dispatcher RSS at the end": long.rss.end,
    };
  },
  figures: ({ reference }) => [
    {
      figure: "with the long backlog",
      unit: "/s",
      goal: "≥ 0.30 R",
      isMet: (rate) => rate >= 0.3 * reference,
      isRate: true,
    },
    {
      figure: "rate against a backlog of 50,000",
      unit: "×",
      goal: "≥ 0.9",
      isMet: (ratio) => ratio >= 0.9,
    },
    ...["at the start", "half-way", "at the end"].map((when) => ({
      figure: `dispatcher RSS ${when}`,
      unit: "MB",
      goal: "",
      isMet: () => true,
    })),
  ],
};
