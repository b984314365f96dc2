-- Deliveries, their attempts and the clients' endpoints: on an empty database, or over the product's older tables.

create table if not exists public.webhook_endpoints (
  id uuid primary key default gen_random_uuid(),
  client_id uuid references public.clients (id) on delete cascade,
  url text not null,
  name text,
  type text,
  secret text,
  active boolean default true,
  last_tested_at timestamptz,
  last_test_status integer,
  headers jsonb,
  format text,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);
alter table public.webhook_endpoints alter column secret drop not null;
alter table public.webhook_endpoints add column if not exists disabled_reason text;

create table if not exists public.webhook_deliveries (
  id uuid primary key default gen_random_uuid(),
  lead_id uuid references public.leads (id) on delete cascade,
  webhook_url text,
  payload jsonb not null,
  signature text,
  status text not null default 'pending',
  attempt integer not null default 1,
  max_attempts integer not null default 4,
  response_status integer,
  response_body text,
  last_error text,
  sent_at timestamptz,
  next_retry_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
alter table public.webhook_deliveries
  add column if not exists lead_id uuid references public.leads (id) on delete cascade,
  add column if not exists webhook_url text,
  add column if not exists signature text,
  add column if not exists attempt integer not null default 1,
  add column if not exists max_attempts integer not null default 4,
  add column if not exists response_status integer,
  add column if not exists response_body text,
  add column if not exists last_error text,
  add column if not exists sent_at timestamptz,
  add column if not exists next_retry_at timestamptz,
  add column if not exists created_at timestamptz not null default now(),
  add column if not exists updated_at timestamptz not null default now(),
  add column if not exists client_id uuid,
  add column if not exists endpoint_id uuid,
  add column if not exists event text,
  add column if not exists format text,
  -- Sealed with AES-256-GCM by the services; never readable with a user's key.
  add column if not exists secret text,
  add column if not exists headers text,
  -- The attempt at which the running retry schedule began: 1, or later after a manual retry.
  add column if not exists schedule_start integer not null default 1,
  add column if not exists idempotency_key text,
  add column if not exists request_hash text;

-- Older forms demanded a lead and a signature from every row, allowed fewer states, and one kept the response as JSON.
alter table public.webhook_deliveries
  alter column lead_id drop not null,
  alter column webhook_url drop not null,
  alter column signature drop not null,
  alter column response_body type text using response_body::text;
update public.webhook_deliveries set status = coalesce(status, 'pending'), attempt = coalesce(attempt, 1), max_attempts = coalesce(max_attempts, 4)
  where status is null or attempt is null or max_attempts is null;
alter table public.webhook_deliveries
  alter column status set not null,
  alter column attempt set not null,
  alter column max_attempts set not null;
alter table public.webhook_deliveries drop constraint if exists webhook_deliveries_status_check;
alter table public.webhook_deliveries add constraint webhook_deliveries_status_check
  check (status in ('pending', 'sent', 'success', 'failed', 'cancelled'));

update public.webhook_deliveries d set client_id = c.client_id
  from public.leads l join public.campaigns c on c.id = l.campaign_id
  where d.client_id is null and l.id = d.lead_id and c.client_id is not null;

create table if not exists public.webhook_delivery_logs (
  id uuid primary key default gen_random_uuid(),
  delivery_id uuid not null references public.webhook_deliveries (id) on delete cascade,
  attempt_number integer not null,
  attempted_at timestamptz not null default now(),
  duration_ms integer,
  response_status integer,
  response_body text,
  response_headers jsonb,
  error text,
  error_type text,
  will_retry boolean not null default false,
  retry_at timestamptz
);
alter table public.webhook_delivery_logs add column if not exists duration_ms integer;
alter table public.webhook_delivery_logs drop constraint if exists webhook_delivery_logs_error_type_check;

-- The old worker could log one attempt twice; number those attempts in their order so that the pair becomes unique.
with duplicated as (
  select distinct delivery_id from public.webhook_delivery_logs group by delivery_id, attempt_number having count(*) > 1
), numbered as (
  select id, row_number() over (partition by delivery_id order by attempt_number, attempted_at, id) as position
  from public.webhook_delivery_logs where delivery_id in (select delivery_id from duplicated)
)
update public.webhook_delivery_logs l set attempt_number = n.position from numbered n where n.id = l.id;
create unique index if not exists webhook_delivery_logs_attempt on public.webhook_delivery_logs (delivery_id, attempt_number);
drop index if exists public.idx_webhook_delivery_logs_delivery;

-- Every index is paid for twice per delivery (insert, then update), so there is one per question the API asks and no more.
create unique index if not exists webhook_deliveries_idempotency_key on public.webhook_deliveries (idempotency_key)
  where idempotency_key is not null;
create index if not exists webhook_deliveries_unfinished on public.webhook_deliveries (id) where status in ('pending', 'sent');
create index if not exists webhook_deliveries_failed on public.webhook_deliveries (created_at) where status = 'failed';
create index if not exists webhook_deliveries_created on public.webhook_deliveries (created_at desc, id desc);
create index if not exists webhook_deliveries_lead on public.webhook_deliveries (lead_id) where lead_id is not null;
create index if not exists webhook_deliveries_endpoint on public.webhook_deliveries (endpoint_id, created_at desc) where endpoint_id is not null;
create index if not exists webhook_deliveries_client on public.webhook_deliveries (client_id) where client_id is not null;
drop index if exists public.idx_webhook_deliveries_lead, public.idx_webhook_deliveries_status,
  public.idx_webhook_deliveries_created, public.idx_webhook_deliveries_next_retry;
