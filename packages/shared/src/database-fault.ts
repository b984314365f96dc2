// Tells temporary faults from refusals, by the code in Postgres's or PostgREST's answer, and what is known afterwards.
import { type DatabaseContact, errorMessage, PipelineError } from "./errors.ts";

export interface DatabaseError {
  message: string;
  /** An SQLSTATE, a code of PostgREST's own, or NOT_SENT or NO_ANSWER. */
  code?: string | undefined;
}

/** Codes for calls that got no answer at all: nothing was sent, or it is not known what became of it. */
export const NOT_SENT = "NOT_SENT";
export const NO_ANSWER = "NO_ANSWER";

/**
 * Codes that blame the rows: data exceptions (22), broken constraints (23), limits (54), `raise` (P0001), and JSON that
 * PostgREST cannot read (PGRST102). Anything else (no connection, a timeout, a missing function or grant, a wrong key)
 * is temporary or a fault of the set-up, and is worth another try: treating it as a refusal would discard good records.
 */
const REFUSALS = /^(22\w{3}|23\w{3}|54\w{3}|P0001|PGRST102)$/;
const SQL_STATE = /^[0-9A-Z]{5}$/;
/** PostgREST has no connection to Postgres (to give), or Postgres accepts none: the call was not carried out. */
const UNREACHED = /^(NOT_SENT|PGRST00[023]|57P03|53300)$/;
/** The connection was lost while the call ran, perhaps while it committed. */
const UNANSWERED = /^(NO_ANSWER|PGRST001|08\w{3}|57P0[125]|40003)$/;
/**
 * Postgres gave up on a call and rolled it back (statement timeout, lock timeout, serialization failure, deadlock): it
 * was too much at once, or somebody holds one of its rows.
 */
const HELD = new Set(["57014", "55P03", "40001", "40P01"]);

/** Of a gateway, for a body that it does not pass on: halving the batch helps, repeating it does not. */
const TOO_LARGE = 413;

/** A refusal may quote the refused value, which may be very long. */
const LONGEST_MESSAGE = 300;

export function contactOf(status: number, code: string): DatabaseContact {
  if (UNREACHED.test(code)) return "unreached";
  if (UNANSWERED.test(code)) return "unanswered";
  if (code !== "") return "answered";
  // A gateway's own words. It does not say whether it had passed the call on.
  return status === 0 || status === 408 || status >= 500
    ? "unanswered"
    : "answered";
}

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
    {
      contact: contactOf(status, code),
      ...(SQL_STATE.test(code) ? { sqlState: code } : {}),
    },
  );
}

/** Whether Postgres gave up on the call for the sake of some of its rows: without them it may succeed. */
export function isHeld(error: unknown): error is PipelineError {
  return (
    error instanceof PipelineError &&
    error.sqlState !== null &&
    HELD.has(error.sqlState)
  );
}

/** Whether a gateway refused the call because of its size. */
export function isTooLarge(error: unknown): boolean {
  return errorMessage(error).startsWith(`Supabase answered ${TOO_LARGE} `);
}
