// Dead letters as the API shows and filters them.
import { maskUrl } from "@pipeline/shared/mask-url";
import type { DeadLetter } from "@pipeline/shared/queue/dead-letter";

export interface DeadLetterFilter {
  /** Part of the reason, in any case. */
  reason?: string | undefined;
  endpointId?: string | undefined;
  webhookUrlOrigin?: string | undefined;
}

export function deadLetterView(letter: DeadLetter) {
  const { entryId, kind, deliveryId, reason, failedAt, fields } = letter;
  const text = (name: string) => fields[name] || null;
  const attempt = Number(fields["attempt"] ?? 1);
  return {
    entryId,
    kind,
    deliveryId,
    leadId: text("lead_id"),
    endpointId: text("endpoint_id"),
    event: text("event"),
    webhookUrl: maskUrl(text("webhook_url")),
    reason,
    failedAt,
    attempt: Number.isInteger(attempt) ? attempt : null,
  };
}

export function matches(
  letter: DeadLetter,
  { reason, endpointId, webhookUrlOrigin }: DeadLetterFilter,
): boolean {
  const { endpoint_id, webhook_url = "" } = letter.fields;
  const ownReason = (letter.reason ?? "").toLowerCase();
  return (
    (reason === undefined || ownReason.includes(reason.toLowerCase())) &&
    (endpointId === undefined || endpoint_id === endpointId) &&
    (webhookUrlOrigin === undefined ||
      (URL.canParse(webhook_url) &&
        new URL(webhook_url).origin === webhookUrlOrigin))
  );
}
