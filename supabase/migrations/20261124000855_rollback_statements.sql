-- Chapter 8, continued. The statements of a rollback: one function for each thing that is done, each reading what the
-- planner has decided.
--
-- phase   0  locks, and what its owner needs for them
--         1  copies of what goes for good
--         2  defaults, identities and ownerships that would be in the way
--         3  drops of what is new or redefined, or needs such a thing
--         4  names out of the way, then names and schemas as they were (5)
--         6  types, functions, tables and views, made or altered, each after what it needs
--         7  rows
--         8  drops of what the above has replaced
--         9  constraints, indexes, triggers, policies and the like
--        10  settings, owners (11), comments (12), privileges (13), sequences (14), materialized views (15), default privileges (16)
--        17  the comparison of rows whose keys were not asked

create type migration_guard.rollback_statement as (
  phase int,
  position numeric,
  place numeric,
  object text,
  reason text,
  statement text,
  -- The table that is locked, by the name that it has in the backup where it has one.
  "on" text
);
comment on type migration_guard.rollback_statement is 'One statement of a rollback, with its place among the others.';

create function migration_guard.target(kind text, identity text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('%s %s', case
    when kind in ('enum', 'composite_type', 'range_type') then 'type'
    when kind = 'attribute' then 'column'
    when kind = 'domain_constraint' then 'constraint'
    else replace(kind, '_', ' ') end, identity)
$$;
comment on function migration_guard.target(text, text) is 'An object as COMMENT ON and ALTER … OWNER TO name it.';

create function migration_guard.drop_statement(entry migration_guard.catalog_entry, schema_name text, name text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when entry.kind = 'constraint' then format('alter table %I.%I drop constraint %I', schema_name, entry.parent_name, name)
    when entry.kind = 'domain_constraint' then format('alter domain %I.%I drop constraint %I', schema_name, entry.parent_name, name)
    when entry.kind = 'column' then format('alter table %I.%I drop column %I', schema_name, entry.parent_name, name)
    when entry.kind = 'attribute' then format('alter type %I.%I drop attribute %I cascade', schema_name, entry.parent_name, name)
    when entry.kind = 'publication_table' then format('alter publication %I drop table only %I.%I', name, schema_name, entry.parent_name)
    when entry.kind = 'publication_schema' then format('alter publication %I drop tables in schema %I', name, schema_name)
    when entry.kind = 'default_privilege' then (
      select string_agg(format('alter default privileges for role %s in schema %I revoke all on %s from %s', o.role, schema_name, o.objects, g.grantee), E';\n' order by g.grantee)
      from (
        -- "for role … in schema … on tables": the last word is the kind of object.
        select substring(entry.identity from '[a-z]+$') as objects,
          substr(entry.identity, length('for role ') + 1, length(entry.identity) - length('for role ') - length(format(' in schema %I on ', entry.schema_name) || substring(entry.identity from '[a-z]+$'))) as role
      ) as o,
      (
        select distinct case when e.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(e.grantee)) end as grantee
        from aclexplode(migration_guard.acl_items(entry.acl)) as e
      ) as g)
    when entry.kind in ('trigger', 'rule', 'policy') then format('drop %s %I on %I.%I', entry.kind, name, schema_name, entry.parent_name)
    when entry.kind in ('function', 'procedure', 'aggregate') then
      -- One that waits has a name that no other has, and arguments whose types may have others by now.
      format('drop %s %I.%I', case when name <> entry.name and entry.kind = 'aggregate' then 'routine' else entry.kind end, schema_name, name)
        || case when name <> entry.name then '' else substr(entry.identity, length(format('%I.%I', entry.schema_name, entry.name)) + 1) end
    when entry.kind in ('enum', 'composite_type', 'range_type') then format('drop type %I.%I', schema_name, name)
    when entry.kind = 'schema' then format('drop schema %I', name)
    else format('drop %s %I.%I', replace(entry.kind, '_', ' '), schema_name, name) end
$$;
comment on function migration_guard.drop_statement(migration_guard.catalog_entry, text, text) is
  'The statement that drops an object that goes by a name. Never with CASCADE: what goes with it is named in the plan.';

create function migration_guard.rename_statement(entry migration_guard.catalog_entry, schema_name text, parent_name text, name text, new_name text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when entry.kind in ('constraint', 'column') then format('alter table %I.%I rename %s %I to %I', schema_name, parent_name, entry.kind, name, new_name)
    when entry.kind = 'domain_constraint' then format('alter domain %I.%I rename constraint %I to %I', schema_name, parent_name, name, new_name)
    when entry.kind = 'attribute' then format('alter type %I.%I rename attribute %I to %I cascade', schema_name, parent_name, name, new_name)
    when entry.kind = 'enum_value' then format('alter type %I.%I rename value %L to %L', schema_name, parent_name, name, new_name)
    when entry.kind in ('trigger', 'rule', 'policy') then format('alter %s %I on %I.%I rename to %I', entry.kind, name, schema_name, parent_name, new_name)
    when entry.kind in ('function', 'procedure', 'aggregate') then
      format('alter %s %I.%I', entry.kind, schema_name, name) || substr(entry.identity, length(format('%I.%I', entry.schema_name, entry.name)) + 1) || format(' rename to %I', new_name)
    when entry.kind = 'schema' then format('alter schema %I rename to %I', name, new_name)
    else format('alter %s rename to %I', migration_guard.target(entry.kind, format('%I.%I', schema_name, name)), new_name) end
$$;
comment on function migration_guard.rename_statement(migration_guard.catalog_entry, text, text, text, text) is
  'The statement that gives an object another name.';

-- Names ----------------------------------------------------------------------------------------------------------------

create function migration_guard.final_schema(name text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce((select (o.old).name from pg_temp.migration_guard_objects as o where o.kind = 'schema' and o.is and o.was and (o.new).name = final_schema.name), name);
end
$$;
comment on function migration_guard.final_schema(text) is 'The name that a live schema has in the backup.';

create function migration_guard.live_schema(name text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce((select (o.new).name from pg_temp.migration_guard_objects as o where o.kind = 'schema' and o.is and o.was and (o.old).name = live_schema.name), name);
end
$$;
comment on function migration_guard.live_schema(text) is 'The name that a recorded schema has now.';

create function migration_guard.name_scopes(entry migration_guard.catalog_entry, schema_name text, parent_id bigint) returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when entry.kind in ('table', 'foreign_table', 'view', 'materialized_view', 'sequence', 'index', 'enum', 'domain', 'composite_type', 'range_type')
      then 'relation ' || schema_name
    when entry.kind in ('function', 'procedure', 'aggregate') then concat_ws(' ', 'function', schema_name, entry.signature ->> 'proargtypes')
    when entry.kind in ('schema', 'default_privilege') then entry.kind
    when entry.kind = 'statistics' then 'statistics ' || schema_name
    else concat_ws(' ', entry.kind, parent_id) end
  where not (entry.kind = 'index' and entry.is_internal)
  union all
  -- A key has an index of its name.
  select 'relation ' || schema_name where entry.kind = 'constraint' and entry.signature ->> 'contype' in ('p', 'u', 'x')
$$;
comment on function migration_guard.name_scopes(migration_guard.catalog_entry, text, bigint) is
  'Where an object''s name must be the only one of its kind.';

create function migration_guard.choose_waiting_names() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  with wanted as (
    select o.id, s.scope, (o.old).name as name
    from pg_temp.migration_guard_objects as o
    cross join lateral migration_guard.name_scopes(o.old, migration_guard.live_schema((o.old).schema_name), o.old_parent_id) as s (scope)
    where o.was and (o.is_made or o.is_renamed)
  ),
  held as (
    select o.id, s.scope, (o.new).name as name, o.is_dropped
    from pg_temp.migration_guard_objects as o
    cross join lateral migration_guard.name_scopes(o.new, (o.new).schema_name, o.parent_id) as s (scope)
    where o.is and (not o.is_dropped or o.is_late) and (o.new).name in (select w.name from wanted as w)
      and not exists (select from pg_temp.migration_guard_objects as p where p.id = o.parent_id and p.is_dropped and p.kind <> 'schema' and o.kind <> 'enum_value')
  )
  update pg_temp.migration_guard_objects as o set waiting_name = concat_ws('_', 'migration_guard', o.classid, o.objid, nullif(o.objsubid, 0))
  where o.id in (
    select h.id from held as h join wanted as w on w.scope = h.scope and w.name = h.name and (w.id <> h.id or h.is_dropped)
    union
    -- A function is dropped by its name alone, once its arguments' types have the names that they had.
    select f.id from pg_temp.migration_guard_objects as f
    where f.kind in ('function', 'procedure', 'aggregate') and f.is and f.is_dropped and f.is_late and not (f.new).is_internal
    union
    select m.id from pg_temp.migration_guard_objects as m
    where m.is and m.was and not m.is_dropped and (m.old).name <> (m.new).name and (m.old).schema_name <> migration_guard.final_schema((m.new).schema_name));
end
$$;
comment on function migration_guard.choose_waiting_names() is
  'Gives what has the name that another is to have a name to wait under.';

create function migration_guard.rename_statements() returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with renamed as materialized (
    select o.*, coalesce(o.waiting_name, (o.new).name) as current_name, migration_guard.target(o.kind, (o.new).identity) as object,
      (o.new).parent_name as live_parent, case when p.is_dropped or p.old is null then coalesce(p.waiting_name, (p.new).name) else (p.old).name end as final_parent,
      case when migration_guard.is_table(o.kind) then coalesce((o.old).identity, (o.new).identity) when migration_guard.is_table(p.kind) then coalesce((p.old).identity, (p.new).identity) end as on_table,
      case
        when migration_guard.is_type(o.kind) then 2
        when o.parent_id is null then 3
        when o.kind in ('column', 'attribute', 'enum_value') then 4
        when o.kind = 'schema' then 9
        else 5 end as place,
      -- First, while its arguments have the names of today.
      o.kind in ('function', 'procedure', 'aggregate') as is_function
    from pg_temp.migration_guard_objects as o
    left join pg_temp.migration_guard_objects as p on p.id = o.parent_id
    -- What a foreign key to a partitioned table has for each partition can be renamed by itself.
    where o.is and not ((o.new).is_internal and (o.new).signature ->> 'contype' is distinct from 'f')
      and (o.waiting_name is not null or o.is_renamed and not o.is_dropped)
      -- Values of a type that waits get their labels back, by which rows are converted.
      and (not coalesce(p.is_dropped, false) or o.kind = 'enum_value' and p.is_late and p.was)
      -- A column of an heir follows its parent's.
      and not (o.kind = 'column' and ((o.new).parts ->> 'is_inherited')::boolean)
  )
  -- Parts before wholes, which go by their live names still.
  select 4, case when r.is_function then -3 else 10 - r.place end::numeric, r.id::numeric, r.object, coalesce(r.reason, 'renamed'),
    migration_guard.rename_statement(r.new, (r.new).schema_name, r.live_parent, (r.new).name, r.waiting_name), r.on_table
  from renamed as r where r.waiting_name is not null
  union all
  select case when r.is_function then 4 else 5 end, case when r.is_function then -2 else r.place end, r.id, r.object, 'moved',
    format('alter %s set schema %I', case when r.is_function
        then r.kind || ' ' || format('%I.%I', (r.new).schema_name, r.current_name) || substr((r.new).identity, length(format('%I.%I', (r.new).schema_name, (r.new).name)) + 1)
      else migration_guard.target(r.kind, format('%I.%I', (r.new).schema_name, r.current_name)) end,
      migration_guard.live_schema((r.old).schema_name)), r.on_table
  from renamed as r
  where not r.is_dropped and r.parent_id is null and r.kind <> 'schema' and (r.old).schema_name <> migration_guard.final_schema((r.new).schema_name)
    -- A sequence moves with the table that owns it, if that still does.
    and not (r.kind = 'sequence' and not ((r.new).signature -> 'owned_by' ->> 2 = 'a' and (r.is_reset or 'settings' = any (r.aspects))) and exists (
      select from pg_temp.migration_guard_links as l join pg_temp.migration_guard_objects as c on c.id = l.ref_id join pg_temp.migration_guard_objects as t on t.id = c.parent_id
      where l.id = r.id and l.via = 'owned' and (t.old).schema_name <> migration_guard.final_schema((t.new).schema_name)))
  union all
  select case when r.is_function then 4 else 5 end, case when r.is_function then -1 else r.place + 0.5 end, r.id, r.object, 'renamed',
    migration_guard.rename_statement(r.new, migration_guard.live_schema((r.old).schema_name), r.final_parent, r.current_name, (r.old).name), r.on_table
  from renamed as r
  where (not r.is_dropped or r.kind = 'enum_value') and r.was and r.is and r.current_name <> (r.old).name;
end
$$;
comment on function migration_guard.rename_statements() is
  'Gives names and schemas back: first out of the way what has the name of another.';

-- Drops, and what comes before ----------------------------------------------------------------------------------------

create function migration_guard.has_other_type(old migration_guard.catalog_entry, new migration_guard.catalog_entry, aspects text[]) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return 'definition' = any (aspects) and new.signature ->> 'of_type' <> coalesce(
    (select y.objid::text from pg_temp.migration_guard_objects as y where y.kind = 'composite_type' and y.is and y.old_objid::text = old.signature ->> 'of_type'),
    old.signature ->> 'of_type');
end
$$;
comment on function migration_guard.has_other_type(migration_guard.catalog_entry, migration_guard.catalog_entry, text[]) is
  'Whether a table is of another composite type than it was, or is of one and was of none, or the other way round.';

create function migration_guard.has_identity_of_root(relation migration_guard.catalog_entry) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select (relation.signature ->> 'is_partition')::boolean and current_setting('server_version_num')::int >= 170000 $$;
comment on function migration_guard.has_identity_of_root(migration_guard.catalog_entry) is
  'Whether a table is a partition on a Postgres that gives it the identity of its root when it is attached, and takes that away when it is detached: from 17 on.';

create function migration_guard.loosening_statements() returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  -- Defaults that need what goes, or that are others now.
  select 2, o.id::numeric, 1::numeric, migration_guard.target(o.kind, (o.new).identity), coalesce(o.reason, 'redefined'),
    format('alter table only %I.%I alter column %I drop default', (o.new).schema_name, (o.new).parent_name, (o.new).name), (t.new).identity
  from pg_temp.migration_guard_objects as o
  join pg_temp.migration_guard_objects as t on t.id = o.parent_id
  where (not o.is_same or o.is_reset or o.is_retyped) and o.kind = 'column' and o.is and o.was and t.kind = 'table' and not t.is_dropped and (o.new).signature ->> 'generated' = ''
    and (o.new).signature ->> 'default' is not null
    and (o.is_reset or o.is_retyped or 'settings' = any (o.aspects) and (o.new).signature -> 'default' <> coalesce((o.old).signature -> 'default', 'null'))
  union all
  select 2, o.id, 2, migration_guard.target(o.kind, (o.new).identity), 'redefined',
    format('alter table %I.%I alter column %I drop identity', (o.new).schema_name, (o.new).parent_name, (o.new).name), (t.new).identity
  from pg_temp.migration_guard_objects as o
  join pg_temp.migration_guard_objects as t on t.id = o.parent_id
  where o.kind = 'column' and o.is and o.was and t.kind = 'table' and not t.is_dropped and not ((o.new).parts ->> 'is_inherited')::boolean
    and (o.new).signature ->> 'identity' <> ''
    and ((o.old).signature ->> 'identity' = '' or migration_guard.has_identity_of_root(t.old) and not ((t.new).signature ->> 'is_partition')::boolean)
    -- That of a partition goes with its parent.
    and not (o.new).parts ? 'is_left'
  union all
  -- What needs itself first gets to need nothing.
  select 2, o.id, 4, migration_guard.target(o.kind, (o.new).identity), coalesce(o.reason, 'redefined'),
    format('create or replace view %s as select %s', (o.new).identity, (
      select string_agg(format('null::%s%s as %I', format_type(a.atttypid, a.atttypmod),
        case when a.attcollation <> t.typcollation then ' collate ' || a.attcollation::regcollation else '' end, a.attname), ', ' order by a.attnum)
      from pg_attribute as a join pg_type as t on t.oid = a.atttypid where a.attrelid = o.objid and a.attnum > 0)), null
  from pg_temp.migration_guard_objects as o where o.is_circular
  union all
  -- A sequence that stays does not go with the column that owns it now.
  select 2, o.id, 3, migration_guard.target(o.kind, (o.new).identity), coalesce(o.reason, 'redefined'),
    format('alter sequence %s owned by none', (o.new).identity), null
  from pg_temp.migration_guard_objects as o
  where o.kind = 'sequence' and o.is and o.was and not o.is_dropped and (o.new).signature -> 'owned_by' ->> 2 = 'a'
    and (o.is_reset or 'settings' = any (o.aspects))
  union all
  select 0, -1, o.id, migration_guard.target(o.kind, (o.new).identity), 'rows', format('grant all on table %s to %I', (o.new).identity, (o.new).owner), (o.new).identity
  from pg_temp.migration_guard_objects as o
  where o.kind = 'table' and o.is and 'privileges' = any (o.aspects)
    and not (has_table_privilege(o.objid, 'select') and has_table_privilege(o.objid, 'insert') and has_table_privilege(o.objid, 'delete'))
  union all
  -- Out of parents that it did not have.
  select 2, o.id, 4, migration_guard.target(o.kind, (o.new).identity), 'redefined',
    case when ((o.new).signature ->> 'is_partition')::boolean then format('alter table %s detach partition %s', p.name, (o.new).identity)
      else format('alter table %s no inherit %s', (o.new).identity, p.name) end, (o.new).identity
  from pg_temp.migration_guard_objects as o
  cross join lateral jsonb_array_elements((o.new).signature -> 'parents') with ordinality as s (oid, number)
  join lateral (select (o.new).parts -> 'parents' ->> (s.number - 1)::int as name) as p on true
  where migration_guard.is_table(o.kind) and o.is and o.was and 'definition' = any (o.aspects) and not o.is_dropped
    and migration_guard.leaves_parent(o.old, o.new, s.oid #>> '{}')
  union all
  -- A column of a typed table goes with the attribute of its type, but not where the table has become one since.
  select 2, o.id, 4, migration_guard.target(o.kind, (o.new).identity), 'redefined', format('alter table %s not of', (o.new).identity), (o.new).identity
  from pg_temp.migration_guard_objects as o
  where o.kind = 'table' and o.is and o.was and not o.is_dropped and migration_guard.has_other_type(o.old, o.new, o.aspects) and (o.new).signature ->> 'of_type' <> '0'
  union all
  -- What waits to be read would follow the columns of a parent that stays, and cannot lose a check that it shares with one.
  select 2, o.id, 5, migration_guard.target(o.kind, (o.new).identity), o.reason, format('alter table %s no inherit %s', (o.new).identity, (p.new).identity), (o.old).identity
  from pg_temp.migration_guard_objects as o
  join pg_temp.migration_guard_objects as p on p.kind = 'table' and p.is and (o.new).signature -> 'parents' @> to_jsonb(p.objid::text)
  where o.kind = 'table' and o.is and o.was and o.is_dropped and not ((o.new).signature ->> 'is_partition')::boolean
    and exists (
      select from pg_temp.migration_guard_objects as c
      where c.kind = 'column' and c.parent_id = p.id and not p.is_dropped and (c.is_renamed or c.is_retyped)
        or c.kind = 'constraint' and c.parent_id = o.id and c.is_dropped and not (c.new).is_internal and (c.new).signature ->> 'coninhcount' <> '0');
end
$$;
comment on function migration_guard.loosening_statements() is
  'Gives its owner the rights on a table, and takes away defaults, identities, ownerships and parents that would keep something from being dropped.';

create function migration_guard.drop_statements() returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select d.phase,
    -- An attribute goes when nothing needs the columns that go with it.
    case d.phase when 2 then -1 else greatest(o.level, case when o.kind = 'attribute' then (
      select max(c.level) from pg_temp.migration_guard_objects as c join pg_class as r on r.oid = c.objid and r.reloftype = (o.new).parent
      where c.kind = 'column' and c.is_dropped and (c.new).name = (o.new).name) end) end::numeric, o.id::numeric, migration_guard.target(o.kind, (o.new).identity), o.reason,
    migration_guard.drop_statement(o.new,
      case when o.is_late then migration_guard.final_schema((o.new).schema_name) else (o.new).schema_name end, coalesce(o.waiting_name, (o.new).name)),
    coalesce((t.old).identity, (t.new).identity)
  from pg_temp.migration_guard_objects as o
  left join pg_temp.migration_guard_objects as t on t.id = case when migration_guard.is_table(o.kind) then o.id else o.parent_id end and migration_guard.is_table(t.kind)
  cross join lateral (
    -- No partition is detached while a key refers to rows of it. What a partition has of a key of its root goes with that, or when it has left it.
    select case when o.is_late then 8
      when o.kind = 'constraint' and exists (select from pg_class as c where c.oid = ((o.new).signature ->> 'confrelid')::oid and c.relkind = 'p')
        and exists (select from pg_constraint as k where k.oid = o.objid and k.conparentid = 0) then 2
      else 3 end as phase
  ) as d
  where o.is and o.is_dropped
    and o.kind not in ('enum_value', 'schema') and not ((o.new).is_internal and o.kind <> 'column')
    -- An heir loses a column with its parent, and a typed table with its type.
    and not (o.kind = 'column' and (((o.new).parts ->> 'is_inherited')::boolean or coalesce((t.new).signature ->> 'of_type' <> '0' and not migration_guard.has_other_type(t.old, t.new, t.aspects), false)))
    and not (o.kind = 'constraint' and exists (
      select from pg_constraint as k
      join pg_class as c on c.oid = k.confrelid and c.relkind = 'p'
      join pg_temp.migration_guard_objects as p on p.classid = 'pg_constraint'::regclass and p.objid = k.conparentid and p.objsubid = 0 and p.is_dropped
      where k.oid = o.objid))
    -- A check that a parent has lost with its column stays inherited, and goes with the heir alone.
    and not (o.kind = 'constraint' and (o.new).signature ->> 'contype' = 'c' and (o.new).signature ->> 'coninhcount' <> '0' and t.is_dropped and not exists (
      select from pg_constraint as c
      where c.contype = 'c' and c.conname = (o.new).name and (t.new).signature -> 'parents' @> to_jsonb(c.conrelid::text)))
    -- What goes with its table, view, type or column has no statement of its own.
    -- But a part that needs something else that goes must not keep that, and values get another type without an attribute that it does not have.
    and not exists (
      select from pg_temp.migration_guard_objects as p
      where p.id = o.parent_id and p.is_dropped and (o.kind = 'column' or o.kind = 'attribute' and not p.was or not p.is_late and not exists (
        select from pg_temp.migration_guard_links as l join pg_temp.migration_guard_objects as r on r.id = l.ref_id
        where l.id = o.id and r.is_dropped and r.id <> p.id and r.parent_id is distinct from p.id)))
    and not (o.kind = 'sequence' and exists (
      select from pg_temp.migration_guard_links as l join pg_temp.migration_guard_objects as r on r.id = l.ref_id
      where l.id = o.id and l.via = 'owned' and (r.is_dropped or (o.new).signature -> 'owned_by' ->> 2 = 'i')))
    -- A partition goes with its root.
    and not (o.kind = 'table' and ((o.new).signature ->> 'is_partition')::boolean and exists (
      select from pg_temp.migration_guard_links as l join pg_temp.migration_guard_objects as r on r.id = l.ref_id
      where l.id = o.id and r.kind = 'table' and r.is_dropped and r.is_late = o.is_late))
    and not exists (
      select from pg_temp.migration_guard_objects as r
      where r.is_dropped and r.kind = o.kind and o.kind in ('trigger', 'constraint', 'index')
        and r.objid::text = coalesce((o.new).signature ->> 'conparentid', (o.new).signature ->> 'tgparentid', (o.new).signature ->> 'parent'));
end
$$;
comment on function migration_guard.drop_statements() is
  'Drops what goes, each after what needs it.';

-- Making and altering -------------------------------------------------------------------------------------------------

create function migration_guard.part_of(entry migration_guard.catalog_entry) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select nullif(coalesce(entry.signature ->> 'conparentid', entry.signature ->> 'parent'), '0') $$;
comment on function migration_guard.part_of(migration_guard.catalog_entry) is
  'The OID of the key or index of the whole that one of a partition is attached to.';

create function migration_guard.rejoining_parts() returns table (id bigint, place numeric, definition text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with recursive parts as (
    select o.id, o.kind, o.old, t.creation_order + 0.0 as place,
      format(E';\nalter index %I.%I attach partition %I.%I', (r.old).schema_name, (r.old).name, (o.old).schema_name, (o.old).name) as attachment
    from pg_temp.migration_guard_objects as o
    join pg_temp.migration_guard_objects as t on t.id = o.old_parent_id and t.is and t.was and not t.is_dropped and 'definition' = any (t.aspects)
    join pg_temp.migration_guard_objects as r on r.is and not r.is_dropped and r.kind = o.kind and (r.old).objid::text = migration_guard.part_of(o.old)
    where o.is_made and o.kind in ('constraint', 'index') and not (o.old).is_internal and ((t.old).signature ->> 'is_partition')::boolean
      and (not ((t.new).signature ->> 'is_partition')::boolean or migration_guard.leaves_parent(t.old, t.new, (t.new).signature -> 'parents' ->> 0))
    union all
    -- Those of its own partitions, which have stayed.
    select o.id, o.kind, o.old, p.place, ''
    from parts as p
    join pg_temp.migration_guard_objects as o on o.is_made and o.kind = p.kind and migration_guard.part_of(o.old) = (p.old).objid::text
    join pg_temp.migration_guard_objects as t on t.id = o.old_parent_id and t.is and not t.is_dropped
  )
  -- The attachment is the end of the definition.
  select p.id, p.place, left((p.old).definition, -length(p.attachment)) from parts as p where p.attachment <> '' and right((p.old).definition, length(p.attachment)) = p.attachment
  union all
  select p.id, p.place, (p.old).definition from parts as p where p.attachment = '';
end
$$;
comment on function migration_guard.rejoining_parts() is
  'Keys and indexes that a partition has lost while it was no part of its whole, to whose they were attached: where they are to
be made so that Postgres takes them when the partition comes back, and finds nothing to be missing.';

create function migration_guard.make_statements(backup_schema text) returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute format($query$
    with made as (
      select o.*, b.needs_shell, b as recorded,
        coalesce(o.creation_order, w.creation_order)::numeric as place,
        -- What a table, view or function needs comes before it, even a key. A domain's check that was never validated comes after the rows.
        case when o.kind = 'domain_constraint' and not ((o.old).signature ->> 'convalidated')::boolean or (migration_guard.is_table_part(o.kind) or o.kind = 'domain_constraint' and w.is and not w.is_dropped) and not exists (
            select from %1$I.dependencies_backup as d
            join pg_temp.migration_guard_objects as n on ((n.old).classid, (n.old).objid, (n.old).objsubid) = (d.classid, d.objid, 0)
            where (d.refclassid, d.refobjid) = ((o.old).classid, (o.old).objid) and not d.is_setting and not migration_guard.is_table_part(n.kind) and n.is_made)
          then 9 else 6 end as phase,
        o.kind = 'sequence' and (o.old).definition ~ '^alter' and exists (
          select from pg_temp.migration_guard_objects as t
          where (t.old).classid = (o.old).parent_classid and (t.old).objid = (o.old).parent and (t.old).objsubid = 0 and t.is and not t.is_dropped) as is_altered,
        j.place as rejoins_at, j.definition as rejoining
      from pg_temp.migration_guard_objects as o
      join %1$I.objects_backup as b on (b.classid, b.objid, b.objsubid) = ((o.old).classid, (o.old).objid, (o.old).objsubid)
      left join pg_temp.migration_guard_objects as w on w.id = o.old_parent_id
      left join migration_guard.rejoining_parts() as j on j.id = o.id
      where o.is_made and not (o.old).is_internal and o.kind not in ('column', 'attribute', 'enum_value', 'default_privilege')
        -- A partition that is attached to a table that stays gets its keys and indexes from that.
        and not (o.kind in ('constraint', 'index') and exists (
          select from pg_temp.migration_guard_objects as r
          where r.is and not r.is_dropped and r.kind = o.kind and (r.old).objid::text = coalesce((o.old).signature ->> 'conparentid', (o.old).signature ->> 'parent'))
          and not exists (select from pg_temp.migration_guard_objects as t where t.id = o.old_parent_id and t.is and not t.is_dropped))
    )
    select 6, (
        select min(n.place) from made as n
        join %1$I.dependencies_backup as d on (d.classid, d.objid, d.refclassid, d.refobjid) = ((n.old).classid, (n.old).objid, (m.old).classid, (m.old).objid)
        where not d.is_setting
      ) - 0.5, 0::numeric, migration_guard.target(m.kind, (m.old).identity), coalesce(m.reason, 'missing'), %1$I.shell_definition(m.recorded), null
    from made as m where m.needs_shell
    union all
    -- The sequence of an identity is there when its column has that again.
    select case when m.is_altered then 9 when m.rejoins_at is not null then 6 else m.phase end,
      case when m.is_altered then 0.7 else coalesce(m.rejoins_at, m.place) end,
      -- Just before its table comes back, and the whole before its parts.
      case when m.is_altered then m.id when m.rejoins_at is not null then 5.5 + m.place / 1e9 else 0 end,
      migration_guard.target(m.kind, (m.old).identity), coalesce(m.reason, 'missing'),
      coalesce(m.rejoining, (m.old).definition) || case when m.kind = 'sequence' and (m.old).definition ~ '^alter' then ' restart' else '' end,
      case when m.kind in ('table', 'foreign_table') then (m.old).identity when migration_guard.is_table_part(m.kind) then format('%%I.%%I', (m.old).schema_name, (m.old).parent_name) end
    from made as m
    union all
    -- A type and a sequence can have one name, but with the type there no sequence is made.
    select m.phase, m.place, n.place, migration_guard.target(t.kind, (t.old).identity), 'needs its name',
      format('alter %%s rename to %%I', migration_guard.target(t.kind, format('%%I.%%I', (t.old).schema_name, n.name)), n.new_name), null
    from made as m
    join pg_temp.migration_guard_objects as t on ((t.old).schema_name, (t.old).name) = ((m.old).schema_name, (m.old).name) and migration_guard.is_type(t.kind)
    cross join lateral (
      values (-1, (t.old).name, 'migration_guard_type_' || t.old_objid), (1, 'migration_guard_type_' || t.old_objid, (t.old).name)
    ) as n (place, name, new_name)
    where m.kind = 'sequence' and not m.is_altered and (not t.is_made or t.creation_order < m.place)
    union all
    select 16, 0, o.id, migration_guard.target(o.kind, (o.old).identity), coalesce(o.reason, 'missing'), (o.old).definition, null
    from pg_temp.migration_guard_objects as o where o.is_made and o.kind = 'default_privilege'
  $query$, backup_schema);
end
$$;
comment on function migration_guard.make_statements(text) is
  'Makes what is missing, redefined or was dropped on the way, each after what it needs.';

create function migration_guard.are_ambiguous(signature jsonb, other jsonb) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select one.defaults + two.defaults > 0 and one.arguments - one.defaults <= two.arguments and two.arguments - two.defaults <= one.arguments
  from (select (signature ->> 'pronargs')::int as arguments, (signature ->> 'pronargdefaults')::int as defaults) as one
  cross join (select (other ->> 'pronargs')::int as arguments, (other ->> 'pronargdefaults')::int as defaults) as two
$$;
comment on function migration_guard.are_ambiguous(jsonb, jsonb) is
  'Whether one call could be of either of two functions of one name, for all that defaults add to their arguments.';

create function migration_guard.ambiguity_statements(backup_schema text) returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute format($query$
    with needs as (
      select o.id, o.kind, o.old, o.creation_order, d.refclassid, d.refobjid, case when d.is_setting then 10 when migration_guard.is_table_part(o.kind) then 9 else 6 end as phase
      from pg_temp.migration_guard_objects as o
      join %1$I.dependencies_backup as d on (d.classid, d.objid, 0) = ((o.old).classid, (o.old).objid, (o.old).objsubid)
      where o.is_made and not (o.old).is_internal
        or d.is_setting and exists (
          select from pg_temp.migration_guard_objects as c
          where c.old_parent_id = o.id and c.kind = 'column' and (c.is_made or c.is_reset or c.is_retyped or 'settings' = any (c.aspects)))
    ),
    hidden as (
      select distinct n.id, n.kind, n.old, n.creation_order, n.phase, g.old_objid as function_oid, g.kind as function_kind, g.old as function
      from needs as n
      join pg_temp.migration_guard_objects as f on ((f.old).classid, (f.old).objid) = (n.refclassid, n.refobjid) and f.kind = 'function'
      join pg_temp.migration_guard_objects as g on g.kind in ('function', 'procedure') and g.id <> f.id and ((g.old).schema_name, (g.old).name) = ((f.old).schema_name, (f.old).name)
      where migration_guard.are_ambiguous((f.old).signature, (g.old).signature)
        and (n.phase > 6 or g.is and not g.is_dropped or g.creation_order < n.creation_order)
        and not exists (select from needs as x where x.id = n.id and (x.refclassid, x.refobjid) = ((g.old).classid, (g.old).objid))
    )
    select h.phase, h.creation_order::numeric, s.place, migration_guard.target(h.function_kind, (h.function).identity), 'hidden from ' || migration_guard.target(h.kind, (h.old).identity),
      migration_guard.rename_statement(h.function, (h.function).schema_name, null, s.name, s.new_name), null
    from hidden as h
    cross join lateral (
      values (-1, (h.function).name, 'migration_guard_function_' || h.function_oid), (1e9, 'migration_guard_function_' || h.function_oid, (h.function).name)
    ) as s (place, name, new_name)
  $query$, backup_schema);
end
$$;
comment on function migration_guard.ambiguity_statements(text) is
  'Keeps away, while an object is made, the functions that Postgres could not tell from the one that its definition means:
they came after it.';

create function migration_guard.name_foreign_key_parts(relation regclass, constraint_name text, names jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  part record;
begin
  for part in
    with recursive parts as (
      select c.oid, c.conrelid, c.confrelid, c.conname
      from pg_constraint as c where c.conrelid = relation and c.conname = constraint_name and c.contype = 'f'
      union all
      select c.oid, c.conrelid, c.confrelid, c.conname from parts as p join pg_constraint as c on c.conparentid = p.oid and c.contype = 'f'
    ),
    renamed as materialized (
      select p.conrelid, p.conname, n.value ->> 2 as name, 'migration_guard_' || p.oid as waiting_name
      from parts as p
      join jsonb_array_elements(names) as n (value) on (to_regclass(n.value ->> 0), to_regclass(n.value ->> 1)) = (p.conrelid, p.confrelid)
      where p.conname <> n.value ->> 2
    )
    -- One may have the name of another.
    select 1 as round, r.conrelid, r.conname, r.waiting_name as name from renamed as r
    union all
    select 2, r.conrelid, r.waiting_name, r.name from renamed as r
    order by 1
  loop
    execute format('alter table %s rename constraint %I to %I', part.conrelid::regclass, part.conname, part.name);
  end loop;
end
$$;
comment on function migration_guard.name_foreign_key_parts(regclass, text, jsonb) is
  'Names what a foreign key between partitioned tables has for each partition: [table, table that it refers to, name] of each.
Postgres numbers them as they come, and so otherwise when some have gone in between.';

create function migration_guard.part_name_statements() returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with recursive parts as (
    select o.id as root_id, (o.old).objid as objid, null::jsonb as name, o.is_made as is_made
    from pg_temp.migration_guard_objects as o
    where o.kind = 'constraint' and o.was and not (o.old).is_internal and (o.old).signature ->> 'contype' = 'f'
    union all
    select p.root_id, (o.old).objid,
      jsonb_build_array(format('%I.%I', (o.old).schema_name, (o.old).parent_name), (t.old).identity, (o.old).name), not o.is or o.is_dropped
    from parts as p
    join pg_temp.migration_guard_objects as o on o.kind = 'constraint' and (o.old).signature ->> 'conparentid' = p.objid::text
    join pg_temp.migration_guard_objects as t on (t.old).objid::text = (o.old).signature ->> 'confrelid' and (t.old).objsubid = 0
  )
  select 9, case when o.is_made then o.creation_order else 1e6 end::numeric, 1::numeric, migration_guard.target(o.kind, (o.old).identity), coalesce(o.reason, 'missing'),
    format('select migration_guard.name_foreign_key_parts(%L, %L, %L)', r.table_name, (o.old).name, r.names), r.table_name
  from (
    select p.root_id, jsonb_agg(p.name order by p.name) filter (where p.name is not null) as names from parts as p
    group by p.root_id having bool_or(p.is_made)
  ) as n
  join pg_temp.migration_guard_objects as o on o.id = n.root_id
  cross join lateral (select format('%I.%I', (o.old).schema_name, (o.old).parent_name) as table_name, n.names) as r
  where r.names is not null;
end
$$;
comment on function migration_guard.part_name_statements() is
  'Gives their names to the parts of foreign keys that Postgres has made anew.';

create function migration_guard.stored_form(expression text, type text, stored_type text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- As in stored_columns, which reads it from the live catalog.
  select case
    when stored_type = type then expression
    when stored_type = 'text' then format('case when num_nulls(%1$s) = 0 then format(''%%s'', %1$s) end', expression)
    else format('%s::%s', expression, stored_type) end
$$;
comment on function migration_guard.stored_form(text, text, text) is
  'A value of a type in the form in which a backup stores it.';

create function migration_guard.database_time_zone() returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select s.reset_val from pg_settings as s where s.name = 'TimeZone' $$;
comment on function migration_guard.database_time_zone() is
  'The time zone of a session that says nothing else, as that of a migration.';

create function migration_guard.holds_time(type oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive parts (oid) as (
    select holds_time.type
    union
    select p.oid
    from parts as h
    join pg_type as t on t.oid = h.oid
    cross join lateral (
      select t.typbasetype union all select t.typelem
      union all select r.rngsubtype from pg_range as r where t.oid in (r.rngtypid, r.rngmultitypid)
      union all select a.atttypid from pg_attribute as a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    ) as p (oid)
    where p.oid <> 0
  )
  select bool_or(p.oid in ('timestamptz'::regtype, 'timestamp'::regtype, 'timetz'::regtype, 'time'::regtype, 'date'::regtype))
    -- Of one that is gone it is not known.
    or not exists (select from pg_type as t where t.oid = holds_time.type)
  from parts as p
$$;
comment on function migration_guard.holds_time(oid) is
  'Whether values of a type are or hold times, which become others in another time zone.';

create function migration_guard.needs_time_zone(old migration_guard.catalog_entry, new migration_guard.catalog_entry) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select old.signature -> 'type' <> new.signature -> 'type'
    and (migration_guard.holds_time((old.signature ->> 'type')::oid) or migration_guard.holds_time((new.signature ->> 'type')::oid))
$$;
comment on function migration_guard.needs_time_zone(migration_guard.catalog_entry, migration_guard.catalog_entry) is
  'Whether the live values of a column may become others in another time zone when they get the type that it had.';

create function migration_guard.time_zone_statement(is_database_zone boolean) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('set local timezone = %L', case when is_database_zone then migration_guard.database_time_zone() else 'UTC' end)
$$;
comment on function migration_guard.time_zone_statement(boolean) is
  'The statement that has what follows done in the time zone of the database, or in the one of backups again.';

create function migration_guard.conversion(old migration_guard.catalog_entry, new migration_guard.catalog_entry, expression text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- A cast that Postgres brings, and by way of text to and from what somebody made.
  select case
    when old.parts ->> 'type' = new.parts ->> 'type' and old.signature -> 'type' = new.signature -> 'type' and (old.signature ->> 'type')::oid < 16384 then expression
    when exists (
      select from pg_cast as c where c.castsource = (new.signature ->> 'type')::oid and c.casttarget = (old.signature ->> 'type')::oid and c.oid < 16384)
      then format('%s::%s', expression, old.parts ->> 'type')
    -- The text of the type's own output function: a cast to text could be somebody's function.
    else format('(%s)::%s', migration_guard.stored_form(expression, '', 'text'), old.parts ->> 'type') end
$$;
comment on function migration_guard.conversion(migration_guard.catalog_entry, migration_guard.catalog_entry, text) is
  'A live value as the type that its column had.';

create function migration_guard.column_statements() returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with columns as materialized (
    select o.*, t.creation_order as place, (t.old).identity as on_table, migration_guard.target(o.kind, (o.old).identity) as object,
      coalesce(o.reason, 'redefined') as why, format('alter table %s alter column %I ', (t.old).identity, (o.old).name) as alters,
      migration_guard.has_identity_of_root(t.old) as has_identity_of_root,
      -- That of a whole is gone by then with it.
      case when (o.new).parts ? 'is_left' and migration_guard.has_identity_of_root(t.new) then '' else (o.new).signature ->> 'identity' end as identity
    from pg_temp.migration_guard_objects as o
    join pg_temp.migration_guard_objects as t on t.id = o.parent_id
    where o.kind = 'column' and o.is and o.was and (not o.is_same or o.is_retyped) and t.kind = 'table' and t.was and not t.is_dropped
      and not ((o.new).parts ->> 'is_inherited')::boolean
  )
  select 6, c.place::numeric, 1::numeric, c.object, c.why,
    c.alters || concat_ws(' ', 'type ' || ((c.old).parts ->> 'type'), 'collate ' || ((c.old).parts ->> 'collation'),
      'using ' || migration_guard.conversion(c.old, c.new, quote_ident((c.old).name))), c.on_table
  from columns as c where c.is_retyped
  union all
  select distinct 6, c.place::numeric, z.place, migration_guard.target('table', c.on_table), 'redefined', migration_guard.time_zone_statement(z.place < 1), null
  from columns as c cross join (values (0.9), (1.1)) as z (place)
  where c.is_retyped and migration_guard.needs_time_zone(c.old, c.new)
  union all
  -- An index has column names of its own.
  select 5, 7, o.id, migration_guard.target(o.kind, (o.old).identity), 'renamed',
    format('alter table %s rename column %I to %I', (o.old).identity, n.name, p.name), format('%I.%I', (o.old).schema_name, (o.old).parent_name)
  from pg_temp.migration_guard_objects as o
  cross join lateral jsonb_array_elements_text((o.old).parts -> 'columns') with ordinality as p (name, number)
  cross join lateral (select (o.new).parts -> 'columns' ->> (p.number - 1)::int as name) as n
  where o.kind = 'index' and o.is and o.was and not o.is_dropped and n.name <> p.name
    and not exists (select from pg_temp.migration_guard_objects as t where t.id = o.parent_id and t.is_dropped)
    -- One of a key that goes is there no more.
    and not exists (
      select from pg_temp.migration_guard_objects as k
      where k.kind = 'constraint' and k.parent_id = o.parent_id and k.is_dropped and (k.new).name = (o.new).name and (k.new).signature ->> 'contype' in ('p', 'u', 'x'))
    -- Swapped, they would need a third.
    and not (o.new).parts -> 'columns' ? p.name
  union all
  select 9, 0.5, c.id, c.object, c.why,
    case when c.identity <> '' then c.alters || format('set generated %s', k.kind)
      else c.alters || format('add generated %s as identity%s', k.kind, coalesce((
        select format(' (sequence name %s)', (q.old).identity) from pg_temp.migration_guard_objects as q
        where q.kind = 'sequence' and (q.old).signature -> 'owned_by' = jsonb_build_array((c.old).objid, (c.old).objsubid, 'i')), '')) end, c.on_table
  from columns as c
  cross join lateral (select case (c.old).signature ->> 'identity' when 'a' then 'always' else 'by default' end as kind) as k
  where (c.old).signature ->> 'identity' not in ('', c.identity) and not c.has_identity_of_root;
end
$$;
comment on function migration_guard.column_statements() is
  'Gives columns of tables that stay the type and identity that they had, and those of indexes their names.';

create function migration_guard.parents_not_null(relation migration_guard.catalog_entry, column_name text, out was boolean, out "is" boolean, out is_passed_on boolean, out name text, out live_name text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  select coalesce(bool_or((c.old).signature ->> 'not_null' = 'true' and not s.was_private), false),
    coalesce(bool_or((c.new).signature ->> 'not_null' = 'true' and not s.is_private), false), coalesce(bool_or(s.was_private and not s.is_private), false),
    min((c.old).parts ->> 'not_null_name'), min((c.new).parts ->> 'not_null_name')
  into was, "is", is_passed_on, name, live_name
  -- By the index of those: a table with many partitions would be looked through for each of them otherwise.
  from jsonb_array_elements_text(relation.signature -> 'parents') as r (oid)
  cross join lateral (
    select x.id from pg_temp.migration_guard_objects as x where x.kind = 'table' and (x.classid, x.objid, x.objsubid) = ('pg_class'::regclass::oid, r.oid::oid, 0) offset 0
  ) as p
  join pg_temp.migration_guard_objects as c on c.parent_id = p.id and c.kind = 'column' and c.is and c.was and (c.new).name = column_name
  cross join lateral (
    select coalesce(((c.old).signature ->> 'not_null_no_inherit')::boolean, false) as was_private,
      coalesce(((c.new).signature ->> 'not_null_no_inherit')::boolean, false) as is_private
  ) as s;
end
$$;
comment on function migration_guard.parents_not_null(migration_guard.catalog_entry, text) is
  'Whether a column of a table had to be not null because of a parent, whether it has to be now, whether that is so only since the parent''s is
not no inherit any more, and what the constraint of the parent was called and is.';

create function migration_guard.not_null_columns()
returns table (
  id bigint, old migration_guard.catalog_entry, new migration_guard.catalog_entry, place numeric, on_table text, object text, why text, alters text,
  -- From a parent, which may have to be not null itself, or had to.
  is_inherited boolean, parent_was boolean, parent_is boolean, parent_passes_on boolean,
  was boolean, "is" boolean, was_own boolean, is_own boolean,
  -- As that of its parent, when it came from there.
  was_named_so boolean,
  -- Has kept another name since, which it does as long as the parent has one.
  is_misnamed boolean,
  -- Was looked at since, and cannot become what was not but by being made again.
  is_validated boolean
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select o.id, o.old, o.new, t.creation_order::numeric, (t.old).identity, migration_guard.target(o.kind, (o.old).identity), coalesce(o.reason, 'redefined'),
    format('alter table %s alter column %I ', (t.old).identity, (o.old).name),
    i.is_inherited, coalesce(p.was, false), coalesce(p.is, false), coalesce(p.is_passed_on, false),
    (o.old).signature ->> 'not_null' = 'true', (o.new).signature ->> 'not_null' = 'true',
    ((o.old).parts ->> 'not_null_is_own')::boolean, ((o.new).parts ->> 'not_null_is_own')::boolean,
    coalesce((o.old).parts ->> 'not_null_name' = p.name, false),
    coalesce(p.was and p.is and (o.old).parts ->> 'not_null_name' = p.name and (o.new).parts ->> 'not_null_name' <> p.live_name
      and (o.old).parts ->> 'not_null_name' <> (o.new).parts ->> 'not_null_name', false),
    coalesce(((o.old).signature -> 'not_null_validated', (o.new).signature -> 'not_null_validated') = ('false'::jsonb, 'true'::jsonb), false)
  from pg_temp.migration_guard_objects as o
  join pg_temp.migration_guard_objects as t on t.id = o.parent_id
  cross join lateral (select ((o.new).parts ->> 'is_inherited')::boolean as is_inherited) as i
  left join lateral (select n.* from migration_guard.parents_not_null(t.new, (o.new).name) as n where i.is_inherited offset 0) as p on true
  where o.kind = 'column' and o.is and o.was and t.kind = 'table' and t.was and not t.is_dropped
    -- Those of another parent go and come with that.
    and case when i.is_inherited then not 'definition' = any (t.aspects) else not o.is_same end;
end
$$;
comment on function migration_guard.not_null_columns() is
  'The columns of tables that stay, with what there is to be known of their not null.';

create function migration_guard.is_not_null_to_rejoin(column_id bigint) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from pg_temp.migration_guard_objects as o
    join pg_temp.migration_guard_objects as t on t.id = o.parent_id
    join pg_temp.migration_guard_objects as k on k.kind = 'column' and k.is and k.was and (k.old).name = (o.old).name and (t.old).signature -> 'parents' @> to_jsonb((k.old).objid::text)
    where o.id = column_id and ((o.old).parts ->> 'is_inherited')::boolean and not ((o.new).parts ->> 'is_inherited')::boolean
      and (k.new).signature ->> 'not_null' = 'true' and (k.old).signature ->> 'not_null' = 'true');
end
$$;
comment on function migration_guard.is_not_null_to_rejoin(bigint) is
  'Whether a column comes back with its table under one of a parent, which it cannot but as not null.';

create function migration_guard.not_null_statements() returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with columns as materialized (select * from migration_guard.not_null_columns())
  select 6, c.place, 2::numeric, c.object, c.why, c.alters || 'drop not null', c.on_table
  from columns as c
  where case when not c.is_inherited then c.is and not c.was or c.is_validated
    -- What a column has from its parent goes with that; and its own goes where the parent's comes back, and would not get the name that it had.
    else c.is and case when c.was then c.is_own and not c.was_own and c.was_named_so and c.parent_was and not c.parent_is else coalesce(c.is_own, not c.parent_is) end end
  union all
  select case when j.is_needed then 6 else 9 end, case when j.is_needed then c.place when c.is_inherited then -0.5 else 0 end, case when j.is_needed then 5.4 else c.id end, c.object, c.why,
    -- Before 18 it has no name.
    case when (c.old).parts ->> 'not_null_name' is null then c.alters || 'set not null'
      else concat_ws(' ', format('alter table %s add constraint %I not null %I', c.on_table, (c.old).parts ->> 'not_null_name', (c.old).name),
        case when (c.old).signature ->> 'not_null_no_inherit' = 'true' then 'no inherit' end, case when (c.old).signature ->> 'not_null_validated' = 'false' then 'not valid' end) end, c.on_table
  from columns as c
  cross join lateral (select migration_guard.is_not_null_to_rejoin(c.id) as is_needed) as j
  where c.was and case when not c.is_inherited then not c.is or c.is_validated
    when c.was_own is null then not c.parent_was and (not c.is or c.parent_is)
    -- Under another name than the parent's it has to be there first.
    else (c.was_own or not c.was_named_so) and (not c.is or not c.is_own and c.parent_is and not c.parent_was) end
  union all
  select case when n.is_loosened then 6 else 9 end, case when n.is_loosened then c.place else 0 end, case when n.is_loosened then 2 else c.id end, c.object, c.why,
    format('alter table %s alter constraint %I %s', c.on_table, (c.old).parts ->> 'not_null_name', case when n.is_loosened then 'no inherit' else 'inherit' end), c.on_table
  from columns as c
  cross join lateral (select (c.old).signature ->> 'not_null_no_inherit' = 'true' as is_loosened) as n
  where c.was and c.is and not c.is_inherited and not c.is_validated and (c.old).signature -> 'not_null_no_inherit' <> (c.new).signature -> 'not_null_no_inherit'
  union all
  -- What heirs have got by that they keep as their own.
  select 6, c.place, 2.5, c.object, c.why, c.alters || 'drop not null', c.on_table
  from columns as c where c.is and not c.was and c.is_inherited and not c.is_own and c.parent_passes_on
  union all
  select 9, 0.1, c.id, c.object, c.why, format('alter table %s validate constraint %I', c.on_table, (c.old).parts ->> 'not_null_name'), c.on_table
  from columns as c
  where c.was and c.is and not c.is_inherited and ((c.old).signature ->> 'not_null_validated', (c.new).signature ->> 'not_null_validated') = ('true', 'false')
  union all
  select 5, 6, c.id, c.object, 'renamed',
    format('alter table %s rename constraint %I to %I', c.on_table, (c.new).parts ->> 'not_null_name', (c.old).parts ->> 'not_null_name'), c.on_table
  from columns as c
  where (c.new).parts ->> 'not_null_name' <> (c.old).parts ->> 'not_null_name' and (not c.is_inherited or c.was_own and c.is_own and not c.parent_is);
end
$$;
comment on function migration_guard.not_null_statements() is
  'Gives columns of tables that stay the not null that they had, or none.';

create function migration_guard.side_out_of_bounds(sequence migration_guard.catalog_entry, place bigint) returns int
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when place > (sequence.signature ->> 'seqmax')::bigint then 1 when place < (sequence.signature ->> 'seqmin')::bigint then -1 else 0 end
$$;
comment on function migration_guard.side_out_of_bounds(migration_guard.catalog_entry, bigint) is
  'Whether a place is above the bounds of a sequence (1), below (-1), or within (0).';

create function migration_guard.is_out_of_bounds(old migration_guard.catalog_entry, new migration_guard.catalog_entry) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not has_sequence_privilege(new.objid, 'select') then
    return false;
  end if;
  return migration_guard.side_out_of_bounds(old, (migration_guard.sequence_position(new.objid)).last_value) <> 0;
end
$$;
comment on function migration_guard.is_out_of_bounds(migration_guard.catalog_entry, migration_guard.catalog_entry) is
  'Whether a sequence stands where it could not with the bounds that it had; false where that may not be read.';

create function migration_guard.alter_statements() returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with altered as materialized (
    select o.*, (o.old).identity as identity, migration_guard.target(o.kind, (o.old).identity) as object
    from pg_temp.migration_guard_objects as o
    where o.is and o.was and not o.is_dropped and 'definition' = any (o.aspects)
  )
  select 6, a.creation_order::numeric, 3::numeric, a.object, 'redefined', format('alter table %s set %s', a.identity, case (a.old).signature ->> 'persistence' when 'u' then 'unlogged' else 'logged' end), a.identity
  from altered as a where a.kind = 'table' and (a.old).signature -> 'persistence' <> (a.new).signature -> 'persistence'
  union all
  select 6, a.creation_order, 4, a.object, 'redefined', format('alter table %s reset (%s)', a.identity, (
      select string_agg(split_part(x.option, '=', 1), ', ') from (
        select jsonb_array_elements_text(nullif((a.new).signature -> 'options', 'null')) as option
        union all select 'toast.' || jsonb_array_elements_text(nullif((a.new).signature -> 'toast_options', 'null'))) as x)), a.identity
  from altered as a
  where a.kind = 'table' and ((a.new).signature -> 'options' <> 'null' or (a.new).signature -> 'toast_options' <> 'null')
    and ((a.old).signature -> 'options', (a.old).signature -> 'toast_options') is distinct from ((a.new).signature -> 'options', (a.new).signature -> 'toast_options')
  union all
  select 6, a.creation_order, 5, a.object, 'redefined', format('alter table %s set (%s)', a.identity, (a.old).parts ->> 'options'), a.identity
  from altered as a
  where a.kind = 'table' and (a.old).parts ->> 'options' is not null
    and ((a.old).signature -> 'options', (a.old).signature -> 'toast_options') is distinct from ((a.new).signature -> 'options', (a.new).signature -> 'toast_options')
  union all
  -- Back under the parents that it had.
  select 6, a.creation_order, 6, a.object, 'redefined',
    case when ((a.old).signature ->> 'is_partition')::boolean then format('alter table only %s attach partition %s %s', p.name, a.identity, (a.old).parts ->> 'bound')
      else format('alter table %s inherit %s', a.identity, p.name) end, a.identity
  from altered as a
  cross join lateral jsonb_array_elements_text((a.old).parts -> 'parents') with ordinality as p (name, number)
  where migration_guard.is_table(a.kind)
    and ((a.old).signature -> 'parents', (a.old).signature -> 'is_partition', (a.old).signature -> 'bound') is distinct from ((a.new).signature -> 'parents', (a.new).signature -> 'is_partition', (a.new).signature -> 'bound')
    and not exists (
      select from pg_temp.migration_guard_objects as x
      where x.is and not x.is_dropped and (x.old).objid::text = (a.old).signature -> 'parents' ->> (p.number - 1)::int and (x.old).objsubid = 0
        and (a.new).signature -> 'parents' @> to_jsonb(x.objid::text) and (a.old).signature -> 'bound' = (a.new).signature -> 'bound')
  union all
  select 6, a.creation_order, 7, a.object, 'redefined', format('alter table %s of %s', a.identity, (a.old).parts ->> 'of_type'), a.identity
  from altered as a where a.kind = 'table' and (a.old).signature ->> 'of_type' <> '0' and migration_guard.has_other_type(a.old, a.new, a.aspects)
  union all
  select 6, a.creation_order, 0, a.object, 'redefined', regexp_replace((a.old).definition, '^(create|alter)( unlogged)? sequence', 'alter sequence')
    || case when migration_guard.is_out_of_bounds(a.old, a.new) then ' restart' else '' end, null
  from altered as a where a.kind = 'sequence' and ((a.old).signature - '{persistence,owned_by}'::text[]) <> ((a.new).signature - '{persistence,owned_by}'::text[])
  union all
  select 6, a.creation_order, 1, a.object, 'redefined', format('alter sequence %s set %s', a.identity, case (a.old).signature ->> 'persistence' when 'u' then 'unlogged' else 'logged' end), null
  from altered as a where a.kind = 'sequence' and (a.old).signature -> 'persistence' <> (a.new).signature -> 'persistence'
  union all
  select 6, w.creation_order, c.id, migration_guard.target(c.kind, (c.old).identity), 'missing', (c.old).definition || ' cascade', null
  from pg_temp.migration_guard_objects as c
  join pg_temp.migration_guard_objects as w on w.id = c.old_parent_id and w.is and not w.is_dropped
  where c.kind = 'attribute' and c.was and not c.is
  union all
  select 6, a.creation_order, 0, a.object, 'redefined', format('alter domain %s %s', a.identity, coalesce('set default ' || ((a.old).parts ->> 'default'), 'drop default')), null
  from altered as a where a.kind = 'domain' and (a.old).signature -> 'default' <> (a.new).signature -> 'default'
  union all
  select 9, a.creation_order, 0, a.object, 'redefined',
    case
      when (a.old).signature ->> 'not_null' = 'false' then format('alter domain %s drop not null', a.identity)
      when (a.old).parts ->> 'not_null_name' is null then format('alter domain %s set not null', a.identity)
      else format('alter domain %s add constraint %I not null', a.identity, (a.old).parts ->> 'not_null_name') end, null
  from altered as a where a.kind = 'domain' and (a.old).signature -> 'not_null' <> (a.new).signature -> 'not_null';
end
$$;
comment on function migration_guard.alter_statements() is
  'Gives tables, sequences and domains that stay what else they had: options, parents, steps, defaults.';

-- Rows ------------------------------------------------------------------------------------------------------------------

create function migration_guard.discarding_actor() returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select coalesce(nullif(current_setting('migration_guard.actor', true), ''), session_user) $$;
comment on function migration_guard.discarding_actor() is
  'Who runs the rollback: the actor of the job, or the user of a session in which its statements are run by hand.';

create function migration_guard.discarded_name(table_name text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select migration_guard.backup_object_name(table_name, '_discarded', '{}') $$;
comment on function migration_guard.discarded_name(text) is
  'Name of the table, in a backup schema, that keeps what a rollback takes from a table.';

create function migration_guard.discarded_column(discarded text, name text, stored_type text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when name in ('discarded_at', 'discarded_by', 'discarded_because', 'discarded_table', 'discarded_place') or exists (
      select from pg_attribute as a
      where a.attrelid = to_regclass(discarded) and a.attname = name and a.attnum > 0 and not a.attisdropped and format_type(a.atttypid, a.atttypmod) <> stored_type)
      then migration_guard.backup_object_name(name, ' as ' || stored_type, '{}')
    else name end
$$;
comment on function migration_guard.discarded_column(text, text, text) is
  'Name of the column that keeps discarded values of a type: another where an earlier rollback has discarded values of another
type under the name.';

create function migration_guard.row_columns(table_id bigint)
returns table (
  name text, live_name text, stored text, stored_type text, old_value text, kept_value text, is_key boolean, is_written boolean, has_copy boolean, number int,
  is_readded boolean
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select (c.old).name, (c.new).name,
    migration_guard.stored_form(format('t.%I', (c.old).name), s.copied ->> 'type', s.copied ->> 'stored_type'), s.copied ->> 'stored_type',
    -- From the copy, and from the row as it is.
    case when s.copied ->> 'type' = s.copied ->> 'stored_type' then format('b.%I', (c.old).name) else format('b.%I::%s', (c.old).name, (c.old).parts ->> 'type') end,
    case when c.is and (not c.is_dropped or t.is_late) then case
      when c.is_retyped or t.is_dropped and 'definition' = any (c.aspects) then migration_guard.conversion(c.old, c.new, format('t.%I', (c.new).name))
      else format('t.%I', (c.new).name) end end,
    coalesce(k.columns @> array[(c.old).objsubid], false),
    (c.old).signature ->> 'generated' = '',
    s.copied is not null,
    (c.old).objsubid,
    -- The recorded column was dropped, and another of its name added.
    coalesce(c.is and c.matched_by = 'name' and t.matched_by = 'identity', false)
  from pg_temp.migration_guard_objects as t
  join pg_temp.migration_guard_objects as c on c.old_parent_id = t.id and c.kind = 'column'
  left join lateral (
    select x as copied from pg_temp.migration_guard_copies as m cross join lateral jsonb_array_elements(m.columns) as x
    where m.source_oid = t.old_objid and (x ->> 'attnum')::int = c.old_objsubid
  ) as s on true
  left join lateral (
    select array(select jsonb_array_elements_text((p.old).signature -> 'conkey')::int) as columns
    from pg_temp.migration_guard_objects as p
    where p.old_parent_id = t.id and p.kind = 'constraint' and (p.old).signature ->> 'contype' = 'p'
  ) as k on true
  where t.id = table_id
  order by (c.old).objsubid;
end
$$;
comment on function migration_guard.row_columns(bigint) is
  'The columns that a table had, and how each value is read: in its stored form, from the copy, and from the rows that are there.';

create function migration_guard.has_key(table_id bigint) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  relation oid;
  key int[];
begin
  select t.objid, array_agg(c.objsubid order by c.objsubid) into relation, key
  from pg_temp.migration_guard_objects as t
  join pg_temp.migration_guard_objects as c on c.old_parent_id = t.id and c.kind = 'column'
  join migration_guard.row_columns(t.id) as k on k.is_key and k.number = (c.old).objsubid
  where t.id = table_id group by t.objid;
  -- Rows can be told by it as long as it is kept to.
  return coalesce(exists (
    select from pg_index as i
    where i.indrelid = relation and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null
      and (select array_agg(n::int order by n) from unnest(i.indkey[0:i.indnkeyatts - 1]) as n) = key
      and not exists (select from pg_attribute as a where a.attrelid = relation and a.attnum = any (key) and not a.attnotnull)), false);
end
$$;
comment on function migration_guard.has_key(bigint) is
  'Whether rows of a table that is there can be told by the key that it had: it still has one on these columns.';

create function migration_guard.keys_of_rows(relations oid[], filled oid[]) returns table (relation oid, key oid, name text, is_part boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  with referenced as materialized (
    select r.oid as relation, p.oid as part from unnest(relations) as r (oid) cross join lateral migration_guard.with_partitions(r.oid) as p (oid)
  ),
  keys as (
    select r.relation, f.oid from referenced as r join pg_constraint as f on f.contype = 'f' and f.confrelid = r.part
    union
    select f.conrelid, f.oid from pg_constraint as f where f.contype = 'f' and f.conrelid = any (filled)
  )
  select k.relation, k.oid, format('%I.%I.%I', s.nspname, c.relname, f.conname), f.conparentid <> 0
  from keys as k
  join pg_constraint as f on f.oid = k.oid
  join pg_class as c on c.oid = f.conrelid
  join pg_namespace as s on s.oid = c.relnamespace;
end
$$;
comment on function migration_guard.keys_of_rows(oid[], oid[]) is
  'The foreign keys that rows of tables must not be deleted under, or inserted without triggers, unless they are known: all that refer to one of the
tables or to a part of it, and those of the tables that are filled so; and whether each is a part of another one.';

create function migration_guard.refuse_unknown_keys(table_name text, to_it text[], of_it text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
  relation constant regclass := table_name::regclass;
  unknown text;
begin
  select string_agg(u.what, ', ' order by u.what) into unknown
  from (
    select 'the foreign key ' || k.name
    from migration_guard.keys_of_rows(array[relation], case when of_it <> '{}' then array[relation::oid] else '{}' end) as k
    where k.name <> all (to_it || of_it)
    union all
    -- What is called all the same.
    select format('the trigger %I', g.tgname) from pg_trigger as g where to_it || of_it <> '{}' and g.tgrelid = relation and g.tgenabled in ('A', 'R')
    union all
    select format('the rule %I', r.rulename) from pg_rewrite as r where to_it || of_it <> '{}' and r.ev_class = relation and r.ev_enabled in ('A', 'R')
  ) as u (what);
  if unknown is not null then
    perform migration_guard.fail('plan_changed', format('%s has what the plan does not know of: %s. Read the plan again.', table_name, unknown));
  end if;
end
$$;
comment on function migration_guard.refuse_unknown_keys(text, text[], text[]) is
  'Raises plan_changed where a foreign key refers to a locked table, so that it might cascade from the rows that go, but for those that
stay; or where the table has another one than those, or something that is always called, and would be filled without its triggers.';

create function migration_guard.assert_restored(backup_schema text, table_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set row_security = off
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set extra_float_digits = 1
set bytea_output = 'hex' set quote_all_identifiers = off set standard_conforming_strings = on set lc_monetary = 'C'
as $$
declare
  recorded record;
  present record;
begin
  execute format('select t.row_count, t.backup_checksum from %I.tables_backup as t where format(''%%I.%%I'', t.source_schema, t.source_table) = $1',
    backup_schema) into recorded using table_name;
  select s.rows, s.checksum into present from migration_guard.source_checksum(table_name::regclass, 'comparing@' || table_name::regclass::oid, 0) as s;
  if present.checksum is distinct from recorded.backup_checksum then
    perform migration_guard.fail('rollback_differs', format('The rows of %s would not be those of the backup: %s against %s.', table_name, present.rows, recorded.row_count));
  end if;
end
$$;
comment on function migration_guard.assert_restored(text, text) is
  'Raises rollback_differs unless a table has exactly the rows that a backup schema holds of it: for a plan whose statements are run by hand.';

create function migration_guard.is_for_hand(statement text) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select starts_with(statement, 'select migration_guard.assert_restored(') $$;
comment on function migration_guard.is_for_hand(text) is
  'Whether a statement of a rollback plan is for whoever runs it by hand: a job compares the rows in the end by itself.';

create function migration_guard.old_default(table_id bigint, column_number int) returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select substr(s.statement, length(p.prefix) + 1)
  from pg_temp.migration_guard_objects as c
  cross join lateral unnest((c.old).settings) as s (statement)
  cross join lateral (select format('alter table only %I.%I alter column %I set default ', (c.old).schema_name, (c.old).parent_name, (c.old).name)) as p (prefix)
  where c.old_parent_id = table_id and c.kind = 'column' and (c.old).objsubid = column_number and (c.old).signature ->> 'generated' = ''
    and starts_with(s.statement, p.prefix);
end
$$;
comment on function migration_guard.old_default(bigint, int) is 'The default that a column had, if it had one.';

create function migration_guard.refill_statement(backup_schema text, backup_table text, target text, table_id bigint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- A table need not have columns.
  select format('insert into %s%s overriding system value select %s from %I.%I as b', target,
    ' (' || string_agg(quote_ident(c.name), ', ' order by c.number) || ')',
    string_agg(c.old_value, ', ' order by c.number), backup_schema, backup_table)
  from migration_guard.row_columns(table_id) as c where c.is_written
$$;
comment on function migration_guard.refill_statement(text, text, text, bigint) is
  'The statement that puts all rows of a copy into an empty table.';

create function migration_guard.transfer_statement(backup_schema text, backup_table text, target text, source text, table_id bigint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Of a column that is gone, the copy has the values of the rows that were there.
  select format('insert into %s (%s) overriding system value select %s from %s as t', target,
      string_agg(quote_ident(c.name), ', ' order by c.number),
      string_agg(coalesce(case when c.is_readded and c.has_copy and k.condition is not null then format('coalesce(%s, %s)', c.kept_value, c.old_value) else c.kept_value end, case when c.has_copy and k.condition is not null then case when d.expression is null then c.old_value
        else format('case when b.%I is null then %s else %s end', k.first_key, d.expression, c.old_value) end end, d.expression, 'null'), ', ' order by c.number), source)
    || case when k.condition is not null and bool_or((c.kept_value is null or c.is_readded) and c.has_copy) then
      format(' left join %I.%I as b on %s', backup_schema, backup_table, k.condition) else '' end
  from migration_guard.row_columns(table_id) as c
  cross join lateral (
    select min(x.name) filter (where x.is_key) as first_key,
      string_agg(format('(%s) = %s', x.kept_value, x.old_value), ' and ') filter (where x.is_key) as condition
    from migration_guard.row_columns(table_id) as x
  ) as k
  left join lateral migration_guard.old_default(table_id, c.number) as d (expression) on true
  where c.is_written
  group by k.condition
$$;
comment on function migration_guard.transfer_statement(text, text, text, text, bigint) is
  'The statement that puts the rows that are there into the table as it was.';

create function migration_guard.keyed_restore_statements(backup_schema text, backup_table text, table_id bigint, leave_deleted boolean)
returns table (step text, statement text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  table_name text;
  kind text;
  discarded text;
  changed constant text := 'migration_guard_changed_' || (select t.old_objid from pg_temp.migration_guard_objects as t where t.id = table_id);
begin
  select (t.old).identity, (t.old).signature ->> 'kind', format('%I.%I', backup_schema, migration_guard.discarded_name((t.old).name))
  into table_name, kind, discarded
  from pg_temp.migration_guard_objects as t where t.id = table_id;
  -- The places of the rows that differ are found once, by their versions or by a join of both whole; all else is done by these.
  return query
  with columns as (
    select format('(select %s from %s as t) as s',
        concat_ws(', ', 't.tableoid as migration_guard_table, t.ctid as migration_guard_place', string_agg(format('%s as %I', c.stored, c.name), ', ' order by c.number)), r.source) as live,
      string_agg(quote_ident(k.name), ', ' order by c.number) as names,
      string_agg(format('s.%1$I = b.%1$I', c.name), ' and ') filter (where c.is_key) as same_key,
      string_agg(quote_ident(c.name), ', ' order by c.number) filter (where c.is_written) as written,
      string_agg(c.old_value, ', ' order by c.number) filter (where c.is_written) as copied,
      string_agg(format('s.%I', c.name), ', ' order by c.number) as s_columns,
      string_agg(format('b.%I', c.name), ', ' order by c.number) as b_columns,
      min(c.name) filter (where c.is_key) as first_key,
      array_agg(c.name order by c.number) filter (where c.is_key) as key,
      r.source
    from migration_guard.row_columns(table_id) as c
    cross join lateral migration_guard.discarded_column(discarded, c.name, c.stored_type) as k (name)
    cross join (select case kind when 'p' then '' else 'only ' end || table_name as source) as r
    group by r.source
  ),
  parts as (
    select c.*, format('create temporary table %s on commit drop as select s.migration_guard_table as part, s.migration_guard_place as place, b.ctid as copy from %s full join %I.%I as b on %s '
      || 'where s.%6$I is null or b.%6$I is null or row(%7$s)::record *<> row(%8$s)::record',
      changed, c.live, backup_schema, backup_table, c.same_key, c.first_key, c.s_columns, c.b_columns) as by_values
    from columns as c
  )
  select unnest('{find,analyze,discard,delete,insert}'::text[]), unnest(array[
    -- Rows that are left deleted have no checksum in the end: nothing would prove then what the versions say.
    case when leave_deleted then p.by_values
      else format('select migration_guard.find_changed_rows(%L, %L, %L, %L, %L)', backup_schema, table_name, p.key, changed, p.by_values) end,
    -- So that Postgres goes to the places of a few, and does not read all again.
    format('analyze pg_temp.%s', changed),
    format('insert into %s (discarded_at, discarded_by, discarded_because, %s) select now(), migration_guard.discarding_actor(), case when d.copy is null then ''inserted'' else ''updated'' end, %s '
      || 'from %s join pg_temp.%s as d on (s.migration_guard_table, s.migration_guard_place) = (d.part, d.place)',
      discarded, p.names, p.s_columns, p.live, changed),
    format('delete from %s as t using pg_temp.%s as d where (t.tableoid, t.ctid) = (d.part, d.place)', p.source, changed),
    format('insert into %s (%s) overriding system value select %s from %I.%I as b where exists (select from pg_temp.%s as d where d.copy = b.ctid%s)',
      table_name, p.written, p.copied, backup_schema, backup_table, changed, case when leave_deleted then ' and d.place is not null' else '' end)])
  from parts as p;
end
$$;
comment on function migration_guard.keyed_restore_statements(text, text, bigint, boolean) is
  'The statements that make the rows of a table with a key those of its copy, and keep what that takes away.';

create function migration_guard.restored_pair(backup_schema text, table_name text) returns migration_guard.table_pair
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  pair migration_guard.table_pair;
begin
  execute format($query$
    select t.source_schema, t.source_table, t.backup_table, t.row_count, t.backup_checksum,
      (
        select coalesce(jsonb_agg(c.value || jsonb_build_object('live_attnum', a.attnum) order by c.position), '[]')
        from jsonb_array_elements(t.columns) with ordinality as c (value, position)
        left join pg_attribute as a on a.attrelid = to_regclass($1) and a.attname = c.value ->> 'name' and a.attnum > 0 and not a.attisdropped
      ),
      '[]'::jsonb,
      (
        select coalesce(jsonb_object_agg(x.key, x.value), '{}')
        from jsonb_array_elements(t.columns) as c (value) cross join lateral jsonb_each(c.value -> 'labels') as x
      ),
      t.source_filenode, to_regclass($1)::oid, case when to_regclass($1)::oid = t.source_oid then 'identity' else 'name' end
    from %1$I.tables_backup as t
    where format('%%I.%%I', t.source_schema, t.source_table) = $1
  $query$, backup_schema) into pair using table_name;
  return migration_guard.looked_at(pair);
end
$$;
comment on function migration_guard.restored_pair(text, text) is
  'A copied table and the live one that has its name and its columns again, in the midst of a rollback.';

create function migration_guard.joined_keys(pair migration_guard.table_pair, key text[], out live text, out joined text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('%s%s as k%s', c.live_value, e.collation_name, k.number), ', ' order by k.number),
    string_agg(format('l.k%s = r.%I%s', k.number, c.name, e.collation_name), ' and ' order by k.number)
  from unnest(key) with ordinality as k (name, number)
  join unnest(pair.paired) as c on c.name = k.name
  join pg_type as t on t.oid = c.stored_type::regtype
  cross join lateral (select case when t.typcollation <> 0 then ' collate "C"' end) as e (collation_name)
$$;
comment on function migration_guard.joined_keys(migration_guard.table_pair, text[]) is
  'The key of a live row r, and the condition that what was read so as l has that of a copied row r.';

create function migration_guard.new_versions_query(backup_schema text, pair migration_guard.table_pair, key text[]) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format($query$
    select coalesce(array_agg(f.place), '{}') as places, coalesce(array_agg(f.copy), '{}') as copies, coalesce(array_agg(%s), '{}') as differ
    from (
      select l.*, r.ctid as copy%s
      from (
        select r.migration_guard_place as place, %s%s
        from (select ctid as migration_guard_place%s from only %s where ctid = any ($1)) as r
      ) as l
      join only %I.%I as r on %s
    ) as f$query$,
    f.differs, f.copy, k.live, f.live, (select string_agg(format(', %s as %I', s.expression, s.name), '' order by s.attnum) from migration_guard.stored_columns(pair.live) as s),
    pair.live::regclass, backup_schema, pair.backup_table, k.joined)
  from migration_guard.joined_keys(pair, key) as k
  cross join (
    select string_agg(format(', %s as s%s', f.live_form, f.number), '' order by f.number) as live,
      string_agg(format(', %s as c%s', f.copy_form, f.number), '' order by f.number) as copy,
      string_agg(format('f.s%s is distinct from f.c%1$s', f.number), ' or ' order by f.number) as differs
    from migration_guard.compared_forms(pair, true) as f
  ) as f
$$;
comment on function migration_guard.new_versions_query(text, migration_guard.table_pair, text[]) is
  'The query that finds the rows at some places in a copy by their keys, and tells which differ. It may be run in parallel.';

create function migration_guard.missing_rows_query(backup_schema text, pair migration_guard.table_pair, key text[]) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('select r.ctid from only %I.%I as r where not exists (select from (select %s from (%s) as r) as l where %s)',
    backup_schema, pair.backup_table, k.live, pair.projection, k.joined)
  from migration_guard.joined_keys(pair, key) as k
$$;
comment on function migration_guard.missing_rows_query(text, migration_guard.table_pair, text[]) is
  'The query for the places in a copy of the rows whose key no live row has. Nothing but keys is read.';

create function migration_guard.find_missing_rows(backup_schema text, pair migration_guard.table_pair, key text[], changed text, missing bigint) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
-- Few rows come out of it, of copies that nobody has analyzed.
set parallel_tuple_cost = 0
as $$
declare
  query constant text := migration_guard.missing_rows_query(backup_schema, pair, key);
  places tid[];
  found bigint;
begin
  -- A million places take 6 MB. They are found in parallel, which neither a query that writes is nor one that ticks.
  if missing <= 1000000 then
    execute format('select array_agg(m.ctid) from (%s) as m', query) into places;
    execute format('insert into pg_temp.%I (copy) select p from unnest($1) as p order by p', changed) using places;
  else
    execute format('insert into pg_temp.%I (copy) %s', changed,
      concat_ws(' and ', query, migration_guard.ticking(to_regclass(format('%I.%I', backup_schema, pair.backup_table)), 'r')));
  end if;
  get diagnostics found = row_count;
  return found;
end
$$;
comment on function migration_guard.find_missing_rows(text, migration_guard.table_pair, text[], text, bigint) is
  'Keeps the places in a copy of the rows that are gone from a table, which may be so many, and counts them.';

create function migration_guard.find_changed_versions(backup migration_guard.backups, pair migration_guard.table_pair, key text[], changed text) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
set synchronize_seqscans = off
as $$
declare
  step constant text := current_setting('migration_guard.progress_step', true);
  -- As in a diff: a row of a transaction that had ended before the backup is one of the copy's, as it was.
  youth constant text := format('age(xmin) <= %s', age(migration_guard.oldest_version(backup)));
  versions record;
  matched record;
  old_rows bigint;
  missing bigint;
begin
  -- Its pass counts for nothing, and the one below for all.
  select v.* into versions from migration_guard.find_versions(pair.live, youth, least(pair.row_count / 4, 1000000), 0) as v;
  old_rows := versions.total - cardinality(versions.places);
  if old_rows is null then return 'many rows are new'; end if;
  perform migration_guard.begin_pass(coalesce(step, ''), array[to_regclass(format('%I.%I', backup.schema_name, pair.backup_table))::oid], pair.row_count);
  execute migration_guard.new_versions_query(backup.schema_name, pair, key) into matched using versions.places;
  execute format('create temporary table %I (part oid, place tid, copy tid) on commit drop', changed);
  execute format($insert$
    insert into pg_temp.%I (part, place, copy)
    select $1, m.place, m.copy from unnest($2, $3, $4) as m (place, copy, differs) where m.differs
    union all
    select $1, n.place, null from (select unnest($5) as place except select unnest($2)) as n$insert$, changed)
    using pair.live, matched.places, matched.copies, matched.differ, versions.places;
  -- Those of the copy's rows that are neither there as they were, nor under their key as another version.
  missing := pair.row_count - old_rows - cardinality(matched.places);
  if missing < 0 or missing > 0 and migration_guard.find_missing_rows(backup.schema_name, pair, key, changed, missing) <> missing then
    execute format('drop table pg_temp.%I', changed);
    return 'the versions of its rows do not add up to those of the copy';
  end if;
  return null;
end
$$;
comment on function migration_guard.find_changed_versions(migration_guard.backups, migration_guard.table_pair, text[], text) is
  'Makes the table of the rows that differ from a copy by the versions of the live ones, and returns why not where it cannot.';

create function migration_guard.find_changed_rows(backup_schema text, table_name text, key text[], changed text, by_values text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup migration_guard.backups;
  pair migration_guard.table_pair;
  reason text;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'feature_not_supported',
      message = 'Rows are found as they are under the lock: run this in a transaction with the isolation level read committed.';
  end if;
  -- Nobody may write between this and what is done by it.
  execute format('lock table only %s in access exclusive mode', table_name);
  select b.* into backup from migration_guard.backups as b where b.schema_name = backup_schema and b.removed_at is null;
  pair := migration_guard.restored_pair(backup_schema, table_name);
  reason := coalesce(migration_guard.why_read_values(backup, pair), (
    select case when bool_or(c.live_attnum is null or c.is_relabelled) then 'its columns are not those that it had'
      when not migration_guard.is_unique(pair.live, array_agg(c.live_attnum::int2) filter (where c.name = any (key))) then 'there is no unique index to find its rows by' end
    from unnest(pair.paired) as c));
  if reason is null then
    reason := migration_guard.find_changed_versions(backup, pair, key, changed);
  end if;
  if reason is not null then
    execute migration_guard.ticking_statement(by_values, pair.row_count);
  end if;
  perform set_config('migration_guard.rows_read',
    (coalesce(nullif(current_setting('migration_guard.rows_read', true), '')::jsonb, '{}') || jsonb_build_object(table_name, coalesce(reason, '')))::text, true);
end
$$;
comment on function migration_guard.find_changed_rows(text, text, text[], text, text) is
  'Makes the table of the rows that differ from those of a copy: by the versions of the live rows where these prove which ones are as they
were, or else by the statement that joins both whole.';

create function migration_guard.keyless_restore_statements(backup_schema text, backup_table text, table_id bigint)
returns table (step text, statement text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  table_name text;
  kind text;
  discarded text;
begin
  select (t.old).identity, (t.old).signature ->> 'kind', format('%I.%I', backup_schema, migration_guard.discarded_name((t.old).name))
  into table_name, kind, discarded
  from pg_temp.migration_guard_objects as t where t.id = table_id;
  -- Rows are told apart by their text and by how many of the same there are.
  return query
  with parts as (
    select string_agg(format('%s as %I', c.stored, c.name), ', ' order by c.number) as stored,
      string_agg(quote_ident(k.name), ', ' order by c.number) as names,
      string_agg(quote_ident(c.name), ', ' order by c.number) filter (where c.is_written) as written,
      string_agg(c.old_value, ', ' order by c.number) filter (where c.is_written) as copied,
      string_agg(format('s.%I', c.name), ', ' order by c.number) as s_columns,
      string_agg(format('b.%I', c.name), ', ' order by c.number) as b_columns,
      case kind when 'p' then '' else 'only ' end || table_name as source
    from migration_guard.row_columns(table_id) as c
    cross join lateral migration_guard.discarded_column(discarded, c.name, c.stored_type) as k (name)
  ),
  counted as (
    select p.*,
      format('(select s.*, row(%1$s)::text as migration_guard_text, row_number() over (partition by row(%1$s)::text) as migration_guard_occurrence from (select %2$s from %3$s as t) as s) as s',
        p.s_columns, concat_ws(', ', 't.tableoid as migration_guard_table, t.ctid as migration_guard_place', p.stored), p.source) as live,
      format('(select b.*, row(%1$s)::text as migration_guard_text, row_number() over (partition by row(%1$s)::text) as migration_guard_occurrence from %2$I.%3$I as b) as b',
        p.b_columns, backup_schema, backup_table) as copy
    from parts as p
  )
  select unnest('{discard,delete,insert}'::text[]), unnest(array[
    format('insert into %s (discarded_at, discarded_by, discarded_because, %s) select now(), migration_guard.discarding_actor(), ''inserted'', %s from %s left join %s using (migration_guard_text, migration_guard_occurrence) where b.migration_guard_text is null',
      discarded, concat_ws(', ', c.names, 'discarded_table, discarded_place'), concat_ws(', ', c.s_columns, 's.migration_guard_table, s.migration_guard_place'), c.live, c.copy),
    format('delete from %s as t using %s as d where d.discarded_at = now() and (t.tableoid, t.ctid) = (d.discarded_table, d.discarded_place)', c.source, discarded),
    format('insert into %s%s overriding system value select %s from %s left join %s using (migration_guard_text, migration_guard_occurrence) where s.migration_guard_text is null',
      table_name, ' (' || c.written || ')', c.copied, c.copy, c.live)])
  from counted as c;
end
$$;
comment on function migration_guard.keyless_restore_statements(text, text, bigint) is
  'The statements that make the rows of a table without a key those of its copy, as a multiset.';

create function migration_guard.stuck_sequences(options jsonb) returns table (identity text, why text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  sequence record;
  live record;
begin
  for sequence in
    select o.old, o.new, o.objid, case when (o.old).signature ->> 'seqincrement' ~ '^-' then -1 else 1 end as direction,
      case when (o.new).signature ->> 'seqincrement' ~ '^-' then -1 else 1 end as live_direction
    from pg_temp.migration_guard_objects as o
    where case when o.kind = 'sequence' and o.is and o.was and not o.is_dropped and 'definition' = any (o.aspects) then has_sequence_privilege(o.objid, 'select')
      and not migration_guard.numbers_restored_rows(o.old, o.objid, options) end
  loop
    live := migration_guard.sequence_position(sequence.objid);
    identity := (sequence.new).identity;
    why := case
      when migration_guard.side_out_of_bounds(sequence.old, live.last_value) = sequence.direction then
        format('it stands at %s, beyond the bounds that it had, and does not go back while rows stay: restore these, or set it back within the bounds where no row has these numbers', live.last_value)
      when live.is_called and sequence.live_direction <> sequence.direction then
        format('it counts the other way than it did, and would come from %s to numbers that it has given to rows that stay: restore these, or let it count as it did, and set it to where no row has the numbers that come', live.last_value) end;
    if why is not null then
      return next;
    end if;
  end loop;
end
$$;
comment on function migration_guard.stuck_sequences(jsonb) is
  'Sequences that have gone beyond the bounds that they had, or have turned round, and would give out again what kept rows have, and why.';

create function migration_guard.departing_partitions() returns table (id bigint, identity text, root_id bigint, root text, objid oid, is_restored boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select p.id, (p.new).identity, r.id, (r.new).identity, p.objid, migration_guard.restores(r.old_objid)
  from pg_temp.migration_guard_objects as p
  join pg_temp.migration_guard_objects as t on t.kind = 'table' and t.is and (p.new).signature -> 'parents' @> to_jsonb(t.objid::text)
  -- What has it as a part today may be new itself.
  cross join lateral (
    select x.* from pg_partition_ancestors(p.objid) with ordinality as a (relid, level)
    join pg_temp.migration_guard_objects as x on x.kind = 'table' and x.is and x.was and not x.is_dropped and x.objid = a.relid
    order by a.level desc limit 1
  ) as r
  where p.kind = 'table' and p.is and not p.was and p.is_dropped and ((p.new).signature ->> 'is_partition')::boolean
    and t.was and not t.is_dropped;
end
$$;
comment on function migration_guard.departing_partitions() is
  'New partitions that go while the table that they are a part of stays, and the root of that, whose rows they hold.';

create function migration_guard.displaced_partitions() returns table (id bigint, identity text, root text, objid oid, is_new boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select p.id, (p.new).identity, (r.old).identity, p.objid, not p.was
  from pg_temp.migration_guard_objects as p
  join pg_temp.migration_guard_objects as t on t.kind = 'table' and t.is and t.was and t.is_dropped and (p.new).signature -> 'parents' @> to_jsonb(t.objid::text)
  join pg_temp.migration_guard_objects as r on r.id = migration_guard.recorded_root(t.id)
  where migration_guard.is_table(p.kind) and p.is and ((p.new).signature ->> 'is_partition')::boolean
    and not migration_guard.restores(r.old_objid)
    -- One that was elsewhere has its rows for itself again, and would leave them in the whole, too.
    and case when p.was then migration_guard.recorded_root(p.id) <> r.id else
      ((t.old).signature -> 'kind', (t.old).signature -> 'partitioning') = ((t.new).signature -> 'kind', (t.new).signature -> 'partitioning')
      -- Beside those that were there, and are, each with its bounds: none of them takes its rows, unless it takes any.
      and not exists (
        select from pg_temp.migration_guard_objects as x
        where migration_guard.is_table(x.kind) and x.was and (x.old).signature -> 'parents' ->> 0 = t.old_objid::text
          and (not x.is or (x.old).parts ->> 'bound' = 'DEFAULT' or (x.new).signature -> 'bound' <> (x.old).signature -> 'bound'
            or not (x.new).signature -> 'parents' @> to_jsonb(t.objid::text))) end;
end
$$;
comment on function migration_guard.displaced_partitions() is
  'Partitions of a table that is made anew with its rows, whose own rows do not belong there: new ones, where no other partition takes them, and recorded
ones that were in something else.';

create function migration_guard.is_read_by_root(table_id bigint) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from pg_temp.migration_guard_objects as t
    where t.id = table_id and ((t.new).signature ->> 'is_partition')::boolean and exists (
      select from pg_partition_ancestors(t.objid) as a (relid)
      join pg_temp.migration_guard_objects as r on r.kind = 'table' and r.is and r.objid = a.relid
      where r.id <> t.id and (not t.was or r.id = migration_guard.recorded_root(t.id))));
end
$$;
comment on function migration_guard.is_read_by_root(bigint) is
  'Whether a table is a partition of what it was in when it was recorded, or is new in one that is compared: its rows and values are then looked at with those
of the whole.';

create function migration_guard.returning_partitions()
returns table (id bigint, identity text, objid oid, root_id bigint, root text, is_root_there boolean, is_restored boolean, now_in text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select t.id, (t.new).identity, t.objid, r.id, (r.old).identity, r.is,
    migration_guard.restores(r.old_objid) or not r.is and exists (select from pg_temp.migration_guard_copies as m where m.source_oid = r.old_objid),
    case when ((t.new).signature ->> 'is_partition')::boolean then pg_partition_root(t.objid)::regclass::text end
  from pg_temp.migration_guard_objects as t
  join pg_temp.migration_guard_objects as r on r.id = migration_guard.recorded_root(t.id)
  where t.kind = 'table' and t.is and t.was and t.is_dropped and ((t.old).signature ->> 'is_partition')::boolean
    and not exists (select from pg_partition_ancestors(t.objid) as a (relid) where a.relid = r.objid)
    -- What it has left the table with has its rows.
    and not (((t.new).signature ->> 'is_partition')::boolean and exists (
      select from pg_temp.migration_guard_objects as w
      where w.kind = 'table' and w.was and w.objid = pg_partition_root(t.objid) and migration_guard.recorded_root(w.id) = r.id));
end
$$;
comment on function migration_guard.returning_partitions() is
  'Partitions that are made anew and are not in the table any more that they were in, so that this does not have their rows; is_restored where it gets those of
its copy, and now_in for one that is a partition of another table.';

create function migration_guard.assert_no_rows(partition regclass, root text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
  has_rows boolean;
begin
  execute format('select exists (select from %s)', partition) into has_rows;
  if has_rows then
    perform migration_guard.fail('plan_changed', format('%s has rows of %s by now, which would go with it.', partition, root));
  end if;
end
$$;
comment on function migration_guard.assert_no_rows(regclass, text) is
  'Raises plan_changed when a partition that is to be dropped has rows, which belong to a table that stays.';

create function migration_guard.has_rows(relation oid, condition text default 'true') returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
  found boolean;
begin
  if not (has_table_privilege(relation, 'select') and migration_guard.may_be_read(relation)) then
    return true;
  end if;
  perform migration_guard.refuse_views(true);
  execute format('select exists (select from %s where %s)', relation::regclass, condition) into found;
  perform migration_guard.refuse_views(false);
  return found;
exception when insufficient_privilege then
  return true;
end
$$;
comment on function migration_guard.has_rows(oid, text) is 'Whether a table has rows of which a condition is true, or may have what is not to be seen.';

create function migration_guard.is_computed_again(old migration_guard.catalog_entry, new migration_guard.catalog_entry) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(old.signature ->> 'generated' <> '' and new.signature ->> 'generated' = '', false)
$$;
comment on function migration_guard.is_computed_again(migration_guard.catalog_entry, migration_guard.catalog_entry) is
  'Whether a column that anything can be written to was generated, so that what was written goes.';

create function migration_guard.departing_values(type oid, value text, departing text[]) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  described pg_type;
  held text[] := '{}';
begin
  if type < 16384 then return held; end if;
  select t.* into described from pg_type as t where t.oid = type;
  if described.typtype = 'd' then
    return migration_guard.departing_values(described.typbasetype, value, departing);
  elsif described.typtype in ('r', 'm') then
    -- Whatever its bounds hold.
    return case when exists (
      select from pg_range as r where type in (r.rngtypid, r.rngmultitypid) and migration_guard.departing_values(r.rngsubtype, value, departing) <> '{}')
      then array[value] else held end;
  elsif described.typcategory = 'A' and described.typelem <> 0 then
    held := migration_guard.departing_values(described.typelem, 'u.e', departing);
    return case when held = '{}' then held
      else array[format('nullif(exists (select from (select unnest(%s) as e) as u where num_nonnulls(%s) > 0), false)', value, array_to_string(held, ', '))] end;
  end if;
  return array(
    select p.expression
    from pg_attribute as a
    cross join lateral (select format('(%s).%I', value, a.attname) as expression) as v
    cross join lateral unnest(case when format('%s.%s', a.attrelid, a.attnum) = any (departing) then array[v.expression]
      else migration_guard.departing_values(a.atttypid, v.expression, departing) end) with ordinality as p (expression, place)
    where a.attrelid = described.typrelid and a.attnum > 0 and not a.attisdropped
    order by a.attnum, p.place);
end
$$;
comment on function migration_guard.departing_values(oid, text, text[]) is
  'Expressions of which one at least is not null where a value of a type holds something in one of some attributes, each given as relation.number.';

create function migration_guard.departing_columns() returns table (relation oid, number int, held text[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  departing text[];
  types oid[];
begin
  select array_agg(format('%s.%s', o.objid, o.objsubid)), array_agg(distinct c.reltype) into departing, types
  from pg_temp.migration_guard_objects as o
  join pg_temp.migration_guard_objects as p on p.id = o.parent_id
  join pg_class as c on c.oid = o.objid
  where o.is and not o.was and o.is_dropped and p.was and (o.kind = 'attribute' or o.kind = 'column' and p.kind = 'table' and not p.is_dropped);
  -- Nothing holds rows of most tables, which is found out for all of them at once.
  types := array(
    select t.oid from pg_type as t
    where t.oid = any (types) and (
      t.oid in (select a.atttypid from pg_attribute as a) or t.typarray in (select a.atttypid from pg_attribute as a)
      or t.oid in (select b.typbasetype from pg_type as b) or t.typarray in (select b.typbasetype from pg_type as b) or t.oid in (select r.rngsubtype from pg_range as r)));
  if types = '{}' then return; end if;
  return query
  select h.relation, h.number, v.held
  from (select distinct x.relation, x.number from unnest(types) as t (oid) cross join lateral migration_guard.columns_holding(t.oid, false) as x) as h
  -- The rows of a partition are read by way of its root.
  join pg_class as c on c.oid = h.relation and c.relkind in ('r', 'p') and c.relpersistence <> 't' and not c.relispartition
  join pg_attribute as a on a.attrelid = h.relation and a.attnum = h.number
  cross join lateral migration_guard.departing_values(a.atttypid, format('t.%I', a.attname), departing) as v (held)
  where v.held <> '{}';
end
$$;
comment on function migration_guard.departing_columns() is
  'Columns whose values lose something with an attribute of a composite type, or a column of a table whose rows they hold, that goes; and
the expressions of which one is not null where a row t loses anything.';

create function migration_guard.departing_columns_elsewhere() returns table (relation oid, identity text, column_name text, held text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select h.relation, format('%I.%I', n.nspname, c.relname), a.attname::text, array_to_string(h.held, ', ')
  from migration_guard.departing_columns() as h
  join pg_class as c on c.oid = h.relation
  join pg_namespace as n on n.oid = c.relnamespace
  join pg_attribute as a on a.attrelid = h.relation and a.attnum = h.number
  where not exists (select from pg_temp.migration_guard_objects as t where t.kind = 'table' and t.is and t.objid = h.relation);
end
$$;
comment on function migration_guard.departing_columns_elsewhere() is
  'As departing_columns, of tables that are not compared with the backup, so that nothing of theirs is kept.';

create function migration_guard.holds_any(relation oid, held text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
  found boolean;
begin
  perform migration_guard.refuse_views(true);
  execute format('select exists (select from %s%s as t where num_nonnulls(%s) > 0)',
    case when exists (select from pg_class as c where c.oid = relation and c.relkind = 'r') then 'only ' else '' end, relation::regclass, held) into found;
  perform migration_guard.refuse_views(false);
  return found;
end
$$;
comment on function migration_guard.holds_any(oid, text) is 'Whether one of some expressions over a row t of a table is not null for any row.';

create function migration_guard.assert_holds_none(table_name text, relation oid, held text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('lock table %s in share mode', table_name);
  -- Until then somebody could have put another into its place.
  if to_regclass(table_name)::oid is distinct from relation or not migration_guard.may_be_read(relation) or migration_guard.holds_any(relation, held) then
    perform migration_guard.fail('plan_changed', format('%s has values by now that would be lost. Read the plan again.', table_name));
  end if;
end
$$;
comment on function migration_guard.assert_holds_none(text, oid, text) is
  'Locks a table that is in no backup against writers, and raises plan_changed where it is another, or one of some expressions over a row t of it is not null.';

create function migration_guard.discard_statements(backup_schema text) returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with unfit as materialized (select u.id, u.condition from migration_guard.unfit_rows() as u where u.is_discarded),
  holding as materialized (
    select h.relation, array_agg(distinct h.number) as numbers, string_agg(e.expression, ', ' order by h.number, e.place) as held
    from migration_guard.departing_columns() as h cross join lateral unnest(h.held) with ordinality as e (expression, place) group by h.relation
  ),
  discarding as materialized (
    -- Whole rows of a new table that goes, and of a table that is made anew from its copy; of a new column, or one whose type has a new attribute, its values.
    select t.id, t.objid, (t.new).identity as live_identity, (t.new).signature ->> 'kind' as relation_kind,
      coalesce((t.old).identity, (t.new).identity) as on_table, migration_guard.target(t.kind, (t.new).identity) as object,
      -- What came under the name of a table that has another now has a place of its own.
      case when not t.was and exists (select from pg_temp.migration_guard_objects as x where x.kind = 'table' and x.was and (x.old).name = (t.new).name)
        then migration_guard.backup_object_name((t.new).name, '_new', '{}') else coalesce((t.old).name, (t.new).name) end as name,
      case when u.id is not null then 'out of bounds' when not t.was and t.is_dropped then 'table dropped' when r.is_replaced then 'replaced' when r.loses_column then 'column dropped'
        when r.loses_values then 'column generated' else 'attribute dropped' end as why,
      u.condition, h.numbers, h.held,
      array(select (c.new).objsubid from pg_temp.migration_guard_objects as c where c.parent_id = t.id and c.kind = 'column' and (not c.was or migration_guard.is_computed_again(c.old, c.new))) as new_columns,
      array(select jsonb_array_elements_text((p.new).signature -> 'conkey')::int from pg_temp.migration_guard_objects as p
        where p.parent_id = t.id and p.kind = 'constraint' and (p.new).signature ->> 'contype' = 'p') as key
    from pg_temp.migration_guard_objects as t
    cross join lateral (
      select t.was and t.is_dropped and (migration_guard.restores((t.old).objid)
          or t.id in (select b.id from migration_guard.returning_partitions() as b where b.is_restored)) as is_replaced,
        t.was and exists (select from pg_temp.migration_guard_objects as c where c.parent_id = t.id and c.kind = 'column' and not c.was and c.is_dropped) as loses_column,
        t.was and exists (select from pg_temp.migration_guard_objects as c where c.parent_id = t.id and c.kind = 'column' and not c.is_same and migration_guard.is_computed_again(c.old, c.new)) as loses_values
    ) as r
    left join (select null::bigint as id, null::text as condition union all select x.id, x.condition from unfit as x) as u on coalesce(u.id, t.id) = t.id
    left join holding as h on h.relation = t.objid
    where t.kind = 'table' and t.is
      and (u.id is not null
        -- Few lose anything: only of these it is asked who reads them.
        or case when not t.was and t.is_dropped or r.is_replaced or r.loses_column or r.loses_values or h.relation is not null then
          not migration_guard.is_read_by_root(t.id) or t.id in (select p.id from migration_guard.departing_partitions() as p where p.is_restored)
        end)
  ),
  parts as (
    select d.*, format('%I.%I', backup_schema, migration_guard.discarded_name(d.name)) as discarded,
      string_agg(quote_ident(a.name), ', ' order by s.attnum) as names,
      string_agg(s.expression, ', ' order by s.attnum) as expressions,
      string_agg(format('add column if not exists %I %s', a.name, s.stored_type), ', ' order by s.attnum) as columns,
      format('num_nonnulls(%s) > 0', concat_ws(', ', string_agg(quote_ident(s.name), ', ' order by s.attnum) filter (where s.attnum = any (d.new_columns)), d.held)) as has_values
    from discarding as d
    cross join lateral migration_guard.stored_columns(d.objid) as s
    -- The name may be that of a column which the table had, of another type.
    cross join lateral migration_guard.discarded_column(format('%I.%I', backup_schema, migration_guard.discarded_name(d.name)),
      case when exists (
          select from pg_temp.migration_guard_objects as c
          where c.old_parent_id = d.id and c.kind = 'column' and (c.old).name = s.name and c.objsubid is distinct from s.attnum)
        then migration_guard.backup_object_name(s.name, '_dropped', '{}') else s.name end, s.stored_type) as a (name)
    where d.why not in ('column dropped', 'column generated', 'attribute dropped') or d.key = '{}' or s.attnum = any (d.key || d.new_columns || d.numbers)
    group by d.id, d.objid, d.live_identity, d.relation_kind, d.on_table, d.object, d.name, d.why, d.condition, d.new_columns, d.key, d.numbers, d.held
  )
  select 1, p.id::numeric, n.place::numeric, p.object, p.why, n.statement, p.on_table
  from parts as p
  cross join lateral (values
    (1, migration_guard.create_discarded_statement(p.discarded)),
    (2, format('alter table %s %s', p.discarded, p.columns)),
    (3, format('insert into %s (discarded_at, discarded_by, discarded_because, %s) select now(), migration_guard.discarding_actor(), %L, %s from %s', p.discarded, p.names, p.why, p.expressions,
      case when p.relation_kind = 'r' then 'only ' else '' end || p.live_identity || ' as t')
      || case when p.why in ('column dropped', 'column generated', 'attribute dropped') then ' where ' || p.has_values when p.why = 'out of bounds' then ' where ' || p.condition else '' end)
  ) as n (place, statement)
  union all
  select 1, 0::numeric, e.relation::bigint::numeric, migration_guard.target('table', e.identity), 'rows',
    format('select migration_guard.assert_holds_none(%L, %s, %L)', e.identity, e.relation, e.held), e.identity
  from migration_guard.departing_columns_elsewhere() as e
  union all
  -- Where rows are kept it has none, or the plan would not be possible.
  select 1, p.id::numeric, 0::numeric, migration_guard.target('table', p.identity), 'rows',
    format('select migration_guard.assert_no_rows(%L, %L)', p.identity, p.root), p.identity
  from migration_guard.departing_partitions() as p where not p.is_restored
  union all
  select 1, p.id, 0, migration_guard.target('table', p.identity), 'rows', format('select migration_guard.assert_no_rows(%L, %L)', p.identity, p.root), p.identity
  from migration_guard.displaced_partitions() as p;
end
$$;
comment on function migration_guard.discard_statements(text) is
  'Keeps, in the backup schema, the rows and values that go with what is dropped.';

create function migration_guard.unfit_row_statements() returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  -- When what would cascade from them is gone, and everything still has the name of today.
  select 3, 1000000::numeric, t.id + n.place / 10.0, migration_guard.target('table', (t.new).identity), 'rows', format(n.statement, (t.new).identity, u.condition),
    coalesce((t.old).identity, (t.new).identity)
  from migration_guard.unfit_rows() as u
  join pg_temp.migration_guard_objects as t on t.id = u.id
  cross join (values
    (1, 'select migration_guard.refuse_unknown_keys(%1$L, ''{}'', ''{}'')'),
    (2, 'alter table %1$s disable trigger user'),
    (3, 'delete from only %1$s as t where %2$s'),
    (4, 'alter table %1$s enable trigger user')
  ) as n (place, statement)
  where u.is_discarded;
end
$$;
comment on function migration_guard.unfit_row_statements() is
  'Deletes rows that would keep a partition from coming back, and are kept as discarded by then.';

create function migration_guard.create_discarded_statement(discarded text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('create table if not exists %s (discarded_at timestamptz not null, discarded_by text not null, discarded_because text not null)', discarded)
$$;
comment on function migration_guard.create_discarded_statement(text) is 'The statement that makes the table for discarded rows.';

create function migration_guard.row_statements(backup_schema text, options jsonb) returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with tables as materialized (
    select t.*, m.backup_table, m.mode, migration_guard.target(t.kind, (t.old).identity) as object,
      (t.old).identity as identity, format('%I.%I', backup_schema, migration_guard.discarded_name((t.old).name)) as discarded,
      case when m.mode = 'restore' then migration_guard.has_key(t.id) end as has_key,
      case when t.is then case (t.new).signature ->> 'kind' when 'p' then '' else 'only ' end
        || format('%I.%I', migration_guard.final_schema((t.new).schema_name), coalesce(t.waiting_name, (t.new).name)) end as source
    from pg_temp.migration_guard_objects as t
    left join pg_temp.migration_guard_copies as m on m.source_oid = (t.old).objid
    where t.kind = 'table' and t.was and (t.is_made or m.source_oid is not null)
      and (not ((t.old).signature ->> 'is_partition')::boolean or t.id in (select b.id from migration_guard.returning_partitions() as b where not b.is_restored))
  ),
  restored as materialized (
    select t.* from tables as t where t.is and not t.is_dropped and t.mode = 'restore' and t.backup_table is not null
  ),
  quieted as (
    select r.id, r.object, o.identity, o.replica_identity, o.is_identified
    from restored as r
    -- Once for each table, and not for each of its partitions.
    cross join lateral (select array(select p.relid::oid from pg_partition_tree(r.objid) as p) as oids offset 0) as w
    cross join lateral (
      select (x.old).identity as identity, (x.old).signature ->> 'replica_identity' as replica_identity,
        -- Without one, a row of a published table can be neither deleted nor told by a filter.
        (x.new).signature ->> 'replica_identity' = 'f'
          or (x.new).signature ->> 'replica_identity' = 'd' and exists (
            select from pg_temp.migration_guard_objects as k
            where k.parent_id = x.id and k.kind = 'constraint' and (k.new).signature ->> 'contype' = 'p' and not k.is_dropped)
          and not exists (select from pg_publication_rel as f where f.prrelid in (x.objid, r.objid) and f.prqual is not null) as is_identified
      from pg_temp.migration_guard_objects as x
      where x.is and x.was and (x.id = r.id or x.kind = 'table' and x.objid = any (w.oids))
    ) as o
  )
  -- What is checked at the end of a transaction would keep a table from being altered until then.
  select distinct 7, -1::numeric, 0::numeric, 'constraints', 'rows', 'set constraints all immediate', null::text from restored
  union all
  select 7, t.creation_order::numeric, 3::numeric, t.object, 'rows', migration_guard.refill_statement(backup_schema, t.backup_table, t.identity, t.id), t.identity
  from tables as t where t.is_made and t.backup_table is not null and (not t.is or t.mode = 'restore')
  union all
  select 7, t.creation_order, 3, t.object, 'rows', migration_guard.transfer_statement(backup_schema, t.backup_table, t.identity, t.source, t.id), t.identity
  from tables as t where t.is_made and t.is and (t.mode = 'keep' or t.backup_table is null)
  union all
  select 7, t.creation_order, z.place, t.object, 'rows', migration_guard.time_zone_statement(z.place < 3), null
  from tables as t cross join (values (2.9), (3.1)) as z (place)
  where t.is_made and t.is and (t.mode = 'keep' or t.backup_table is null)
    and exists (
      select from pg_temp.migration_guard_objects as c
      where c.kind = 'column' and c.parent_id = t.id and c.is and c.was and 'definition' = any (c.aspects) and migration_guard.needs_time_zone(c.old, c.new))
  union all
  select 7, r.creation_order, 1, r.object, 'rows', migration_guard.create_discarded_statement(r.discarded), r.identity from restored as r
  union all
  select 7, r.creation_order, 1.5, r.object, 'rows', format('alter table %s %s', r.discarded, c.columns), r.identity
  from restored as r
  cross join lateral (
    select concat_ws(', ', string_agg(format('add column if not exists %I %s', migration_guard.discarded_column(r.discarded, x ->> 'name', x ->> 'stored_type'), x ->> 'stored_type'), ', '),
      case when not r.has_key then 'add column if not exists discarded_table oid, add column if not exists discarded_place tid' end) as columns
    from pg_temp.migration_guard_copies as m cross join lateral jsonb_array_elements(m.columns) as x where m.source_oid = (r.old).objid
  ) as c
  union all
  select 7, r.creation_order, 2, r.object, 'rows', format('alter table %s disable trigger user', q.identity), q.identity
  from restored as r join quieted as q on q.id = r.id
  union all
  select 7, r.creation_order, 2.5, r.object, 'rows', format('alter table only %s replica identity full', q.identity), q.identity
  from restored as r join quieted as q on q.id = r.id where not q.is_identified
  union all
  select 7, r.creation_order, 4.5, r.object, 'rows', format('alter table only %s replica identity %s', q.identity, case q.replica_identity when 'f' then 'full' when 'n' then 'nothing' else 'default' end), q.identity
  from restored as r join quieted as q on q.id = r.id where not q.is_identified
  union all
  select 7, r.creation_order, 3 + array_position('{find,analyze,discard,delete,insert}'::text[], s.step) / 10.0, r.object, 'rows', s.statement, r.identity
  from restored as r
  cross join lateral (
    select * from migration_guard.keyed_restore_statements(backup_schema, r.backup_table, r.id, coalesce((options ->> 'leave_deleted')::boolean, false)) where r.has_key
    union all
    select * from migration_guard.keyless_restore_statements(backup_schema, r.backup_table, r.id) where not r.has_key
  ) as s
  union all
  -- Around what deletes, and what inserts.
  select 7, r.creation_order, s.place, r.object, 'rows', s.statement, r.identity
  from restored as r
  cross join lateral (
    select coalesce(array_agg(n.name order by o.id) filter (where f.confrelid = r.objid), '{}') as to_it,
      coalesce(array_agg(n.name order by o.id) filter (where f.conrelid = r.objid), '{}') as of_it
    from pg_temp.migration_guard_objects as o
    join pg_constraint as f on f.oid = o.objid
    cross join lateral (select format('%I.%I.%I', (o.old).schema_name, (o.old).parent_name, (o.old).name) as name) as n
    where o.stays and not o.is_dropped and r.objid in (f.confrelid, f.conrelid)
  ) as k
  cross join lateral (values
    (3.35, format('select migration_guard.refuse_unknown_keys(%L, %L, %L)', r.identity, k.to_it, k.of_it)),
    (3.38, case when k.to_it <> '{}' then 'set local session_replication_role = replica' end),
    (3.45, case when k.to_it <> '{}' and k.of_it = '{}' then 'set local session_replication_role to default'
      when k.of_it <> '{}' and k.to_it = '{}' then 'set local session_replication_role = replica' end),
    (3.55, case when k.of_it <> '{}' then 'set local session_replication_role to default' end)
  ) as s (place, statement)
  union all
  select 7, r.creation_order, 4, r.object, 'rows', format('alter table %s enable trigger user', q.identity), q.identity
  from restored as r join quieted as q on q.id = r.id;
end
$$;
comment on function migration_guard.row_statements(text, jsonb) is
  'Puts rows back: into what was made again, and where they are to be restored.';

create function migration_guard.comparing_statements(backup_schema text, options jsonb) returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select 17, t.id::numeric, 0::numeric, migration_guard.target(t.kind, (t.old).identity), 'rows',
    format('select migration_guard.assert_restored(%L, %L)', backup_schema, (t.old).identity), (t.old).identity
  from pg_temp.migration_guard_objects as t
  join pg_temp.migration_guard_copies as m on m.source_oid = t.old_objid
  where t.kind = 'table' and migration_guard.rollback_mode(options, (t.old).name) = 'restore';
end
$$;
comment on function migration_guard.comparing_statements(text, jsonb) is
  'Compares the rows of all tables that are to have those of the backup in the end.';

create function migration_guard.refuse_loss(keys_query text, table_name text, column_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  keys jsonb;
begin
  begin
    execute keys_query into keys;
  exception when data_exception then
    -- What does not fit at all is told by the statement that converts it.
    return;
  end;
  if keys is not null then
    perform migration_guard.fail('rows_violate_constraint',
      format('Values of %s in %s would lose something in the type that the column had.', column_name, table_name),
      jsonb_build_object('table', table_name, 'constraint', null, 'column', column_name, 'keys', keys));
  end if;
end
$$;
comment on function migration_guard.refuse_loss(text, text, text) is
  'Raises rows_violate_constraint where a query finds keys of rows whose values would not come through a conversion.';

create function migration_guard.row_key(table_id bigint, is_live boolean, of_key boolean) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- To JSON a type's own output function leads: to_jsonb would call a cast that somebody has made.
  return (
    select '(select to_jsonb(k.*) from (select ' || string_agg(format('%s as %I',
        case when v.type < 16384 then v.value else migration_guard.stored_form(v.value, '', 'text') end, c.name), ', ' order by c.number) || ') as k)'
    from migration_guard.row_columns(table_id) as c
    join pg_temp.migration_guard_objects as o on o.old_parent_id = table_id and o.kind = 'column' and (o.old).objsubid = c.number
    cross join lateral (
      select format('t.%I', case when is_live then c.live_name else c.name end) as value,
        (case when is_live then (o.new).signature else (o.old).signature end ->> 'type')::bigint as type
    ) as v
    where (c.live_name is not null or not is_live) and case when of_key then c.is_key else c.is_written end);
end
$$;
comment on function migration_guard.row_key(bigint, boolean, boolean) is
  'An expression for the key of a row t of a table as JSON, or for all that is written of it: by the names and types of today,
or by those that were recorded. Null where there is nothing of it.';

create function migration_guard.loss_statements() returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- There and back again: what Postgres rounds or cuts in silence is told, and nothing is done.
  return query
  with looked_for as (
    select c.id, migration_guard.target(c.kind, (c.new).identity) as object, migration_guard.needs_time_zone(c.old, c.new) as is_zoned,
      format('select migration_guard.refuse_loss(%L, %L, %L)',
        format('select jsonb_agg(x.key) from (select %s as key from %s%s as t where %s is distinct from t.%I limit 20) as x',
          coalesce(migration_guard.row_key(t.id, true, true), 'to_jsonb(t.ctid::text)'),
          case (t.new).signature ->> 'kind' when 'r' then 'only ' else '' end, (t.new).identity,
          migration_guard.conversion(c.new, c.old, format('(%s)', migration_guard.conversion(c.old, c.new, format('t.%I', (c.new).name)))), (c.new).name),
        (t.new).identity, (c.new).name) as statement, (t.old).identity as on_table
    from pg_temp.migration_guard_objects as c
    join pg_temp.migration_guard_objects as t on t.id = c.parent_id
    where c.kind = 'column' and c.is and c.was and t.kind = 'table' and t.was and not migration_guard.restores((t.old).objid)
      and t.id not in (select b.id from migration_guard.returning_partitions() as b where b.is_restored)
      and (not ((t.new).signature ->> 'is_partition')::boolean or not migration_guard.is_read_by_root(t.id)) and (c.old).signature ->> 'generated' = ''
      and (c.is_retyped or t.is_dropped and 'definition' = any (c.aspects))
      and ((c.old).signature -> 'type', (c.old).signature -> 'typmod') is distinct from ((c.new).signature -> 'type', (c.new).signature -> 'typmod')
      -- Types that somebody made come and go as text, whole; some of Postgres's own cannot be compared.
      and ((c.new).signature ->> 'type')::oid < 16384
      and ((c.old).signature ->> 'type')::oid < 16384
      and exists (select from pg_operator as q where q.oprname = '=' and q.oprleft = ((c.new).signature ->> 'type')::oid and q.oprright = q.oprleft)
  )
  select 1, 0::numeric, l.id::numeric, l.object, 'redefined', l.statement, l.on_table from looked_for as l
  union all
  select 1, 0, l.id + z.place, l.object, 'redefined', migration_guard.time_zone_statement(z.place < 0), null
  from looked_for as l cross join (values (-0.1), (0.1)) as z (place) where l.is_zoned;
end
$$;
comment on function migration_guard.loss_statements() is
  'Looks, under the locks, for values that a conversion would change.';

-- What completes objects ---------------------------------------------------------------------------------------------------

create function migration_guard.reset_statements(entry migration_guard.catalog_entry, old migration_guard.catalog_entry) returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array_remove(case entry.kind
    when 'table' then array[
      case when entry.signature ->> 'triggers_disabled' = 'true' and old.signature ->> 'triggers_disabled' = 'false' then format('alter table only %s enable trigger all', old.identity) end,
      case when entry.signature ->> 'replica_identity' <> 'd' and old.signature ->> 'replica_identity' = 'd' then format('alter table only %s replica identity default', old.identity) end]
    when 'column' then array[
      case when entry.signature -> 'statistics' <> old.signature -> 'statistics' then format('alter table only %I.%I alter column %I set statistics -1', old.schema_name, old.parent_name, old.name) end,
      case when entry.signature -> 'storage' <> old.signature -> 'storage' then format('alter table only %I.%I alter column %I set storage %s', old.schema_name, old.parent_name, old.name,
        case old.signature ->> 'storage' when 'p' then 'plain' when 'e' then 'external' when 'm' then 'main' else 'extended' end) end,
      case when entry.signature ->> 'compression' <> '' then format('alter table only %I.%I alter column %I set compression default', old.schema_name, old.parent_name, old.name) end,
      case when entry.signature -> 'options' <> 'null' then format('alter table only %I.%I alter column %I reset (%s)', old.schema_name, old.parent_name, old.name,
        (select string_agg(split_part(o, '=', 1), ', ') from jsonb_array_elements_text(entry.signature -> 'options') as o)) end]
    when 'materialized_view' then array[
      case when entry.signature ->> 'is_populated' = 'true' and old.signature ->> 'is_populated' = 'false' then format('refresh materialized view %s with no data', old.identity) end]
    when 'index' then array[
      case when entry.signature ->> 'indisclustered' = 'true' and old.signature ->> 'indisclustered' = 'false' then format('alter table %I.%I set without cluster', old.schema_name, old.parent_name) end,
      case when entry.signature -> 'options' <> old.signature -> 'options' then 'alter index ' || old.identity || migration_guard.phrase(' reset (%s)',
        (select string_agg(split_part(o, '=', 1), ', ') from jsonb_array_elements_text(nullif(entry.signature -> 'options', 'null')) as o)) end,
      -- That of a constraint has them among its settings.
      case when entry.signature -> 'options' <> old.signature -> 'options' and not old.is_internal then
        'alter index ' || old.identity || migration_guard.phrase(' set (%s)', migration_guard.option_list(array(select jsonb_array_elements_text(nullif(old.signature -> 'options', 'null'))))) end]
      || array(select format('alter index %s alter column %s set statistics -1', old.identity, a.value ->> 0) from jsonb_array_elements(entry.signature -> 'statistics') with ordinality as a (value, place) order by a.place)
    when 'trigger' then array[
      case when entry.signature -> 'tgenabled' <> '"O"' then format('alter table only %I.%I enable trigger %I', old.schema_name, old.parent_name, old.name) end]
    when 'rule' then array[
      case when entry.signature -> 'ev_enabled' <> '"O"' then format('alter table %I.%I enable rule %I', old.schema_name, old.parent_name, old.name) end]
    when 'statistics' then array[format('alter statistics %s set statistics -1', old.identity)]
    else '{}' end, null)
    || array(
      select format('alter %s no depends on extension %I', migration_guard.target(old.kind, old.identity), x.extname)
      from migration_guard.catalog_extension_needs as x
      where (x.classid, x.objid) = (entry.classid, entry.objid) and entry.objsubid = 0
        and not exists (select from unnest(old.settings) as s (statement) where s.statement = format('alter %s depends on extension %I', migration_guard.target(old.kind, old.identity), x.extname))
      order by x.extname)
$$;
comment on function migration_guard.reset_statements(migration_guard.catalog_entry, migration_guard.catalog_entry) is
  'What a live object has beyond Postgres''s defaults, taken back, before it gets the settings that it had.';

create function migration_guard.completing_statements() returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with completed as materialized (
    select o.*, coalesce(o.creation_order, p.creation_order)::numeric as place, migration_guard.target(o.kind, (o.old).identity) as object,
      case when migration_guard.is_table(o.kind) then (o.old).identity when migration_guard.is_table(p.kind) then (p.old).identity end as on_table,
      o.is_made and (o.is_dropped or not o.is) or coalesce(p.is_made and (p.is_dropped or not p.is), false) as is_fresh,
      coalesce(o.reason, case when o.is then 'redefined' else 'missing' end) as why
    from pg_temp.migration_guard_objects as o
    left join pg_temp.migration_guard_objects as p on p.id = o.old_parent_id
    where o.was and (o.is_made or p.is_made or o.is_retyped or o.is_reset or o.aspects <> '{}')
  )
  select 10, c.place, c.id + 0.1, c.object, c.why, s.statement, c.on_table
  from completed as c
  cross join lateral unnest(migration_guard.reset_statements(c.new, c.old)) as s (statement)
  where not c.is_fresh and c.is and 'settings' = any (c.aspects)
  union all
  select case when c.kind = 'materialized_view' and s.statement ~ '^refresh' then 15 when c.kind = 'sequence' then 11 else 10 end, case when c.kind = 'sequence' then 1e6 else 0 end + c.place, c.id + 0.2 + s.number / 100.0, c.object, c.why, s.statement, c.on_table
  from completed as c
  cross join lateral unnest((c.old).settings) with ordinality as s (statement, number)
  where (c.is_fresh or c.is_reset or 'settings' = any (c.aspects)
      or c.is_retyped and substr(s.statement, length(format('alter table only %I.%I alter column %I ', (c.old).schema_name, (c.old).parent_name, (c.old).name)) + 1)
        ~ '^set (default|storage|statistics|compression) '
      or c.kind = 'column' and 'definition' = any (c.aspects) and starts_with(s.statement, 'comment on constraint '))
    -- Not null of a column that stays has been set, and its comment may have gone with the one that was there.
    and not (not c.is_fresh and c.kind = 'column' and starts_with(s.statement, format('alter table %I.%I add constraint ', (c.old).schema_name, (c.old).parent_name)))
  union all
  select 11, c.place, c.id, c.object, c.why, format('alter %s owner to %I', c.object, (c.old).owner), c.on_table
  from completed as c
  where (c.old).owner is not null and (c.is_fresh and (c.old).owner <> current_user or not c.is_fresh and c.is and 'owner' = any (c.aspects))
  union all
  -- A column can own a sequence that has the owner of its table.
  select 11, c.place, c.id, c.object, c.why, format('alter %s owner to %I', c.object, (t.old).owner), null
  from completed as c
  join pg_temp.migration_guard_objects as t on (t.old).objid::text = (c.old).signature -> 'owned_by' ->> 0 and (t.old).objsubid = 0
  where c.kind = 'sequence' and (c.old).signature -> 'owned_by' ->> 2 = 'a' and (c.is_fresh or c.is_reset or 'settings' = any (c.aspects))
    and (t.old).owner is distinct from case when c.is_fresh then current_user else pg_get_userbyid((select x.relowner from pg_class as x where x.oid = c.objid)) end
  union all
  select 12, c.place, c.id, c.object, c.why, format('comment on %s is %s', c.object, coalesce(quote_literal((c.old).comment), 'null')), c.on_table
  from completed as c
  where c.kind not in ('publication_table', 'publication_schema', 'default_privilege', 'enum_value')
    and (c.is_fresh and (c.old).comment is not null or not c.is_fresh and c.is and 'comment' = any (c.aspects));
end
$$;
comment on function migration_guard.completing_statements() is
  'Gives settings, owners and comments to what was made, and to what stays where they differ.';

create function migration_guard.grant_target(entry migration_guard.catalog_entry) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when entry.kind in ('table', 'foreign_table', 'view', 'materialized_view') then 'table ' || entry.identity
    when entry.kind = 'aggregate' then 'function ' || replace(entry.identity, '(*)', '()')
    when migration_guard.is_type(entry.kind) then 'type ' || entry.identity
    else entry.kind || ' ' || entry.identity end
$$;
comment on function migration_guard.grant_target(migration_guard.catalog_entry) is 'An object as GRANT names it.';

create function migration_guard.default_grantees(kind text, schema_name text) returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array(
    select distinct case when e.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(e.grantee)) end
    from pg_default_acl as d
    cross join lateral aclexplode(d.defaclacl) as e
    where d.defaclrole = current_user::regrole and d.defaclnamespace in (0, coalesce(to_regnamespace(quote_ident(default_grantees.schema_name))::oid, 0))
      and d.defaclobjtype = case
        when kind in ('table', 'foreign_table', 'view', 'materialized_view') then 'r' when kind = 'sequence' then 'S'
        when kind in ('function', 'procedure', 'aggregate') then 'f' when migration_guard.is_type(kind) then 'T' else 'n' end
      and e.grantee <> d.defaclrole)
$$;
comment on function migration_guard.default_grantees(text, text) is
  'To whom default privileges give something of an object that is made now.';

create function migration_guard.privilege_statements() returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with granted as materialized (
    select o.*, p.kind as parent_kind, p.is_made and (p.is_dropped or not p.is) as is_part_of_fresh, p.aspects as parent_aspects, (p.old).owner as parent_owner,
      -- What the new owner of a table had been granted on its columns becomes the old one's with it.
      'privileges' = any (o.aspects) or o.kind = 'column' and 'owner' = any (p.aspects) as is_regranted,
      coalesce(o.creation_order, p.creation_order)::numeric as place, migration_guard.target(o.kind, (o.old).identity) as object,
      case when o.kind = 'column' then null else migration_guard.grant_target(o.old) end as target,
      o.is_made and (o.is_dropped or not o.is) as is_fresh,
      coalesce(o.reason, case when o.is then 'redefined' else 'missing' end) as why,
      -- The sequence of an identity is its table's owner's.
      coalesce((o.old).owner, (
        select (t.old).owner from pg_temp.migration_guard_objects as t
        where (t.old_classid, t.old_objid, t.old_objsubid) = ((o.old).parent_classid, (o.old).parent, 0))) as owner
    from pg_temp.migration_guard_objects as o
    left join pg_temp.migration_guard_objects as p on p.id = o.old_parent_id
    where o.was and (o.is_made or p.is_made or o.aspects <> '{}' or p.aspects <> '{}') and (o.old).acl is not null and o.kind <> 'default_privilege'
  ),
  revoked as materialized (
    select g.*, case when g.is_fresh then array_remove(migration_guard.default_grantees(g.kind, (g.old).schema_name), quote_ident(g.owner)) else array(
        select distinct case when e.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(e.grantee)) end
        from aclexplode(migration_guard.acl_items((g.new).acl)) as e
        where pg_get_userbyid(e.grantee) is distinct from g.owner) end as grantees
    from granted as g where g.kind <> 'column' and (g.is_fresh or 'privileges' = any (g.aspects))
  )
  -- A new owner must be able to make things in the schema.
  select case r.kind when 'schema' then 11 else 13 end, case r.kind when 'schema' then -1 else r.place end, r.id + 0.1, r.object, r.why, format('revoke all on %s from %s cascade', r.target, array_to_string(r.grantees, ', ')), null::text
  from revoked as r where r.grantees <> '{}'
  union all
  -- What everybody may do by default.
  select 13, r.place, r.id + 0.2, r.object, r.why, format('grant %s on %s to public', case when migration_guard.is_type(r.kind) then 'usage' else 'execute' end, r.target), null
  from revoked as r
  where (r.old).grants = '{}' and (migration_guard.is_type(r.kind) or r.kind in ('function', 'procedure', 'aggregate')) and (r.grantees <> '{}' or not r.is_fresh)
  union all
  select case r.kind when 'schema' then 11 else 13 end, case r.kind when 'schema' then -1 else r.place end, r.id + 0.2, r.object, r.why, format('grant all on %s to %I', r.target, r.owner), null
  from revoked as r where (r.old).grants = '{}' and not r.is_fresh and r.owner is not null
  union all
  select case r.kind when 'schema' then 11 else 13 end, case r.kind when 'schema' then -1 else r.place end, r.id + 0.3 + g.number / 1000.0, r.object, r.why, g.statement, null
  from revoked as r cross join lateral unnest((r.old).grants) with ordinality as g (statement, number)
  union all
  -- Those of columns go with a table's, and come after them.
  select 13, c.place, 1e6 + c.id + 0.1, c.object, c.why, format('revoke all (%I) on table %I.%I from %s cascade', (c.old).name, (c.old).schema_name, (c.old).parent_name, (
      select string_agg(distinct case when e.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(e.grantee)) end, ', ')
      from (select x.grantee from aclexplode(migration_guard.acl_items((c.new).acl)) as x union all select to_regrole(quote_ident(c.parent_owner))::oid) as e)), null
  from granted as c where c.kind = 'column' and not c.is_part_of_fresh and c.is_regranted and (c.new).acl <> ''
  union all
  select 13, c.place, 1e6 + c.id + 0.2 + g.number / 1000.0, c.object, c.why, g.statement, null
  from granted as c cross join lateral unnest((c.old).grants) with ordinality as g (statement, number)
  where c.kind = 'column' and (c.is_part_of_fresh or c.is_regranted or 'privileges' = any (c.parent_aspects));
end
$$;
comment on function migration_guard.privilege_statements() is
  'Takes what default privileges or the migration have given, and gives what was given.';

create function migration_guard.sequence_statements(backup_schema text, options jsonb) returns setof migration_guard.rollback_statement
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Never backwards: what the live one has given out must not be given out again.
  return query execute format($query$
    with kept as materialized (select * from migration_guard.kept_numbers($1))
    select 14, o.creation_order::numeric, o.id::numeric, migration_guard.target(o.kind, (o.old).identity), 'position',
      case
        -- Nor what rows have that another sequence gave them.
        when r.numbers is not null then
          format('select pg_catalog.setval(%%L, p.last_value, p.is_called) from ', (o.old).identity) || case when o.is_made then '' else (o.old).identity || ' as s cross join ' end
          || format('(select x.last_value, x.is_called from (values (%%s::bigint, %%L::boolean)%%s) as x (last_value, is_called) where x.last_value is not null order by x.last_value%%s, x.is_called desc limit 1) as p',
            p.last_value, p.is_called, r.numbers, case when d.descends then '' else ' desc' end)
          || case when o.is_made then '' else format(' where p.last_value %%s s.last_value or p.last_value = s.last_value and p.is_called and not s.is_called', case when d.descends then '<' else '>' end) end
        when o.is_made then format('select pg_catalog.setval(%%L, %%s, %%L)', (o.old).identity, p.last_value, p.is_called)
        else format('select pg_catalog.setval(%%L, %%s, %%L) from %%s as s where s.last_value %%s %%s', (o.old).identity, b.last_value, b.is_called, (o.old).identity,
          case when d.descends then '>' else '<' end, b.last_value)
          || case when b.is_called then format(' or s.last_value = %%s and not s.is_called', b.last_value) else '' end end, null::text
    from pg_temp.migration_guard_objects as o
    join %1$I.objects_backup as b on (b.classid, b.objid, b.objsubid) = ((o.old).classid, (o.old).objid, 0)
    cross join lateral (select (o.old).signature ->> 'seqincrement' ~ '^-' as descends) as d
    -- Another may number the column today.
    left join lateral (
      select x.new as sequence
      from pg_temp.migration_guard_objects as c
      join pg_temp.migration_guard_objects as x on x.kind = 'sequence' and x.is and not x.was
        and (x.new).signature -> 'owned_by' ->> 0 = c.objid::text and (x.new).signature -> 'owned_by' ->> 1 = c.objsubid::text
      where c.kind = 'column' and (c.old).objid::text = (o.old).signature -> 'owned_by' ->> 0 and (c.old).objsubid::text = (o.old).signature -> 'owned_by' ->> 1
      order by x.id limit 1
    ) as s on not o.is
    cross join lateral migration_guard.furthest_position(o.old, case when not o.is_made then null when o.is then o.new else s.sequence end, b.last_value, b.is_called) as p
    -- What it cannot give out does not matter. The column is nearly always a key, whose end this reads.
    left join lateral (
      select string_agg(format(' union all select %%1$s(t.%%2$I)::bigint, true from %%3$s as t where t.%%2$I between %%4$L::bigint and %%5$L::bigint', case when d.descends then 'min' else 'max' end,
        k.column_name, k.table_name, (o.old).signature ->> 'seqmin', (o.old).signature ->> 'seqmax'), '' order by k.table_name, k.column_name) as numbers
      from kept as k where k.sequence_id = o.id
    ) as r on true
    where o.kind = 'sequence' and o.was and b.last_value is not null and (o.is_made or o.aspects && '{definition,position}')
  $query$, backup_schema) using options;
end
$$;
comment on function migration_guard.sequence_statements(text, jsonb) is 'Puts sequences where they stood, or further where they or the rows that they number have gone on.';

create function migration_guard.furthest_position(old migration_guard.catalog_entry, new migration_guard.catalog_entry, inout last_value bigint, inout is_called boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  live record;
begin
  if new.objid is not null and has_sequence_privilege(new.objid, 'select') then
    select s.last_value into live from pg_sequences as s where format('%I.%I', s.schemaname, s.sequencename) = new.identity;
    if live.last_value is not null and (live.last_value > last_value) <> (old.signature ->> 'seqincrement' ~ '^-') then
      last_value := live.last_value;
      is_called := true;
    end if;
  end if;
end
$$;
comment on function migration_guard.furthest_position(migration_guard.catalog_entry, migration_guard.catalog_entry, bigint, boolean) is
  'The further of two positions: where a sequence stood, and where the live one stands.';
