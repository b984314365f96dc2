// What reconcile reads from Postgres.
import { type SupabaseClient, unwrap } from "@pipeline/shared/database";
import {
  DELIVERY_COLUMNS,
  type DeliveryRow,
} from "@pipeline/shared/delivery-row";

const NIL_UUID = "00000000-0000-0000-0000-000000000000";
/** Ids travel in the URL, 37 bytes each, and a row may carry a payload of 256 KiB. */
const ROWS_PER_READ = 100;

export interface UnfinishedRows {
  /** Ids of rows that should have moved on before `overdueAt`, in id order, after `afterId` (null: from the first). */
  page: (
    overdueAt: string,
    afterId: string | null,
    size: number,
  ) => Promise<string[]>;
  /** Those of the rows that are still pending or sent, in chunks. */
  read: (ids: string[]) => AsyncGenerator<DeliveryRow[]>;
}

export function createUnfinishedRows(client: SupabaseClient): UnfinishedRows {
  return {
    page: async (overdueAt, afterId, size) => {
      const rows = (await unwrap(
        client
          .rpc("unfinished_deliveries", {
            overdue_at: overdueAt,
            after_id: afterId ?? NIL_UUID,
            page_size: size,
          })
          .select("id"),
      )) as { id: string }[];
      return rows.map(({ id }) => id);
    },
    read: async function* (ids) {
      for (let start = 0; start < ids.length; start += ROWS_PER_READ) {
        yield await unwrap(
          client
            .from("webhook_deliveries")
            .select<string, DeliveryRow>(DELIVERY_COLUMNS)
            .in("id", ids.slice(start, start + ROWS_PER_READ))
            .in("status", ["pending", "sent"]),
        );
      }
    },
  };
}
