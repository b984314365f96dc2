// The clients' endpoints, looked up together and kept for a while: a retry uses the endpoint's present URL and secret.
import { createBatcher } from "@pipeline/shared/batcher";
import { type SupabaseClient, unwrap } from "@pipeline/shared/database";
import { originOf } from "@pipeline/shared/mask-url";

export interface Endpoint {
  url: string;
  secret: string | null;
  /** JSON text, plain or sealed. */
  headers: string | null;
  isActive: boolean;
}

export interface Endpoints {
  /**
   * Null: no such endpoint. When the lookup fails, the settings that were last known are served; if there are none, it
   * rejects with DATABASE_UNAVAILABLE.
   */
  find: (endpointId: string) => Promise<Endpoint | null>;
  /** Where the endpoint's URL leads; null when it has not been looked up, or has no valid URL. */
  originOf: (endpointId: string) => string | null;
  /** For this process, until the row is read again; the attempt's record switches it off in the database. */
  disable: (endpointId: string) => void;
}

/** Shorter than any retry delay in use, so that a retry goes by the settings as they are then. */
const FRESH_FOR_MS = 1000;
const AFTER_FAULT_FRESH_FOR_MS = 2000;
const KEPT_ENDPOINTS = 50_000;

interface EndpointRow {
  id: string;
  url: string;
  secret: string | null;
  headers: unknown;
  active: boolean | null;
}

function fromRow(row: EndpointRow): Endpoint {
  const headers =
    row.headers === null || typeof row.headers === "string"
      ? row.headers
      : JSON.stringify(row.headers);
  // The older table requires a secret; an empty one means that there is none.
  return {
    url: row.url,
    secret: row.secret === "" ? null : row.secret,
    headers,
    isActive: row.active !== false,
  };
}

export function createEndpoints(
  client: SupabaseClient,
  now: () => number,
): Endpoints {
  const known = new Map<
    string,
    { endpoint: Endpoint | null; freshUntil: number }
  >();
  let faultUntil = 0;
  let fault: unknown;
  const batcher = createBatcher<string, Endpoint | null>({
    maxItems: 100,
    delayMs: 2,
    maxConcurrent: 2,
    maxConcurrentPartial: 2,
    run: async (ids) => {
      const rows: EndpointRow[] = await unwrap(
        client
          .from("webhook_endpoints")
          .select("id,url,secret,headers,active")
          .in("id", [...new Set(ids)]),
      );
      const byId = new Map(rows.map((row) => [row.id, fromRow(row)]));
      return ids.map((id) => byId.get(id) ?? null);
    },
  });

  async function lookUp(endpointId: string): Promise<Endpoint | null> {
    if (now() < faultUntil) throw fault;
    try {
      const endpoint = await batcher.add(endpointId);
      if (known.size >= KEPT_ENDPOINTS) known.clear();
      known.set(endpointId, { endpoint, freshUntil: now() + FRESH_FOR_MS });
      return endpoint;
    } catch (error) {
      fault = error;
      faultUntil = now() + AFTER_FAULT_FRESH_FOR_MS;
      throw error;
    }
  }

  return {
    find: async (endpointId) => {
      const cached = known.get(endpointId);
      if (cached !== undefined && now() < cached.freshUntil)
        return cached.endpoint;
      try {
        return await lookUp(endpointId);
      } catch (error) {
        if (cached === undefined) throw error;
        return cached.endpoint;
      }
    },
    originOf: (endpointId) =>
      originOf(known.get(endpointId)?.endpoint?.url ?? null),
    disable: (endpointId) => {
      const cached = known.get(endpointId);
      if (cached === undefined || cached.endpoint === null) return;
      const endpoint = { ...cached.endpoint, isActive: false };
      known.set(endpointId, { endpoint, freshUntil: now() + FRESH_FOR_MS });
    },
  };
}
