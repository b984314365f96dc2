-- Who may read and write what. The services use the service role, which bypasses row level security and needs no policy.
-- Signed-in users read their own client's rows, without secrets; nobody else reads anything.

alter table public.webhook_deliveries enable row level security;
alter table public.webhook_delivery_logs enable row level security;
alter table public.webhook_endpoints enable row level security;

-- The older "service role can ..." policies named no role and so let everyone insert and update.
do $$
declare policy record;
begin
  for policy in select policyname, tablename from pg_policies where schemaname = 'public'
    and tablename in ('webhook_deliveries', 'webhook_delivery_logs', 'webhook_endpoints')
  loop
    execute format('drop policy %I on public.%I', policy.policyname, policy.tablename);
  end loop;
end $$;

-- Runs with its owner's rights, so that the policies below do not depend on who may read public.users.
create or replace function public.current_client_ids()
returns setof uuid language sql stable security definer set search_path = '' as $$
  select client_id from public.users where id = (select auth.uid()) and client_id is not null;
$$;
revoke execute on function public.current_client_ids() from public, anon;
grant execute on function public.current_client_ids() to authenticated;

create policy "users read their client's deliveries" on public.webhook_deliveries for select to authenticated
  using (client_id in (select public.current_client_ids()));
create policy "users read their client's attempts" on public.webhook_delivery_logs for select to authenticated
  using (delivery_id in (select d.id from public.webhook_deliveries d where d.client_id in (select public.current_client_ids())));
create policy "users read their client's endpoints" on public.webhook_endpoints for select to authenticated
  using (client_id in (select public.current_client_ids()));

revoke all on public.webhook_deliveries, public.webhook_delivery_logs, public.webhook_endpoints from anon, authenticated;
grant select on public.webhook_delivery_logs to authenticated;
grant select (id, lead_id, client_id, endpoint_id, event, format, webhook_url, payload, status, attempt, max_attempts,
  response_status, response_body, last_error, sent_at, next_retry_at, created_at, updated_at)
  on public.webhook_deliveries to authenticated;
grant select (id, client_id, url, name, type, active, last_tested_at, last_test_status, format, disabled_reason,
  created_at, updated_at) on public.webhook_endpoints to authenticated;
grant all on public.webhook_deliveries, public.webhook_delivery_logs, public.webhook_endpoints,
  public.leads, public.campaigns, public.clients, public.users, public.lead_magnets to service_role;

revoke execute on function public.create_deliveries(jsonb), public.record_attempts(jsonb),
  public.unfinished_deliveries(timestamptz, uuid, integer), public.restart_delivery(uuid, integer),
  public.cancel_delivery(uuid), public.delivery_stats(), public.leads_for_delivery(uuid[])
  from public, anon, authenticated;
grant execute on function public.create_deliveries(jsonb), public.record_attempts(jsonb),
  public.unfinished_deliveries(timestamptz, uuid, integer), public.restart_delivery(uuid, integer),
  public.cancel_delivery(uuid), public.delivery_stats(), public.leads_for_delivery(uuid[])
  to service_role;
