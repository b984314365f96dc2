-- Every question that the services and the signed-in users ask is answered from an index, or from figures that are kept as rows
-- change, so that none takes longer as the tables grow. On a table of millions, building the indexes holds up writes for some
-- minutes. To avoid that, create the five of webhook_deliveries with `create index concurrently` beforehand; they are skipped here then.

-- What policies and functions use among themselves. PostgREST exposes `public`: a function in there can be called by whoever may
-- execute it, and a policy needs its users to.
create schema if not exists webhook_private;
revoke all on schema webhook_private from public;
-- A policy's function is found by its oid, so signed-in users need no right to the schema. The services' functions look up names.
grant usage on schema webhook_private to service_role;

-- Columns ascend although lists are newest first: read backwards, they serve as well, and pages that fill in one direction stay full.
create index if not exists webhook_deliveries_overdue on public.webhook_deliveries ((greatest(next_retry_at, updated_at)), id)
  where status in ('pending', 'sent');
create index if not exists webhook_deliveries_by_status on public.webhook_deliveries (status, created_at, id);
create index if not exists webhook_deliveries_by_lead on public.webhook_deliveries (lead_id, status, created_at, id)
  where lead_id is not null;
create index if not exists webhook_deliveries_by_endpoint on public.webhook_deliveries (endpoint_id, status, created_at, id)
  where endpoint_id is not null;
create index if not exists webhook_deliveries_by_client on public.webhook_deliveries (client_id, created_at, id)
  where client_id is not null;
drop index if exists public.webhook_deliveries_unfinished, public.webhook_deliveries_failed, public.webhook_deliveries_created,
  public.webhook_deliveries_lead, public.webhook_deliveries_endpoint, public.webhook_deliveries_client;

-- An index keeps an entry for each state that a delivery was in until the table is vacuumed. By default that is when a fifth of all
-- rows have changed, which may be a million.
alter table public.webhook_deliveries set (autovacuum_vacuum_scale_factor = 0.05);

-- Deleting a row looks for those that refer to it. The product may have an index for that under a name of its own.
do $$
declare reference record;
begin
  for reference in
    select c.conrelid::regclass as "table", a.attname as "column"
    from pg_constraint c
    join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
    where c.contype = 'f' and cardinality(c.conkey) = 1
      and c.conrelid in ('public.users'::regclass, 'public.lead_magnets'::regclass, 'public.campaigns'::regclass,
        'public.leads'::regclass, 'public.webhook_endpoints'::regclass, 'public.webhook_deliveries'::regclass,
        'public.webhook_delivery_logs'::regclass)
      and not exists (
        select from pg_index i where i.indrelid = c.conrelid and i.indkey[0] = c.conkey[1] and i.indisvalid
          and coalesce(pg_get_expr(i.indpred, i.indrelid), '') in ('', format('(%I IS NOT NULL)', a.attname))
      )
  loop
    execute format('create index on %s (%I)', reference."table", reference."column");
  end loop;
end $$;

-- A page of deliveries that should have moved on before `overdue_at` and have not, in the order of that time and of id, after the
-- last row of the page before ('-infinity' for the first page). What has not moved for a week is left to a person: on a database
-- taken over from an older worker it may be months old.
drop function if exists public.unfinished_deliveries(timestamptz, uuid, integer);
create or replace function public.unfinished_deliveries(overdue_at timestamptz, after_due_at timestamptz, after_id uuid,
  page_size integer)
returns table (id uuid, due_at timestamptz)
-- Only the index answers in order. Statistics that are out of date must not talk the planner into sorting all of them.
language sql stable security invoker set search_path = ''
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
  select d.id, greatest(d.next_retry_at, d.updated_at) from public.webhook_deliveries d
  where d.status in ('pending', 'sent') and greatest(d.next_retry_at, d.updated_at) < overdue_at
    -- One lower bound: with two, the scan may start at the lesser one and read everything between.
    and (greatest(d.next_retry_at, d.updated_at), d.id) > (greatest(after_due_at, now() - interval '7 days'), after_id)
  order by greatest(d.next_retry_at, d.updated_at), d.id limit page_size;
$$;

-- The text of a query for the first `row_limit` deliveries that match a filter, newest first:
-- `{"id", "lead_id", "endpoint_id", "status", "before", "after", "cursor": {"created_at", "id"}}`, all optional.
-- Built anew for each call, because a plan that serves every filter serves none of them well. The indexes hold the status before the
-- time. So each status is read by itself, up to the limit, also when all of them are wanted.
create or replace function webhook_private.matching_deliveries(columns text, filter jsonb, row_limit integer)
returns text language plpgsql stable security invoker set search_path = '' as $$
declare
  before constant timestamptz := filter ->> 'before';
  cursor_at constant timestamptz := filter #>> '{cursor,created_at}';
  cursor_id constant uuid := filter #>> '{cursor,id}';
  -- With `offset 0` the primary key finds the row, and the other conditions only check it.
  source constant text := case when filter ->> 'id' is null then 'public.webhook_deliveries'
    else format('(select * from public.webhook_deliveries where id = %L offset 0)', (filter ->> 'id')::uuid) end;
  conditions constant text := concat_ws(' and ', 'true',
    'd.lead_id = ' || quote_literal((filter ->> 'lead_id')::uuid),
    'd.endpoint_id = ' || quote_literal((filter ->> 'endpoint_id')::uuid),
    'd.created_at > ' || quote_literal((filter ->> 'after')::timestamptz),
    -- One upper bound, as in unfinished_deliveries.
    case when cursor_at is null or before <= cursor_at then 'd.created_at < ' || quote_literal(before)
      else format('(d.created_at, d.id) < (%L, %L)', cursor_at, cursor_id) end);
begin
  return (
    select format('select * from (%s) d order by d.created_at desc, d.id desc limit %s', string_agg(format(
      '(select %s from %s d where d.status = %L and %s order by d.created_at desc, d.id desc limit %s)',
      columns, source, s.status, conditions, row_limit), ' union all '), row_limit)
    from unnest(case when filter ->> 'status' is null then array['pending', 'sent', 'success', 'failed', 'cancelled']
      else array[filter ->> 'status'] end) s (status)
  );
end;
$$;

-- A page of deliveries, newest first. See matching_deliveries for the filter.
create or replace function public.list_deliveries(filter jsonb, page_size integer)
returns setof public.webhook_deliveries language plpgsql stable security invoker
set search_path = '' set enable_seqscan = off set lock_timeout = '300ms' set statement_timeout = '2s' as $$
begin
  return query execute webhook_private.matching_deliveries('d.*', filter, page_size);
end;
$$;

-- How many deliveries match a filter; `at_most` if there are more.
create or replace function public.count_deliveries(filter jsonb, at_most integer)
returns bigint language plpgsql stable security invoker
set search_path = '' set enable_seqscan = off set lock_timeout = '300ms' set statement_timeout = '2s' as $$
declare counted bigint;
begin
  execute format('select count(*) from (%s) d', webhook_private.matching_deliveries('d.created_at, d.id', filter, at_most)) into counted;
  return counted;
end;
$$;

-- Deliveries per status and ten minutes of their last change, as changes to be summed. Each statement adds rows of its own: one
-- row per count would make concurrent batches wait for one another, or deadlock. The retry-scheduler folds the rows together.
create table if not exists webhook_private.delivery_counts (
  status text not null,
  period timestamptz not null,
  deliveries bigint not null
);

-- date_bin refuses what is further away than an interval can be, and no write may fail for being counted.
create or replace function webhook_private.period_of(changed_at timestamptz)
returns timestamptz language sql immutable as $$
  select date_bin('10 minutes', least(changed_at, '9999-01-01'), 'epoch');
$$;

create or replace function webhook_private.count_deliveries_of_statement()
returns trigger language plpgsql security definer set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    insert into webhook_private.delivery_counts
    select status, webhook_private.period_of(updated_at), count(*) from new_rows group by 1, 2;
  elsif tg_op = 'UPDATE' then
    insert into webhook_private.delivery_counts
    select status, period, sum(deliveries) from (
      select status, webhook_private.period_of(updated_at) as period, count(*) as deliveries from new_rows group by 1, 2
      union all
      select status, webhook_private.period_of(updated_at), -count(*) from old_rows group by 1, 2
    ) change group by 1, 2 having sum(deliveries) <> 0;
  elsif tg_op = 'DELETE' then
    insert into webhook_private.delivery_counts
    select status, webhook_private.period_of(updated_at), -count(*) from old_rows group by 1, 2;
  else
    delete from webhook_private.delivery_counts;
  end if;
  return null;
end;
$$;

create or replace trigger count_inserted_deliveries after insert on public.webhook_deliveries
  referencing new table as new_rows
  for each statement execute function webhook_private.count_deliveries_of_statement();
create or replace trigger count_updated_deliveries after update on public.webhook_deliveries
  referencing old table as old_rows new table as new_rows
  for each statement execute function webhook_private.count_deliveries_of_statement();
create or replace trigger count_deleted_deliveries after delete on public.webhook_deliveries
  referencing old table as old_rows
  for each statement execute function webhook_private.count_deliveries_of_statement();
create or replace trigger forget_deliveries after truncate on public.webhook_deliveries
  for each statement execute function webhook_private.count_deliveries_of_statement();

-- From here on no other transaction changes a delivery before this one ends: creating a trigger locks the table.
delete from webhook_private.delivery_counts;
insert into webhook_private.delivery_counts
select status, case when updated_at < now() - interval '25 hours' then '-infinity'
  else webhook_private.period_of(updated_at) end, count(*)
from public.webhook_deliveries group by 1, 2;

-- What the retry-scheduler calls every minute, to keep questions quick. Sums up the rows of delivery_counts once there are some
-- thousands of them, except those that a call beside it has taken. Then it passes over the index entries of deliveries that are
-- no longer pending or sent: whoever comes first looks each of them up in the table (1 s for a million) and marks it, so
-- that nobody after it has to.
create or replace function public.tidy_deliveries()
returns void language plpgsql security definer
set search_path = '' set enable_seqscan = off set lock_timeout = '1s' set statement_timeout = '8s' as $$
begin
  if (select count(*) from (select from webhook_private.delivery_counts limit 5000) c) = 5000 then
    with taken as (
      delete from webhook_private.delivery_counts
      where ctid = any (array(select ctid from webhook_private.delivery_counts limit 200000 for update skip locked))
      returning *
    )
    insert into webhook_private.delivery_counts
    select status, case when period < now() - interval '25 hours' then '-infinity' else period end, sum(deliveries)
    from taken group by 1, 2 having sum(deliveries) <> 0;
  end if;
  perform public.list_deliveries('{"status": "pending"}', 200), public.list_deliveries('{"status": "sent"}', 200);
end;
$$;

-- Deliveries per status: all of them, and those that changed in the last 24 hours, to ten minutes.
create or replace function public.delivery_stats()
returns table (status text, total bigint, last_24_hours bigint)
language sql stable security invoker set search_path = '' as $$
  select c.status, sum(c.deliveries)::bigint,
    coalesce(sum(c.deliveries) filter (where c.period > now() - interval '24 hours 10 minutes'), 0)::bigint
  from webhook_private.delivery_counts c group by c.status;
$$;

-- Runs with its owner's rights, so that the policies below do not depend on who may read public.users.
create or replace function webhook_private.current_client_id()
returns uuid language sql stable security definer set search_path = '' as $$
  select client_id from public.users where id = (select auth.uid());
$$;

-- Asked once for a whole query, the client is a constant by which an index is searched.
drop policy if exists "users read their client's deliveries" on public.webhook_deliveries;
create policy "users read their client's deliveries" on public.webhook_deliveries for select to authenticated
  using (client_id = (select webhook_private.current_client_id()));
drop policy if exists "users read their client's endpoints" on public.webhook_endpoints;
create policy "users read their client's endpoints" on public.webhook_endpoints for select to authenticated
  using (client_id = (select webhook_private.current_client_id()));
-- The policy of webhook_deliveries applies inside. `offset 0` makes this one look-up per attempt that is read. Without it the planner
-- may collect all of the client's deliveries first.
drop policy if exists "users read their client's attempts" on public.webhook_delivery_logs;
create policy "users read their client's attempts" on public.webhook_delivery_logs for select to authenticated
  using (exists (select from public.webhook_deliveries d where d.id = delivery_id offset 0));
drop function if exists public.current_client_ids();

revoke execute on all functions in schema webhook_private from public, anon, authenticated;
grant execute on function webhook_private.current_client_id() to authenticated;
grant execute on function webhook_private.matching_deliveries(text, jsonb, integer) to service_role;
grant select on webhook_private.delivery_counts to service_role;
revoke execute on function public.unfinished_deliveries(timestamptz, timestamptz, uuid, integer),
  public.list_deliveries(jsonb, integer), public.count_deliveries(jsonb, integer), public.tidy_deliveries()
  from public, anon, authenticated;
grant execute on function public.unfinished_deliveries(timestamptz, timestamptz, uuid, integer),
  public.list_deliveries(jsonb, integer), public.count_deliveries(jsonb, integer), public.tidy_deliveries()
  to service_role;
