-- Chapter 4, continued. Limits: how much a key may ask for, in whichever isolate, and how much the audit trail tells of what was
-- refused.

create table migration_guard.limits (
  -- There is one row.
  is_the_row boolean primary key default true,
  -- Jobs of one actor that are queued or running.
  max_jobs int not null default 20,
  -- Requests of one key that change something, in any 60 seconds.
  changes_per_minute int not null default 60,
  -- Refusals of one key with one status that the audit trail tells one by one; of all keys together ten times as many.
  refusals_per_minute int not null default 60,
  -- The same of all who have no key.
  anonymous_refusals_per_minute int not null default 6,
  constraint there_is_one_row check (is_the_row),
  constraint max_jobs_is_positive check (max_jobs > 0),
  constraint changes_per_minute_is_positive check (changes_per_minute > 0),
  constraint refusals_per_minute_is_positive check (refusals_per_minute > 0),
  constraint anonymous_refusals_per_minute_is_positive check (anonymous_refusals_per_minute > 0)
);
comment on table migration_guard.limits is 'How much a key may ask for: for the owner to change.';
insert into migration_guard.limits default values;

create function migration_guard.get_limits() returns migration_guard.limits
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  found_limits migration_guard.limits;
begin
  -- Without a row, whatever is limited is refused.
  select l.* into strict found_limits from migration_guard.limits as l;
  return found_limits;
end
$$;
comment on function migration_guard.get_limits() is 'The limits that are in force.';

create function migration_guard.lock_actor(purpose text, actor text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Anybody may say any name: there are so many turns and no more, and some actors share one.
  perform migration_guard.take_turn(format('%s %s', purpose, hashtextextended(actor, 0) & 1023));
end
$$;
comment on function migration_guard.lock_actor(text, text) is
  'Keeps others from counting an actor''s requests or jobs until the transaction ends: the last thing that a long one does.';

-- Jobs ----------------------------------------------------------------------------------------------------------------

create function migration_guard.assert_job_limit(actor text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  allowed constant int := (migration_guard.get_limits()).max_jobs;
  under_way bigint;
begin
  -- What the product asks for by itself. A key of such a name may do nothing of the kind unless an admin made it so.
  if actor in ('pg_cron', 'migration_guard') then return; end if;
  perform migration_guard.lock_actor('jobs', actor);
  select count(*) into under_way from migration_guard.jobs as j where j.actor = assert_job_limit.actor and j.status in ('queued', 'running');
  if under_way >= allowed then
    perform migration_guard.fail(
      'too_many_jobs', format('%s has %s jobs queued or running, and may have %s: wait until one has ended, or cancel one.', actor, under_way, allowed),
      -- Nobody knows when the next one ends.
      jsonb_build_object('retry_after_seconds', 10));
  end if;
end
$$;
comment on function migration_guard.assert_job_limit(text) is 'Raises too_many_jobs when an actor has as many jobs queued and running as it may have.';

-- Requests that change something --------------------------------------------------------------------------------------

-- Not logged: after a crash everybody begins anew.
create unlogged table migration_guard.changing_requests (
  id uuid primary key default gen_random_uuid(),
  actor text not null,
  at timestamptz not null default clock_timestamp(),
  -- Whether the change is made that it was let in for.
  is_spent boolean not null
);
comment on table migration_guard.changing_requests is 'Requests of the last minutes that change something, and were let in.';
create unique index changing_requests_by_actor on migration_guard.changing_requests (actor, at, id);
create unique index changing_requests_by_age on migration_guard.changing_requests (at, id);

create function migration_guard.assert_rate(actor text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  allowed constant int := (migration_guard.get_limits()).changes_per_minute;
  moment constant timestamptz := clock_timestamp();
  -- When the oldest of as many as are allowed was let in; null where there are not so many.
  oldest timestamptz;
begin
  select r.at into oldest from migration_guard.changing_requests as r
  where r.actor = assert_rate.actor and r.at > moment - interval '1 minute'
  order by r.at desc offset allowed - 1 limit 1;
  if oldest is not null then
    perform migration_guard.fail(
      'rate_limited', format('The key %s has changed something %s times in a minute, which is as often as it may: wait.', actor, allowed),
      jsonb_build_object('retry_after_seconds', ceil(extract(epoch from oldest + interval '1 minute' - moment))));
  end if;
end
$$;
comment on function migration_guard.assert_rate(text) is
  'Raises rate_limited, with the seconds until the next is let through, when a key has asked for as many changes in the last 60
seconds as it may.';

create function migration_guard.admit_change(actor text, is_spent boolean default false) returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  admission uuid;
begin
  perform migration_guard.lock_actor('changes', actor);
  perform migration_guard.assert_rate(actor);
  -- Longer than an admission is good for.
  delete from migration_guard.changing_requests as r
  where r.id in (
    select o.id from migration_guard.changing_requests as o
    where o.at < clock_timestamp() - interval '10 minutes' order by o.at limit 100 for update skip locked);
  insert into migration_guard.changing_requests as r (actor, is_spent) values (admit_change.actor, admit_change.is_spent)
  returning r.id into admission;
  return admission;
end
$$;
comment on function migration_guard.admit_change(text, boolean) is
  'Counts a request that changes something; returns by what the change itself is known to be counted already. Raises rate_limited.';

create function migration_guard.find_admission(actor text) returns uuid
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select r.id
  from (select migration_guard.request_header('admission') as text) as h
  join migration_guard.changing_requests as r
    on r.id = case when h.text ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then h.text::uuid end
  -- Longer than any request takes, and not so long that a key could lay up many.
  where r.actor = find_admission.actor and not r.is_spent and r.at > clock_timestamp() - interval '90 seconds'
$$;
comment on function migration_guard.find_admission(text) is 'What this request was admitted by, if it was in the last 90 seconds and has not made its change yet.';

create function migration_guard.require_change(actor text, needed text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform migration_guard.require_role(actor, needed);
  perform migration_guard.note_role(actor);
  if migration_guard.find_admission(actor) is null then
    perform migration_guard.assert_rate(actor);
  end if;
end
$$;
comment on function migration_guard.require_change(text, text) is
  'What a function of the API begins with that changes something. Raises role_required or rate_limited.';

create function migration_guard.count_change(actor text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update migration_guard.changing_requests as r set is_spent = true
  where r.id = migration_guard.find_admission(count_change.actor) and not r.is_spent;
  if not found then
    perform migration_guard.admit_change(actor, is_spent => true);
  end if;
end
$$;
comment on function migration_guard.count_change(text) is
  'Counts a change, unless its request was admitted and is counted by that. What a function of the API ends with, since
others of the key wait for the commit. Raises rate_limited.';

-- Refusals ------------------------------------------------------------------------------------------------------------

create table migration_guard.refusal_counts (
  id bigint generated always as identity primary key,
  -- Null for all who came without a credential.
  actor text,
  -- HTTP status that they were refused with.
  status text not null,
  -- Of the minute that is counted.
  since timestamptz not null default clock_timestamp(),
  told int not null default 0,
  left_out bigint not null default 0,
  constraint one_count_each unique nulls not distinct (actor, status)
);
comment on table migration_guard.refusal_counts is 'Refusals of the last minute: how many the audit trail tells of, and how many it will only number.';

create function migration_guard.tell_left_out(counted migration_guard.refusal_counts) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into migration_guard.audit_log (actor, action, outcome, parameters)
  select counted.actor, 'refusals.left_out', 'refused',
    jsonb_build_object('status', counted.status, 'times', counted.left_out, 'since', counted.since)
  where counted.left_out > 0
$$;
comment on function migration_guard.tell_left_out(migration_guard.refusal_counts) is
  'Has the audit trail tell how many refusals of a minute it does not tell one by one.';

create function migration_guard.end_refusal_counts() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  counted migration_guard.refusal_counts;
begin
  for counted in
    delete from migration_guard.refusal_counts as r
    where r.id in (
      select o.id from migration_guard.refusal_counts as o
      where o.since <= clock_timestamp() - interval '1 minute' for update skip locked)
    returning r.*
  loop
    perform migration_guard.tell_left_out(counted);
  end loop;
end
$$;
comment on function migration_guard.end_refusal_counts() is 'Tells what was left out in minutes that are over. Waits for nobody.';

create function migration_guard.assert_refusal(actor text, status text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if length(actor) > 200 or status in ('401', '403', '409', '429') is not true then
    perform migration_guard.fail('invalid_parameter', 'A refusal has an actor of at most 200 characters, and one of the statuses 401, 403, 409 and 429.');
  end if;
end
$$;
comment on function migration_guard.assert_refusal(text, text) is 'Raises invalid_parameter for what cannot have been refused.';

create function migration_guard.counted_actor(actor text, status text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case when exists (
      select from migration_guard.refusal_counts as r where r.actor = counted_actor.actor and r.status = counted_actor.status)
    or (select count(*) from migration_guard.refusal_counts as r where r.since > clock_timestamp() - interval '1 minute') < 200 then counted_actor.actor end
$$;
comment on function migration_guard.counted_actor(text, text) is
  'By whose name a refusal is counted: where two hundred names are counted already, another one is counted with those who have none.';

create function migration_guard.count_refusals(actor text, status text, times int default 0) returns migration_guard.refusal_counts
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  counted migration_guard.refusal_counts;
begin
  perform migration_guard.assert_refusal(actor, status);
  insert into migration_guard.refusal_counts as r (actor, status)
  values (migration_guard.counted_actor(count_refusals.actor, count_refusals.status), count_refusals.status)
  on conflict on constraint one_count_each do update set status = excluded.status
  returning r.* into counted;
  if counted.since <= clock_timestamp() - interval '1 minute' then
    perform migration_guard.tell_left_out(counted);
    counted.since := clock_timestamp();
    counted.told := 0;
    counted.left_out := 0;
  end if;
  -- More than an isolate can count in the second after which it tells.
  counted.left_out := counted.left_out + least(greatest(times, 0), 100000);
  update migration_guard.refusal_counts as r
  set since = counted.since, told = counted.told, left_out = counted.left_out where r.id = counted.id;
  return counted;
end
$$;
comment on function migration_guard.count_refusals(text, text, int) is
  'Numbers refusals that the audit trail will not tell one by one; returns the count of the minute, which it begins where there
is none. Raises invalid_parameter.';

create function migration_guard.may_tell(counted migration_guard.refusal_counts, actor text) returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select counted.actor is not distinct from may_tell.actor
    and counted.told < case
      -- That a key is over its limit is said once.
      when counted.status = '429' then 1
      when counted.actor is null then l.anonymous_refusals_per_minute
      else l.refusals_per_minute end
    -- Whoever says another name each time is told of no more often for that.
    and (counted.actor is null or l.refusals_per_minute::bigint * 10 > (
      select coalesce(sum(r.told), 0) from migration_guard.refusal_counts as r
      where r.actor is not null and r.since > clock_timestamp() - interval '1 minute'))
  from migration_guard.get_limits() as l
$$;
comment on function migration_guard.may_tell(migration_guard.refusal_counts, text) is
  'Whether the audit trail tells of one more refusal of this minute.';

create function migration_guard.record_refusal(action text, actor text, version text, job_id uuid, parameters jsonb) returns int
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  counted migration_guard.refusal_counts;
  is_told boolean;
begin
  if action ~ '^[a-z_.]{1,63}$' is not true or jsonb_typeof(parameters) is distinct from 'object' or octet_length(parameters::text) > 4096 then
    perform migration_guard.fail('invalid_parameter', 'A refusal has an action of at most 63 letters, _ and ., and as its parameters an object of at most 4 kB.');
  end if;
  counted := migration_guard.count_refusals(actor, parameters ->> 'status');
  is_told := migration_guard.may_tell(counted, actor);
  update migration_guard.refusal_counts as r
  set told = r.told + is_told::int, left_out = r.left_out + (not is_told)::int where r.id = counted.id;
  if is_told then
    perform migration_guard.audit(action, actor, version, job_id, parameters, 'refused');
    return null;
  end if;
  return greatest(ceil(extract(epoch from counted.since + interval '1 minute' - clock_timestamp())), 0);
end
$$;
comment on function migration_guard.record_refusal(text, text, text, uuid, jsonb) is
  'Has the audit trail tell of a refusal, or of its number only, where there were as many of the key''s and the status in
this minute as it tells; returns the seconds until that is over, null where it tells of this one. Raises invalid_parameter.';
