// How long questions about deliveries take over 5,000,000 rows: the API's, reconcile's, and a signed-in user's own.
import type { Rig } from "../rig.ts";
import { median } from "../statistics.ts";
import { type Case, withoutGoal } from "./case.ts";

const CHUNK = 100_000;
const SAMPLES = 15;
const MOST_MS = 50;

interface Known {
  userId: string;
  deliveryId: string;
  leadId: string;
  endpointId: string;
}

/** One row in five is unfinished and not overdue, in ten fails; a client has one in ten, an endpoint one in 200. */
async function fill(
  { database }: Rig,
  rows: number,
  progress: (line: string) => void,
): Promise<Known> {
  await database.query(`
    create temp table bench_clients as select n, gen_random_uuid() as id from generate_series(0, 9) n;
    create temp table bench_endpoints as select n, gen_random_uuid() as id from generate_series(0, 199) n;
    insert into clients (id, name) select id, 'Client ' || n from bench_clients;
    insert into users (client_id) select id from bench_clients;
  `);
  for (let done = 0; done < rows; done += CHUNK) {
    await database.query(
      `with lead as (
         insert into leads (email) select 'lead@example.com' from generate_series(1, $2 / 10) returning id
       ), numbered as (
         select id, row_number() over () as n from lead
       ), delivery as (
         insert into webhook_deliveries (lead_id, client_id, endpoint_id, webhook_url, payload, status, created_at, updated_at,
           next_retry_at)
         select l.id, c.id, e.id, 'https://receiver.test/hook', jsonb_build_object('lead', l.id, 'text', repeat('x', 300)),
           status, at, at, case when status = 'sent' then now() + interval '1 day' end
         from generate_series(1, $2::int) i
         join numbered l on l.n = 1 + i % ($2 / 10)
         join bench_clients c on c.n = i % 10
         join bench_endpoints e on e.n = i % 200
         cross join lateral (select now() - make_interval(secs => ($1 + i) * 0.5) as at) t
         cross join lateral (select case when i % 10 = 1 then 'sent' when i % 10 = 2 then 'pending' when i % 10 = 3 then 'failed'
           when i % 1000 = 4 then 'cancelled' else 'success' end as status) s
         returning id
       )
       insert into webhook_delivery_logs (delivery_id, attempt_number) select id, 1 from delivery`,
      [done, CHUNK],
    );
    progress(`${done + CHUNK} of ${rows} rows`);
  }
  // What has been pending for longer than the grace would be a real backlog, which is read page by page.
  await database.query(
    "update webhook_deliveries set updated_at = created_at - interval '8 days' where status = 'pending'",
  );
  await database.query("vacuum analyze");
  const { rows: known } = await database.query<Known>(`
    select d.id as "deliveryId", d.lead_id as "leadId", d.endpoint_id as "endpointId", u.id as "userId"
    from webhook_deliveries d join users u on u.client_id = d.client_id where d.status = 'failed' limit 1`);
  return known[0]!;
}

async function timed(ask: () => Promise<Response>): Promise<number> {
  const took: number[] = [];
  for (let n = 0; n < SAMPLES; n++) {
    const startedAt = performance.now();
    const response = await ask();
    const body = await response.text();
    if (!response.ok) throw new Error(`HTTP ${response.status}: ${body}`);
    took.push(performance.now() - startedAt);
  }
  return median(took);
}

export const sizeCase: Case = {
  name: "size",
  repetitions: 1,
  run: async ({ rig, quick, progress }) => {
    await rig.reset();
    const rows = quick ? 200_000 : 5_000_000;
    const known = await fill(rig, rows, progress);
    const { stack } = rig;
    const ingest = await rig.start("ingest");
    const api = `${ingest.url}/api/webhook-delivery`;
    const rest = (key: string, path: string, body?: object) =>
      fetch(`${stack.supabaseUrl}/rest/v1/${path}`, {
        method: body === undefined ? "GET" : "POST",
        headers: { apikey: key, "content-type": "application/json" },
        ...(body && { body: JSON.stringify(body) }),
      });
    const page = (after_due_at: string) => () =>
      rest(stack.serviceRoleKey, "rpc/unfinished_deliveries", {
        overdue_ms: 300_000,
        after_due_at,
        after_id: "00000000-0000-0000-0000-000000000000",
        page_size: 500,
      });
    const user = (path: string) => () =>
      rest(stack.userKey(known.userId), path);

    const middle = new Date(Date.now() - rows * 250).toISOString();
    const filters = [
      "",
      "status=success",
      "status=cancelled",
      `endpointId=${known.endpointId}`,
      `endpointId=${known.endpointId}&status=failed`,
      `leadId=${known.leadId}`,
      `leadId=${known.leadId}&status=failed`,
    ].flatMap((filter) => [
      filter,
      `${filter}&before=${middle}`,
      `${filter}&after=${middle}`,
    ]);
    const lists: number[] = [];
    for (const filter of filters) {
      const ms = await timed(() => fetch(`${api}?${filter}`));
      progress(`?${filter}: ${ms.toFixed(1)} ms`);
      lists.push(ms);
    }
    const first = await fetch(`${api}?before=${middle}`);
    const { nextCursor } = (await first.json()) as { nextCursor: string };
    const figures = {
      "a page of reconcile": await timed(page("-infinity")),
      "an attempt, as a user": await timed(
        user(`webhook_delivery_logs?delivery_id=eq.${known.deliveryId}`),
      ),
      "the newest 50, as a user": await timed(
        user(
          "webhook_deliveries?select=id,status&order=created_at.desc&limit=50",
        ),
      ),
      "/stats": await timed(() => fetch(`${api}/stats`)),
      "a list, slowest filter": Math.max(...lists),
      "a list, from a cursor": await timed(() =>
        fetch(`${api}?cursor=${nextCursor}`),
      ),
      rows,
    };
    await rig.stopServices();
    return figures;
  },
  figures: [
    ...[
      "a page of reconcile",
      "an attempt, as a user",
      "the newest 50, as a user",
      "/stats",
      "a list, slowest filter",
      "a list, from a cursor",
    ].map((figure) => ({
      figure,
      unit: "ms",
      goal: `≤ ${MOST_MS} ms`,
      isMet: (ms: number) => ms <= MOST_MS,
    })),
    withoutGoal("rows", ""),
  ],
};
