-- The services' writes. Each call is one transaction for a whole batch and changes nothing when it is repeated.

-- Creates deliveries. Result per item, in order: `created` (also on a repeat of the same call), `existing` (same idempotency
-- key, same request) or `conflict` (same key, another request), with the delivery's row as it is now.
create or replace function public.create_deliveries(deliveries jsonb)
returns table ("position" bigint, outcome text, id uuid, lead_id uuid, webhook_url text, status text, attempt integer)
language plpgsql security invoker set search_path = '' as $$
#variable_conflict use_column
begin
  insert into public.webhook_deliveries (id, lead_id, client_id, endpoint_id, event, format, webhook_url, payload, secret,
    headers, max_attempts, idempotency_key, request_hash)
  select i.id, i.lead_id, i.client_id, i.endpoint_id, i.event, i.format, i.webhook_url, i.payload::jsonb, i.secret,
    i.headers, i.max_attempts, i.idempotency_key, i.request_hash
  from rows from (jsonb_to_recordset(deliveries) as (id uuid, lead_id uuid, client_id uuid, endpoint_id uuid, event text,
    format text, webhook_url text, payload text, secret text, headers text, max_attempts integer, idempotency_key text,
    request_hash text)) with ordinality as i
  -- Calls side by side meet shared keys in one order, so they cannot deadlock; within a call a key's first item wins.
  order by i.idempotency_key, i.ordinality
  on conflict do nothing;

  return query
  select i.position,
    case when d.id = (i.item ->> 'id')::uuid then 'created'
      when d.request_hash is not distinct from i.item ->> 'request_hash' then 'existing'
      else 'conflict' end,
    d.id, d.lead_id, d.webhook_url, d.status, d.attempt
  from jsonb_array_elements(deliveries) with ordinality as i (item, position)
  cross join lateral (
    select * from public.webhook_deliveries w where w.id = (i.item ->> 'id')::uuid
    union all
    select * from public.webhook_deliveries w
      where w.idempotency_key = i.item ->> 'idempotency_key' and w.id <> (i.item ->> 'id')::uuid
    limit 1
  ) d
  order by i.position;
end;
$$;

-- Records attempts: their log rows, the deliveries' new state and, on success, the leads' status. An entry that came
-- straight from a producer brings its delivery along, in `delivery`, and the row is made first. A late or repeated batch
-- never moves a row backwards. Returns the ids of deliveries that no longer exist (deleted with their lead).
create or replace function public.record_attempts(attempts jsonb)
-- A row that somebody else has locked fails its batch after a second, so that the recorder can go on without it.
returns setof uuid language plpgsql security invoker set search_path = '' set lock_timeout = '1s' as $$
begin
  -- Inserted in the state that its attempt leads to, so that the update below skips it and no index is written twice.
  insert into public.webhook_deliveries (id, lead_id, client_id, endpoint_id, event, format, webhook_url, payload, secret,
    headers, attempt, max_attempts, schedule_start, created_at, status, response_status, response_body, last_error, sent_at,
    next_retry_at, signature)
  select distinct on (a.delivery_id) a.delivery_id, l.id, d.client_id, d.endpoint_id, d.event, d.format, d.webhook_url,
    d.payload::jsonb, d.secret, d.headers, a.attempt, d.max_attempts, d.schedule_start, d.created_at, a.status,
    a.response_status, a.response_body, a.error, a.attempted_at, a.retry_at, a.signature
  from jsonb_to_recordset(attempts) as a (delivery_id uuid, attempt integer, delivery jsonb, status text,
    response_status integer, response_body text, error text, attempted_at timestamptz, retry_at timestamptz, signature text)
  cross join lateral jsonb_to_record(a.delivery) as d (lead_id uuid, client_id uuid, endpoint_id uuid, event text,
    format text, webhook_url text, payload text, secret text, headers text, max_attempts integer, schedule_start integer,
    created_at timestamptz)
  left join public.leads l on l.id = d.lead_id
  where a.delivery is not null
  order by a.delivery_id, (a.status = 'success') desc, a.attempt desc
  on conflict (id) do nothing;

  with attempt as materialized (
    select a.* from jsonb_to_recordset(attempts) as a (delivery_id uuid, attempt integer, attempted_at timestamptz,
      duration_ms integer, status text, response_status integer, response_body text, response_headers jsonb, error text,
      error_type text, retry_at timestamptz, signature text, disable_endpoint uuid)
    where exists (select from public.webhook_deliveries d where d.id = a.delivery_id)
  ), logged as (
    insert into public.webhook_delivery_logs as l (delivery_id, attempt_number, attempted_at, duration_ms, response_status,
      response_body, response_headers, error, error_type, will_retry, retry_at)
    select distinct on (delivery_id, attempt) delivery_id, attempt, attempted_at, duration_ms, response_status,
      response_body, response_headers, error, error_type, status = 'sent', retry_at
    from attempt order by delivery_id, attempt, (status = 'success') desc
    -- If a dispatcher stalled, two may have sent the same attempt. Then a success counts.
    on conflict (delivery_id, attempt_number) do update set
      attempted_at = excluded.attempted_at, duration_ms = excluded.duration_ms, response_status = excluded.response_status,
      response_body = excluded.response_body, response_headers = excluded.response_headers, error = null, error_type = null,
      will_retry = false, retry_at = null
      where l.error is not null and excluded.error is null
    returning l.delivery_id, l.attempt_number
  ), latest as (
    select distinct on (a.delivery_id) a.* from attempt a
    join logged l on l.delivery_id = a.delivery_id and l.attempt_number = a.attempt
    order by a.delivery_id, (a.status = 'success') desc, a.attempt desc
  ), recorded as (
    update public.webhook_deliveries d set
      status = a.status, attempt = greatest(d.attempt, a.attempt), response_status = a.response_status,
      response_body = a.response_body, last_error = a.error, sent_at = a.attempted_at, next_retry_at = a.retry_at,
      signature = coalesce(a.signature, d.signature), updated_at = now()
    from latest a
    where d.id = a.delivery_id
      and (a.status = 'success' or (d.status not in ('success', 'cancelled') and a.attempt >= d.attempt))
      and (d.status, d.attempt) is distinct from (a.status, a.attempt)
  ), disabled as (
    update public.webhook_endpoints e set active = false, disabled_reason = 'the receiver answered 410 Gone', updated_at = now()
    from attempt a where e.id = a.disable_endpoint and e.active
  )
  update public.leads l set status = 'webhook_sent', updated_at = now()
  from (select distinct d.lead_id from latest a join public.webhook_deliveries d on d.id = a.delivery_id
        where a.status = 'success' and d.lead_id is not null) r
  where l.id = r.lead_id and l.status is distinct from 'webhook_sent';

  return query
  select distinct a.delivery_id from jsonb_to_recordset(attempts) as a (delivery_id uuid)
  where not exists (select from public.webhook_deliveries d where d.id = a.delivery_id);
end;
$$;

-- A page of deliveries that should have moved on before `overdue_at` and have not, in id order after `after_id`. What has
-- not moved for a week is left to a person: on a database taken over from an older worker it may be months old.
create or replace function public.unfinished_deliveries(overdue_at timestamptz, after_id uuid, page_size integer)
returns setof public.webhook_deliveries language sql stable security invoker set search_path = '' as $$
  select * from public.webhook_deliveries d
  where d.status in ('pending', 'sent') and d.id > after_id
    and greatest(d.next_retry_at, d.updated_at) < overdue_at
    and greatest(d.next_retry_at, d.updated_at) > now() - interval '7 days'
  order by d.id limit page_size;
$$;

-- Prepares a delivery to be sent again: the next attempt number, a retry schedule that starts over, status pending.
-- Returns no row when the delivery does not exist.
create or replace function public.restart_delivery(delivery_id uuid, schedule_length integer)
returns setof public.webhook_deliveries language plpgsql security invoker set search_path = '' as $$
begin
  return query
  update public.webhook_deliveries d set
    status = 'pending', attempt = n.attempt, schedule_start = n.attempt, max_attempts = n.attempt + schedule_length - 1,
    next_retry_at = null, updated_at = now()
  from (select coalesce(max(l.attempt_number), 0) + 1 as attempt from public.webhook_delivery_logs l
        where l.delivery_id = restart_delivery.delivery_id) n
  where d.id = restart_delivery.delivery_id
  returning d.*;
end;
$$;

-- Marks a delivery cancelled unless it is finished. Returns its row, changed or not; no row when it does not exist.
create or replace function public.cancel_delivery(delivery_id uuid)
returns setof public.webhook_deliveries language plpgsql security invoker set search_path = '' as $$
begin
  update public.webhook_deliveries d set status = 'cancelled', next_retry_at = null, updated_at = now()
  where d.id = cancel_delivery.delivery_id and d.status in ('pending', 'sent');
  return query select * from public.webhook_deliveries d where d.id = cancel_delivery.delivery_id;
end;
$$;

-- Deliveries per status: all of them, and those that were updated in the last 24 hours.
create or replace function public.delivery_stats()
returns table (status text, total bigint, last_24_hours bigint)
language sql stable security invoker set search_path = '' as $$
  select d.status, count(*), count(*) filter (where d.updated_at > now() - interval '24 hours')
  from public.webhook_deliveries d group by d.status;
$$;

-- The leads of a batch of requests, with the facts of their campaigns that payloads contain.
create or replace function public.leads_for_delivery(lead_ids uuid[])
returns table (id uuid, email text, first_name text, last_name text, linkedin_id text, linkedin_url text, company text,
  title text, source text, custom_fields jsonb, captured_at timestamptz, campaign_id uuid, campaign_name text,
  lead_magnet_name text, client_id uuid)
language sql stable security invoker set search_path = '' as $$
  select l.id, l.email, l.first_name, l.last_name, l.linkedin_id, l.linkedin_url, l.company, l.title, l.source,
    l.custom_fields, l.created_at, c.id, c.name, m.name, c.client_id
  from public.leads l
  left join public.campaigns c on c.id = l.campaign_id
  left join public.lead_magnets m on m.id = c.lead_magnet_id
  where l.id = any (lead_ids);
$$;
