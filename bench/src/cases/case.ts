import type { Rig } from "../rig.ts";

/** Something that a case measures. */
export interface FigureKind {
  figure: string;
  unit: string;
  /** In words; `isMet` is the same as a function. */
  goal?: string;
  /** `ratio` is the median of the repetitions' ratios to their R. */
  isMet?: (median: number, ratio: number) => boolean;
  /** A rate is also shown as a ratio to R. */
  isRate?: boolean;
}

/** One line of the report. */
export interface Figure extends FigureKind {
  case: string;
  /** One value per repetition. */
  values: number[];
  /** Each value divided by the R that was measured just before it. */
  ratios: number[];
}

export interface CaseContext {
  rig: Rig;
  /** R, measured just before this repetition. */
  reference: number;
  /** Measures R again. Services must be stopped. */
  measureReference: () => number;
  quick: boolean;
  progress: (line: string) => void;
}

export interface Case {
  name: string;
  /** Runs one repetition. Resolves to the value of each figure, and of `R` if it replaces the one in the context. */
  run: (context: CaseContext) => Promise<Record<string, number>>;
  figures: FigureKind[];
  /** The most repetitions, for a case that takes very long. */
  repetitions?: number;
}

/** A figure without a goal. */
export function withoutGoal(figure: string, unit: string): FigureKind {
  return { figure, unit };
}
