-- No call of the services waits for somebody else's lock, or keeps a connection of PostgREST, for longer than its caller
-- waits for the answer. Runs after every migration that redefines a function, because `create or replace` drops its settings.

-- What the services know of endpoints, through a function because a read of the table itself cannot be given time limits.
create or replace function public.endpoints_for_delivery(endpoint_ids uuid[])
returns setof public.webhook_endpoints language sql stable security invoker set search_path = '' as $$
  select * from public.webhook_endpoints where id = any (endpoint_ids);
$$;

-- Takes back deliveries whose creation was not confirmed in time, as their clients were told. Returns the ids of those that
-- were there and had not been attempted.
create or replace function public.withdraw_deliveries(delivery_ids uuid[])
returns setof uuid language sql security invoker set search_path = '' set enable_seqscan = off as $$
  delete from public.webhook_deliveries d where d.id = any (delivery_ids) and d.status = 'pending' returning d.id;
$$;

revoke execute on function public.endpoints_for_delivery(uuid[]), public.withdraw_deliveries(uuid[])
  from public, anon, authenticated;
grant execute on function public.endpoints_for_delivery(uuid[]), public.withdraw_deliveries(uuid[]) to service_role;

-- `lock_timeout` acts inside the function. `statement_timeout` does not: PostgREST reads it from the function and sets it
-- for the call's transaction (`db-hoisted-tx-settings`, part of its defaults). Both are shorter than the callers' own
-- limits: 3 s for what an HTTP client waits for, 10 s for the recorder and the retry-scheduler.
do $$
declare
  target record;
begin
  for target in
    select p.oid::regprocedure as signature, limits.lock_ms, limits.statement_ms
    from (values
      ('create_deliveries', 300, 2000), ('withdraw_deliveries', 300, 2000),
      ('deliveries_of_keys', 300, 2000), ('close_attempt', 300, 8000),
      ('restart_delivery', 300, 2000), ('cancel_delivery', 300, 2000),
      ('leads_for_delivery', 300, 2000), ('endpoints_for_delivery', 300, 1000),
      ('delivery_stats', 1000, 4000),
      ('record_attempts', 300, 8000), ('unfinished_deliveries', 1000, 8000),
      ('unfinished_of', 300, 8000), ('deletions_due', 1000, 8000), ('letters_due', 1000, 8000), ('deletions_checked', 1000, 8000),
      ('letters_done', 1000, 8000), ('forget_deletions', 1000, 8000), ('cancel_deliveries_of_deleted_endpoint', 1000, 8000)
    ) as limits (name, lock_ms, statement_ms)
    join pg_catalog.pg_proc p on p.proname = limits.name and p.pronamespace = 'public'::regnamespace
  loop
    execute format('alter function %s set lock_timeout = %L', target.signature, target.lock_ms || 'ms');
    execute format('alter function %s set statement_timeout = %L', target.signature, target.statement_ms || 'ms');
  end loop;
end
$$;
