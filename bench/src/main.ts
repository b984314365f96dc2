// ./run bench [--quick] [--only drain,api] [--repetitions 3]: figures of the whole system on this machine, each also as a
// ratio to R, the signed POSTs per second one Node process can send to the same receiver.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { repositoryRoot } from "@pipeline/dev-stack/paths";
import { errorMessage } from "@pipeline/shared/errors";
import { apiCase } from "./cases/api.ts";
import {
  type Case,
  type CaseContext,
  type Figure,
  stated,
} from "./cases/case.ts";
import { backlogCase, drainCase } from "./cases/drain.ts";
import { latencyCase } from "./cases/latency.ts";
import { limiterCase } from "./cases/limiter.ts";
import { neighbourCase } from "./cases/neighbour.ts";
import { punctualityCase } from "./cases/punctuality.ts";
import { scaleCase } from "./cases/scale.ts";
import { drawChart } from "./chart.ts";
import {
  describeMachine,
  markdownTable,
  median,
  printTable,
  summarize,
  type Summary,
} from "./report.ts";
import { type Rig, startRig } from "./rig.ts";

const CASES = [
  drainCase,
  apiCase,
  latencyCase,
  punctualityCase,
  limiterCase,
  scaleCase,
  neighbourCase,
  backlogCase,
];
const QUICK_CASES = [drainCase, latencyCase];
const USAGE = `usage: ./run bench [--quick] [--only ${CASES.map(({ name }) => name).join(",")}] [--repetitions n] [--write]
  --quick        about a minute: fewer cases, smaller samples, one repetition
  --only         these cases
  --repetitions  of each case (default 3; backlog runs once)
  --write        also replace the figures of these cases in bench/: README.md, results.json, chart.svg`;

function readArguments() {
  try {
    const options = {
      quick: { type: "boolean", default: false },
      only: { type: "string" },
      repetitions: { type: "string" },
      write: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    } as const;
    const { values } = parseArgs({ options });
    if (values.help) return null;
    if (values.write && values.quick)
      throw new Error("--write wants whole samples: leave --quick out");
    const names = values.only?.split(",");
    const cases =
      names === undefined
        ? values.quick
          ? QUICK_CASES
          : CASES
        : CASES.filter(({ name }) => names.includes(name));
    if (cases.length === 0 || cases.length < (names?.length ?? 0))
      throw new Error(`--only takes names of cases`);
    return {
      cases,
      quick: values.quick,
      write: values.write,
      repetitions: Number(values.repetitions ?? (values.quick ? 1 : 3)),
    };
  } catch (error) {
    console.error((error as Error).message);
    return null;
  }
}

function measureReference(rig: Rig, seconds: number): number {
  const script = `${repositoryRoot}bench/src/reference.ts`;
  return Number(
    execFileSync(
      process.execPath,
      [script, `${rig.receiverUrl}/ok`, String(seconds)],
      { encoding: "utf8" },
    ),
  );
}

interface Report {
  machine: Record<string, string>;
  figures: Summary[];
}

/** `contextOf` measures R, so that each repetition is held against the machine of its own moment. */
async function runCase(
  each: Case,
  repetitions: number,
  contextOf: () => Promise<CaseContext>,
): Promise<Figure[]> {
  const runs: { values: Record<string, number>; reference: number }[] = [];
  while (runs.length < Math.min(repetitions, each.repetitions ?? repetitions)) {
    const context = await contextOf();
    const values = await each.run(context);
    runs.push({ values, reference: values["R"] ?? context.reference });
  }
  const references = runs.map(({ reference }) => reference);
  const r = { ...stated("R", "/s"), case: each.name, values: references };
  const figures = each.figures.map((kind) => {
    const values = runs.map((run) => run.values[kind.figure] ?? Number.NaN);
    const ratios = runs.map(({ reference }, i) => values[i]! / reference);
    return { ...kind, case: each.name, values, ratios };
  });
  return [{ ...r, ratios: [] }, ...figures];
}

const FIGURES = /(<!-- figures[^>]* -->\n)[^]*(<!-- end of figures -->)/;

/** Replaces the figures of these cases in bench/: results.json, README.md, chart.svg. Those of other cases stay. */
function publish(report: Report): void {
  const file = (name: string) => `${repositoryRoot}bench/${name}`;
  const before = existsSync(file("results.json"))
    ? (JSON.parse(readFileSync(file("results.json"), "utf8")) as Report)
    : { machine: report.machine, figures: [] };
  if (!isDeepStrictEqual(before.machine, report.machine))
    progress("the figures of other cases are another machine's: left out");
  else report.figures = merge(before.figures, report.figures);
  const on = Object.entries(report.machine)
    .map(([name, value]) => `${name}: ${value}`)
    .join("; ");
  const text = `\n${on}.\n\n${markdownTable(report.figures)}\n\n`;
  const readme = readFileSync(file("README.md"), "utf8").replace(
    FIGURES,
    (_all, begin, end) => begin + text + end,
  );
  writeFileSync(file("README.md"), readme);
  writeReport("bench", report);
}

function merge(before: Summary[], now: Summary[]): Summary[] {
  const isNew = (name: string) => now.some((each) => each.case === name);
  return CASES.flatMap(({ name }) =>
    (isNew(name) ? now : before).filter((each) => each.case === name),
  );
}

function writeReport(folder: string, report: Report): void {
  mkdirSync(`${repositoryRoot}${folder}`, { recursive: true });
  const json = `${JSON.stringify(report, null, 2)}\n`;
  writeFileSync(`${repositoryRoot}${folder}/results.json`, json);
  const references = report.figures.filter(({ figure }) => figure === "R");
  const reference = median(references.flatMap(({ values }) => values));
  const chart = drawChart(report.figures, reference);
  writeFileSync(`${repositoryRoot}${folder}/chart.svg`, chart);
}

const options = readArguments();
if (options === null) {
  console.error(USAGE);
  process.exit(2);
}
const startedAt = performance.now();
const progress = (line: string) =>
  console.error(
    `${((performance.now() - startedAt) / 1000).toFixed(0).padStart(5)} s  ${line}`,
  );
const rig = await startRig(progress);
let failed = false;
try {
  const references: number[] = [];
  const measure = () => {
    const reference = measureReference(rig, options.quick ? 3 : 5);
    references.push(reference);
    progress(`R = ${Math.round(reference)} signed POSTs/s`);
    return reference;
  };
  measureReference(rig, 1); // warm-up
  const figures: Summary[] = [];
  for (const each of options.cases) {
    const contextOf = async () => {
      // Nothing else running: not what the repetition before has left Postgres to do, either.
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
      figures.push(...done.map(summarize));
      printTable(figures.filter(({ case: name }) => name === each.name));
    } catch (error) {
      // What the other cases have measured is worth keeping.
      failed = true;
      progress(`${each.name}: FAILED: ${errorMessage(error)}`);
      await rig.stopServices();
    }
  }
  const report: Report = {
    machine: await describeMachine(rig),
    figures,
  };
  writeReport(".data/bench", report);
  if (options.write && !failed) publish(report);
  console.log(
    `\nR = ${Math.round(median(references))} signed POSTs/s (${references.map(Math.round).join(", ")})`,
  );
  console.log(
    Object.entries(report.machine)
      .map(([name, value]) => `${name}: ${value}`)
      .join("\n"),
  );
  console.log(`Written: .data/bench/results.json, .data/bench/chart.svg`);
  failed ||= figures.some(({ isMet }) => isMet === false);
} finally {
  await rig.stop();
}
process.exitCode = failed ? 1 : 0;
