// Looks up the leads and endpoints that requests name. Concurrent requests share a call.
import { createBatcher } from "@pipeline/shared/batcher";
import { type SupabaseClient, unwrap } from "@pipeline/shared/database";
import { uuidOf } from "@pipeline/shared/entries";
import { parseExact } from "../core/exact-json.ts";
import { isObject } from "../core/delivery-request.ts";
import type { LeadRow } from "../core/lead-payload.ts";
import type { EndpointRow } from "../core/plan-delivery.ts";
import type { DatabaseGate } from "./database-gate.ts";

export interface Lookups {
  /** Null when there is no such lead; an id that is no UUID is unknown. */
  lead: (id: string) => Promise<LeadRow | null>;
  endpoint: (id: string) => Promise<EndpointRow | null>;
}

/** As text, because reading it as JSON together with the rest of the answer would change large numbers. */
type LeadAnswer = Omit<LeadRow, "custom_fields"> & {
  custom_fields: string | null;
};

const LEAD_COLUMNS =
  "id,email,first_name,last_name,linkedin_id,linkedin_url,company,title,source,custom_fields:custom_fields::text," +
  "captured_at,campaign_id,campaign_name,lead_magnet_name,client_id";

function toLeadRow({ custom_fields, ...row }: LeadAnswer): LeadRow {
  const custom: unknown =
    custom_fields === null ? null : parseExact(custom_fields);
  return { ...row, custom_fields: isObject(custom) ? custom : null };
}
/** Whoever comes after a look-up that takes longer need not wait for it. */
const SLOW_MS = 500;

/** `fetchRows` gets distinct lower-case ids. */
function createLookup<Row extends { id: string }>(
  gate: DatabaseGate,
  fetchRows: (ids: string[]) => Promise<Row[]>,
): (id: string) => Promise<Row | null> {
  const batcher = createBatcher<string, Row | null>({
    maxItems: 100,
    delayMs: 1,
    maxConcurrent: 4,
    maxConcurrentPartial: 4,
    slow: { afterMs: SLOW_MS, maxBatches: 8 },
    run: async (ids) => {
      const rows = await gate.run(() => fetchRows([...new Set(ids)]));
      const byId = new Map(rows.map((row) => [row.id, row]));
      return ids.map((id) => byId.get(id) ?? null);
    },
  });
  return async (text) => {
    const id = uuidOf(text);
    return id === null ? null : batcher.add(id);
  };
}

export function createLookups(
  client: SupabaseClient,
  gate: DatabaseGate,
): Lookups {
  return {
    lead: createLookup(gate, async (ids) => {
      const rows = (await unwrap(
        client
          .rpc("leads_for_delivery", { lead_ids: ids })
          .select(LEAD_COLUMNS),
      )) as LeadAnswer[];
      return rows.map(toLeadRow);
    }),
    endpoint: createLookup(
      gate,
      async (ids) =>
        (await unwrap(
          client
            .rpc("endpoints_for_delivery", { endpoint_ids: ids })
            .select(
              "id, client_id, url, type, format, secret, headers, active, disabled_reason",
            ),
        )) as EndpointRow[],
    ),
  };
}
