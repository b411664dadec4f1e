-- The example's tables with as many rows as `bench.rows` says, all four together: 250 bytes each on average. The same rows
-- at every run. Triggers and foreign keys rest meanwhile, so that a superuser runs it.

set session_replication_role = replica;
truncate public.profiles, public.coordinator_notes, public.invite_codes, public.invite_code_usage restart identity cascade;

create temporary table size as
select rows / 4 as profiles, greatest(rows / 400, 1) as coordinators, rows * 2 / 5 as notes, rows / 10 as codes, rows / 4 as uses
from (select current_setting('bench.rows')::bigint as rows) as r;

insert into public.profiles (id, email, name, role, coordinator_id, birth_date, height_cm, settings, tags, created_at, updated_at)
select md5('profile ' || n)::uuid, format('person.%s@example.com', n), case when n <= coordinators or n % 7 <> 0 then format('Person %s of many', n) end,
  case when n <= coordinators then 'coordinator' else 'client' end::public.user_role,
  case when n > coordinators and n % 10 <> 0 then md5('profile ' || 1 + n % coordinators)::uuid end,
  date '1950-01-01' + (n % 20000)::int, 150 + n % 500 / 10.0,
  jsonb_build_object('theme', case n % 3 when 0 then 'dark' else 'light' end, 'units', 'metric', 'reminders', n % 2 = 0, 'goal', n % 400 / 4.0),
  case n % 4 when 0 then '{}' else array['group ' || n % 20, 'started ' || n % 12] end,
  timestamptz '2024-01-01 00:00+00' + n * interval '17 seconds', timestamptz '2025-01-01 00:00+00' + n * interval '11 seconds'
from size, generate_series(1, profiles) as n;

insert into public.coordinator_notes (coordinator_id, client_id, note, labels, attachments, visible_to_client, created_at, updated_at)
select md5('profile ' || 1 + n % coordinators)::uuid, md5('profile ' || coordinators + 1 + n % (profiles - coordinators))::uuid,
  format('Note %s: %s', n, substr(repeat('slept well, ate on plan, asked about the weekend and a shorter run; ', 6), 1, 120 + (n * 37 % 320)::int)),
  case when n % 5 = 0 then array['follow up', 'week ' || n % 52] end,
  case when n % 20 = 0 then jsonb_build_array(jsonb_build_object('name', format('photo-%s.jpg', n), 'bytes', 100000 + n)) end,
  n % 3 = 0, timestamptz '2024-06-01 00:00+00' + n * interval '13 seconds', timestamptz '2024-06-01 00:00+00' + n * interval '14 seconds'
from size, generate_series(1, notes) as n;

insert into public.invite_codes (id, code, coordinator_id, uses, max_uses, is_active, expires_at, created_at)
select md5('code ' || n)::uuid, upper(lpad(to_hex(n), 8, '0')), md5('profile ' || 1 + n % coordinators)::uuid, n % 3, 5, n % 4 <> 0,
  case when n % 2 = 0 then timestamptz '2026-01-01 00:00+00' + n * interval '1 minute' end, timestamptz '2024-03-01 00:00+00' + n * interval '29 seconds'
from size, generate_series(1, codes) as n;

insert into public.invite_code_usage (invite_code_id, used_by, used_at)
select md5('code ' || 1 + n % codes)::uuid, md5('profile ' || coordinators + 1 + n % (profiles - coordinators))::uuid,
  timestamptz '2024-07-01 00:00+00' + n * interval '19 seconds'
from size, generate_series(1, uses) as n;

drop table size;
reset session_replication_role;
vacuum (analyze) public.profiles, public.coordinator_notes, public.invite_codes, public.invite_code_usage;
