import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { repositoryRoot } from "@pipeline/dev-stack/paths";
import { drawChart } from "./chart.ts";
import { markdownTable, type Summary } from "./report.ts";
import { median } from "./statistics.ts";

export interface Report {
  machine: Record<string, string>;
  figures: Summary[];
}

const publishedFolder = `${repositoryRoot}bench`;
const FIGURES = /(<!-- figures[^>]* -->\n)[^]*(<!-- end of figures -->)/;

/** Writes results.json and chart.svg. */
export function writeReport(folder: string, report: Report): void {
  mkdirSync(folder, { recursive: true });
  const json = `${JSON.stringify(report, null, 2)}\n`;
  writeFileSync(`${folder}/results.json`, json);
  const references = report.figures.filter(({ figure }) => figure === "R");
  const reference = median(references.flatMap(({ values }) => values));
  writeFileSync(`${folder}/chart.svg`, drawChart(report.figures, reference));
}

/** Replaces the figures of the report's cases in bench/: README.md, results.json, chart.svg. `order` names all cases. */
export function publish(
  report: Report,
  order: string[],
  progress: (line: string) => void,
): void {
  const published = JSON.parse(
    readFileSync(`${publishedFolder}/results.json`, "utf8"),
  ) as Report;
  let { figures } = report;
  if (isDeepStrictEqual(published.machine, report.machine))
    figures = merge(published.figures, figures, order);
  else progress("figures of other cases are from another machine: removed");

  const machine = Object.entries(report.machine)
    .map(([name, value]) => `${name}: ${value}`)
    .join("; ");
  const text = `\n${machine}.\n\n${markdownTable(figures)}\n\n`;
  const readme = readFileSync(`${publishedFolder}/README.md`, "utf8").replace(
    FIGURES,
    (_all, begin, end) => begin + text + end,
  );
  writeFileSync(`${publishedFolder}/README.md`, readme);
  writeReport(publishedFolder, { machine: report.machine, figures });
}

/** Of each case the new figures, or the old ones when it was not run. */
function merge(before: Summary[], now: Summary[], order: string[]): Summary[] {
  const wasRun = (name: string) => now.some((each) => each.case === name);
  return order.flatMap((name) =>
    (wasRun(name) ? now : before).filter((each) => each.case === name),
  );
}
