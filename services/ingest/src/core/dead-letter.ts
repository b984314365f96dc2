// Dead letters: the entry as it was, with the reason and the time of its end.
import {
  deriveDeliveryId,
  type ParsedEntry,
  parseEntry,
} from "@pipeline/shared/entries";
import { maskUrl } from "@pipeline/shared/mask-url";

export interface DeadLetter {
  entryId: string;
  fields: Record<string, string>;
}

export interface DeadLetterFilter {
  /** Part of the reason, in any case. */
  reason?: string | undefined;
  endpointId?: string | undefined;
  webhookUrlOrigin?: string | undefined;
}

function optional(text: string | undefined): string | null {
  return text === undefined || text === "" ? null : text;
}

/** Entry ids begin with their time in ms; `failed_at` is the same moment, for people. */
export function failedAt({ entryId, fields }: DeadLetter): string {
  return (
    optional(fields["failed_at"]) ??
    new Date(Number(entryId.split("-")[0])).toISOString()
  );
}

export function deadLetterId(
  streamKey: string,
  { entryId, fields }: DeadLetter,
): string {
  const own = optional(fields["id"]);
  return own !== null && /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(own)
    ? own.toLowerCase()
    : deriveDeliveryId(streamKey, entryId);
}

export function deadLetterView(streamKey: string, letter: DeadLetter) {
  const { fields } = letter;
  const attempt = Number(fields["attempt"] ?? 1);
  return {
    entryId: letter.entryId,
    deliveryId: deadLetterId(streamKey, letter),
    leadId: optional(fields["lead_id"]),
    endpointId: optional(fields["endpoint_id"]),
    event: optional(fields["event"]),
    webhookUrl: maskUrl(optional(fields["webhook_url"])),
    reason: optional(fields["reason"]),
    failedAt: failedAt(letter),
    attempt: Number.isInteger(attempt) ? attempt : null,
  };
}

export function matches(
  { fields }: DeadLetter,
  filter: DeadLetterFilter,
): boolean {
  const { reason, endpointId, webhookUrlOrigin } = filter;
  const url = fields["webhook_url"] ?? "";
  return (
    (reason === undefined ||
      (fields["reason"] ?? "").toLowerCase().includes(reason.toLowerCase())) &&
    (endpointId === undefined || fields["endpoint_id"] === endpointId) &&
    (webhookUrlOrigin === undefined ||
      (URL.canParse(url) && new URL(url).origin === webhookUrlOrigin))
  );
}

/** The delivery that a dead letter holds, or what keeps it from being sent. */
export function parseDeadLetter(
  streamKey: string,
  letter: DeadLetter,
): ParsedEntry {
  const { reason: _reason, failed_at: _failedAt, ...fields } = letter.fields;
  const id = deadLetterId(streamKey, letter);
  return parseEntry(
    streamKey,
    letter.entryId,
    Object.entries({ ...fields, id }).flat(),
  );
}
