// The rows of webhook_deliveries: written through the database functions, read page by page.
import {
  type Database,
  type SupabaseClient,
  unwrap,
} from "@pipeline/shared/database";
import {
  deliveryFromRow,
  type DeliveryRow,
  DELIVERY_COLUMNS as WHOLE_ROW,
} from "@pipeline/shared/delivery-row";
import type { Delivery } from "@pipeline/shared/entries";
import type { Cursor } from "../core/cursor.ts";
import {
  ATTEMPT_COLUMNS,
  DELIVERY_COLUMNS,
  type StoredDelivery,
  type StoredDetail,
} from "../core/delivery-view.ts";
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

/** As the database function answers; its column keeps the name that the services before this one read. */
type CreatedAnswer = Omit<CreatedRow, "creation"> & {
  outcome: CreatedRow["creation"];
};

export interface DeliveryFilter {
  deliveryId?: string | undefined;
  leadId?: string | undefined;
  endpointId?: string | undefined;
  status?: string | undefined;
  before?: string | undefined;
  after?: string | undefined;
}

interface StatusCount {
  status: string;
  total: number;
  last_24_hours: number;
}

/** A restarted row is a whole one; the API shows its public part. */
export type RestartedRow = DeliveryRow & StoredDelivery;

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
      return rows.map(({ outcome, ...row }) => ({ ...row, creation: outcome }));
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
            .select<string, DeliveryRow>(WHOLE_ROW)
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
    /** Null when there is no such delivery. */
    restart: async (
      id: string,
      scheduleLength: number,
    ): Promise<RestartedRow | null> => {
      const args = { delivery_id: id, schedule_length: scheduleLength };
      const rows = await gate.run(() =>
        unwrap<RestartedRow[]>(client.rpc("restart_delivery", args)),
      );
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
  function filtered(
    filter: DeliveryFilter,
    columns: string,
    options?: { count: "exact"; head: true },
  ) {
    let query = client.from("webhook_deliveries").select(columns, options);
    if (filter.deliveryId !== undefined)
      query = query.eq("id", filter.deliveryId);
    if (filter.leadId !== undefined) query = query.eq("lead_id", filter.leadId);
    if (filter.endpointId !== undefined)
      query = query.eq("endpoint_id", filter.endpointId);
    if (filter.status !== undefined) query = query.eq("status", filter.status);
    if (filter.before !== undefined)
      query = query.lt("created_at", filter.before);
    if (filter.after !== undefined)
      query = query.gt("created_at", filter.after);
    return query;
  }

  async function count(filter: DeliveryFilter): Promise<number> {
    let total = 0;
    await unwrap(
      filtered(filter, "id", { count: "exact", head: true }).then((reply) => {
        total = reply.count ?? 0;
        return reply;
      }),
    );
    return total;
  }

  function page(
    filter: DeliveryFilter,
    limit: number,
    cursor: Cursor | null,
  ): Promise<StoredDelivery[]> {
    let query = filtered(filter, DELIVERY_COLUMNS);
    if (cursor !== null) {
      const at = `"${cursor.createdAt}"`;
      // The first condition is implied by the second; it is what lets the index start at the cursor.
      query = query
        .lte("created_at", cursor.createdAt)
        .or(`created_at.lt.${at},and(created_at.eq.${at},id.lt.${cursor.id})`);
    }
    const ordered = query
      .order("created_at", { ascending: false })
      .order("id", { ascending: false })
      .limit(limit);
    return unwrap<StoredDelivery[]>(
      ordered.overrideTypes<StoredDelivery[], { merge: false }>(),
    );
  }

  return {
    /** Newest first. `total` counts the filter's rows, not the page's. */
    list: (filter: DeliveryFilter, limit: number, cursor: Cursor | null) =>
      gate.run(async () => {
        const [rows, total] = await Promise.all([
          page(filter, limit, cursor),
          count(filter),
        ]);
        return { rows, total };
      }),

    /** With its attempts in order; null when there is no such delivery. */
    find: (id: string): Promise<StoredDetail | null> =>
      gate.run(async () => {
        const query = client
          .from("webhook_deliveries")
          .select(
            `${DELIVERY_COLUMNS}, payload, response_body, webhook_delivery_logs (${ATTEMPT_COLUMNS})`,
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
