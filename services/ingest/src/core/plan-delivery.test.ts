import { describe, expect, test } from "vitest";
import { SAMPLE_LEAD } from "./lead-payload.ts";
import {
  type EndpointRow,
  planDelivery,
  type PlanInput,
} from "./plan-delivery.ts";

const endpoint: EndpointRow = {
  id: "00000000-0000-4000-8000-00000000000e",
  client_id: "00000000-0000-4000-8000-00000000000c",
  url: "https://hooks.example.com/abc",
  type: "custom",
  format: "zapier",
  secret: "plain",
  headers: { "x-token": "t" },
  active: true,
  disabled_reason: null,
};
const lead = {
  ...SAMPLE_LEAD,
  client_id: "00000000-0000-4000-8000-00000000000d",
};
const webhookUrl = "https://example.com/hook";

function plan(input: Partial<PlanInput>) {
  return planDelivery({
    request: { test: true, webhookUrl },
    lead: null,
    endpoint: null,
    id: "00000000-0000-4000-8000-0000000000ff",
    now: "2026-02-03T04:05:06.000Z",
    maxAttempts: 4,
    seal: (text) => `sealed(${text})`,
    open: (text) => (text === "not ours" ? null : text),
    ...input,
  });
}

function deliveryOf(input: Partial<PlanInput>) {
  const planned = plan(input);
  if (!planned.ok) throw new Error(planned.refusal.error);
  return planned.value.delivery;
}

const payloadOf = (input: Partial<PlanInput>) =>
  JSON.parse(deliveryOf(input).payload) as Record<string, unknown>;

describe("planning a delivery", () => {
  test("makes a first attempt of a whole schedule from a lead", () => {
    expect(
      deliveryOf({
        request: { leadId: lead.id, webhookUrl, webhookSecret: "s" },
        lead,
      }),
    ).toEqual({
      id: "00000000-0000-4000-8000-0000000000ff",
      webhookUrl,
      endpointId: null,
      payload: expect.stringContaining('"email":"ada.lovelace@example.com"'),
      leadId: lead.id,
      clientId: lead.client_id,
      event: "lead_captured",
      format: "raw",
      secret: "sealed(s)",
      headers: null,
      attempt: 1,
      maxAttempts: 4,
      scheduleStart: 1,
      traceparent: null,
      isPersisted: true,
      isReserved: false,
    });
  });

  test("takes URL, secret, headers, format and client from the endpoint", () => {
    expect(
      deliveryOf({
        request: { test: true, endpointId: endpoint.id },
        endpoint,
      }),
    ).toMatchObject({
      webhookUrl: endpoint.url,
      endpointId: endpoint.id,
      clientId: endpoint.client_id,
      format: "zapier",
      secret: "sealed(plain)",
      headers: 'sealed({"x-token":"t"})',
    });
  });

  test.each([
    [
      "the request's format over the endpoint's",
      { format: "makecom" as const },
      endpoint,
      "makecom",
    ],
    [
      "an older endpoint's type",
      {},
      { ...endpoint, format: null, type: "convertkit" },
      "convertkit",
    ],
    [
      "raw for an endpoint with an unknown format",
      {},
      { ...endpoint, format: "json", type: "custom" },
      "raw",
    ],
  ])("uses %s", (_what, asked, row, format) => {
    expect(
      deliveryOf({
        request: { test: true, endpointId: row.id, ...asked },
        endpoint: row,
      }).format,
    ).toBe(format);
  });

  test("leaves out empty secrets and headers of an endpoint", () => {
    const row = { ...endpoint, secret: "", headers: {} };
    expect(
      deliveryOf({
        request: { test: true, endpointId: row.id },
        endpoint: row,
      }),
    ).toMatchObject({
      secret: null,
      headers: null,
    });
  });

  test("names the campaign as asked and lays the custom fields over the lead's", () => {
    const request = {
      leadId: lead.id,
      webhookUrl,
      campaignName: "Spring",
      customFields: { plan: "gold", size: 3 },
      event: "lead_qualified" as const,
    };
    const row = { ...lead, custom_fields: { plan: "free", region: "EU" } };
    expect(payloadOf({ request, lead: row })).toMatchObject({
      event: "lead_qualified",
      campaign: {
        id: lead.campaign_id,
        name: "Spring",
        leadMagnetName: "Sample guide",
      },
      custom_fields: { plan: "gold", region: "EU", size: 3 },
    });
  });

  test("sends a payload as given, and says its own event", () => {
    const payload = { event: "order.paid", b: 1, a: [2] };
    expect(deliveryOf({ request: { payload, webhookUrl } })).toMatchObject({
      payload: JSON.stringify(payload),
      event: "order.paid",
      leadId: null,
    });
  });

  test("hashes the request only when a key asks for it, whatever the order of its keys", () => {
    const hashOf = (request: PlanInput["request"]) => {
      const planned = plan({ request });
      return planned.ok ? planned.value.requestHash : undefined;
    };
    expect(hashOf({ test: true, webhookUrl })).toBeNull();
    const hash = hashOf({
      test: true,
      webhookUrl,
      customFields: { a: 1, b: { c: 2, d: 3 } },
      idempotencyKey: "k",
    });
    expect(hash).toMatch(/^[\da-f]{64}$/);
    expect(
      hashOf({
        customFields: { b: { d: 3, c: 2 }, a: 1 },
        idempotencyKey: "other",
        webhookUrl,
        test: true,
      }),
    ).toBe(hash);
    expect(
      hashOf({
        test: true,
        webhookUrl,
        customFields: { a: 2 },
        idempotencyKey: "k",
      }),
    ).not.toBe(hash);
  });

  test.each([
    [
      "an unknown lead",
      { request: { leadId: "x", webhookUrl } },
      404,
      "leadId",
    ],
    [
      "an unknown endpoint",
      { request: { test: true as const, endpointId: "x" } },
      404,
      "endpointId",
    ],
    [
      "an endpoint that is switched off",
      {
        request: { test: true as const, endpointId: "x" },
        endpoint: { ...endpoint, active: false },
      },
      409,
      "endpointId",
    ],
    [
      "an endpoint without a URL to send to",
      {
        request: { test: true as const, endpointId: "x" },
        endpoint: { ...endpoint, url: "nowhere" },
      },
      422,
      "endpointId",
    ],
    [
      "a NUL in the payload",
      { request: { payload: { a: "\0" }, webhookUrl } },
      422,
      "payload",
    ],
    [
      "a NUL in a custom field's name",
      {
        request: { test: true as const, webhookUrl, customFields: { "\0": 1 } },
      },
      422,
      "payload",
    ],
  ])("refuses %s", (_what, input, status, path) => {
    expect(plan(input)).toMatchObject({
      ok: false,
      refusal: { status, issues: [{ path }] },
    });
  });
});
