-- Chapter 11. Scheduled verification: pg_cron, where a database has it, calls at a fixed pace what verifies a backup once
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
      message = format('Verifications are scheduled by %I, who owns the product and its backups.', migration_guard.owner());
  end if;
end
$$;
comment on function migration_guard.assert_owner() is
  'Raises insufficient_privilege for anybody but the product''s owner, a superuser included: pg_cron would run it as them.';

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
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  name constant text := migration_guard.schedule_name(version);
  removed boolean;
begin
  perform migration_guard.assert_scheduler();
  execute 'select bool_or(cron.unschedule(j.jobid)) from cron.job as j where j.jobname = $1 and j.username = $2 and j.database = $3'
    into removed using name, migration_guard.owner(), current_database();
  return coalesce(removed, false);
end
$$;
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

create function migration_guard.ran_out_of_time(job_id uuid) returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select exists (select from migration_guard.jobs as j where j.id = job_id and j.error ->> 'code' = 'query_canceled')
    and (
      select s.setting::bigint between 1 and extract(epoch from clock_timestamp() - statement_timestamp()) * 1000
      from pg_settings as s where s.name = 'statement_timeout')
$$;
comment on function migration_guard.ran_out_of_time(uuid) is
  'Whether the statement timeout of the running call has ended a job, and is spent thereby: it strikes once.';

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
  for attempt in 1 .. 2 loop
    job := migration_guard.claim_job(job_id);
    commit;
    exit when job.id is null;
    set local lock_timeout = '10s';
    perform migration_guard.run_job(job, null);
    commit;
    perform pg_catalog.pg_advisory_unlock(migration_guard.lock_class(), job.number);
    exit when not migration_guard.ran_out_of_time(job_id);
    job_id := (migration_guard.enqueue_verification(version, 'pg_cron')).id;
    commit;
  end loop;
  perform migration_guard.assert_whole(job_id);
end
$$;
comment on procedure migration_guard.verify_if_due(text, interval) is
  'What pg_cron calls: verifies a backup whose last verification is so long ago, and raises backup_damaged when it is not
whole. Unlike work() it runs no other job: pg_cron''s sessions have a statement timeout, which would end that half-way.
A verification that it ends is run again, since it strikes once. It commits, so that it may not be called in a transaction.';
