// What reconcile reads from Postgres.
import { type SupabaseClient, unwrap } from "@pipeline/shared/database";
import {
  DELIVERY_COLUMNS,
  type DeliveryRow,
} from "@pipeline/shared/delivery-row";

const NIL_UUID = "00000000-0000-0000-0000-000000000000";
/** Ids travel in the URL, 37 bytes each, and a row may carry a payload of 256 KiB. */
const ROWS_PER_READ = 100;

/** A row, and when it should have moved on, as Postgres writes it. */
export interface UnfinishedRow {
  id: string;
  due_at: string;
}

export interface UnfinishedRows {
  /** Rows that should have moved on before `overdueAt`, in the order of that time, after `last` (null: from the first). */
  page: (
    overdueAt: string,
    last: UnfinishedRow | null,
    size: number,
  ) => Promise<UnfinishedRow[]>;
  /** Those of the rows that are still pending or sent, in chunks. */
  read: (ids: string[]) => AsyncGenerator<DeliveryRow[]>;
}

export function createUnfinishedRows(client: SupabaseClient): UnfinishedRows {
  return {
    page: (overdueAt, last, size) =>
      unwrap<UnfinishedRow[]>(
        client.rpc("unfinished_deliveries", {
          overdue_at: overdueAt,
          after_due_at: last?.due_at ?? "-infinity",
          after_id: last?.id ?? NIL_UUID,
          page_size: size,
        }),
      ),
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
