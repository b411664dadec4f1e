-- Chapter 6. Taking a backup: its schema, the rows, the objects and their order, the metadata, and what verifies it all.

create function migration_guard.assert_can_back_up(version text) returns migration_guard.plans
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  plan constant migration_guard.plans := migration_guard.get_plan(version);
  missing text;
begin
  perform migration_guard.assert_schema_is_free(plan.version,
    'go on with that backup; where the migration has not run yet, drop that schema and take another; otherwise clean it up first');
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
  perform migration_guard.assert_may_be_read(array(select t.oid from migration_guard.plan_tables(plan) as t));
  return plan;
end
$$;
comment on function migration_guard.assert_can_back_up(text) is
  'The plan of a version whose backup can be taken now. Raises plan_not_found, backup_exists, migration_already_applied or untrusted_code.';

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
  relation constant oid := to_regclass('supabase_migrations.schema_migrations');
  has_names constant boolean := exists (select from pg_attribute as a where a.attrelid = relation and a.attname = 'name' and not a.attisdropped);
  applied boolean := false;
begin
  -- A file 20260101000000_v10.0_rename.sql is listed as version 20260101000000, name v10.0_rename. Older versions of the CLI
  -- make the list without the column `name`.
  if relation is not null then
    execute format($query$
      select exists (
        select from supabase_migrations.schema_migrations as m
        where m.version = $1
          or (starts_with($1, 'v') and (m.version = any ($2) or %s ~ $3))
      )$query$, case when has_names then 'm.name' else 'null' end)
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
  perform migration_guard.assert_nothing_under_way(version);
  -- Nobody replaces the plan between the look at it and the job.
  perform from migration_guard.plans as p where p.version = migration_guard.normalize_version(enqueue_backup.version) for share;
  plan := migration_guard.assert_can_back_up(version);
  return migration_guard.enqueue('backup', plan.version, actor, '{}', request_id);
end
$$;
comment on function migration_guard.enqueue_backup(text, text, text) is
  'Queues the backup of a version. Raises plan_not_found, backup_exists, backup_in_progress,
migration_already_applied or untrusted_code.';

-- The schema ----------------------------------------------------------------------------------------------------------

create function migration_guard.create_object_catalogs(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format($ddl$
    create table %1$I.objects_backup (
      classid oid not null,
      objid oid not null,
      objsubid int not null,
      kind text not null,
      schema_name text not null,
      name text not null,
      identity text not null,
      parent_classid oid,
      parent oid,
      parent_name text,
      definition text not null,
      settings text[] not null,
      is_internal boolean not null,
      owner text,
      comment text,
      grants text[] not null,
      sort_order real,
      last_value bigint,
      is_called boolean,
      in_plan boolean not null,
      creation_order int,
      needs_shell boolean not null default false,
      checksum text not null,
      signature jsonb not null,
      acl text,
      parts jsonb not null,
      backed_up_at timestamptz not null default now(),
      primary key (classid, objid, objsubid)
    );
    comment on table %1$I.objects_backup is 'Every object of the schema, and what elsewhere depends on the plan''s, by Postgres''s own identity, with the statements that make it. select statement from %1$I.rebuild_script() order by step puts them in order.';
    comment on column %1$I.objects_backup.definition is 'The statement that makes it: a table with its columns, a type with its attributes or values.';
    comment on column %1$I.objects_backup.settings is 'Statements that complete it when everything is there.';
    comment on column %1$I.objects_backup.is_internal is 'Postgres makes it together with another object; nobody runs the definition.';
    comment on column %1$I.objects_backup.grants is 'Statements that give its privileges; none where they are the default ones.';
    comment on column %1$I.objects_backup.last_value is 'Where a sequence stood, with is_called as in the sequence; null where that may not be read.';
    comment on column %1$I.objects_backup.in_plan is 'Whether the plan names it, or it belongs to what the plan names.';
    comment on column %1$I.objects_backup.creation_order is 'What an object needs has a lower number.';
    comment on column %1$I.objects_backup.needs_shell is 'A view or type that is needed by what it needs: a shell of it is made first.';
    comment on column %1$I.objects_backup.checksum is 'SHA-256 over definition, settings, owner, comment, grants and sort_order.';
    comment on column %1$I.objects_backup.signature is 'What it is apart from all names: it refers by OID and attribute number, and stays equal under a rename.';
    comment on column %1$I.objects_backup.acl is 'Its privileges, in a fixed order; null where the kind has none.';
    comment on column %1$I.objects_backup.parts is 'Pieces of its definition, for the statements that change it in place.';
    create table %1$I.dependencies_backup (
      classid oid not null,
      objid oid not null,
      refclassid oid not null,
      refobjid oid not null,
      is_setting boolean not null,
      primary key (classid, objid, refclassid, refobjid, is_setting)
    );
    comment on table %1$I.dependencies_backup is 'Which object of objects_backup needs which: to be made, or only for one of its settings.'
  $ddl$, schema_name);
end
$$;
comment on function migration_guard.create_object_catalogs(text) is
  'Makes objects_backup and dependencies_backup in a new backup schema.';

create function migration_guard.create_backup_schema(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('create schema %I', schema_name);
  perform migration_guard.create_object_catalogs(schema_name);
  execute format($ddl$
    create table %1$I.tables_backup (
      source_oid oid primary key,
      source_schema text not null,
      source_table text not null,
      backup_table text not null,
      row_count bigint,
      source_checksum text,
      backup_checksum text,
      backup_bytes bigint not null,
      source_filenode oid,
      columns jsonb not null,
      backed_up_at timestamptz not null default now()
    );
    comment on table %1$I.tables_backup is 'Each table that was copied: where from, where to, how many rows, their checksum, and how each column is stored.';
    comment on column %1$I.tables_backup.source_filenode is 'The file of the table at the time, which is another when the table was written anew; null for a partitioned one.';
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
      objects_backed_up int not null,
      rows_backed_up bigint not null,
      actor text not null,
      snapshot text not null,
      database_identity text not null,
      server_version text not null,
      product_version text not null,
      checksum_algorithm text not null,
      plan jsonb not null,
      tables jsonb not null,
      objects jsonb not null,
      manifest text
    );
    comment on table %1$I.backup_metadata is 'One row: what the backup holds, who took it and when, and the checksum over all of it.';
    comment on column %1$I.backup_metadata.tables is 'For each copied table the columns with their types, row count and checksum that it must have.';
    comment on column %1$I.backup_metadata.objects is 'For each kind of object the identities that must be there, with the checksum of each definition.';
    comment on column %1$I.backup_metadata.manifest is 'SHA-256 over objects_backup, dependencies_backup, tables_backup and this row.'
  $ddl$, schema_name);
end
$$;
comment on function migration_guard.create_backup_schema(text) is 'Makes an empty backup schema with its catalog tables.';

create function migration_guard.database_identity() returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('%s/%s', s.system_identifier, d.oid)
  from pg_control_system() as s
  join pg_database as d on d.datname = current_database()
$$;
comment on function migration_guard.database_identity() is
  'Tells this database from one into which its dump was restored, where objects have other OIDs.';

create function migration_guard.timeline() returns int
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select c.timeline_id from pg_control_checkpoint() as c $$;
comment on function migration_guard.timeline() is
  'The timeline of the server: another after a recovery to a point in time, or on a standby that has become the server.';

create function migration_guard.record_objects(schema_name text, plan migration_guard.plans) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off set work_mem = '64MB'
as $$
declare
  objects constant migration_guard.catalog_objects[] := array(select o from migration_guard.read_schema(plan.schema_name) as o);
  planned constant migration_guard.catalog_objects[] := array(select o from migration_guard.plan_objects(plan, objects) as o);
begin
  execute format($insert$
    insert into %I.objects_backup
      (classid, objid, objsubid, kind, schema_name, name, identity, parent_classid, parent, parent_name, definition, settings,
       is_internal, owner, comment, grants, sort_order, in_plan, checksum, signature, acl, parts)
    with objects as materialized (
      select distinct on (a.classid, a.objid, a.objsubid) a.*
      from (
        select p.*, true as in_plan from unnest($1) as p
        union all
        select i.*, false from migration_guard.without_extensions($2) as i
        union all
        select d.*, false from migration_guard.dependents_of($1, $2) as d
      ) as a
      order by a.classid, a.objid, a.objsubid, a.in_plan desc
    )
    select o.classid, o.objid, o.objsubid, o.kind, o.schema_name, o.name, o.identity, o.parent_classid, o.parent, o.parent_name,
      coalesce(o.definition, ''), o.settings, o.is_internal, o.owner, o.comment, o.grants, o.sort_order, o.in_plan,
      -- As object_checksum has it, which takes longer to be called than to compute this.
      encode(sha256(convert_to(jsonb_build_array(
        o.definition, o.settings, o.owner, o.comment, array(select g from unnest(o.grants) as g order by g collate "C"), o.sort_order)::text, 'UTF8')), 'hex'),
      coalesce(s.signature, '{}'), s.acl, coalesce(s.parts, '{}')
    from objects as o
    left join migration_guard.signatures_of(array(select distinct x.objid from objects as x)) as s
      on (s.classid, s.objid, s.objsubid) = (o.classid, o.objid, o.objsubid)
  $insert$, schema_name) using planned, objects;
  execute format('analyze %I.objects_backup (classid, objid, objsubid, kind, parent_classid, parent, in_plan)', schema_name);
  perform migration_guard.assert_recorded_whole(schema_name);
  perform migration_guard.record_sequence_positions(schema_name);
  perform migration_guard.record_dependencies(schema_name);
  perform migration_guard.record_creation_order(schema_name);
end
$$;
comment on function migration_guard.record_objects(text, migration_guard.plans) is
  'Writes the catalog of a plan''s schema into a backup schema, and what elsewhere depends on the plan''s objects.';

create function migration_guard.assert_recorded_whole(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  changed text;
begin
  -- The catalog's tables were read as of the snapshot; definitions and pg_identify_object tell the present.
  execute format($query$
    select string_agg(o.identity, ', ' order by o.identity) from %I.objects_backup as o
    where o.definition = ''
      or case
        when o.kind in ('function', 'procedure') then position(format('%%I.%%I(', o.schema_name, o.name) in o.definition) = 0
        when o.kind in ('schema', 'table', 'foreign_table', 'column', 'attribute', 'constraint', 'index', 'sequence', 'trigger', 'rule', 'policy', 'view',
          'materialized_view', 'enum', 'domain', 'composite_type', 'range_type', 'statistics')
          then (pg_identify_object(o.classid, o.objid, o.objsubid)).identity is distinct from o.identity
        else false end
  $query$, schema_name) into changed;
  if changed is not null then
    perform migration_guard.fail('types_changed', format('Altered during the backup: %s.', changed));
  end if;
end
$$;
comment on function migration_guard.assert_recorded_whole(text) is
  'Raises types_changed when an object was renamed or dropped after the snapshot, so that its definition is not what its name says.';

create function migration_guard.record_sequence_positions(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  query text;
  altered text;
begin
  -- Hundreds at a time: a statement for each takes longer.
  for query in execute format($query$
    select string_agg(format('select %%L::oid as objid, s.last_value, s.is_called from %%s as s', r.objid, r.identity), ' union all ')
    from (
      select o.objid, o.identity, row_number() over (order by o.identity) as number from %I.objects_backup as o
      where case when o.kind = 'sequence' then o.in_plan or has_sequence_privilege(o.objid, 'select') end
    ) as r
    group by r.number / 200 order by min(r.number)
  $query$, schema_name)
  loop
    perform migration_guard.refuse_views(true);
    execute format($query$
      -- Materialized, since nobody can lock the row of a sequence.
      with positions as materialized (%2$s)
      update %1$I.objects_backup as o set last_value = p.last_value, is_called = p.is_called
      from positions as p where o.classid = 'pg_class'::regclass and o.objid = p.objid and o.objsubid = 0
    $query$, schema_name, query);
    perform migration_guard.refuse_views(false);
  end loop;
  execute format(
    'select string_agg(o.identity, '', '' order by o.identity) from %I.objects_backup as o where o.last_value is not null and to_regclass(o.identity)::oid is distinct from o.objid', schema_name)
    into altered;
  if altered is not null then
    perform migration_guard.fail('types_changed', format('The sequence %s was altered during the backup.', altered));
  end if;
end
$$;
comment on function migration_guard.record_sequence_positions(text) is
  'Writes down where each recorded sequence stands. Raises insufficient_privilege where one of the plan''s may not be read.';

create function migration_guard.record_dependencies(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off set work_mem = '64MB' set enable_mergejoin = off
as $$
begin
  execute format($insert$
    insert into %1$I.dependencies_backup
    with recorded as materialized (select o.classid, o.objid from %1$I.objects_backup as o where o.objsubid = 0)
    select d.classid, d.objid, d.refclassid, d.refobjid, d.is_setting
    from migration_guard.catalog_dependencies as d
    where (d.classid, d.objid) in (select r.classid, r.objid from recorded as r) and (d.refclassid, d.refobjid) in (select r.classid, r.objid from recorded as r)
    union
    -- A key or check of a partitioned table comes when its partitions are attached: each has its own.
    select o.classid, o.objid, p.classid, p.objid, false
    from %1$I.objects_backup as p
    cross join lateral pg_partition_ancestors(p.objid) as a
    join %1$I.objects_backup as o on o.parent_classid = p.classid and o.parent = a.relid and o.kind in ('constraint', 'index')
    where p.kind in ('table', 'foreign_table') and a.relid <> p.objid
  $insert$, schema_name);
  execute format($insert$
    insert into %1$I.dependencies_backup
    -- A check cannot be added to a domain that is in the composite type of a column.
    select o.classid, o.objid, c.classid, c.objid, false
    from %1$I.objects_backup as c
    join %1$I.dependencies_backup as d on d.refclassid = c.parent_classid and d.refobjid = c.parent
    join %1$I.objects_backup as o on o.classid = d.classid and o.objid = d.objid and o.objsubid = 0 and o.kind = 'composite_type'
    where c.kind = 'domain_constraint'
    except
    select d.* from %1$I.dependencies_backup as d
  $insert$, schema_name);
end
$$;
comment on function migration_guard.record_dependencies(text) is
  'Writes down which of the recorded objects needs which.';

create function migration_guard.outside_needs(schema_name text) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off set work_mem = '64MB' set enable_mergejoin = off
as $$
declare
  needs jsonb;
begin
  execute format($query$
    with owners as materialized (select * from migration_guard.catalog_owners),
    recorded as materialized (select o.classid, o.objid, o.kind, o.identity from %1$I.objects_backup as o where o.objsubid = 0),
    edges as (
      select d.classid, d.objid, d.refclassid, d.refobjid, d.refobjsubid
      from pg_depend as d where d.objid >= 16384 and d.refobjid >= 16384 and d.deptype not in ('e', 'x')
      union all
      select d.classid, d.objid, d.refclassid, d.refobjid, 0
      from pg_shdepend as d
      where d.dbid = (select b.oid from pg_database as b where b.datname = current_database()) and d.refclassid = 'pg_authid'::regclass and d.refobjid >= 16384
    ),
    outside as materialized (
      select e.classid, e.objid, coalesce(r.owner_classid, e.refclassid) as refclassid, coalesce(r.owner_objid, e.refobjid) as refobjid,
        case when r.owner_objid is null then e.refobjsubid else 0 end as refobjsubid
      from edges as e
      left join owners as r on r.classid = e.refclassid and r.objid = e.refobjid
      -- Each is looked up by a hash.
      where (coalesce(r.owner_classid, e.refclassid), coalesce(r.owner_objid, e.refobjid)) not in (select o.classid, o.objid from recorded as o)
        -- No definition names a key or an index of another table.
        and coalesce(r.owner_classid, e.refclassid) <> 'pg_constraint'::regclass
        and not (e.refclassid = 'pg_class'::regclass and e.refobjid in (select c.oid from pg_class as c where c.relkind in ('i', 'I', 't')))
    ),
    needed as (
      select n.refclassid, n.refobjid, n.refobjsubid, min(o.objid) as needed_by
      from outside as n
      left join owners as s on s.classid = n.classid and s.objid = n.objid
      join recorded as o on (o.classid, o.objid) = (coalesce(s.owner_classid, n.classid), coalesce(s.owner_objid, n.objid))
      group by 1, 2, 3
    )
    select coalesce(jsonb_agg(jsonb_build_object('classid', n.refclassid::bigint, 'objid', n.refobjid::bigint, 'objsubid', n.refobjsubid,
      'kind', i.type, 'identity', i.identity, 'names', a.object_names, 'args', a.object_args,
      'needed_by', (select min(migration_guard.target(o.kind, o.identity)) from recorded as o where o.objid = n.needed_by)) order by i.type, i.identity), '[]')
    from needed as n
    cross join lateral pg_identify_object(n.refclassid, n.refobjid, n.refobjsubid) as i
    cross join lateral pg_identify_object_as_address(n.refclassid, n.refobjid, n.refobjsubid) as a
  $query$, schema_name) into needs;
  return needs;
end
$$;
comment on function migration_guard.outside_needs(text) is
  'What recorded objects need, and a backup does not record: objects of other schemas, roles; each with its kind and name, and one that needs it.';

create function migration_guard.creation_ranks(schema_name text) returns table (classid oid, objid oid, rank int)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Functions are planned into indexes and checks, and their bodies may want any table: relations come first, then what
  -- holds rows together, then what is done with them. What is needed earlier, comes earlier.
  return query execute format($query$
    with recursive ranks as (
      select o.classid, o.objid, case
        when o.kind = 'default_privilege' then 4
        when o.kind in ('trigger', 'rule', 'policy', 'statistics', 'publication_table', 'publication_schema') then 3
        when o.kind = 'constraint' and exists (select from pg_constraint as c where c.oid = o.objid and c.contype = 'f') then 3
        when o.kind in ('constraint', 'index') then 2
        else 1 end as rank
      from %1$I.objects_backup as o
      where o.objsubid = 0 and o.kind <> 'enum_value'
      union
      select d.refclassid, d.refobjid, r.rank
      from ranks as r
      join %1$I.dependencies_backup as d on d.classid = r.classid and d.objid = r.objid and not d.is_setting
    )
    select r.classid, r.objid, min(r.rank) from ranks as r group by r.classid, r.objid
  $query$, schema_name);
end
$$;
comment on function migration_guard.creation_ranks(text) is
  'Of each recorded object that is made by itself whether it is made first, second, third or last.';

create function migration_guard.record_creation_order(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off set work_mem = '64MB'
as $$
declare
  levels record;
begin
  select array_agg(l.classid) as classids, array_agg(l.objid) as objids, array_agg(l.level) as levels, max(l.level) as highest
  into levels from migration_guard.creation_levels(schema_name) as l;
  -- Mostly there is no circle.
  if levels.highest >= 1000 then
    execute format($query$
      update %1$I.objects_backup as o set needs_shell = true
      where o.kind in ('view', 'range_type') and (o.classid, o.objid) in (select c.classid, c.objid from migration_guard.circular_objects(%1$L) as c)
    $query$, schema_name);
    select array_agg(l.classid) as classids, array_agg(l.objid) as objids, array_agg(l.level) as levels, max(l.level) as highest
    into levels from migration_guard.creation_levels(schema_name) as l;
  end if;
  execute format($query$
    update %1$I.objects_backup as o set creation_order = n.number
    from (
      select x.classid, x.objid, row_number() over (order by r.rank, l.level, x.kind, x.identity) as number
      from %1$I.objects_backup as x
      join migration_guard.creation_ranks(%1$L) as r on r.classid = x.classid and r.objid = x.objid
      join unnest($1, $2, $3) as l (classid, objid, level) on l.classid = x.classid and l.objid = x.objid
      where x.objsubid = 0 and x.kind <> 'enum_value'
    ) as n
    where o.classid = n.classid and o.objid = n.objid and o.objsubid = 0
  $query$, schema_name) using levels.classids, levels.objids, levels.levels;
end
$$;
comment on function migration_guard.record_creation_order(text) is
  'Numbers the recorded objects so that what an object needs comes before it.';

create function migration_guard.creation_levels(schema_name text) returns table (classid oid, objid oid, level int)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute format($query$
    with recursive levels as (
      select o.classid, o.objid, 0 as level from %1$I.objects_backup as o where o.objsubid = 0
      union
      select d.classid, d.objid, l.level + 1
      from levels as l
      join %1$I.dependencies_backup as d on d.refclassid = l.classid and d.refobjid = l.objid and not d.is_setting
      join %1$I.objects_backup as r on r.classid = l.classid and r.objid = l.objid and r.objsubid = 0 and not r.needs_shell
      -- A circle would go on for ever.
      where l.level < 1000
    )
    select l.classid, l.objid, max(l.level) from levels as l group by l.classid, l.objid
  $query$, schema_name);
end
$$;
comment on function migration_guard.creation_levels(text) is
  'How many others must be made before each recorded object, at least; one that has a shell does not count.';

create function migration_guard.circular_objects(schema_name text) returns table (classid oid, objid oid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute format($query$
    with recursive needed as (
      select o.classid, o.objid, d.refclassid, d.refobjid
      from %1$I.objects_backup as o
      join %1$I.dependencies_backup as d on d.classid = o.classid and d.objid = o.objid and not d.is_setting
      where o.objsubid = 0
      union
      select n.classid, n.objid, d.refclassid, d.refobjid
      from needed as n
      join %1$I.dependencies_backup as d on d.classid = n.refclassid and d.objid = n.refobjid and not d.is_setting
    )
    select n.classid, n.objid from needed as n where n.refclassid = n.classid and n.refobjid = n.objid
  $query$, schema_name);
end
$$;
comment on function migration_guard.circular_objects(text) is
  'The recorded objects that need, through others, themselves.';

create function migration_guard.catalog_view_queries(schema_name text)
returns table (view_name text, comment text, query text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  taken text[];
begin
  execute format('select array_agg(t.backup_table) from %I.tables_backup as t', schema_name) into taken;
  return query execute format($query$
    select v.view_name, v.comment, format(v.query, %1$L)
    from (values
      ('functions_backup', 'Each function of the plan, as the statement that creates it again.',
        'select name as function_name, definition as function_definition, backed_up_at from %%1$I.objects_backup where kind in (''function'', ''procedure'', ''aggregate'') and in_plan'),
      ('indexes_backup', 'Each index of the plan, as the statement that creates it again.',
        'select name as index_name, parent_name as table_name, definition as index_definition, backed_up_at from %%1$I.objects_backup where kind = ''index'' and in_plan'),
      ('policies_backup', 'Each row level security policy of the plan, as the statement that creates it again.',
        'select parent_name as table_name, name as policy_name, definition as policy_definition, backed_up_at from %%1$I.objects_backup where kind = ''policy'' and in_plan')
    ) as v (view_name, comment, query)
    union all
    select migration_guard.backup_object_name(o.name, '_enum_backup', $1), 'The values of an enum type, and their order.',
      format('select name as enum_value, sort_order as enum_sort_order, backed_up_at from %%I.objects_backup where kind = ''enum_value'' and parent = %%s', %1$L, o.objid)
    from %1$I.objects_backup as o where o.kind = 'enum' and o.in_plan
    order by 1
  $query$, schema_name) using coalesce(taken, '{}');
end
$$;
comment on function migration_guard.catalog_view_queries(text) is
  'The named catalogs of a backup schema and what each reads: functions, indexes, policies, and one for each enum.';

create function migration_guard.create_catalog_views(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  named record;
begin
  for named in select * from migration_guard.catalog_view_queries(schema_name) loop
    execute format('create view %I.%I as %s', schema_name, named.view_name, named.query);
    execute format('comment on view %I.%I is %L', schema_name, named.view_name, named.comment);
  end loop;
end
$$;
comment on function migration_guard.create_catalog_views(text) is 'Makes the named catalogs of a backup schema.';

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
      count(*) filter (where o.kind in ('function', 'procedure', 'aggregate') and o.in_plan),
      count(*) filter (where o.kind = 'index' and o.in_plan), count(*) filter (where o.kind = 'policy' and o.in_plan),
      count(*) filter (where o.kind = 'enum' and o.in_plan), count(*),
      (select coalesce(sum(t.row_count), 0) from %1$I.tables_backup as t),
      $3, pg_current_snapshot()::text, migration_guard.database_identity(), current_setting('server_version'), migration_guard.product_version(),
      migration_guard.checksum_algorithm(), migration_guard.plan_document($2),
      (select coalesce(jsonb_object_agg(format('%%I.%%I', t.source_schema, t.source_table),
         jsonb_build_object('backup_table', t.backup_table, 'row_count', t.row_count, 'checksum', t.backup_checksum,
           'columns', jsonb_path_query_array(t.columns, '$[*].name'), 'types', jsonb_path_query_array(t.columns, '$[*].stored_type'))), '{}')
       from %1$I.tables_backup as t),
      -- jsonb_object_agg takes thirty times as long over ten thousand keys.
      (select coalesce(json_object_agg(k.kind, k.objects)::jsonb, '{}')
       from (select x.kind, json_object_agg(x.identity, x.checksum) as objects from %1$I.objects_backup as x group by x.kind) as k)
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
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  relations constant oid[] := array(select t.oid from migration_guard.plan_tables(plan) as t);
  -- What came with Postgres is made of nothing else.
  found oid[] := array(
    select a.atttypid from pg_attribute as a where a.attrelid = any (relations) and a.attnum > 0 and not a.attisdropped and a.atttypid >= 16384
    union
    select e.oid from migration_guard.plan_enums(plan) as e where e.oid is not null);
  used oid[] := '{}';
begin
  while found <> '{}' loop
    used := used || found;
    found := array(
      select distinct m.oid
      from pg_type as t
      cross join lateral (
        select t.typelem union all select t.typbasetype
        union all select r.rngsubtype from pg_range as r where r.rngtypid = t.oid or r.rngmultitypid = t.oid
        union all select a.atttypid from pg_attribute as a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
      ) as m (oid)
      where t.oid = any (found) and m.oid >= 16384 and m.oid <> all (used));
  end loop;
  return query select unnest(used);
end
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
      execute format('select array(select k.name from (select (null::%s).*) as r cross join lateral jsonb_object_keys(to_jsonb(r.*)) as k (name) order by k.name collate "C")', used.name)
        into labels;
    end if;
    if changed is not null or labels is distinct from used.labels then
      perform migration_guard.fail('types_changed', format('The type %s was altered during the backup.', used.name));
    end if;
  end loop;

  execute format($query$
    select string_agg(o.identity, ', ') from %I.objects_backup as o left join pg_proc as p on p.oid = o.objid
    where o.kind in ('function', 'procedure') and p.prosqlbody is null and position(p.prosrc in o.definition) = 0
  $query$, schema_name) into changed;
  if changed is not null then
    perform migration_guard.fail('types_changed', format('%s was replaced during the backup.', changed));
  end if;
end
$$;
comment on function migration_guard.assert_unchanged(text, migration_guard.plans) is
  'Raises types_changed when a type or a function of a plan was altered after the transaction''s snapshot.';

create function migration_guard.must_give_way() returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
-- As many as there are processors, where somebody has set it.
as $$ select current_setting('max_parallel_workers')::int <= 2 $$;
comment on function migration_guard.must_give_way() is
  'Whether a backup takes a second processor only while nobody else is at work: one of two is left for who writes meanwhile.';

create function migration_guard.settle_for_copies() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if migration_guard.must_give_way() then
    perform set_config('migration_guard.gives_way', current_setting('max_parallel_workers_per_gather'), true);
    perform set_config('max_parallel_workers_per_gather', '0', true);
    perform set_config('migration_guard.traffic', '', true);
    perform migration_guard.is_quiet();
  end if;
  -- What is compressed already is copied as it is. What a table stores uncompressed takes a fifth of the time with lz4.
  if exists (select from pg_settings as s where s.name = 'default_toast_compression' and 'lz4' = any (s.enumvals)) then
    perform set_config('default_toast_compression', 'lz4', true);
  end if;
end
$$;
comment on function migration_guard.settle_for_copies() is
  'Sets how this transaction copies tables: with one processor where there are no more than two, as give_way() has it, and with lz4
where this Postgres was built with it.';

create function migration_guard.run_backup(job migration_guard.jobs) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  plan constant migration_guard.plans := migration_guard.assert_can_back_up(job.version);
  schema_name constant text := migration_guard.backup_schema_name(plan.version);
  backup_id constant uuid := gen_random_uuid();
  relations constant oid[] := array(select t.oid from migration_guard.plan_tables(plan) as t order by t.name);
  sizes constant bigint[] := array(select migration_guard.table_bytes(r) from unnest(relations) as r);
  total constant bigint := 3 * (select coalesce(sum(s), 0) from unnest(sizes) as s);
  -- Before anything is read: what is altered while that goes on changes them.
  catalog constant record := migration_guard.object_versions();
  is_helped boolean;
  manifest text;
  outside text;
  bytes bigint;
  metadata_version xid;
  result jsonb;
begin
  perform migration_guard.assert_locked(relations);
  perform migration_guard.settle_for_copies();
  perform migration_guard.create_backup_schema(schema_name);
  -- Before the rows, because it may meet a lock on any table of the schema, and what fails had better fail early.
  perform migration_guard.report_progress(job,
    coalesce(migration_guard.snapshot_step(nullif(current_setting('migration_guard.snapshot', true), '')), 'catalog'), 0, total);
  perform migration_guard.record_objects(schema_name, plan);
  perform pg_stat_clear_snapshot();
  is_helped := exists (select from migration_guard.helpers_of(job.number));
  for n in 1..cardinality(relations) loop
    perform migration_guard.copy_table(schema_name, relations[n], sizes[n], is_helped);
    continue when is_helped;
    perform migration_guard.prove_copy(schema_name, relations[n], sizes[n]);
  end loop;
  if is_helped then
    perform migration_guard.prove_copy(schema_name, relations[n], sizes[n]) from generate_series(1, cardinality(relations)) as n;
    perform migration_guard.prove_sources(schema_name, job.number, (select jsonb_object_agg(r.oid, r.size) from unnest(relations, sizes) as r (oid, size)));
  end if;
  execute format(
    'alter table %I.tables_backup alter row_count set not null, alter source_checksum set not null, alter backup_checksum set not null', schema_name);
  perform migration_guard.report_progress(job, 'metadata', total, total);
  perform migration_guard.assert_unchanged(schema_name, plan);
  perform migration_guard.create_catalog_views(schema_name);
  perform migration_guard.create_rebuild_script(schema_name);
  perform migration_guard.create_verification(schema_name);
  manifest := migration_guard.record_metadata(job, schema_name, plan, backup_id);
  perform migration_guard.close_backup_schema(schema_name);

  select string_agg(r, '; ') into outside from migration_guard.outside_references(schema_name) as r;
  if outside is not null then
    perform migration_guard.fail('copy_differs', format('The backup would not stand alone: %s.', outside));
  end if;
  -- An earlier backup whose schema somebody dropped by hand is still registered.
  perform migration_guard.forget_dropped_backup(plan.version);
  execute format('select coalesce(sum(t.backup_bytes), 0) from %I.tables_backup as t', schema_name) into bytes;
  execute format('select m.xmin from %I.backup_metadata as m', schema_name) into metadata_version;
  insert into migration_guard.backups (id, version, schema_name, plan, actor, manifest, verification_source, bytes, catalog_fingerprint, metadata_version, timeline, members)
  values (backup_id, plan.version, schema_name, migration_guard.plan_document(plan), job.actor, manifest,
    migration_guard.verification_source(schema_name), bytes, catalog.fingerprint, metadata_version, migration_guard.timeline(),
    array(select c.identity from migration_guard.schema_contents(schema_name) as c order by c.identity));
  delete from migration_guard.backup_versions as v using migration_guard.backups as b where b.id = v.backup_id and b.removed_at is not null;
  insert into migration_guard.backup_versions (backup_id, classids, objids, versions, needs)
  values (backup_id, catalog.classids, catalog.objids, catalog.versions, migration_guard.outside_needs(schema_name));
  execute format('select to_jsonb(m) - ''tables'' - ''objects'' - ''plan'' from %I.backup_metadata as m', schema_name) into result;
  return result || jsonb_build_object('schema', schema_name);
end
$$;
comment on function migration_guard.run_backup(migration_guard.jobs) is
  'Does a backup job: the whole schema, or an error and nothing. Result: the row of backup_metadata, in short.';
