// Queued deliveries per second, delivered and recorded in Postgres: one dispatcher process, limiter off, everything on the
// same cores.
import {
  fillByHand,
  fillThroughIngest,
  type Memory,
  succeeded,
  untilFinished,
  watchMemory,
} from "../queue.ts";
import { cpuSeconds, rssMegabytes } from "../rig.ts";
import { type Case, type CaseContext, stated } from "./case.ts";

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
  // Before there are rows: to a scheduler that finds no epoch, every row is one that Redis has lost.
  const scheduler = withScheduler ? await rig.start("retry-scheduler") : null;
  const emptyBytes = await usedMemory(context);
  progress(`queueing ${count} deliveries by ${from}`);
  const url = `${rig.receiverUrl}/ok`;
  const nothing = { start: 0, tenth: 0, middle: 0, end: 0 };
  const ingest =
    from === "ingest" ? await fillThroughIngest(rig, count, url) : nothing;
  if (from === "XADD") await fillByHand(rig, count, url);
  const bytesPerEntry = ((await usedMemory(context)) - emptyBytes) / count;
  await rig.database.query("vacuum analyze webhook_deliveries");

  const dispatcher = await rig.start("dispatcher", UNLIMITED);
  const startedAt = performance.now();
  // Listed at each look: Postgres has a process for each connection.
  const cpuOf = (role: string) => cpuSeconds(rig.pids()[role] ?? []);
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
      `${left} of ${count} left, dispatcher ${rssMegabytes(dispatcher.pid)} MB`,
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
      `${recorded} of ${count} deliveries are recorded as success`,
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
    const byHand = await drain(context, count, "XADD");
    const cpuFigures = (how: string, { cpu }: Drain) =>
      Object.entries(cpu).map(([role, us]) => [`CPU of ${role}, ${how}`, us]);
    return {
      "queued by ingest": byIngest.rate,
      "queued by plain XADD": byHand.rate,
      "Redis bytes per queued delivery": byIngest.bytesPerEntry,
      ...Object.fromEntries([
        ...cpuFigures("by ingest", byIngest),
        ...cpuFigures("by XADD", byHand),
      ]),
    };
  },
  figures: [
    drainRate("queued by ingest"),
    drainRate("queued by plain XADD"),
    stated("Redis bytes per queued delivery", "B"),
    ...["by ingest", "by XADD"].flatMap((how) =>
      ROLES.map((role) => stated(`CPU of ${role}, ${how}`, "µs per delivery")),
    ),
  ],
};

const LONG_COUNT = 1_000_000;
const SERVICES = ["ingest", "dispatcher", "retry-scheduler"] as const;

/** The cost of a delivery must not grow with the backlog, nor a process with what it has delivered. */
export const backlogCase: Case = {
  name: "backlog",
  repetitions: 1,
  run: async (context) => {
    const count = context.quick ? 100_000 : LONG_COUNT;
    // The machine drifts over these minutes, so what the long one is held against is measured before it and after it.
    const before = await drain(context, 50_000, "ingest", true);
    const long = await drain(context, count, "ingest", true);
    const after = await drain(context, 50_000, "ingest", true);
    await context.rig.reset();
    return {
      R: (context.reference + context.measureReference()) / 2,
      "with the long backlog": long.rate,
      "with 50,000, before and after": (before.rate + after.rate) / 2,
      "rate against a backlog of 50,000":
        long.rate / ((before.rate + after.rate) / 2),
      ...Object.fromEntries(
        SERVICES.flatMap((name) => {
          const { start, tenth, middle, end } = long.memory[name];
          return [
            [`memory of ${name} at the start`, start],
            [`memory of ${name} at a tenth`, tenth],
            [`memory of ${name} half-way`, middle],
            [`memory of ${name} at the end`, end],
            [`memory of ${name}, end against a tenth`, end / tenth],
          ];
        }),
      ),
    };
  },
  figures: [
    drainRate("with the long backlog"),
    { figure: "with 50,000, before and after", unit: "/s", isRate: true },
    {
      figure: "rate against a backlog of 50,000",
      unit: "×",
      goal: "≥ 0.9",
      isMet: (ratio) => ratio >= 0.9,
    },
    ...SERVICES.flatMap((name) => [
      stated(`memory of ${name} at the start`, "MB"),
      stated(`memory of ${name} at a tenth`, "MB"),
      stated(`memory of ${name} half-way`, "MB"),
      stated(`memory of ${name} at the end`, "MB"),
      {
        figure: `memory of ${name}, end against a tenth`,
        unit: "×",
        goal: "≤ 1.25",
        isMet: (growth: number) => growth <= 1.25,
      },
    ]),
  ],
};
