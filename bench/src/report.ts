import { readFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import type { Figure } from "./cases/case.ts";
import type { Rig } from "./rig.ts";

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function format(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

export interface Summary {
  case: string;
  figure: string;
  unit: string;
  values: number[];
  median: number;
  /** Median of the repetitions' ratios to their R; null when the figure is no rate. */
  ratio: number | null;
  goal: string;
  /** Null without a goal. */
  isMet: boolean | null;
}

export function summarize({ isMet, isRate, ...figure }: Figure): Summary {
  const middle = median(figure.values);
  const ratio = median(figure.ratios);
  return {
    case: figure.case,
    figure: figure.figure,
    unit: figure.unit,
    values: figure.values,
    median: middle,
    ratio: isRate === true ? ratio : null,
    goal: figure.goal ?? "",
    isMet: isMet?.(middle, ratio) ?? null,
  };
}

const HEAD = ["figure", "median", "spread", "ratio", "goal", ""];

function rowsOf(summaries: Summary[]): string[][] {
  return summaries.map((each) => [
    `${each.case}: ${each.figure}`,
    `${format(each.median)} ${each.unit}`.trim(),
    each.values.length > 1
      ? `${format(Math.min(...each.values))} … ${format(Math.max(...each.values))}`
      : "",
    each.ratio === null ? "" : `${each.ratio.toFixed(3)} R`,
    each.goal,
    each.isMet === null ? "" : each.isMet ? "met" : "MISSED",
  ]);
}

/** Each row with its cells padded to the width of their column. */
function padded(rows: string[][]): string[][] {
  const widths = HEAD.map((_title, column) =>
    Math.max(3, ...rows.map((row) => row[column]!.length)),
  );
  return rows.map((row) =>
    row.map((cell, column) => cell.padEnd(widths[column]!)),
  );
}

/** Median and spread of each figure, its ratio to R, and whether the goal is met. */
export function printTable(summaries: Summary[]): void {
  for (const row of padded([HEAD, ...rowsOf(summaries)]))
    console.log(row.join("  ").trimEnd());
  console.log();
}

/** The same as a Markdown table, laid out as Prettier does. */
export function markdownTable(summaries: Summary[]): string {
  const [head, ...rows] = padded([HEAD, ...rowsOf(summaries)]);
  const rule = head!.map((cell) => "-".repeat(cell.length));
  return [head!, rule, ...rows]
    .map((row) => `| ${row.join(" | ")} |`)
    .join("\n");
}

export async function describeMachine(
  rig: Rig,
): Promise<Record<string, string>> {
  const version = async (command: string) =>
    /redis_version:(\S+)/.exec(await rig.redis.info(command))?.[1] ?? "unknown";
  const { rows } = await rig.database.query("show server_version");
  const postgrest = await fetch(`${rig.stack.supabaseUrl}/rest/v1/`, {
    headers: { apikey: rig.stack.serviceRoleKey },
  });
  return {
    processors: `${cpus().length} × ${cpus()[0]?.model ?? "unknown"}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system:
      readFileSync("/etc/os-release", "utf8").match(
        /PRETTY_NAME="(.*)"/,
      )?.[1] ?? process.platform,
    node: process.version,
    redis: await version("server"),
    postgres: rows[0].server_version,
    postgrest: postgrest.headers.get("server") ?? "unknown",
    settings:
      "dispatcher: 128 slots, limiter off where not said otherwise; logs at info, to a file; Redis AOF everysec",
  };
}
