// Rows of webhook_endpoints as attempts need them.
import { type SupabaseClient, unwrap } from "@pipeline/shared/database";

export interface Endpoint {
  url: string;
  secret: string | null;
  /** JSON text, plain or sealed. */
  headers: string | null;
  isActive: boolean;
  /** Changes with every write to the row that keeps it up to date, as the recorder's do. */
  updatedAt: string | null;
}

/** Per id in order; null where there is no such endpoint. */
export type ReadEndpoints = (ids: string[]) => Promise<(Endpoint | null)[]>;

interface EndpointRow {
  id: string;
  url: string;
  secret: string | null;
  headers: unknown;
  active: boolean | null;
  updated_at: string | null;
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
    updatedAt: row.updated_at,
  };
}

export function createReadEndpoints(client: SupabaseClient): ReadEndpoints {
  return async (ids) => {
    const rows = (await unwrap(
      client
        .rpc("endpoints_for_delivery", { endpoint_ids: ids })
        .select("id,url,secret,headers,active,updated_at"),
    )) as EndpointRow[];
    const byId = new Map(rows.map((row) => [row.id, fromRow(row)]));
    return ids.map((id) => byId.get(id) ?? null);
  };
}
