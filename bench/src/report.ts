import { readFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import type { Figure } from "./cases/case.ts";
import type { Rig } from "./rig.ts";
import { median } from "./statistics.ts";

export function format(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

export interface Summary {
  case: string;
  figure: string;
  unit: string;
  values: number[];
  median: number;
  /** Median of the repetitions' ratios to their R. Null unless the figure is a rate. */
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

function rowsOf(
  summaries: Summary[],
  nameOf: (summary: Summary) => string,
): string[][] {
  return summaries.map((each) => [
    nameOf(each),
    `${format(each.median)} ${each.unit}`.trim(),
    spread(each.values),
    each.ratio === null ? "" : `${each.ratio.toFixed(3)} R`,
    each.goal,
    each.isMet === null ? "" : each.isMet ? "met" : "MISSED",
  ]);
}

/** "lowest … highest", or nothing for a single value. */
export function spread(values: number[]): string {
  if (values.length < 2) return "";
  return `${format(Math.min(...values))} … ${format(Math.max(...values))}`;
}

function padded(rows: string[][]): string[][] {
  const widths = HEAD.map((_title, column) =>
    Math.max(3, ...rows.map((row) => row[column]!.length)),
  );
  return rows.map((row) =>
    row.map((cell, column) => cell.padEnd(widths[column]!)),
  );
}

/** Prints the figures of one case in at most 100 columns. */
export function printTable(name: string, summaries: Summary[]): void {
  console.log(name);
  const rows = rowsOf(summaries, ({ figure }) => figure);
  for (const row of padded([HEAD, ...rows]))
    console.log(row.join("  ").trimEnd());
  console.log();
}

/** The figures of all cases, laid out as Prettier does. */
export function markdownTable(summaries: Summary[]): string {
  const named = (each: Summary) => `${each.case}: ${each.figure}`;
  const [head, ...rows] = padded([HEAD, ...rowsOf(summaries, named)]);
  const rule = head!.map((cell) => "-".repeat(cell.length));
  return [head!, rule, ...rows]
    .map((row) => `| ${row.join(" | ")} |`)
    .join("\n");
}

export async function describeMachine(
  rig: Rig,
): Promise<Record<string, string>> {
  const redisInfo = await rig.redis.info("server");
  const redis = /redis_version:(\S+)/.exec(redisInfo)?.[1] ?? "unknown";
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
    redis: `${redis}, AOF everysec`,
    postgres: rows[0].server_version,
    postgrest: postgrest.headers.get("server") ?? "unknown",
    settings:
      "unless stated otherwise, a dispatcher has 128 slots and no rate limit",
    logging: "level info, to files",
  };
}
