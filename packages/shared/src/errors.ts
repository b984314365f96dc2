export type FaultCode =
  | "CONFIG_INVALID"
  | "REDIS_UNAVAILABLE"
  | "DATABASE_UNAVAILABLE"
  | "DATABASE_REFUSED";

/**
 * What is known after a call that failed. `answered`: the database said no, so nothing was changed and it is there.
 * `unreached`: the call never got to it, so nothing was changed. `unanswered`: the call may have got there and may even
 * take effect later (a time-out, a reset connection, a gateway's 502): its outcome is unknown.
 */
export type DatabaseContact = "answered" | "unreached" | "unanswered";

/** A fault: something the code cannot go on with here. Expected things (a failed attempt, an unknown lead) are values. */
export class PipelineError extends Error {
  override readonly name = "PipelineError";
  readonly code: FaultCode;
  /** The error's SQLSTATE; null when the error did not come from Postgres. */
  readonly sqlState: string | null;
  /** Null when the fault is not the database's. */
  readonly contact: DatabaseContact | null;

  constructor(
    code: FaultCode,
    message: string,
    options: ErrorOptions & {
      sqlState?: string;
      contact?: DatabaseContact;
    } = {},
  ) {
    super(message, options);
    this.code = code;
    this.sqlState = options.sqlState ?? null;
    this.contact = options.contact ?? null;
  }
}

export function hasCode(
  error: unknown,
  ...codes: FaultCode[]
): error is PipelineError {
  return error instanceof PipelineError && codes.includes(error.code);
}

/** Whether the call that failed may have taken effect, or may yet. */
export function isOutcomeUnknown(error: unknown): boolean {
  return (
    hasCode(error, "DATABASE_UNAVAILABLE") &&
    error.contact !== "answered" &&
    error.contact !== "unreached"
  );
}

export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
