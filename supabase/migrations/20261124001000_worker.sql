-- Chapter 10. The worker: claims queued jobs and runs them, one transaction each. It lives in the database, so that a
-- job does not end with whoever started the worker: the Edge Function, pg_cron, or somebody in psql.

create function migration_guard.lock_class() returns int
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select 1297435713 $$;
comment on function migration_guard.lock_class() is
  'First key of the advisory locks that workers hold; the second is drawn for each claim of a job.';

create function migration_guard.owner() returns name
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select pg_get_userbyid(n.nspowner) from pg_namespace as n where n.nspname = 'migration_guard' $$;
comment on function migration_guard.owner() is 'The role that owns the product.';

create function migration_guard.worker_locks() returns table (pid int, worker_lock int)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  select l.pid, l.objid::int
  from pg_catalog.pg_locks as l
  join pg_catalog.pg_stat_activity as a on a.pid = l.pid
  where l.locktype = 'advisory' and l.granted and l.objsubid = 2
    and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
    and l.classid = migration_guard.lock_class()::oid
    -- Anybody may hold an advisory lock, and who cannot be the owner is no worker.
    and pg_has_role(a.usesysid, migration_guard.owner(), 'member');
end
$$;
comment on function migration_guard.worker_locks() is 'The locks that sessions hold who run jobs, or could.';

create function migration_guard.drop_leftover_views() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  leftover text;
begin
  -- The temporary view of a server that crashed stays, and would keep its tables from being dropped.
  if not exists (
    select from migration_guard.worker_locks() as l where l.pid <> pg_backend_pid()
  ) then
    for leftover in
      select c.oid::regclass::text from pg_class as c
      where c.relname = 'migration_guard_tables' and c.relkind = 'v' and c.relpersistence = 't' and not pg_table_is_visible(c.oid)
        -- Anybody can make a view of that name, and nobody but a superuser can reach it.
        and c.relowner = current_user::regrole and has_schema_privilege(c.relnamespace, 'usage')
    loop
      execute format('drop view if exists %s', leftover);
    end loop;
  end if;
end
$$;
comment on function migration_guard.drop_leftover_views() is
  'Drops the temporary views of workers that are gone, where no worker is at work.';

create function migration_guard.workers_of(job migration_guard.jobs) returns table (pid int)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  select l.pid from migration_guard.worker_locks() as l where l.worker_lock = job.worker_lock;
end
$$;
comment on function migration_guard.workers_of(migration_guard.jobs) is 'The session that holds the lock of a job, if one does.';

create function migration_guard.has_worker(job migration_guard.jobs) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from migration_guard.workers_of(job));
end
$$;
comment on function migration_guard.has_worker(migration_guard.jobs) is
  'Whether a session holds the lock of a job. One that says that it is running and has none has lost its worker.';

create function migration_guard.cancellation_error(cancellation migration_guard.cancellations, job migration_guard.jobs) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('code', 'cancelled', 'message', format('%s has cancelled it. %s', cancellation.actor, case job.kind
      when 'export' then 'What is stored stays: the export can be resumed, or removed.'
      when 'remove_export' then 'What is left of the export can be removed by another request.'
      else 'Nothing was changed.' end))
    || case when job.kind = 'export' then jsonb_build_object('export', job.parameters -> 'export') else '{}' end
$$;
comment on function migration_guard.cancellation_error(migration_guard.cancellations, migration_guard.jobs) is 'The error of a cancelled job.';

create function migration_guard.lost_worker(job migration_guard.jobs) returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$ select jsonb_build_object('pid', job.worker_pid, 'attempt', job.attempts, 'missed_at', clock_timestamp()) $$;
comment on function migration_guard.lost_worker(migration_guard.jobs) is 'What is known of the worker that a job has lost.';

create function migration_guard.end_idle_workers() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  perform pg_terminate_backend(a.pid, 1000)
  from migration_guard.jobs as j
  cross join lateral migration_guard.workers_of(j) as w
  join pg_catalog.pg_stat_activity as a on a.pid = w.pid
  where j.status in ('queued', 'running') and a.pid <> pg_backend_pid() and a.state like 'idle%'
    and a.usesysid = migration_guard.owner()::regrole;
end
$$;
comment on function migration_guard.end_idle_workers() is
  'Ends sessions that hold the lock of a job and are at no statement: their call has ended at a bad moment, and nobody else
could run the job, nor cancel it.';

create function migration_guard.lift_transaction_timeout() returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- From 17 on.
  select set_config('transaction_timeout', '0', true) where current_setting('transaction_timeout', true) is not null
$$;
comment on function migration_guard.lift_transaction_timeout() is 'Lets the running transaction take the time that it needs.';

create function migration_guard.end_abandoned_jobs() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  update migration_guard.jobs as j
  set status = 'cancelled', finished_at = clock_timestamp(),
    progress = case when j.run_by = 'function' then migration_guard.transfer_progress(j) else j.progress end, error = migration_guard.cancellation_error(c, j)
  from migration_guard.cancellations as c
  where c.job_id = j.id and j.status in ('queued', 'running') and not migration_guard.has_worker(j);
  update migration_guard.jobs as j
  set status = 'failed', finished_at = clock_timestamp(), lost_workers = l.workers,
    error = jsonb_build_object('code', 'worker_lost', 'message', format(
      'The worker was lost %s times while it ran this job: %s. The database''s log tells why.', j.attempts,
      (select string_agg(format('process %s, missed at %s', w ->> 'pid', w ->> 'missed_at'), '; ') from jsonb_array_elements(l.workers) as w)))
  from (
    select j.id, j.lost_workers || migration_guard.lost_worker(j) as workers from migration_guard.jobs as j where j.status = 'running' and j.run_by = 'worker'
  ) as l
  where l.id = j.id and j.status = 'running' and j.attempts >= 3 and not migration_guard.has_worker(j);
end
$$;
comment on function migration_guard.end_abandoned_jobs() is
  'Ends what has no worker any more and shall not have another: cancelled jobs, and those that have lost three.';

create function migration_guard.claim_job(wanted uuid default null) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  job migration_guard.jobs;
begin
  -- Claims take turns, for milliseconds, so that two workers cannot take two jobs of one version at once.
  perform migration_guard.take_turn('jobs');
  -- What an earlier call in this session left behind when it was cancelled at a bad moment.
  perform pg_advisory_unlock(migration_guard.lock_class(), l.worker_lock)
  from migration_guard.worker_locks() as l where l.pid = pg_backend_pid();

  perform migration_guard.end_idle_workers();
  perform migration_guard.dismiss_helpers();
  perform migration_guard.drop_leftover_views();
  perform migration_guard.end_abandoned_jobs();
  perform migration_guard.drop_leftover_imports();
  if wanted is null then
    perform migration_guard.enqueue_due_purges();
  end if;

  select j.* into job
  from migration_guard.jobs as j
  where j.status in ('queued', 'running') and j.run_by = 'worker'
    and (wanted is null or j.id = wanted)
    and not migration_guard.has_worker(j)
    and not exists (
      select from migration_guard.jobs as other
      where other.version = j.version and other.status = 'running' and other.id <> j.id and migration_guard.has_worker(other))
  order by j.number
  for update skip locked
  limit 1;
  if job.id is null then return null; end if;

  -- One that nobody can have taken before, nor wait for.
  loop
    job.worker_lock := floor(random() * 2147483647);
    exit when pg_try_advisory_lock(migration_guard.lock_class(), job.worker_lock);
  end loop;
  update migration_guard.jobs as j
  set status = 'running', attempts = j.attempts + 1, worker_pid = pg_backend_pid(), worker_lock = job.worker_lock,
    lost_workers = j.lost_workers || case when j.status = 'running' then migration_guard.lost_worker(j) else '[]' end,
    started_at = coalesce(j.started_at, clock_timestamp()),
    progress = migration_guard.fresh_progress('starting')
  where j.id = job.id
  returning j.* into job;
  return job;
end
$$;
comment on function migration_guard.claim_job(uuid) is
  'Takes the oldest job that can run now, or the wanted one if it can, and holds its lock for the session; null if none.
An abandoned job can run.';

create function migration_guard.prepare_table_locks(job migration_guard.jobs) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set client_min_messages = 'error'
as $$
declare
  tables text;
begin
  drop view if exists pg_temp.migration_guard_tables;
  -- No other job waits for all of its tables before it begins.
  if job.kind <> 'backup' then return null; end if;
  select string_agg(format('%s%I.%I as t%s', case when c.relkind = 'p' then '' else 'only ' end, n.nspname, c.relname, t.position), ', ' order by t.position) into tables
  from (
    select p.oid, row_number() over (order by p.name) as position
    from migration_guard.plan_tables((select p from migration_guard.plans as p where p.version = job.version)) as p
  ) as t
  join pg_catalog.pg_class as c on c.oid = t.oid
  join pg_catalog.pg_namespace as n on n.oid = c.relnamespace;
  begin
    -- Naming a table takes a lock on it already.
    execute 'create temporary view migration_guard_tables as select 1 as locked' || coalesce(' from ' || tables, '');
  exception
    when insufficient_privilege or undefined_table then
      -- The job itself meets the same error, and says so where it is recorded.
      create temporary view migration_guard_tables as select 1 as locked;
    when query_canceled or others then
      return sqlstate;
  end;
  return null;
end
$$;
comment on function migration_guard.prepare_table_locks(migration_guard.jobs) is
  'Makes the temporary view whose lock is a lock on every table of a backup job, in the order of their names, and of no other job.
Returns null, or the SQLSTATE of what kept it from a table.';

create function migration_guard.wanted_relations(job migration_guard.jobs) returns oid[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when job.kind = 'rollback' then (
      select array_agg(to_regclass(t.found[1])::oid)
      from migration_guard.rollback_plans as p
      cross join jsonb_array_elements_text(p.statements) as s (statement)
      cross join regexp_match(s.statement, '^lock table (.*) in access exclusive mode$') as t (found)
      where p.backup_id::text = job.parameters ->> 'backup_id' and p.plan_hash = job.parameters ->> 'plan_hash' and t.found is not null)
    when job.kind in ('cleanup', 'purge') then (
      select array_agg(c.oid)
      from migration_guard.backups as b
      join pg_catalog.pg_class as c on c.relnamespace = to_regnamespace(quote_ident(b.schema_name)) and c.relkind = 'r'
      where b.id::text = job.parameters ->> 'backup_id')
    else (select migration_guard.awaited_relations(p) from migration_guard.plans as p where p.version = job.version) end
$$;
comment on function migration_guard.wanted_relations(migration_guard.jobs) is
  'The relations whose locks a job waits for: of a rollback, the tables that its plan locks first; of a cleanup or purge, those of the backup.';

create function migration_guard.lock_holders(job migration_guard.jobs) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('%s is locked by %s', k.relation::regclass, case
      when k.prepared is not null then format('the prepared transaction %s (%s)', k.prepared, coalesce(k.role, '?'))
      else format('session %s%s (%s, %s)', k.pid, case when k.granted then '' else ', which waits for it itself,' end, coalesce(k.role, 'unknown user'), coalesce(nullif(k.application_name, ''), 'no application name'))
    end || coalesce(' for ' || k.age_seconds || ' seconds', '')), '; ' order by k.relation, k.pid)
  from (
    select distinct on (l.relation, l.pid, l.prepared) l.*
    from migration_guard.relation_locks(migration_guard.wanted_relations(job)) as l
    where l.mode = 'AccessExclusiveLock'
      -- Whoever uses a table keeps a rollback from it, which has tried for five seconds at the last.
      or job.kind = 'rollback' and l.granted and l.age_seconds >= 5
      -- And a cleanup, whose last try was longer than a second.
      or job.kind in ('cleanup', 'purge') and l.granted and l.age_seconds >= 1
    order by l.relation, l.pid, l.prepared, l.granted desc
  ) as k
$$;
comment on function migration_guard.lock_holders(migration_guard.jobs) is
  'Who keeps a job from the tables that it wants, and for how long; null where nobody does any more.';

create function migration_guard.assert_still_admin(job migration_guard.jobs) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if job.kind in ('rollback', 'cleanup', 'import') then
    perform migration_guard.require_admin_or_owner(job.actor);
  end if;
end
$$;
comment on function migration_guard.assert_still_admin(migration_guard.jobs) is
  'Raises role_required where a rollback, a cleanup or an import was asked for by a key that is no admin any more.';

create function migration_guard.run_job(job migration_guard.jobs, lock_failure text) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set row_security = off
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set extra_float_digits = 1
set bytea_output = 'hex' set quote_all_identifiers = off set standard_conforming_strings = on
set lc_monetary = 'C' set client_encoding = 'UTF8' set client_min_messages = 'error'
as $$
declare
  outcome jsonb;
  state text;
  message text;
  detail text;
  context text;
begin
  perform migration_guard.lift_transaction_timeout();
  begin
    if lock_failure is not null then
      raise exception using errcode = lock_failure, message = 'could not lock the tables';
    end if;
    perform migration_guard.assert_still_admin(job);
    outcome := case job.kind
      when 'backup' then migration_guard.run_backup(job)
      when 'verify' then migration_guard.run_verification(job)
      when 'diff' then migration_guard.run_diff(job)
      when 'cleanup' then migration_guard.run_cleanup(job)
      when 'purge' then migration_guard.run_purge(job)
      when 'rollback' then migration_guard.run_rollback(job)
      when 'export' then migration_guard.run_export_planning(job)
      when 'import' then migration_guard.run_import(job)
    end;
    drop sequence if exists pg_temp.migration_guard_shown;
    -- The function goes on where the worker has done its part.
    if outcome is null then
      update migration_guard.jobs as j set run_by = 'function', attempts = 0 where j.id = job.id;
      return null;
    end if;
    update migration_guard.jobs as j
    set status = 'succeeded', result = outcome, finished_at = clock_timestamp(),
      progress = migration_guard.finished_progress(job)
    where j.id = job.id;
    return null;
  exception when query_canceled or others then
    get stacked diagnostics state = returned_sqlstate, message = message_text, detail = pg_exception_detail, context = pg_exception_context;
  end;
  raise log 'migration_guard: job % failed: % (%)', job.id, message, state;
  if not migration_guard.is_own_error(state, context) then
    state := case when state ~ '^(MG|42501)' then 'P0001' else state end;
    message := null;
    detail := null;
  end if;
  return jsonb_build_object('state', state, 'message', message, 'detail', case when state = '55P03' then migration_guard.lock_holders(job) else detail end);
end
$$;
comment on function migration_guard.run_job(migration_guard.jobs, text) is
  'Runs a claimed job and records that it has succeeded. What a failed one had done is undone, and its failure returned:
{state, message, detail}. The settings that texts depend on are pinned here for all that it calls.';

create function migration_guard.record_failure(job migration_guard.jobs, failure jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  cancellation migration_guard.cancellations;
  error jsonb;
begin
  -- Whoever cancels it sends the signal first, and commits then.
  perform migration_guard.take_turn('jobs');
  select c.* into cancellation from migration_guard.cancellations as c where c.job_id = job.id and failure ->> 'state' = '57014';
  if cancellation.job_id is null and failure ->> 'state' = '57014' and migration_guard.is_out_of_time() then
    -- A statement timeout strikes once: what is run from now on in the same call has all the time that it needs.
    update migration_guard.jobs as j
    set status = 'queued', attempts = j.attempts - 1, progress = migration_guard.fresh_progress('queued')
    where j.id = job.id;
    return;
  end if;
  update migration_guard.jobs as j
  set status = case when cancellation.job_id is null then 'failed' else 'cancelled' end, finished_at = clock_timestamp(),
    error = case when cancellation.job_id is null then migration_guard.job_error(failure ->> 'state', failure ->> 'message', failure ->> 'detail')
      else migration_guard.cancellation_error(cancellation, job) end
  where j.id = job.id
  returning j.error into error;
  -- A plan that had overlooked something ends so. The next one is drawn by all definitions.
  if job.kind = 'rollback' and error ->> 'code' in ('rollback_differs', 'database_error') then
    delete from migration_guard.backup_versions as v where v.backup_id::text = job.parameters ->> 'backup_id';
  end if;
end
$$;
comment on function migration_guard.record_failure(migration_guard.jobs, jsonb) is
  'Records, in a transaction of its own, how a job has ended that did not succeed; one that a statement timeout has ended is queued again.';

create function migration_guard.is_out_of_time() returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select s.setting::bigint between 1 and extract(epoch from clock_timestamp() - statement_timestamp()) * 1000
    -- Remembered by the call, in which it does not strike again.
    and current_setting('migration_guard.timed_out_call', true) is distinct from statement_timestamp()::text
    and set_config('migration_guard.timed_out_call', statement_timestamp()::text, false) is not null
  from pg_settings as s where s.name = 'statement_timeout'
$$;
comment on function migration_guard.is_out_of_time() is
  'Whether the running call is older than its statement timeout, and that has not been found before: then it has struck.';

create function migration_guard.job_error(state text, message text, detail text) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('code', code.code, 'message', case
      when state like 'MG%' then message
      when code.code = 'lock_timeout' then 'A table could not be locked in time: '
        || coalesce(detail, 'somebody else was altering or using it') || '. Nothing was changed; try again.'
      when code.code = 'insufficient_privilege' then 'The database role that runs jobs lacks a privilege: ' || message || '.'
      when code.code = 'query_canceled' then 'The job was cancelled by an administrator or by a statement timeout. Nothing was changed.'
      when code.code = 'row_too_wide' then 'A row does not fit into its copy, which has values of the database''s own types as text. Nothing was changed.'
      when code.code = 'disk_full' then 'The database''s disk is full, or a file has reached a limit of the system. Nothing was changed.'
      when code.code = 'deadlock' then 'The job was in a deadlock with another session. Nothing was changed; try again.'
      else format('The database refused it with SQLSTATE %s; its log has the whole message. Nothing was changed.', state)
    end)
    || case when state like 'MG%' and detail <> '' then detail::jsonb else '{}' end
  from (select migration_guard.error_code(
    -- A limit of the system on files is no state of its own.
    case when state in ('XX000', '58030') and message ~ '^could not (extend|write)' then '53100' else state end) as code) as code
$$;
comment on function migration_guard.job_error(text, text, text) is
  'What a failed job tells: {code, message} and, of the product''s own errors, their details. No SQL text.';

create function migration_guard.cancel_job(id uuid, actor text default session_user) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  job migration_guard.jobs;
begin
  -- No worker goes on to another job meanwhile, which the signal would meet instead.
  perform migration_guard.take_turn('jobs');
  job := migration_guard.get_job(id);
  if job.finished_at is not null then
    perform migration_guard.fail('job_finished', format('The job has ended already: it is %s.', job.status));
  end if;
  insert into migration_guard.cancellations (job_id, actor) values (job.id, cancel_job.actor) on conflict (job_id) do nothing;
  perform migration_guard.end_idle_workers();
  perform migration_guard.end_abandoned_jobs();
  perform pg_cancel_backend(w.pid) from migration_guard.workers_of(job) as w;
  perform pg_cancel_backend(h.pid) from migration_guard.helpers_of(job.number) as h;
  return migration_guard.get_job(job.id);
end
$$;
comment on function migration_guard.cancel_job(uuid, text) is
  'Ends a queued job at once, and has a running one end: its statement is cancelled, and all that it has done undone. Raises
job_not_found or job_finished.';

create procedure migration_guard.run_claimed_job(job migration_guard.jobs, lock_failure pg_catalog.text default null)
language plpgsql
as $$
declare
  failure pg_catalog.jsonb;
begin
  -- The caller's search_path is in force here, as in work().
  failure := migration_guard.run_job(job, lock_failure);
  -- Nothing is sent to the client, not even that there is nothing to drop: it may be gone.
  if pg_catalog.to_regclass('pg_temp.migration_guard_tables') is not null then
    drop view pg_temp.migration_guard_tables;
  end if;
  commit;
  if failure is not null then
    begin
      perform migration_guard.record_failure(job, failure);
    exception when query_canceled then
      -- A cancel that comes when the job has ended already is no reason not to say how.
      perform migration_guard.record_failure(job, failure);
    end;
    commit;
  end if;
  perform pg_catalog.pg_advisory_unlock(migration_guard.lock_class(), job.worker_lock);
  commit;
  perform migration_guard.dismiss_helpers();
  perform migration_guard.seal_audit();
  commit;
end
$$;
comment on procedure migration_guard.run_claimed_job(migration_guard.jobs, text) is
  'Runs a job that this session has claimed, to its end, and gives back its lock. It commits.';

create function migration_guard.assert_may_work(require_no_statement_timeout boolean) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if require_no_statement_timeout and current_setting('statement_timeout') <> '0' then
    perform migration_guard.fail('statement_timeout_not_lifted', 'This session has a statement_timeout.');
  end if;
  if current_user <> migration_guard.owner() then
    raise exception using errcode = 'insufficient_privilege',
      message = format('Jobs are run by %I, who owns the product and its backups.', migration_guard.owner());
  end if;
end
$$;
comment on function migration_guard.assert_may_work(boolean) is
  'Raises insufficient_privilege for who is not the owner, and statement_timeout_not_lifted in a session that has a timeout where that is refused.';

create procedure migration_guard.work(require_no_statement_timeout boolean default false)
language plpgsql
as $$
declare
  job migration_guard.jobs;
  lock_failure pg_catalog.text;
begin
  -- The caller's search_path is in force here, and nothing must come from it: operators are qualified too.
  perform migration_guard.assert_may_work(require_no_statement_timeout);
  loop
    job := migration_guard.claim_job();
    exit when job.id is null;
    perform migration_guard.seal_audit();
    -- The claim is over before anything waits for a table, so that other workers can claim what is left.
    commit;
    set local lock_timeout = '10s';
    lock_failure := migration_guard.prepare_table_locks(job);
    if job.kind operator(pg_catalog.=) 'backup' and lock_failure is null then
      commit;
      -- Locks come before the snapshot, since TRUNCATE and rewriting ALTERs do not respect it. An expression would take
      -- the snapshot, so there is none from here to the lock: the statements are fixed, and the view stands for the tables.
      set transaction isolation level repeatable read;
      set local lock_timeout = '10s';
      begin
        lock table pg_temp.migration_guard_tables in access share mode;
      exception
        when insufficient_privilege or undefined_table then
          -- The job itself meets the same error, and says so where it is recorded.
          lock_failure := null;
        when query_canceled or others then
          lock_failure := sqlstate;
      end;
      -- Not in a block that catches errors, where nothing can be exported.
      perform pg_catalog.set_config('migration_guard.snapshot', pg_catalog.pg_export_snapshot(), true);
    else
      commit;
      -- Whatever the role's or the database's default: what has waited for a lock must see what others have committed meanwhile.
      set transaction isolation level read committed;
      set local lock_timeout = '10s';
    end if;
    -- Postgres takes what reads the catalog for far more than it is, and to compile it takes longer than to run it.
    set local jit = off;
    call migration_guard.run_claimed_job(job, lock_failure);
  end loop;
  commit;
  if require_no_statement_timeout then
    reset statement_timeout;
  end if;
end
$$;
comment on procedure migration_guard.work(boolean) is
  'Runs queued jobs until there is none, each in a transaction of its own. It commits, so that it may not be called in a
transaction; set statement_timeout = 0 before, since a running call keeps the timeout that it began with. A caller behind
a connection pooler, who cannot know which session its setting reached, says require_no_statement_timeout: then the call
does nothing but raise statement_timeout_not_lifted in a session that has a timeout, and resets it at the end.';
