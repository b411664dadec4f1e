-- Chapter 4. Jobs: long work, queued here and done by the worker (chapter 9), and the registry of backups.

create table migration_guard.jobs (
  id uuid primary key default gen_random_uuid(),
  -- Order of arrival, and the key of the advisory lock that a worker holds while it runs the job.
  number int generated always as identity unique,
  kind text not null,
  version text not null,
  status text not null default 'queued',
  -- What the request asked for, besides the version.
  parameters jsonb not null default '{}',
  -- The last progress that was recorded; that of a running job is read from its session (job_progress).
  progress jsonb not null default '{"step": "queued", "done": 0, "total": null, "percent": 0}',
  result jsonb,
  -- {code, message, detail} of a failed job.
  error jsonb,
  -- Name of the key that asked, and the request in which it did.
  actor text not null,
  request_id text,
  -- How often a worker has claimed the job, and the backend that did so last.
  attempts int not null default 0,
  worker_pid int,
  -- Of each worker that was lost: its backend, when it had claimed the job, and when it was missed.
  lost_workers jsonb not null default '[]',
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  constraint kind_is_known check (kind in ('backup', 'verify', 'diff', 'rollback', 'cleanup')),
  constraint status_is_known check (status in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
  constraint version_is_normalized check (version = migration_guard.normalize_version(version)),
  constraint ended_when_finished check ((finished_at is not null) = (status in ('succeeded', 'failed', 'cancelled'))),
  constraint failed_with_error check ((error is not null) = (status in ('failed', 'cancelled')))
);
comment on table migration_guard.jobs is 'Long work: queued by a request, run by the worker, one transaction each.';

-- However many ask at once, a version has one backup, rollback or cleanup under way.
create unique index one_exclusive_job_per_version on migration_guard.jobs (version)
  where kind in ('backup', 'cleanup', 'rollback') and status in ('queued', 'running');
create unique index jobs_by_arrival on migration_guard.jobs (number) where status in ('queued', 'running');

create table migration_guard.cancellations (
  job_id uuid primary key references migration_guard.jobs,
  actor text not null,
  requested_at timestamptz not null default clock_timestamp()
);
comment on table migration_guard.cancellations is
  'Jobs that somebody wants to end. Not in the job''s row, which the snapshot of a running backup would keep from its worker.';

create table migration_guard.idempotency_keys (
  actor text not null,
  -- As the request's header gave it.
  key text not null,
  -- SHA-256 of what the request asked for.
  request_hash text not null,
  job_id uuid not null,
  created_at timestamptz not null default now(),
  primary key (actor, key)
);
comment on table migration_guard.idempotency_keys is 'Which job a request has made, for 24 hours: its repetition gets the same.';

create table migration_guard.backups (
  id uuid primary key default gen_random_uuid(),
  version text not null,
  -- The schema that holds the copy.
  schema_name text not null,
  -- The plan as it was when the backup was taken: a later change of the plan does not touch the backup's rules.
  plan jsonb not null,
  actor text not null,
  created_at timestamptz not null default clock_timestamp(),
  -- Checksums as they were when the backup was taken, kept outside of its schema.
  manifest text not null,
  verification_source text not null,
  -- Everything that was in the schema when the backup was taken; a cleanup removes that and nothing else.
  members text[] not null,
  -- Size of the copied tables when the backup was taken, which is known when they are gone, too.
  bytes bigint not null,
  -- Outcome and time of the last verification job.
  verified_ok boolean,
  verified_at timestamptz,
  -- {is_clean, summary} of the last diff.
  last_diff jsonb,
  last_diff_at timestamptz,
  -- The sign-off of the migration; the retention clock starts here.
  confirmed_at timestamptz,
  confirmed_by text,
  confirmation_note text,
  rolled_back_at timestamptz,
  rolled_back_by text,
  removed_at timestamptz,
  removed_by text,
  constraint schema_belongs_to_version check (schema_name = migration_guard.backup_schema_name(version)),
  constraint verified_with_time check ((verified_ok is null) = (verified_at is null)),
  constraint compared_with_time check ((last_diff is null) = (last_diff_at is null)),
  constraint confirmed_with_actor check ((confirmed_at is null) = (confirmed_by is null)),
  constraint rolled_back_with_actor check ((rolled_back_at is null) = (rolled_back_by is null)),
  constraint removed_with_actor check ((removed_at is null) = (removed_by is null))
);
comment on table migration_guard.backups is 'Every backup that was ever taken, those that were cleaned up included.';
create unique index one_backup_per_version on migration_guard.backups (version) where removed_at is null;

create table migration_guard.cleanup_tokens (
  -- SHA-256 of the token, in hex; the token itself is shown once and stored nowhere.
  token_hash text not null,
  backup_id uuid not null references migration_guard.backups,
  actor text not null,
  expires_at timestamptz not null,
  -- The job that spent it.
  spent_by uuid unique references migration_guard.jobs,
  primary key (backup_id, token_hash)
);
comment on table migration_guard.cleanup_tokens is 'One-time tokens that a cleanup wants, ten minutes each.';

create function migration_guard.find_backup(version text) returns migration_guard.backups
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select b.*
  from migration_guard.backups as b
  where b.version = migration_guard.normalize_version(find_backup.version) and b.removed_at is null
$$;
comment on function migration_guard.find_backup(text) is 'The registered backup of a version, or null.';

create function migration_guard.get_backup(version text) returns migration_guard.backups
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted constant text := migration_guard.normalize_version(version);
  backup constant migration_guard.backups := migration_guard.find_backup(wanted);
begin
  if backup.id is null then
    perform migration_guard.fail('backup_not_found', format('There is no backup of %s.', wanted));
  end if;
  return backup;
end
$$;
comment on function migration_guard.get_backup(text) is 'The registered backup of a version. Raises backup_not_found.';

create function migration_guard.get_job(id uuid) returns migration_guard.jobs
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  job migration_guard.jobs;
begin
  select j.* into job from migration_guard.jobs as j where j.id = get_job.id;
  if job.id is null then
    perform migration_guard.fail('job_not_found', format('There is no job %s.', id));
  end if;
  return job;
end
$$;
comment on function migration_guard.get_job(uuid) is 'A job. Raises job_not_found.';

create function migration_guard.enqueue(
  kind text, version text, actor text, parameters jsonb default '{}', request_id text default null
) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  job migration_guard.jobs;
begin
  insert into migration_guard.jobs as j (kind, version, actor, parameters, request_id)
  values (enqueue.kind, migration_guard.normalize_version(enqueue.version), enqueue.actor, enqueue.parameters, enqueue.request_id)
  returning j.* into job;
  return job;
exception when unique_violation then
  perform migration_guard.fail(
    'backup_in_progress', format('A backup, a rollback or a cleanup of %s is under way already.', version));
end
$$;
comment on function migration_guard.enqueue(text, text, text, jsonb, text) is
  'Queues a job. Raises backup_in_progress when a backup, rollback or cleanup of the version is queued or running.';

-- Requests that come again --------------------------------------------------------------------------------------------

create function migration_guard.request_hash(request jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select encode(sha256(convert_to(request::text, 'UTF8')), 'hex') $$;
comment on function migration_guard.request_hash(jsonb) is 'What is kept of a request, which may hold a token.';

create function migration_guard.repeated_job(actor text, key text, request jsonb) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  known migration_guard.idempotency_keys;
begin
  if key is null then return null; end if;
  if length(key) not between 1 and 255 then
    perform migration_guard.fail('invalid_parameter', 'An Idempotency-Key has 1 to 255 characters.');
  end if;
  -- The same request at the same time waits until the first one has its job.
  perform pg_advisory_xact_lock(hashtextextended(jsonb_build_array('migration_guard', actor, key)::text, 0));
  delete from migration_guard.idempotency_keys as k where k.created_at < now() - interval '24 hours';
  select k.* into known from migration_guard.idempotency_keys as k where k.actor = repeated_job.actor and k.key = repeated_job.key;
  if known.key is null then return null; end if;
  if known.request_hash <> migration_guard.request_hash(request) then
    perform migration_guard.fail('idempotency_key_reused', 'This Idempotency-Key came with another request in the last 24 hours. Take a new one.');
  end if;
  return migration_guard.get_job(known.job_id);
end
$$;
comment on function migration_guard.repeated_job(text, text, jsonb) is
  'The job that a request with this key has made already, or null. Raises idempotency_key_reused when it asked for something else.';

create function migration_guard.remember_request(job migration_guard.jobs, key text, request jsonb) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into migration_guard.idempotency_keys (actor, key, request_hash, job_id)
  select job.actor, remember_request.key, migration_guard.request_hash(request), job.id where remember_request.key is not null;
  return job;
end
$$;
comment on function migration_guard.remember_request(migration_guard.jobs, text, jsonb) is
  'Keeps which job a request has made, where it came with a key; returns the job.';

-- Progress ------------------------------------------------------------------------------------------------------------

create function migration_guard.report_progress(job migration_guard.jobs, step text, done bigint, total bigint)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- A session's application_name is seen by others at once, while nothing else of its transaction is.
  select set_config('application_name', format('migration_guard/%s/%s/%s/%s', job.number, done, total, step), true)
$$;
comment on function migration_guard.report_progress(migration_guard.jobs, text, bigint, bigint) is
  'Shows how far the running job is: a step, and how many units of work of how many are done.';

create function migration_guard.job_progress(job migration_guard.jobs) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    (
      select jsonb_build_object(
        'step', split_part(a.application_name, '/', 5), 'done', p.done, 'total', p.total,
        'percent', case when p.total > 0 then floor(100.0 * p.done / p.total) else 0 end)
      from pg_catalog.pg_stat_activity as a
      cross join lateral (
        select split_part(a.application_name, '/', 3)::bigint as done, split_part(a.application_name, '/', 4)::bigint as total
      ) as p
      where job.status = 'running'
        and a.pid = job.worker_pid
        and a.application_name ~ format('^migration_guard/%s/[0-9]+/[0-9]+/', job.number)
    ),
    job.progress)
$$;
comment on function migration_guard.job_progress(migration_guard.jobs) is
  'Progress of a job as {step, done, total, percent}: live while it runs, the last recorded otherwise.';

-- Plans that are in use -----------------------------------------------------------------------------------------------

create function migration_guard.assert_backup_agrees(plan migration_guard.plans) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  -- One whose schema somebody dropped by hand holds nothing any more.
  held constant jsonb := (
    select b.plan from migration_guard.backups as b
    where b.version = plan.version and b.removed_at is null and to_regnamespace(format('%I', b.schema_name)) is not null);
  about_the_plan constant text[] := '{title,description,retention_days,contacts}';
begin
  if (held - about_the_plan) <> (migration_guard.plan_document(plan) - about_the_plan) then
    perform migration_guard.fail(
      'plan_in_use', format('There is a backup of %s, which holds what the plan has named until now: clean that up first.', plan.version));
  end if;
end
$$;
comment on function migration_guard.assert_backup_agrees(migration_guard.plans) is
  'Raises plan_in_use when a plan names other objects than the version''s backup holds.';

create function migration_guard.contacts(version text) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    (migration_guard.find_backup(contacts.version)).plan -> 'contacts',
    (select to_jsonb(p.contacts) from migration_guard.plans as p where p.version = migration_guard.normalize_version(contacts.version)),
    '[]')
$$;
comment on function migration_guard.contacts(text) is
  'Whom to call about a version: the contacts of its backup''s plan, or of the plan where there is no backup.';

create function migration_guard.delete_plan(version text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  plan constant migration_guard.plans := migration_guard.get_plan(version);
begin
  if exists (
      select from migration_guard.backups as b
      where b.version = plan.version and b.removed_at is null and to_regnamespace(format('%I', b.schema_name)) is not null)
    or exists (
      select from migration_guard.jobs as j where j.version = plan.version and j.status in ('queued', 'running')
    ) then
    perform migration_guard.fail(
      'plan_in_use', format('The plan of %s has a backup or a job under way: clean that up first.', plan.version));
  end if;
  delete from migration_guard.plans as p where p.version = plan.version;
end
$$;
comment on function migration_guard.delete_plan(text) is
  'Removes a plan. Raises plan_not_found, or plan_in_use while it has a backup or a job.';
