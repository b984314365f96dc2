// The payload that the product's existing receivers know.
import {
  isDeeperThan,
  isObject,
  type JsonObject,
  MAX_DEPTH,
} from "./delivery-request.ts";

/** A row of the database function leads_for_delivery. */
export interface LeadRow {
  id: string;
  email: string | null;
  first_name: string | null;
  last_name: string | null;
  linkedin_id: string | null;
  linkedin_url: string | null;
  company: string | null;
  title: string | null;
  source: string | null;
  custom_fields: JsonObject | null;
  captured_at: string | null;
  campaign_id: string | null;
  campaign_name: string | null;
  lead_magnet_name: string | null;
  client_id: string | null;
}

export const LEAD_KEYS = [
  "id",
  "email",
  "firstName",
  "lastName",
  "linkedInId",
  "linkedInUrl",
  "company",
  "title",
  "source",
  "capturedAt",
] as const;
export const CAMPAIGN_KEYS = ["id", "name", "leadMagnetName"] as const;

/** A lead with something in every field, so that a receiver can be mapped from it. */
export const SAMPLE_LEAD: LeadRow = {
  id: "00000000-0000-4000-8000-000000000001",
  email: "ada.lovelace@example.com",
  first_name: "Ada",
  last_name: "Lovelace",
  linkedin_id: "ada-lovelace",
  linkedin_url: "https://www.linkedin.com/in/ada-lovelace",
  company: "Analytical Engines Ltd",
  title: "Head of Computing",
  source: "manual",
  custom_fields: { plan: "sample" },
  captured_at: "2026-01-01T12:00:00.000Z",
  campaign_id: "00000000-0000-4000-8000-000000000002",
  campaign_name: "Sample campaign",
  lead_magnet_name: "Sample guide",
  client_id: null,
};

/** Why no payload can be built from a lead, to be read after its name; null when one can. */
export function leadFault({
  captured_at: capturedAt,
  custom_fields: customFields,
}: LeadRow): string | null {
  if (isDeeperThan(customFields, MAX_DEPTH))
    return `is a lead whose custom_fields are nested deeper than ${MAX_DEPTH} levels`;
  // Postgres knows times that are no dates elsewhere: infinity, and years beyond 9999 or before Christ.
  return capturedAt !== null && Number.isNaN(Date.parse(capturedAt))
    ? `is a lead whose created_at is not a date: ${capturedAt}`
    : null;
}

/** `now`: ISO 8601, when the event happened. Throws for a lead that has a fault. */
export function leadPayload(
  lead: LeadRow,
  event: string,
  now: string,
): JsonObject {
  return {
    event,
    lead: {
      id: lead.id,
      email: lead.email,
      firstName: lead.first_name,
      lastName: lead.last_name,
      linkedInId: lead.linkedin_id,
      linkedInUrl: lead.linkedin_url,
      company: lead.company,
      title: lead.title,
      source: lead.source,
      capturedAt:
        lead.captured_at === null
          ? null
          : new Date(lead.captured_at).toISOString(),
    },
    campaign: {
      id: lead.campaign_id,
      name: lead.campaign_name,
      leadMagnetName: lead.lead_magnet_name,
    },
    custom_fields: isObject(lead.custom_fields) ? lead.custom_fields : {},
    timestamp: now,
  };
}

/** What the request says of the campaign and the custom fields, over what the payload says. */
export function withOverrides(
  payload: JsonObject,
  campaignName: string | undefined,
  customFields: JsonObject | undefined,
): JsonObject {
  if (campaignName === undefined && customFields === undefined) return payload;
  const { campaign, custom_fields: own } = payload;
  return {
    ...payload,
    ...(campaignName !== undefined && {
      campaign: { ...(isObject(campaign) && campaign), name: campaignName },
    }),
    ...(customFields !== undefined && {
      custom_fields: { ...(isObject(own) && own), ...customFields },
    }),
  };
}
