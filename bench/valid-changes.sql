-- Changes, within what foreign keys allow, 1 % of the rows that rows.sql has made: updates half of them, deletes a quarter, as many again with those that
-- go with them, and inserts a quarter. Run after rows.sql, before the migration. The same rows at every run.

begin;
create function pg_temp.pick(id uuid) returns int language sql immutable as $$ select ('x' || right(id::text, 4))::bit(16)::int $$;

update public.profiles set name = 'Changed ' || email where pg_temp.pick(id) % 200 = 1;
update public.coordinator_notes set note = note || ' (changed)' where id % 200 = 1;
update public.invite_codes set max_uses = max_uses + 1 where pg_temp.pick(id) % 200 = 1;
update public.invite_code_usage set used_at = used_at + interval '1 second' where id % 200 = 1;

delete from public.profiles where role = 'client' and pg_temp.pick(id) % 2000 = 2;
delete from public.invite_codes where pg_temp.pick(id) % 2000 = 2;
delete from public.coordinator_notes where id % 500 = 2;
delete from public.invite_code_usage where id % 500 = 2;

create temporary table added on commit drop as
select md5('added ' || n)::uuid as id, n from generate_series(1, (select count(*) / 400 from public.profiles)) as n;
insert into auth.users (id) select id from added on conflict do nothing;
insert into public.profiles (id, email) select id, format('added.%s@example.com', n) from added;
insert into public.coordinator_notes (coordinator_id, client_id, note)
select coordinator_id, client_id, 'Added after ' || id from public.coordinator_notes where id % 400 = 3;
insert into public.invite_codes (id, code, coordinator_id)
select md5('added ' || code)::uuid, 'Z' || right(code, 7), coordinator_id from public.invite_codes where pg_temp.pick(id) % 400 = 3;
insert into public.invite_code_usage (invite_code_id, used_by)
select (select id from public.invite_codes limit 1), a.id from added as a;
commit;
