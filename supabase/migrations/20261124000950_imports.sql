-- Chapter 9.5. Imports: a backup's schema made again from an export, in the database that it was taken in or in another. The function
-- reads the objects and loads the chunks, each in a transaction, into a schema that nobody but its owner can enter; the worker makes of
-- that a backup, and proves it, in one. Nothing that an export says of itself is trusted.

create table migration_guard.import_chunks (
  job_id uuid not null references migration_guard.jobs,
  number int not null,
  table_name text not null,
  -- Its name in the export's folder.
  object text not null,
  rows bigint not null,
  -- What the chunk is held against before it is loaded, as the manifest has it.
  record jsonb not null,
  text_bytes bigint not null,
  -- How often it was begun.
  attempts int not null default 0,
  begun_at timestamptz,
  done_at timestamptz,
  primary key (job_id, number)
);
comment on table migration_guard.import_chunks is 'The chunks of the imports that are under way, and which of them are loaded.';

create table migration_guard.import_beginnings (
  job_id uuid primary key references migration_guard.jobs,
  -- How often its manifest was begun to be read.
  attempts int not null default 0,
  begun_at timestamptz
);
comment on table migration_guard.import_beginnings is
  'The imports whose chunks are not known yet. Whoever finds out has the row, and not that of the job, which others need meanwhile.';

create function migration_guard.import_schema_name(job_id uuid) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select 'migration_import_' || left(job_id::text, 8) $$;
comment on function migration_guard.import_schema_name(uuid) is
  'The schema into which a job loads what it imports, until that is a backup.';

create function migration_guard.assert_backup_is_away(backup_id uuid) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  known migration_guard.backups;
begin
  select b.* into known from migration_guard.backups as b where b.id = assert_backup_is_away.backup_id;
  -- By the snapshot, and not by what the session remembers from before it has waited.
  if known.removed_at is null and exists (select from pg_namespace as n where n.nspname = known.schema_name) then
    perform migration_guard.fail('backup_exists', format(case when known.trashed_at is not null
      then 'The backup %s is there already, as that of %s, in the trash, in the schema %s: POST /v1/backups/%2$s/restore-from-trash brings it back.'
      else 'The backup %s is there already, as that of %s, in the schema %s. Where it is damaged, rename that schema by hand as the owner of the database, and import then.' end,
      known.id, known.version, known.schema_name));
  end if;
end
$$;
comment on function migration_guard.assert_backup_is_away(uuid) is 'Raises backup_exists where a backup is registered, and its schema there.';

create function migration_guard.enqueue_import(
  export text, version text, target text default null, expected_manifest text default null,
  actor text default session_user, request_id text default null
) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  chosen constant text := coalesce(target, (select e.target from migration_guard.exports as e where e.id = export), 'supabase');
  known migration_guard.exports;
  job migration_guard.jobs;
begin
  if coalesce(export !~ '^(v[0-9]+([.][0-9]+)?|[0-9]{14})-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$', true) then
    perform migration_guard.fail('invalid_parameter', 'export is the id of an export, as v10.0-20261129T113335Z-8f3a2b1c.');
  end if;
  if chosen !~ '^[a-z0-9_-]{1,63}$' then
    perform migration_guard.fail('invalid_parameter', 'target is the name of an object store: 1 to 63 lower-case letters, digits, _ and -.');
  end if;
  if expected_manifest !~ '^[0-9a-f]{64}$' then
    perform migration_guard.fail('invalid_parameter', 'expected_manifest is the manifest that the backup''s job returned: 64 hexadecimal digits.');
  end if;
  perform migration_guard.assert_nothing_under_way(version);
  -- Whoever removes an export holds it until that can be seen.
  select e.* into known from migration_guard.exports as e where e.id = enqueue_import.export for share;
  -- Somebody may have put it elsewhere before.
  if known.state in ('removing', 'removed') and known.target = chosen then
    perform migration_guard.fail('export_in_use', format('The export %s is %s: there is nothing to import from %s.', known.id, known.state, known.target));
  end if;
  perform migration_guard.assert_backup_is_away(known.backup_id);
  perform migration_guard.assert_schema_is_free(version, 'import into another version, or clean that backup up');
  job := migration_guard.enqueue('import', version, actor,
    jsonb_strip_nulls(jsonb_build_object('export', export, 'target', chosen, 'expected_manifest', expected_manifest)), request_id);
  update migration_guard.jobs as j set run_by = 'function' where j.id = job.id returning j.* into job;
  return job;
end
$$;
comment on function migration_guard.enqueue_import(text, text, text, text, text, text) is
  'Queues the import of an export as the backup of a version, from the store where this database has put it, or else the project''s own,
unless another is named. Raises invalid_version, invalid_parameter, backup_in_progress, backup_exists or export_in_use.';

-- What a manifest may say ----------------------------------------------------------------------------------------------

create function migration_guard.import_column_fault(definition jsonb) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when jsonb_typeof(definition -> 'name') is distinct from 'string' or octet_length(definition ->> 'name') not between 1 and 63
      then 'a column''s name has 1 to 63 bytes'
    -- A name of a type and its measures: nothing that could be another clause, or end the statement.
    when jsonb_typeof(definition -> 'type') is distinct from 'string'
      or definition ->> 'type' !~ '^("[a-z0-9_]{1,63}"|[a-z][a-z0-9_ ]{0,62})([(][0-9]{1,9}(,-?[0-9]{1,9})?[)][a-z ]{0,30})?(\[\])?$'
      then 'a column''s type is one of Postgres''s own'
    when jsonb_typeof(coalesce(definition -> 'collation', 'null')) <> 'null' and (
        definition ->> 'collation' !~ '^pg_catalog[.]("[^"\\]{1,63}"|[a-z_][a-z0-9_]{0,62})$'
        -- Those that are in every database.
        or coalesce(to_regcollation(definition ->> 'collation')::oid >= 12000, true))
      then 'a column''s collation is one that every Postgres has'
  end
$$;
comment on function migration_guard.import_column_fault(jsonb) is 'What is wrong with a column of a manifest; null where nothing is.';

create function migration_guard.import_table_fault(definition jsonb) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when jsonb_typeof(definition -> 'name') is distinct from 'string' or octet_length(definition ->> 'name') not between 1 and 63
      then 'a table''s name has 1 to 63 bytes'
    when definition ->> 'name' = any ('{functions_backup,indexes_backup,policies_backup}') then 'a table has a name that is none for a table'
    when jsonb_typeof(definition -> 'columns') is distinct from 'array' then 'a table has a list of columns'
    when jsonb_array_length(definition -> 'columns') > 1600 then 'a table has 1,600 columns at most'
    else (
      select min(coalesce(migration_guard.import_column_fault(c), case when jsonb_typeof(c) <> 'object' then 'a column is an object' end))
      from jsonb_array_elements(definition -> 'columns') as c)
  end
$$;
comment on function migration_guard.import_table_fault(jsonb) is 'What is wrong with a table of a manifest; null where nothing is.';

create function migration_guard.import_chunk_fault(definition jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when coalesce(definition ->> 'number' !~ '^[0-9]{1,9}$', true) then 'a chunk has a number'
    when coalesce(definition ->> 'rows' !~ '^[0-9]{1,15}$', true) or coalesce(definition -> 'bytes' ->> 'text' !~ '^[0-9]{1,9}$', true)
      then 'a chunk has rows and bytes'
    when coalesce(definition ->> 'object' !~ '^data/[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}$', true) then 'a chunk''s object is in the folder data'
    when jsonb_typeof(definition -> 'table') is distinct from 'string' then 'a chunk has a table'
  end
$$;
comment on function migration_guard.import_chunk_fault(jsonb) is 'What is wrong with a chunk of a manifest; null where nothing is.';

create function migration_guard.assert_importable(manifest jsonb) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  catalogs constant text[] := '{backup_metadata,dependencies_backup,objects_backup,tables_backup}';
  tables constant jsonb := case when jsonb_typeof(manifest -> 'tables') = 'array' then manifest -> 'tables' else '[]' end;
  chunks constant jsonb := case when jsonb_typeof(manifest -> 'chunks') = 'array' then manifest -> 'chunks' else '[]' end;
  fault text;
begin
  if jsonb_array_length(tables) > 10000 then
    perform migration_guard.fail('manifest_invalid', 'An export has 10,000 tables at most.');
  end if;
  select min(f.fault) into fault
  from (
    select migration_guard.import_table_fault(t) as fault from jsonb_array_elements(tables) as t
    union all
    select migration_guard.import_chunk_fault(c) from jsonb_array_elements(chunks) as c
  ) as f;
  fault := coalesce(fault, (
    select case
      when count(distinct t ->> 'name') <> count(*) then 'each table has a name of its own'
      when not array_agg(t ->> 'name') @> catalogs then 'the backup''s own catalogs are among the tables: ' || array_to_string(catalogs, ', ') end
    from jsonb_array_elements(tables) as t));
  fault := coalesce(fault, (
    select case
      when count(*) = 0 then 'there is a chunk'
      when count(distinct c -> 'number') <> count(*) or count(distinct c -> 'object') <> count(*) then 'each chunk has a number and an object of its own'
      when bool_or(not exists (select from jsonb_array_elements(tables) as t where t -> 'name' = c -> 'table')) then 'each chunk is of a table' end
    from jsonb_array_elements(chunks) as c));
  if coalesce(manifest -> 'backup' ->> 'backup_id' !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$', true)
    or coalesce(manifest ->> 'manifest' !~ '^[0-9a-f]{64}$', true) then
    fault := 'the backup has an id and a manifest';
  end if;
  if fault is not null then
    perform migration_guard.fail('manifest_invalid', format('The export''s manifest is not as it must be: %s.', fault));
  end if;
end
$$;
comment on function migration_guard.assert_importable(jsonb) is
  'Raises manifest_invalid where a manifest has what could do harm in a database, or cannot be imported.';

-- The schema -----------------------------------------------------------------------------------------------------------

create function migration_guard.create_import_tables(schema_name text, tables jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted jsonb;
begin
  perform migration_guard.create_backup_schema(schema_name);
  for wanted in select t from jsonb_array_elements(tables) as t loop
    continue when to_regclass(format('%I.%I', schema_name, wanted ->> 'name')) is not null;
    execute format('create table %I.%I (%s)', schema_name, wanted ->> 'name', (
      select string_agg(concat_ws(' ', quote_ident(c.value ->> 'name'), c.value ->> 'type', 'collate ' || to_regcollation(c.value ->> 'collation')::text), ', ' order by c.position)
      from jsonb_array_elements(wanted -> 'columns') with ordinality as c (value, position)));
  end loop;
  perform migration_guard.close_schema(schema_name);
exception when others then
  -- Of what the manifest asks for, and not of the database's state: what is wrong in a statement, or beyond a limit.
  if sqlstate !~ '^(0A|22|42|54)' or wanted is null then raise; end if;
  perform migration_guard.fail('manifest_invalid', format('The table %s of the export''s manifest cannot be made (SQLSTATE %s).', quote_ident(wanted ->> 'name'), sqlstate));
end
$$;
comment on function migration_guard.create_import_tables(text, jsonb) is
  'Makes the schema of an import, closed, with the catalogs of a backup and the other tables of a manifest. Raises manifest_invalid.';

create function migration_guard.assert_import_columns(schema_name text, tables jsonb) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  wrong text;
begin
  -- What was made must be what was asked for, to the word: then no type was another clause, or somebody else's.
  select string_agg(w.name, ', ' order by w.name) into wrong
  from (
    select t ->> 'name' as name
    from jsonb_array_elements(tables) as t
    where (
      select coalesce(jsonb_agg(jsonb_build_array(c.value -> 'name', c.value -> 'type', coalesce(c.value -> 'collation', 'null')) order by c.position), '[]')
      from jsonb_array_elements(t -> 'columns') with ordinality as c (value, position)
    ) is distinct from (
      select coalesce(jsonb_agg(jsonb_build_array(a.attname,
        case when y.typnamespace = 'pg_catalog'::regnamespace then format_type(a.atttypid, a.atttypmod) end,
        case when a.attcollation <> y.typcollation then format('%I.%I', l.collnamespace::regnamespace, l.collname) end) order by a.attnum), '[]')
      from pg_attribute as a
      join pg_type as y on y.oid = a.atttypid
      left join pg_collation as l on l.oid = a.attcollation
      where a.attrelid = to_regclass(format('%I.%I', schema_name, t ->> 'name')) and a.attnum > 0 and not a.attisdropped
    )
    limit 10
  ) as w;
  if wrong is not null then
    perform migration_guard.fail('manifest_invalid', format('The columns of these tables are not as the export''s manifest has them once they are made: %s.', wrong));
  end if;
end
$$;
comment on function migration_guard.assert_import_columns(text, jsonb) is
  'Raises manifest_invalid where the tables of an import have other columns than its manifest says, or columns of types that are not Postgres''s own.';

create function migration_guard.assert_noted_manifest(backup_id uuid, manifest text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from migration_guard.backups as b where b.id = backup_id and b.manifest is distinct from assert_noted_manifest.manifest) then
    perform migration_guard.fail('import_damaged', format('This database has noted another manifest for that backup, %s.', backup_id));
  end if;
end
$$;
comment on function migration_guard.assert_noted_manifest(uuid, text) is
  'Raises import_damaged where this database knows a backup, be it gone, whose manifest is another than what an export says.';

create function migration_guard.hold_import(id uuid) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform migration_guard.settle_for_transfer();
  perform from migration_guard.import_beginnings as b where b.job_id = hold_import.id for update skip locked;
  return found and not exists (select from migration_guard.import_chunks as c where c.job_id = hold_import.id);
end
$$;
comment on function migration_guard.hold_import(uuid) is
  'Takes an import that is to begin for the transaction that reads its manifest and begins it; false where somebody else has it, or did.';

create function migration_guard.begin_import(id uuid, manifest jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set client_min_messages = 'error'
as $$
declare
  schema_name constant text := migration_guard.import_schema_name(id);
begin
  perform migration_guard.assert_importable(manifest);
  perform migration_guard.assert_backup_is_away((manifest -> 'backup' ->> 'backup_id')::uuid);
  perform migration_guard.assert_noted_manifest((manifest -> 'backup' ->> 'backup_id')::uuid, manifest ->> 'manifest');
  perform migration_guard.create_import_tables(schema_name, manifest -> 'tables');
  perform migration_guard.assert_import_columns(schema_name, manifest -> 'tables');
  insert into migration_guard.import_chunks (job_id, number, table_name, object, rows, record, text_bytes)
  select id, (c ->> 'number')::int, c ->> 'table', c ->> 'object', (c ->> 'rows')::bigint,
    jsonb_build_object('rows', c -> 'rows', 'bytes', c -> 'bytes', 'sha256', c -> 'sha256'), (c -> 'bytes' ->> 'text')::bigint
  from jsonb_array_elements(manifest -> 'chunks') as c;
  -- Last, since whoever cancels the job waits for its row, and others for them.
  update migration_guard.jobs as j
  set parameters = j.parameters || jsonb_build_object('backup_id', manifest -> 'backup' -> 'backup_id', 'manifest', manifest -> 'manifest')
  where j.id = begin_import.id and j.kind = 'import' and j.status = 'running' and j.run_by = 'function';
  if not found then
    perform migration_guard.fail('job_finished', 'The job has ended meanwhile.');
  end if;
end
$$;
comment on function migration_guard.begin_import(uuid, jsonb) is
  'Makes the schema that a running import is loaded into, and writes down its chunks, in the transaction that holds it. Raises
manifest_invalid, backup_exists, import_damaged or job_finished, and then nothing was made.';

-- Loading --------------------------------------------------------------------------------------------------------------

create function migration_guard.next_import_step(id uuid, out step text, out number int)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  transfer constant migration_guard.jobs := migration_guard.get_transfer(id);
  -- Whoever has begun something holds it in a moment.
  long_ago constant timestamptz := clock_timestamp() - interval '2 seconds';
  attempt int;
begin
  if transfer.id is null then
    step := 'ended';
    return;
  end if;
  -- Counted, and committed, before it is done: what ends whoever does it would otherwise do so for ever.
  if not exists (select from migration_guard.import_chunks as c where c.job_id = transfer.id) then
    insert into migration_guard.import_beginnings (job_id) values (transfer.id) on conflict do nothing;
    update migration_guard.import_beginnings as b set attempts = b.attempts + 1, begun_at = clock_timestamp()
    where b.job_id = (
      select w.job_id from migration_guard.import_beginnings as w
      where w.job_id = transfer.id and (w.begun_at is null or w.begun_at < long_ago) for update skip locked)
    returning b.attempts into attempt;
    step := case when found then 'begin' else 'waiting' end;
  else
    update migration_guard.import_chunks as c set attempts = c.attempts + 1, begun_at = clock_timestamp()
    where c.job_id = transfer.id and c.number = (
      select w.number from migration_guard.import_chunks as w
      where w.job_id = transfer.id and w.done_at is null and (w.begun_at is null or w.begun_at < long_ago)
      order by w.number for update skip locked limit 1)
    returning c.number, c.attempts into number, attempt;
    step := case when found then 'chunk'
      when exists (select from migration_guard.import_chunks as c where c.job_id = transfer.id and c.done_at is null) then 'waiting' else 'ended' end;
    if step = 'ended' then
      -- What is left to do needs no store.
      update migration_guard.jobs as j set run_by = 'worker', status = 'queued', attempts = 0
      where j.id = transfer.id and j.status = 'running' and j.run_by = 'function';
    end if;
  end if;
  if attempt > 8 then
    perform migration_guard.fail('worker_lost', format('%s was begun %s times, and whoever did so was lost each time.',
      coalesce('Chunk ' || number, 'The manifest'), attempt - 1));
  end if;
end
$$;
comment on function migration_guard.next_import_step(uuid) is
  'What an isolate can do now for an import: begin it, load a chunk, wait for those that others have, or nothing: where no chunk is left
the job becomes the worker''s, and has ended for who asks, as it has where it was cancelled. Raises worker_lost.';

create function migration_guard.hold_import_chunk(id uuid, number int, out object text, out statement text, out record jsonb)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  chunk migration_guard.import_chunks;
begin
  perform migration_guard.settle_for_transfer();
  perform set_config('xmloption', 'content', true);
  select c.* into chunk from migration_guard.import_chunks as c
  where c.job_id = (migration_guard.get_transfer(id)).id and c.number = hold_import_chunk.number and c.done_at is null
  for update skip locked;
  if chunk.number is null then return; end if;
  object := chunk.object;
  statement := format('copy %I.%I from stdin (encoding ''UTF8'')', migration_guard.import_schema_name(id), chunk.table_name);
  record := chunk.record;
end
$$;
comment on function migration_guard.hold_import_chunk(uuid, int) is
  'Takes a chunk of an import for the transaction that loads it, and says how that is done; nulls where somebody else has it or has loaded
it, or the job has ended. The settings that the texts depend on are made for the rest of the transaction.';

create function migration_guard.finish_import_chunk(id uuid, number int, loaded bigint) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update migration_guard.import_chunks as c set done_at = clock_timestamp()
  where c.job_id = finish_import_chunk.id and c.number = finish_import_chunk.number and c.done_at is null and c.rows = loaded;
  if not found then
    perform migration_guard.fail('import_damaged', format('The chunk %s has other rows than its record says: %s.', number, loaded));
  end if;
end
$$;
comment on function migration_guard.finish_import_chunk(uuid, int, bigint) is
  'Says that so many rows of a chunk were loaded in this transaction. Raises import_damaged where it has another number of them.';

create function migration_guard.import_progress(job migration_guard.jobs) returns table (done bigint, total bigint)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(sum(c.text_bytes) filter (where c.done_at is not null), 0)::bigint, sum(c.text_bytes)::bigint
  from migration_guard.import_chunks as c where c.job_id = job.id
$$;
comment on function migration_guard.import_progress(migration_guard.jobs) is
  'Bytes of text that an import has loaded, of how many; null until it has read what there is.';

-- What the worker makes of it ------------------------------------------------------------------------------------------

create function migration_guard.import_metadata(job migration_guard.jobs, schema_name text) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  found_rows jsonb[];
begin
  execute format('select array_agg(to_jsonb(m) - ''{tables,objects}''::text[]) from (select * from %I.backup_metadata limit 2) as m', schema_name) into found_rows;
  if cardinality(found_rows) is distinct from 1
    or (found_rows[1] -> 'backup_id', found_rows[1] -> 'manifest') is distinct from (job.parameters -> 'backup_id', job.parameters -> 'manifest') then
    perform migration_guard.fail('import_damaged', 'The export is damaged: backup_metadata has not the one row that its manifest tells of.');
  end if;
  perform (found_rows[1] ->> 'snapshot')::pg_snapshot;
  if isfinite((found_rows[1] ->> 'backup_date')::timestamptz) is not true then
    perform migration_guard.fail('import_damaged', 'The export is damaged: backup_metadata has a date that is none.');
  end if;
  perform migration_guard.parse_plan(job.version, found_rows[1] -> 'plan', job.actor);
  return found_rows[1];
exception when data_exception then
  perform migration_guard.fail('import_damaged', 'The export is damaged: backup_metadata has a snapshot or a date that is none.');
end
$$;
comment on function migration_guard.import_metadata(migration_guard.jobs, text) is
  'The row of backup_metadata that was imported, without its lists. Raises import_damaged or invalid_plan.';

create function migration_guard.complete_import_schema(schema_name text, staging text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  copied record;
  found_names text;
begin
  -- What no checksum covers does not come along.
  execute format($query$
    select string_agg(quote_ident(c.relname), ', ' order by c.relname) from pg_catalog.pg_class as c
    where c.relnamespace = to_regnamespace(quote_ident(%1$L)) and c.relkind = 'r' and c.relname <> all ('{objects_backup,dependencies_backup,tables_backup,backup_metadata}')
      and c.relname not in (select t.backup_table from %1$I.tables_backup as t)$query$, schema_name) into found_names;
  if found_names is not null then
    perform migration_guard.fail('import_damaged', format('The export has tables that the backup did not record: %s.', found_names));
  end if;
  -- As large as a number in JSON is exact, and all of them together.
  execute format($query$
    select string_agg(quote_ident(t.backup_table), ', ' order by t.backup_table)
    from (select b.*, sum(b.backup_bytes) over () as all_bytes from %I.tables_backup as b) as t
    where t.backup_bytes < 0 or t.all_bytes > 9007199254740991 or t.row_count between 0 and 9007199254740991 is not true$query$, schema_name) into found_names;
  if found_names is not null then
    perform migration_guard.fail('import_damaged', format('The export has numbers of bytes or rows that no table can have: %s.', found_names));
  end if;
  execute format('alter table %I.tables_backup alter row_count set not null, alter source_checksum set not null, alter backup_checksum set not null', schema_name);
  -- Its comment tells how it is read.
  execute format('comment on table %1$I.objects_backup is %2$L', schema_name,
    replace(obj_description(format('%I.objects_backup', schema_name)::regclass, 'pg_class'), quote_ident(staging) || '.', quote_ident(schema_name) || '.'));
  for copied in execute format($query$
    select t.source_schema, t.source_table, t.backup_table from %1$I.tables_backup as t
    where to_regclass(format('%%I.%%I', %1$L, t.backup_table)) is not null$query$, schema_name)
  loop
    execute format('comment on table %I.%I is %L', schema_name, copied.backup_table,
      format('Rows of %I.%I as they were when the backup was taken.', copied.source_schema, copied.source_table));
  end loop;
  perform migration_guard.create_catalog_views(schema_name);
  perform migration_guard.create_rebuild_script(schema_name);
  perform migration_guard.create_verification(schema_name);
  perform migration_guard.close_backup_schema(schema_name);
  select string_agg(r, '; ') into found_names from migration_guard.outside_references(schema_name) as r;
  if found_names is not null then
    perform migration_guard.fail('import_damaged', format('The backup would not stand alone: %s.', found_names));
  end if;
exception when integrity_constraint_violation or not_null_violation or duplicate_table or duplicate_object or wrong_object_type then
  perform migration_guard.fail('import_damaged', format('The export is damaged: what it has is not what a backup can have (SQLSTATE %s).', sqlstate));
end
$$;
comment on function migration_guard.complete_import_schema(text, text) is
  'Makes in an imported schema, which was called otherwise, what no chunk has: its views, functions, comments. Raises import_damaged.';

create function migration_guard.register_import(job migration_guard.jobs, schema_name text, metadata jsonb) returns migration_guard.backups
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  known migration_guard.backups;
  is_known boolean;
  size bigint;
begin
  perform migration_guard.forget_dropped_backup(job.version);
  perform from migration_guard.backups as b where b.id = (metadata ->> 'backup_id')::uuid for update;
  is_known := found;
  perform migration_guard.assert_backup_is_away((metadata ->> 'backup_id')::uuid);
  perform migration_guard.assert_noted_manifest((metadata ->> 'backup_id')::uuid, metadata ->> 'manifest');
  execute format('select coalesce(sum(t.backup_bytes), 0) from %I.tables_backup as t', schema_name) into size;
  insert into migration_guard.backups as b (id, version, schema_name, plan, actor, created_at, manifest, verification_source, members, bytes)
  values ((metadata ->> 'backup_id')::uuid, job.version, schema_name,
    -- As everything here reads it. Whom to tell is for whoever imports to say.
    migration_guard.plan_document(migration_guard.parse_plan(job.version, metadata -> 'plan', job.actor)) || '{"notify_url": null}', job.actor, (metadata ->> 'backup_date')::timestamptz, metadata ->> 'manifest',
    migration_guard.verification_source(schema_name), array(select c.identity from migration_guard.schema_contents(schema_name) as c order by c.identity), size)
  on conflict on constraint backups_pkey do update set
    version = excluded.version, schema_name = excluded.schema_name, plan = excluded.plan, actor = excluded.actor, created_at = excluded.created_at,
    manifest = excluded.manifest, verification_source = excluded.verification_source, members = excluded.members, bytes = excluded.bytes,
    -- Nothing in this database proves by its versions what came from elsewhere.
    catalog_fingerprint = null, metadata_version = null, timeline = null, verified_ok = null, verified_at = null,
    trashed_at = null, trashed_by = null, purge_after = null, removed_at = null, removed_by = null,
    -- A sign-off is of a migration, as a rollback and a diff are.
    confirmed_at = case when b.version = excluded.version then b.confirmed_at end, confirmed_by = case when b.version = excluded.version then b.confirmed_by end,
    confirmation_note = case when b.version = excluded.version then b.confirmation_note end,
    rolled_back_at = case when b.version = excluded.version then b.rolled_back_at end, rolled_back_by = case when b.version = excluded.version then b.rolled_back_by end,
    last_diff = case when b.version = excluded.version then b.last_diff end, last_diff_at = case when b.version = excluded.version then b.last_diff_at end
  -- One that was not known could not be locked: another import has been faster.
  where is_known
  returning b.* into known;
  if known.id is null then
    perform migration_guard.assert_backup_is_away((metadata ->> 'backup_id')::uuid);
  end if;
  -- They are listed, and worked on, under the version that it has.
  update migration_guard.exports as e set version = known.version where e.backup_id = known.id and e.version <> known.version;
  return known;
end
$$;
comment on function migration_guard.register_import(migration_guard.jobs, text, jsonb) is
  'Registers an imported backup: anew or, where it was here before and is gone, again, and its exports with it. Raises backup_exists or
import_damaged.';

create function migration_guard.run_import(job migration_guard.jobs) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  staging constant text := migration_guard.import_schema_name(job.id);
  schema_name constant text := migration_guard.backup_schema_name(job.version);
  metadata jsonb;
  backup migration_guard.backups;
  failed text[];
begin
  perform migration_guard.assert_schema_is_free(job.version, 'import into another version, or clean that backup up');
  if to_regnamespace(quote_ident(staging)) is null or exists (select from migration_guard.import_chunks as c where c.job_id = job.id and c.done_at is null) then
    perform migration_guard.fail('import_damaged', 'The import is not whole: not all of its chunks were loaded.');
  end if;
  perform migration_guard.lock_schema_tables(staging);
  execute format('alter schema %I rename to %I', staging, schema_name);
  perform migration_guard.report_progress(job, 'checks', 0, 0);
  metadata := migration_guard.import_metadata(job, schema_name);
  perform migration_guard.complete_import_schema(schema_name, staging);
  backup := migration_guard.register_import(job, schema_name, metadata);
  failed := array(select format('%s (%s)', c.check_name, left(c.details, 300)) from migration_guard.integrity_checks(backup) as c where c.status <> 'OK');
  if failed <> '{}' then
    perform migration_guard.fail('import_damaged', format('What was imported is not what the backup recorded: %s%s.',
      array_to_string(failed[1:10], '; '), case when cardinality(failed) > 10 then format('; and %s checks more', cardinality(failed) - 10) else '' end));
  end if;
  update migration_guard.backups as b set verified_ok = true, verified_at = clock_timestamp() where b.id = backup.id;
  delete from migration_guard.import_chunks as c where c.job_id = job.id;
  return jsonb_build_object('schema', schema_name, 'backup_id', backup.id, 'version', backup.version, 'manifest', backup.manifest,
      'export', job.parameters -> 'export', 'rows', metadata -> 'rows_backed_up', 'tables', metadata -> 'tables_backed_up')
    || migration_guard.put_plan_back(backup, job.actor);
end
$$;
comment on function migration_guard.run_import(migration_guard.jobs) is
  'Does the last part of an import, when all is loaded: makes a backup of it, registers it, and proves it by every check. Result:
{schema, backup_id, version, manifest, export, rows, tables}. Raises backup_exists, invalid_plan or import_damaged.';

create function migration_guard.drop_leftover_imports() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Whoever is at it still will be gone when the next worker looks.
set lock_timeout = '100ms' set client_min_messages = 'error'
as $$
declare
  leftover text;
  job migration_guard.jobs;
  tables text[];
  -- Each of them is some locks, of which the server has so many: the next worker goes on.
  tables_left int := 200;
begin
  delete from migration_guard.import_beginnings as b
  where b.job_id in (
    select w.job_id from migration_guard.import_beginnings as w join migration_guard.jobs as j on j.id = w.job_id
    where j.finished_at is not null for update of w skip locked);
  for leftover in
    select n.nspname from pg_namespace as n where n.nspname ~ '^migration_import_[0-9a-f]{8}$' and n.nspowner = migration_guard.owner()::regrole
  loop
    exit when tables_left = 0;
    select j.* into job from migration_guard.jobs as j
    where j.kind = 'import' and migration_guard.import_schema_name(j.id) = leftover
      and j.id between (right(leftover, 8) || '-0000-0000-0000-000000000000')::uuid and (right(leftover, 8) || '-ffff-ffff-ffff-ffffffffffff')::uuid
    order by j.finished_at nulls first limit 1;
    -- One that no job has made is somebody else's.
    continue when job.finished_at is null;
    begin
      -- Whoever loads one has its row.
      delete from migration_guard.import_chunks as c where c.job_id = job.id;
      tables := array(
        select format('%I.%I', leftover, c.relname) from pg_class as c
        where c.relnamespace = to_regnamespace(quote_ident(leftover)) and c.relkind = 'r' order by c.oid limit tables_left + 1);
      if tables <> '{}' then
        execute 'drop table ' || array_to_string(tables[1:tables_left], ', ') || ' restrict';
      end if;
      if cardinality(tables) <= tables_left then
        execute format('drop schema %I restrict', leftover);
      end if;
      tables_left := greatest(tables_left - cardinality(tables), 0);
    exception when others then
      -- Whatever it is, as an event trigger of somebody else's: no other job waits for it.
      raise log 'migration_guard: % of job % could not be dropped yet: %', leftover, job.id, sqlerrm;
    end;
  end loop;
end
$$;
comment on function migration_guard.drop_leftover_imports() is
  'Drops what imports have loaded that have failed, or were cancelled, some hundred tables at a time. Called by whoever claims jobs; what
cannot be dropped, or not locked at once, is left to the next.';
