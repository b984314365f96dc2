// The dead stream: what could not be delivered, parsed or recorded, kept for a person to look at. The kinds:
//   delivery  was given up; its fields are those of a stream entry, so that it can be sent again
//   entry     could not be parsed; its fields are those its producer wrote, or `data` for an unreadable retry
//   record    an attempt's record that Postgres refused for good: `delivery_id` and `record`
// All have `kind`, `reason` and `failed_at` (ISO 8601).
import {
  deriveDeliveryId,
  type ParsedEntry,
  parseEntry,
  uuidOf,
} from "../entries.ts";
import { isoTime } from "../timestamp.ts";
import { type Fields, unflatten } from "./fields.ts";

const KINDS = ["delivery", "entry", "record"] as const;
export type DeadLetterKind = (typeof KINDS)[number];

export interface DeadLetter {
  entryId: string;
  kind: DeadLetterKind;
  deliveryId: string;
  reason: string | null;
  /** ISO 8601. */
  failedAt: string;
  /** Without `kind`, `reason` and `failed_at`. */
  fields: Fields;
}

/** `now`: ms since 1970. */
export function deadLetter(
  kind: DeadLetterKind,
  fields: Fields,
  reason: string,
  now: number,
): Fields {
  const failed_at = isoTime(now);
  return { ...fields, kind, reason, failed_at };
}

export function recordLetter(
  { deliveryId, record }: { deliveryId: string; record: string },
  reason: string,
  now: number,
): Fields {
  const fields = { delivery_id: deliveryId, record };
  return deadLetter("record", fields, reason, now);
}

/** The kind of a letter that has none: an old one, or one written by hand. */
function guessKind({
  record,
  webhook_url,
  endpoint_id,
}: Fields): DeadLetterKind {
  if (record !== undefined) return "record";
  return webhook_url === undefined && endpoint_id === undefined
    ? "entry"
    : "delivery";
}

/** Older letters may hold ms instead of ISO 8601. Without either, the time in the entry id is used. */
function failedAtOf(text: string | undefined, entryId: string): string {
  if (text !== undefined && Number.isNaN(Number(text))) return text;
  return isoTime(Number(text || entryId.split("-")[0]));
}

export function decodeDeadLetter(
  streamKey: string,
  entryId: string,
  flat: readonly string[],
): DeadLetter {
  const { kind, reason, failed_at, ...fields } = unflatten(flat);
  const known = KINDS.find((each) => each === kind) ?? guessKind(fields);
  const own = known === "record" ? fields["delivery_id"] : fields["id"];
  return {
    entryId,
    kind: known,
    deliveryId: uuidOf(own) ?? deriveDeliveryId(streamKey, entryId),
    reason: reason || null,
    failedAt: failedAtOf(failed_at, entryId),
    fields,
  };
}

/** The delivery in a dead letter, or the reasons why it cannot be sent. */
export function parseDeadLetter(
  streamKey: string,
  { entryId, kind, deliveryId, fields }: DeadLetter,
): ParsedEntry {
  if (kind === "record") {
    const message = "holds the record of an attempt, not a delivery";
    const issues = [{ path: "record", message }];
    return { ok: false, deliveryId, issues, fields };
  }
  const flat = Object.entries({ ...fields, id: deliveryId }).flat();
  return parseEntry(streamKey, entryId, flat);
}
