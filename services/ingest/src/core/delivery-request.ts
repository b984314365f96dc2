// The body of POST /api/webhook-delivery, and of each item of a batch.
import {
  FORMATS,
  isHttpUrl,
  MAX_PAYLOAD_BYTES,
} from "@pipeline/shared/entries";
import { secretFault } from "@pipeline/shared/signing-secret";
import { z } from "zod";
import { EVENTS } from "./events.ts";
import { isRawNumber } from "./exact-json.ts";
import { strictObject } from "./strict-object.ts";

/** Of one request: the largest payload however it is written, and the rest. In a batch each item may be as large. */
export const MAX_REQUEST_BYTES = 4 * MAX_PAYLOAD_BYTES;

export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !isRawNumber(value)
  );
}

/** Text that Postgres can hold. */
function text(maximum: number) {
  return z
    .string()
    .max(maximum, `must be at most ${maximum} characters`)
    .refine(
      (value) => value.isWellFormed() && !value.includes("\0"),
      "must not contain NUL or lone surrogates",
    );
}

// eslint-disable-next-line no-control-regex -- control characters are what it refuses
const HAS_BLANKS = /[\s\x00-\x1f\x7f]/;

const webhookUrl = text(2048).refine(
  (url) => !HAS_BLANKS.test(url) && isHttpUrl(url),
  "must be an http or https URL without credentials or blanks",
);

const webhookSecret = text(512).superRefine((secret, context) => {
  const message = secretFault(secret);
  if (message !== null) context.addIssue({ code: "custom", message });
});

export const idempotencyKey = z
  .string()
  .regex(/^[\x20-\x7e]{1,255}$/, "must be 1 to 255 printable ASCII characters");

// Far deeper than any lead, and far from the depth at which recursive code here, in receivers or in Postgres fails.
export const MAX_DEPTH = 100;

export function isDeeperThan(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null || isRawNumber(value))
    return false;
  if (levels === 0) return true;
  return Object.values(value).some((item) => isDeeperThan(item, levels - 1));
}

const jsonObject = z
  .custom<JsonObject>(isObject, "must be a JSON object")
  .refine(
    (value) => !isDeeperThan(value, MAX_DEPTH),
    `must not be nested deeper than ${MAX_DEPTH} levels`,
  );

const fields = strictObject({
  leadId: z.string().max(200).optional().meta({
    description:
      "A lead in Supabase; the payload is built from it and its campaign.",
  }),
  payload: jsonObject.optional().meta({
    type: "object",
    description: `Sent as given, or in the form asked for when it has a \`lead\`. At most ${MAX_PAYLOAD_BYTES} bytes.`,
  }),
  test: z
    .literal(true, "must be true when it is given")
    .optional()
    .meta({ description: "Sends a sample lead, every key present." }),
  webhookUrl: webhookUrl.optional().meta({ format: "uri" }),
  endpointId: z.string().max(200).optional().meta({
    description:
      "A row of webhook_endpoints; its URL, secret, headers and format are used.",
  }),
  webhookSecret: webhookSecret.optional().meta({
    description:
      "Signs the request. Standard Webhooks `whsec_` secrets are base64, any other text is used as it is.",
  }),
  campaignName: text(500)
    .optional()
    .meta({ description: "Replaces the campaign's name in the payload." }),
  customFields: jsonObject.optional().meta({
    type: "object",
    description: "Merged over the lead's own custom fields.",
  }),
  event: z
    .enum(EVENTS, `must be one of ${EVENTS.join(", ")}`)
    .optional()
    .meta({ default: "lead_captured" }),
  format: z
    .enum(FORMATS, `must be one of ${FORMATS.join(", ")}`)
    .optional()
    .meta({ description: "Default: the endpoint's, or raw." }),
  idempotencyKey: idempotencyKey.optional().meta({
    description:
      "Like the header Idempotency-Key: the same key and body give the first delivery again.",
  }),
});

type Fields = z.output<typeof fields>;

function requireOne(
  request: Fields,
  names: (keyof Fields)[],
  context: z.RefinementCtx,
): void {
  const present = names.filter((name) => request[name] !== undefined);
  if (present.length === 1) return;
  const list = names.join(", ");
  const blamed = present.length === 0 ? names : present;
  for (const path of blamed) {
    context.addIssue({
      code: "custom",
      path: [path],
      message:
        present.length === 0
          ? `is required: one of ${list}`
          : `excludes the others: give one of ${list}`,
    });
  }
}

export const deliveryRequest = fields
  .superRefine((request, context) => {
    requireOne(request, ["leadId", "payload", "test"], context);
    requireOne(request, ["webhookUrl", "endpointId"], context);
    if (
      request.webhookSecret !== undefined &&
      request.endpointId !== undefined
    ) {
      context.addIssue({
        code: "custom",
        path: ["webhookSecret"],
        message: "belongs to webhookUrl; an endpoint has a secret of its own",
      });
    }
  })
  .meta({ id: "DeliveryRequest" });

export type DeliveryRequest = z.output<typeof deliveryRequest>;
