// Tells temporary faults from refusals, by the code in Postgres's or PostgREST's answer.
import { errorMessage, PipelineError } from "./errors.ts";

export interface DatabaseError {
  message: string;
  /** An SQLSTATE, or a code of PostgREST's own. */
  code?: string | undefined;
}

/**
 * Codes that blame the rows: data exceptions (22), broken constraints (23), limits (54), `raise` (P0001), and JSON that
 * PostgREST cannot read (PGRST102). Anything else (no connection, a timeout, a missing function or grant, a wrong key)
 * is temporary or a fault of the set-up, and is worth another try: treating it as a refusal would discard good records.
 */
const REFUSALS = /^(22\w{3}|23\w{3}|54\w{3}|P0001|PGRST102)$/;
const SQL_STATE = /^[0-9A-Z]{5}$/;

/** Of a gateway, for a body that it does not pass on: halving the batch helps, repeating it does not. */
const TOO_LARGE = 413;

/** A refusal may quote the refused value, which may be very long. */
const LONGEST_MESSAGE = 300;

/**
 * The error for an unsuccessful answer from PostgREST: DATABASE_UNAVAILABLE when the same call may work later,
 * DATABASE_REFUSED when it never will. The message keeps the database's own words but not its `details`, which quote row
 * values.
 */
export function databaseFault(
  status: number,
  { message, code = "" }: DatabaseError,
): PipelineError {
  const hint =
    status === 401 || status === 403
      ? " (is SUPABASE_SERVICE_ROLE_KEY the service role's?)"
      : "";
  return new PipelineError(
    REFUSALS.test(code) || status === TOO_LARGE
      ? "DATABASE_REFUSED"
      : "DATABASE_UNAVAILABLE",
    `Supabase answered ${status} ${code}: ${message.slice(0, LONGEST_MESSAGE)}${hint}`.replaceAll(
      /\s+/g,
      " ",
    ),
    SQL_STATE.test(code) ? { sqlState: code } : {},
  );
}

/** Whether a gateway refused the call because of its size. */
export function isTooLarge(error: unknown): boolean {
  return errorMessage(error).startsWith(`Supabase answered ${TOO_LARGE} `);
}
