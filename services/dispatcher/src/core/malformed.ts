// What can be kept of an entry that does not parse: a row and a dead letter that tell its producer what was wrong.
import {
  type Delivery,
  type EntryIssue,
  uuidOf,
} from "@pipeline/shared/entries";

// The two secret fields, and names that a producer may have used for them by mistake.
const SECRET_NAME = /secret|headers|token|password|authorization|api_?key/i;
const MOST_LETTER_FIELDS = 50;
const LONGEST_LETTER_FIELD = 300_000;
/** Of all fields together; what exceeds it is left out. */
const LONGEST_LETTER = 1_000_000;
const LONGEST_KEPT_TEXT = 2048;
const LONGEST_ISSUES = 20;

/** `webhook_url: is required (or endpoint_id); payload: must be valid JSON` */
export function describeIssues(issues: readonly EntryIssue[]): string {
  return issues
    .slice(0, LONGEST_ISSUES)
    .map(({ path, message }) => `${path === "" ? "entry" : path}: ${message}`)
    .join("; ");
}

/** A URL with credentials is refused because of them, so they must not appear in the record of the refusal. */
function withoutCredentials(text: string): string {
  return text.replace(/^([^/?#]*\/\/)[^/?#]*@/, "$1***@");
}

function asJson(text: string | undefined): string {
  if (text === undefined) return "null";
  try {
    JSON.parse(text);
    return text;
  } catch {
    return JSON.stringify(text.replaceAll("\0", "").toWellFormed());
  }
}

/** A delivery that can be recorded as failed. A payload that is not JSON is kept as a JSON string. */
export function salvageDelivery(
  deliveryId: string,
  fields: Readonly<Record<string, string>>,
): Delivery {
  const uuid = (name: string) => uuidOf(fields[name]);
  const text = (name: string) =>
    fields[name]
      ?.slice(0, LONGEST_KEPT_TEXT)
      .replaceAll("\0", "")
      .toWellFormed() ?? null;
  const url = text("webhook_url");
  return {
    id: deliveryId,
    webhookUrl: url === null ? null : withoutCredentials(url),
    endpointId: uuid("endpoint_id"),
    payload: asJson(fields["payload"]?.slice(0, LONGEST_LETTER_FIELD)),
    leadId: uuid("lead_id"),
    clientId: uuid("client_id"),
    event: text("event"),
    format: text("format"),
    secret: null,
    headers: null,
    attempt: 1,
    maxAttempts: null,
    scheduleStart: 1,
    traceparent: null,
    isPersisted: false,
    isReserved: false,
  };
}

/** The entry's own fields, bounded in number and size; `seal` is applied to the secret ones. */
export function letterFields(
  fields: Readonly<Record<string, string>>,
  seal: (text: string) => string,
): Record<string, string> {
  const letter: Record<string, string> = {};
  let room = LONGEST_LETTER;
  for (const [name, value] of Object.entries(fields).slice(
    0,
    MOST_LETTER_FIELDS,
  )) {
    // A cut may go through the middle of a character.
    const kept = value
      .slice(0, Math.min(LONGEST_LETTER_FIELD, room))
      .toWellFormed();
    room -= kept.length;
    letter[name.slice(0, LONGEST_KEPT_TEXT).toWellFormed()] = SECRET_NAME.test(
      name,
    )
      ? seal(kept)
      : name === "webhook_url"
        ? withoutCredentials(kept)
        : kept;
  }
  return letter;
}
