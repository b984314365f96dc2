// Parts that several routes' schemas share.
import { FORMATS } from "@pipeline/shared/entries";
import { z } from "zod";
import { EVENTS } from "../core/events.ts";

export const STATUSES = [
  "pending",
  "sent",
  "success",
  "failed",
  "cancelled",
] as const;
export const uuid = z
  .guid("must be a UUID")
  .transform((id) => id.toLowerCase());

/** Without a zone, UTC is meant. */
export const instant = z
  .string()
  .transform((text, context) => {
    const hasTime = /T[\d:.]+$/.test(text);
    const time = Date.parse(hasTime ? `${text}Z` : text);
    if (/^\d{4}-\d\d-\d\d(T|$)/.test(text) && !Number.isNaN(time))
      return new Date(time).toISOString();
    context.addIssue({
      code: "custom",
      message: "must be a date or time in ISO 8601, like 2026-01-31T12:00:00Z",
    });
    return z.NEVER;
  })
  .meta({ format: "date-time" });

export function pageSize(standard: number) {
  const range = "must be a whole number from 1 to 200";
  return z.coerce
    .number(range)
    .int(range)
    .min(1, range)
    .max(200, range)
    .default(standard);
}

export const summaryBody = z
  .object({
    id: z.string(),
    leadId: z.string().nullable(),
    endpointId: z.string().nullable(),
    event: z
      .string()
      .nullable()
      .meta({ examples: [...EVENTS] }),
    format: z
      .string()
      .nullable()
      .meta({ examples: [...FORMATS] }),
    webhookUrl: z.string().nullable().meta({ description: "The origin only." }),
    status: z.string().meta({ examples: [...STATUSES] }),
    attempt: z.int(),
    maxAttempts: z.int(),
    responseStatus: z.int().nullable(),
    lastError: z.string().nullable(),
    sentAt: z.string().nullable(),
    nextRetryAt: z.string().nullable(),
    createdAt: z.string(),
    updatedAt: z.string(),
  })
  .meta({ id: "Delivery" });
