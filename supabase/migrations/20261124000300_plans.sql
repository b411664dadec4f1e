-- Chapter 3. Plans: what the backup of a migration must hold.

create function migration_guard.is_notify_url(url text) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- No user, no fragment, and nothing but ASCII, so that no two parsers read two hosts in it.
  select length(url) <= 2000
    and url ~ '^(https://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])|http://(localhost|127\.0\.0\.1|\[::1\]))(:[0-9]{1,5})?([/?][!-"$-~]*)?$'
$$;
comment on function migration_guard.is_notify_url(text) is
  'Whether a webhook may be sent to a URL, by its form: https, or http to the machine itself. What its host resolves to is
for the sender to check.';

create table migration_guard.plans (
  -- v10.0, or a 14-digit timestamp.
  version text primary key,
  -- One line that tells what the migration does.
  title text not null default '',
  description text not null default '',
  -- The schema that holds everything named below.
  schema_name text not null default 'public',
  -- Names as the catalog spells them, without quotes.
  tables text[] not null default '{}',
  -- Instead of names: every table of the schema, as it is when the backup is taken.
  all_tables boolean not null default false,
  enums text[] not null default '{}',
  -- `name` for every function of that name, or `name(type, type)` for one.
  functions text[] not null default '{}',
  -- What contains this term in its name, its definition or its comment belongs to the plan, too.
  match text,
  -- Days that must pass between the sign-off of a migration and the cleanup of its backup; 14 is recommended.
  retention_days int not null default 7,
  -- Hours that a backup which was cleaned up stays in the trash; 0 drops it at once.
  trash_hours int not null default 24,
  -- Whether a rollback or a cleanup wants another key than the one that drew its plan.
  two_keys boolean not null default false,
  -- Whether the checklist and a cleanup want an export of the backup that was verified.
  require_export boolean not null default false,
  -- Whom to call when a job of the version fails.
  contacts text[] not null default '{}',
  -- Where each job of the version tells that it has ended (chapter 10, webhooks).
  notify_url text,
  -- Name of the key that stored the plan last.
  actor text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint version_is_normalized check (version = migration_guard.normalize_version(version)),
  constraint names_something check (
    all_tables or match is not null or cardinality(tables) + cardinality(enums) + cardinality(functions) > 0),
  constraint all_tables_or_named check (not all_tables or cardinality(tables) = 0),
  constraint match_is_a_term check (length(btrim(match)) >= 2),
  constraint retention_days_in_range check (retention_days between 1 and 3650),
  constraint trash_hours_in_range check (trash_hours between 0 and 8760),
  constraint notify_url_is_safe check (migration_guard.is_notify_url(notify_url))
);
comment on table migration_guard.plans is 'What the backup of each migration must hold.';

create function migration_guard.is_reserved_schema(name text) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select name ~ '^(pg_|information_schema$|migration_guard(_api)?$|migration_(backup|trash|import)_)'
$$;
comment on function migration_guard.is_reserved_schema(text) is
  'Whether a schema is the system''s or the product''s own, backups included, and so none that a migration is planned for.';

create function migration_guard.assert_schema_plannable(schema_name text) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if migration_guard.is_reserved_schema(schema_name) then
    perform migration_guard.fail('invalid_plan',
      format('The schema %s belongs to the system or to this product: there is no plan for it.', schema_name));
  end if;
end
$$;
comment on function migration_guard.assert_schema_plannable(text) is 'Raises invalid_plan for a schema of the system or of the product.';

create function migration_guard.plan_tables(plan migration_guard.plans)
returns table (name text, oid oid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- It is asked several times, and to plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  select wanted.name, c.oid
  from (select distinct unnest(plan.tables) as name) as wanted
  left join pg_catalog.pg_namespace as n on n.nspname = plan.schema_name
  left join pg_catalog.pg_class as c
    on c.relnamespace = n.oid and c.relname = wanted.name and c.relkind in ('r', 'p') and c.relpersistence <> 't'
  union all
  select c.relname::text, c.oid
  from pg_catalog.pg_class as c
  join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
  where plan.all_tables and n.nspname = plan.schema_name and c.relkind in ('r', 'p') and c.relpersistence <> 't'
    -- The rows of a partition come with those of its root; what an extension brings is the extension's to migrate.
    and not c.relispartition and not migration_guard.is_extension_member('pg_catalog.pg_class'::regclass, c.oid);
end
$$;
comment on function migration_guard.plan_tables(migration_guard.plans) is
  'The tables that a plan names, or all of its schema, each with its OID, or null where there is no such table.';

create function migration_guard.plan_relations(plan migration_guard.plans) returns setof oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select distinct r.oid
  from migration_guard.plan_tables(plan) as t
  cross join lateral migration_guard.with_partitions(t.oid) as r (oid)
  where t.oid is not null
$$;
comment on function migration_guard.plan_relations(migration_guard.plans) is
  'The tables of a plan that exist, and their partitions down to the last.';

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

create function migration_guard.function_signatures(schema_name text)
returns table (oid oid, name text, signature text, short_signature text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select p.oid, p.proname::text, format('%s(%s)', p.proname, a.arguments),
    format('%s(%s)', p.proname, replace(a.arguments, format('%I.', schema_name), ''))
  from pg_catalog.pg_proc as p
  join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
  cross join lateral (select pg_catalog.oidvectortypes(p.proargtypes) as arguments) as a
  where n.nspname = schema_name
$$;
comment on function migration_guard.function_signatures(text) is
  'The functions of a schema, with the types of their arguments, those of the schema itself written with it and without.';

create function migration_guard.plan_functions(plan migration_guard.plans)
returns table (name text, oid oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with candidates as materialized (
    select s.oid, s.name, replace(s.signature, ' ', '') as signature, replace(s.short_signature, ' ', '') as short_signature
    from migration_guard.function_signatures(plan.schema_name) as s
    where plan.functions <> '{}'
  ),
  wanted as materialized (
    select distinct f.name, replace(f.name, ' ', '') as signature from unnest(plan.functions) as f (name)
  )
  select w.name, c.oid
  from wanted as w
  left join candidates as c on c.name = w.name or w.signature in (c.signature, c.short_signature)
$$;
comment on function migration_guard.plan_functions(migration_guard.plans) is
  'The functions that a plan names, by name or signature, each with its OID, or null where there is none.';

-- What contains a term -------------------------------------------------------------------------------------------------

create function migration_guard.plan_matches(plan migration_guard.plans, objects migration_guard.catalog_objects[])
returns setof migration_guard.catalog_objects
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if plan.match is null then
    return;
  end if;
  return query
  with candidates as materialized (select o.* from unnest(objects) as o where o.schema_name = plan.schema_name),
  matches as materialized (
    select c.classid, c.objid, c.objsubid, c.kind
    from candidates as c
    -- Names come with the collation C, which knows the case of ASCII letters only; the database's own may know more.
    cross join (select lower(plan.match collate "default") as text) as term
    where (
        c.kind in ('function', 'procedure', 'aggregate', 'index', 'policy', 'view', 'materialized_view', 'trigger', 'constraint')
        and (strpos(lower(c.name collate "default"), term.text) > 0 or strpos(lower(c.definition collate "default"), term.text) > 0)
        or strpos(lower(c.comment collate "default"), term.text) > 0
      )
      -- What an extension brings is the extension's to migrate.
      and not exists (
        select from pg_depend as e
        where e.deptype = 'e' and (e.classid, e.objid) in ((c.classid, c.objid), (c.parent_classid, c.parent)))
  )
  select c.*
  from candidates as c
  where (c.classid, c.objid, c.objsubid) in (select m.classid, m.objid, m.objsubid from matches as m)
    -- A view comes with what belongs to it, as a table does.
    or (c.parent_classid, c.parent) in (select m.classid, m.objid from matches as m where m.kind in ('view', 'materialized_view'));
end
$$;
comment on function migration_guard.plan_matches(migration_guard.plans, migration_guard.catalog_objects[]) is
  'Those of the objects of a plan''s schema that contain the plan''s term: functions, indexes, policies, views, triggers and
constraints in their name or definition, any object in its comment. None where the plan has no term.';

-- What a plan stands for ----------------------------------------------------------------------------------------------

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
  union all
  select 'match', plan.match
  where plan.match is not null and not exists (
    select from migration_guard.plan_matches(plan, array(select o from migration_guard.read_schema(plan.schema_name) as o)) as m)
$$;
comment on function migration_guard.plan_missing(migration_guard.plans) is
  'Every name in a plan that does not exist in the database, and a term that nothing contains.';

create function migration_guard.is_elsewhere(schema_name text, tables oid[], types oid[], functions oid[], policies oid[]) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select
    from (
      select c.relnamespace as namespace from pg_class as c where c.oid = any (tables)
      union all
      -- Alone of all that belongs to a table, they need not be in its schema.
      select s.stxnamespace from pg_statistic_ext as s where s.stxrelid = any (tables)
      union all
      select t.typnamespace from pg_type as t where t.oid = any (types)
      union all
      select p.pronamespace from pg_proc as p where p.oid = any (functions)
      union all
      select c.relnamespace from pg_policy as p join pg_class as c on c.oid = p.polrelid where p.oid = any (policies)
    ) as o
    join pg_namespace as n on n.oid = o.namespace
    where n.nspname <> schema_name)
$$;
comment on function migration_guard.is_elsewhere(text, oid[], oid[], oid[], oid[]) is
  'Whether some of these tables, their statistics, types, functions and policies are in another schema.';

create function migration_guard.plan_named_objects(plan migration_guard.plans, known migration_guard.catalog_objects[])
returns setof migration_guard.catalog_objects
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  tables constant oid[] := array(select r.oid from migration_guard.plan_relations(plan) as r (oid));
  enums constant oid[] := array(select e.oid from migration_guard.plan_enums(plan) as e where e.oid is not null);
  functions constant oid[] := array(select f.oid from migration_guard.plan_functions(plan) as f where f.oid is not null);
  -- A policy of another table that calls one of the functions must be dropped and created again with it.
  dependent_policies constant oid[] := array(
    select d.objid
    from pg_depend as d
    where d.classid = 'pg_policy'::regclass
      and (d.refclassid = 'pg_class'::regclass and d.refobjid = any (tables)
        or d.refclassid = 'pg_type'::regclass and d.refobjid = any (enums)
        or d.refclassid = 'pg_proc'::regclass and d.refobjid = any (functions)));
  known_schemas constant text[] := case when known is null then '{}' else array[plan.schema_name::text] end;
  are_read constant boolean := known is null or migration_guard.is_elsewhere(plan.schema_name, tables, enums, functions, dependent_policies);
begin
  return query
  select o.*
  from (
    select x.* from unnest(known) as x
    union all
    select x.* from migration_guard.read_objects(enums || functions || dependent_policies, tables || enums, known_schemas) as x where are_read
  ) as o
  where (o.parent_classid = 'pg_class'::regclass and o.parent = any (tables))
    or (o.classid = 'pg_policy'::regclass and o.objid = any (dependent_policies))
    or (o.classid = 'pg_proc'::regclass and o.objid = any (functions))
    or (o.classid = 'pg_type'::regclass and o.objid = any (enums))
    or (o.kind = 'enum_value' and o.parent = any (enums));
end
$$;
comment on function migration_guard.plan_named_objects(migration_guard.plans, migration_guard.catalog_objects[]) is
  'The catalog objects that come with the names in a plan: its tables and their partitions with all that belongs to them, its
functions and enums, and the policies of other tables that call those functions. Those of the plan''s schema may be known.';

create function migration_guard.plan_objects(plan migration_guard.plans, known migration_guard.catalog_objects[] default null)
returns setof migration_guard.catalog_objects
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- A function's signature has the names of types in it.
set quote_all_identifiers = off
as $$
declare
  -- Without a term the names alone are read, and no other table's locks are waited for.
  objects constant migration_guard.catalog_objects[] := case
    when known is not null or plan.match is null then known
    else array(select o from migration_guard.read_schema(plan.schema_name) as o) end;
begin
  return query
  select distinct on (a.classid, a.objid, a.objsubid) a.*
  from (
    select n.* from migration_guard.plan_named_objects(plan, objects) as n
    union all
    select m.* from migration_guard.plan_matches(plan, objects) as m
  ) as a
  order by a.classid, a.objid, a.objsubid;
end
$$;
comment on function migration_guard.plan_objects(migration_guard.plans, migration_guard.catalog_objects[]) is
  'The catalog objects that a plan''s backup holds: what comes with its names, and what contains its term. The objects of the
plan''s schema may be known.';

create function migration_guard.existing_names(schema_name text)
returns table (schemas text[], tables text[], enums text[], functions text[], signatures text[])
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select
    array(select n.nspname::text from pg_namespace as n where not migration_guard.is_reserved_schema(n.nspname) order by 1),
    array(
      select c.relname::text from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
      where n.nspname = schema_name and c.relkind in ('r', 'p') and c.relpersistence <> 't' order by 1),
    array(
      select t.typname::text from pg_type as t join pg_namespace as n on n.oid = t.typnamespace
      where n.nspname = schema_name and t.typtype = 'e' order by 1),
    f.functions, f.signatures
  from (
    select coalesce(array_agg(s.name order by s.short_signature), '{}') as functions,
      coalesce(array_agg(s.short_signature order by s.short_signature), '{}') as signatures
    from migration_guard.function_signatures(schema_name) as s
  ) as f
$$;
comment on function migration_guard.existing_names(text) is
  'One row: the schemas, and what a plan could name in one of them. functions and signatures go together, place by place.';

create function migration_guard.walk_dependents(classids oid[], objids oid[], objsubids int[])
returns table (classid oid, objid oid, objsubid int)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive held as materialized (
    select h.classid, h.objid, h.objsubid from unnest(classids, objids, objsubids) as h (classid, objid, objsubid)
  ),
  walked (classid, objid, objsubid, is_part) as (
    select h.classid, h.objid, h.objsubid, true from held as h
    union
    select
      case when r.oid is not null or a.oid is not null then 'pg_class'::regclass::oid else d.classid end,
      coalesce(r.ev_class, a.adrelid, d.objid),
      case when r.oid is not null or v.oid is not null then 0 else coalesce(a.adnum, d.objsubid) end,
      -- What belongs to another object, as an index, a row type or the sequence of an identity does, goes with that.
      d.deptype <> 'n'
    from walked as w
    join pg_depend as d on d.refclassid = w.classid and d.refobjid = w.objid and (w.objsubid = 0 or d.refobjsubid = w.objsubid)
    -- A view depends on something by its rule, a column by its default.
    left join pg_rewrite as r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid and r.rulename = '_RETURN'
    left join pg_attrdef as a on d.classid = 'pg_attrdef'::regclass and a.oid = d.objid
    left join pg_class as v on d.classid = 'pg_class'::regclass and v.oid = d.objid and v.relkind in ('v', 'm')
  )
  select distinct w.classid, w.objid, w.objsubid
  from walked as w
  where not w.is_part
    and not exists (
      select from held as h where h.classid = w.classid and h.objid = w.objid and h.objsubid in (0, w.objsubid))
$$;
comment on function migration_guard.walk_dependents(oid[], oid[], int[]) is
  'The objects that depend on some, directly or by way of others, and are none of them.';

create function migration_guard.outside_plan(plan migration_guard.plans)
returns table (classid oid, objid oid, objsubid int)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select w.classid, w.objid, w.objsubid
  from (
    select array_agg(o.classid) as classids, array_agg(o.objid) as objids, array_agg(o.objsubid) as objsubids
    from migration_guard.plan_objects(plan) as o
  ) as held
  cross join lateral migration_guard.walk_dependents(held.classids, held.objids, held.objsubids) as w
$$;
comment on function migration_guard.outside_plan(migration_guard.plans) is
  'The objects that depend on those of a plan, directly or by way of others, and are none of them.';

create function migration_guard.dependents_of(objects migration_guard.catalog_objects[], known migration_guard.catalog_objects[] default '{}')
returns setof migration_guard.catalog_objects
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  classids oid[];
  objids oid[];
  elsewhere oid[];
begin
  select coalesce(array_agg(w.classid), '{}'), coalesce(array_agg(w.objid), '{}') into classids, objids
  from (
    select array_agg(o.classid) as classids, array_agg(o.objid) as objids, array_agg(o.objsubid) as objsubids
    from unnest(objects) as o
  ) as held
  cross join lateral migration_guard.walk_dependents(held.classids, held.objids, held.objsubids) as w;
  elsewhere := array(
    select e.objid
    from (
      select d.classid, d.objid from unnest(classids, objids) as d (classid, objid)
      except
      select o.classid, o.objid from unnest(known) as o
    ) as e
    where not (e.classid = 'pg_class'::regclass and exists (select from pg_class as c where c.oid = e.objid and c.relpersistence = 't')));
  return query
  with dependents as materialized (
    select o.*
    from (
      select x.* from unnest(known) as x
      union all
      select x.* from migration_guard.read_objects(elsewhere, '{}', array(select distinct k.schema_name from unnest(known) as k)) as x
    ) as o
    where (o.classid, o.objid) in (select d.classid, d.objid from unnest(classids, objids) as d (classid, objid))
  )
  select o.*
  from dependents as o
  -- As what is read of a schema has them: without what belongs to a table of an extension.
  where not migration_guard.is_extension_member(o.classid, o.objid) and not (o.parent is not null and migration_guard.is_extension_member(o.parent_classid, o.parent))
    and not migration_guard.is_reserved_schema(o.schema_name);
end
$$;
comment on function migration_guard.dependents_of(migration_guard.catalog_objects[], migration_guard.catalog_objects[]) is
  'The catalog objects that depend on a plan''s, in any schema, and are not of the plan: what a migration could break, or drop
by cascade. Of some schemas every object may be known.';

-- Storing and removing ------------------------------------------------------------------------------------------------

create function migration_guard.assert_plan_form(document jsonb) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  known constant text[] := '{title,description,schema,tables,enums,functions,match,retention_days,trash_hours,two_keys,require_export,contacts,notify_url}';
  wrong text;
  list text;
begin
  if jsonb_typeof(document) is distinct from 'object' then
    perform migration_guard.fail('invalid_plan', 'A plan is a JSON object.');
  end if;
  select string_agg(key, ', ' order by key) into wrong
  from jsonb_object_keys(document) as keys (key) where key <> all (known);
  if wrong is not null then
    perform migration_guard.fail('invalid_plan', format('A plan has no field %s.', wrong));
  end if;
  foreach list in array '{tables,enums,functions,contacts}'::text[] loop
    continue when list = 'tables' and document -> list = '"*"';
    if jsonb_typeof(coalesce(document -> list, '[]')) <> 'array'
      -- Strict, since lax would look into a list within the list.
      or jsonb_path_exists(document -> list, 'strict $[*] ? (@.type() != "string" || @ == "")') then
      perform migration_guard.fail('invalid_plan', case list
        when 'tables' then 'tables is a list of names, or "*" for every table of the schema.'
        when 'contacts' then 'contacts is a list of texts.'
        else format('%s is a list of names.', list) end);
    end if;
  end loop;
  select string_agg(key, ', ' order by key) into wrong
  from jsonb_each(document) as fields (key, value)
  where key in ('title', 'description', 'schema') and jsonb_typeof(value) <> 'string';
  if wrong is not null then
    perform migration_guard.fail('invalid_plan', format('Not a text: %s.', wrong));
  end if;
  if jsonb_typeof(coalesce(document -> 'match', 'null')) not in ('string', 'null')
    or length(btrim(document ->> 'match')) < 2 or length(document ->> 'match') > 200 then
    perform migration_guard.fail('invalid_plan', 'match is a term of 2 to 200 characters.');
  end if;
  if jsonb_array_length(coalesce(document -> 'contacts', '[]')) > 20
    or exists (
      select from jsonb_array_elements_text(document -> 'contacts') as c (contact)
      where btrim(c.contact) = '' or length(c.contact) > 200
    ) then
    perform migration_guard.fail('invalid_plan', 'contacts are up to 20 texts of 1 to 200 characters.');
  end if;
  if jsonb_typeof(coalesce(document -> 'retention_days', '7')) <> 'number'
    or not (coalesce(document ->> 'retention_days', '7')::numeric between 1 and 3650)
    or coalesce(document ->> 'retention_days', '7')::numeric % 1 <> 0 then
    perform migration_guard.fail('invalid_plan', 'retention_days is a whole number of days from 1 to 3650.');
  end if;
  if jsonb_typeof(coalesce(document -> 'trash_hours', '24')) <> 'number'
    or not (coalesce(document ->> 'trash_hours', '24')::numeric between 0 and 8760)
    or coalesce(document ->> 'trash_hours', '24')::numeric % 1 <> 0 then
    perform migration_guard.fail('invalid_plan', 'trash_hours is a whole number of hours from 0 to 8760.');
  end if;
  if jsonb_typeof(coalesce(document -> 'two_keys', 'false')) <> 'boolean' or jsonb_typeof(coalesce(document -> 'require_export', 'false')) <> 'boolean' then
    perform migration_guard.fail('invalid_plan', 'two_keys and require_export are true or false.');
  end if;
  if jsonb_typeof(coalesce(document -> 'notify_url', 'null')) not in ('string', 'null')
    or not migration_guard.is_notify_url(document ->> 'notify_url') then
    perform migration_guard.fail('invalid_plan',
      'notify_url is an https URL of up to 2000 ASCII characters, without user and fragment; http is for localhost alone.');
  end if;
end
$$;
comment on function migration_guard.assert_plan_form(jsonb) is
  'Raises invalid_plan unless each field of a plan''s JSON form is one that plans have, and of the right form.';

create function migration_guard.parse_plan(version text, document jsonb, actor text) returns migration_guard.plans
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  plan migration_guard.plans;
begin
  plan.version := migration_guard.normalize_version(version);
  perform migration_guard.assert_plan_form(document);
  plan.title := coalesce(document ->> 'title', '');
  plan.description := coalesce(document ->> 'description', '');
  plan.schema_name := coalesce(document ->> 'schema', 'public');
  perform migration_guard.assert_schema_plannable(plan.schema_name);
  plan.all_tables := coalesce(document -> 'tables' = '"*"', false);
  plan.tables := array(select jsonb_array_elements_text(document -> 'tables') where not plan.all_tables);
  plan.enums := array(select jsonb_array_elements_text(document -> 'enums'));
  plan.functions := array(select jsonb_array_elements_text(document -> 'functions'));
  plan.match := document ->> 'match';
  plan.retention_days := coalesce(document ->> 'retention_days', '7')::numeric::int;
  plan.trash_hours := coalesce(document ->> 'trash_hours', '24')::numeric::int;
  plan.two_keys := coalesce((document ->> 'two_keys')::boolean, false);
  plan.require_export := coalesce((document ->> 'require_export')::boolean, false);
  plan.contacts := array(select jsonb_array_elements_text(document -> 'contacts'));
  plan.notify_url := document ->> 'notify_url';
  plan.actor := actor;
  plan.created_at := now();
  plan.updated_at := now();
  if not plan.all_tables and plan.match is null and plan.tables || plan.enums || plan.functions = '{}' then
    perform migration_guard.fail('invalid_plan', 'A plan names a table, an enum, a function or a term to match.');
  end if;
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
  -- A plan can name no foreign table, and none of another schema: those are told with what depends on the plan.
  join pg_class as child on child.oid = i.inhrelid and child.relkind = 'r' and child.relnamespace = to_regnamespace(quote_ident(plan.schema_name))
  where i.inhparent in (select t.oid from migration_guard.plan_tables(plan) as t)
    and i.inhrelid not in (select t.oid from migration_guard.plan_tables(plan) as t where t.oid is not null);
  if children is not null then
    perform migration_guard.fail('invalid_plan', format('The plan names tables, but not those that inherit from them: %s.', children));
  end if;
end
$$;
comment on function migration_guard.assert_children_named(migration_guard.plans) is
  'Raises invalid_plan when a plan names a table and not its heirs in the schema, whose rows a migration of the table touches too.';

create function migration_guard.replace_plan(plan migration_guard.plans) returns migration_guard.plans
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  stored migration_guard.plans;
begin
  update migration_guard.plans as p set
    title = plan.title, description = plan.description, schema_name = plan.schema_name,
    tables = plan.tables, all_tables = plan.all_tables, enums = plan.enums, functions = plan.functions,
    match = plan.match, retention_days = plan.retention_days, trash_hours = plan.trash_hours,
    two_keys = plan.two_keys, require_export = plan.require_export, contacts = plan.contacts,
    notify_url = plan.notify_url, actor = plan.actor, updated_at = plan.updated_at
  where p.version = plan.version
  returning p.* into stored;
  return stored;
end
$$;
comment on function migration_guard.replace_plan(migration_guard.plans) is 'Stores a plan in the place of that of the same version.';

create function migration_guard.put_plan(version text, plan jsonb, actor text default session_user)
returns migration_guard.plans
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  parsed constant migration_guard.plans := migration_guard.parse_plan(version, plan, actor);
  missing jsonb;
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
  -- Whoever queues a backup holds the row until the job can be seen, and one that is being stored for the first time is waited for, too.
  insert into migration_guard.plans as p select parsed.* on conflict on constraint plans_pkey do update set version = p.version;
  perform migration_guard.assert_backup_agrees(parsed);
  return migration_guard.replace_plan(parsed);
end
$$;
comment on function migration_guard.put_plan(text, jsonb, text) is
  'Stores a plan, replacing one of the same version. Raises invalid_plan, objects_not_found with every missing name, or plan_in_use.';

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
    perform migration_guard.fail('plan_not_found', format('There is no plan for %s. PUT /v1/plans/%1$s stores one.', wanted));
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
    'title', plan.title, 'description', plan.description, 'schema', plan.schema_name,
    'tables', case when plan.all_tables then '"*"' else to_jsonb(plan.tables) end,
    'enums', to_jsonb(plan.enums), 'functions', to_jsonb(plan.functions), 'match', plan.match,
    'retention_days', plan.retention_days, 'trash_hours', plan.trash_hours, 'two_keys', plan.two_keys, 'require_export', plan.require_export,
    'contacts', to_jsonb(plan.contacts),
    'notify_url', plan.notify_url)
$$;
comment on function migration_guard.plan_document(migration_guard.plans) is 'The JSON form of a plan, as put_plan takes it.';
