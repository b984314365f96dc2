// What reconcile reads from Postgres.
import { type SupabaseClient, unwrap } from "@pipeline/shared/database";
import {
  DELIVERY_COLUMNS,
  type DeliveryRow,
} from "@pipeline/shared/delivery-row";

import { createReadSize, sizeOf } from "@pipeline/shared/queue/batch-size";

const NIL_UUID = "00000000-0000-0000-0000-000000000000";
/** Ids travel in the URL, 37 bytes each. */
const MOST_ROWS = 100;

const sizeOfRow = ({ payload_text }: DeliveryRow) => sizeOf(payload_text ?? "");

/** A row, and when it should have moved on, as Postgres writes it. */
export interface UnfinishedRow {
  id: string;
  due_at: string;
}

export interface UnfinishedRows {
  /** Rows that should have moved on `overdueMs` ago, by the database's clock (null: whenever), in the order of that time, after `last` (null: from the first). */
  page: (
    overdueMs: number | null,
    last: UnfinishedRow | null,
    size: number,
  ) => Promise<UnfinishedRow[]>;
  /** Those of the rows that are still pending or sent, in chunks of a bounded size. */
  read: (ids: string[]) => AsyncGenerator<DeliveryRow[]>;
}

export function createUnfinishedRows(client: SupabaseClient): UnfinishedRows {
  const readSize = createReadSize();
  return {
    page: (overdueMs, last, size) =>
      unwrap<UnfinishedRow[]>(
        client.rpc("unfinished_deliveries", {
          overdue_ms: overdueMs,
          after_due_at: last?.due_at ?? "-infinity",
          after_id: last?.id ?? NIL_UUID,
          page_size: size,
        }),
      ),
    read: async function* (ids) {
      for (let start = 0; start < ids.length;) {
        const count = readSize.fit(MOST_ROWS);
        const rows = await unwrap(
          client
            .from("webhook_deliveries")
            .select<string, DeliveryRow>(DELIVERY_COLUMNS)
            .in("id", ids.slice(start, start + count))
            .in("status", ["pending", "sent"]),
        );
        readSize.learn(rows.map(sizeOfRow));
        start += count;
        yield rows;
      }
    },
  };
}
