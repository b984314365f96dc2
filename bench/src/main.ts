// ./run bench: figures of the whole system on this machine. Rates are also given as a ratio to R, the number of signed
// POSTs per second that one Node process can send to the same receiver.
import { execFileSync } from "node:child_process";
import { parseArgs } from "node:util";
import { repositoryRoot } from "@pipeline/dev-stack/paths";
import { errorMessage } from "@pipeline/shared/errors";
import { apiCase } from "./cases/api.ts";
import {
  type Case,
  type CaseContext,
  type Figure,
  withoutGoal,
} from "./cases/case.ts";
import { backlogCase, drainCase } from "./cases/drain.ts";
import { idleCase } from "./cases/idle.ts";
import { latencyCase } from "./cases/latency.ts";
import { limiterCase } from "./cases/limiter.ts";
import { neighbourCase } from "./cases/neighbour.ts";
import { punctualityCase } from "./cases/punctuality.ts";
import { scaleCase } from "./cases/scale.ts";
import { sizeCase } from "./cases/size.ts";
import { publish, type Report, writeReport } from "./publish.ts";
import {
  describeMachine,
  format,
  printTable,
  spread,
  summarize,
  type Summary,
} from "./report.ts";
import { benchFolder, type Rig, startRig } from "./rig.ts";
import { median } from "./statistics.ts";

const CASES = [
  drainCase,
  apiCase,
  latencyCase,
  punctualityCase,
  limiterCase,
  scaleCase,
  neighbourCase,
  idleCase,
  sizeCase,
  backlogCase,
];
const CASE_NAMES = CASES.map(({ name }) => name);
const QUICK_CASES = [drainCase, latencyCase];
const USAGE = `usage: ./run bench [options]
  --quick            about a minute: fewer cases, smaller samples, one repetition
  --only <cases>     only these, separated by commas
                     (${CASE_NAMES.join(", ")})
  --repetitions <n>  of each case (default 3; backlog and size run once)
  --write            also replace the figures of these cases in bench/README.md,
                     bench/results.json and bench/chart.svg`;

interface Options {
  cases: Case[];
  quick: boolean;
  write: boolean;
  repetitions: number;
}

/** Null when the usage is asked for. Throws when an option is wrong. */
function readOptions(): Options | null {
  const options = {
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    repetitions: { type: "string" },
    write: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  } as const;
  const { values } = parseArgs({ options });
  const { quick, write } = values;
  if (values.help) return null;
  if (write && quick)
    throw new Error("--write needs full samples, so it excludes --quick");
  const repetitions = Number(values.repetitions ?? (quick ? 1 : 3));
  if (!(repetitions >= 1)) throw new Error("--repetitions takes a number");
  const names = values.only?.split(",");
  const unknown = names?.filter((name) => !CASE_NAMES.includes(name)) ?? [];
  if (unknown.length > 0) throw new Error(`no such case: ${unknown.join(",")}`);
  const all = quick ? QUICK_CASES : CASES;
  const cases =
    names === undefined
      ? all
      : CASES.filter(({ name }) => names.includes(name));
  return { cases, quick, write, repetitions };
}

function measureReference(rig: Rig, seconds: number): number {
  const script = `${repositoryRoot}bench/src/reference.ts`;
  const args = [script, `${rig.receiverUrl}/ok`, String(seconds)];
  return Number(execFileSync(process.execPath, args, { encoding: "utf8" }));
}

/** `contextOf` measures R anew, because the speed of the machine changes between repetitions. */
async function runCase(
  { name, run, figures, repetitions: most = Infinity }: Case,
  repetitions: number,
  contextOf: () => Promise<CaseContext>,
): Promise<Figure[]> {
  const runs: { values: Record<string, number>; reference: number }[] = [];
  while (runs.length < Math.min(repetitions, most)) {
    const context = await contextOf();
    const values = await run(context);
    runs.push({ values, reference: values["R"] ?? context.reference });
  }
  const references = runs.map(({ reference }) => reference);
  const measured = figures.map((kind) => {
    const values = runs.map((each) => {
      const value = each.values[kind.figure];
      if (value === undefined) throw new Error(`${kind.figure}: not measured`);
      return value;
    });
    const ratios = values.map((value, i) => value / references[i]!);
    return { ...kind, case: name, values, ratios };
  });
  const r = { ...withoutGoal("R", "/s"), case: name, values: references };
  return [{ ...r, ratios: [] }, ...measured];
}

/** Runs the cases. Returns whether all of them ran and met their goals. */
async function bench(
  rig: Rig,
  options: Options,
  progress: (line: string) => void,
): Promise<boolean> {
  const references: number[] = [];
  const measure = () => {
    const reference = measureReference(rig, options.quick ? 3 : 5);
    references.push(reference);
    progress(`R = ${Math.round(reference)} signed POSTs/s`);
    return reference;
  };
  measureReference(rig, 1); // warm-up
  const figures: Summary[] = [];
  let haveAllRun = true;
  for (const each of options.cases) {
    const contextOf = async () => {
      // R is measured with nothing else running, so Postgres must not be writing out the last repetition's pages.
      await rig.reset();
      await rig.database.query("checkpoint");
      return {
        rig,
        reference: measure(),
        measureReference: measure,
        quick: options.quick,
        progress: (line: string) => progress(`${each.name}: ${line}`),
      };
    };
    try {
      const done = await runCase(each, options.repetitions, contextOf);
      const summaries = done.map(summarize);
      figures.push(...summaries);
      printTable(each.name, summaries);
    } catch (error) {
      // The other cases still run: their figures are worth having.
      haveAllRun = false;
      progress(`${each.name}: FAILED: ${errorMessage(error)}`);
      await rig.stopServices();
    }
  }

  const report: Report = { machine: await describeMachine(rig), figures };
  writeReport(benchFolder, report);
  if (options.write && haveAllRun) publish(report, CASE_NAMES, progress);
  console.log(
    `R: ${format(median(references))} signed POSTs/s  ${spread(references)}`,
  );
  for (const [name, value] of Object.entries(report.machine))
    console.log(`${name}: ${value}`);
  console.log("Written: .data/bench/results.json, .data/bench/chart.svg");
  return haveAllRun && figures.every(({ isMet }) => isMet !== false);
}

let options: Options | null = null;
try {
  options = readOptions();
} catch (error) {
  console.error((error as Error).message);
}
if (options === null) {
  console.error(USAGE);
  process.exit(2);
}
const startedAt = performance.now();
const progress = (line: string) => {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
  console.error(`${seconds.padStart(5)} s  ${line}`);
};
const rig = await startRig(progress);
try {
  process.exitCode = (await bench(rig, options, progress)) ? 0 : 1;
} finally {
  await rig.stop();
}
