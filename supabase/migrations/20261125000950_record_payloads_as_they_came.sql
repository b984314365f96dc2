-- Lets record_attempts keep payloads that came straight from a producer as their text: `payload_text` where `payload` had to be
-- changed for jsonb, otherwise `payload` itself. The function is edited where it stands, because its other parts and its
-- settings belong to earlier migrations.
do $$
declare
  old_text constant text := pg_get_functiondef('public.record_attempts(text)'::regprocedure);
  new_text text := old_text;
begin
  if position('payload_text' in old_text) > 0 then return; end if;
  new_text := replace(new_text, 'd.payload::jsonb,', 'coalesce(d.payload_text, d.payload)::json,');
  new_text := replace(new_text, 'payload text,', 'payload text, payload_text text,');
  if length(new_text) <> length(old_text)
    + length('coalesce(d.payload_text, d.payload)::json') - length('d.payload::jsonb') + length(' payload_text text,') then
    raise exception 'record_attempts is not the function that this migration knows';
  end if;
  execute new_text;
end;
$$;
