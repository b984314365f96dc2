// What Postgres knows of deliveries and their attempts.
import { type Database, unwrap } from "@pipeline/shared/database";

export interface DeliveryRow {
  id: string;
  status: string;
  attempt: number;
  last_error: string | null;
  webhook_url: string | null;
  [column: string]: unknown;
}

/** Enough to count by, of however many there are. */
export type DeliverySummary = Pick<
  DeliveryRow,
  "id" | "status" | "attempt" | "last_error" | "webhook_url"
>;

export interface AttemptRow {
  delivery_id: string;
  attempt_number: number;
  attempted_at: string;
  duration_ms: number;
  response_status: number | null;
  response_body: string | null;
  error: string | null;
  error_type: string | null;
  [column: string]: unknown;
}

type AttemptSummary = Pick<
  AttemptRow,
  "delivery_id" | "attempt_number" | "attempted_at" | "duration_ms" | "error"
>;

const PAGE = 1000;

export function createDeliveries({ client }: Pick<Database, "client">) {
  /** Of all rows, page by page. */
  async function selectAll<Found>(
    table: string,
    columns: string,
    order: string[],
  ): Promise<Found[]> {
    const all: Found[] = [];
    for (;;) {
      let query = client.from(table).select(columns);
      for (const column of order) query = query.order(column);
      const page = await unwrap<Found[]>(
        query
          .range(all.length, all.length + PAGE - 1)
          .overrideTypes<Found[], { merge: false }>(),
      );
      all.push(...page);
      if (page.length < PAGE) return all;
    }
  }

  return {
    row: async (id: string): Promise<DeliveryRow | null> => {
      // The payload also as the text it is kept as.
      const found = client
        .from("webhook_deliveries")
        .select("*,payload_text:payload::text")
        .eq("id", id);
      return ((await unwrap(found))[0] as DeliveryRow | undefined) ?? null;
    },
    attempts: async (id: string): Promise<AttemptRow[]> => {
      const found = client
        .from("webhook_delivery_logs")
        .select("*")
        .eq("delivery_id", id)
        .order("attempt_number");
      return (await unwrap(found)) as AttemptRow[];
    },
    /** Ids of rows that have not ended; at most 1000. */
    unfinished: async (): Promise<string[]> => {
      const found = client
        .from("webhook_deliveries")
        .select("id")
        .in("status", ["pending", "sent"])
        .limit(PAGE);
      return ((await unwrap(found)) as { id: string }[]).map(({ id }) => id);
    },
    allRows: () =>
      selectAll<DeliverySummary>(
        "webhook_deliveries",
        "id,status,attempt,last_error,webhook_url",
        ["id"],
      ),
    allAttempts: () =>
      selectAll<AttemptSummary>(
        "webhook_delivery_logs",
        "delivery_id,attempt_number,attempted_at,duration_ms,error",
        ["delivery_id", "attempt_number"],
      ),
  };
}
