// Draws the report: rates as bars against R, times as bars against their goals.
import type { Summary } from "./report.ts";

const WIDTH = 930;
const LABEL = 360;
const ROW = 26;
const BAR = 380;

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

function section(
  title: string,
  figures: Summary[],
  largest: number,
  top: number,
  note: (figure: Summary) => string,
): string {
  const rows = figures.map((figure, index) => {
    const y = top + 34 + index * ROW;
    const length = Math.max(2, (figure.median / largest) * BAR);
    const name = escape(`${figure.case}: ${figure.figure}`);
    return (
      `<text x="${LABEL - 10}" y="${y + 13}" text-anchor="end">${name}</text>` +
      `<rect x="${LABEL}" y="${y}" width="${length.toFixed(1)}" height="17" rx="2" fill="#3b6fb6"/>` +
      `<text x="${(LABEL + length + 8).toFixed(1)}" y="${y + 13}">${escape(note(figure))}</text>`
    );
  });
  return `<text x="20" y="${top + 18}" font-size="15" font-weight="bold">${escape(title)}</text>${rows.join("")}`;
}

export function drawChart(figures: Summary[], reference: number): string {
  const rates = figures.filter(({ ratio }) => ratio !== null);
  const times = figures.filter(
    ({ unit, goal }) => unit === "ms" && goal.startsWith("≤"),
  );
  const second = 40 + 34 + rates.length * ROW + 20;
  const height = second + 34 + times.length * ROW + 30;
  const rateNote = ({ median, ratio }: Summary) =>
    `${Math.round(median).toLocaleString("en")}/s = ${(ratio ?? 0).toFixed(3)} R`;
  const timeNote = ({ median, goal }: Summary) =>
    `${median.toFixed(1)} ms (goal ${goal})`;
  const largestTime = Math.max(1, ...times.map(({ median }) => median));
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">` +
    `<rect width="100%" height="100%" fill="white"/>` +
    section(
      `Throughput (R = ${Math.round(reference).toLocaleString("en")} signed POSTs/s at the median)`,
      rates,
      Math.max(reference, ...rates.map(({ median }) => median)),
      20,
      rateNote,
    ) +
    section("Latency and punctuality", times, largestTime, second, timeNote) +
    `</svg>\n`
  );
}
