// The rows of webhook_deliveries: written through the database functions, read page by page.
import {
  type Database,
  type SupabaseClient,
  unwrap,
} from "@pipeline/shared/database";
import {
  DELIVERY_COLUMNS as ROW_COLUMNS,
  deliveryFromRow,
  type DeliveryRow,
} from "@pipeline/shared/delivery-row";
import type { Delivery } from "@pipeline/shared/entries";
import type { Cursor } from "../core/cursor.ts";
import {
  ATTEMPT_COLUMNS,
  DELIVERY_COLUMNS,
  type StoredDelivery,
  type StoredDetail,
} from "../core/delivery-view.ts";
import type { RequestKey } from "../core/idempotency.ts";
import type { PlannedDelivery } from "../core/plan-delivery.ts";
import type { DatabaseGate } from "./database-gate.ts";

export interface CreatedRow {
  creation: "created" | "existing" | "conflict";
  id: string;
  lead_id: string | null;
  webhook_url: string | null;
  status: string;
  attempt: number;
}

/** As the database functions answer; their column keeps the name that the services before this one read. */
type CreatedAnswer = Omit<CreatedRow, "creation"> & {
  /** From 1. */
  position: number;
  outcome: CreatedRow["creation"];
};

function toCreatedRow({
  outcome,
  position: _position,
  ...row
}: CreatedAnswer): CreatedRow {
  return { ...row, creation: outcome };
}

export interface DeliveryFilter {
  deliveryId?: string | undefined;
  leadId?: string | undefined;
  endpointId?: string | undefined;
  status?: string | undefined;
  before?: string | undefined;
  after?: string | undefined;
}

/** Exact up to the limit. */
interface Total {
  total: number;
  more: boolean;
}

const COUNT_LIMIT = 10_000;

interface StatusCount {
  status: string;
  total: number;
  last_24_hours: number;
}

/** A restarted row is sent again, and the API shows its public part. */
export type RestartedRow = DeliveryRow & StoredDelivery;
const RESTARTED_COLUMNS = `${ROW_COLUMNS},response_status,last_error,sent_at,created_at,updated_at`;

/** What is null is left out: the database reads a fifth less. */
function insertable({
  delivery,
  idempotencyKey,
  requestHash,
}: PlannedDelivery) {
  return {
    id: delivery.id,
    lead_id: delivery.leadId ?? undefined,
    client_id: delivery.clientId ?? undefined,
    endpoint_id: delivery.endpointId ?? undefined,
    event: delivery.event ?? undefined,
    format: delivery.format ?? undefined,
    webhook_url: delivery.webhookUrl ?? undefined,
    payload: delivery.payload,
    secret: delivery.secret ?? undefined,
    headers: delivery.headers ?? undefined,
    max_attempts: delivery.maxAttempts,
    idempotency_key: idempotencyKey ?? undefined,
    request_hash: requestHash ?? undefined,
  };
}

function newRow({ delivery }: PlannedDelivery): CreatedRow {
  return {
    creation: "created",
    id: delivery.id,
    lead_id: delivery.leadId,
    webhook_url: delivery.webhookUrl,
    status: "pending",
    attempt: delivery.attempt,
  };
}

/** Rows that requests create. Reading them is for what became of a creation that was not answered. */
export function createDeliveryCreations(
  { client, callWithText }: Database,
  gate: DatabaseGate,
) {
  return {
    /** One transaction: all of them or, when it throws, none. Results in order. */
    create: async (planned: PlannedDelivery[]): Promise<CreatedRow[]> => {
      const text = JSON.stringify(planned.map(insertable));
      const rows = await gate.run(() =>
        callWithText<CreatedAnswer[]>("create_deliveries", text),
      );
      if (rows.length === 0) return planned.map(newRow);
      return rows.map(toCreatedRow);
    },

    /** Per key its first delivery, deleted or not; null for a new key. */
    firstOfKeys: async (keys: RequestKey[]): Promise<(CreatedRow | null)[]> => {
      const text = JSON.stringify(
        keys.map(({ key, hash }) => ({
          idempotency_key: key,
          request_hash: hash,
        })),
      );
      const rows = await gate.run(() =>
        callWithText<CreatedAnswer[]>("deliveries_of_keys", text),
      );
      const found = new Map(rows.map((row) => [row.position, row]));
      return keys.map((_key, index) => {
        const row = found.get(index + 1);
        return row === undefined ? null : toCreatedRow(row);
      });
    },

    /** Resolves to those that were stored, and are not any more. */
    withdraw: (ids: string[]): Promise<string[]> =>
      gate.run(() =>
        unwrap<string[]>(
          client.rpc("withdraw_deliveries", { delivery_ids: ids }),
        ),
      ),

    /** Those of the deliveries that are stored and have not been attempted. */
    pending: async (ids: string[]): Promise<Delivery[]> => {
      const rows = await gate.run(() =>
        unwrap(
          client
            .from("webhook_deliveries")
            .select<string, DeliveryRow>(ROW_COLUMNS)
            .in("id", ids)
            .eq("status", "pending"),
        ),
      );
      return rows.map(deliveryFromRow);
    },
  };
}

export type DeliveryCreations = ReturnType<typeof createDeliveryCreations>;

/** What a person does to a row by hand. */
export function createDeliveryWrites(
  client: SupabaseClient,
  gate: DatabaseGate,
) {
  return {
    /**
     * Null when it is not restarted: there is no such delivery, its endpoint was deleted, or `onlyFailed` and it is not
     * failed.
     */
    restart: async (
      id: string,
      scheduleLength: number,
      onlyFailed: boolean,
    ): Promise<RestartedRow | null> => {
      const args = {
        delivery_id: id,
        schedule_length: scheduleLength,
        only_failed: onlyFailed,
      };
      const rows = (await gate.run(() =>
        unwrap(client.rpc("restart_delivery", args).select(RESTARTED_COLUMNS)),
      )) as RestartedRow[];
      return rows[0] ?? null;
    },

    /** Null when there is no such delivery. */
    status: async (id: string): Promise<DeliveryRow["status"] | null> => {
      const rows = await gate.run(() =>
        unwrap<Pick<DeliveryRow, "status">[]>(
          client.from("webhook_deliveries").select("status").eq("id", id),
        ),
      );
      return rows[0]?.status ?? null;
    },

    /** Whether any of these deliveries, leads and endpoints was deleted. */
    areDeleted: async (ids: string[]): Promise<boolean> => {
      const rows = await gate.run(() =>
        unwrap<{ id: string }[]>(
          client
            .from("webhook_deletions")
            .select("id")
            .in("id", ids)
            .neq("kind", "cancelled")
            .limit(1),
        ),
      );
      return rows.length > 0;
    },

    /** The row, cancelled unless it was finished; null when there is no such delivery. */
    cancel: async (id: string): Promise<StoredDelivery | null> => {
      const rows = await gate.run(() =>
        unwrap<StoredDelivery[]>(
          client.rpc("cancel_delivery", { delivery_id: id }),
        ),
      );
      return rows[0] ?? null;
    },
  };
}

export type DeliveryWrites = ReturnType<typeof createDeliveryWrites>;

export function createDeliveryReads(
  client: SupabaseClient,
  gate: DatabaseGate,
) {
  /** As the database functions take it; what is undefined is left out. */
  const asArgument = (filter: DeliveryFilter, cursor: Cursor | null) => ({
    id: filter.deliveryId,
    lead_id: filter.leadId,
    endpoint_id: filter.endpointId,
    status: filter.status,
    before: filter.before,
    after: filter.after,
    cursor: cursor
      ? { created_at: cursor.createdAt, id: cursor.id }
      : undefined,
  });

  async function page(
    filter: DeliveryFilter,
    limit: number,
    cursor: Cursor | null,
  ): Promise<StoredDelivery[]> {
    const args = { filter: asArgument(filter, cursor), page_size: limit };
    const rows: unknown = await unwrap(
      client.rpc("list_deliveries", args).select(DELIVERY_COLUMNS),
    );
    return rows as StoredDelivery[];
  }

  /** Counting goes on for one more than the limit, to know whether there are more. */
  async function count(filter: DeliveryFilter): Promise<Total> {
    const args = { filter: asArgument(filter, null), at_most: COUNT_LIMIT + 1 };
    const counted = await unwrap<number>(client.rpc("count_deliveries", args));
    return {
      total: Math.min(counted, COUNT_LIMIT),
      more: counted > COUNT_LIMIT,
    };
  }

  return {
    /** Newest first. The total is of the filter's rows, not the page's. */
    list: (filter: DeliveryFilter, limit: number, cursor: Cursor | null) =>
      gate.run(async () => {
        const [rows, total] = await Promise.all([
          page(filter, limit, cursor),
          count(filter),
        ]);
        return { rows, ...total };
      }),

    /** With its attempts in order; null when there is no such delivery. */
    find: (id: string): Promise<StoredDetail | null> =>
      gate.run(async () => {
        const query = client
          .from("webhook_deliveries")
          .select(
            `${DELIVERY_COLUMNS}, payload_text:payload::text, response_body, webhook_delivery_logs (${ATTEMPT_COLUMNS})`,
          )
          .eq("id", id)
          .order("attempt_number", { referencedTable: "webhook_delivery_logs" })
          .overrideTypes<StoredDetail[], { merge: false }>();
        const rows = await unwrap<StoredDetail[]>(query);
        return rows[0] ?? null;
      }),

    stats: () =>
      gate.run(() => unwrap<StatusCount[]>(client.rpc("delivery_stats"))),
  };
}

export type DeliveryReads = ReturnType<typeof createDeliveryReads>;
