// The same lead in the shapes that Zapier, Make.com and Kit (ConvertKit) read. A payload without a
// `lead` passes through as it is.
import type { FORMATS } from "@pipeline/shared/entries";
import { isObject, type JsonObject } from "./delivery-request.ts";
import { isRawNumber, type RawNumber } from "./exact-json.ts";
import { CAMPAIGN_KEYS, LEAD_KEYS } from "./lead-payload.ts";
import { type Result, refuse } from "./refusal.ts";

export type Format = (typeof FORMATS)[number];

/** Whether the format changes the payload. */
export function transforms(format: Format, payload: JsonObject): boolean {
  return format !== "raw" && isObject(payload["lead"]);
}

export function formatPayload(
  format: Format,
  payload: JsonObject,
): Result<JsonObject> {
  if (format === "raw" || !transforms(format, payload))
    return { ok: true, value: payload };
  switch (format) {
    case "zapier":
      return { ok: true, value: zapierPayload(payload) };
    case "makecom":
      return { ok: true, value: makecomPayload(payload) };
    case "convertkit":
      return convertkitPayload(payload);
  }
}

function withKeys(value: unknown, keys: readonly string[]): JsonObject {
  const empty = Object.fromEntries(keys.map((key) => [key, null]));
  return { ...empty, ...(isObject(value) && value) };
}

/** Every key is there even when it is empty: receivers learn the structure from the first request. */
function completePayload(payload: JsonObject): JsonObject {
  return {
    event: null,
    ...payload,
    lead: withKeys(payload["lead"], LEAD_KEYS),
    campaign: withKeys(payload["campaign"], CAMPAIGN_KEYS),
    custom_fields: isObject(payload["custom_fields"])
      ? payload["custom_fields"]
      : {},
    timestamp: payload["timestamp"] ?? null,
  };
}

/**
 * The nested payload, and beside it the lead's values under the flat keys that the product has always sent to Make.com, so that
 * scenarios mapped to those go on. A key that the payload has itself at the top stays its own.
 */
function makecomPayload(payload: JsonObject): JsonObject {
  const complete = completePayload(payload);
  const lead = complete["lead"] as JsonObject;
  return {
    email: lead["email"],
    firstName: lead["firstName"],
    lastName: lead["lastName"],
    linkedinId: lead["linkedInId"],
    linkedinUrl: lead["linkedInUrl"],
    company: lead["company"],
    jobTitle: lead["title"],
    source: lead["source"],
    capturedAt: lead["capturedAt"],
    ...complete,
  };
}

function snakeCase(name: string): string {
  return name
    .replaceAll("LinkedIn", "Linkedin")
    .replaceAll("linkedIn", "linkedin")
    .replaceAll(/([\p{Ll}\d])(\p{Lu})/gu, "$1_$2")
    .replaceAll(/[^\p{L}\p{N}]+/gu, "_")
    .replaceAll(/^_+|_+$/g, "")
    .toLowerCase();
}

/** Collects keys without ever overwriting one: the second `x` becomes `x_2`. */
function createCollector() {
  const values = new Map<string, unknown>();
  return {
    values,
    add: (name: string, value: unknown) => {
      const base = name === "" ? "field" : name;
      let key = base;
      for (let suffix = 2; values.has(key); suffix++) key = `${base}_${suffix}`;
      values.set(key, value);
    },
  };
}

type Flat = string | number | boolean | RawNumber | null;

function flatText(value: Flat): string {
  return isRawNumber(value) ? value.rawJSON : String(value ?? "");
}

/** A list of plain values as one text, anything more nested as JSON. Not for objects. */
function flatValue(value: unknown): Flat {
  if (!Array.isArray(value)) return (value ?? null) as Flat;
  return value.some((item) => isObject(item) || Array.isArray(item))
    ? JSON.stringify(value)
    : value.map(flatText).join(", ");
}

type Collect = (name: string, value: Flat) => void;

function addFlat(add: Collect, prefix: string, object: JsonObject): void {
  for (const [key, value] of Object.entries(object)) {
    const name = [prefix, snakeCase(key)]
      .filter((part) => part !== "")
      .join("_");
    if (isObject(value)) addFlat(add, name, value);
    else add(name, flatValue(value));
  }
}

/** One flat object: the lead's keys bare, the campaign's and the custom fields prefixed; an absent value is null. */
function zapierPayload(payload: JsonObject): JsonObject {
  const {
    event,
    lead,
    campaign,
    custom_fields: custom,
    timestamp,
    ...rest
  } = completePayload(payload);
  const { values, add } = createCollector();
  addFlat(add, "", { event, ...(lead as JsonObject) });
  addFlat(add, "campaign", campaign as JsonObject);
  addFlat(add, "", { timestamp });
  addFlat(add, "custom", custom as JsonObject);
  addFlat(add, "", rest);
  return Object.fromEntries(values);
}

/** Kit API v4, POST /v4/subscribers. Custom fields are text, and Kit rejects a key without a value. */
function convertkitPayload(payload: JsonObject): Result<JsonObject> {
  const {
    event,
    lead,
    campaign,
    custom_fields: custom,
    timestamp: _timestamp,
    ...rest
  } = completePayload(payload);
  const {
    email,
    firstName,
    id,
    capturedAt: _capturedAt,
    ...restOfLead
  } = lead as JsonObject;
  if (typeof email !== "string" || email.trim() === "") {
    return refuse(422, "lead.email", "is required by the format convertkit");
  }
  const { name, leadMagnetName, ...restOfCampaign } = campaign as JsonObject;
  const { values, add } = createCollector();
  const addText: Collect = (key, value) => {
    if (value !== null && value !== "") add(key, flatText(value));
  };
  addFlat(addText, "", {
    ...restOfLead,
    lead_id: id,
    campaign: name,
    lead_magnet: leadMagnetName,
    event,
  });
  addFlat(addText, "campaign", restOfCampaign);
  addFlat(addText, "", custom as JsonObject);
  addFlat(addText, "", rest);
  return {
    ok: true,
    value: {
      email_address: email.trim(),
      first_name: firstName ?? null,
      fields: Object.fromEntries(values),
    },
  };
}
