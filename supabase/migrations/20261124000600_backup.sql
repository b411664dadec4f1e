-- Chapter 6. Taking a backup: its schema, the rows, the objects, the metadata, and what verifies it all.

create function migration_guard.assert_can_back_up(version text) returns migration_guard.plans
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  plan constant migration_guard.plans := migration_guard.get_plan(version);
  schema_name constant text := migration_guard.backup_schema_name(plan.version);
  missing text;
begin
  if exists (select from pg_catalog.pg_namespace as n where n.nspname = schema_name) then
    perform migration_guard.fail('backup_exists', format('The schema %s is there already: it is never touched again.', schema_name));
  end if;
  if migration_guard.has_been_applied(plan.version) then
    perform migration_guard.fail(
      'migration_already_applied',
      format('supabase_migrations.schema_migrations lists %s: a backup taken now would not be of the state before it.', plan.version));
  end if;
  select string_agg(format('%s %s', m.kind, m.name), ', ' order by m.kind, m.name) into missing
  from migration_guard.plan_missing(plan) as m;
  if missing is not null then
    perform migration_guard.fail(
      'migration_already_applied',
      format('What the plan of %s names is gone, as it is after the migration: %s.', plan.version, missing));
  end if;
  return plan;
end
$$;
comment on function migration_guard.assert_can_back_up(text) is
  'The plan of a version whose backup can be taken now. Raises plan_not_found, backup_exists or migration_already_applied.';

create function migration_guard.has_been_applied(version text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  major constant text := split_part(version, '.', 1);
  minor constant text := split_part(version, '.', 2);
  -- v10.0 may be called v10, but what is called v10_1 is v10.1.
  pattern constant text := format('^%s%s$', major,
    case minor when '0' then '([._]0(_.*)?|(_[^0-9].*)?)' else format('[._]%s(_.*)?', minor) end);
  applied boolean := false;
begin
  if to_regclass('supabase_migrations.schema_migrations') is not null then
    -- A file 20260101000000_v10.0_rename.sql is listed as version 20260101000000, name v10.0_rename. The list is read
    -- as JSON, because older versions of the CLI make it without the column `name`.
    execute $query$
      select exists (
        select from supabase_migrations.schema_migrations as m
        where m.version = $1
          or (starts_with($1, 'v') and (m.version = any ($2) or to_jsonb(m) ->> 'name' ~ $3))
      )$query$
    into applied using version, array[version, ltrim(version, 'v')] || case minor when '0' then array[major, ltrim(major, 'v')] end, pattern;
  end if;
  return applied;
end
$$;
comment on function migration_guard.has_been_applied(text) is
  'Whether the Supabase CLI''s list of applied migrations has this version, by its number or by its name.';

create function migration_guard.enqueue_backup(version text, actor text default session_user, request_id text default null)
returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  plan migration_guard.plans;
begin
  -- Before the checks, so that a second request waits for nothing and is told what is going on.
  if exists (
    select from migration_guard.jobs as j
    where j.version = migration_guard.normalize_version(enqueue_backup.version)
      and j.kind in ('backup', 'cleanup') and j.status in ('queued', 'running')
  ) then
    perform migration_guard.fail('backup_in_progress', format('A backup or a cleanup of %s is under way already.', version));
  end if;
  plan := migration_guard.assert_can_back_up(version);
  return migration_guard.enqueue('backup', plan.version, actor, '{}', request_id);
end
$$;
comment on function migration_guard.enqueue_backup(text, text, text) is
  'Queues the backup of a version. Raises plan_not_found, backup_exists, backup_in_progress or migration_already_applied.';

-- The schema ----------------------------------------------------------------------------------------------------------

create function migration_guard.create_backup_schema(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('create schema %I', schema_name);
  execute format($ddl$
    create table %1$I.objects_backup (
      classid oid not null,
      objid oid not null,
      objsubid int not null,
      parent oid,
      kind text not null,
      schema_name text not null,
      parent_name text,
      name text not null,
      identity text not null,
      definition text not null,
      sort_order real,
      checksum text not null,
      backed_up_at timestamptz not null default now(),
      primary key (classid, objid, objsubid)
    );
    comment on table %1$I.objects_backup is 'Every object that the backup holds, by Postgres''s own identity, with the statement that creates it.';
    create table %1$I.tables_backup (
      source_oid oid primary key,
      source_schema text not null,
      source_table text not null,
      backup_table text not null,
      row_count bigint not null,
      source_checksum text not null,
      backup_checksum text not null,
      backup_bytes bigint not null,
      columns jsonb not null,
      backed_up_at timestamptz not null default now()
    );
    comment on table %1$I.tables_backup is 'Each table that was copied: where from, where to, how many rows, their checksum, and how each column is stored.';
    create table %1$I.backup_metadata (
      backup_id uuid primary key,
      backup_date timestamptz not null,
      migration_version text not null,
      description text not null,
      tables_backed_up int not null,
      functions_backed_up int not null,
      indexes_backed_up int not null,
      policies_backed_up int not null,
      enums_backed_up int not null,
      rows_backed_up bigint not null,
      actor text not null,
      snapshot text not null,
      server_version text not null,
      product_version text not null,
      checksum_algorithm text not null,
      plan jsonb not null,
      tables jsonb not null,
      objects jsonb not null,
      manifest text
    );
    comment on table %1$I.backup_metadata is 'One row: what the backup holds, who took it and when, and the checksum over all of it.';
    comment on column %1$I.backup_metadata.tables is 'For each copied table the columns, row count and checksum that it must have.';
    comment on column %1$I.backup_metadata.objects is 'For each kind of object the identities that must be there, with the checksum of each definition.';
    comment on column %1$I.backup_metadata.manifest is 'SHA-256 over objects_backup, tables_backup and this row.'
  $ddl$, schema_name);
end
$$;
comment on function migration_guard.create_backup_schema(text) is 'Makes an empty backup schema with its catalog tables.';

create function migration_guard.record_objects(schema_name text, plan migration_guard.plans) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format($insert$
    insert into %I.objects_backup
      (classid, objid, objsubid, parent, kind, schema_name, parent_name, name, identity, definition, sort_order, checksum)
    select o.classid, o.objid, o.objsubid, o.parent, o.kind, o.schema_name, o.parent_name, o.name, o.identity, o.definition,
      o.sort_order, encode(sha256(convert_to(concat_ws(' ', o.definition, o.sort_order::text), 'UTF8')), 'hex')
    from migration_guard.plan_objects($1) as o
  $insert$, schema_name) using plan;
end
$$;
comment on function migration_guard.record_objects(text, migration_guard.plans) is
  'Writes the catalog objects of a plan into a backup schema.';

create function migration_guard.create_catalog_views(schema_name text, plan migration_guard.plans) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  enum_name text;
  taken constant text[] := array(
    select c.relname::text from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = schema_name);
begin
  execute format($ddl$
    create view %1$I.functions_backup as
      select name as function_name, definition as function_definition, backed_up_at
      from %1$I.objects_backup where kind = 'function';
    comment on view %1$I.functions_backup is 'Each function, as the statement that creates it again.';
    create view %1$I.indexes_backup as
      select name as index_name, parent_name as table_name, definition as index_definition, backed_up_at
      from %1$I.objects_backup where kind = 'index';
    comment on view %1$I.indexes_backup is 'Each index, as the statement that creates it again.';
    create view %1$I.policies_backup as
      select parent_name as table_name, name as policy_name, definition as policy_definition, backed_up_at
      from %1$I.objects_backup where kind = 'policy';
    comment on view %1$I.policies_backup is 'Each row level security policy, as the statement that creates it again.'
  $ddl$, schema_name);
  for enum_name in select distinct unnest(plan.enums) order by 1 loop
    execute format($ddl$
      create view %1$I.%2$I as
        select name as enum_value, sort_order as enum_sort_order, backed_up_at
        from %1$I.objects_backup where kind = 'enum_value' and parent_name = %3$L;
      comment on view %1$I.%2$I is 'The values of an enum type, and their order.'
    $ddl$, schema_name, migration_guard.backup_object_name(enum_name, '_enum_backup', taken), enum_name);
  end loop;
end
$$;
comment on function migration_guard.create_catalog_views(text, migration_guard.plans) is
  'Makes the named catalogs of a backup schema: functions, indexes, policies, and one view for each enum.';

create function migration_guard.record_metadata(job migration_guard.jobs, schema_name text, plan migration_guard.plans, backup_id uuid)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  manifest text;
begin
  execute format($insert$
    insert into %1$I.backup_metadata
    select $1, now(), $2.version, concat_ws(': ', nullif($2.title, ''), nullif($2.description, '')),
      (select count(*) from %1$I.tables_backup),
      count(*) filter (where o.kind = 'function'), count(*) filter (where o.kind = 'index'),
      count(*) filter (where o.kind = 'policy'), count(*) filter (where o.kind = 'enum'),
      (select coalesce(sum(t.row_count), 0) from %1$I.tables_backup as t),
      $3, pg_current_snapshot()::text, current_setting('server_version'), migration_guard.product_version(),
      migration_guard.checksum_algorithm(), migration_guard.plan_document($2),
      (select jsonb_object_agg(format('%%I.%%I', t.source_schema, t.source_table),
         jsonb_build_object('backup_table', t.backup_table, 'row_count', t.row_count, 'checksum', t.backup_checksum,
           'columns', jsonb_path_query_array(t.columns, '$[*].name')))
       from %1$I.tables_backup as t),
      (select jsonb_object_agg(k.kind, k.objects)
       from (select x.kind, jsonb_object_agg(x.identity, x.checksum) as objects from %1$I.objects_backup as x group by x.kind) as k)
    from %1$I.objects_backup as o
  $insert$, schema_name) using backup_id, plan, job.actor;
  execute format('update %1$I.backup_metadata as m set manifest = %1$I.compute_manifest() where m.backup_id = $1 returning m.manifest', schema_name)
    into manifest using backup_id;
  return manifest;
end
$$;
comment on function migration_guard.record_metadata(migration_guard.jobs, text, migration_guard.plans, uuid) is
  'Writes the one row of backup_metadata and returns the manifest checksum.';

create function migration_guard.close_backup_schema(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The copy holds personal data.
  perform migration_guard.close_schema(schema_name);
  execute format('comment on schema %I is %L', schema_name,
    'Migration Guard backup: change nothing here. select * from ' || format('%I', schema_name) || '.verify_backup_integrity();');
end
$$;
comment on function migration_guard.close_backup_schema(text) is
  'Takes away whatever default privileges gave in a new backup schema.';

-- The job -------------------------------------------------------------------------------------------------------------

create function migration_guard.assert_locked(relations oid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  unlocked constant oid[] := array(
    select r.oid
    from unnest(relations) as r (oid)
    where not exists (
      select from pg_catalog.pg_locks as l
      where l.pid = pg_backend_pid() and l.locktype = 'relation' and l.relation = r.oid and l.granted));
  relation oid;
begin
  -- Where one of them may not be read, this says so.
  foreach relation in array unlocked loop
    execute format('lock table %s in access share mode', relation::regclass);
  end loop;
  -- Where all may, one has taken another's place since the locks were asked for.
  if unlocked <> '{}' then
    raise exception using errcode = 'lock_not_available', message = 'a table was not locked before the snapshot';
  end if;
end
$$;
comment on function migration_guard.assert_locked(oid[]) is
  'Raises insufficient_privilege or lock_not_available unless this transaction holds a lock on each of the tables.';

create function migration_guard.used_types(plan migration_guard.plans) returns setof oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive used (oid) as (
    (
      select a.atttypid
      from migration_guard.plan_tables(plan) as t
      join pg_attribute as a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
      union
      select e.oid from migration_guard.plan_enums(plan) as e
    )
    union
    select m.oid
    from used as u
    join pg_type as t on t.oid = u.oid
    cross join lateral (
      select t.typelem union select t.typbasetype
      union select r.rngsubtype from pg_range as r where r.rngtypid = t.oid or r.rngmultitypid = t.oid
      union select a.atttypid from pg_attribute as a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    ) as m (oid)
    where m.oid <> 0
  )
  select u.oid from used as u where u.oid >= 16384
$$;
comment on function migration_guard.used_types(migration_guard.plans) is
  'The types that somebody made among those of a plan''s columns, down to what arrays, domains, ranges and composites are made of.';

create function migration_guard.assert_unchanged(schema_name text, plan migration_guard.plans) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  used record;
  labels text[];
  changed text;
begin
  -- Types and functions cannot be locked, and what Postgres deparses or prints is what they are now, whatever the snapshot:
  -- one that was altered in between would be in the backup half old and half new. The catalog's tables are read as of
  -- the snapshot; enum_range, to_jsonb and pg_get_functiondef tell the present.
  for used in
    select t.oid, t.typtype, format('%I.%I', n.nspname, t.typname) as name,
      case t.typtype
        when 'e' then array(select e.enumlabel::text from pg_enum as e where e.enumtypid = t.oid order by e.enumsortorder)
        else array(select a.attname::text from pg_attribute as a
          where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped order by a.attname::text collate "C")
      end as labels
    from migration_guard.used_types(plan) as u (oid)
    join pg_type as t on t.oid = u.oid
    join pg_namespace as n on n.oid = t.typnamespace
    where t.typtype in ('e', 'c')
  loop
    if to_regtype(used.name)::oid is distinct from used.oid then
      changed := used.name;
    elsif used.typtype = 'e' then
      execute format('select array(select format(''%%s'', v) from unnest(enum_range(null::%s)) as v)', used.name) into labels;
    else
      execute format('select array(select k from jsonb_object_keys(to_jsonb(jsonb_populate_record(null::%s, ''{}''))) as k order by k collate "C")', used.name)
        into labels;
    end if;
    if changed is not null or labels is distinct from used.labels then
      perform migration_guard.fail('types_changed', format('The type %s was altered during the backup.', used.name));
    end if;
  end loop;

  execute format($query$
    select string_agg(o.identity, ', ') from %I.objects_backup as o left join pg_proc as p on p.oid = o.objid
    where o.kind = 'function' and p.prosqlbody is null and position(p.prosrc in o.definition) = 0
  $query$, schema_name) into changed;
  if changed is not null then
    perform migration_guard.fail('types_changed', format('%s was replaced during the backup.', changed));
  end if;
end
$$;
comment on function migration_guard.assert_unchanged(text, migration_guard.plans) is
  'Raises types_changed when a type or a function of a plan was altered after the transaction''s snapshot.';

create function migration_guard.run_backup(job migration_guard.jobs) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  plan constant migration_guard.plans := migration_guard.assert_can_back_up(job.version);
  schema_name constant text := migration_guard.backup_schema_name(plan.version);
  backup_id constant uuid := gen_random_uuid();
  relations constant oid[] := array(select t.oid from migration_guard.plan_tables(plan) as t order by t.name);
  relation oid;
  done int := 0;
  manifest text;
  outside text;
  result jsonb;
begin
  perform migration_guard.assert_locked(relations);
  perform migration_guard.create_backup_schema(schema_name);
  foreach relation in array relations loop
    perform migration_guard.report_progress(job, 'copying ' || relation::regclass, done, cardinality(relations));
    perform migration_guard.copy_table(job, schema_name, relation);
    done := done + 1;
  end loop;
  perform migration_guard.report_progress(job, 'recording the catalog', done, done);
  perform migration_guard.record_objects(schema_name, plan);
  perform migration_guard.assert_unchanged(schema_name, plan);
  perform migration_guard.create_catalog_views(schema_name, plan);
  perform migration_guard.create_verification(schema_name);
  manifest := migration_guard.record_metadata(job, schema_name, plan, backup_id);
  perform migration_guard.close_backup_schema(schema_name);

  select string_agg(r, '; ') into outside from migration_guard.outside_references(schema_name) as r;
  if outside is not null then
    perform migration_guard.fail('copy_differs', format('The backup would not stand alone: %s.', outside));
  end if;
  -- An earlier backup whose schema somebody dropped by hand is still registered.
  update migration_guard.backups as b
  set removed_at = clock_timestamp(), removed_by = 'unknown: its schema was dropped without a cleanup'
  where b.version = plan.version and b.removed_at is null;
  insert into migration_guard.backups (id, version, schema_name, plan, actor, manifest, verification_source, members)
  values (backup_id, plan.version, schema_name, migration_guard.plan_document(plan), job.actor, manifest,
    migration_guard.verification_source(schema_name),
    array(select c.identity from migration_guard.schema_contents(schema_name) as c order by c.identity));
  execute format('select to_jsonb(m) - ''tables'' - ''objects'' - ''plan'' from %I.backup_metadata as m', schema_name) into result;
  return result || jsonb_build_object('schema', schema_name);
end
$$;
comment on function migration_guard.run_backup(migration_guard.jobs) is
  'Does a backup job: the whole schema, or an error and nothing. Result: the row of backup_metadata, in short.';
