-- Chapter 8, continued. Before the backup: the preflight, which looks for what could get in the way of the backup, or of
-- the migration after it. It reports and changes nothing; one function a check.

create type migration_guard.preflight_check as (
  check_name text,
  -- ok; warning: worth a look; blocked: a backup taken now would fail.
  status text,
  -- One or two sentences for the reader.
  details text,
  -- What they are about, one JSON object each.
  items jsonb
);
comment on type migration_guard.preflight_check is 'What one check of a preflight has found.';

create function migration_guard.preflight_finding(check_name text, status text, items jsonb, if_none text, if_any text)
returns migration_guard.preflight_check
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select row(check_name, case when found.number = 0 then 'ok' else status end,
    case when found.number = 0 then if_none else if_any end
    || case when found.number > 200 then format(' There are %s; the first 200 are listed.', found.number) else '' end,
    jsonb_path_query_array(found.items, '$[0 to 199]'))::migration_guard.preflight_check
  from (select coalesce(items, '[]') as items, jsonb_array_length(coalesce(items, '[]')) as number) as found
$$;
comment on function migration_guard.preflight_finding(text, text, jsonb, text, text) is
  'The outcome of a check that collects items: ok with one text when there is none, the status with the other when there are some.';

-- The migration has not run -------------------------------------------------------------------------------------------

create function migration_guard.preflight_names(plan migration_guard.plans) returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.preflight_finding('names_exist', 'blocked',
    jsonb_agg(jsonb_build_object('kind', m.kind, 'name', m.name) order by m.kind, m.name),
    'Everything that the plan names exists.',
    'The plan names what is gone, as it is after the migration. A plan that is out of date is stored again.')
  from migration_guard.plan_missing(plan) as m
$$;
comment on function migration_guard.preflight_names(migration_guard.plans) is 'Whether all that a plan names exists now.';

create function migration_guard.preflight_history(plan migration_guard.plans) returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.preflight_finding('not_applied', 'blocked',
    case when migration_guard.has_been_applied(plan.version) then jsonb_build_array(jsonb_build_object('version', plan.version)) end,
    'The list of applied migrations does not have this one.',
    'The list of applied migrations has this one already: a backup taken now would not be of the state before it.')
$$;
comment on function migration_guard.preflight_history(migration_guard.plans) is
  'Whether the list of applied migrations is without the version.';

create function migration_guard.preflight_backup(plan migration_guard.plans) returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.preflight_finding('no_backup', 'blocked', jsonb_agg(f.item),
    'There is no backup of the version yet, and none under way.',
    'There is a backup of the version already, or a job that makes or removes one: it is never touched again.')
  from (
    select jsonb_build_object('schema', n.nspname) as item
    from pg_namespace as n
    where n.nspname = migration_guard.backup_schema_name(plan.version)
    union all
    select jsonb_build_object('job', j.id, 'kind', j.kind, 'status', j.status)
    from migration_guard.jobs as j
    where j.version = plan.version and j.kind in ('backup', 'cleanup', 'import') and j.status in ('queued', 'running')
  ) as f
$$;
comment on function migration_guard.preflight_backup(migration_guard.plans) is
  'Whether a version has neither a backup schema nor a job that is about it.';

-- What the worker may do ----------------------------------------------------------------------------------------------

create function migration_guard.missing_privileges(plan migration_guard.plans, worker name)
returns table (privilege text, object text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 'create', format('database %I', current_database())
  where not has_database_privilege(worker, current_database(), 'create')
  union all
  select 'usage', format('schema %I', n.nspname)
  from pg_namespace as n
  where n.nspname = plan.schema_name and not has_schema_privilege(worker, n.oid, 'usage')
  union all
  select 'select', format('table %I.%I', plan.schema_name, t.name)
  from migration_guard.plan_tables(plan) as t
  where t.oid is not null and not has_table_privilege(worker, t.oid, 'select')
  union all
  select distinct 'select', format('sequence %I.%I', n.nspname, s.relname)
  from migration_guard.plan_tables(plan) as t
  join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid
    and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
  join pg_class as s on s.oid = d.objid and s.relkind = 'S'
  join pg_namespace as n on n.oid = s.relnamespace
  where not has_table_privilege(worker, s.oid, 'select')
$$;
comment on function migration_guard.missing_privileges(migration_guard.plans, name) is
  'The privileges that a role lacks for the backup of a plan.';

create function migration_guard.preflight_privileges(plan migration_guard.plans, worker name)
returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.preflight_finding('privileges', 'blocked',
    jsonb_agg(jsonb_build_object('privilege', m.privilege, 'object', m.object) order by m.object),
    format('The role %s, who runs jobs, has every privilege that the backup wants.', worker),
    format('The role %s, who runs jobs, lacks privileges: grant them.', worker))
  from migration_guard.missing_privileges(plan, worker) as m
$$;
comment on function migration_guard.preflight_privileges(migration_guard.plans, name) is
  'Whether a role may read what a plan names, and make the schema of its backup.';

create function migration_guard.preflight_row_security(plan migration_guard.plans, worker name)
returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with tables as (
    select c.oid::regclass::text as name, c.relforcerowsecurity as is_forced, pg_get_userbyid(c.relowner) as owner,
      not (r.rolsuper or r.rolbypassrls) and (c.relforcerowsecurity or not pg_has_role(worker, c.relowner, 'usage')) as hides
    from migration_guard.plan_tables(plan) as t
    join pg_class as c on c.oid = t.oid
    join pg_roles as r on r.rolname = worker
    where c.relrowsecurity
  )
  select migration_guard.preflight_finding('row_security', 'blocked',
    jsonb_agg(jsonb_build_object('table', t.name, 'forced', t.is_forced, 'owner', t.owner) order by t.name) filter (where t.hides),
    format('Row security hides nothing from the role %s, who runs jobs: %s of the tables have it, %s force it on their owner.',
      worker, count(t.name), count(t.name) filter (where t.is_forced)),
    format('Row security could hide rows from the role %s, who runs jobs, so that the copy would be refused: '
      'alter role %1$I bypassrls, or take the force off.', worker))
  from tables as t
$$;
comment on function migration_guard.preflight_row_security(migration_guard.plans, name) is
  'Whether row security, forced or not, would hide a planned table''s rows from a role.';

create function migration_guard.preflight_code(plan migration_guard.plans) returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with parts as materialized (
    select r.oid as relation, p.classid, p.objid,
      (p.classid, p.objid) in (select x.classid, x.objid from migration_guard.read_parts(r.oid) as x) as is_read
    from migration_guard.plan_relations(plan) as r (oid)
    cross join lateral migration_guard.written_parts(r.oid) as p
  ),
  found as (
    select f.object, f.function, f.owner, bool_or(p.is_read) as is_read
    from (select array_agg(p.classid) as classids, array_agg(p.objid) as objids from parts as p) as a
    cross join lateral migration_guard.untrusted_functions(a.classids, a.objids) as f
    join parts as p on (p.classid, p.objid) = (f.classid, f.objid)
    group by f.object, f.function, f.owner
  )
  select migration_guard.preflight_finding('trusted_code', case when bool_or(f.is_read) then 'blocked' else 'warning' end,
    jsonb_agg(jsonb_build_object('object', f.object, 'function', f.function, 'owner', f.owner, 'blocks', case when f.is_read then 'backup' else 'rollback' end)
      order by f.is_read desc, f.object, f.function),
    'No function of a role that is not trusted is called when the tables are read, or filled again.',
    format('Functions of roles that are not trusted would be called with the rights of %1$s: the backup, or a rollback that fills the table, is refused. '
      'What you trust is made %1$s''s (alter function … owner to %1$s).', current_user))
  from found as f
$$;
comment on function migration_guard.preflight_code(migration_guard.plans) is
  'Whether code of somebody who is not trusted would run while a plan''s tables are read, which refuses the backup, or filled by a rollback.';

-- Other sessions ------------------------------------------------------------------------------------------------------

create function migration_guard.relation_locks(relations oid[])
returns table (relation oid, mode text, granted boolean, pid int, role text, application_name text, age_seconds int, prepared text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select l.relation, l.mode, l.granted, l.pid, coalesce(a.usename, x.owner)::text, a.application_name,
    extract(epoch from clock_timestamp() - coalesce(a.xact_start, x.prepared))::int, x.gid
  from pg_locks as l
  left join pg_stat_activity as a on a.pid = l.pid
  -- A prepared transaction has no session; the lock on its own id leads to it.
  left join pg_locks as i
    on l.pid is null and i.pid is null and i.locktype = 'transactionid' and i.virtualtransaction = l.virtualtransaction and i.granted
  left join pg_prepared_xacts as x on x.transaction = i.transactionid
  where l.locktype = 'relation' and l.relation = any (relations)
    and l.database = (select d.oid from pg_database as d where d.datname = current_database())
    and l.pid is distinct from pg_backend_pid()
$$;
comment on function migration_guard.relation_locks(oid[]) is
  'The locks that other transactions hold on relations or wait for, and how old these are: what a role may see of them, and no query.';

create function migration_guard.awaited_relations(plan migration_guard.plans) returns oid[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array(
    select r.oid from migration_guard.plan_relations(plan) as r (oid)
    union
    select c.oid from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = plan.schema_name and c.relkind in ('r', 'p', 'v', 'm'))
$$;
comment on function migration_guard.awaited_relations(migration_guard.plans) is
  'The relations whose locks a backup waits for: the tables of the plan, and all of its schema, whose definitions are read.';

create function migration_guard.preflight_locks(plan migration_guard.plans) returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.preflight_finding('locks', 'blocked',
    jsonb_agg(jsonb_build_object('table', k.relation::regclass::text, 'granted', k.granted, 'pid', k.pid, 'user', k.role,
      'application_name', k.application_name, 'age_seconds', k.age_seconds, 'prepared', k.prepared) order by k.relation, k.pid),
    'No other session has a lock that the backup would wait for.',
    'Other sessions have an ACCESS EXCLUSIVE lock or wait for one: a backup waits 10 seconds for them, and fails then.')
  from migration_guard.relation_locks(migration_guard.awaited_relations(plan)) as k
  where k.mode = 'AccessExclusiveLock'
$$;
comment on function migration_guard.preflight_locks(migration_guard.plans) is
  'Whether other sessions hold a lock, or wait for one, that keeps a backup from a plan''s tables.';

create function migration_guard.preflight_transactions(plan migration_guard.plans, longer_than interval default '1 minute')
returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with old as (
    select k.pid, k.role, k.application_name, k.age_seconds, k.prepared,
      jsonb_agg(distinct k.relation::regclass::text) as tables
    from migration_guard.relation_locks(array(select r.oid from migration_guard.plan_relations(plan) as r (oid))) as k
    where k.granted and (k.age_seconds is null or make_interval(secs => k.age_seconds) >= longer_than or k.prepared is not null)
    group by k.pid, k.role, k.application_name, k.age_seconds, k.prepared
  )
  select migration_guard.preflight_finding('long_transactions', 'warning',
    jsonb_agg(jsonb_build_object('pid', o.pid, 'user', o.role, 'application_name', o.application_name,
      'age_seconds', o.age_seconds, 'prepared', o.prepared, 'tables', o.tables) order by o.age_seconds desc nulls last, o.pid)
      filter (where o.tables is not null),
    'No transaction has been using the tables of the plan for long.' || reader.note,
    'Transactions have been using the tables of the plan for long, or are prepared: the migration waits until they end.' || reader.note)
  from (
    select case when pg_has_role(current_user, 'pg_read_all_stats', 'usage') then ''
      else format(' The role %s has no pg_monitor, and cannot see how old the transactions of other roles are.', current_user) end as note
  ) as reader
  left join old as o on true
  group by reader.note
$$;
comment on function migration_guard.preflight_transactions(migration_guard.plans, interval) is
  'Whether old or prepared transactions use a plan''s tables, which would delay the locks of the migration.';

-- Sizes ---------------------------------------------------------------------------------------------------------------

create function migration_guard.plan_sizes(plan migration_guard.plans)
returns table (name text, bytes bigint, total_bytes bigint, estimated_rows bigint)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive parts (name, oid) as (
    select t.name, t.oid from migration_guard.plan_tables(plan) as t where t.oid is not null
    union
    select p.name, i.inhrelid
    from parts as p
    join pg_class as c on c.oid = p.oid and c.relkind = 'p'
    join pg_inherits as i on i.inhparent = p.oid
  ),
  locked as materialized (
    select array(
      select k.relation from migration_guard.relation_locks(array(select p.oid from parts as p)) as k
      where k.mode = 'AccessExclusiveLock') as oids
  )
  select p.name,
    -- The size of a file is asked for under a lock; where that would wait, what the last vacuum found has to do.
    sum(case when c.oid = any (l.oids) then c.relpages * current_setting('block_size')::bigint else pg_table_size(c.oid) end)::bigint,
    sum(case when c.oid = any (l.oids) then c.relpages * current_setting('block_size')::bigint else pg_total_relation_size(c.oid) end)::bigint,
    -- A table that was never analyzed says -1, a partitioned one has no rows of its own.
    case when bool_or(c.reltuples < 0) filter (where c.relkind <> 'p') then null
      else coalesce(sum(c.reltuples) filter (where c.relkind <> 'p'), 0) end::bigint
  from parts as p
  join pg_class as c on c.oid = p.oid
  cross join locked as l
  group by p.name
$$;
comment on function migration_guard.plan_sizes(migration_guard.plans) is
  'For each table of a plan, partitions included: the bytes of its rows, those with its indexes, and about how many rows, or null where it was not analyzed yet.';

create function migration_guard.estimated_backup_bytes(plan migration_guard.plans) returns bigint
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select coalesce(sum(s.bytes), 0)::bigint from migration_guard.plan_sizes(plan) as s $$;
comment on function migration_guard.estimated_backup_bytes(migration_guard.plans) is
  'About how many bytes the copies of a plan''s tables take: what their rows take, without indexes.';

create function migration_guard.preflight_sizes(plan migration_guard.plans) returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select row('sizes', case when count(*) > count(s.estimated_rows) then 'warning' else 'ok' end,
    format('The backup takes about %s: %s tables%s. The database has %s; how much room its disk has left cannot be seen from SQL.',
      pg_size_pretty(coalesce(sum(s.bytes), 0)), count(*),
      ' with about ' || sum(s.estimated_rows) || ' rows' || case when count(*) > count(s.estimated_rows) then format(' in %s of them', count(s.estimated_rows)) else '' end,
      pg_size_pretty(pg_database_size(current_database())))
    || coalesce(' Not analyzed yet, number of rows unknown: '
      || string_agg(s.name, ', ' order by s.name) filter (where s.estimated_rows is null) || '.', ''),
    coalesce(jsonb_agg(jsonb_build_object('table', s.name, 'bytes', s.bytes, 'total_bytes', s.total_bytes, 'estimated_rows', s.estimated_rows)
      order by s.bytes desc, s.name), '[]'))::migration_guard.preflight_check
  from migration_guard.plan_sizes(plan) as s
$$;
comment on function migration_guard.preflight_sizes(migration_guard.plans) is
  'How large a plan''s tables are, and how much a backup of them takes. How many rows a table has that was not analyzed yet is unknown.';

-- What hangs on the plan ----------------------------------------------------------------------------------------------

create function migration_guard.preflight_dependents(plan migration_guard.plans) returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.preflight_finding('dependents', 'warning',
    jsonb_agg(jsonb_build_object('kind', i.type, 'identity', i.identity) order by i.type, i.identity),
    'Nothing outside of the plan depends on what it names.',
    'Objects outside of the plan depend on what it names: a backup has their definitions and none of their rows, and the migration may change or drop them.')
  from migration_guard.outside_plan(plan) as o
  cross join lateral pg_identify_object(o.classid, o.objid, o.objsubid) as i
  -- A session's temporary view is gone with it.
  where i.schema is null or i.schema !~ '^pg_temp'
$$;
comment on function migration_guard.preflight_dependents(migration_guard.plans) is
  'Whether views, foreign keys, policies, triggers, functions, columns or other objects outside of a plan depend on its own.';

-- Function bodies -----------------------------------------------------------------------------------------------------

create function migration_guard.word_end() returns text
language sql immutable
set search_path = pg_catalog, pg_temp
-- Every character of ASCII but letters, digits, _ and $; whatever is beyond ASCII may be in an identifier, in any locale.
as $$ select '[\x01-#%-/:-@\[-^`{-\x7f]+' $$;
comment on function migration_guard.word_end() is
  'The regular expression of what stands between the words of a function''s text, as Postgres itself reads identifiers.';

create function migration_guard.objects_that_go(touches migration_guard.touch[])
returns table (number int, classid oid, objid oid, objsubid int)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  drops constant migration_guard.touch[] := array(select t from unnest(touches) as t where t.action = 'drop');
  found constant migration_guard.derived[] := array(
    select f from migration_guard.touched_objects(drops) as f join unnest(drops) as t on t.number = f.number
    -- The type stays whose attribute or constraint goes.
    where t.kind not in ('attribute', 'domain_constraint') or f.classid <> 'pg_type'::regclass);
begin
  return query
    select min(d.number), d.classid, d.objid, d.objsubid
    from migration_guard.derived_dependents(drops, found) as d
    group by d.classid, d.objid, d.objsubid;
end
$$;
comment on function migration_guard.objects_that_go(migration_guard.touch[]) is
  'What a migration drops, and what goes with it, by cascade or by itself.';

create function migration_guard.names_that_go(touches migration_guard.touch[])
returns table (number int, kind text, schema text, name text, parent text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  gone constant migration_guard.derived[] := array(
    select row(o.number, '', o.classid, o.objid, o.objsubid)::migration_guard.derived
    from migration_guard.objects_that_go(touches) as o);
begin
  return query
    select s.number, s.kind, s.schema_name, s.name, null
    from migration_guard.show_derived(gone) as s where s.kind not in ('column', 'attribute')
    union
    select g.number, case c.relkind when 'c' then 'attribute' else 'column' end, n.nspname::text, a.attname::text, c.relname::text
    from unnest(gone) as g
    join pg_attribute as a on g.classid = 'pg_class'::regclass and a.attrelid = g.objid and g.objsubid > 0 and a.attnum = g.objsubid
    join pg_class as c on c.oid = a.attrelid
    join pg_namespace as n on n.oid = c.relnamespace;
end
$$;
comment on function migration_guard.names_that_go(migration_guard.touch[]) is
  'The names of what a migration drops, and of what goes with it.';

create function migration_guard.changed_names(touches jsonb, read migration_guard.touch[])
returns table (number int, kind text, schema text, name text, parent text, item jsonb)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with existing as (
    select m.number from migration_guard.touched_members(read) as m
    union
    select o.number from migration_guard.touched_objects(read) as o join unnest(read) as t on t.number = o.number
    where t.parent is null
  ), named as materialized (
    select t.number, t.kind, t.name, t.parent, t.line, j.item ->> 'schema' as schema, j.item ->> 'new_name' as new_name
    from unnest(read) as t
    join jsonb_array_elements(touches) with ordinality as j (item, number) on j.number = t.number
    where t.action in ('rename', 'drop') and t.number in (select e.number from existing as e)
  )
  select n.number, n.kind, n.schema, n.name, n.parent,
    jsonb_build_object('kind', n.kind, 'name', n.name, 'new_name', n.new_name, 'line', n.line)
  from named as n
  union all
  select g.number, g.kind, g.schema, g.name, g.parent,
    jsonb_build_object('kind', g.kind, 'name', g.name, 'new_name', null, 'line', t.line, 'dropped_with', t.name)
  from migration_guard.names_that_go(read) as g
  join unnest(read) as t on t.number = g.number
  where g.name is not null and g.name not in (select n.name from named as n)
$$;
comment on function migration_guard.changed_names(jsonb, migration_guard.touch[]) is
  'The names that are there and that a migration renames or drops, with those that go by cascade.';

create function migration_guard.is_routine(kind text) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select kind in ('function', 'procedure', 'aggregate', 'routine') $$;
comment on function migration_guard.is_routine(text) is 'Whether a kind of touched object is one that is called.';

create function migration_guard.names_to_look_for(plan migration_guard.plans, touches jsonb, read migration_guard.touch[])
returns table (kind text, name text, item jsonb, is_made_again boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with made as materialized (
    select m.number, m.kind, m.schema, m.parent, case m.action when 'rename' then m.new_name else m.name end as name
    from rows from (
      jsonb_to_recordset(touches) as (
        statement text, action text, kind text, schema text, name text, parent text, new_name text)
    ) with ordinality as m (statement, action, kind, schema, name, parent, new_name, number)
    where m.action in ('create', 'rename')
      or (m.statement like 'CREATE OR REPLACE %' and (migration_guard.is_routine(m.kind) or m.kind = 'view'))
  )
  select c.kind, c.name, c.item, bool_or(m.name is not null)
  from migration_guard.changed_names(touches, read) as c
  left join made as m on m.name = c.name and m.number > c.number and m.parent is not distinct from c.parent
    and migration_guard.is_routine(m.kind) = migration_guard.is_routine(c.kind)
    and (m.schema = c.schema or m.schema is null or c.schema is null)
  group by c.kind, c.name, c.item
  union all
  select p.kind, p.name, jsonb_build_object('kind', p.kind, 'name', p.name), false
  from (
    select 'table', t.name from migration_guard.plan_tables(plan) as t
    union all select 'enum', e.name from migration_guard.plan_enums(plan) as e
    union all
    select distinct 'function', f.proname::text
    from migration_guard.plan_functions(plan) as w join pg_proc as f on f.oid = w.oid
    union all select 'match', plan.match where plan.match is not null
  ) as p (kind, name)
  where touches is null
$$;
comment on function migration_guard.names_to_look_for(migration_guard.plans, jsonb, migration_guard.touch[]) is
  'What a migration renames or drops, and whether it makes one of the name again; without a migration, what the plan names, and its term.';

create function migration_guard.replaced_routines(read migration_guard.touch[]) returns table (oid oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.oid
  from migration_guard.touched_routines(read) as r
  join unnest(read) as t on t.number = r.number
  -- Arguments that only the catalog could tell may be those of any.
  where t.statement like 'CREATE OR REPLACE %' and t.signature is not null
  union
  select o.objid from migration_guard.objects_that_go(read) as o where o.classid = 'pg_proc'::regclass
$$;
comment on function migration_guard.replaced_routines(migration_guard.touch[]) is
  'The routines whose bodies a migration replaces or drops: what these name is no matter.';

create function migration_guard.bodies_in_file(touches jsonb) returns table (line int, identity text, body text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with routines as materialized (
    select r.number, r.line, r.action, r.schema, r.name, r.signature, r.body
    from rows from (
      jsonb_to_recordset(touches) as (line int, action text, kind text, schema text, name text, signature jsonb, body text)
    ) with ordinality as r (line, action, kind, schema, name, signature, body, number)
    where migration_guard.is_routine(r.kind)
  )
  select r.line, format('%s%I(%s)', quote_ident(r.schema) || '.', r.name, (
    select string_agg(
      coalesce(to_regtype(format('%I.%I', coalesce(a.argument ->> 'schema', 'pg_catalog'), a.argument ->> 'name'))::text, a.argument ->> 'name')
      || case when (a.argument ->> 'array')::boolean then '[]' else '' end, ', ' order by a.position)
    from jsonb_array_elements(r.signature) with ordinality as a (argument, position))), r.body
  from routines as r
  where r.body is not null and not exists (
    select from routines as o
    where o.name = r.name and o.number > r.number and o.schema is not distinct from r.schema
      and ((o.action = 'drop' and o.signature is null) or ((o.action = 'drop' or o.body is not null) and o.signature = r.signature)))
$$;
comment on function migration_guard.bodies_in_file(jsonb) is
  'The bodies of the functions that a migration makes, but of those that it drops or replaces itself later on.';

create function migration_guard.quoted_texts(body text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- A comment is found like a text, so that an apostrophe in it begins none. What is not closed goes on to the end.
  select string_agg(f.text[1], e'\n')
  from regexp_matches(body collate "default",
    '(--[^\n\r]*|/\*(?:[^*]|\*+[^*/])*(?:\*+/|\**$)|"[^"]*(?:"|$)|[eE]''(?:[^''\\]|\\.|'''')*(?:''|\\?$)|''(?:[^'']|'''')*(?:''|$)|\$(?:[[:alpha:]_]\w*)?\$.*)',
    'g') as f (text)
  where f.text[1] !~ '^(--|/\*)'
$$;
comment on function migration_guard.quoted_texts(text) is
  'All that stands in quotes in a function''s text: of any kind, and from the first dollar quotes on everything.';

create function migration_guard.functions_naming(plan migration_guard.plans, touches jsonb, read migration_guard.touch[])
returns table (identity text, in_plan boolean, line int, names jsonb)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with wanted as materialized (
    select n.kind, n.item, n.is_made_again, n.name collate "default" as name,
      -- What may stand without quotes is a word, whose case does not count.
      n.kind not in ('match', 'enum_value') and n.name !~ '^[0-9$]|[A-Z]' and n.name !~ migration_guard.word_end() as is_word,
      format('"%s"', replace(n.name, '"', '""')) as quoted,
      -- An apostrophe is doubled in a text, and again in a text within it.
      format('(^|[^[:alnum:]_])%s($|[^[:alnum:]_])',
        replace(regexp_replace(n.name, '([!-/:-@\[-^`{-~])', '\\\1', 'g'), '\''', '''+')) as pattern
    from migration_guard.names_to_look_for(plan, touches, read) as n
  ),
  -- A body that was parsed when its function was made follows every rename.
  bodies as materialized (
    select p.oid, p.oid::regprocedure::text as identity, null::int as line, p.prosrc collate "default" as body
    from pg_proc as p
    join pg_language as l on l.oid = p.prolang
    join pg_namespace as n on n.oid = p.pronamespace
    where l.lanname not in ('c', 'internal') and p.prosqlbody is null
      and n.nspname !~ '^(pg_|information_schema$|migration_guard(_api)?$|migration_(backup|trash|import)_)'
      and p.oid not in (select r.oid from migration_guard.replaced_routines(read) as r)
      and not migration_guard.is_extension_member('pg_proc'::regclass, p.oid)
    union all
    select null, b.identity, b.line, b.body collate "default" from migration_guard.bodies_in_file(touches) as b
  ),
  found as (
    select b.oid, b.identity, b.line, w.*
    from bodies as b
    cross join lateral (select distinct lower(t.word) as word from regexp_split_to_table(b.body, migration_guard.word_end()) as t (word)) as t
    join wanted as w on w.is_word and lower(w.name) = t.word
    union all
    select b.oid, b.identity, b.line, w.*
    from bodies as b
    join wanted as w on not w.is_word and case w.kind
      when 'match' then strpos(lower(b.body), lower(w.name)) > 0
      when 'enum_value' then b.body ~ w.pattern and migration_guard.quoted_texts(b.body) ~ w.pattern
      else strpos(b.body, w.quoted) > 0
    end
  )
  select f.identity, f.oid in (
      select o.objid from migration_guard.plan_objects(plan) as o where o.classid = 'pg_proc'::regclass),
    f.line, jsonb_agg(f.item order by f.kind, f.name)
  from found as f
  where f.oid is not null or not f.is_made_again
  group by f.oid, f.identity, f.line
$$;
comment on function migration_guard.functions_naming(migration_guard.plans, jsonb, migration_guard.touch[]) is
  'The functions of all schemas whose text names what a migration renames or drops, and what of it: those that it leaves
alone, and, with their line, those that it makes.';

create function migration_guard.may_change_more(read migration_guard.touch[], warnings jsonb) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from jsonb_to_recordset(warnings) as w (code text) where w.code in ('effect_unknown', 'search_path_unknown', 'too_many')
    union all
    select from migration_guard.derived_call_warnings(read))
$$;
comment on function migration_guard.may_change_more(migration_guard.touch[], jsonb) is
  'Whether a migration may rename or drop what its touches do not name.';

create function migration_guard.unknown_effects(read migration_guard.touch[], warnings jsonb)
returns table (line int, code text, statement text, detail text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select w.line, w.code, w.statement, w.detail
  from jsonb_to_recordset(warnings) as w (line int, code text, statement text, detail text)
  union
  select * from migration_guard.derived_call_warnings(read)
  union
  select * from migration_guard.derived_missing_warnings(read)
  union
  select * from migration_guard.derived_run_warnings(read)
  union
  select * from migration_guard.derived_trigger_warnings(read)
$$;
comment on function migration_guard.unknown_effects(migration_guard.touch[], jsonb) is
  'What cannot be known of a migration: what its reader has warned of, and what its touches mean in the catalog.';

create function migration_guard.preflight_effects(touches jsonb, read migration_guard.touch[], warnings jsonb)
returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.preflight_finding('unknown_effects', 'warning',
    jsonb_agg(to_jsonb(w) order by w.line, w.code, w.statement, w.detail),
    case when touches is null then 'No migration file was sent, so that nothing of it was looked at.'
      else 'The text of the migration tells all that it does.' end,
    'The text of the migration does not tell all that it does, or it does what no backup holds: look at these lines yourself.')
  from migration_guard.unknown_effects(read, warnings) as w
$$;
comment on function migration_guard.preflight_effects(jsonb, migration_guard.touch[], jsonb) is
  'Whether a migration does what its text does not tell: blocks of code, calls, triggers that fire, names that are not there.';

create function migration_guard.preflight_bodies(plan migration_guard.plans, touches jsonb, read migration_guard.touch[], warnings jsonb)
returns migration_guard.preflight_check
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  result migration_guard.preflight_check;
begin
  select * into result
  from (
    select (migration_guard.preflight_finding('function_bodies', 'warning',
      jsonb_agg(
        case when f.line is null then jsonb_build_object('function', f.identity, 'in_plan', f.in_plan, 'names', f.names)
          else jsonb_build_object('function', f.identity, 'in_file', true, 'line', f.line, 'names', f.names) end
        order by f.line, f.in_plan, f.identity),
      case when touches is null then 'No function outside of the plan names in its text what the plan names.'
        else 'No function names in its text what the migration renames or drops, as it will be after the migration.' end,
      case when touches is null then 'Functions outside of the plan name in their text what the plan names: a rename breaks them at their next call, not at the migration.'
        else 'Functions that the migration leaves alone, or makes itself, name in their text what it renames or drops: they break at their next call, not at the migration.' end)).*
    from migration_guard.functions_naming(plan, touches, read) as f
    where touches is not null or not f.in_plan
  ) as found;
  if migration_guard.may_change_more(read, warnings) then
    result.status := 'warning';
    result.details := result.details || ' The migration may rename or drop more, which could not be looked for: see `unknown_effects`.';
  end if;
  return result;
end
$$;
comment on function migration_guard.preflight_bodies(migration_guard.plans, jsonb, migration_guard.touch[], jsonb) is
  'Whether functions name in their text what a migration renames: Postgres does not know of it, and no rename reaches them.';

-- What no backup holds ------------------------------------------------------------------------------------------------

create function migration_guard.preflight_kinds(plan migration_guard.plans) returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.preflight_finding('kinds_covered', 'warning',
    jsonb_agg(jsonb_build_object('identity', u.identity) order by u.identity),
    'Every object of the schema is of a kind that a backup holds.',
    'No backup holds these objects of the schema: keep what makes them with the migration.')
  from migration_guard.uncovered_objects(plan.schema_name) as u (identity)
$$;
comment on function migration_guard.preflight_kinds(migration_guard.plans) is
  'Whether a plan''s schema has objects of kinds that no backup holds.';

-- Columns that fill themselves ----------------------------------------------------------------------------------------

create function migration_guard.preflight_columns(plan migration_guard.plans) returns migration_guard.preflight_check
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.preflight_finding('generated_columns', 'warning',
    jsonb_agg(jsonb_build_object('column', format('%I.%I.%I', plan.schema_name, t.name, a.attname), 'is', f.says, 'sequence', s.oid::regclass::text)
      order by t.name, a.attnum),
    'No column of the plan''s tables is generated or counted by a sequence.',
    'Columns fill themselves: a rollback of this product sees to that. A statement of your own that puts rows back leaves generated columns out, says '
      '`overriding system value` for identities that are always generated, and then sets the sequences, which no `rollback` of a transaction turns back.')
  from migration_guard.plan_tables(plan) as t
  join pg_attribute as a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
  left join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
    and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
    and exists (select from pg_class as c where c.oid = d.objid and c.relkind = 'S')
  left join pg_class as s on s.oid = d.objid
  cross join lateral (
    select case
      when a.attgenerated = 's' then 'generated, stored'
      when a.attgenerated = 'v' then 'generated, virtual'
      when a.attidentity = 'a' then 'identity, always'
      when a.attidentity = 'd' then 'identity, by default'
      when s.oid is not null then 'counted by a sequence of its own'
    end as says
  ) as f
  where f.says is not null
$$;
comment on function migration_guard.preflight_columns(migration_guard.plans) is
  'Whether columns of a plan''s tables are generated, identities, or own a sequence.';

-- All of it -----------------------------------------------------------------------------------------------------------

create function migration_guard.assert_warnings(warnings jsonb) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform from jsonb_to_recordset(warnings) as w (line int, code text, statement text, detail text)
  where w.code is null or w.detail is null;
  if found or warnings is null then
    raise data_exception;
  end if;
exception
  when data_exception then
    perform migration_guard.fail('invalid_parameter', 'warnings is a list of objects, each with line, code, statement and detail.');
end
$$;
comment on function migration_guard.assert_warnings(jsonb) is
  'Raises invalid_parameter unless the warnings of a migration''s reader are a list of {line, code, statement, detail}.';

create function migration_guard.preflight(plan migration_guard.plans, touches jsonb default null, warnings jsonb default '[]')
returns setof migration_guard.preflight_check
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
  worker constant name := migration_guard.owner();
  read constant migration_guard.touch[] := migration_guard.read_touches(coalesce(touches, '[]'), plan.schema_name);
  locks constant migration_guard.preflight_check := migration_guard.preflight_locks(plan);
  waiting text;
begin
  perform migration_guard.assert_warnings(warnings);
  return next migration_guard.preflight_history(plan);
  return next migration_guard.preflight_backup(plan);
  return next migration_guard.preflight_privileges(plan, worker);
  return next migration_guard.preflight_row_security(plan, worker);
  return next locks;
  return next migration_guard.preflight_transactions(plan);
  return next migration_guard.preflight_sizes(plan);
  return next migration_guard.preflight_columns(plan);
  return next migration_guard.preflight_kinds(plan);
  return next migration_guard.preflight_effects(touches, read, warnings);
  if locks.status = 'ok' then
    return next migration_guard.preflight_code(plan);
    return next migration_guard.preflight_names(plan);
    return next migration_guard.preflight_dependents(plan);
    return next migration_guard.preflight_bodies(plan, touches, read, warnings);
  else
    -- These read definitions and partitions, and would wait for the lock.
    foreach waiting in array '{trusted_code,names_exist,dependents,function_bodies}'::text[] loop
      return next row(waiting, 'warning', 'Not looked at while another session has a lock: see `locks`.', '[]'::jsonb)::migration_guard.preflight_check;
    end loop;
  end if;
end
$$;
comment on function migration_guard.preflight(migration_guard.plans, jsonb, jsonb) is
  'Every check that is worth a look before a backup, and before the migration: what this touches may be told, as derive_plan
takes it, and what its reader has warned of. Changes nothing. Raises invalid_parameter.';
