-- Payloads as the text that was sent, and idempotency keys that outlive their deliveries.

-- jsonb prints other spaces and another order than it was given, keeps the last of two equal keys, writes 1e400 out and refuses
-- 1e200000. A retry that is built from a row must send the bytes of the first attempt, and json keeps them. Measured with batches
-- of 500 ordinary leads: 18 µs and 632 bytes per row; 23 µs and 747 bytes as jsonb; 25 µs and 1368 bytes with the text beside it.
-- This rewrites the table, during which nobody can use it: about a minute for five million rows.
do $$
begin
  if exists (select from pg_attribute where attrelid = 'public.webhook_deliveries'::regclass and attname = 'payload'
    and atttypid = 'jsonb'::regtype) then
    alter table public.webhook_deliveries alter column payload type json using payload::json;
  end if;
exception when feature_not_supported or undefined_object or undefined_function or datatype_mismatch then
  -- Something of the product's own (a view, an index, a check) needs jsonb. All functions work with either.
  raise warning 'webhook_deliveries.payload stays jsonb: %. What is sent again from a row is what jsonb prints.', sqlerrm;
end;
$$;

-- Of deliveries that were deleted (with their lead, or by a person), what a repeated request is answered with. Nothing of the
-- lead but its id: the key is hashed, because it may be an e-mail address, and the URL has lost its path.
create table if not exists public.webhook_idempotency_keys (
  key_hash bytea primary key,
  request_hash text,
  delivery_id uuid not null,
  lead_id uuid,
  webhook_url text,
  status text not null,
  attempt integer not null,
  deleted_at timestamptz not null default now()
);
create index if not exists webhook_idempotency_keys_deleted on public.webhook_idempotency_keys (deleted_at);
alter table public.webhook_idempotency_keys enable row level security;

create or replace function public.hash_of_key(key text)
returns bytea language sql immutable parallel safe as $$ select sha256(convert_to(key, 'UTF8')); $$;

-- Runs with its owner's rights, because whoever may delete a lead need not be able to write here.
create or replace function public.remember_idempotency_keys()
returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.webhook_idempotency_keys (key_hash, request_hash, delivery_id, lead_id, webhook_url, status, attempt)
  select public.hash_of_key(g.idempotency_key), g.request_hash, g.id, g.lead_id,
    substring(g.webhook_url from '^[A-Za-z]+://[^/?#]+') || case when g.webhook_url ~ '^[A-Za-z]+://[^/?#]+/?$' then '/' else '/***' end,
    case when g.status in ('success', 'failed') then g.status else 'cancelled' end, g.attempt
  -- Whoever deletes old rows does so for good: their keys are not worth a row of their own.
  from gone g where g.idempotency_key is not null and g.created_at > now() - interval '30 days'
  on conflict (key_hash) do update set request_hash = excluded.request_hash, delivery_id = excluded.delivery_id,
    lead_id = excluded.lead_id, webhook_url = excluded.webhook_url, status = excluded.status, attempt = excluded.attempt,
    deleted_at = excluded.deleted_at;
  -- Deletions side by side do not wait for one another here.
  delete from public.webhook_idempotency_keys where key_hash in (
    select k.key_hash from public.webhook_idempotency_keys k where k.deleted_at < now() - interval '30 days'
    limit 1000 for update skip locked);
  return null;
end;
$$;

drop trigger if exists remember_idempotency_keys on public.webhook_deliveries;
create trigger remember_idempotency_keys after delete on public.webhook_deliveries
  referencing old table as gone for each statement execute function public.remember_idempotency_keys();

-- The first delivery of an idempotency key, deleted or not; no row when the key is new.
create or replace function public.delivery_of_key(key text)
returns table (id uuid, request_hash text, lead_id uuid, webhook_url text, status text, attempt integer)
language sql stable security invoker set search_path = '' set enable_seqscan = off as $$
  select d.id, d.request_hash, d.lead_id, d.webhook_url, d.status, d.attempt
  from public.webhook_deliveries d where d.idempotency_key = key
  union all
  select k.delivery_id, k.request_hash, k.lead_id, k.webhook_url, k.status, k.attempt
  from public.webhook_idempotency_keys k
  where k.key_hash = public.hash_of_key(key) and k.deleted_at >= now() - interval '30 days'
  limit 1;
$$;

-- Creates deliveries: a JSON array. Returns nothing when all of them are new. Otherwise it returns a row per item, in order: `created`
-- (also on a repeat of the same call), `existing` (same idempotency key, same request) or `conflict` (same key, another
-- request), with the delivery's row as it is now.
create or replace function public.create_deliveries(text)
returns table ("position" bigint, outcome text, id uuid, lead_id uuid, webhook_url text, status text, attempt integer)
language plpgsql security invoker set search_path = '' set enable_seqscan = off as $$
#variable_conflict use_column
declare
  deliveries constant jsonb := $1;
  created integer;
begin
  insert into public.webhook_deliveries (id, lead_id, client_id, endpoint_id, event, format, webhook_url, payload,
    secret, headers, max_attempts, idempotency_key, request_hash)
  select i.id, i.lead_id, i.client_id, i.endpoint_id, i.event, i.format, i.webhook_url, i.payload::json,
    i.secret, i.headers, i.max_attempts, i.idempotency_key, i.request_hash
  from rows from (jsonb_to_recordset(deliveries) as (id uuid, lead_id uuid, client_id uuid, endpoint_id uuid, event text,
    format text, webhook_url text, payload text, secret text, headers text, max_attempts integer, idempotency_key text,
    request_hash text)) with ordinality as i
  -- The key of a deleted delivery makes no new one.
  where i.idempotency_key is null or not exists (
    select from public.webhook_idempotency_keys k
    where k.key_hash = public.hash_of_key(i.idempotency_key) and k.deleted_at >= now() - interval '30 days')
  -- Calls side by side meet shared keys in one order, so they cannot deadlock; within a call a key's first item wins.
  order by i.idempotency_key, i.ordinality
  on conflict do nothing;
  get diagnostics created = row_count;
  if created = jsonb_array_length(deliveries) then return; end if;

  return query
  select i.position,
    case when d.id = (i.item ->> 'id')::uuid then 'created'
      when d.request_hash is not distinct from i.item ->> 'request_hash' then 'existing'
      else 'conflict' end,
    d.id, d.lead_id, d.webhook_url, d.status, d.attempt
  from jsonb_array_elements(deliveries) with ordinality as i (item, position)
  cross join lateral (
    select w.id, w.request_hash, w.lead_id, w.webhook_url, w.status, w.attempt
      from public.webhook_deliveries w where w.id = (i.item ->> 'id')::uuid
    union all
    select * from public.delivery_of_key(i.item ->> 'idempotency_key')
    limit 1
  ) d
  order by i.position;
end;
$$;

-- For requests that cannot be carried out (any more), a JSON array of `idempotency_key` and `request_hash`: the first deliveries
-- of those keys that have one, as `create_deliveries` returns them.
create or replace function public.deliveries_of_keys(text)
returns table ("position" bigint, outcome text, id uuid, lead_id uuid, webhook_url text, status text, attempt integer)
language sql stable security invoker set search_path = '' set enable_seqscan = off as $$
  select i.position,
    case when d.request_hash is not distinct from i.item ->> 'request_hash' then 'existing' else 'conflict' end,
    d.id, d.lead_id, d.webhook_url, d.status, d.attempt
  from jsonb_array_elements($1::jsonb) with ordinality as i (item, position)
  cross join lateral public.delivery_of_key(i.item ->> 'idempotency_key') d
  order by i.position;
$$;

revoke all on public.webhook_idempotency_keys from anon, authenticated;
grant all on public.webhook_idempotency_keys to service_role;
revoke execute on function public.remember_idempotency_keys(), public.hash_of_key(text), public.delivery_of_key(text),
  public.deliveries_of_keys(text), public.create_deliveries(text)
  from public, anon, authenticated;
grant execute on function public.hash_of_key(text), public.delivery_of_key(text), public.deliveries_of_keys(text),
  public.create_deliveries(text)
  to service_role;
