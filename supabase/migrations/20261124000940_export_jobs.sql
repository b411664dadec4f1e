-- Chapter 9.4. Exports of backups to an object store. The worker plans the chunks; the function, which alone reaches the store, writes
-- them, reads them back and removes them. What is left to do is here, so that any number of isolates can work on it.

create table migration_guard.exports (
  -- Also the name of its folder.
  id text primary key,
  backup_id uuid not null references migration_guard.backups,
  version text not null,
  target text not null,
  -- Where that is, for people; known when something was written.
  location text,
  -- age recipients; none where it is not encrypted.
  recipients text[] not null default '{}',
  state text not null default 'writing',
  actor text not null,
  created_at timestamptz not null default clock_timestamp(),
  -- When the backup was found to be, after its last chunk was read, what it recorded.
  checked_at timestamptz,
  finished_at timestamptz,
  -- The objects besides the chunks: [{object, bytes, sha256}], as they are stored.
  files jsonb not null default '[]',
  -- SHA-256 of SHA256SUMS, which has those of all others.
  sums_sha256 text,
  verified_ok boolean,
  verified_at timestamptz,
  removed_at timestamptz,
  removed_by text,
  constraint id_is_a_folder check (id ~ '^(v[0-9]+([.][0-9]+)?|[0-9]{14})-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$'),
  constraint target_is_a_name check (target ~ '^[a-z0-9_-]{1,63}$'),
  constraint state_is_known check (state in ('writing', 'complete', 'removing', 'removed')),
  constraint finished_with_sums check ((finished_at is null) = (sums_sha256 is null) and (state <> 'complete' or finished_at is not null)),
  constraint verified_with_time check ((verified_ok is null) = (verified_at is null)),
  constraint removed_with_actor check ((removed_at is null) = (removed_by is null) and (removed_at is null) = (state <> 'removed'))
);
comment on table migration_guard.exports is 'Every export that was ever begun, those that were removed included.';
-- Unique, and so of use even while nobody asks for those of a backup.
create unique index exports_of_backup on migration_guard.exports (backup_id, id);

create table migration_guard.export_chunks (
  export_id text not null references migration_guard.exports,
  number int not null,
  table_name text not null,
  -- The file of the table as it was planned: rows keep their places as long as it is the same.
  relation oid not null,
  filenode oid not null,
  first_row tid not null,
  -- Not in it; null where it goes on to the end.
  end_row tid,
  -- It was found to be a single row, and a long one.
  is_single boolean not null default false,
  estimated_bytes bigint not null,
  -- How often it was begun. Each try has a name of its own, so that one that was given up and still arrives does no harm.
  attempts int not null default 0,
  -- How often it was too large and was split, which nobody was lost by.
  splits int not null default 0,
  begun_at timestamptz,
  object text,
  -- {rows, bytes, sha256}, both of these by stage.
  record jsonb,
  done_at timestamptz,
  primary key (export_id, number),
  constraint done_with_record check ((done_at is null) = (record is null) and (done_at is null) = (object is null))
);
comment on table migration_guard.export_chunks is 'The chunks of exports: what each is to hold and, when it is stored, what it holds.';

create table migration_guard.transfer_objects (
  job_id uuid not null references migration_guard.jobs,
  number int not null,
  object text not null,
  -- What it must be; null where that does not matter.
  record jsonb,
  bytes bigint not null,
  attempts int not null default 0,
  done_at timestamptz,
  primary key (job_id, number)
);
comment on table migration_guard.transfer_objects is 'Objects that a job reads back or removes, and which it has done.';

create function migration_guard.chunk_bytes() returns bigint
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select 8388608::bigint $$;
comment on function migration_guard.chunk_bytes() is 'Bytes of text that a chunk is planned for.';

create function migration_guard.get_export(id text) returns migration_guard.exports
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  found_export migration_guard.exports;
begin
  select e.* into found_export from migration_guard.exports as e where e.id = get_export.id;
  if found_export.id is null then
    perform migration_guard.fail('export_not_found', 'There is no such export: GET /v1/backups/{version}/exports lists those of a version.');
  end if;
  return found_export;
end
$$;
comment on function migration_guard.get_export(text) is 'An export that was made here. Raises export_not_found.';

create function migration_guard.jobs_of_export(id text, but_for uuid default null) returns setof migration_guard.jobs
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select j.* from migration_guard.jobs as j
  where j.status in ('queued', 'running') and j.kind in ('export', 'verify_export', 'remove_export', 'import')
    and j.parameters ->> 'export' = jobs_of_export.id and j.id is distinct from but_for
$$;
comment on function migration_guard.jobs_of_export(text, uuid) is 'Jobs under way that work on an export.';

create function migration_guard.assert_export_idle(export migration_guard.exports) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  busy migration_guard.jobs;
begin
  select j.* into busy from migration_guard.jobs_of_export(export.id) as j limit 1;
  if busy.id is not null then
    perform migration_guard.fail('export_in_use', format('Job %s (%s) works on the export %s.', busy.id, busy.kind, export.id));
  end if;
end
$$;
comment on function migration_guard.assert_export_idle(migration_guard.exports) is 'Raises export_in_use while a job works on an export.';

-- Asking for one ------------------------------------------------------------------------------------------------------

create function migration_guard.enqueue_export(
  version text, target text default 'supabase', recipients text[] default '{}', actor text default session_user, request_id text default null
) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(version);
  export migration_guard.exports;
begin
  if coalesce(target, '') !~ '^[a-z0-9_-]{1,63}$' then
    perform migration_guard.fail('invalid_parameter', 'A target has 1 to 63 of a-z, 0-9, _ and -.');
  end if;
  if cardinality(recipients) > 20 or exists (select from unnest(recipients) as r where r is null or length(r) > 2100 or r !~ '^age1[02-9a-z]+$') then
    perform migration_guard.fail('invalid_parameter', 'Recipients are age1… keys, 20 at most.');
  end if;
  perform migration_guard.assert_nothing_under_way(backup.version);
  if backup.verified_ok is false or to_regnamespace(quote_ident(backup.schema_name)) is null then
    perform migration_guard.fail('backup_damaged', format('The backup of %s is damaged or gone: an export would be no better.', backup.version));
  end if;
  insert into migration_guard.exports as e (id, backup_id, version, target, recipients, actor)
  values (format('%s-%s-%s', backup.version, to_char(clock_timestamp() at time zone 'UTC', 'YYYYMMDD"T"HH24MISS"Z"'), left(gen_random_uuid()::text, 8)),
    backup.id, backup.version, target, coalesce(recipients, '{}'), actor)
  returning e.* into export;
  return migration_guard.enqueue('export', backup.version, actor, jsonb_build_object('export', export.id), request_id);
end
$$;
comment on function migration_guard.enqueue_export(text, text, text[], text, text) is
  'Queues the export of a backup to a target that the function knows. Raises backup_not_found, backup_in_progress, backup_damaged or invalid_parameter.';

create function migration_guard.enqueue_export_resumption(id text, actor text default session_user, request_id text default null)
returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  export migration_guard.exports := migration_guard.get_export(id);
begin
  select e.* into export from migration_guard.exports as e where e.id = export.id for update;
  if export.state <> 'writing' then
    perform migration_guard.fail('export_in_use', format('The export %s is %s: there is nothing to resume.', export.id, export.state));
  end if;
  perform migration_guard.assert_export_idle(export);
  perform migration_guard.assert_nothing_under_way(export.version);
  update migration_guard.exports as e set checked_at = null where e.id = export.id;
  return migration_guard.enqueue('export', export.version, actor, jsonb_build_object('export', export.id), request_id);
end
$$;
comment on function migration_guard.enqueue_export_resumption(text, text, text) is
  'Queues what is left of an export that has failed or was cancelled. Raises export_not_found, export_in_use or backup_in_progress.';

create function migration_guard.exported_tables(backup migration_guard.backups) returns table (name text, oid oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.relname::text, r.oid
  from migration_guard.schema_contents(backup.schema_name) as c
  join pg_class as r on c.classid = 'pg_class'::regclass and c.objid = r.oid and r.relkind = 'r'
  -- What somebody has put there besides is no part of the backup. What rollbacks took away is, but no checksum covers it.
  where c.identity = any (backup.members) and r.oid not in (select unnest(migration_guard.discarded_tables(backup.schema_name))::oid)
  order by r.relname
$$;
comment on function migration_guard.exported_tables(migration_guard.backups) is 'The tables of a backup that are exported: copies, and its own catalogs.';

create function migration_guard.exported_backup(export migration_guard.exports) returns migration_guard.backups
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  backup migration_guard.backups;
  missing text;
begin
  select b.* into backup from migration_guard.backups as b where b.id = export.backup_id;
  if backup.removed_at is not null or backup.trashed_at is not null or to_regnamespace(quote_ident(backup.schema_name)) is null then
    perform migration_guard.fail('backup_not_found', format('The backup of %s that %s is of is there no more.', export.version, export.id));
  end if;
  select m into missing from unnest(backup.members) as m
  where m not in (select c.identity from migration_guard.schema_contents(backup.schema_name) as c) order by m limit 1;
  if missing is not null then
    perform migration_guard.fail('backup_damaged', format('The backup of %s lacks %s: verify it.', export.version, missing));
  end if;
  return backup;
end
$$;
comment on function migration_guard.exported_backup(migration_guard.exports) is
  'The backup that an export is of. Raises backup_not_found when it is gone, and backup_damaged when a part of it is.';

create function migration_guard.run_export_planning(job migration_guard.jobs) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  export constant migration_guard.exports := migration_guard.get_export(job.parameters ->> 'export');
  backup constant migration_guard.backups := migration_guard.exported_backup(export);
  planned record;
begin
  if exists (select from migration_guard.export_chunks as c where c.export_id = export.id) then
    perform migration_guard.check_exported_backup(job, export, backup);
    return null;
  end if;
  -- How much there is to do is known afterwards.
  perform migration_guard.report_progress(job, 'planning', 0, 0);
  for planned in select t.*, pg_relation_filenode(t.oid) as filenode from migration_guard.exported_tables(backup) as t loop
    execute format('lock table %I.%I in access share mode', backup.schema_name, planned.name);
    insert into migration_guard.export_chunks (export_id, number, table_name, relation, filenode, first_row, end_row, estimated_bytes)
    select export.id, (select count(*) from migration_guard.export_chunks as c where c.export_id = export.id) + p.number, planned.name, planned.oid,
      planned.filenode, format('(%s,0)', p.first_block)::tid, case when p.end_block is not null then format('(%s,0)', p.end_block)::tid end, p.estimated_bytes
    from migration_guard.plan_chunks(planned.oid, migration_guard.chunk_bytes()) as p;
  end loop;
  return null;
end
$$;
comment on function migration_guard.run_export_planning(migration_guard.jobs) is
  'Does the worker''s part of an export: plans its chunks or, when all are stored, verifies what they were read from. Returns null, so that the
function goes on.';

create function migration_guard.check_exported_backup(job migration_guard.jobs, export migration_guard.exports, backup migration_guard.backups) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  failed text;
begin
  -- One that is resumed, with chunks left.
  if exists (select from migration_guard.export_chunks as c where c.export_id = export.id and c.done_at is null) then return; end if;
  perform migration_guard.report_progress(job, 'checks', 0, 0);
  -- Rows that somebody has changed in the backup would be in the export as if they were right.
  select string_agg(format('%s (%s)', c.check_name, c.details), '; ') into failed
  from migration_guard.integrity_checks(backup) as c where c.status <> 'OK';
  if failed is not null then
    perform migration_guard.fail('backup_damaged', format('The backup is not what it recorded, so that its export is of no use: %s.', left(failed, 2000)));
  end if;
  update migration_guard.exports as e set checked_at = clock_timestamp() where e.id = export.id;
end
$$;
comment on function migration_guard.check_exported_backup(migration_guard.jobs, migration_guard.exports, migration_guard.backups) is
  'Verifies a backup whose chunks are all stored. Raises backup_damaged.';

-- Working on transfers ------------------------------------------------------------------------------------------------

create function migration_guard.take_transfers() returns setof uuid
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update migration_guard.jobs as j set status = 'running', started_at = coalesce(j.started_at, clock_timestamp())
  where j.run_by = 'function' and j.status = 'queued';
  select j.id from migration_guard.jobs as j
  where j.run_by = 'function' and j.status = 'running'
    and not exists (select from migration_guard.cancellations as c where c.job_id = j.id)
  order by j.number;
$$;
comment on function migration_guard.take_transfers() is 'The jobs that the function has to work on, the oldest first. Each may be worked on by any number of isolates.';

create function migration_guard.get_transfer(job uuid) returns migration_guard.jobs
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select j.* from migration_guard.jobs as j
  where j.id = job and j.run_by = 'function' and j.status = 'running'
    and not exists (select from migration_guard.cancellations as c where c.job_id = j.id)
$$;
comment on function migration_guard.get_transfer(uuid) is 'A job that the function has to work on; null where it has ended, or somebody wants it to.';

create function migration_guard.settle_for_transfer() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config(s.name, s.value, true)
  from (values
    -- The store may let us wait for minutes; one that has gone without a word gives back what it holds.
    ('statement_timeout', '0'), ('idle_in_transaction_session_timeout', '15min'), ('lock_timeout', '10s'), ('row_security', 'off'),
    ('timezone', 'UTC'), ('datestyle', 'ISO, YMD'), ('intervalstyle', 'postgres'), ('extra_float_digits', '1'), ('bytea_output', 'hex'),
    ('lc_monetary', 'C'), ('client_encoding', 'UTF8'), ('client_min_messages', 'error'), ('enable_tidscan', 'on'), ('synchronize_seqscans', 'off'),
    ('search_path', 'pg_catalog, pg_temp')
  ) as s (name, value);
  perform migration_guard.lift_transaction_timeout();
end
$$;
comment on function migration_guard.settle_for_transfer() is 'Sets what texts and plans depend on for a transaction that copies, and takes away its time limits.';

create function migration_guard.next_export_step(job uuid, out step text, out number int, out attempt int)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  splits int;
  transfer constant migration_guard.jobs := migration_guard.get_transfer(job);
  export constant text := transfer.parameters ->> 'export';
begin
  if transfer.id is null then
    step := 'ended';
    return;
  end if;
  -- Committed before the chunk is written: so the names of all that may ever have been stored are known.
  -- Materialized, since a plan may ask a subquery for its one row again and again, and gets another each time.
  with free as materialized (
    select w.number from migration_guard.export_chunks as w
    where w.export_id = export and w.done_at is null
      -- Whoever has begun one holds it in a moment.
      and (w.begun_at is null or w.begun_at < clock_timestamp() - interval '2 seconds')
    order by w.number for update skip locked limit 1
  )
  update migration_guard.export_chunks as c set attempts = c.attempts + 1, begun_at = clock_timestamp()
  from free as f
  where c.export_id = export and c.number = f.number
  returning c.number, c.attempts, c.splits into number, attempt, splits;
  step := case
    when number is not null then 'chunk'
    when exists (select from migration_guard.export_chunks as c where c.export_id = export and c.done_at is null) then 'waiting'
    when (select e.checked_at from migration_guard.exports as e where e.id = export) is null then 'ended'
    else 'finish' end;
  if step = 'ended' then
    -- The worker looks whether all of it was read from what was recorded, and hands it back.
    update migration_guard.jobs as j set run_by = 'worker', status = 'queued', attempts = 0
    where j.id = job and j.run_by = 'function' and j.status = 'running';
  end if;
  if attempt - splits > 8 * (select count(*) from migration_guard.jobs as j where j.kind = 'export' and j.parameters ->> 'export' = export) then
    perform migration_guard.fail('worker_lost', format('Chunk %s was begun %s times, and whoever did so was lost each time.', number, attempt - splits - 1));
  end if;
end
$$;
comment on function migration_guard.next_export_step(uuid) is
  'What an isolate can do now for an export: a chunk, finish it, wait for those that others hold, or nothing, when the job has ended.';

create function migration_guard.assert_table_of_chunk(chunk migration_guard.export_chunks) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from pg_class as c where c.oid = chunk.relation) then
    execute format('lock table %s in access share mode', chunk.relation::regclass);
  end if;
  if pg_relation_filenode(chunk.relation) is distinct from chunk.filenode then
    perform migration_guard.fail('backup_damaged', format(
      'The table %s of the backup was dropped or written anew since the export was begun: begin another one.', chunk.table_name));
  end if;
exception when undefined_table then
  perform migration_guard.fail('backup_damaged', format('The table %s of the backup was dropped since the export was begun.', chunk.table_name));
end
$$;
comment on function migration_guard.assert_table_of_chunk(migration_guard.export_chunks) is
  'Keeps a chunk''s table as it is until the transaction ends. Raises backup_damaged where its rows are no longer where they were.';

create function migration_guard.hold_export_chunk(
  job uuid, number int, attempt int, out export text, out statement text, out object text, out target text, out recipients text[], out is_single boolean
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  transfer constant migration_guard.jobs := migration_guard.get_transfer(job);
  held migration_guard.exports;
  chunk migration_guard.export_chunks;
begin
  perform migration_guard.settle_for_transfer();
  select e.* into held from migration_guard.exports as e where e.id = transfer.parameters ->> 'export';
  select c.* into chunk from migration_guard.export_chunks as c
  where c.export_id = held.id and c.number = hold_export_chunk.number and c.attempts = hold_export_chunk.attempt and c.done_at is null
  for update skip locked;
  if chunk.number is null then return; end if;
  perform migration_guard.assert_table_of_chunk(chunk);
  statement := migration_guard.chunk_statement(chunk.relation, chunk.first_row, chunk.end_row);
  export := held.id;
  object := migration_guard.chunk_object(held, chunk.number, attempt);
  target := held.target;
  recipients := held.recipients;
  is_single := chunk.is_single;
end
$$;
comment on function migration_guard.hold_export_chunk(uuid, int, int) is
  'Takes a chunk for this transaction, with the copy that reads it and the name that it is to have; nulls where somebody else has it, or the
job has ended. Raises backup_damaged.';

create function migration_guard.export_suffix(export migration_guard.exports) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select case when cardinality(export.recipients) > 0 then '.age' else '' end $$;
comment on function migration_guard.export_suffix(migration_guard.exports) is 'What the names of encrypted objects end with.';

create function migration_guard.chunk_object(export migration_guard.exports, number int, attempt int) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('data/%s-%s.copy.gz%s', lpad(number::text, greatest(6, length(number::text)), '0'), attempt, migration_guard.export_suffix(export))
$$;
comment on function migration_guard.chunk_object(migration_guard.exports, int, int) is 'Name of a chunk in the folder of its export, of each try another.';

create function migration_guard.record_export_chunk(job uuid, number int, object text, record jsonb, location text) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update migration_guard.export_chunks as c set object = record_export_chunk.object, record = record_export_chunk.record, done_at = clock_timestamp()
  where c.number = record_export_chunk.number and c.done_at is null
    and c.export_id = ((migration_guard.get_transfer(job)).parameters ->> 'export');
  update migration_guard.exports as e set location = record_export_chunk.location
  where e.id = ((migration_guard.get_transfer(job)).parameters ->> 'export') and e.location is null;
$$;
comment on function migration_guard.record_export_chunk(uuid, int, text, jsonb, text) is 'Notes that a chunk is stored, in the transaction that holds it.';

create function migration_guard.split_export_chunk(job uuid, number int, attempt int) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  chunk migration_guard.export_chunks;
  middle tid;
begin
  select c.* into chunk from migration_guard.export_chunks as c
  where c.export_id = ((migration_guard.get_transfer(job)).parameters ->> 'export') and c.number = split_export_chunk.number
    -- Others who have begun it since may have split it themselves.
    and c.attempts = split_export_chunk.attempt and c.done_at is null
  for update;
  if chunk.number is null then return; end if;
  perform migration_guard.settle_for_transfer();
  perform migration_guard.assert_table_of_chunk(chunk);
  execute format(
    'with held as materialized (select r.ctid as place, row_number() over (order by r.ctid) as n, count(*) over () as total from only %s as r where r.ctid >= $1 and ($2 is null or r.ctid < $2))
    select h.place from held as h where h.n = h.total / 2 + 1 and h.total > 1', chunk.relation::regclass)
  into middle using chunk.first_row, chunk.end_row;
  if middle is null and chunk.is_single then
    perform migration_guard.fail('row_too_large', format('A row of %s is larger, as text, than what the function can hold in its memory.', chunk.table_name));
  elsif middle is null then
    update migration_guard.export_chunks as c set is_single = true, splits = c.splits + 1, begun_at = null
    where c.export_id = chunk.export_id and c.number = chunk.number;
    return;
  end if;
  -- Numbers are given one after the other.
  perform from migration_guard.exports as e where e.id = chunk.export_id for update;
  insert into migration_guard.export_chunks (export_id, number, table_name, relation, filenode, first_row, end_row, estimated_bytes)
  select chunk.export_id, max(c.number) + 1, chunk.table_name, chunk.relation, chunk.filenode, middle, chunk.end_row, chunk.estimated_bytes / 2
  from migration_guard.export_chunks as c where c.export_id = chunk.export_id;
  update migration_guard.export_chunks as c
  set end_row = middle, estimated_bytes = c.estimated_bytes - c.estimated_bytes / 2, splits = c.splits + 1, begun_at = null
  where c.export_id = chunk.export_id and c.number = chunk.number;
end
$$;
comment on function migration_guard.split_export_chunk(uuid, int, int) is
  'Makes two of a chunk whose text was found to be too long by that try. Raises row_too_large where it has a single row, or backup_damaged.';

-- The manifest --------------------------------------------------------------------------------------------------------

create function migration_guard.exported_columns(relation oid) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'collation', (
      select format('%I.%I', n.nspname, l.collname)
      from pg_collation as l join pg_namespace as n on n.oid = l.collnamespace
      where l.oid = a.attcollation and l.oid <> t.typcollation)) order by a.attnum), '[]')
  from pg_attribute as a join pg_type as t on t.oid = a.atttypid
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
$$;
comment on function migration_guard.exported_columns(oid) is 'The columns of a backup''s table as a manifest has them: [{name, type, collation}].';

create function migration_guard.manifest_of_tables(export migration_guard.exports, backup migration_guard.backups) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    with chunks as (
      select c.table_name, jsonb_agg(c.number order by c.number) as numbers, sum((c.record ->> 'rows')::bigint) as rows
      from migration_guard.export_chunks as c where c.export_id = export.id group by c.table_name
    )
    select jsonb_agg(jsonb_build_object('name', t.name, 'source', s.source, 'columns', migration_guard.exported_columns(t.oid),
      'rows', coalesce(c.rows, 0), 'checksum', s.checksum, 'chunks', coalesce(c.numbers, '[]')) order by t.name)
    from migration_guard.exported_tables(backup) as t
    left join chunks as c on c.table_name = t.name
    left join migration_guard.copied_tables(backup) as s on s.backup_table = t.name);
end
$$;
comment on function migration_guard.manifest_of_tables(migration_guard.exports, migration_guard.backups) is 'The tables of an export as its manifest has them.';

create function migration_guard.copied_tables(backup migration_guard.backups) returns table (backup_table text, source text, checksum text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute format(
    'select t.backup_table, format(''%%I.%%I'', t.source_schema, t.source_table), t.backup_checksum from %I.tables_backup as t', backup.schema_name);
end
$$;
comment on function migration_guard.copied_tables(migration_guard.backups) is 'Which table of a backup is the copy of which, with the checksum that was recorded.';

create function migration_guard.export_manifest(export migration_guard.exports, backup migration_guard.backups) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  metadata jsonb;
  objects jsonb;
begin
  execute format('select to_jsonb(m) - ''tables'' - ''objects'' from %I.backup_metadata as m', backup.schema_name) into metadata;
  execute format($query$
    select jsonb_agg(jsonb_build_object('kind', o.kind, 'identity', o.identity, 'parent_name', o.parent_name, 'definition', o.definition, 'settings', o.settings,
      'grants', o.grants, 'owner', o.owner, 'comment', o.comment, 'in_plan', o.in_plan, 'creation_order', o.creation_order, 'checksum', o.checksum)
      order by o.creation_order nulls last, o.kind, o.identity)
    from %I.objects_backup as o$query$, backup.schema_name) into objects;
  -- Of json, which keeps the order.
  return json_build_object('format', 'migration-guard-export', 'format_version', 1, 'export', export.id,
    'created_at', to_char(export.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'product_version', migration_guard.product_version(), 'server_version', current_setting('server_version'), 'version', backup.version,
    'schema', backup.schema_name, 'plan', backup.plan, 'backup', metadata, 'manifest', backup.manifest, 'recipients', export.recipients,
    'tables', coalesce(migration_guard.manifest_of_tables(export, backup), '[]'),
    'chunks', (
      select coalesce(json_agg(json_build_object('number', c.number, 'table', c.table_name, 'object', c.object, 'rows', c.record -> 'rows',
        'bytes', c.record -> 'bytes', 'sha256', c.record -> 'sha256') order by c.number), '[]')
      from migration_guard.export_chunks as c where c.export_id = export.id),
    'objects_backup', coalesce(objects, '[]'))::text;
end
$$;
comment on function migration_guard.export_manifest(migration_guard.exports, migration_guard.backups) is
  'manifest.json of an export whose chunks are all stored, as docs/export-format.md has it.';

create function migration_guard.restore_script(export migration_guard.exports, backup migration_guard.backups) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with tables as (
    select t.*, row_number() over (order by t.name) as number from migration_guard.exported_tables(backup) as t
  ), schema as (
    select quote_ident(backup.schema_name) as name
  ), lines (part, number, line) as (
    values (1, 0::bigint, format('-- Makes the backup of %s again: psql --single-transaction --set ON_ERROR_STOP=1, in the folder that holds this.', backup.version)),
      (1, 1, '\set ON_ERROR_STOP on'),
      (1, 2, 'set client_encoding = ''UTF8''; set standard_conforming_strings = on; set check_function_bodies = off; set search_path = pg_catalog;'),
      (1, 3, 'set datestyle = ''ISO, YMD''; set intervalstyle = ''postgres''; set timezone = ''UTC''; set lc_monetary = ''C'';')
    union all select 1, 4, format('create schema %s;', s.name) from schema as s
    -- A command of psql is one line, and a name may have two: rows go into tables with simple names.
    union all
    select 2, t.number, format('create table %s.restored_%s (%s);', s.name, t.number, (
      select string_agg(format('%I %s%s', c ->> 'name', c ->> 'type', ' collate ' || (c ->> 'collation')), ', ' order by n)
      from jsonb_array_elements(migration_guard.exported_columns(t.oid)) with ordinality as e (c, n)))
    from tables as t, schema as s
    union all
    select 3, c.number, format('\copy %s.restored_%s from program ''%s'' with (encoding ''UTF8'')', s.name, t.number,
      case when cardinality(export.recipients) > 0 then format('age --decrypt --identity "$AGE_IDENTITY" %s | gunzip', c.object) else format('gunzip < %s', c.object) end)
    from migration_guard.export_chunks as c join tables as t on t.name = c.table_name, schema as s
    where c.export_id = export.id
    union all select 4, t.number, format('alter table %s.restored_%s rename to %I;', s.name, t.number, t.name) from tables as t, schema as s
    union all
    select 5, t.number, format('alter table %s.%I add %s;', s.name, t.name, pg_get_constraintdef(k.oid))
    from tables as t join pg_constraint as k on k.conrelid = t.oid and k.contype = 'p', schema as s
    union all
    select 6, p.oid, pg_get_functiondef(p.oid) || ';'
    from migration_guard.schema_contents(backup.schema_name) as m join pg_proc as p on m.classid = 'pg_proc'::regclass and m.objid = p.oid
    where m.identity = any (backup.members)
    union all
    select 7, v.oid, format('create view %s.%I as %s', s.name, v.relname, pg_get_viewdef(v.oid))
    from migration_guard.schema_contents(backup.schema_name) as m join pg_class as v on m.classid = 'pg_class'::regclass and m.objid = v.oid and v.relkind = 'v', schema as s
    where m.identity = any (backup.members)
  )
  select string_agg(l.line, E'\n' order by l.part, l.number) || E'\n' from lines as l
$$;
comment on function migration_guard.restore_script(migration_guard.exports, migration_guard.backups) is
  'restore.sql of an export: a script for psql that needs gunzip and, where it is encrypted, age.';

-- Finishing -----------------------------------------------------------------------------------------------------------

create function migration_guard.assert_exported_whole(export migration_guard.exports, backup migration_guard.backups) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  exported record;
  expected bigint;
begin
  for exported in
    select t.name, coalesce(sum((c.record ->> 'rows')::bigint), 0) as rows
    from migration_guard.exported_tables(backup) as t
    left join migration_guard.export_chunks as c on c.export_id = export.id and c.table_name = t.name
    group by t.name
  loop
    execute format('select t.row_count from %I.tables_backup as t where t.backup_table = $1', backup.schema_name) into expected using exported.name;
    if expected is null then
      execute format('select count(*) from %I.%I', backup.schema_name, exported.name) into expected;
    end if;
    if exported.rows <> expected then
      perform migration_guard.fail('copy_differs', format('%s has %s rows in the export, and %s were recorded: verify the backup.', exported.name, exported.rows, expected));
    end if;
  end loop;
end
$$;
comment on function migration_guard.assert_exported_whole(migration_guard.exports, migration_guard.backups) is
  'Raises copy_differs unless the chunks of an export have as many rows of each table as were recorded.';

create function migration_guard.hold_export(job uuid, out export text, out target text, out recipients text[], out manifest text, out script text)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  transfer constant migration_guard.jobs := migration_guard.get_transfer(job);
  held migration_guard.exports;
  backup migration_guard.backups;
begin
  perform migration_guard.settle_for_transfer();
  select e.* into held from migration_guard.exports as e
  where e.id = transfer.parameters ->> 'export' and e.state = 'writing' for update skip locked;
  if held.id is null then return; end if;
  backup := migration_guard.exported_backup(held);
  perform migration_guard.assert_exported_whole(held, backup);
  export := held.id;
  target := held.target;
  recipients := held.recipients;
  manifest := migration_guard.export_manifest(held, backup);
  script := migration_guard.restore_script(held, backup);
end
$$;
comment on function migration_guard.hold_export(uuid) is
  'Takes an export whose chunks are all stored for this transaction, with what is left to be written; nulls where somebody else has it.';

create function migration_guard.export_sums(export text, files jsonb) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('%s  %s', s.sha256, s.object), E'\n' order by s.object collate "C") || E'\n'
  from (
    select c.record -> 'sha256' ->> 'stored' as sha256, c.object from migration_guard.export_chunks as c where c.export_id = export
    union all
    select f ->> 'sha256', f ->> 'object' from jsonb_array_elements(files) as f
  ) as s
$$;
comment on function migration_guard.export_sums(text, jsonb) is 'SHA256SUMS of an export: its chunks, and the files [{object, bytes, sha256}].';

create function migration_guard.transfer_result(export migration_guard.exports) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('export', export.id, 'target', export.target, 'location', export.location, 'sums_sha256', export.sums_sha256,
    'manifest', (select b.manifest from migration_guard.backups as b where b.id = export.backup_id), 'encrypted', cardinality(export.recipients) > 0,
    'objects', count(c.object) + jsonb_array_length(export.files), 'rows', coalesce(sum((c.record ->> 'rows')::bigint), 0),
    'bytes', coalesce(sum((c.record -> 'bytes' ->> 'stored')::bigint), 0) + (select coalesce(sum((f ->> 'bytes')::bigint), 0) from jsonb_array_elements(export.files) as f),
    'text_bytes', coalesce(sum((c.record -> 'bytes' ->> 'text')::bigint), 0))
  from migration_guard.export_chunks as c where c.export_id = export.id
$$;
comment on function migration_guard.transfer_result(migration_guard.exports) is 'An export in numbers.';

create function migration_guard.transfer_progress(job migration_guard.jobs) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
  select jsonb_build_object('step', case job.kind when 'export' then 'writing to the store' when 'verify_export' then 'reading the export'
      when 'remove_export' then 'removing objects' else 'reading the export' end,
    'done', p.done, 'total', nullif(p.total, 0), 'unit', migration_guard.progress_unit(job.kind),
    'percent', coalesce(floor(100.0 * p.done / nullif(p.total, 0)), 0),
    'eta_seconds', case when p.done > 0 then greatest(ceil(extract(epoch from clock_timestamp() - job.started_at) * (p.total - p.done) / p.done), 0) end)
  from (
    select coalesce(sum(c.estimated_bytes) filter (where c.done_at is not null), 0)::bigint as done, coalesce(sum(c.estimated_bytes), 0)::bigint as total
    from migration_guard.export_chunks as c where job.kind = 'export' and c.export_id = job.parameters ->> 'export' having job.kind = 'export'
    union all
    select coalesce(sum(o.bytes) filter (where o.done_at is not null), 0)::bigint, coalesce(sum(o.bytes), 0)::bigint
    from migration_guard.transfer_objects as o where o.job_id = job.id having job.kind in ('verify_export', 'remove_export')
    union all
    select i.done, i.total from migration_guard.import_progress(job) as i where job.kind = 'import'
  ) as p);
end
$$;
comment on function migration_guard.transfer_progress(migration_guard.jobs) is 'Progress of a job that the function works on.';

create function migration_guard.end_transfer(job uuid, result jsonb) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update migration_guard.jobs as j
  set status = 'succeeded', result = end_transfer.result, finished_at = clock_timestamp(),
    progress = migration_guard.transfer_progress(j) || jsonb_build_object('step', 'done', 'percent', 100, 'eta_seconds', 0)
  where j.id = job and j.run_by = 'function' and j.status = 'running'
$$;
comment on function migration_guard.end_transfer(uuid, jsonb) is 'Notes that a job of the function has succeeded.';

create function migration_guard.finish_export(job uuid, files jsonb, sums_sha256 text, location text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  export migration_guard.exports;
begin
  update migration_guard.exports as e
  set state = 'complete', finished_at = clock_timestamp(), files = finish_export.files, sums_sha256 = finish_export.sums_sha256,
    location = finish_export.location
  where e.id = ((migration_guard.get_transfer(job)).parameters ->> 'export') and e.state = 'writing'
    and not exists (select from migration_guard.export_chunks as c where c.export_id = e.id and c.done_at is null)
  returning e.* into export;
  if export.id is null then
    perform migration_guard.fail('job_finished', 'The job has ended meanwhile.');
  end if;
  perform migration_guard.end_transfer(job, migration_guard.transfer_result(export));
end
$$;
comment on function migration_guard.finish_export(uuid, jsonb, text, text) is 'Notes that an export is whole, in the transaction that holds it. Raises job_finished.';

create function migration_guard.fail_transfer(job uuid, code text, message text, details jsonb default '{}') returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  failed migration_guard.jobs;
begin
  update migration_guard.jobs as j
  set status = 'failed', finished_at = clock_timestamp(), progress = migration_guard.transfer_progress(j),
    error = details || jsonb_build_object('code', code, 'message', message)
      || case when j.kind = 'export' then jsonb_build_object('export', j.parameters -> 'export') else '{}' end
  where j.id = job and j.run_by = 'function' and j.status = 'running'
  returning j.* into failed;
  if failed.kind = 'verify_export' then
    update migration_guard.exports as e
    set verified_ok = case when f.is_fault then false end, verified_at = case when f.is_fault then clock_timestamp() end
    from (select code in ('chunk_altered', 'export_altered', 'object_missing', 'object_too_large', 'bucket_missing') as is_fault) as f
    where e.id = failed.parameters ->> 'export' and e.state = 'complete'
      -- A store that denies an object may have lost it: what cannot be read counts as verified no more. That the function has not the right
      -- identity or target says nothing of the export, and a fault that was found stays.
      and (f.is_fault or e.verified_ok and code not in ('identity_missing', 'identity_wrong', 'target_not_found', 'worker_lost', 'internal_error'));
  end if;
end
$$;
comment on function migration_guard.fail_transfer(uuid, text, text, jsonb) is 'Ends a job of the function that has failed. What it has stored stays, and an export can be resumed.';

create function migration_guard.fail_transfer_by_state(job uuid, state text, message text, detail text, context text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform migration_guard.fail_transfer(job, e.error ->> 'code', e.error ->> 'message', e.error)
  from (select case when migration_guard.is_own_error(state, context) then migration_guard.job_error(state, message, detail)
    else migration_guard.job_error(case when state ~ '^(MG|42501)' then 'P0001' else state end, null, null) end as error) as e;
end
$$;
comment on function migration_guard.fail_transfer_by_state(uuid, text, text, text, text) is 'Ends a job of the function that the database has refused something.';

-- Reading one back ----------------------------------------------------------------------------------------------------

create function migration_guard.enqueue_export_verification(
  id text, stored_only boolean default false, actor text default session_user, request_id text default null
) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  export migration_guard.exports := migration_guard.get_export(id);
  job migration_guard.jobs;
begin
  select e.* into export from migration_guard.exports as e where e.id = export.id for update;
  if export.state <> 'complete' then
    perform migration_guard.fail('export_in_use', format('The export %s is %s.', export.id,
      case export.state when 'writing' then 'not finished: resume it first' else export.state end));
  end if;
  -- Of two verifications at once, the one that ends last may have read what the other has found altered before that was so.
  if exists (select from migration_guard.jobs_of_export(export.id) as j where j.kind in ('remove_export', 'verify_export')) then
    perform migration_guard.assert_export_idle(export);
  end if;
  delete from migration_guard.transfer_objects as o using migration_guard.jobs as j
  where j.id = o.job_id and j.finished_at is not null and j.parameters ->> 'export' = export.id;
  job := migration_guard.enqueue('verify_export', export.version, actor, jsonb_build_object('export', export.id, 'stored_only', coalesce(stored_only, false)), request_id);
  insert into migration_guard.transfer_objects (job_id, number, object, record, bytes)
  select job.id, row_number() over (order by o.number), o.object, o.record, o.bytes
  from (
    -- The files first: without them the rest is worth little.
    select -f.number as number, f.file ->> 'object' as object, f.file as record, (f.file ->> 'bytes')::bigint as bytes
    from jsonb_array_elements(export.files) with ordinality as f (file, number)
    union all
    select c.number, c.object, c.record, (c.record -> 'bytes' ->> 'stored')::bigint
    from migration_guard.export_chunks as c where c.export_id = export.id
  ) as o;
  update migration_guard.jobs as j set run_by = 'function' where j.id = job.id returning j.* into job;
  return job;
end
$$;
comment on function migration_guard.enqueue_export_verification(text, boolean, text, text) is
  'Queues that an export is read back and every sum checked; with stored_only those of what is stored, for which no identity is needed. Raises
export_not_found or export_in_use.';

create function migration_guard.hold_transfer_objects(job uuid, max_objects int)
returns table (number int, object text, record jsonb, bytes bigint, export text, target text, parameters jsonb)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  transfer constant migration_guard.jobs := migration_guard.get_transfer(job);
begin
  perform migration_guard.settle_for_transfer();
  return query
  select o.number, o.object, o.record, o.bytes, e.id, e.target, transfer.parameters
  from (
    select w.* from migration_guard.transfer_objects as w where w.job_id = transfer.id and w.done_at is null
    order by w.number for update skip locked limit max_objects
  ) as o, migration_guard.exports as e
  where e.id = transfer.parameters ->> 'export'
  order by o.number;
end
$$;
comment on function migration_guard.hold_transfer_objects(uuid, int) is
  'Takes objects that a job has to read back or remove for this transaction; none where others have all that are left, or the job has ended.';

create function migration_guard.begin_transfer_object(job uuid) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  begun migration_guard.transfer_objects;
begin
  with free as materialized (
    select w.number from migration_guard.transfer_objects as w where w.job_id = job and w.done_at is null
    order by w.number for update skip locked limit 1
  )
  update migration_guard.transfer_objects as o set attempts = o.attempts + 1
  from free as f
  where o.job_id = job and o.number = f.number
  returning o.* into begun;
  -- Two that begin at once may count the same one.
  if begun.attempts > 16 then
    perform migration_guard.fail('worker_lost', format('Object %s was begun %s times, and whoever did so was lost each time.', begun.object, begun.attempts - 1));
  end if;
end
$$;
comment on function migration_guard.begin_transfer_object(uuid) is
  'Counts, before it is read and in a transaction of its own, that an object is about to be. Raises worker_lost.';

create function migration_guard.finish_transfer_objects(job uuid, numbers int[]) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update migration_guard.transfer_objects as o set done_at = clock_timestamp() where o.job_id = job and o.number = any (numbers)
$$;
comment on function migration_guard.finish_transfer_objects(uuid, int[]) is 'Notes that objects were read back or removed, in the transaction that holds them.';

create function migration_guard.finish_transfer(job uuid) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  transfer constant migration_guard.jobs := migration_guard.get_transfer(job);
  export migration_guard.exports;
begin
  if transfer.id is null then return 'ended'; end if;
  if exists (select from migration_guard.transfer_objects as o where o.job_id = job and o.done_at is null) then
    return 'waiting';
  end if;
  update migration_guard.exports as e
  set verified_ok = case when transfer.kind = 'verify_export' then true else e.verified_ok end,
    verified_at = case when transfer.kind = 'verify_export' then clock_timestamp() else e.verified_at end,
    state = case when transfer.kind = 'remove_export' then 'removed' else e.state end,
    removed_at = case when transfer.kind = 'remove_export' then clock_timestamp() else e.removed_at end,
    removed_by = case when transfer.kind = 'remove_export' then transfer.actor else e.removed_by end
  where e.id = transfer.parameters ->> 'export'
  returning e.* into export;
  perform migration_guard.end_transfer(job, migration_guard.transfer_result(export) || case transfer.kind
    when 'verify_export' then jsonb_build_object('ok', true, 'stored_only', transfer.parameters -> 'stored_only') else '{"removed": true}' end);
  return 'ended';
end
$$;
comment on function migration_guard.finish_transfer(uuid) is
  'Ends a job that has read back or removed all of its objects; says whether it has ended, or waits for those that others hold.';
