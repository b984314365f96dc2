import type { Rig } from "../rig.ts";

/** One line of the report. `ratio` is to R; `goal` is what the figure is held against. */
export interface Figure {
  case: string;
  figure: string;
  unit: string;
  /** One value per repetition. */
  values: number[];
  goal: string;
  isMet: (median: number) => boolean;
  /** The figure is a rate, so it is also shown as a ratio to R. */
  isRate?: boolean;
}

export interface CaseContext {
  rig: Rig;
  /** Signed POSTs per second of the reference, measured in this run. */
  reference: number;
  quick: boolean;
  progress: (line: string) => void;
}

export interface Case {
  name: string;
  /** One repetition: figure name to value. */
  run: (context: CaseContext) => Promise<Record<string, number>>;
  figures: (context: CaseContext) => Omit<Figure, "case" | "values">[];
  /** Cases that take minutes run once. */
  repetitions?: number;
}

export function percentile(values: number[], share: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[
    Math.min(sorted.length - 1, Math.floor(sorted.length * share))
  ]!;
}

/** The most values that fall into any window of `windowMs`. */
export function mostInWindow(times: number[], windowMs: number): number {
  const sorted = times.toSorted((a, b) => a - b);
  let most = 0;
  let from = 0;
  for (let to = 0; to < sorted.length; to++) {
    while (sorted[to]! - sorted[from]! >= windowMs) from++;
    most = Math.max(most, to - from + 1);
  }
  return most;
}
