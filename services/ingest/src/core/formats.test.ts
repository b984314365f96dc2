import { describe, expect, test } from "vitest";
import type { JsonObject } from "./delivery-request.ts";
import { parseExact } from "./exact-json.ts";
import { formatPayload } from "./formats.ts";
import { leadPayload, SAMPLE_LEAD } from "./lead-payload.ts";

const lead = {
  ...SAMPLE_LEAD,
  custom_fields: {
    plan: "pro",
    "Team size": 7,
    tags: ["a", "b"],
    address: { city: "London" },
    notes: null,
  },
};
const payload = leadPayload(lead, "lead_captured", "2026-02-03T04:05:06.000Z");

describe("a lead's payload", () => {
  test("is passed on unchanged as raw", () => {
    expect(formatPayload("raw", payload)).toEqual({
      ok: true,
      value: {
        event: "lead_captured",
        lead: {
          id: "00000000-0000-4000-8000-000000000001",
          email: "ada.lovelace@example.com",
          firstName: "Ada",
          lastName: "Lovelace",
          linkedInId: "ada-lovelace",
          linkedInUrl: "https://www.linkedin.com/in/ada-lovelace",
          company: "Analytical Engines Ltd",
          title: "Head of Computing",
          source: "manual",
          capturedAt: "2026-01-01T12:00:00.000Z",
        },
        campaign: {
          id: "00000000-0000-4000-8000-000000000002",
          name: "Sample campaign",
          leadMagnetName: "Sample guide",
        },
        custom_fields: lead.custom_fields,
        timestamp: "2026-02-03T04:05:06.000Z",
      },
    });
  });

  test("is one flat object for Zapier", () => {
    expect(formatPayload("zapier", payload)).toEqual({
      ok: true,
      value: {
        event: "lead_captured",
        id: "00000000-0000-4000-8000-000000000001",
        email: "ada.lovelace@example.com",
        first_name: "Ada",
        last_name: "Lovelace",
        linkedin_id: "ada-lovelace",
        linkedin_url: "https://www.linkedin.com/in/ada-lovelace",
        company: "Analytical Engines Ltd",
        title: "Head of Computing",
        source: "manual",
        captured_at: "2026-01-01T12:00:00.000Z",
        campaign_id: "00000000-0000-4000-8000-000000000002",
        campaign_name: "Sample campaign",
        campaign_lead_magnet_name: "Sample guide",
        timestamp: "2026-02-03T04:05:06.000Z",
        custom_plan: "pro",
        custom_team_size: 7,
        custom_tags: "a, b",
        custom_address_city: "London",
        custom_notes: null,
      },
    });
  });

  test("keeps its nesting for Make.com, beside the flat keys of old", () => {
    expect(formatPayload("makecom", payload)).toEqual({
      ok: true,
      value: {
        email: "ada.lovelace@example.com",
        firstName: "Ada",
        lastName: "Lovelace",
        linkedinId: "ada-lovelace",
        linkedinUrl: "https://www.linkedin.com/in/ada-lovelace",
        company: "Analytical Engines Ltd",
        jobTitle: "Head of Computing",
        source: "manual",
        capturedAt: "2026-01-01T12:00:00.000Z",
        ...payload,
      },
    });
  });

  test.each(["zapier", "makecom", "convertkit"] as const)(
    "keeps the text of its numbers as %s",
    (format) => {
      const text =
        '{"lead":{"email":"a@b.co","score":9007199254740993},"custom_fields":{"price":1.50,"huge":1e400,"list":[12345678901234567890,1.0,null]}}';
      const result = formatPayload(format, parseExact(text) as JsonObject);
      const sent = JSON.stringify(result.ok && result.value);
      for (const number of [
        "9007199254740993",
        "1.50",
        "1e400",
        "12345678901234567890",
        "1.0",
      ])
        expect(sent).toContain(number);
    },
  );

  test("is the body of Kit's POST /v4/subscribers for ConvertKit, custom fields as text and empty ones left out", () => {
    expect(formatPayload("convertkit", payload)).toEqual({
      ok: true,
      value: {
        email_address: "ada.lovelace@example.com",
        first_name: "Ada",
        fields: {
          last_name: "Lovelace",
          linkedin_id: "ada-lovelace",
          linkedin_url: "https://www.linkedin.com/in/ada-lovelace",
          company: "Analytical Engines Ltd",
          title: "Head of Computing",
          source: "manual",
          lead_id: "00000000-0000-4000-8000-000000000001",
          campaign: "Sample campaign",
          campaign_id: "00000000-0000-4000-8000-000000000002",
          lead_magnet: "Sample guide",
          event: "lead_captured",
          plan: "pro",
          team_size: "7",
          tags: "a, b",
          address_city: "London",
        },
      },
    });
  });
});

describe("a payload of the caller's", () => {
  test.each(["raw", "zapier", "makecom", "convertkit"] as const)(
    "without a lead is sent as it is, also as %s",
    (format) => {
      const own = { order: { id: 7 }, lead: "none" };
      expect(formatPayload(format, own)).toEqual({ ok: true, value: own });
    },
  );

  test.each(["zapier", "makecom"] as const)(
    "has every key as %s even if the lead has only an id",
    (format) => {
      const keysOf = (value: object): string[] =>
        Object.entries(value).flatMap(([key, item]) =>
          typeof item === "object" && item !== null
            ? [key, ...keysOf(item as object)]
            : [key],
        );
      const sparse = formatPayload(format, { lead: { id: "1" } });
      const full = formatPayload(
        format,
        leadPayload(
          { ...SAMPLE_LEAD, custom_fields: {} },
          "lead_captured",
          "now",
        ),
      );
      if (!sparse.ok || !full.ok) throw new Error("refused");
      expect(keysOf(sparse.value)).toEqual(keysOf(full.value));
    },
  );

  test("keeps keys of its own beside the known ones", () => {
    const own = {
      lead: { email: "a@b.co", phoneNumber: "1" },
      suggested_email: "Hi",
      campaign: { id: "c", utmSource: "x" },
    };
    expect(formatPayload("zapier", own)).toMatchObject({
      value: {
        phone_number: "1",
        suggested_email: "Hi",
        campaign_utm_source: "x",
      },
    });
    expect(formatPayload("makecom", own)).toMatchObject({ value: own });
    expect(formatPayload("convertkit", own)).toMatchObject({
      value: {
        fields: {
          phone_number: "1",
          suggested_email: "Hi",
          campaign_utm_source: "x",
        },
      },
    });
  });

  test("never overwrites a key in a flat form: the second gets a suffix", () => {
    const own = {
      lead: { email: "a@b.co", company: "ACME" },
      custom_fields: { company: "other", Company: "third" },
    };
    expect(formatPayload("zapier", own)).toMatchObject({
      value: {
        company: "ACME",
        custom_company: "other",
        custom_company_2: "third",
      },
    });
    expect(formatPayload("convertkit", own)).toMatchObject({
      value: {
        fields: { company: "ACME", company_2: "other", company_3: "third" },
      },
    });
  });

  test.each([undefined, null, "", "  ", 7])(
    "is refused as convertkit when its e-mail is %o",
    (email) => {
      expect(formatPayload("convertkit", { lead: { email } })).toMatchObject({
        ok: false,
        refusal: { status: 422, issues: [{ path: "lead.email" }] },
      });
    },
  );
});
