-- Chapter 8, continued. Drift: which live object each recorded one is now, and what has become of it.

create type migration_guard.catalog_entry as (
  classid oid,
  objid oid,
  objsubid int,
  kind text,
  schema_name text,
  name text,
  identity text,
  parent_classid oid,
  parent oid,
  parent_name text,
  definition text,
  settings text[],
  is_internal boolean,
  owner text,
  comment text,
  grants text[],
  sort_order real,
  signature jsonb,
  acl text,
  parts jsonb
);
comment on type migration_guard.catalog_entry is
  'An object of chapter 2 with its signature, as it is or as a backup recorded it.';

create type migration_guard.compared_object as (
  -- As the backup recorded it, and as it is; null where it is new, or missing.
  old migration_guard.catalog_entry,
  new migration_guard.catalog_entry,
  in_plan boolean,
  creation_order int,
  -- identity: the same OID, attribute number or enum value. name: what goes by the name of what is gone.
  matched_by text,
  is_renamed boolean,
  -- What differs besides the name: definition, settings, owner, comment, privileges, place, and of an
  -- index the names that it has for its columns.
  aspects text[]
);
comment on type migration_guard.compared_object is 'A recorded object and the live one that it is now.';

create function migration_guard.is_same_database(schema_name text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  is_same boolean;
begin
  execute format('select m.database_identity = migration_guard.database_identity() from %I.backup_metadata as m', schema_name) into is_same;
  return coalesce(is_same, false);
end
$$;
comment on function migration_guard.is_same_database(text) is
  'Whether a backup was taken in this very database, so that its OIDs mean what they meant then. A restored one has others.';

create function migration_guard.is_far_away(snapshot pg_snapshot) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- A row's transaction is known by the lower half of its number.
  select pg_snapshot_xmax(pg_current_snapshot())::text::numeric - pg_snapshot_xmin(snapshot)::text::numeric not between 0 and 2000000000
$$;
comment on function migration_guard.is_far_away(pg_snapshot) is
  'Whether so many transactions have run since a snapshot that their numbers in rows may have come round, or none of them here.';

-- Both sides ----------------------------------------------------------------------------------------------------------

create function migration_guard.recorded_entries(schema_name text, ids oid[] default null, kinds text[] default '{}')
returns table (entry migration_guard.catalog_entry, in_plan boolean, creation_order int)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute format($query$
    select row(o.classid, o.objid, o.objsubid, o.kind, o.schema_name, o.name, o.identity, o.parent_classid, o.parent, o.parent_name,
      o.definition, o.settings, o.is_internal, o.owner, o.comment, o.grants, o.sort_order, o.signature, o.acl, o.parts)::migration_guard.catalog_entry,
      o.in_plan, o.creation_order
    from %I.objects_backup as o
    where $1 is null or o.kind = any ($2) or o.objid in (select i.id from unnest($1) as i (id)) or o.parent in (select i.id from unnest($1) as i (id))
  $query$, schema_name) using ids, kinds;
end
$$;
comment on function migration_guard.recorded_entries(text, oid[], text[]) is
  'The objects that a backup schema has recorded; or those of some OIDs with what belongs to them, and all of some kinds.';

create function migration_guard.ids_of_names(backup_schema text, schema_names text[], missing_only boolean) returns oid[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  sought jsonb;
begin
  execute format($query$
    select jsonb_agg(jsonb_build_array(o.kind, o.identity, o.schema_name))
    from %I.objects_backup as o
    where o.schema_name <> all ($1) and not ($2 and case
      when o.kind = 'enum_value' then exists (select from pg_enum as e where e.oid = o.objid)
      else exists (select from pg_identify_object(o.classid, o.objid, o.objsubid) as i where i.identity is not null) end)
  $query$, backup_schema) into sought using schema_names, missing_only;
  if sought is null then return '{}'; end if;
  return array(
    select o.objid
    from migration_guard.catalog_objects as o
    join jsonb_array_elements(sought) as s (value) on (s.value ->> 0, s.value ->> 1) = (o.kind, o.identity)
    where o.schema_name = any (array(select x.value ->> 2 from jsonb_array_elements(sought) as x (value))));
end
$$;
comment on function migration_guard.ids_of_names(text, text[], boolean) is
  'OIDs that recorded objects which are in none of some schemas have today by their names: of all, or of those that are gone, as what was made again is.';

create function migration_guard.live_ids(backup_schema text, schema_names text[], is_same_database boolean) returns oid[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  recorded oid[];
  ids oid[];
begin
  -- In a restored database all that is left is the names.
  if not is_same_database then return migration_guard.ids_of_names(backup_schema, schema_names, false); end if;
  -- What the backup recorded, wherever it is now, and what elsewhere depends on the plan's objects today.
  execute format('select array_agg(distinct o.objid) from %I.objects_backup as o', backup_schema) into recorded;
  execute format($query$
    select array(
      select d.objid
      from (
        select array_agg(o.classid) as classids, array_agg(o.objid) as objids, array_agg(o.objsubid) as objsubids
        from %1$I.objects_backup as o where o.objid in (select p.objid from %1$I.objects_backup as p where p.in_plan)
      ) as held
      cross join lateral migration_guard.walk_dependents(held.classids, held.objids, held.objsubids) as d
      where not migration_guard.is_extension_member(d.classid, d.objid))
  $query$, backup_schema) into ids;
  return recorded || ids || migration_guard.ids_of_names(backup_schema, schema_names, true);
end
$$;
comment on function migration_guard.live_ids(text, text[], boolean) is
  'OIDs of what is compared with a backup besides all that is in the plan''s schema.';

create function migration_guard.objects_elsewhere(schema_names text[], ids oid[]) returns setof migration_guard.catalog_objects
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select o.*
  from migration_guard.without_extensions(array(select x from migration_guard.read_objects(ids, ids, schema_names) as x)) as o
$$;
comment on function migration_guard.objects_elsewhere(text[], oid[]) is
  'The live objects of some OIDs, with what belongs to them, that are in none of some schemas, but for what came with an extension.';

create function migration_guard.altered_live_objects(backup_schema text, schema_names text[], altered oid[]) returns setof migration_guard.catalog_objects
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  recorded oid[];
  elsewhere oid[];
  -- What belongs to a table of the schemas and is in another one, as statistics can be, is compared only where it is known.
  parents oid[];
begin
  execute format('select array(select distinct o.objid from %I.objects_backup as o where o.objid in (select i.id from unnest($1) as i (id)))', backup_schema)
    into recorded using altered;
  elsewhere := recorded;
  -- What is new in another schema is compared if the plan's objects are something to it.
  if exists (
    select from (
      select c.oid, c.relnamespace as namespace from pg_class as c where c.oid = any (altered)
      union all select p.oid, p.pronamespace from pg_proc as p where p.oid = any (altered)
      union all select t.oid, t.typnamespace from pg_type as t where t.oid = any (altered)
    ) as o
    where o.oid <> all (recorded) and o.namespace <> 'pg_toast'::regnamespace and o.namespace not in (select n.oid from pg_namespace as n where n.nspname = any (schema_names))
  ) then
    elsewhere := migration_guard.live_ids(backup_schema, schema_names, true);
  end if;
  parents := array(
    with inside as materialized (select n.oid from pg_namespace as n where n.nspname = any (schema_names))
    select e.id from unnest(elsewhere) as e (id)
    except select c.oid from pg_class as c where c.relnamespace in (select i.oid from inside as i)
    except select t.oid from pg_type as t where t.typnamespace in (select i.oid from inside as i)
    except select o.oid from pg_constraint as o where o.connamespace in (select i.oid from inside as i));
  return query
  select o.*
  from migration_guard.without_extensions(array(select x from migration_guard.read_altered(altered, schema_names, elsewhere, parents) as x)) as o;
end
$$;
comment on function migration_guard.altered_live_objects(text, text[], oid[]) is
  'Of the live objects that are compared with a backup those of some OIDs, with what belongs to them.';

create function migration_guard.with_signatures(objects migration_guard.catalog_objects[]) returns setof migration_guard.catalog_entry
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set extra_float_digits = 1
set bytea_output = 'hex' set quote_all_identifiers = off set standard_conforming_strings = on set lc_monetary = 'C'
set jit = off set work_mem = '64MB'
as $$
begin
  return query
  select o.classid, o.objid, o.objsubid, o.kind, o.schema_name, o.name, o.identity, o.parent_classid, o.parent, o.parent_name,
    coalesce(o.definition, ''), o.settings, o.is_internal, o.owner, o.comment, o.grants, o.sort_order, coalesce(s.signature, '{}'), s.acl, coalesce(s.parts, '{}')
  from unnest(objects) as o
  left join migration_guard.signatures_of(array(select distinct x.objid from unnest(objects) as x)) as s on (s.classid, s.objid, s.objsubid) = (o.classid, o.objid, o.objsubid);
end
$$;
comment on function migration_guard.with_signatures(migration_guard.catalog_objects[]) is 'Live objects with their signatures.';

create function migration_guard.live_entries(schema_names text[], ids oid[]) returns setof migration_guard.catalog_entry
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  objects migration_guard.catalog_objects[] := array(
    select o
    from (select distinct s.name from unnest(schema_names) as s (name) where not migration_guard.is_reserved_schema(s.name)) as s
    cross join lateral migration_guard.schema_inventory(s.name) as o);
  -- Each OID that is looked for is compared with every object: only those that were not in the schemas.
  others constant oid[] := array(
    select i.id from unnest(ids) as i (id)
    except
    select o.objid from unnest(objects) as o);
begin
  if others <> '{}' then
    objects := objects || array(select o from migration_guard.objects_elsewhere(schema_names, others) as o);
  end if;
  return query select e.* from migration_guard.with_signatures(objects) as e;
end
$$;
comment on function migration_guard.live_entries(text[], oid[]) is
  'The live objects of some schemas, and those of some OIDs with what belongs to them, but for what came with an extension.';

-- Which is which ------------------------------------------------------------------------------------------------------

create function migration_guard.whole_of(kind text, signature jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when kind = 'index' then signature ->> 'parent'
    when kind = 'constraint' and signature ->> 'contype' in ('p', 'u', 'x') then nullif(signature ->> 'conparentid', '0') end
$$;
comment on function migration_guard.whole_of(text, jsonb) is
  'OID of the key or index of a partitioned table that a partition''s is a part of; null where it is none.';

create function migration_guard.may_be_converted(from_type oid, to_type oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select from_type = to_type
    -- An enum, or what is gone, may become a text or what somebody made.
    or greatest(from_type, to_type) >= 16384 and not exists (
      select from pg_type as b left join pg_type as u on u.oid = greatest(from_type, to_type)
      where b.oid = least(from_type, to_type) and b.oid < 16384 and b.typcategory not in ('S', 'A') and coalesce(u.typtype, 'e') = 'e')
    or exists (select from pg_cast as c where c.castsource = from_type and c.casttarget = to_type)
    -- Text comes from everything and may become everything; arrays are as their elements.
    or (select bool_or(t.typcategory = 'S') or bool_and(t.typcategory = 'A') from pg_type as t where t.oid in (from_type, to_type))
$$;
comment on function migration_guard.may_be_converted(oid, oid) is
  'Whether values of a type may have a meaning in another; of types that somebody made it is taken for granted.';

create function migration_guard.entries_of_name(
  lost_entries migration_guard.catalog_entry[], found_entries migration_guard.catalog_entry[], classids oid[], objids oid[], objsubids int[], schema_names text[]
)
returns table (old_classid oid, old_objid oid, old_objsubid int, new_classid oid, new_objid oid, new_objsubid int)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with same as materialized (select s.classid, s.objid, s.objsubid from unnest(classids, objids, objsubids) as s (classid, objid, objsubid)),
  lost as materialized (
    select o.*, migration_guard.whole_of(o.kind, o.signature) as whole, o.parent is null or o.kind in ('table', 'foreign_table', 'view', 'materialized_view', 'sequence', 'enum', 'domain', 'composite_type', 'range_type') as is_root
    from unnest(lost_entries) as o
  ),
  found as materialized (
    select n.*, migration_guard.whole_of(n.kind, n.signature) as whole from unnest(found_entries) as n
  ),
  roots as materialized (
    select o.classid, o.objid, o.objsubid, n.classid as new_classid, n.objid as new_objid, n.objsubid as new_objsubid
    from lost as o
    join found as n on n.kind = o.kind and (n.identity = o.identity
      -- A function is known by the types of its arguments, whatever they are called.
      or n.kind in ('function', 'procedure') and n.name = o.name and n.schema_name = o.schema_name and n.signature -> 'proargtypes' = o.signature -> 'proargtypes'
      -- Its schema may have another name now.
      or n.schema_name = any (schema_names) and o.schema_name = any (schema_names) and substr(n.identity, length(quote_ident(n.schema_name)) + 1) = substr(o.identity, length(quote_ident(o.schema_name)) + 1))
    where o.is_root and o.kind <> 'sequence'
  ),
  parents as (
    select s.classid, s.objid, s.classid as new_classid, s.objid as new_objid from same as s where s.objsubid = 0
    union all
    select r.classid, r.objid, r.new_classid, r.new_objid from roots as r
    union all
    -- What a recorded part elsewhere belongs to needs not be recorded.
    select distinct o.parent_classid, o.parent, o.parent_classid, o.parent
    from lost as o
    where o.parent is not null
      and not exists (select from same as s where (s.classid, s.objid, s.objsubid) = (o.parent_classid, o.parent, 0))
      and not exists (select from lost as x where (x.classid, x.objid, x.objsubid) = (o.parent_classid, o.parent, 0))
  ),
  parts as materialized (
    select o.classid, o.objid, o.objsubid, n.classid as new_classid, n.objid as new_objid, n.objsubid as new_objsubid
    from lost as o
    join parents as p on (p.classid, p.objid) = (o.parent_classid, o.parent)
    join found as n on (n.parent_classid, n.parent, n.kind) = (p.new_classid, p.new_objid, o.kind)
      -- A key or an index that is its partition's part of a whole is known by that.
      and case when o.whole is null then n.name = o.name
        when exists (select from found as f where f.parent = n.parent and f.kind = n.kind and f.whole = o.whole) then n.whole = o.whole
        else n.name = o.name end
    where not o.is_root
      -- A column that was added under the name of one that was dropped may have nothing else in common with it.
      and not (o.kind = 'column' and p.objid = p.new_objid and o.signature ->> 'generated' = ''
        and not migration_guard.may_be_converted((n.signature ->> 'type')::oid, (o.signature ->> 'type')::oid))
  ),
  -- Of which column a sequence is, live and as recorded.
  owners as (
    select jsonb_build_array(m.objid::text, m.objsubid::text) as old, jsonb_build_array(m.new_objid::text, m.new_objsubid::text) as new
    from (
      select s.objid, s.objsubid, s.objid as new_objid, s.objsubid as new_objsubid from same as s where s.objsubid > 0
      union all
      select p.objid, p.objsubid, p.new_objid, p.new_objsubid from parts as p where p.objsubid > 0
    ) as m
  ),
  sequences as (
    select o.classid, o.objid, o.objsubid, n.classid as new_classid, n.objid as new_objid, n.objsubid as new_objsubid
    from lost as o
    join found as n on n.kind = 'sequence'
    cross join lateral (select o.signature -> 'owned_by' as old, n.signature -> 'owned_by' as new,
      n.identity = o.identity or n.schema_name = any (schema_names) and o.schema_name = any (schema_names) and n.name = o.name as is_namesake) as w
    where o.kind = 'sequence' and coalesce(w.old ->> 2 = 'i', false) = coalesce(w.new ->> 2 = 'i', false)
      -- That of an identity is what its column has, whatever it is called; another has its name, and no other owner.
      and case when jsonb_typeof(w.old) = 'array' and jsonb_typeof(w.new) = 'array'
        then (w.old ->> 2 = 'i' or w.is_namesake)
          and exists (select from owners as x where x.old = jsonb_build_array(w.old ->> 0, w.old ->> 1) and x.new = jsonb_build_array(w.new ->> 0, w.new ->> 1))
        else w.is_namesake end
  )
  select r.* from roots as r
  union all
  select q.* from sequences as q
  union all
  select p.* from parts as p
$$;
comment on function migration_guard.entries_of_name(migration_guard.catalog_entry[], migration_guard.catalog_entry[], oid[], oid[], int[], text[]) is
  'Which of the live objects that are none of the recorded ones by OID, attribute number or enum value has the name of one that
is gone, below what its parent is now. Those that are the same are given by these three.';

create function migration_guard.translated(signature jsonb, new_ids text[], old_ids text[]) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when new_ids = '{}' then signature else (
    select string_agg(coalesce(i.old, t.token[1]), '' order by t.position)::jsonb
    from regexp_matches(signature::text, '[0-9]+|[^0-9]+', 'g') with ordinality as t (token, position)
    left join unnest(new_ids, old_ids) as i (new, old) on i.new = t.token[1]
  ) end
$$;
comment on function migration_guard.translated(jsonb, text[], text[]) is
  'A live signature with the OIDs that its objects had when they were recorded, where they are others now.';

create function migration_guard.live_renames(renamed_ids oid[], renamed_subids int[])
returns table (classid oid, objid oid, objsubid int)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select distinct
    case when r.oid is not null or a.oid is not null then 'pg_class'::regclass::oid else d.classid end,
    coalesce(r.ev_class, a.adrelid, d.objid),
    case when r.oid is not null then 0 else coalesce(a.adnum, d.objsubid) end
  from unnest(renamed_ids, renamed_subids) as n (objid, objsubid)
  join pg_depend as d on d.refobjid = n.objid and (n.objsubid = 0 or d.refobjsubid = n.objsubid)
  left join pg_rewrite as r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
  left join pg_attrdef as a on d.classid = 'pg_attrdef'::regclass and a.oid = d.objid
$$;
comment on function migration_guard.live_renames(oid[], int[]) is
  'What refers to something that goes by another name now, so that its text says nothing.';

create function migration_guard.setting_keys(kind text) returns text[]
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case kind
    when 'table' then '{row_security,force_row_security,replica_identity,triggers_disabled}'
    when 'materialized_view' then '{is_populated}'
    when 'column' then '{default,statistics,storage,compression,options}'
    when 'index' then '{indisclustered,indisreplident,statistics,options}'
    when 'trigger' then '{tgenabled}'
    when 'rule' then '{ev_enabled}'
    when 'sequence' then '{owned_by}'
    when 'statistics' then '{stxstattarget}'
    else '{}' end::text[]
$$;
comment on function migration_guard.setting_keys(text) is
  'What in a signature is no part of the definition: it can be set on an object that is there.';

create function migration_guard.differing_aspects(
  old migration_guard.catalog_entry, new migration_guard.catalog_entry, translated jsonb, is_readable boolean, is_moved boolean
) returns text[]
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Of a generated column the expression is the definition.
  select array_remove(array[
    case
      when old.kind = 'default_privilege' then case when old.acl is distinct from new.acl then 'definition' end
      when old.signature - k.settings <> translated - k.settings and not (is_readable and old.definition = new.definition) then 'definition'
    end,
    case
      -- The options of an index are in its definition, and can be set all the same.
      when case when is_readable then old.settings <> new.settings or old.kind = 'index' and old.signature -> 'options' <> translated -> 'options'
        else (select jsonb_object_agg(s, old.signature -> s) is distinct from jsonb_object_agg(s, translated -> s) from unnest(k.settings) as s) end
        then 'settings'
    end,
    case when old.owner is distinct from new.owner then 'owner' end,
    case when old.comment is distinct from new.comment then 'comment' end,
    case when old.acl is distinct from new.acl and not (old.grants <@ new.grants and old.grants @> new.grants) and old.kind <> 'default_privilege' then 'privileges' end,
    case when is_moved then 'place' end,
    case when old.kind = 'index' and old.parts -> 'columns' <> new.parts -> 'columns' then 'column names' end
  ], null)
  from (select case when old.kind = 'column' and old.signature ->> 'generated' <> '' then '{statistics,storage,compression,options}'
    else migration_guard.setting_keys(old.kind) end as settings) as k
$$;
comment on function migration_guard.differing_aspects(migration_guard.catalog_entry, migration_guard.catalog_entry, jsonb, boolean, boolean) is
  'What is not as it was of an object. Texts say so only of what refers to nothing that was renamed; otherwise the signature does.';

create function migration_guard.without_places(entry migration_guard.catalog_entry) returns migration_guard.catalog_entry
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select row(entry.classid, entry.objid, entry.objsubid, entry.kind, entry.schema_name, entry.name, entry.identity, entry.parent_classid, entry.parent, entry.parent_name,
    entry.definition, entry.settings, entry.is_internal, entry.owner, entry.comment, entry.grants, entry.sort_order, migration_guard.without_places(entry.signature), entry.acl, entry.parts)::migration_guard.catalog_entry
$$;
comment on function migration_guard.without_places(migration_guard.catalog_entry) is 'An object without the places in its signature.';

create function migration_guard.matched_objects(backup_schema text, altered oid[] default null) returns setof migration_guard.compared_object
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off set work_mem = '64MB'
as $$
declare
  is_same_database constant boolean := migration_guard.is_same_database(backup_schema);
  plan_schema text;
  live_schema text;
  schema_names text[];
begin
  execute format('select m.plan ->> ''schema'' from %I.backup_metadata as m', backup_schema) into plan_schema;
  execute format('select n.nspname from pg_namespace as n join %I.objects_backup as o on o.kind = ''schema'' and o.name = $1 and o.objid = n.oid where $2', backup_schema)
    into live_schema using plan_schema, is_same_database;
  live_schema := coalesce(live_schema, plan_schema);
  schema_names := array(select distinct unnest(array[live_schema, plan_schema]));
  return query
  with old as materialized (
    select r.*, (r.entry).classid, (r.entry).objid, (r.entry).objsubid, (r.entry).kind
    from migration_guard.recorded_entries(backup_schema, altered) as r
  ),
  new as materialized (
    select n as entry, n.classid, n.objid, n.objsubid, n.kind
    from migration_guard.live_entries(schema_names, migration_guard.live_ids(backup_schema, schema_names, is_same_database)) as n
    where altered is null
    union all
    select n, n.classid, n.objid, n.objsubid, n.kind
    from migration_guard.with_signatures(array(select o from migration_guard.altered_live_objects(backup_schema, schema_names, altered) as o)) as n
    where altered is not null
  ),
  same as materialized (
    select o.classid, o.objid, o.objsubid
    from old as o join new as n on (n.classid, n.objid, n.objsubid, n.kind) = (o.classid, o.objid, o.objsubid, o.kind)
    where is_same_database
  ),
  matches as materialized (
    select s.classid as old_classid, s.objid as old_objid, s.objsubid as old_objsubid, s.classid as new_classid, s.objid as new_objid, s.objsubid as new_objsubid, 'identity' as matched_by
    from same as s
    union all
    select m.*, 'name'
    from (select array_agg(s.classid) as classids, array_agg(s.objid) as objids, array_agg(s.objsubid) as objsubids from same as s) as s
    cross join lateral migration_guard.entries_of_name(
      array(select o.entry from old as o where not exists (select from same as x where (x.classid, x.objid, x.objsubid) = (o.classid, o.objid, o.objsubid))),
      array(select n.entry from new as n where not exists (select from same as x where (x.classid, x.objid, x.objsubid) = (n.classid, n.objid, n.objsubid))),
      s.classids, s.objids, s.objsubids, schema_names) as m
  ),
  pairs as materialized (
    select m.*, o.kind, (o.entry).parent as old_parent, (o.entry).sort_order as old_sort_order, (n.entry).sort_order as new_sort_order,
      -- What is in a schema does not get another name with it.
      (o.entry).name <> (n.entry).name or (o.entry).schema_name <> case when (n.entry).schema_name = live_schema then plan_schema else (n.entry).schema_name end as is_renamed
    from matches as m
    join old as o on (o.classid, o.objid, o.objsubid) = (m.old_classid, m.old_objid, m.old_objsubid)
    join new as n on (n.classid, n.objid, n.objsubid) = (m.new_classid, m.new_objid, m.new_objsubid)
  ),
  -- The OIDs of what was found by name.
  ids as materialized (
    select coalesce(array_agg(p.new_objid::text), '{}') as new, coalesce(array_agg(p.old_objid::text), '{}') as old
    from pairs as p where p.new_objsubid = 0 and p.new_objid <> p.old_objid
  ),
  unreadable as materialized (
    select r.classid, r.objid, r.objsubid
    from (select array_agg(p.new_objid) as objids, array_agg(p.new_objsubid) as subids from pairs as p where p.is_renamed) as n
    cross join lateral migration_guard.live_renames(n.objids, n.subids) as r
    union
    select p.new_classid, p.new_objid, p.new_objsubid from pairs as p where p.is_renamed
  ),
  placed as materialized (
    select p.*, p.kind in ('column', 'attribute', 'enum_value') and
      row_number() over (partition by p.kind, p.old_parent order by p.old_sort_order)
        <> row_number() over (partition by p.kind, p.old_parent order by p.new_sort_order) as is_moved
    from pairs as p
  )
  select e.old, e.new, o.in_plan, o.creation_order, p.matched_by, p.is_renamed,
    -- Most are, to the last byte, what they were: then there is nothing to look for.
    case when e.is_equal then '{}' else migration_guard.differing_aspects(e.old, e.new, migration_guard.translated((e.new).signature, i.new, i.old),
      not exists (select from unreadable as u where (u.classid, u.objid) = (p.new_classid, p.new_objid) and (p.new_objsubid in (u.objsubid, 0) or u.objsubid = 0))
        and not exists (select from unreadable as u where (u.classid, u.objid) = ((e.new).parent_classid, (e.new).parent) and u.objsubid = 0),
      p.is_moved) end
  from placed as p
  join old as o on (o.classid, o.objid, o.objsubid) = (p.old_classid, p.old_objid, p.old_objsubid)
  join new as n on (n.classid, n.objid, n.objsubid) = (p.new_classid, p.new_objid, p.new_objsubid)
  cross join ids as i
  cross join lateral (
    select (o.entry).signature = (n.entry).signature as has_same_signature, o.entry *= n.entry and not p.is_moved as is_equal
  ) as c
  cross join lateral (
    select c.is_equal, case when c.has_same_signature then o.entry else migration_guard.without_places(o.entry) end as old,
      case when c.has_same_signature then n.entry else migration_guard.without_places(n.entry) end as new
  ) as e
  union all
  select migration_guard.without_places(o.entry), null, o.in_plan, o.creation_order, null, false, '{}'
  from old as o
  where not exists (select from matches as m where (m.old_classid, m.old_objid, m.old_objsubid) = (o.classid, o.objid, o.objsubid))
  union all
  select null, migration_guard.without_places(n.entry), null, null, null, false, '{}'
  from new as n
  where not exists (select from matches as m where (m.new_classid, m.new_objid, m.new_objsubid) = (n.classid, n.objid, n.objsubid));
end
$$;
comment on function migration_guard.matched_objects(text, oid[]) is
  'Every object that a backup schema has recorded beside what it is now, and what is new, by the whole catalog; or those of some OIDs, with what belongs to them.';

create function migration_guard.why_versions_mislead(backup_schema text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  recorded record;
  registered record;
begin
  execute format('select m.snapshot::pg_snapshot as snapshot, m.database_identity, m.xmin as version from %I.backup_metadata as m', backup_schema) into recorded;
  select b.metadata_version, b.timeline into registered
  from migration_guard.backups as b where b.schema_name = backup_schema and b.removed_at is null;
  return case
    when recorded.database_identity is distinct from migration_guard.database_identity() then 'the backup was taken in another database'
    when migration_guard.is_far_away(recorded.snapshot) then 'the backup was taken more than two thousand million transactions ago'
    -- Where a server was led back to a point in time, the same numbers come again and mean something else.
    when registered.timeline is distinct from migration_guard.timeline()
      or recorded.version is distinct from registered.metadata_version then 'the backup was taken in another history of this database, or its metadata were written anew'
  end;
end
$$;
comment on function migration_guard.why_versions_mislead(text) is
  'Why the numbers of transactions do not tell what is younger than a backup; null where they do.';

create function migration_guard.with_wholes(classids oid[], objids oid[]) returns table (classid oid, objid oid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  with recursive wholes (classid, objid) as (
    select a.classid, a.objid from unnest(classids, objids) as a (classid, objid)
    union
    select x.classid, x.objid
    from wholes as w
    cross join lateral (
      select d.refclassid, d.refobjid from pg_depend as d
      where d.classid = w.classid and d.objid = w.objid and d.deptype in ('a', 'i', 'P', 'S')
        and d.refclassid not in ('pg_namespace'::regclass, 'pg_publication'::regclass)
      union all
      -- The trigger of a foreign key belongs to that, and says something of the table that it is on.
      select 'pg_class'::regclass, t.tgrelid from pg_trigger as t where w.classid = 'pg_trigger'::regclass and t.oid = w.objid
    ) as x (classid, objid)
  )
  select w.classid, w.objid from wholes as w;
end
$$;
comment on function migration_guard.with_wholes(oid[], oid[]) is
  'Live objects, and all that they are a part of, up to a table, type or function: what is said of that may be read from them.';

create function migration_guard.with_dependents(classids oid[], objids oid[]) returns table (classid oid, objid oid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  with recursive dependents (classid, objid) as (
    select a.classid, a.objid from unnest(classids, objids) as a (classid, objid)
    union
    select x.classid, x.objid
    from dependents as n
    cross join lateral (
      select d.classid, d.objid from pg_depend as d where d.refclassid = n.classid and d.refobjid = n.objid and d.deptype <> 'e'
      union all
      -- What a composite type is made of depends on that, and the index of a constraint on that.
      select d.refclassid, d.refobjid from pg_depend as d
      where n.classid = 'pg_class'::regclass and d.classid = n.classid and d.objid = n.objid
        and d.deptype = 'i' and d.refclassid in ('pg_type'::regclass, 'pg_constraint'::regclass)
      union all
      -- By way of its rule a view depends on what it reads, by way of its default a column.
      select 'pg_class'::regclass, r.ev_class from pg_rewrite as r where n.classid = 'pg_rewrite'::regclass and r.oid = n.objid
      union all
      select 'pg_class'::regclass, f.adrelid from pg_attrdef as f where n.classid = 'pg_attrdef'::regclass and f.oid = n.objid
    ) as x (classid, objid)
  )
  select n.classid, n.objid from dependents as n;
end
$$;
comment on function migration_guard.with_dependents(oid[], oid[]) is
  'Live objects, and all that depends on them, however far: what is said of that may name them.';

create function migration_guard.is_family(backup_schema text, relations oid[]) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  is_recorded boolean;
begin
  execute format($query$
    select exists (
      select from (
        select o.signature from %I.objects_backup as o where o.kind in ('table', 'foreign_table') and o.objid in (select r.id from unnest($1) as r (id)) offset 0
      ) as o
      where o.signature -> 'parents' <> '[]' or o.signature -> 'partitioning' <> 'null')
  $query$, backup_schema) into is_recorded using relations;
  return is_recorded
    or exists (select from pg_inherits as i where i.inhrelid = any (relations) or i.inhparent = any (relations))
    or exists (select from pg_partitioned_table as p where p.partrelid = any (relations));
end
$$;
comment on function migration_guard.is_family(text, oid[]) is
  'Whether any of some relations has or had a parent or an heir, or is or was partitioned.';

create function migration_guard.has_unseen_names(backup_schema text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  has_any boolean;
begin
  execute format($query$
    select exists (
      select from %I.objects_backup as o
      cross join lateral (select concat(o.definition, array_to_string(o.settings, ' ')) as text offset 0) as w
      -- Most have nothing of the kind, which is found sooner.
      where case when position('::reg' in w.text) > 0 then w.text ~ '::reg[a-z]+\[\]' end)
  $query$, backup_schema) into has_any;
  return has_any;
end
$$;
comment on function migration_guard.has_unseen_names(text) is
  'Whether anything that a backup recorded has an array of names of objects (regclass[] and the like) in an expression: Postgres records no dependency on these.';

create function migration_guard.altered_objects(backup_schema text, out why_read text, out altered oid[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
set work_mem = '64MB' set jit = off set enable_mergejoin = off
as $$
declare
  recorded record;
  live record;
  classids oid[];
  objids oid[];
begin
  select b.catalog_fingerprint as fingerprint, v.* into recorded
  from migration_guard.backups as b left join migration_guard.backup_versions as v on v.backup_id = b.id
  where b.schema_name = backup_schema and b.removed_at is null;
  why_read := coalesce(migration_guard.why_versions_mislead(backup_schema),
    case when recorded.fingerprint is null then 'the backup has no fingerprint of the catalog' end);
  if why_read is not null then return; end if;
  select v.* into live from migration_guard.object_versions() as v;
  if live.fingerprint = recorded.fingerprint then
    altered := '{}';
    return;
  end if;
  why_read := 'something in the catalog was altered';
  if live.fingerprint is null then return; end if;
  select array_agg(classid), array_agg(objid) into classids, objids
  from unnest(recorded.classids, recorded.objids, recorded.versions) as r (classid, objid, version)
  full join unnest(live.classids, live.objids, live.versions) as n (classid, objid, version) using (classid, objid)
  where r.version is distinct from n.version;
  -- What a definition may name, or be printed by, without depending on it: roles, operators, casts, what came with Postgres or is beside it.
  if classids is null or exists (
      select from unnest(classids, objids) as c (classid, objid)
      where c.classid not in ('pg_class'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_trigger'::regclass, 'pg_rewrite'::regclass,
          'pg_policy'::regclass, 'pg_statistic_ext'::regclass, 'pg_publication_rel'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass)
        -- Nothing names a schema that is new.
        and (c.classid <> 'pg_namespace'::regclass or c.objid = any (recorded.objids)))
    or exists (select from pg_proc as p where p.oid = any (objids) and p.pronamespace = 'pg_catalog'::regnamespace)
    or exists (select from pg_class as c where c.oid = any (objids) and c.relnamespace = 'pg_catalog'::regnamespace)
    or exists (select from pg_type as t where t.oid = any (objids) and t.typnamespace = 'pg_catalog'::regnamespace) then
    return;
  end if;
  -- No dependency tells any more what that was a part of which is gone.
  execute format($query$
    select $1 || coalesce(array_agg(p.classid), '{}'), $2 || coalesce(array_agg(p.objid), '{}')
    from (
      select o.parent_classid, o.parent
      from %1$I.objects_backup as o join unnest($1, $2) as a (classid, objid) on (a.classid, a.objid) = (o.classid, o.objid)
      where o.parent is not null
      union
      select d.refclassid, d.refobjid
      from %1$I.dependencies_backup as d join unnest($1, $2) as a (classid, objid) on (a.classid, a.objid) = (d.classid, d.objid)
      where d.classid = 'pg_constraint'::regclass and d.refclassid = 'pg_class'::regclass
    ) as p (classid, objid)
  $query$, backup_schema) into classids, objids using classids, objids;
  select array_agg(w.classid), array_agg(w.objid) into classids, objids from migration_guard.with_wholes(classids, objids) as w;
  altered := array(select distinct d.objid from migration_guard.with_dependents(classids, objids) as d);
  -- Parents, heirs and their parts refer to each other in ways of their own; and to look for many takes longer than to read all.
  if cardinality(altered) > 2000 or migration_guard.is_family(backup_schema, altered) or migration_guard.has_unseen_names(backup_schema) then
    altered := null;
  end if;
end
$$;
comment on function migration_guard.altered_objects(text) is
  'OIDs of what may not be as a backup recorded it: what somebody has altered since, made or dropped, and what depends on that. Every other object is, to the
last byte. Null, and why, where that cannot be told; none, and nothing, where nothing was altered.';

create function migration_guard.unaltered_objects(backup_schema text, ids oid[], kinds text[], altered oid[]) returns setof migration_guard.compared_object
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.entry, r.entry, r.in_plan, r.creation_order, 'identity', false, '{}'::text[]
  from migration_guard.recorded_entries(backup_schema, ids, kinds) as r
  where (r.entry).objid not in (select a.id from unnest(altered) as a (id))
    and coalesce((r.entry).parent, 0) not in (select a.id from unnest(altered) as a (id))
$$;
comment on function migration_guard.unaltered_objects(text, oid[], text[], oid[]) is
  'Those objects of recorded_entries beside themselves that are not among the altered ones: what matched_objects tells of them.';

create function migration_guard.compared_objects(backup_schema text, altered oid[]) returns setof migration_guard.compared_object
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  copied oid[];
begin
  if altered is null then
    return query select m.* from migration_guard.matched_objects(backup_schema) as m;
    return;
  end if;
  execute format('select array(select t.source_oid from %I.tables_backup as t)', backup_schema) into copied;
  return query select u.* from migration_guard.unaltered_objects(backup_schema, copied, '{enum_value}', altered) as u;
  if altered <> '{}' then
    return query select m.* from migration_guard.matched_objects(backup_schema, altered) as m;
  end if;
end
$$;
comment on function migration_guard.compared_objects(text, oid[]) is
  'Every object that is not as a backup recorded it beside what it is now, what is new, and the copied tables with what belongs to them, by no
more of the catalog than altered_objects names; by all of it where that is null.';

create function migration_guard.compared_objects(backup_schema text) returns setof migration_guard.compared_object
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select c.* from migration_guard.compared_objects(backup_schema, (select a.altered from migration_guard.altered_objects(backup_schema) as a)) as c;
end
$$;
comment on function migration_guard.compared_objects(text) is
  'The same, by what altered_objects tells now.';

-- What is told of it --------------------------------------------------------------------------------------------------

create function migration_guard.whole_definition(entry migration_guard.catalog_entry, aspects text[]) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select concat_ws(E';\n',
    -- The options of an index are told there.
    case when aspects && '{definition,place}' or 'settings' = any (aspects) and entry.kind = 'index' and not entry.is_internal then entry.definition end,
    case when 'column names' = any (aspects) then 'columns ' || (entry.parts ->> 'columns') end,
    case when 'settings' = any (aspects) then nullif(array_to_string(entry.settings, E';\n'), '') end,
    case when 'owner' = any (aspects) then 'owner ' || quote_ident(entry.owner) end,
    case when 'comment' = any (aspects) then 'comment ' || coalesce(quote_literal(entry.comment), 'null') end,
    case when 'privileges' = any (aspects) then coalesce(nullif(array_to_string(entry.grants, E';\n'), ''), 'default privileges') end)
$$;
comment on function migration_guard.whole_definition(migration_guard.catalog_entry, text[]) is
  'What is to be said of some aspects of an object.';

create function migration_guard.object_drift(compared migration_guard.compared_object[])
returns table (changes text[], kind text, object text, now text, before text, after text, matched_by text)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select
    array_remove(array[
      case when (c.old).classid is null then 'new' when (c.new).classid is null then 'missing' end,
      case when c.is_renamed then 'renamed' end,
      case when c.aspects <> '{}' then 'redefined' end], null),
    coalesce((c.old).kind, (c.new).kind), (c.old).identity, (c.new).identity,
    case when (c.old).classid is not null and a.aspects <> '{}' then migration_guard.whole_definition(c.old, a.aspects) end,
    case when (c.new).classid is not null and a.aspects <> '{}' then migration_guard.whole_definition(c.new, a.aspects) end,
    c.matched_by
  from unnest(compared) as c
  -- What is only on one side is told as a whole: the default of a column, say, is one of its settings.
  cross join lateral (select case when c.matched_by is null then '{definition,settings}' else c.aspects end as aspects) as a
  where c.matched_by is null or c.is_renamed or c.aspects <> '{}'
  order by c.creation_order, coalesce((c.old).kind, (c.new).kind), coalesce((c.old).identity, (c.new).identity)
$$;
comment on function migration_guard.object_drift(migration_guard.compared_object[]) is
  'What there is to be told of those objects that are not as they were recorded: renamed, redefined, missing or new.';

create function migration_guard.schema_drift(backup migration_guard.backups)
returns table (changes text[], kind text, object text, now text, before text, after text, matched_by text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select d.* from migration_guard.object_drift(array(select c from migration_guard.compared_objects(backup.schema_name) as c)) as d
$$;
comment on function migration_guard.schema_drift(migration_guard.backups) is
  'Every object that is not as a backup recorded it: renamed, redefined, missing or new.';

create function migration_guard.catalog_moved(backup migration_guard.backups, new_counts boolean) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select exists (select from migration_guard.schema_drift(backup) as d where new_counts or d.changes <> '{new}') $$;
comment on function migration_guard.catalog_moved(migration_guard.backups, boolean) is
  'Whether any object is not as a backup recorded it; or any that it recorded, where new ones do not count.';
