-- Changes 1 % of the example's rows: a third of them updated, a third deleted, and a third inserted. They are others in each
-- `bench.round`, and lie all over the tables. Triggers and foreign keys rest meanwhile, so that a superuser runs it.

set session_replication_role = replica;
begin;

create function pg_temp.part(id text) returns bigint
language sql stable
return mod(abs(hashtextextended(id, current_setting('bench.round')::bigint) / 2), 300);

update public.profiles set height_cm = 150 + mod(height_cm + 1, 50), updated_at = now() where pg_temp.part(id::text) = 0;
update public.coordinator_notes set note = note || '.', updated_at = now() where pg_temp.part(id::text) = 0;
update public.invite_codes set is_active = not is_active where pg_temp.part(id::text) = 0;
update public.invite_code_usage set used_at = used_at + interval '1 second' where pg_temp.part(id::text) = 0;

delete from public.profiles where pg_temp.part(id::text) = 1;
delete from public.coordinator_notes where pg_temp.part(id::text) = 1;
delete from public.invite_codes where pg_temp.part(id::text) = 1;
delete from public.invite_code_usage where pg_temp.part(id::text) = 1;

insert into public.profiles (id, email, name, role, coordinator_id, birth_date, height_cm, settings, tags)
select gen_random_uuid(), format('round.%s.%s', current_setting('bench.round'), email), name, role, coordinator_id, birth_date, height_cm, settings, tags
from public.profiles where pg_temp.part(id::text) = 2;
insert into public.coordinator_notes (coordinator_id, client_id, note, labels, attachments, visible_to_client)
select coordinator_id, client_id, note, labels, attachments, visible_to_client
from public.coordinator_notes where pg_temp.part(id::text) = 2;
insert into public.invite_codes (code, coordinator_id, uses, max_uses, is_active, expires_at)
select 'Z' || upper(substr(md5(code || current_setting('bench.round')), 1, 7)), coordinator_id, uses, max_uses, is_active, expires_at
from public.invite_codes where pg_temp.part(id::text) = 2
on conflict do nothing;
insert into public.invite_code_usage (invite_code_id, used_by)
select invite_code_id, gen_random_uuid() from public.invite_code_usage where pg_temp.part(id::text) = 2;

drop function pg_temp.part;
commit;
reset session_replication_role;
