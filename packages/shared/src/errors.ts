export type FaultCode =
  | "CONFIG_INVALID"
  | "REDIS_UNAVAILABLE"
  | "DATABASE_UNAVAILABLE"
  | "DATABASE_REFUSED";

/** A fault: something the code cannot go on with here. Expected things (a failed attempt, an unknown lead) are values. */
export class PipelineError extends Error {
  override readonly name = "PipelineError";
  readonly code: FaultCode;
  /** The error's SQLSTATE; null when the error did not come from Postgres. */
  readonly sqlState: string | null;

  constructor(
    code: FaultCode,
    message: string,
    options: ErrorOptions & { sqlState?: string } = {},
  ) {
    super(message, options);
    this.code = code;
    this.sqlState = options.sqlState ?? null;
  }
}

export function hasCode(
  error: unknown,
  ...codes: FaultCode[]
): error is PipelineError {
  return error instanceof PipelineError && codes.includes(error.code);
}

export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
