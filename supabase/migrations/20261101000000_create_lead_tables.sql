-- The product's own tables, in the minimal form the pipeline needs, and only where they are missing.

create table if not exists public.clients (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  created_at timestamptz not null default now()
);

-- Which client a signed-in user belongs to; `id` is auth.uid().
create table if not exists public.users (
  id uuid primary key default gen_random_uuid(),
  client_id uuid references public.clients (id) on delete cascade,
  email text,
  created_at timestamptz not null default now()
);

create table if not exists public.lead_magnets (
  id uuid primary key default gen_random_uuid(),
  client_id uuid references public.clients (id) on delete cascade,
  name text not null,
  created_at timestamptz not null default now()
);

create table if not exists public.campaigns (
  id uuid primary key default gen_random_uuid(),
  client_id uuid references public.clients (id) on delete cascade,
  name text not null,
  lead_magnet_id uuid references public.lead_magnets (id) on delete set null,
  created_at timestamptz not null default now()
);

create table if not exists public.leads (
  id uuid primary key default gen_random_uuid(),
  campaign_id uuid references public.campaigns (id) on delete cascade,
  email text,
  first_name text,
  last_name text,
  linkedin_id text,
  linkedin_url text,
  company text,
  title text,
  source text default 'manual',
  status text default 'email_captured',
  custom_fields jsonb default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

alter table public.campaigns add column if not exists lead_magnet_id uuid references public.lead_magnets (id) on delete set null;
alter table public.leads add column if not exists custom_fields jsonb default '{}';
alter table public.leads add column if not exists updated_at timestamptz not null default now();

alter table public.clients enable row level security;
alter table public.users enable row level security;
alter table public.lead_magnets enable row level security;
alter table public.campaigns enable row level security;
alter table public.leads enable row level security;
