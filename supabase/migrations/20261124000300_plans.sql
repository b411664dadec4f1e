-- Chapter 3. Plans: what the backup of a migration must hold.

create table migration_guard.plans (
  -- v10.0, or a 14-digit timestamp.
  version text primary key,
  -- One line that tells what the migration does.
  title text not null default '',
  description text not null default '',
  -- The schema that holds everything named below.
  schema_name text not null default 'public',
  -- Names as the catalog spells them, without quotes.
  tables text[] not null,
  enums text[] not null default '{}',
  -- `name` for every function of that name, or `name(type, type)` for one.
  functions text[] not null default '{}',
  -- Days that must pass between the sign-off of a migration and the cleanup of its backup; 14 is recommended.
  retention_days int not null default 7,
  -- Name of the key that stored the plan last.
  actor text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint version_is_normalized check (version = migration_guard.normalize_version(version)),
  constraint tables_are_named check (cardinality(tables) > 0),
  constraint retention_days_in_range check (retention_days between 1 and 3650)
);
comment on table migration_guard.plans is 'What the backup of each migration must hold.';

create function migration_guard.plan_tables(plan migration_guard.plans)
returns table (name text, oid oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select wanted.name, c.oid
  from (select distinct unnest(plan.tables) as name) as wanted
  left join pg_catalog.pg_namespace as n on n.nspname = plan.schema_name
  left join pg_catalog.pg_class as c
    on c.relnamespace = n.oid and c.relname = wanted.name and c.relkind in ('r', 'p') and c.relpersistence <> 't'
$$;
comment on function migration_guard.plan_tables(migration_guard.plans) is
  'The tables that a plan names, each with its OID, or null where there is no such table.';

create function migration_guard.plan_enums(plan migration_guard.plans)
returns table (name text, oid oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select wanted.name, t.oid
  from (select distinct unnest(plan.enums) as name) as wanted
  left join pg_catalog.pg_namespace as n on n.nspname = plan.schema_name
  left join pg_catalog.pg_type as t on t.typnamespace = n.oid and t.typname = wanted.name and t.typtype = 'e'
$$;
comment on function migration_guard.plan_enums(migration_guard.plans) is
  'The enum types that a plan names, each with its OID, or null where there is no such type.';

create function migration_guard.plan_functions(plan migration_guard.plans)
returns table (name text, oid oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with candidates as (
    select p.oid, p.proname,
      -- Types of the plan's own schema may be written with or without it.
      replace(pg_catalog.oidvectortypes(p.proargtypes), ' ', '') as arguments,
      replace(replace(pg_catalog.oidvectortypes(p.proargtypes), format('%I.', plan.schema_name), ''), ' ', '') as short_arguments
    from pg_catalog.pg_proc as p
    join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
    where n.nspname = plan.schema_name and p.prokind <> 'a'
  )
  select wanted.name, c.oid
  from (select distinct unnest(plan.functions) as name) as wanted
  left join candidates as c
    on c.proname = wanted.name
    or replace(wanted.name, ' ', '') in (
      replace(c.proname, ' ', '') || '(' || c.arguments || ')',
      replace(c.proname, ' ', '') || '(' || c.short_arguments || ')'
    )
$$;
comment on function migration_guard.plan_functions(migration_guard.plans) is
  'The functions that a plan names, by name or signature, each with its OID, or null where there is none.';

create function migration_guard.plan_missing(plan migration_guard.plans)
returns table (kind text, name text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 'schema', plan.schema_name
  where not exists (select from pg_catalog.pg_namespace as n where n.nspname = plan.schema_name)
  union all
  select 'table', t.name from migration_guard.plan_tables(plan) as t where t.oid is null
  union all
  select 'enum', e.name from migration_guard.plan_enums(plan) as e where e.oid is null
  union all
  select 'function', f.name from migration_guard.plan_functions(plan) as f where f.oid is null
$$;
comment on function migration_guard.plan_missing(migration_guard.plans) is
  'Every name in a plan that does not exist in the database.';

create function migration_guard.plan_objects(plan migration_guard.plans)
returns setof migration_guard.catalog_objects
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with roots as materialized (
    select 'pg_catalog.pg_class'::regclass::oid as classid, t.oid from migration_guard.plan_tables(plan) as t
    union all
    select 'pg_catalog.pg_type'::regclass::oid, e.oid from migration_guard.plan_enums(plan) as e
    union all
    select 'pg_catalog.pg_proc'::regclass::oid, f.oid from migration_guard.plan_functions(plan) as f
  ),
  -- As arrays, which reach into the views: a join would deparse every object of the database first, and wait for the
  -- locks on tables that are no business of this plan.
  ids as materialized (
    select
      array(select r.oid from roots as r where r.classid = 'pg_catalog.pg_class'::regclass) as tables,
      array(select r.oid from roots as r where r.classid = 'pg_catalog.pg_type'::regclass) as enums,
      array(select r.oid from roots as r where r.classid = 'pg_catalog.pg_proc'::regclass) as functions,
      -- A policy of another table that calls one of the functions must be dropped and created again with it.
      array(
        select d.objid
        from pg_catalog.pg_depend as d
        join roots as r on r.classid = d.refclassid and r.oid = d.refobjid
        where d.classid = 'pg_catalog.pg_policy'::regclass
      ) as dependent_policies
  )
  select o.*
  from migration_guard.catalog_objects as o
  where o.parent = any ((select i.tables from ids as i)::oid[]) and o.parent_classid = 'pg_catalog.pg_class'::regclass
  union all
  select o.*
  from migration_guard.catalog_policies as o
  where o.objid = any ((select i.dependent_policies from ids as i)::oid[])
    and o.parent <> all ((select i.tables from ids as i)::oid[])
  union all
  select o.* from migration_guard.catalog_functions as o where o.objid = any ((select i.functions from ids as i)::oid[])
  union all
  select o.* from migration_guard.catalog_types as o where o.objid = any ((select i.enums from ids as i)::oid[])
  union all
  select o.* from migration_guard.catalog_enum_values as o where o.parent = any ((select i.enums from ids as i)::oid[])
$$;
comment on function migration_guard.plan_objects(migration_guard.plans) is
  'The catalog objects that a plan''s backup holds: its tables with all that belongs to them, its functions and enums,
and the policies of other tables that call those functions.';

create function migration_guard.plan_dependents(plan migration_guard.plans)
returns setof migration_guard.catalog_objects
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive planned as materialized (
    select distinct p.classid, p.objid from migration_guard.plan_objects(plan) as p
  ),
  dependencies as materialized (
    select * from migration_guard.catalog_dependencies
  ),
  dependents as (
    select d.classid, d.objid
    from planned as p
    join dependencies as d on d.refclassid = p.classid and d.refobjid = p.objid
    union
    select d.classid, d.objid
    from dependents as f
    join dependencies as d on d.refclassid = f.classid and d.refobjid = f.objid
    -- A table outlives a column or a default that goes.
    where not exists (select from pg_class as c where c.oid = f.objid and f.classid = 'pg_class'::regclass and c.relkind in ('r', 'p', 'f'))
  ),
  -- As arrays, which reach into the views.
  ids as materialized (
    select
      array(select d.objid from dependents as d where d.classid = 'pg_class'::regclass) as relations,
      array(select d.objid from dependents as d where d.classid <> 'pg_class'::regclass) as others
  )
  select o.*
  from migration_guard.catalog_objects as o
  where o.objid = any ((select i.relations || i.others from ids as i)::oid[])
    and exists (select from dependents as d where d.classid = o.classid and d.objid = o.objid)
    and not exists (select from planned as p where p.classid = o.classid and p.objid = o.objid)
    -- Backups and the product depend on nothing; what they have in common with a plan is Postgres's.
    and not migration_guard.is_extension_member(o.classid, o.objid)
    and o.schema_name !~ '^(pg_|information_schema$|migration_guard(_api)?$|migration_backup_)'
$$;
comment on function migration_guard.plan_dependents(migration_guard.plans) is
  'What depends on a plan''s objects, in any schema, and is not of the plan: what a migration could break or drop by cascade.';

-- Storing and removing ------------------------------------------------------------------------------------------------

create function migration_guard.parse_plan(version text, document jsonb, actor text) returns migration_guard.plans
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  plan migration_guard.plans;
  known constant text[] := '{title,description,schema,tables,enums,functions,retention_days}';
  wrong text;
  list text;
begin
  plan.version := migration_guard.normalize_version(version);
  if jsonb_typeof(document) is distinct from 'object' then
    perform migration_guard.fail('invalid_plan', 'A plan is a JSON object.');
  end if;
  select string_agg(key, ', ' order by key) into wrong
  from jsonb_object_keys(document) as keys (key) where key <> all (known);
  if wrong is not null then
    perform migration_guard.fail('invalid_plan', format('A plan has no field %s.', wrong));
  end if;
  foreach list in array '{tables,enums,functions}'::text[] loop
    if jsonb_typeof(coalesce(document -> list, '[]')) <> 'array'
      -- Strict, since lax would look into a list within the list.
      or jsonb_path_exists(document -> list, 'strict $[*] ? (@.type() != "string" || @ == "")') then
      perform migration_guard.fail('invalid_plan', format('%s is a list of names.', list));
    end if;
  end loop;
  select string_agg(key, ', ' order by key) into wrong
  from jsonb_each(document) as fields (key, value)
  where key in ('title', 'description', 'schema') and jsonb_typeof(value) <> 'string';
  if wrong is not null then
    perform migration_guard.fail('invalid_plan', format('Not a text: %s.', wrong));
  end if;
  if coalesce(jsonb_array_length(document -> 'tables'), 0) = 0 then
    perform migration_guard.fail('invalid_plan', 'tables names at least one table.');
  end if;
  if jsonb_typeof(coalesce(document -> 'retention_days', '7')) <> 'number'
    or not (coalesce(document ->> 'retention_days', '7')::numeric between 1 and 3650)
    or coalesce(document ->> 'retention_days', '7')::numeric % 1 <> 0 then
    perform migration_guard.fail('invalid_plan', 'retention_days is a whole number of days from 1 to 3650.');
  end if;
  plan.title := coalesce(document ->> 'title', '');
  plan.description := coalesce(document ->> 'description', '');
  plan.schema_name := coalesce(document ->> 'schema', 'public');
  plan.tables := array(select jsonb_array_elements_text(document -> 'tables'));
  plan.enums := array(select jsonb_array_elements_text(document -> 'enums'));
  plan.functions := array(select jsonb_array_elements_text(document -> 'functions'));
  plan.retention_days := coalesce(document ->> 'retention_days', '7')::numeric::int;
  plan.actor := actor;
  plan.created_at := now();
  plan.updated_at := now();
  return plan;
end
$$;
comment on function migration_guard.parse_plan(text, jsonb, text) is
  'A plan from its JSON form. Raises invalid_version or invalid_plan.';

create function migration_guard.assert_children_named(plan migration_guard.plans) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  children text;
begin
  -- A partitioned table is copied with its partitions; the rows of a plain table's heirs are the heirs' own.
  select string_agg(format('%s (of %s)', i.inhrelid::regclass, i.inhparent::regclass), ', ' order by i.inhrelid) into children
  from pg_inherits as i
  join pg_class as parent on parent.oid = i.inhparent and parent.relkind = 'r'
  where i.inhparent in (select t.oid from migration_guard.plan_tables(plan) as t)
    and i.inhrelid not in (select t.oid from migration_guard.plan_tables(plan) as t where t.oid is not null);
  if children is not null then
    perform migration_guard.fail('invalid_plan', format('The plan names tables, but not those that inherit from them: %s.', children));
  end if;
end
$$;
comment on function migration_guard.assert_children_named(migration_guard.plans) is
  'Raises invalid_plan when a plan names a table and not its heirs, whose rows a migration of the table touches too.';

create function migration_guard.put_plan(version text, plan jsonb, actor text default session_user)
returns migration_guard.plans
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  parsed constant migration_guard.plans := migration_guard.parse_plan(version, plan, actor);
  missing jsonb;
  stored migration_guard.plans;
begin
  select jsonb_agg(jsonb_build_object('kind', m.kind, 'name', m.name) order by m.kind, m.name) into missing
  from migration_guard.plan_missing(parsed) as m;
  if missing is not null then
    perform migration_guard.fail(
      'objects_not_found',
      format('The plan names what does not exist in schema %s: %s.', parsed.schema_name,
        (select string_agg(format('%s %s', e ->> 'kind', e ->> 'name'), ', ') from jsonb_array_elements(missing) as e)),
      jsonb_build_object('errors', missing));
  end if;
  perform migration_guard.assert_children_named(parsed);
  perform migration_guard.assert_backup_agrees(parsed);
  insert into migration_guard.plans as p select parsed.*
  on conflict on constraint plans_pkey do update set
    title = excluded.title, description = excluded.description, schema_name = excluded.schema_name,
    tables = excluded.tables, enums = excluded.enums, functions = excluded.functions,
    retention_days = excluded.retention_days, actor = excluded.actor, updated_at = excluded.updated_at
  returning p.* into stored;
  return stored;
end
$$;
comment on function migration_guard.put_plan(text, jsonb, text) is
  'Stores a plan, replacing one of the same version. Raises invalid_plan, or objects_not_found with every missing name.';

create function migration_guard.get_plan(version text) returns migration_guard.plans
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted constant text := migration_guard.normalize_version(version);
  found_plan migration_guard.plans;
begin
  select p.* into found_plan from migration_guard.plans as p where p.version = wanted;
  if found_plan.version is null then
    perform migration_guard.fail('plan_not_found', format('There is no plan for %s.', wanted));
  end if;
  return found_plan;
end
$$;
comment on function migration_guard.get_plan(text) is 'The plan of a version. Raises plan_not_found.';

create function migration_guard.plan_document(plan migration_guard.plans) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'title', plan.title, 'description', plan.description, 'schema', plan.schema_name, 'tables', to_jsonb(plan.tables),
    'enums', to_jsonb(plan.enums), 'functions', to_jsonb(plan.functions), 'retention_days', plan.retention_days)
$$;
comment on function migration_guard.plan_document(migration_guard.plans) is 'The JSON form of a plan, as put_plan takes it.';
