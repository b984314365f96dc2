// How many queued deliveries per second one dispatcher without a rate limit delivers and records in Postgres.
import {
  fillThroughIngest,
  fillWithXadd,
  type Memory,
  succeeded,
  untilFinished,
  watchMemory,
} from "../queue.ts";
import { cpuSeconds, residentMegabytes } from "../process-usage.ts";
import { UNLIMITED } from "../rig.ts";
import { type Case, type CaseContext, withoutGoal } from "./case.ts";

const ROLES = [
  "dispatcher",
  "receiver",
  "redis",
  "postgrest",
  "postgres",
  "gateway",
] as const;

interface Drain {
  rate: number;
  /** Microseconds of CPU time per delivery, by role. */
  cpu: Record<string, number>;
  bytesPerEntry: number;
  memory: Record<"ingest" | "dispatcher" | "retry-scheduler", Memory>;
}

async function usedMemory({ rig }: CaseContext): Promise<number> {
  const [, bytes] =
    /used_memory:(\d+)/.exec(await rig.redis.info("memory")) ?? [];
  return Number(bytes);
}

async function drain(
  context: CaseContext,
  count: number,
  from: "ingest" | "XADD",
  withScheduler = false,
): Promise<Drain> {
  const { rig, progress } = context;
  await rig.reset();
  // It starts before there are rows: a retry-scheduler that finds no epoch takes every row for one that Redis has lost.
  const scheduler = withScheduler ? await rig.start("retry-scheduler") : null;
  const emptyBytes = await usedMemory(context);
  progress(`queueing ${count} deliveries by ${from}`);
  const url = `${rig.receiverUrl}/ok`;
  const nothing = { start: 0, tenth: 0, middle: 0, end: 0 };
  const ingest =
    from === "ingest" ? await fillThroughIngest(rig, count, url) : nothing;
  if (from === "XADD") await fillWithXadd(rig, count, url);
  const bytesPerEntry = ((await usedMemory(context)) - emptyBytes) / count;
  await rig.database.query("vacuum analyze webhook_deliveries");

  const dispatcher = await rig.start("dispatcher", UNLIMITED);
  const startedAt = performance.now();
  // The pids are listed anew each time, because Postgres has a process for each connection.
  const cpuOf = (role: (typeof ROLES)[number]) => cpuSeconds(rig.pids()[role]);
  const before = ROLES.map(cpuOf);
  const memory = watchMemory(dispatcher.pid, count);
  const schedulerMemory =
    scheduler === null ? null : watchMemory(scheduler.pid, count);
  let reportAt = startedAt + 2000;
  await untilFinished(rig, 10_000 + count * 2, (left) => {
    memory.look(count - left);
    schedulerMemory?.look(count - left);
    if (performance.now() < reportAt) return;
    reportAt += count > 100_000 ? 20_000 : 2000;
    progress(
      `${left} of ${count} left, dispatcher uses ${residentMegabytes(dispatcher.pid)} MB`,
    );
  });
  const seconds = (performance.now() - startedAt) / 1000;
  const cpu = Object.fromEntries(
    ROLES.map((role, i) => [role, ((cpuOf(role) - before[i]!) / count) * 1e6]),
  );
  await rig.stopServices();
  const recorded = await succeeded(rig);
  if (recorded !== count)
    throw new Error(
      `${recorded} of ${count} deliveries are recorded as successful`,
    );
  return {
    rate: count / seconds,
    cpu,
    bytesPerEntry,
    memory: {
      ingest,
      dispatcher: memory.seen,
      "retry-scheduler": schedulerMemory?.seen ?? nothing,
    },
  };
}

const cpuFigure = (role: string, how: string) =>
  `CPU of ${role}, queued by ${how}`;
const drainRate = (figure: string) => ({
  figure,
  unit: "/s",
  goal: "≥ 0.30 R",
  isMet: (_rate: number, ratio: number) => ratio >= 0.3,
  isRate: true,
});

export const drainCase: Case = {
  name: "drain",
  run: async (context) => {
    const count = context.quick ? 10_000 : 50_000;
    const byIngest = await drain(context, count, "ingest");
    const byXadd = await drain(context, count, "XADD");
    const cpuFigures = (how: string, { cpu }: Drain) =>
      Object.entries(cpu).map(([role, us]) => [cpuFigure(role, how), us]);
    return {
      "rate, queued by ingest": byIngest.rate,
      "rate, queued by XADD": byXadd.rate,
      "Redis memory per queued delivery": byIngest.bytesPerEntry,
      ...Object.fromEntries([
        ...cpuFigures("ingest", byIngest),
        ...cpuFigures("XADD", byXadd),
      ]),
    };
  },
  figures: [
    drainRate("rate, queued by ingest"),
    drainRate("rate, queued by XADD"),
    withoutGoal("Redis memory per queued delivery", "B"),
    ...["ingest", "XADD"].flatMap((how) =>
      ROLES.map((role) => withoutGoal(cpuFigure(role, how), "µs per delivery")),
    ),
  ],
};

const LONG_COUNT = 1_000_000;
const SERVICES = ["ingest", "dispatcher", "retry-scheduler"] as const;

/** A delivery must not cost more the longer the backlog is, and no process may grow with the number it has handled. */
export const backlogCase: Case = {
  name: "backlog",
  repetitions: 1,
  run: async (context) => {
    const count = context.quick ? 100_000 : LONG_COUNT;
    // The speed of the machine changes over these minutes, so the runs to compare with are made before and after.
    const before = await drain(context, 50_000, "ingest", true);
    const long = await drain(context, count, "ingest", true);
    const after = await drain(context, 50_000, "ingest", true);
    await context.rig.reset();
    const shortRate = (before.rate + after.rate) / 2;
    return {
      R: (context.reference + context.measureReference()) / 2,
      "long backlog": long.rate,
      "50,000 queued, before and after": shortRate,
      "long backlog vs. 50,000": long.rate / shortRate,
      ...Object.fromEntries(
        SERVICES.flatMap((name) => {
          const { start, tenth, middle, end } = long.memory[name];
          return [
            [`memory of ${name} at the start`, start],
            [`memory of ${name} after a tenth`, tenth],
            [`memory of ${name} after half`, middle],
            [`memory of ${name} at the end`, end],
            [`memory of ${name}, end vs. a tenth`, end / tenth],
          ];
        }),
      ),
    };
  },
  figures: [
    drainRate("long backlog"),
    { figure: "50,000 queued, before and after", unit: "/s", isRate: true },
    {
      figure: "long backlog vs. 50,000",
      unit: "×",
      goal: "≥ 0.9",
      isMet: (ratio) => ratio >= 0.9,
    },
    ...SERVICES.flatMap((name) => [
      withoutGoal(`memory of ${name} at the start`, "MB"),
      withoutGoal(`memory of ${name} after a tenth`, "MB"),
      withoutGoal(`memory of ${name} after half`, "MB"),
      withoutGoal(`memory of ${name} at the end`, "MB"),
      {
        figure: `memory of ${name}, end vs. a tenth`,
        unit: "×",
        goal: "≤ 1.25",
        isMet: (growth: number) => growth <= 1.25,
      },
    ]),
  ],
};
