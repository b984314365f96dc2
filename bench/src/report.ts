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

/** Median and spread of each figure, its ratio to R, and whether the goal is met. */
export function printTable(figures: Figure[], reference: number): void {
  const rows = figures.map(
    ({ case: name, figure, unit, values, goal, isMet, isRate }) => {
      const middle = median(values);
      return [
        `${name}: ${figure}`,
        `${format(middle)} ${unit}`.trim(),
        values.length > 1
          ? `${format(Math.min(...values))} … ${format(Math.max(...values))}`
          : "",
        isRate === true ? `${(middle / reference).toFixed(3)} R` : "",
        goal,
        goal === "" ? "" : isMet(middle) ? "met" : "MISSED",
      ];
    },
  );
  const head = ["figure", "median", "spread", "ratio", "goal", ""];
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]!.length)),
  );
  for (const row of [head, ...rows])
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    );
  console.log();
}

export async function describeMachine(
  rig: Rig,
): Promise<Record<string, string>> {
  const version = async (command: string) =>
    /redis_version:(\S+)/.exec(await rig.redis.info(command))?.[1] ?? "unknown";
  const { rows } = await rig.database.query("show server_version");
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
    settings:
      "dispatcher: 128 slots, limiter off where not said otherwise; logs at info, to a file; Redis AOF everysec",
  };
}
