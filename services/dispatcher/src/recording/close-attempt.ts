// The end of a record that Postgres refuses for good: its delivery's row must not stay pending, or reconcile would send the
// delivery again and again. `close_attempt` writes the row without anything that came from outside.
import { uuidOf } from "@pipeline/shared/entries";
import { errorMessage, hasCode } from "@pipeline/shared/errors";
import type { LogEntry, Records } from "@pipeline/shared/queue/records";
import type { CallWithText } from "@pipeline/shared/text-rpc";
import type { AttemptRecord } from "../core/record.ts";
import { storableJson } from "../core/storable-json.ts";

export interface CloseAttemptOptions {
  records: Pick<Records, "isHome">;
  callWithText: CallWithText;
}

/** Null when the row is closed, or there is none to close; otherwise why it could not be. Throws DATABASE_UNAVAILABLE. */
export type CloseAttempt = (
  entry: LogEntry,
  /** Null when it cannot be read. */
  record: AttemptRecord | null,
  reason: string,
) => Promise<string | null>;

export function createCloseAttempt(options: CloseAttemptOptions): CloseAttempt {
  const { records, callWithText } = options;
  return async (entry, record, reason) => {
    const delivery_id = uuidOf(record?.delivery_id ?? entry.deliveryId);
    if (delivery_id === null) return null;
    // Anybody may write to the log. Only the delivery's own outcome may end it unread.
    if (record === null && !(await records.isHome(entry))) return null;
    const error = `its attempt could not be recorded: ${reason}`;
    const status = record?.status ?? "failed";
    const least = { delivery_id, status, error };
    const forms = record === null ? [least] : [{ ...record, error }, least];
    let refusal: string | null = null;
    for (const form of forms) {
      try {
        await callWithText("close_attempt", storableJson(JSON.stringify(form)));
        return null;
      } catch (fault) {
        // With a code it is Postgres that answered: somebody holds the row locked, and it is tried again later.
        const isAway = hasCode(fault, "DATABASE_UNAVAILABLE");
        if (isAway && fault.sqlState === null) throw fault;
        refusal = errorMessage(fault);
      }
    }
    return refusal;
  };
}
