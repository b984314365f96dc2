import type { Client } from "pg";
import { demoCases } from "./demo-cases.ts";
import type { DemoResult, RecordedDelivery, Timing } from "./demo-report.ts";
import { requestsOf, type Sent } from "./demo-send.ts";
import { redisCommand } from "./redis-command.ts";
import { waitUntil } from "./wait-until.ts";

/** Waits until every delivery has all its expected attempts recorded. Rejects when that can no longer be expected. */
export async function untilRecorded(
  database: Client,
  sent: Sent[],
  timing: Timing,
): Promise<void> {
  const scheduledMs =
    timing.delaysSeconds.reduce((sum, seconds) => sum + seconds, 0) * 1000;
  const timeoutMs = scheduledMs + 4 * timing.attemptTimeoutMs + 20_000;
  const isRecorded = async () => {
    for (const item of sent) item.deliveryId ??= requestsOf(item)[0]?.webhookId;
    const { rows } = await database.query<{ id: string; attempts: number }>(
      `select d.id, count(l.delivery_id)::int as attempts
       from webhook_deliveries d left join webhook_delivery_logs l on l.delivery_id = d.id
       where d.status in ('success', 'failed', 'cancelled')
       group by d.id`,
    );
    const attempts = new Map(rows.map((row) => [row.id, row.attempts]));
    return sent.every(
      ({ deliveryId = "", demoCase }) =>
        (attempts.get(deliveryId) ?? 0) >= demoCase.expected.attempts,
    );
  };
  await waitUntil("all attempts are recorded", timeoutMs, isRecorded, 100);
}

export async function collectResult(
  database: Client,
  item: Sent,
): Promise<DemoResult> {
  const { rows } = await database.query<RecordedDelivery>(
    `select d.status, l.status as "leadStatus", coalesce((
       select jsonb_agg(
         jsonb_build_object('status', a.response_status, 'errorType', a.error_type)
         order by a.attempt_number)
       from webhook_delivery_logs a where a.delivery_id = d.id), '[]') as attempts
     from webhook_deliveries d left join leads l on l.id = d.lead_id where d.id = $1`,
    [item.deliveryId],
  );
  return {
    demoCase: item.demoCase,
    recorded: rows[0],
    received: requestsOf(item),
    email: item.email,
  };
}

/** `isAsExpected`: nothing is left to do, and every failed delivery is a dead letter. */
export async function readQueue(
  redisUrl: string,
): Promise<{ text: string; isAsExpected: boolean }> {
  const length = async (...command: string[]) =>
    Number(await redisCommand(redisUrl, command));
  const [entries, retries, unrecorded, dead] = await Promise.all([
    length("XLEN", "webhook:deliveries"),
    length("ZCARD", "{webhook:deliveries}:retries"),
    length("XLEN", "{webhook:deliveries}:log"),
    length("XLEN", "{webhook:deliveries}:dead"),
  ]);
  const failed = demoCases.filter(
    ({ expected }) => expected.status !== "success",
  );
  return {
    text: `${entries} waiting or in flight, ${retries} retries, ${unrecorded} unrecorded attempts, ${dead} dead letters`,
    isAsExpected:
      entries + retries + unrecorded === 0 && dead === failed.length,
  };
}
