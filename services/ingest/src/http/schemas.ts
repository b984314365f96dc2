// Parts that several routes' schemas share.
import { FORMATS } from "@pipeline/shared/entries";
import { z } from "zod";
import { EVENTS } from "../core/events.ts";
import { exactInstant } from "../core/instant.ts";

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

const instant = (round: "up" | "down") =>
  z
    .string()
    .transform((text, context) => {
      const exact = exactInstant(text, round);
      if (exact !== null) return exact;
      context.addIssue({
        code: "custom",
        message:
          "must be a date or time in ISO 8601, like 2026-01-31T12:00:00Z",
      });
      return z.NEVER;
    })
    .meta({ format: "date-time" });

/** Both exclude the moment itself, so that an earlier moment than the one given may stand for it, or a later one. */
export const before = instant("up");
export const after = instant("down");

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
