-- Chapter 11. Schedules: pg_cron, where a database has it, calls the worker, and at a fixed pace what verifies a backup once
-- that is due. Its objects are named in dynamic SQL alone, so that the product can be installed without it.

create function migration_guard.assert_scheduler() returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from pg_extension as e where e.extname = 'pg_cron') then
    perform migration_guard.fail(
      'scheduler_missing', 'This database has no scheduler: create the extension pg_cron, and schedule it again.');
  end if;
end
$$;
comment on function migration_guard.assert_scheduler() is 'Raises scheduler_missing in a database without pg_cron.';

create function migration_guard.assert_owner() returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if current_user <> migration_guard.owner() then
    raise exception using errcode = 'insufficient_privilege',
      message = format('Schedules are made by %I, who owns the product and its backups.', migration_guard.owner());
  end if;
end
$$;
comment on function migration_guard.assert_owner() is
  'Raises insufficient_privilege for anybody but the product''s owner, a superuser included: pg_cron would run it as them.';

-- The worker ----------------------------------------------------------------------------------------------------------

create function migration_guard.worker_schedule_name() returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select 'migration_guard works' $$;
comment on function migration_guard.worker_schedule_name() is 'What the schedule of the worker is called in cron.job.';

create function migration_guard.schedule_worker(every interval default '10 seconds') returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  seconds constant numeric := extract(epoch from every);
  name constant text := migration_guard.worker_schedule_name();
  command constant text := 'call migration_guard.work()';
  job_id bigint;
begin
  if every is null or seconds not between 1 and 3600 or seconds % 1 <> 0
    or seconds >= 60 and (seconds % 60 <> 0 or 60 % (seconds / 60) <> 0) then
    perform migration_guard.fail('invalid_parameter', 'The worker is called every 1 to 59 seconds, or every 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30 or 60 minutes.');
  end if;
  perform migration_guard.assert_scheduler();
  perform migration_guard.assert_owner();
  begin
    execute 'select cron.schedule($1, $2, $3)' into job_id using name, case
      when seconds < 60 then format('%s seconds', seconds::int)
      when seconds < 3600 then format('*/%s * * * *', (seconds / 60)::int)
      else '0 * * * *' end, command;
  exception when invalid_parameter_value or raise_exception or internal_error then
    if seconds >= 60 then raise; end if;
    raise notice 'This pg_cron knows no seconds: the worker is called every minute.';
    execute 'select cron.schedule($1, $2, $3)' into job_id using name, '* * * * *', command;
  end;
  return job_id;
end
$$;
comment on function migration_guard.schedule_worker(interval) is
  'Has pg_cron call the worker as often as is said, instead of as often as was said before: every 1 to 59 seconds, or
every so many minutes as divide an hour; a pg_cron before 1.5 knows no seconds, and calls it every minute. Returns the number of the job in cron.job.
Raises invalid_parameter or scheduler_missing.';

create function migration_guard.unschedule(name text) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  removed boolean;
begin
  perform migration_guard.assert_scheduler();
  execute 'select bool_or(cron.unschedule(j.jobid)) from cron.job as j where j.jobname = $1 and j.username = $2 and j.database = $3'
    into removed using name, migration_guard.owner(), current_database();
  return coalesce(removed, false);
end
$$;
comment on function migration_guard.unschedule(text) is
  'Ends a schedule of the product''s; false when there was none. Raises scheduler_missing.';

create function migration_guard.unschedule_worker() returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$ select migration_guard.unschedule(migration_guard.worker_schedule_name()) $$;
comment on function migration_guard.unschedule_worker() is
  'Ends the calls of the worker by pg_cron; false when there were none. Raises scheduler_missing.';

create function migration_guard.worker_is_scheduled() returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  is_scheduled boolean := false;
begin
  if exists (select from pg_extension as e where e.extname = 'pg_cron') then
    execute 'select exists (select from cron.job as j where j.jobname = $1 and j.username = $2 and j.database = $3 and j.active)'
      into is_scheduled using migration_guard.worker_schedule_name(), migration_guard.owner(), current_database();
  end if;
  return is_scheduled;
end
$$;
comment on function migration_guard.worker_is_scheduled() is 'Whether pg_cron calls the worker in this database.';

-- Verifications -------------------------------------------------------------------------------------------------------

create function migration_guard.schedule_name(version text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select 'migration_guard verifies ' || migration_guard.normalize_version(version) $$;
comment on function migration_guard.schedule_name(text) is 'What the schedule of a version''s verification is called in cron.job.';

create function migration_guard.schedule_pace(every interval) returns interval
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Each call leaves a row in cron.job_run_details, so that rare verifications are not looked after every minute.
  select case when every < '1 hour' then interval '1 minute' when every < '1 day' then '5 minutes' else '1 hour' end
$$;
comment on function migration_guard.schedule_pace(interval) is
  'How often pg_cron asks whether a verification is due that is wanted so often: its own syntax cannot say every interval.';

create function migration_guard.schedule_verification(version text, every interval) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup migration_guard.backups;
  job_id bigint;
begin
  backup := migration_guard.get_backup(version);
  if every is null or every not between '1 minute' and '1 year' then
    perform migration_guard.fail('invalid_parameter', 'A backup is verified every minute at most, and every year at least.');
  end if;
  perform migration_guard.assert_scheduler();
  perform migration_guard.assert_owner();
  execute 'select cron.schedule($1, $2, $3)' into job_id using
    migration_guard.schedule_name(backup.version),
    case migration_guard.schedule_pace(every)
      when '1 minute' then '* * * * *'
      when '5 minutes' then '*/5 * * * *'
      else format('%s * * * *', extract(minute from now()))
    end,
    -- In hours, minutes and seconds an interval reads the same in every session.
    format('call migration_guard.verify_if_due(%L, %L)', backup.version, make_interval(secs => extract(epoch from every)));
  return job_id;
end
$$;
comment on function migration_guard.schedule_verification(text, interval) is
  'Has pg_cron verify a backup as often as is said, instead of as often as was said before, until it is cleaned up or
unschedule_verification is called. Returns the number of the job in cron.job. Raises backup_not_found, invalid_parameter,
or scheduler_missing.';

create function migration_guard.unschedule_verification(version text) returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$ select migration_guard.unschedule(migration_guard.schedule_name(version)) $$;
comment on function migration_guard.unschedule_verification(text) is
  'Ends the scheduled verification of a version; false when there was none. Raises scheduler_missing.';

-- What pg_cron calls --------------------------------------------------------------------------------------------------

create function migration_guard.enqueue_due_verification(version text, every interval) returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.find_backup(version);
  under_way uuid;
begin
  if backup.id is null then
    if exists (select from pg_extension as e where e.extname = 'pg_cron') then
      perform migration_guard.unschedule_verification(version);
    end if;
    return null;
  end if;
  select j.id into under_way
  from migration_guard.jobs as j
  where j.kind = 'verify' and j.version = backup.version and j.status in ('queued', 'running')
  order by j.number limit 1;
  if under_way is not null then
    return under_way;
  end if;
  -- Half a pace early rather than a whole one late, or else the hour would move on with each day.
  if clock_timestamp() - every + migration_guard.schedule_pace(every) / 2 < greatest(backup.verified_at, (
    select max(j.created_at) from migration_guard.jobs as j
    where j.kind = 'verify' and j.version = backup.version and j.created_at >= backup.created_at))
  then
    return null;
  end if;
  return (migration_guard.enqueue_verification(backup.version, 'pg_cron')).id;
end
$$;
comment on function migration_guard.enqueue_due_verification(text, interval) is
  'The verification of a backup that is to be run now: the one under way, or a new one where the last is so long ago; null
if none. The schedule of a backup that is gone goes, too.';

create function migration_guard.assert_whole(job_id uuid) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  job constant migration_guard.jobs := migration_guard.get_job(job_id);
begin
  if job.status = 'succeeded' and not (job.result ->> 'ok')::boolean then
    perform migration_guard.fail('backup_damaged', format(
      'The backup of %s is damaged: %s checks failed, which job %s lists.', job.version, job.result ->> 'failed', job.id));
  end if;
end
$$;
comment on function migration_guard.assert_whole(uuid) is 'Raises backup_damaged when a verification found that some check failed.';

create function migration_guard.next_job_of(version text) returns uuid
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- None has the nil UUID. A backup wants its locks before its snapshot, as work() takes them.
  select coalesce((
    select j.id from migration_guard.jobs as j
    where j.version = migration_guard.normalize_version(next_job_of.version) and j.status = 'queued' and j.kind <> 'backup'
    order by j.number limit 1), '00000000-0000-0000-0000-000000000000')
$$;
comment on function migration_guard.next_job_of(text) is 'The oldest queued job on the backup of a version, or the nil UUID.';

create procedure migration_guard.verify_if_due(version text, every interval)
language plpgsql
as $$
declare
  job_id pg_catalog.uuid;
  job migration_guard.jobs;
begin
  -- The caller's search_path is in force here, as in work().
  perform migration_guard.assert_owner();
  job_id := migration_guard.enqueue_due_verification(version, every);
  commit;
  if job_id is null then
    return;
  end if;
  -- A statement timeout strikes once: what it has ended is queued again, and runs to its end here.
  for attempt in 1 .. 2 loop
    job := migration_guard.claim_job(job_id);
    commit;
    exit when job.id is null;
    set local lock_timeout = '10s';
    call migration_guard.run_claimed_job(job);
  end loop;
  -- What came for this backup meanwhile was left alone by every other worker.
  loop
    job := migration_guard.claim_job(migration_guard.next_job_of(version));
    commit;
    exit when job.id is null;
    set local lock_timeout = '10s';
    call migration_guard.run_claimed_job(job);
  end loop;
  perform migration_guard.assert_whole(job_id);
end
$$;
comment on procedure migration_guard.verify_if_due(text, interval) is
  'What pg_cron calls: verifies a backup whose last verification is so long ago, and raises backup_damaged when it is not
whole. Unlike work() it runs jobs of no other backup, so that its run in cron.job_run_details tells of this one. It commits, so
that it may not be called in a transaction.';
