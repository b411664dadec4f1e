-- Chapter 4. Jobs: long work, queued here and done by the worker (chapter 9), and the registry of backups.

create table migration_guard.jobs (
  id uuid primary key default gen_random_uuid(),
  -- Order of arrival.
  number int generated always as identity unique,
  kind text not null,
  version text not null,
  status text not null default 'queued',
  -- What the request asked for, besides the version.
  parameters jsonb not null default '{}',
  -- Where it tells that it has ended: as its plan said when it was asked for (chapter 10, webhooks).
  notify_url text,
  -- The last progress that was recorded; that of a running job is read from its session (job_progress).
  progress jsonb not null default '{"step": "queued", "done": 0, "total": null, "unit": null, "percent": 0, "eta_seconds": null}',
  result jsonb,
  -- {code, message, detail} of a failed job.
  error jsonb,
  -- Name of the key that asked, and the request in which it did.
  actor text not null,
  request_id text,
  -- How often a worker has claimed the job, and the backend that did so last.
  attempts int not null default 0,
  worker_pid int,
  -- The key of the advisory lock that this worker holds while it runs the job.
  worker_lock int,
  -- Who has it at present: the worker in the database or, for what needs an object store, the function (chapter 9.4).
  run_by text not null default 'worker',
  -- Of each worker that was lost: its backend, when it had claimed the job, and when it was missed.
  lost_workers jsonb not null default '[]',
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  constraint kind_is_known check (kind in ('backup', 'verify', 'diff', 'rollback', 'cleanup', 'purge', 'export', 'verify_export', 'remove_export', 'import')),
  constraint run_by_is_known check (run_by in ('worker', 'function')),
  constraint status_is_known check (status in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
  constraint version_is_normalized check (version = migration_guard.normalize_version(version)),
  constraint ended_when_finished check ((finished_at is not null) = (status in ('succeeded', 'failed', 'cancelled'))),
  constraint failed_with_error check ((error is not null) = (status in ('failed', 'cancelled')))
);
comment on table migration_guard.jobs is 'Long work: queued by a request, run by the worker, one transaction each.';

-- However many ask at once, a version has one backup, import, rollback or cleanup under way.
create unique index one_exclusive_job_per_version on migration_guard.jobs (version)
  where kind in ('backup', 'cleanup', 'import', 'rollback') and status in ('queued', 'running');
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
  -- The schema that holds the copy, or has held it.
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
  -- Of the whole catalog, as it was read: see object_versions.
  catalog_fingerprint text,
  -- The version of its row of backup_metadata, which is another where that was loaded from elsewhere, and the server's timeline.
  metadata_version xid,
  timeline int,
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
  -- A cleanup has put it into the trash, from which it can be brought back until then.
  trashed_at timestamptz,
  trashed_by text,
  purge_after timestamptz,
  removed_at timestamptz,
  removed_by text,
  constraint schema_belongs_to_version check (
    schema_name = case when trashed_at is null then migration_guard.backup_schema_name(version) else migration_guard.trash_schema_name(version, id) end),
  constraint trashed_with_actor check ((trashed_at is null) = (trashed_by is null) and (trashed_at is null) = (purge_after is null)),
  constraint trashed_when_confirmed check (trashed_at is null or confirmed_at is not null),
  constraint verified_with_time check ((verified_ok is null) = (verified_at is null)),
  constraint compared_with_time check ((last_diff is null) = (last_diff_at is null)),
  constraint confirmed_with_actor check ((confirmed_at is null) = (confirmed_by is null)),
  constraint rolled_back_with_actor check ((rolled_back_at is null) = (rolled_back_by is null)),
  constraint removed_with_actor check ((removed_at is null) = (removed_by is null))
);
comment on table migration_guard.backups is 'Every backup that was ever taken, those that were cleaned up included.';
create unique index one_backup_per_version on migration_guard.backups (version) where removed_at is null and trashed_at is null;

create table migration_guard.backup_versions (
  backup_id uuid primary key references migration_guard.backups on delete cascade,
  -- Of each object in the catalog, as it was when the backup was taken: see object_versions.
  classids oid[] not null,
  objids oid[] not null,
  versions bigint[] not null,
  -- What recorded objects need that is not recorded, by the names that it had: see outside_needs.
  needs jsonb not null
);
comment on table migration_guard.backup_versions is
  'By which versions of the catalog''s rows it is known what was altered since a backup, until the next backup after that has been removed.';

create table migration_guard.cleanup_tokens (
  -- SHA-256 of the token, in hex; the token itself is shown once and stored nowhere.
  token_hash text not null,
  backup_id uuid not null references migration_guard.backups,
  actor text not null,
  -- The export of the backup whose removal it is for; null for a cleanup.
  export text,
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
  where b.version = migration_guard.normalize_version(find_backup.version) and b.removed_at is null and b.trashed_at is null
$$;
comment on function migration_guard.find_backup(text) is 'The registered backup of a version, or null where there is none but in the trash.';

create function migration_guard.find_in_trash(version text, backup_id uuid default null) returns migration_guard.backups
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select b.*
  from migration_guard.backups as b
  where b.version = migration_guard.normalize_version(find_in_trash.version) and b.removed_at is null and b.trashed_at is not null
    and (find_in_trash.backup_id is null or b.id = find_in_trash.backup_id)
  order by b.trashed_at desc limit 1
$$;
comment on function migration_guard.find_in_trash(text, uuid) is
  'The backup of a version with an id, or the one that was put into the trash last; null where it is not there.';

create function migration_guard.get_backup(version text) returns migration_guard.backups
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted constant text := migration_guard.normalize_version(version);
  backup constant migration_guard.backups := migration_guard.find_backup(wanted);
begin
  if backup.id is null then
    perform migration_guard.fail('backup_not_found', format('There is no backup of %s%s', wanted,
      coalesce(' but one in the trash, which restore-from-trash brings back until ' || (migration_guard.find_in_trash(wanted)).purge_after || '.',
        '. GET /v1/backups lists those that there are.')));
  end if;
  return backup;
end
$$;
comment on function migration_guard.get_backup(text) is 'The registered backup of a version. Raises backup_not_found.';

create function migration_guard.assert_schema_is_free(version text, advice text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  schema_name constant text := migration_guard.backup_schema_name(version);
begin
  if exists (select from pg_namespace as n where n.nspname = schema_name) then
    perform migration_guard.fail('backup_exists', case when (migration_guard.find_backup(version)).id is null
      then format('The schema %s is there, and is no registered backup: as the owner of the database, drop it or rename it by hand, and try again then.', schema_name)
      else format('The schema %s is there already, and is never touched again: %s.', schema_name, advice) end);
  end if;
end
$$;
comment on function migration_guard.assert_schema_is_free(text, text) is
  'Raises backup_exists where the schema that a backup of a version would have is there, and says what to do: advice, where it is that backup.';

create function migration_guard.assert_nothing_under_way(version text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  job migration_guard.jobs;
begin
  select j.* into job from migration_guard.jobs as j
  where j.version = migration_guard.normalize_version(assert_nothing_under_way.version)
    and j.kind in ('backup', 'cleanup', 'import', 'rollback') and j.status in ('queued', 'running')
  order by j.number limit 1;
  if job.id is not null then
    perform migration_guard.fail('backup_in_progress',
      format('The %s of %s is %s, as the job %s: wait for its end, or cancel it.', job.kind, job.version, job.status, job.id));
  end if;
end
$$;
comment on function migration_guard.assert_nothing_under_way(text) is
  'Raises backup_in_progress when a backup, import, rollback or cleanup of a version is queued or running.';

create function migration_guard.forget_dropped_backup(version text, backup_id uuid default null) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update migration_guard.backups as b
  set removed_at = clock_timestamp(), removed_by = 'unknown: its schema was dropped without a cleanup'
  where b.version = forget_dropped_backup.version and b.id = coalesce(backup_id, b.id) and b.removed_at is null and b.trashed_at is null
$$;
comment on function migration_guard.forget_dropped_backup(text, uuid) is
  'Registers that the backup of a version, or that with an id alone, is gone, for a caller who has seen that its schema is.';

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
  perform migration_guard.assert_job_limit(actor);
  insert into migration_guard.jobs as j (kind, version, actor, parameters, request_id, notify_url)
  values (enqueue.kind, migration_guard.normalize_version(enqueue.version), enqueue.actor, enqueue.parameters, enqueue.request_id,
    migration_guard.notify_url(enqueue.version))
  returning j.* into job;
  return job;
exception when unique_violation then
  perform migration_guard.fail(
    'backup_in_progress', format('A backup, an import, a rollback or a cleanup of %s is under way already.', version));
end
$$;
comment on function migration_guard.enqueue(text, text, text, jsonb, text) is
  'Queues a job. Raises too_many_jobs, or backup_in_progress when a backup, import, rollback or cleanup of the version is queued or running.';

-- Requests that come again --------------------------------------------------------------------------------------------

create function migration_guard.request_hash(request jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select encode(sha256(convert_to(request::text, 'UTF8')), 'hex') $$;
comment on function migration_guard.request_hash(jsonb) is 'What is kept of a request, which may hold a token.';

create function migration_guard.repeated_job(actor text, key text, request jsonb) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- The first request may draw a rollback plan before it commits.
set lock_timeout = '0'
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
  -- Whatever another request holds is left to a later one.
  delete from migration_guard.idempotency_keys as k
  where (k.actor, k.key) in (
    select o.actor, o.key from migration_guard.idempotency_keys as o
    where o.created_at < now() - interval '24 hours' limit 100 for update skip locked);
  select k.* into known from migration_guard.idempotency_keys as k where k.actor = repeated_job.actor and k.key = repeated_job.key
    and k.created_at >= now() - interval '24 hours';
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
  select job.actor, remember_request.key, migration_guard.request_hash(request), job.id where remember_request.key is not null
  on conflict on constraint idempotency_keys_pkey
  do update set request_hash = excluded.request_hash, job_id = excluded.job_id, created_at = excluded.created_at;
  return job;
end
$$;
comment on function migration_guard.remember_request(migration_guard.jobs, text, jsonb) is
  'Keeps which job a request has made, where it came with a key; returns the job.';

-- Progress ------------------------------------------------------------------------------------------------------------
-- While a job's transaction is open, others see nothing of it but the session's application_name. A job has so many units of
-- work; reading a table is a pass of so many of them, which tells how far into the table it is.

create function migration_guard.show_progress(within_pass bigint default 0) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  total constant bigint := nullif(current_setting('migration_guard.progress_total', true), '')::bigint;
  done bigint := least(nullif(current_setting('migration_guard.progress_done', true), '')::bigint + within_pass, total);
  shown text;
begin
  if total is not null then
    -- What was shown is not taken back, though sizes change while a job runs, and settings are undone with what fails in it.
    done := (select greatest(s.last_value, done) from pg_temp.migration_guard_shown as s);
    perform setval('pg_temp.migration_guard_shown', done);
    shown := format('migration_guard/%s/%s/%s/%s', current_setting('migration_guard.progress_job', true), done, total,
      current_setting('migration_guard.progress_step', true));
    perform set_config('migration_guard.next_tick', (extract(epoch from clock_timestamp()) + 0.1)::text, true);
    -- Of a name, 63 bytes are kept.
    if octet_length(shown) > 63 then
      shown := regexp_replace(shown, case when octet_length(regexp_replace(shown, '[+][0-9]+$', '')) <= 63 then '[+][0-9]+$' else '@[0-9+]+$' end, '');
    end if;
    perform set_config('application_name', shown, true);
  end if;
end
$$;
comment on function migration_guard.show_progress(bigint) is
  'Shows in the session''s application_name how far the running job is: its number, units done, units in all, step. Does
nothing where no job is running.';

create function migration_guard.progress_unit(kind text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select case when kind = 'rollback' then 'rows' when kind in ('cleanup', 'purge') then 'statements' when kind = 'remove_export' then 'objects' else 'bytes' end $$;
comment on function migration_guard.progress_unit(text) is 'What a kind of job counts its work in.';

create function migration_guard.report_progress(job migration_guard.jobs, step text, done bigint, total bigint, label text default null)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Nothing undoes what a sequence is set to. It is dropped when the job ends.
  if to_regclass('pg_temp.migration_guard_shown') is null then
    create temporary sequence migration_guard_shown minvalue 0;
  end if;
  -- All of these end with the transaction.
  perform set_config('migration_guard.progress_job', coalesce(label, job.number::text), true);
  perform set_config('migration_guard.progress_unit', migration_guard.progress_unit(job.kind), true);
  perform set_config('migration_guard.progress_step', step, true);
  perform set_config('migration_guard.progress_done', least(done, total)::text, true);
  perform set_config('migration_guard.progress_total', total::text, true);
  perform set_config('migration_guard.pass', '', true);
  perform migration_guard.show_progress();
end
$$;
comment on function migration_guard.report_progress(migration_guard.jobs, text, bigint, bigint, text) is
  'Shows where the running job stands: a step, and how many units of work of how many are done. A step is a word, or a word
and @ and the OID of a table, or the number of a statement, + and its units of work. The label of what is shown is the job''s
number, or help/ and that number.';

create function migration_guard.begin_step(step text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config('migration_guard.progress_step', step, true);
  perform migration_guard.show_progress();
end
$$;
comment on function migration_guard.begin_step(text) is
  'Shows that the running job, if there is one, has begun another step. "trying" is what is shown for a moment when all that a
block has done is undone, its steps included; the block itself begins with another one.';

create function migration_guard.finish_work(units bigint) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config('migration_guard.progress_done',
    (nullif(current_setting('migration_guard.progress_done', true), '')::bigint + units)::text, true);
  perform set_config('migration_guard.pass', '', true);
  perform migration_guard.show_progress();
end
$$;
comment on function migration_guard.finish_work(bigint) is 'Counts units of work of the running job, if there is one, as done.';

create function migration_guard.unshown_units(units bigint) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select greatest(current_setting('migration_guard.progress_done')::bigint + units - s.last_value, 0)
    from pg_temp.migration_guard_shown as s);
end
$$;
comment on function migration_guard.unshown_units(bigint) is
  'How many of the next units of work of the running job count for who looks: more have been shown than are done where work was undone.';

create function migration_guard.is_plain_table(relation oid) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from pg_class as c where c.oid = relation and c.relkind = 'r');
end
$$;
comment on function migration_guard.is_plain_table(oid) is 'Whether a relation is a table with rows of its own, as a partition is, too.';

create function migration_guard.table_bytes(relation oid) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if migration_guard.is_plain_table(relation) then return coalesce(pg_table_size(relation), 0); end if;
  return (
    -- A partitioned table has no storage of its own.
    select coalesce(sum(pg_table_size(c.oid)), 0)::bigint
    from pg_partition_tree(relation) as p join pg_class as c on c.oid = p.relid and c.relkind = 'r');
end
$$;
comment on function migration_guard.table_bytes(oid) is 'Bytes of a table, or of all its partitions, with TOAST; 0 for none.';

create function migration_guard.table_blocks(relation oid) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if migration_guard.is_plain_table(relation) then
    return coalesce(pg_relation_size(relation), 0) / current_setting('block_size')::int;
  end if;
  return (
    select (coalesce(sum(pg_relation_size(c.oid)), 0) / current_setting('block_size')::int)::bigint
    from pg_partition_tree(relation) as p join pg_class as c on c.oid = p.relid and c.relkind = 'r');
end
$$;
comment on function migration_guard.table_blocks(oid) is 'Blocks of a table, or of all its partitions, without TOAST.';

create function migration_guard.begin_pass(step text, relations oid[], units bigint) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Units and blocks of the pass, then the blocks of the tables and partitions that are behind it, and of the present one.
  perform set_config('migration_guard.pass', format('{%s,%s,0,0}', units,
    (select coalesce(sum(migration_guard.table_blocks(r)), 0) from unnest(relations) as r)), true);
  perform set_config('migration_guard.pass_table', '', true);
  perform migration_guard.begin_step(step);
end
$$;
comment on function migration_guard.begin_pass(text, oid[], bigint) is
  'Begins a step that reads tables whose rows tick, and says how many units of work that is.';

create function migration_guard.tick(table_id oid, place tid) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  is_same constant boolean := current_setting('migration_guard.pass_table', true) = table_id::text;
  is_due constant boolean := extract(epoch from clock_timestamp()) >= nullif(current_setting('migration_guard.next_tick', true), '')::numeric;
  pass bigint[];
begin
  if is_same and not is_due then
    return true;
  end if;
  pass := nullif(current_setting('migration_guard.pass', true), '');
  if pass is null then
    return true;
  end if;
  if not is_same then
    pass := array[pass[1], pass[2], pass[3] + pass[4], pg_relation_size(table_id) / current_setting('block_size')::int];
    perform set_config('migration_guard.pass', pass::text, true);
    perform set_config('migration_guard.pass_table', table_id::text, true);
  end if;
  if is_due then
    perform migration_guard.show_progress(
      (pass[1] * least((pass[3] + (place::text::point)[0]) / nullif(pass[2], 0), 1))::bigint);
  end if;
  return true;
end
$$;
comment on function migration_guard.tick(oid, tid) is
  'Shows, ten times a second at most, how far into the pass a row is. Always true, so that a query can ask it of some rows.';

create function migration_guard.has_blocks(relation oid) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return (
    select bool_and(c.relkind = 'p' or c.relkind = 'r' and c.relam = (select a.oid from pg_am as a where a.amname = 'heap'))
    from (select relation as oid union select p.relid from pg_partition_tree(relation) as p) as r
    -- Each by itself: how many there are is not known to who plans it, and to read all of pg_class for one takes long.
    cross join lateral (select x.relkind, x.relam from pg_class as x where x.oid = r.oid offset 0) as c);
end
$$;
comment on function migration_guard.has_blocks(oid) is
  'Whether a row''s place tells how far into its table it is: not in foreign tables, nor in storage that is no heap.';

create function migration_guard.ticking(relation oid, alias text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  bytes constant bigint := migration_guard.table_bytes(relation);
  blocks bigint;
begin
  -- What is read in less than a second anyway may be read in parallel.
  if bytes < 67108864 or coalesce(current_setting('migration_guard.progress_job', true), '') = '' or not migration_guard.has_blocks(relation) then
    return null;
  end if;
  blocks := migration_guard.table_blocks(relation);
  if blocks = 0 then return null; end if;
  return format('case when pg_catalog.hashtid(%1$sctid) & %2$s = 0 then migration_guard.tick(%1$stableoid, %1$sctid) else true end',
    coalesce(quote_ident(alias) || '.', ''),
    -- A block holds a row at least: one of as many rows as a megabyte has blocks, or all where there is that much TOAST.
    (2 ^ floor(log(2, greatest(1, least(128, 1048576.0 * blocks / bytes)))))::int - 1);
end
$$;
comment on function migration_guard.ticking(oid, text) is
  'A condition that is always true and ticks at some of the rows that a query reads from a table; null where that is not worth
while. A query that ticks is not parallel, since no setting can be changed in one that is.';

create function migration_guard.fresh_progress(step text) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select jsonb_build_object('step', step, 'done', 0, 'total', null, 'unit', null, 'percent', 0, 'eta_seconds', null) $$;
comment on function migration_guard.fresh_progress(text) is 'Progress of a job that has not told yet how much there is to do.';

create function migration_guard.finished_progress(job migration_guard.jobs) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('step', 'done', 'done', t.total, 'total', t.total, 'unit', migration_guard.progress_unit(job.kind),
    'percent', 100, 'eta_seconds', 0)
  from (select coalesce(nullif(current_setting('migration_guard.progress_total', true), '')::bigint, 0) as total) as t
$$;
comment on function migration_guard.finished_progress(migration_guard.jobs) is 'Progress of a job that has done all that it had to do.';

create function migration_guard.step_text(job migration_guard.jobs, step text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (select coalesce(
    case
      when s.number is null or s.word = 'snapshot' then w.text
      when s.word = 'statement' then (
        select left(p.statements ->> (s.number - 1)::int, 200) from migration_guard.rollback_plans as p
        where p.plan_hash = job.parameters ->> 'plan_hash' and p.backup_id::text = job.parameters ->> 'backup_id')
      else (
        select format('%s %I.%I', s.word, n.nspname, c.relname)
        from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = s.number) end,
    concat_ws(' ', s.word, case when s.word = 'statement' then s.number end))
  from (select split_part(step, '@', 1) as word, substring(step from '@([0-9]+)')::bigint as number) as s
  left join (values
    ('trying', 'reading the catalog'),
    ('catalog', 'reading the catalog'),
    ('snapshot', 'reading the catalog'),
    ('planning', 'planning the chunks'),
    ('metadata', 'recording the metadata'),
    ('checks', 'checking what was recorded'),
    ('dropping', 'dropping the copy'),
    ('trashing', 'putting the copy into the trash'),
    ('waiting', 'waiting for locks'),
    ('proof', 'comparing with the backup'),
    ('undoing', 'undoing what was rehearsed')
  ) as w (word, text) on w.word = s.word);
end
$$;
comment on function migration_guard.step_text(migration_guard.jobs, text) is
  'A step as a reader wants it: with the name of the table, or with the statement.';

create function migration_guard.built_part(worker_pid int, is_settled boolean) returns float8
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    -- Of a partitioned table, one partition's after the other.
    when p.partitions_total > 0 then p.partitions_done::float8 / p.partitions_total
    -- The table is read, what was read is sorted, and then written.
    when p.phase ~ '^building index: sorting' then 0.5
    -- Before the first is written, it may still say how many were read.
    when p.phase ~ '^building index: loading' and p.tuples_total > 0 and p.tuples_done >= p.tuples_total and not is_settled then null
    when p.phase ~ '^building index: loading' then 0.5 + 0.5 * coalesce(p.tuples_done::float8 / nullif(p.tuples_total, 0), 0)
    else 0.5 * coalesce(p.blocks_done::float8 / nullif(p.blocks_total, 0), 0) end
  from pg_catalog.pg_stat_progress_create_index as p
  where p.pid = worker_pid and p.datid = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
$$;
comment on function migration_guard.built_part(int, boolean) is
  'How much of the index that a session builds is done, from 0 to 1; null where it builds none, or, unless that has been so for a while, where
it may be that nothing is written yet, or all.';

create function migration_guard.done_within(job migration_guard.jobs, step text, is_waiting boolean, is_settled boolean) returns bigint
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when step = 'trying' then null
    -- Other statements may build several, one after the other.
    when migration_guard.step_text(job, step) !~* '^create (unique )?index |^alter table .* add constraint ("([^"]|"")+"|\S+) (primary key|unique|exclude) ' then 0
    -- The statement's own unit is not of the rows, and one without rows is not told of before it is done.
    else coalesce(
      (greatest(substring(step from '[+]([0-9]+)$')::bigint - 1, 0) * migration_guard.built_part(job.worker_pid, is_settled))::bigint,
      case when is_waiting then 0 end) end
$$;
comment on function migration_guard.done_within(migration_guard.jobs, text, boolean, boolean) is
  'Units of work that are done of the present step, as Postgres tells; null between two steps, and where it should be building
an index and is not: then it has just ended, or is about to begin.';

create function migration_guard.done_by_helper(job_number int, total bigint) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    -- What it does is to read all tables, which is a third of a backup's work.
    select coalesce(max(case when starts_with(h.shown, '=') then total / 3 else substring(h.shown from '^[0-9]+')::bigint end), 0)
    from migration_guard.helpers_of(job_number) as h);
end
$$;
comment on function migration_guard.done_by_helper(int, bigint) is 'Units of work of a backup that a helper has done.';

create function migration_guard.is_rehearsal(job migration_guard.jobs) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select case when job.kind = 'rollback' then (job.parameters ->> 'rehearse')::boolean end $$;
comment on function migration_guard.is_rehearsal(migration_guard.jobs) is
  'Whether a rollback undoes all at its end; null for a job of another kind.';

create function migration_guard.job_progress(job migration_guard.jobs) returns jsonb
-- Volatile, to see at its second look what has been committed since the first.
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  recorded jsonb := job.progress;
  shown record;
  within bigint;
begin
  if job.status <> 'running' then return recorded; end if;
  if job.run_by = 'function' then return migration_guard.transfer_progress(job); end if;
  -- What was told is not taken back for the moment between a step and the next, while what a block has done is undone, or
  -- between the end of the work and its record.
  for look in 1..50 loop
    perform pg_stat_clear_snapshot();
    select m.parts[1]::bigint as done, m.parts[2]::bigint as total, m.parts[3] as step, a.xact_start, coalesce(a.wait_event_type = 'Lock', false) as is_waiting
    into shown
    from pg_catalog.pg_stat_activity as a
    cross join lateral regexp_match(a.application_name, format('^migration_guard/%s/([0-9]+)/([0-9]+)/(.*)$', job.number)) as m (parts)
    where a.pid = job.worker_pid and m.parts is not null;
    if found then
      within := migration_guard.done_within(job, shown.step, shown.is_waiting, look > 10);
      exit when within is not null;
    else
      select j.progress into recorded from migration_guard.jobs as j where j.id = job.id and j.status <> 'running';
      if found then return recorded; end if;
      recorded := job.progress;
      exit when not exists (
        select from pg_catalog.pg_stat_activity as a where a.pid = job.worker_pid and a.state = 'active' and a.wait_event_type is distinct from 'Lock');
    end if;
    perform pg_sleep(0.02);
  end loop;
  if shown.step is null then return recorded; end if;
  return (
    select jsonb_build_object(
      'step', migration_guard.step_text(job, shown.step), 'done', d.done, 'total', nullif(shown.total, 0), 'unit', migration_guard.progress_unit(job.kind),
      'percent', coalesce(floor(100.0 * d.done / nullif(shown.total, 0)), 0),
      'eta_seconds', case when d.done > 0 then greatest(ceil(extract(epoch from clock_timestamp() - shown.xact_start) * (shown.total - d.done) / d.done), 0) end)
    from (
      select least(shown.done + coalesce(within, 0) + case when job.kind = 'backup' then migration_guard.done_by_helper(job.number, shown.total) else 0 end,
        shown.total) as done
    ) as d);
end
$$;
comment on function migration_guard.job_progress(migration_guard.jobs) is
  'Progress of a job as {step, done, total, unit, percent, eta_seconds}: live while it runs, the last recorded otherwise. The
estimate supposes that what is left takes as long as what is done has taken; there is none before anything is.';

-- Plans that are in use -----------------------------------------------------------------------------------------------

create function migration_guard.objects_of_plan(document jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_object_agg(f.key, case when jsonb_typeof(f.value) = 'array'
    then (select coalesce(jsonb_agg(distinct n.value order by n.value), '[]') from jsonb_array_elements(f.value) as n) else f.value end)
  from jsonb_each(document - '{title,description,retention_days,trash_hours,two_keys,require_export,contacts,notify_url}'::text[]) as f
$$;
comment on function migration_guard.objects_of_plan(jsonb) is
  'What the JSON form of a plan says of what is to be backed up, whatever the order in which it names that, and how often.';

create function migration_guard.assert_backup_agrees(plan migration_guard.plans) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  -- One whose schema somebody dropped by hand holds nothing any more.
  held constant jsonb := (
    select b.plan from migration_guard.backups as b
    where b.version = plan.version and b.removed_at is null and b.trashed_at is null and to_regnamespace(format('%I', b.schema_name)) is not null);
  -- A backup that is on its way is taken by the plan as it was when it was asked for, rules and all.
  taken constant jsonb := (
    select migration_guard.plan_document(p) from migration_guard.plans as p
    where p.version = plan.version and exists (
      select from migration_guard.jobs as j where j.version = p.version and j.kind = 'backup' and j.status in ('queued', 'running')));
  rules constant text[] := '{retention_days,trash_hours,two_keys,require_export}';
  document constant jsonb := migration_guard.plan_document(plan);
begin
  if migration_guard.objects_of_plan(taken) <> migration_guard.objects_of_plan(document)
    or exists (select from unnest(rules) as r (name) where taken -> r.name <> document -> r.name) then
    perform migration_guard.fail(
      'plan_in_use', format('A backup of %s is on its way, by the plan as it is: wait for its end, or cancel its job.', plan.version));
  end if;
  if migration_guard.objects_of_plan(held) <> migration_guard.objects_of_plan(document) then
    perform migration_guard.fail('plan_in_use', format(
      'There is a backup of %s, which holds what the plan has named until now. Where the migration has not run yet, drop the schema %s as the owner of the database, store the plan, and take another backup; otherwise clean it up first.',
      plan.version, migration_guard.backup_schema_name(plan.version)));
  end if;
end
$$;
comment on function migration_guard.assert_backup_agrees(migration_guard.plans) is
  'Raises plan_in_use when a plan names other objects than the version''s backup holds, or differs from the one by which a backup is being taken.';

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

create function migration_guard.delete_plan(version text) returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted constant text := migration_guard.normalize_version(version);
  is_busy boolean;
  backup migration_guard.backups;
  is_dropped boolean;
begin
  -- Whoever queues a backup holds it until the job can be seen.
  perform from migration_guard.plans as p where p.version = wanted for update;
  -- The jobs first: one that ends after the look at them leaves a backup to be seen.
  is_busy := exists (select from migration_guard.jobs as j where j.version = wanted and j.status in ('queued', 'running'));
  backup := migration_guard.find_backup(wanted);
  is_dropped := backup.id is not null and to_regnamespace(quote_ident(backup.schema_name)) is null;
  -- Without a plan a backup may be left that somebody dropped.
  if not is_dropped then
    perform migration_guard.get_plan(wanted);
  end if;
  if is_busy then
    perform migration_guard.fail('plan_in_use', format('A job of %s is queued or running: wait for its end, or cancel it.', wanted));
  end if;
  if is_dropped then
    -- Only this one: another may have been taken in this moment.
    perform migration_guard.forget_dropped_backup(wanted, backup.id);
  end if;
  -- Another may have come back from the trash, or this one from an export, and brought its plan along.
  if exists (select from pg_namespace as n where n.nspname = backup.schema_name) or (migration_guard.find_backup(wanted)).id is not null then
    perform migration_guard.fail('plan_in_use', format(
      'There is a backup of %s: clean it up first or, where the migration has not run yet, drop the schema %s as the owner of the database.',
      wanted, migration_guard.backup_schema_name(wanted)));
  end if;
  delete from migration_guard.plans as p where p.version = wanted;
  return case when is_dropped then backup.id end;
end
$$;
comment on function migration_guard.delete_plan(text) is
  'Removes a plan and, where somebody has dropped the schema of its backup, that from the registry: then its id is returned. Raises
plan_not_found, or plan_in_use while it has a backup or a job.';
