/** A lead in the form that ingest gives it, about 700 bytes. */
export function samplePayload(index: number): string {
  return JSON.stringify({
    event: "lead_captured",
    lead: {
      id: `00000000-0000-4000-8000-${String(index).padStart(12, "0")}`,
      email: `ada.lovelace.${index}@example.com`,
      firstName: "Ada",
      lastName: "Lovelace",
      linkedInId: `ada-lovelace-${index}`,
      linkedInUrl: `https://www.linkedin.com/in/ada-lovelace-${index}`,
      company: "Analytical Engines Ltd.",
      title: "Programmer",
      source: "comment",
      capturedAt: "2026-11-01T12:00:00.000Z",
    },
    campaign: {
      id: "00000000-0000-4000-8000-000000000001",
      name: "Autumn campaign",
      leadMagnetName: "The guide",
    },
    custom_fields: {
      industry: "Computing",
      employees: 120,
      interests: ["engines", "numbers"],
      notes: "x".repeat(120),
    },
    timestamp: 1_793_534_400,
  });
}
