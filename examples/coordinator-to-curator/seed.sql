-- The same rows on every run: account n has the id md5('user n')::uuid, and every time is fixed. Account 0 is the super
-- admin, 1 to 24 are coordinators, 25 to 499 are clients: client n is coached by 1 + n % 24, every 11th by nobody.

insert into auth.users (id, email)
select md5('user ' || n)::uuid, 'user' || n || '@example.com'
from generate_series(0, 499) as n;

insert into public.profiles
  (id, email, name, role, coordinator_id, birth_date, height_cm, settings, tags, created_at, updated_at)
select
  md5('user ' || n)::uuid,
  'user' || n || '@example.com',
  case
    when n = 0 then 'Администратор'
    when n <= 24 then 'Координатор ' || n || ' 🥗'
    else (array[
      'Анна Соколова', 'Zoë Müller', E'Zoe\u0308 Mu\u0308ller', '', null, '李小龍', 'مريم',
      'O''Brien "Bo"', E'C:\\new', '🏃‍♀️ Мария 💪🏽', 'İpek Işık', '  Ёлка  ', E'two\nlines'
    ])[1 + n % 13]
  end,
  (case when n = 0 then 'super_admin' when n <= 24 then 'coordinator' else 'client' end)::public.user_role,
  case when n > 24 and n % 11 <> 0 then md5('user ' || 1 + n % 24)::uuid end,
  case when n % 6 <> 0 then date '1960-02-29' + n * 29 end,
  case when n % 7 <> 0 then 150 + n % 45 + 0.5 end,
  case n % 4
    when 0 then '{}'::jsonb
    when 1 then jsonb_build_object('язык', 'ru', 'theme', null, 'units', jsonb_build_object('kg', true, 'step', 0.10))
    when 2 then jsonb_build_object('emoji', '🍎', 'empty', '', 'list', jsonb_build_array(n, null, 'x', '{}'::jsonb))
    else jsonb_build_object('big', 12345678901234567890.000000000001, 'quote', E'"\\\n')
  end,
  case n % 5
    when 0 then '{}'
    when 1 then array['вегетарианец', '🥑']
    when 2 then array['', null, 'NULL']
    when 3 then array['a,b', '{c}', '"d"', E'e\\f']
    else array['gluten-free']
  end,
  timestamptz '2023-01-01 00:00:00+00' + n * interval '7 hours 13 minutes 5.000123 seconds',
  timestamptz '2024-01-01 00:00:00+00' + n * interval '11 hours 0.5 seconds'
from generate_series(0, 499) as n;

insert into public.coordinator_notes
  (coordinator_id, client_id, note, labels, attachments, visible_to_client, created_at, updated_at)
select
  md5('user ' || 1 + n % 24)::uuid,
  md5('user ' || n)::uuid,
  case (n + i) % 7
    when 0 then ''
    when 1 then 'Клиент чувствует себя хорошо, вес стабилен. ' || md5(n || ' ' || i)
    when 2 then E'First line\n\tsecond line, tabbed\r\nthird'
    when 3 then E'cafe\u0301 is not caf\u00e9; 👩‍👩‍👧‍👦 are one'
    when 4 then repeat('Белки, жиры, углеводы. ', 60)
    when 5 then E'Quotes '' " $$ and a back\\slash'
    else 'Call on day ' || i
  end,
  case i
    when 1 then null
    when 2 then '{}'
    when 3 then array[array['цель', 'вес'], array['', null]]
    else array['звонок']
  end,
  case i
    when 1 then null
    when 2 then 'null'::jsonb
    when 3 then jsonb_build_array(jsonb_build_object('файл', 'анализ крови.pdf', 'bytes', n * 1000))
    else '[]'::jsonb
  end,
  i % 2 = 0,
  timestamptz '2024-02-01 06:00:00+00' + (n * 5 + i) * interval '1 hour 1.000001 seconds',
  timestamptz '2024-02-01 06:00:00+00' + (n * 5 + i) * interval '1 hour 2 minutes'
from generate_series(25, 499) as n, generate_series(1, 5) as i
where n % 11 <> 0
order by n, i;

insert into public.invite_codes (id, code, coordinator_id, max_uses, is_active, expires_at, created_at)
select
  md5('code ' || n || ' ' || k)::uuid,
  upper(left(md5('code ' || n || ' ' || k), 8)),
  md5('user ' || n)::uuid,
  (array[10, 25, 100])[k + 1],
  k < 2,
  case k when 1 then timestamptz '2024-06-30 23:59:59.999999+00' when 2 then timestamptz '2099-12-31 12:00:00+00' end,
  timestamptz '2023-12-01 09:30:00+00' + (n * 3 + k) * interval '1 hour'
from generate_series(1, 24) as n, generate_series(0, 2) as k;

insert into public.invite_code_usage (invite_code_id, used_by, used_at)
select
  md5('code ' || 1 + n % 24 || ' ' || n / 24 % 3)::uuid,
  md5('user ' || n)::uuid,
  timestamptz '2024-01-15 08:00:00+00' + n * interval '37 minutes'
from generate_series(25, 499) as n
where n % 11 <> 0 and n % 5 <> 0
order by n;

update public.invite_codes
set uses = (select count(*) from public.invite_code_usage where invite_code_id = invite_codes.id);

insert into public.nutrition_targets (client_id, valid_from, protein_g, carbs_g, fat_g)
select md5('user ' || n)::uuid, date '2024-01-01' + 91 * i, 80 + n % 60 + 0.5 * i, 150 + n % 120, 40 + n % 35
from generate_series(25, 499) as n, generate_series(0, 1) as i
order by n, i;

insert into public.daily_logs (client_id, log_date, weight_kg, meals, mood, remark, created_at)
select
  md5('user ' || n)::uuid,
  date '2024-05-01' + d,
  case when d % 5 <> 4 then 55 + n % 50 + d * 0.05 end,
  case d % 3
    when 0 then '[]'::jsonb
    when 1 then jsonb_build_array(jsonb_build_object('блюдо', 'гречка', 'g', 80 + d, 'photo', null))
    else jsonb_build_array('🍏', jsonb_build_object('food', 'Skyr', 'g', 250.50))
  end,
  case when (n + d) % 6 > 0 then (n + d) % 6 end,
  case (n + d) % 4 when 0 then null when 1 then '' when 2 then 'Хорошо поспал 😴' else E'Zu\u0308rich' end,
  timestamptz '2024-05-01 20:00:00+00' + d * interval '24 hours' + n * interval '1 second'
from generate_series(25, 324) as n, generate_series(0, 11) as d;
