// From a request, and what it names, to the delivery that is stored and queued.
import { type Delivery, FORMATS, isHttpUrl } from "@pipeline/shared/entries";
import { type DeliveryRequest, isObject } from "./delivery-request.ts";
import { type Format, formatPayload } from "./formats.ts";
import {
  leadPayload,
  type LeadRow,
  SAMPLE_LEAD,
  withOverrides,
} from "./lead-payload.ts";
import { type Result, refuse } from "./refusal.ts";
import { requestHash } from "./request-hash.ts";
import { payloadText } from "./storable-payload.ts";

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
  /** Null: the request's lead or endpoint does not exist, or it names none. */
  lead: LeadRow | null;
  endpoint: EndpointRow | null;
  id: string;
  /** ISO 8601. */
  now: string;
  maxAttempts: number;
  seal: (text: string) => string;
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

function checkEndpoint(
  request: DeliveryRequest,
  endpoint: EndpointRow | null,
): Result<EndpointRow | null> {
  if (request.endpointId === undefined) return { ok: true, value: null };
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
  if (!isHttpUrl(endpoint.url))
    return refuse(
      422,
      "endpointId",
      "is an endpoint whose URL is not an http or https URL",
    );
  return { ok: true, value: endpoint };
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

function buildPayload(
  { request, lead, now }: PlanInput,
  format: Format,
): Result<string> {
  let base = request.payload;
  if (request.leadId !== undefined) {
    if (lead === null) return refuse(404, "leadId", "is not a known lead");
    base = leadPayload(lead, eventOf(request), now);
  }
  base ??= leadPayload(SAMPLE_LEAD, eventOf(request), now);
  const formatted = formatPayload(
    format,
    withOverrides(base, request.campaignName, request.customFields),
  );
  return formatted.ok ? payloadText(formatted.value) : formatted;
}

function sealHeaders(headers: unknown, seal: PlanInput["seal"]): string | null {
  if (typeof headers === "string") return seal(headers);
  return isObject(headers) && Object.keys(headers).length > 0
    ? seal(JSON.stringify(headers))
    : null;
}

export function planDelivery(input: PlanInput): Result<PlannedDelivery> {
  const { request, lead, seal } = input;
  const checked = checkEndpoint(request, input.endpoint);
  if (!checked.ok) return checked;
  const endpoint = checked.value;
  const format = request.format ?? endpointFormat(endpoint);
  const payload = buildPayload(input, format);
  if (!payload.ok) return payload;

  const secret = request.webhookSecret ?? endpoint?.secret ?? null;
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
        secret: secret === null || secret === "" ? null : seal(secret),
        headers: sealHeaders(endpoint?.headers, seal),
        attempt: 1,
        maxAttempts: input.maxAttempts,
        scheduleStart: 1,
        traceparent: null,
        isPersisted: true,
        isReserved: false,
      },
      idempotencyKey: request.idempotencyKey ?? null,
      requestHash:
        request.idempotencyKey === undefined ? null : requestHash(request),
    },
  };
}
