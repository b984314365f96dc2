/** What the product itself publishes. */
export const EVENTS = [
  "lead_captured",
  "lead_qualified",
  "campaign_completed",
] as const;
