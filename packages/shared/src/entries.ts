// The stream entry: the contract between producers, ingest, dispatcher and retry-scheduler. Field names are the column
// names of `webhook_deliveries`; every value is a string.
import { hash } from "node:crypto";
import { z } from "zod";
import { isSealed } from "./seal.ts";

export const FORMATS = ["raw", "zapier", "makecom", "convertkit"] as const;
export const MAX_PAYLOAD_BYTES = 256 * 1024;
/** The highest number that `attempt`, `max_attempts` and `schedule_start` may be. */
export const MOST_ATTEMPTS = 9999;
const LONGEST_SECRET = 4096;
const LONGEST_SEALED_SECRET = 20_000;
const ENTRY_VERSION = "1";

export interface Delivery {
  id: string;
  /** This or `endpointId` is set. The endpoint's current URL wins; `webhookUrl` is used when it cannot be looked up. */
  webhookUrl: string | null;
  endpointId: string | null;
  /** JSON text, sent byte for byte. */
  payload: string;
  leadId: string | null;
  clientId: string | null;
  event: string | null;
  format: string | null;
  /** Sealed, or plain when a producer wrote it. */
  secret: string | null;
  /** JSON object of header names and values; sealed or plain, like the secret. */
  headers: string | null;
  /** The attempt this entry asks for, from 1. */
  attempt: number;
  /** Null: the dispatcher's schedule decides. */
  maxAttempts: number | null;
  /** The attempt at which the current retry schedule began: 1, or a later one after a manual retry. */
  scheduleStart: number;
  traceparent: string | null;
  /** The row is in Postgres, so records need not include it. */
  isPersisted: boolean;
  /** The endpoint's rate limit has already reserved a moment for this attempt, so it is not asked again. */
  isReserved: boolean;
}

export interface EntryIssue {
  path: string;
  message: string;
}

export type ParsedEntry =
  | { ok: true; delivery: Delivery }
  | {
      ok: false;
      deliveryId: string;
      issues: EntryIssue[];
      fields: Record<string, string>;
    };

export function isHttpUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, username, password } = new URL(text);
  return (
    (protocol === "http:" || protocol === "https:") &&
    hostname !== "" &&
    username === "" &&
    password === ""
  );
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false; // the caller reports it
  }
}

const uuid = z.guid("must be a UUID").transform((id) => id.toLowerCase());

/** In lower case; null when the text is not a UUID. */
export function uuidOf(text: string | undefined): string | null {
  return uuid.safeParse(text).data ?? null;
}

const positive = z
  .string()
  .regex(/^[1-9]\d{0,3}$/, `must be a whole number from 1 to ${MOST_ATTEMPTS}`);

const entrySchema = z
  .object({
    id: uuid.optional(),
    webhook_url: z
      .string()
      .max(2048, "must be at most 2048 characters")
      .refine(isHttpUrl, "must be an http or https URL without credentials")
      .optional(),
    endpoint_id: uuid.optional(),
    payload: z.string("is required: JSON text").min(1, "must not be empty"),
    lead_id: uuid.optional(),
    client_id: uuid.optional(),
    event: z.string().max(100, "must be at most 100 characters").optional(),
    // A retry's secret is sealed, which makes it longer.
    secret: z
      .string()
      .refine(
        (text) =>
          text.length <=
          (isSealed(text) ? LONGEST_SEALED_SECRET : LONGEST_SECRET),
        `must be at most ${LONGEST_SECRET} characters`,
      )
      .optional(),
    format: z.enum(FORMATS, `must be one of ${FORMATS.join(", ")}`).optional(),
    headers: z.string().optional(),
    attempt: positive.transform(Number).default(1),
    max_attempts: positive.transform(Number).optional(),
    schedule_start: positive.transform(Number).default(1),
    traceparent: z
      .string()
      .max(100, "must be at most 100 characters")
      .optional(),
    v: z
      .literal(
        ENTRY_VERSION,
        `must be ${ENTRY_VERSION}, the version this dispatcher understands`,
      )
      .optional(),
    persisted: z.literal("1", "must be 1 when present").optional(),
    reserved: z.literal("1", "must be 1 when present").optional(),
  })
  .superRefine((entry, context) => {
    // Ingest has parsed the payloads of its own entries, so those are not parsed again here.
    if (entry.persisted === undefined) {
      if (Buffer.byteLength(entry.payload) > MAX_PAYLOAD_BYTES) {
        context.addIssue({
          code: "custom",
          path: ["payload"],
          message: `must be at most ${MAX_PAYLOAD_BYTES} bytes`,
        });
      } else if (!isJson(entry.payload)) {
        context.addIssue({
          code: "custom",
          path: ["payload"],
          message: "must be valid JSON",
        });
      }
    }
  });

/** The id of a delivery whose producer gave none (UUID version 8): the same each time the entry is read. */
export function deriveDeliveryId(streamKey: string, entryId: string): string {
  const hex = hash("sha256", `${streamKey}\n${entryId}`);
  const variant = ((Number.parseInt(hex[16]!, 16) & 0x3) | 0x8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

const NONE: ReadonlyMap<string, string> = new Map();

/**
 * Reads the flat field list of a stream entry. A field given as an empty string counts as absent, except the payload.
 * `undecodable`: by name the bytes, in base64, of fields that are not text; a dead letter keeps these.
 */
export function parseEntry(
  streamKey: string,
  entryId: string,
  flat: readonly string[],
  undecodable: ReadonlyMap<string, string> = NONE,
): ParsedEntry {
  const fields: Record<string, string> = {};
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const value = flat[i + 1]!;
    if (value !== "" || flat[i] === "payload") fields[flat[i]!] = value;
  }
  const parsed = entrySchema.safeParse(fields);
  const issues = (parsed.error?.issues ?? []).map((issue) => ({
    path: issue.path.join("."),
    message: issue.message,
  }));
  // Not in the schema, because zod checks rules across fields only when every single field is valid.
  if (!("webhook_url" in fields || "endpoint_id" in fields)) {
    issues.push({
      path: "webhook_url",
      message: "is required (or endpoint_id)",
    });
  }
  for (const [name, bytes] of undecodable) {
    if (!issues.some(({ path }) => path === name))
      issues.push({ path: name, message: "must be UTF-8 text" });
    delete fields[name];
    fields[`${name}_base64`] = bytes;
  }
  if (!parsed.success || issues.length > 0) {
    return {
      ok: false,
      deliveryId: uuidOf(fields["id"]) ?? deriveDeliveryId(streamKey, entryId),
      issues,
      fields,
    };
  }
  const entry = parsed.data;
  return {
    ok: true,
    delivery: {
      id: entry.id ?? deriveDeliveryId(streamKey, entryId),
      webhookUrl: entry.webhook_url ?? null,
      endpointId: entry.endpoint_id ?? null,
      payload: entry.payload,
      leadId: entry.lead_id ?? null,
      clientId: entry.client_id ?? null,
      event: entry.event ?? null,
      format: entry.format ?? null,
      secret: entry.secret ?? null,
      headers: entry.headers ?? null,
      attempt: entry.attempt,
      maxAttempts: entry.max_attempts ?? null,
      scheduleStart: entry.schedule_start,
      traceparent: entry.traceparent ?? null,
      isPersisted: entry.persisted !== undefined,
      isReserved: entry.reserved !== undefined,
    },
  };
}

/** The entry's fields by name, absent ones left out. The caller seals the secret and the headers first. */
export function toFields(delivery: Delivery): Record<string, string> {
  const fields: Record<string, string> = { id: delivery.id };
  const add = (name: string, value: string | number | null) => {
    if (value !== null) fields[name] = String(value);
  };
  add("webhook_url", delivery.webhookUrl);
  add("endpoint_id", delivery.endpointId);
  add("lead_id", delivery.leadId);
  add("client_id", delivery.clientId);
  add("event", delivery.event);
  add("format", delivery.format);
  add("secret", delivery.secret);
  add("headers", delivery.headers);
  add("attempt", delivery.attempt);
  add("max_attempts", delivery.maxAttempts);
  if (delivery.scheduleStart > 1) add("schedule_start", delivery.scheduleStart);
  add("traceparent", delivery.traceparent);
  if (delivery.isPersisted) add("persisted", 1);
  if (delivery.isReserved) add("reserved", 1);
  add("v", ENTRY_VERSION);
  add("payload", delivery.payload);
  return fields;
}
