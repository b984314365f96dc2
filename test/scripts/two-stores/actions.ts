// What people and services do to deliveries in Redis and Postgres, each as its steps: between two of them anything may happen,
// and the process may die. The writes are those of the services: the scripts, and the database's functions.
import {
  deliveryFromRow,
  type DeliveryRow,
} from "@pipeline/shared/delivery-row";
import { toFields } from "@pipeline/shared/entries";
import { DISPATCHERS_GROUP } from "@pipeline/shared/queue/keys";
import type { Client } from "pg";
import type { Entry, Queue } from "../../support/queue.ts";
import type { Ledger } from "./ledger.ts";

export interface World {
  queue: Queue;
  sql: Client;
  ledger: Ledger;
}

/** Runs up to its next `yield` each time it is asked to go on. */
export type Action = AsyncGenerator<void, void, void>;
export type Outcome = "success" | "retry" | "dead";

const HOOK = "https://receiver.test/hook";
const ROW =
  "id, lead_id, client_id, endpoint_id, event, format, webhook_url, payload::text as payload_text, secret, headers, " +
  "status, attempt, max_attempts, schedule_start, next_retry_at";

async function rowsOf(sql: Client, query: string, values: unknown[]) {
  return (await sql.query<DeliveryRow>(query, values)).rows;
}
const fieldsOf = (row: DeliveryRow) => toFields(deliveryFromRow(row));

export async function* create(world: World, id: string): Action {
  const { queue, sql, ledger } = world;
  const row = { id, webhook_url: HOOK, payload: "{}", max_attempts: 4 };
  await sql.query("select * from create_deliveries($1)", [
    JSON.stringify([row]),
  ]);
  ledger.asked(id);
  yield;
  const [stored] = await rowsOf(
    sql,
    `select ${ROW} from webhook_deliveries where id = $1`,
    [id],
  );
  const fields = fieldsOf({ ...stored!, status: "pending", attempt: 1 });
  await queue.producer.enqueue([{ id, fields }], 1_000_000);
}

/** A manual retry, or with `letter` the replay of that dead letter. */
export async function* sendAgain(
  world: World,
  id: string,
  letter: string | null,
): Action {
  const { queue, sql, ledger } = world;
  const held = await queue.holds.holdToResend(id, letter);
  if (held.kind !== "held") return;
  yield;
  const [row] = await rowsOf(
    sql,
    `select ${ROW} from restart_delivery($1, 4, $2)`,
    [id, letter !== null],
  );
  if (row === undefined) {
    await held.hold.letGo("kept");
    return;
  }
  ledger.asked(id);
  yield;
  await held.hold.requeue(fieldsOf(row));
}

export async function* cancel(world: World, id: string): Action {
  const { queue, sql, ledger } = world;
  const held = await queue.holds.holdToCancel(id);
  if (held.kind !== "held") return;
  yield;
  const [row] = await rowsOf(sql, "select * from cancel_delivery($1)", [id]);
  const isCancelled = row?.status === "cancelled";
  if (isCancelled) ledger.cancelled(id);
  yield;
  await held.hold.letGo(isCancelled ? "cancelled" : "kept");
}

export async function* reconcile({ queue, sql }: World): Action {
  const unfinished = await rowsOf(
    sql,
    "select id from webhook_deliveries where status in ('pending', 'sent')",
    [],
  );
  yield;
  const suspects = await queue.reconcile.homeless(
    unfinished.map(({ id }) => id),
  );
  yield;
  const rows = await rowsOf(
    sql,
    `select ${ROW} from webhook_deliveries where id = any ($1) and status in ('pending', 'sent')`,
    [suspects],
  );
  yield;
  const injections = rows.map((row) => ({
    id: row.id,
    dueAt: row.status === "sent" ? Date.parse(String(row.next_retry_at)) : 0,
    fields: fieldsOf(row),
  }));
  if (injections.length > 0) await queue.reconcile.reinject(injections);
  const found = new Set(rows.map(({ id }) => id));
  await queue.reconcile.unmark(suspects.filter((id) => !found.has(id)));
}

/** The retry-scheduler's look at what was cancelled. */
export async function* clear({ queue, sql }: World): Action {
  const { rows } = await sql.query<{ id: string }>(
    "select id from webhook_deletions where kind = 'cancelled' and step = 'queue'",
  );
  for (const { id } of rows) {
    const held = await queue.holds.holdCancelled(id);
    let isCleared = held.kind === "closed";
    if (held.kind === "held") {
      yield;
      const { rows: unfinished } = await sql.query(
        "select id from unfinished_of($1)",
        [[id]],
      );
      yield;
      const end = unfinished.length > 0 ? "kept" : "removed";
      isCleared = await held.hold.letGo(end);
    }
    yield;
    if (isCleared)
      await sql.query("select deletions_checked($1, '{}')", [[id]]);
  }
}

/** Admits and sends what was read or claimed, and settles it. Between admitting and sending there is nothing to wait for. */
export async function* dispatch(
  { queue, ledger }: World,
  name: string,
  entry: Entry,
  outcome: Outcome,
): Action {
  const consumer = queue.consumer(name);
  const stored = (await queue.waiting()).find(
    ({ entryId }) => entryId === entry.entryId,
  );
  const [isAdmitted] = await consumer.admit([entry]);
  if (isAdmitted !== true) return;
  const { deliveryId } = entry;
  const attempt = Number(stored!.fields["attempt"] ?? 1);
  ledger.sent(deliveryId, entry.entryId);
  yield;
  const status = { success: "success", retry: "sent", dead: "failed" }[outcome];
  const at = new Date().toISOString();
  const record = JSON.stringify({
    delivery_id: deliveryId,
    attempt,
    attempted_at: at,
    duration_ms: 1,
    status,
    response_status: outcome === "success" ? 200 : 500,
    ...(outcome !== "success" && { error: "HTTP 500", error_type: "http" }),
    ...(outcome === "retry" && { retry_at: at }),
  });
  const next = outcome === "retry" ? attempt + 1 : attempt;
  const fields = { ...stored!.fields, attempt: String(next) };
  const result = await queue.settleOne(name, entry, {
    kind: outcome,
    attempt,
    fields: outcome === "success" ? null : fields,
    record,
  });
  if (outcome === "retry" && result === "settled") ledger.asked(deliveryId);
}

export async function* record({ queue, sql, ledger }: World): Action {
  const entries = (await queue.log()).map(({ entryId, fields }) => ({
    entryId,
    deliveryId: fields["delivery_id"]!,
    record: fields["record"]!,
  }));
  if (entries.length === 0) return;
  yield;
  const attempts = entries.map((entry) => entry.record);
  await sql.query("select record_attempts($1)", [
    `{"attempts":[${attempts.join(",")}],"count":${attempts.length}}`,
  ]);
  for (const entry of entries)
    if (entry.record.includes('"success"')) ledger.succeeded(entry.deliveryId);
  yield;
  await queue.recorder("r").recorded(entries);
}

/** Entries that some dispatcher has read and not settled, in the hands of another now. */
export async function claimAll(queue: Queue, name: string): Promise<Entry[]> {
  const entries = await queue.waiting();
  const owners = await queue.owners();
  const claimed: Entry[] = [];
  for (const { entryId, fields } of entries) {
    if (owners[entryId] === undefined) continue;
    const { redis, keys } = queue;
    await redis.xclaim(keys.stream, DISPATCHERS_GROUP, name, 0, entryId);
    claimed.push({ entryId, deliveryId: fields["id"]! });
  }
  return claimed;
}
