import type { Rig } from "../rig.ts";

/** What a case measures; `goal` is what the figure is held against, in words and as a function. */
export interface FigureKind {
  figure: string;
  unit: string;
  goal?: string;
  /** `ratio` is the median of the repetitions' ratios to their R. */
  isMet?: (median: number, ratio: number) => boolean;
  /** The figure is a rate, so it is also shown as a ratio to R. */
  isRate?: boolean;
}

/** One line of the report. */
export interface Figure extends FigureKind {
  case: string;
  /** One value per repetition. */
  values: number[];
  /** Of a rate: each value divided by the R measured just before it. */
  ratios: number[];
}

export interface CaseContext {
  rig: Rig;
  /** R: signed POSTs per second of the reference, measured just before. */
  reference: number;
  /** Measures R again; services must be stopped. */
  measureReference: () => number;
  quick: boolean;
  progress: (line: string) => void;
}

export interface Case {
  name: string;
  /** One repetition: figure name to value. A case of minutes may give an `R` of its own, of more than one moment. */
  run: (context: CaseContext) => Promise<Record<string, number>>;
  figures: FigureKind[];
  /** Cases that take minutes run once. */
  repetitions?: number;
}

/** A figure that is stated and not held against anything. */
export function stated(figure: string, unit: string): FigureKind {
  return { figure, unit };
}

export function percentile(values: number[], share: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[
    Math.min(sorted.length - 1, Math.floor(sorted.length * share))
  ]!;
}

/** Times (ms) per second, without the first and the last fifth: dispatchers neither start nor run dry at one moment. */
export function steadyRate(times: number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  const from = Math.floor(sorted.length / 5);
  const to = Math.floor((sorted.length * 4) / 5);
  return ((to - from) / (sorted[to]! - sorted[from]!)) * 1000;
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
