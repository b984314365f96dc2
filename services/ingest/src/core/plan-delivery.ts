// From a request, and what it names, to the delivery that is stored and queued.
import { parseCustomHeaders } from "@pipeline/shared/custom-headers";
import { type Delivery, FORMATS, isHttpUrl } from "@pipeline/shared/entries";
import { secretFault } from "@pipeline/shared/signing-secret";
import type { DeliveryRequest } from "./delivery-request.ts";
import { memberText } from "./exact-json.ts";
import { exactRequest } from "./exact-request.ts";
import { type Format, formatPayload, transforms } from "./formats.ts";
import { requestKey } from "./idempotency.ts";
import {
  leadFault,
  leadPayload,
  type LeadRow,
  SAMPLE_LEAD,
  withOverrides,
} from "./lead-payload.ts";
import { type Result, refuse } from "./refusal.ts";
import { storablePayload } from "./storable-payload.ts";

/** A row of webhook_endpoints. */
export interface EndpointRow {
  id: string;
  client_id: string | null;
  url: string;
  type: string | null;
  format: string | null;
  secret: string | null;
  headers: unknown;
  active: boolean | null;
  disabled_reason: string | null;
}

export interface PlannedDelivery {
  delivery: Delivery;
  idempotencyKey: string | null;
  requestHash: string | null;
}

export interface PlanInput {
  request: DeliveryRequest;
  /** The JSON that the request came as; without it what JavaScript made of its numbers counts. */
  text?: string | undefined;
  /** Null: the request's lead or endpoint does not exist, or it names none. */
  lead: LeadRow | null;
  endpoint: EndpointRow | null;
  id: string;
  /** ISO 8601. */
  now: string;
  maxAttempts: number;
  seal: (text: string) => string;
  /** Plain text is returned unchanged; null for text that was sealed with another key. */
  open: (text: string) => string | null;
}

function isFormat(text: string | null): text is Format {
  return FORMATS.some((format) => format === text);
}

/** Older endpoints say the format in `type` only. */
function endpointFormat(endpoint: EndpointRow | null): Format {
  if (endpoint === null) return "raw";
  if (isFormat(endpoint.format)) return endpoint.format;
  return isFormat(endpoint.type) ? endpoint.type : "raw";
}

/** As the services store them: sealed text, and null for none. */
interface Settings {
  secret: string | null;
  headers: string | null;
}

const NOT_OURS = "was not sealed with this WEBHOOK_ENCRYPTION_KEY";

function sealedSecret(
  text: string | null,
  { seal, open }: PlanInput,
): { ok: true; value: string | null } | { ok: false; error: string } {
  if (text === null || text === "") return { ok: true, value: null };
  const plain = open(text);
  const fault = plain === null ? NOT_OURS : secretFault(plain);
  return fault === null
    ? { ok: true, value: seal(text) }
    : { ok: false, error: fault };
}

function sealedHeaders(
  headers: unknown,
  { seal, open }: PlanInput,
): { ok: true; value: string | null } | { ok: false; error: string } {
  if (headers === null || headers === undefined)
    return { ok: true, value: null };
  const text = typeof headers === "string" ? headers : JSON.stringify(headers);
  const plain = open(text);
  if (plain === null) return { ok: false, error: `headers: ${NOT_OURS}` };
  const parsed = parseCustomHeaders(plain);
  if (!parsed.ok) return parsed;
  const isEmpty = Object.keys(parsed.headers).length === 0;
  return { ok: true, value: isEmpty ? null : seal(text) };
}

/** The dispatcher would refuse the same settings with every delivery, when it is too late to tell the caller. */
function endpointSettings(
  endpoint: EndpointRow,
  input: PlanInput,
): Result<Settings> {
  const unusable = (error: string) =>
    refuse(422, "endpointId", `is an endpoint that cannot be used: ${error}`);
  if (!isHttpUrl(endpoint.url))
    return unusable("its URL is not an http or https URL");
  const secret = sealedSecret(endpoint.secret, input);
  if (!secret.ok) return unusable(`secret: ${secret.error}`);
  const headers = sealedHeaders(endpoint.headers, input);
  if (!headers.ok) return unusable(headers.error);
  return { ok: true, value: { secret: secret.value, headers: headers.value } };
}

function settingsOf(input: PlanInput): Result<Settings> {
  const { request, endpoint } = input;
  if (request.endpointId === undefined) {
    const secret = sealedSecret(request.webhookSecret ?? null, input);
    return secret.ok
      ? { ok: true, value: { secret: secret.value, headers: null } }
      : refuse(422, "webhookSecret", secret.error);
  }
  if (endpoint === null)
    return refuse(404, "endpointId", "is not a known endpoint");
  if (endpoint.active === false) {
    const reason =
      endpoint.disabled_reason === null ? "" : ` (${endpoint.disabled_reason})`;
    return refuse(
      409,
      "endpointId",
      `is an endpoint that is switched off${reason}`,
    );
  }
  return endpointSettings(endpoint, input);
}

function eventOf(request: DeliveryRequest): string {
  const own = request.payload?.["event"];
  return (
    request.event ??
    (typeof own === "string" && /^[\w.-]{1,100}$/.test(own)
      ? own
      : "lead_captured")
  );
}

/** The payload as it stands in the request; null when it is built here, or changed. */
function givenPayload(
  { request, text }: PlanInput,
  format: Format,
): string | null {
  const { payload, campaignName, customFields } = request;
  if (payload === undefined || text === undefined) return null;
  const isChanged =
    campaignName !== undefined ||
    customFields !== undefined ||
    transforms(format, payload);
  return isChanged ? null : memberText(text, "payload");
}

function buildPayload(input: PlanInput, format: Format): Result<string> {
  const given = givenPayload(input, format);
  if (given !== null) return storablePayload(given);
  const { lead, now, text } = input;
  const request = exactRequest(input.request, text);
  let base = request.payload;
  if (request.leadId !== undefined) {
    if (lead === null) return refuse(404, "leadId", "is not a known lead");
    const fault = leadFault(lead);
    if (fault !== null) return refuse(422, "leadId", fault);
    base = leadPayload(lead, eventOf(request), now);
  }
  base ??= leadPayload(SAMPLE_LEAD, eventOf(request), now);
  const formatted = formatPayload(
    format,
    withOverrides(base, request.campaignName, request.customFields),
  );
  return formatted.ok
    ? storablePayload(JSON.stringify(formatted.value))
    : formatted;
}

export function planDelivery(input: PlanInput): Result<PlannedDelivery> {
  const { request, lead, endpoint } = input;
  const settings = settingsOf(input);
  if (!settings.ok) return settings;
  const format = request.format ?? endpointFormat(endpoint);
  const payload = buildPayload(input, format);
  if (!payload.ok) return payload;

  const key = requestKey(request, input.text);
  return {
    ok: true,
    value: {
      delivery: {
        id: input.id,
        webhookUrl: request.webhookUrl ?? endpoint?.url ?? null,
        endpointId: endpoint?.id ?? null,
        payload: payload.value,
        leadId: lead?.id ?? null,
        clientId: lead?.client_id ?? endpoint?.client_id ?? null,
        event: eventOf(request),
        format,
        ...settings.value,
        attempt: 1,
        maxAttempts: input.maxAttempts,
        scheduleStart: 1,
        traceparent: null,
        isPersisted: true,
        isReserved: false,
      },
      idempotencyKey: key?.key ?? null,
      requestHash: key?.hash ?? null,
    },
  };
}
