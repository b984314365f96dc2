-- What a deletion must still reach, what records may change, and attempt numbers that are given under the row's lock.

-- Ids of what was deleted, and nothing else about it. The retry-scheduler takes the copies of these deliveries out of Redis,
-- and no record of an attempt stores them anew. A row is forgotten a week after its work is done; an endpoint's stays,
-- because deliveries that name it may be kept for years. A cancelled delivery has a row until it is certain that Redis no
-- longer holds it, in case the process that cancelled it died on the way there.
create table if not exists public.webhook_deletions (
  id uuid primary key,
  kind text not null check (kind in ('lead', 'endpoint', 'delivery', 'cancelled')),
  deleted_at timestamptz not null default now(),
  -- When the delivery was created: no copy of it is older.
  since timestamptz,
  -- What is left to do: `queue` (out of stream, retries and waiting lists), then `letters` (out of the dead letters).
  step text check (step in ('queue', 'letters')),
  -- When to look at it next; null: nothing is left to do.
  check_at timestamptz,
  -- How far the failed deliveries of an endpoint have been noted, newest first: created before this one.
  before_at timestamptz not null default 'infinity',
  before_id uuid not null default 'ffffffff-ffff-ffff-ffff-ffffffffffff'
);
create index if not exists webhook_deletions_due on public.webhook_deletions (step, check_at) where check_at is not null;
create index if not exists webhook_deletions_done on public.webhook_deletions (deleted_at)
  where check_at is null and kind <> 'endpoint';

alter table public.webhook_deletions enable row level security;
revoke all on public.webhook_deletions from anon, authenticated;
grant all on public.webhook_deletions to service_role;

-- The triggers run with their owner's rights: whoever may delete a lead need not be able to write here.
create or replace function public.note_deleted_deliveries()
returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.webhook_deletions (id, kind, since, step, check_at)
  select d.id, 'delivery', d.created_at, 'queue', now() from deleted d
  on conflict (id) do update set kind = 'delivery', deleted_at = now(), since = excluded.since, step = 'queue', check_at = now();
  return null;
end;
$$;

-- Deliveries go with their lead, and are noted by the trigger above. The lead itself is noted for the sake of a delivery
-- that came straight from a producer and has no row yet.
create or replace function public.note_deleted_leads()
returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.webhook_deletions (id, kind) select d.id, 'lead' from deleted d
  on conflict (id) do update set deleted_at = now();
  return null;
end;
$$;

create or replace function public.note_deleted_endpoints()
returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.webhook_deletions (id, kind, step, check_at) select d.id, 'endpoint', 'queue', now() from deleted d
  on conflict (id) do update set deleted_at = now(), step = 'queue', check_at = now(),
    before_at = default, before_id = default;
  return null;
end;
$$;

create or replace trigger webhook_deliveries_deleted after delete on public.webhook_deliveries
  referencing old table as deleted for each statement execute function public.note_deleted_deliveries();
create or replace trigger leads_deleted after delete on public.leads
  referencing old table as deleted for each statement execute function public.note_deleted_leads();
create or replace trigger webhook_endpoints_deleted after delete on public.webhook_endpoints
  referencing old table as deleted for each statement execute function public.note_deleted_endpoints();

-- What the retry-scheduler has to take out of the queue now, the longest due first; and one row of step `letters` if there are
-- dead letters to search for. `is_kept`: the delivery's row is still there. `is_new`: the request that created it may be
-- about to enqueue it.
create or replace function public.deletions_due(page_size integer)
returns table (id uuid, kind text, step text, is_kept boolean, is_new boolean)
language sql stable security invoker set search_path = '' set enable_seqscan = off set statement_timeout = '8s' as $$
  select d.id, d.kind, d.step, exists (select from public.webhook_deliveries w where w.id = d.id),
    coalesce(d.since > now() - interval '10 seconds', false)
  from (
    (select * from public.webhook_deletions q where q.step = 'queue' and q.check_at <= now() order by q.check_at limit page_size)
    union all
    (select * from public.webhook_deletions l where l.step = 'letters' and l.check_at <= now() limit 1)
  ) d;
$$;

-- The deliveries whose dead letters are to be searched for, in one row, and the time before which none of them existed (null:
-- unknown). A search reads all letters since then, so it is made for many at once.
create or replace function public.letters_due(most integer)
returns table (ids uuid[], since timestamptz)
language sql stable security invoker set search_path = '' set enable_seqscan = off set statement_timeout = '8s' as $$
  select coalesce(array_agg(d.id), '{}'), case when bool_and(d.since > '-infinity') then min(d.since) end
  from (select l.id, l.since from public.webhook_deletions l
    where l.step = 'letters' and l.check_at <= now() order by l.check_at limit most) d;
$$;

-- Ends a page of the unfinished deliveries of a deleted endpoint and notes them, and a page of those that failed, for the
-- search through Redis. A request that had looked the endpoint up before it was deleted may still create a delivery, so it
-- is called for another half minute. Returns whether there is more to do at once.
create or replace function public.cancel_deliveries_of_deleted_endpoint(endpoint uuid, page_size integer)
returns boolean language plpgsql security invoker
set search_path = '' set enable_seqscan = off set lock_timeout = '1s' set statement_timeout = '8s' as $$
declare
  deletion public.webhook_deletions;
  unfinished integer;
  failed integer;
  last_at timestamptz;
  last_id uuid;
begin
  select * into deletion from public.webhook_deletions d
    where d.id = endpoint and d.kind = 'endpoint' and d.check_at is not null for update skip locked;
  if not found then return false; end if;

  with ended as (
    update public.webhook_deliveries d set status = 'cancelled', last_error = 'the endpoint was deleted',
      next_retry_at = null, updated_at = now()
    where d.id in (select u.id from public.webhook_deliveries u
      where u.endpoint_id = endpoint and u.status in ('pending', 'sent') limit page_size)
      and d.status in ('pending', 'sent')
    returning d.id, d.created_at
  ), noted as (
    insert into public.webhook_deletions (id, kind, since, step, check_at)
    select e.id, 'delivery', e.created_at, 'queue', now() from ended e
    on conflict (id) do update set step = 'queue', check_at = now()
  )
  select count(*) into unfinished from ended;

  with page as (
    select d.id, d.created_at from public.webhook_deliveries d
    where d.endpoint_id = endpoint and d.status = 'failed'
      and (d.created_at, d.id) < (deletion.before_at, deletion.before_id)
    order by d.created_at desc, d.id desc limit page_size
  ), noted as (
    insert into public.webhook_deletions (id, kind, since, step, check_at)
    select p.id, 'delivery', p.created_at, 'queue', now() from page p
    on conflict (id) do update set step = 'queue', check_at = now()
  )
  select count(*), (array_agg(p.created_at order by p.created_at, p.id))[1], (array_agg(p.id order by p.created_at, p.id))[1]
  into failed, last_at, last_id from page p;

  update public.webhook_deletions d set before_at = coalesce(last_at, d.before_at), before_id = coalesce(last_id, d.before_id),
    check_at = case when unfinished = page_size or failed = page_size then d.check_at
      when d.deleted_at > now() - interval '30 seconds' then now() + interval '1 second' end,
    step = case when unfinished = page_size or failed = page_size or d.deleted_at > now() - interval '30 seconds' then 'queue' end
  where d.id = endpoint;
  return unfinished = page_size or failed = page_size;
end;
$$;

-- Those of the deliveries that are to be sent. Asked while they are held in Redis, so that it stays true.
create or replace function public.unfinished_of(ids uuid[])
returns table (id uuid)
language sql stable security invoker set search_path = '' set enable_seqscan = off set statement_timeout = '8s' as $$
  select d.id from public.webhook_deliveries d where d.id = any (ids) and d.status in ('pending', 'sent');
$$;

-- The queue no longer holds `cleared`; an attempt of `running` is under way or not recorded yet, so these are looked at again.
-- A few are looked at for some seconds more, so that what was on its way at the first look is found too.
create or replace function public.deletions_checked(cleared uuid[], running uuid[])
returns void language plpgsql security invoker
set search_path = '' set enable_seqscan = off set lock_timeout = '1s' set statement_timeout = '8s' as $$
begin
  delete from public.webhook_deletions d where d.id = any (cleared) and d.kind = 'cancelled';
  update public.webhook_deletions d
  set step = case when d.id = any (running) or (d.deleted_at > now() - interval '5 seconds' and cardinality(cleared) < 200)
      then 'queue' else 'letters' end,
    check_at = case when d.id = any (running) then now() + interval '1 second' else now() end
  where d.id = any (cleared || running) and d.step = 'queue';
end;
$$;

-- No dead letter of these was left; when they are few, in several searches.
create or replace function public.letters_done(ids uuid[])
returns void language sql security invoker
set search_path = '' set enable_seqscan = off set lock_timeout = '1s' set statement_timeout = '8s' as $$
  update public.webhook_deletions d set step = null, check_at = null
  where d.id = any (ids) and d.step = 'letters' and (cardinality(ids) >= 200 or d.check_at < now() - interval '3 seconds');
$$;

-- Forgets deletions whose work was done a week ago, at most 10,000 per call. Returns their number.
create or replace function public.forget_deletions()
returns integer language plpgsql security invoker
set search_path = '' set enable_seqscan = off set lock_timeout = '1s' set statement_timeout = '8s' as $$
declare
  forgotten integer;
begin
  delete from public.webhook_deletions d where d.id in (
    select o.id from public.webhook_deletions o
    where o.check_at is null and o.kind <> 'endpoint' and o.deleted_at < now() - interval '7 days' limit 10000
  );
  get diagnostics forgotten = row_count;
  return forgotten;
end;
$$;

-- Prepares a delivery to be sent again: the next attempt number, a retry schedule that starts over, status pending. Returns
-- no row when the delivery does not exist, when its endpoint was deleted, or, with `only_failed`, when it is not failed.
-- The number is read after the row is locked: an attempt that is recorded meanwhile would otherwise have the same one, and
-- a row that waits for an attempt which is in the log already would be sent for ever.
drop function if exists public.restart_delivery(uuid, integer);
create or replace function public.restart_delivery(delivery_id uuid, schedule_length integer, only_failed boolean default false)
returns setof public.webhook_deliveries language plpgsql security invoker set search_path = '' set lock_timeout = '1s' as $$
declare
  present public.webhook_deliveries;
  next_attempt integer;
begin
  select * into present from public.webhook_deliveries d where d.id = restart_delivery.delivery_id for update;
  if not found or (only_failed and present.status <> 'failed')
    or exists (select from public.webhook_deletions e where e.id = present.endpoint_id) then
    return;
  end if;
  select greatest(coalesce(max(l.attempt_number), 0) + 1,
    present.attempt + case when present.status in ('sent', 'success', 'failed') then 1 else 0 end)
  into next_attempt from public.webhook_delivery_logs l where l.delivery_id = restart_delivery.delivery_id;
  delete from public.webhook_deletions c where c.id = restart_delivery.delivery_id;
  return query
  update public.webhook_deliveries d set
    status = 'pending', attempt = next_attempt, schedule_start = next_attempt,
    max_attempts = next_attempt + schedule_length - 1, next_retry_at = null, updated_at = now()
  where d.id = restart_delivery.delivery_id
  returning d.*;
end;
$$;

-- Marks a delivery cancelled unless it is finished. Returns its row, changed or not; no row when it does not exist. The caller
-- holds the delivery in Redis and takes it out afterwards; the note is for the case that it does not get there.
create or replace function public.cancel_delivery(delivery_id uuid)
returns setof public.webhook_deliveries language plpgsql security invoker set search_path = '' set lock_timeout = '1s' as $$
begin
  update public.webhook_deliveries d set status = 'cancelled', next_retry_at = null, updated_at = now()
  where d.id = cancel_delivery.delivery_id and d.status in ('pending', 'sent');
  if found then
    insert into public.webhook_deletions (id, kind, step, check_at)
    values (cancel_delivery.delivery_id, 'cancelled', 'queue', now() + interval '3 seconds')
    on conflict (id) do update set step = 'queue', check_at = excluded.check_at;
  end if;
  return query select * from public.webhook_deliveries d where d.id = cancel_delivery.delivery_id;
end;
$$;

-- Records attempts, `{"attempts": [...], "count": n}`: their log rows, the deliveries' new state and, on success, the leads'
-- status. An entry that came straight from a producer brings its delivery along, in `delivery`, and the row is made first,
-- unless the delivery or its lead was deleted meanwhile. Only an attempt that this call has written to the log has any
-- effect: what was recorded before must not undo what has happened since. A late attempt never moves a row backwards, and a
-- success counts whenever it comes. Returns the ids of deliveries that do not exist.
create or replace function public.record_attempts(text)
-- A row that somebody else has locked fails its batch after a second, so that the recorder can go on without it.
returns setof uuid language plpgsql security invoker
set search_path = '' set enable_seqscan = off set lock_timeout = '1s' as $$
declare
  batch constant jsonb := $1;
  attempts constant jsonb := batch -> 'attempts';
begin
  -- The caller joins the texts unread. A text that is not a record must not swallow those beside it.
  if jsonb_array_length(attempts) is distinct from (batch ->> 'count')::integer then
    raise exception 'the batch holds % attempts and not %', jsonb_array_length(attempts), batch ->> 'count';
  end if;

  if jsonb_path_exists(attempts, '$[*].delivery') then
    -- A delivery whose lead was deleted before it had a row: its copies in Redis are searched for, as if the row had been there.
    if exists (select from public.webhook_deletions x where x.check_at is null and x.kind <> 'endpoint') then
      insert into public.webhook_deletions (id, kind, since, step, check_at)
      select distinct a.delivery_id, 'delivery', '-infinity'::timestamptz, 'queue', now()
      from jsonb_to_recordset(attempts) as a (delivery_id uuid, delivery jsonb)
      join public.webhook_deletions l on l.id = (a.delivery ->> 'lead_id')::uuid
      where a.delivery_id is not null
      on conflict (id) do nothing;
    end if;

    -- Inserted in the state that its attempt leads to, so that the update below skips it and no index is written twice.
    with made as (
      insert into public.webhook_deliveries as w (id, lead_id, client_id, endpoint_id, event, format, webhook_url, payload,
        secret, headers, attempt, max_attempts, schedule_start, created_at, status, response_status, response_body,
        last_error, sent_at, next_retry_at, signature)
      select a.delivery_id, (select l.id from public.leads l where l.id = d.lead_id), d.client_id, d.endpoint_id, d.event,
        d.format, d.webhook_url, coalesce(d.payload_text, d.payload)::json, d.secret, d.headers, a.attempt, d.max_attempts, d.schedule_start, d.created_at,
        a.status, a.response_status, a.response_body, a.error, a.attempted_at, a.retry_at, a.signature
      from (
        select distinct on (a.delivery_id) a.*
        from jsonb_to_recordset(attempts) as a (delivery_id uuid, attempt integer, delivery jsonb, status text,
          response_status integer, response_body text, error text, attempted_at timestamptz, retry_at timestamptz, signature text)
        where a.delivery is not null
        order by a.delivery_id, (a.status = 'success') desc, a.attempt desc
      ) a
      cross join lateral jsonb_to_record(a.delivery) as d (lead_id uuid, client_id uuid, endpoint_id uuid, event text,
        format text, webhook_url text, payload text, payload_text text, secret text, headers text, max_attempts integer, schedule_start integer,
        created_at timestamptz)
      where not exists (select from public.webhook_deletions x where x.id = a.delivery_id and x.kind <> 'cancelled')
      on conflict (id) do nothing
      returning w.endpoint_id, w.status
    )
    -- If its endpoint was deleted before the row was there, the endpoint's deliveries are searched once more.
    update public.webhook_deletions e set step = 'queue', check_at = now(), before_at = default, before_id = default
    from made where made.status = 'sent' and e.id = made.endpoint_id;
  end if;

  return query
  with attempt as materialized (
    select a.*, d.id is not null as is_known, d.lead_id
    from jsonb_to_recordset(attempts) as a (delivery_id uuid, attempt integer, attempted_at timestamptz,
      duration_ms integer, status text, response_status integer, response_body text, response_headers jsonb, error text,
      error_type text, retry_at timestamptz, signature text, disable_endpoint uuid, answered_url text)
    -- `offset 0` keeps this a look-up per attempt, whatever size the planner takes the table to have.
    left join lateral (
      select w.id, w.lead_id from public.webhook_deliveries w where w.id = a.delivery_id offset 0
    ) d on true
  ), chosen as materialized (
    -- An attempt that names no delivery is refused below, because the column is not null.
    select distinct on (delivery_id, attempt) * from attempt where is_known or delivery_id is null
    order by delivery_id, attempt, (status = 'success') desc
  ), logged as (
    insert into public.webhook_delivery_logs as l (delivery_id, attempt_number, attempted_at, duration_ms, response_status,
      response_body, response_headers, error, error_type, will_retry, retry_at)
    select delivery_id, attempt, attempted_at, duration_ms, response_status, response_body, response_headers, error,
      error_type, status = 'sent', retry_at
    from chosen
    -- If a dispatcher stalled, two may have sent the same attempt. Then a success counts.
    on conflict (delivery_id, attempt_number) do update set
      attempted_at = excluded.attempted_at, duration_ms = excluded.duration_ms, response_status = excluded.response_status,
      response_body = excluded.response_body, response_headers = excluded.response_headers, error = null, error_type = null,
      will_retry = false, retry_at = null
      where l.error is not null and excluded.error is null
    returning l.delivery_id, l.attempt_number
  ), written as (
    select c.* from chosen c join logged l on l.delivery_id = c.delivery_id and l.attempt_number = c.attempt
  ), latest as (
    select distinct on (w.delivery_id) w.* from written w order by w.delivery_id, (w.status = 'success') desc, w.attempt desc
  ), recorded as (
    update public.webhook_deliveries d set
      status = a.status, attempt = greatest(d.attempt, a.attempt), response_status = a.response_status,
      response_body = a.response_body, last_error = a.error, sent_at = a.attempted_at, next_retry_at = a.retry_at,
      signature = coalesce(a.signature, d.signature), updated_at = now()
    from latest a
    where d.id = a.delivery_id
      and (a.status = 'success' or (d.status not in ('success', 'cancelled') and a.attempt >= d.attempt))
      and (d.status, d.attempt) is distinct from (a.status, a.attempt)
  ), told as (
    update public.leads l set status = 'webhook_sent', updated_at = now()
    from (select distinct lead_id from latest where status = 'success' and lead_id is not null) a
    where l.id = a.lead_id and l.status is distinct from 'webhook_sent'
  ), disabled as (
    -- A record of the version before does not say which URL answered.
    update public.webhook_endpoints e set active = false, disabled_reason = 'the receiver answered 410 Gone', updated_at = now()
    from written a where e.id = a.disable_endpoint and e.active and e.url = coalesce(a.answered_url, e.url)
  )
  select distinct delivery_id from attempt where not is_known;
end;
$$;

-- Records one attempt that `record_attempts` refuses for good: its row and its log entry without anything that came from
-- outside, and nothing of leads and endpoints. What may fail is tried by itself; what must not is the row's state, because a
-- row that stayed pending would be sent again. Attempt and status may be missing from a record that could not be read.
create or replace function public.close_attempt(text)
returns void language plpgsql security invoker set search_path = '' set lock_timeout = '1s' set statement_timeout = '8s' as $$
declare
  given constant jsonb := $1;
  wanted_id constant uuid := given ->> 'delivery_id';
  number constant integer := given ->> 'attempt';
  state constant text := case when given ->> 'status' in ('success', 'sent', 'failed') then given ->> 'status' else 'failed' end;
  delivery constant jsonb := given -> 'delivery';
  sent constant text := coalesce(delivery ->> 'payload_text', delivery ->> 'payload');
  body json;
begin
  if jsonb_typeof(delivery) = 'object' and not exists (
    select from public.webhook_deletions x
    where x.kind <> 'cancelled' and (x.id = wanted_id or x.id::text = lower(delivery ->> 'lead_id'))
  ) then
    begin
      body := sent;
    exception when others then body := to_json(sent);
    end;
    begin
      insert into public.webhook_deliveries (id, event, format, webhook_url, payload, attempt, max_attempts, status)
      values (wanted_id, delivery ->> 'event', delivery ->> 'format', delivery ->> 'webhook_url',
        body, coalesce(number, 1), coalesce((delivery ->> 'max_attempts')::integer, 4), 'pending')
      on conflict (id) do nothing;
    exception when lock_not_available then raise; when others then null;
    end;
  end if;

  begin
    insert into public.webhook_delivery_logs (delivery_id, attempt_number, attempted_at, duration_ms, response_status, error,
      error_type, will_retry, retry_at)
    values (wanted_id, number, (given ->> 'attempted_at')::timestamptz, (given ->> 'duration_ms')::integer,
      (given ->> 'response_status')::integer, given ->> 'error', given ->> 'error_type', state = 'sent',
      (given ->> 'retry_at')::timestamptz)
    on conflict (delivery_id, attempt_number) do nothing;
  exception when lock_not_available then raise; when others then null;
  end;

  update public.webhook_deliveries d set
    status = state, attempt = greatest(d.attempt, number), response_status = (given ->> 'response_status')::integer,
    last_error = given ->> 'error', sent_at = (given ->> 'attempted_at')::timestamptz,
    next_retry_at = (given ->> 'retry_at')::timestamptz, updated_at = now()
  where d.id = wanted_id
    and (state = 'success' or (d.status in ('pending', 'sent') and coalesce(number, d.attempt) >= d.attempt));
end;
$$;

-- Rows that an earlier version restarted under the number of an attempt that was recorded at the same time: they take over
-- what the log says of that attempt.
update public.webhook_deliveries d set
  status = case when l.error is null then 'success' else 'failed' end, response_status = l.response_status,
  last_error = l.error, sent_at = l.attempted_at, updated_at = now()
from public.webhook_delivery_logs l
where d.status = 'pending' and l.delivery_id = d.id and l.attempt_number = d.attempt and not l.will_retry;

do $$
declare
  signature text;
begin
  foreach signature in array array['deletions_due(integer)', 'cancel_deliveries_of_deleted_endpoint(uuid, integer)',
    'letters_due(integer)', 'unfinished_of(uuid[])',
    'cancel_delivery(uuid)',
    'deletions_checked(uuid[], uuid[])', 'letters_done(uuid[])', 'forget_deletions()',
    'restart_delivery(uuid, integer, boolean)', 'record_attempts(text)', 'close_attempt(text)']
  loop
    execute format('revoke execute on function public.%s from public, anon, authenticated', signature);
    execute format('grant execute on function public.%s to service_role', signature);
  end loop;
end $$;
revoke execute on function public.note_deleted_deliveries(), public.note_deleted_leads(), public.note_deleted_endpoints()
  from public, anon, authenticated;
