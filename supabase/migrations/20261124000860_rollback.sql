-- Chapter 8, continued. The rollback plan as it is shown, and the job that runs it: all of it, or nothing.

create table migration_guard.rollback_plans (
  -- SHA-256 over the backup, the options, the statements and the catalog that they were drawn on.
  plan_hash text not null,
  backup_id uuid not null references migration_guard.backups,
  options jsonb not null,
  -- When each key was shown it last, {actor: time}: forgotten when a rollback is queued.
  drawn_by jsonb not null default '{}',
  statements jsonb,
  drawn_at timestamptz not null default now(),
  primary key (backup_id, plan_hash)
);
comment on table migration_guard.rollback_plans is
  'Rollback plans that were shown in the last 30 days, so that one which no longer holds can be told from the one that does.';

create function migration_guard.said_options(options jsonb) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_typeof(options) not in ('object', 'null') then
    perform migration_guard.fail('invalid_parameter', 'The options of a rollback are an object.');
  end if;
  return case jsonb_typeof(options) when 'object' then jsonb_strip_nulls(options) else '{}' end;
end
$$;
comment on function migration_guard.said_options(jsonb) is 'The options of a rollback that somebody has said anything of. Raises invalid_parameter.';

create function migration_guard.parse_rollback_options(options jsonb) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  parsed constant jsonb := '{"data": "keep", "drop_new": [], "leave_deleted": false}'::jsonb || migration_guard.said_options(options);
  unknown text;
begin
  select string_agg(k, ', ') into unknown from jsonb_object_keys(parsed) as k where k not in ('data', 'drop_new', 'leave_deleted');
  if unknown is not null then
    perform migration_guard.fail('invalid_parameter', format('A rollback has no option %s.', unknown));
  end if;
  if not (parsed -> 'data' in ('"keep"', '"restore"')
    or jsonb_typeof(parsed -> 'data') = 'object' and not exists (
      select from jsonb_each(case jsonb_typeof(parsed -> 'data') when 'object' then parsed -> 'data' else '{}' end) as d (name, mode) where d.mode not in ('"keep"', '"restore"'))) then
    perform migration_guard.fail('invalid_parameter', 'data is keep, restore, or an object with one of these for each table by name.');
  end if;
  if not (parsed -> 'drop_new' in ('"all"', '"blocking"')
    or jsonb_typeof(parsed -> 'drop_new') = 'array' and not jsonb_path_exists(parsed -> 'drop_new', 'strict $[*] ? (@.type() != "string")')) then
    perform migration_guard.fail('invalid_parameter', 'drop_new is all, blocking, or a list of the names of new tables.');
  end if;
  if jsonb_typeof(parsed -> 'leave_deleted') <> 'boolean' then
    perform migration_guard.fail('invalid_parameter', 'leave_deleted is true or false.');
  end if;
  return parsed;
end
$$;
comment on function migration_guard.parse_rollback_options(jsonb) is
  'The options of a rollback, whole: data (keep, restore, or one of them by table), drop_new (all, blocking, or tables) and
leave_deleted. Raises invalid_parameter.';

create function migration_guard.assert_tables_named(options jsonb) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  unknown text;
begin
  select string_agg(n.name, ', ' order by n.name) into unknown
  from (
    select jsonb_object_keys(options -> 'data') as name where jsonb_typeof(options -> 'data') = 'object'
  ) as n
  where not exists (
    select from pg_temp.migration_guard_objects as o join pg_temp.migration_guard_copies as c on c.source_oid = (o.old).objid
    where o.kind = 'table' and (o.old).name = n.name);
  if unknown is not null then
    perform migration_guard.fail('invalid_parameter', format('The backup has no rows of: %s. data names tables as the backup does.', unknown));
  end if;
  select string_agg(n.name, ', ' order by n.name) into unknown
  from (
    select jsonb_array_elements_text(options -> 'drop_new') as name where jsonb_typeof(options -> 'drop_new') = 'array'
  ) as n
  where not exists (select from pg_temp.migration_guard_objects as o where o.kind = 'table' and o.is and not o.was and (o.new).name = n.name);
  if unknown is not null then
    perform migration_guard.fail('invalid_parameter', format('drop_new names what is no new table: %s. new_objects of the plan lists those that are.', unknown));
  end if;
end
$$;
comment on function migration_guard.assert_tables_named(jsonb) is
  'Raises invalid_parameter where options name a table that the backup has no rows of, or that is not new.';

-- What bars the way ---------------------------------------------------------------------------------------------------

create function migration_guard.enum_value_uses() returns table (object text, why text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  used record;
  rows bigint;
begin
  if not exists (select from pg_temp.migration_guard_objects as o where o.kind = 'enum_value' and o.is and not o.was) then
    return;
  end if;
  -- Rows that are put back from their copies have no such value.
  for used in
    select v.new as value, c.relation, c.name, c.is_array
    from pg_temp.migration_guard_objects as v
    join pg_temp.migration_guard_objects as e on e.id = v.parent_id and e.is_dropped and e.was
    cross join lateral (
      select a.attrelid as relation, a.attname as name, t.typelem = e.objid as is_array
      from pg_attribute as a
      join pg_class as r on r.oid = a.attrelid and r.relkind = 'r' and r.relpersistence <> 't'
      join pg_type as t on t.oid = a.atttypid
      where a.attnum > 0 and not a.attisdropped and e.objid in (t.oid, t.typelem, t.typbasetype)
    ) as c
    where v.kind = 'enum_value' and v.is and not v.was
      and not exists (
        select from pg_temp.migration_guard_objects as t
        where t.objid = c.relation and t.objsubid = 0
          and (not t.was and t.is_dropped
            or t.was and migration_guard.restores((t.old).objid)
            -- The rows of a partition are those of its root.
            or migration_guard.is_read_by_root(t.id) and exists (
              select from pg_temp.migration_guard_objects as r where r.kind = 'table' and r.objid = pg_partition_root(t.objid) and migration_guard.restores(r.old_objid))))
      and not exists (
        select from pg_temp.migration_guard_objects as k
        join pg_attribute as a on a.attrelid = c.relation and a.attname = c.name
        where (k.classid, k.objid, k.objsubid) = ('pg_class'::regclass, a.attrelid, a.attnum) and k.is_dropped and not k.was)
      and migration_guard.may_be_read(c.relation)
  loop
    perform migration_guard.refuse_views(true);
    execute format(case when used.is_array then 'select count(*) from only %s as t where exists (select from unnest(t.%I) as u where format(''%%s'', u) = %L)'
      else 'select count(*) from only %s as t where format(''%%s'', t.%I) = %L' end, used.relation::regclass, used.name, (used.value).name) into rows;
    perform migration_guard.refuse_views(false);
    if rows > 0 then
      object := (used.value).identity;
      why := format('%s rows of %s have this value in %s, and the type did not have it', rows, used.relation::regclass, used.name);
      return next;
    end if;
  end loop;
end
$$;
comment on function migration_guard.enum_value_uses() is
  'Enum values that are too many, and the rows that have them.';

create function migration_guard.recorded_root(table_id bigint) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    with recursive ancestors (id, depth) as (
      select table_id, 0
      union all
      select p.id, a.depth + 1
      from ancestors as a
      join pg_temp.migration_guard_objects as t on t.id = a.id
      join pg_temp.migration_guard_objects as p on p.kind = 'table'
        and (p.old_classid, p.old_objid, p.old_objsubid) = ('pg_class'::regclass::oid, ((t.old).signature -> 'parents' ->> 0)::oid, 0)
      where ((t.old).signature ->> 'is_partition')::boolean
    )
    select a.id from ancestors as a order by a.depth desc limit 1);
end
$$;
comment on function migration_guard.recorded_root(bigint) is 'The partitioned table that a recorded partition was in, at the top.';

create function migration_guard.had_privilege(role_name text, privilege text, acl text) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.rolsuper or privilege = 'SELECT' and pg_has_role(r.oid, 'pg_read_all_data', 'usage') or exists (
    select from aclexplode(migration_guard.acl_items(acl)) as e
    where e.privilege_type = privilege and (e.grantee = 0 or pg_has_role(r.oid, e.grantee, 'usage')))
  from pg_roles as r where r.rolname = role_name
$$;
comment on function migration_guard.had_privilege(text, text, text) is
  'Whether a role has a privilege by privileges that were recorded.';

create function migration_guard.columns_read(query text) returns table (relation oid, columns int[])
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Of each relation in the text of a rule's query: the bits count from the first system column, -7, and 0 is the whole row.
  select m[1]::oid, array(select b::int - 7 from regexp_split_to_table(trim(m[3]), ' +') as b where b <> '')
  from regexp_matches(query, ':relid (\d+) [^{}]*?:requiredPerms (\d+) :checkAsUser \d+ :selectedCols \(b([ 0-9]*)\)', 'g') as m
  where m[2]::int & 2 = 2
$$;
comment on function migration_guard.columns_read(text) is
  'The relations that a recorded query of a view reads, each with the numbers of the columns that it reads; none for a bare count.';

create function migration_guard.may_read(reader text, relation migration_guard.catalog_entry, columns int[]) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if migration_guard.had_privilege(reader, 'SELECT', relation.acl) then
    return true;
  end if;
  return (
    -- The whole row may be read by whoever may read all columns, and what is read of none by whoever may read any.
    select case when columns = '{}' then coalesce(bool_or(c.granted), false)
      when 0 = any (columns) then coalesce(bool_and(c.granted), false)
      else columns <@ coalesce(array_agg(c.number) filter (where c.granted), '{}') end
    from (
      select (c.old).objsubid as number, migration_guard.had_privilege(reader, 'SELECT', (c.old).acl) as granted
      from pg_temp.migration_guard_objects as c
      where c.kind = 'column' and (c.old).objid = relation.objid
    ) as c);
end
$$;
comment on function migration_guard.may_read(text, migration_guard.catalog_entry, int[]) is
  'Whether a role may read some columns of a relation, by what was recorded of its privileges.';

create function migration_guard.unfillable_views(backup_schema text) returns table (object text, why text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A materialized view is filled with its owner's rights, and one that was filled before they were taken stays filled. To
  -- fill it with other rights would lend these to the functions that it calls.
  return query execute format($query$
    with recursive filled as (
      select o.id, o.old as entry, (o.old).owner as reader
      from pg_temp.migration_guard_objects as o
      where o.kind = 'materialized_view' and o.is_made and (o.old).signature ->> 'is_populated' = 'true'
      union
      -- A view reads with the rights of its own owner, unless it says otherwise, and has functions called with those of its reader.
      select f.id, v.old, case when (v.old).signature ->> 'options' ~* '"security_invoker=(t|on|y|1)' then f.reader else (v.old).owner end
      from filled as f
      cross join lateral migration_guard.columns_read((f.entry).signature ->> 'query') as q
      join pg_temp.migration_guard_objects as v on v.kind = 'view' and (v.old).objid = q.relation
    )
    select distinct migration_guard.target(o.kind, (o.old).identity), w.why
    from filled as f
    join pg_temp.migration_guard_objects as o on o.id = f.id
    cross join lateral (
      select format('%%s %%s may not read %%s, as it was before, so that it could not be filled again',
        case when f.reader = (o.old).owner then 'its owner' else 'the role of a view in it' end, f.reader, (r.old).identity)
      from migration_guard.columns_read((f.entry).signature ->> 'query') as q
      join pg_temp.migration_guard_objects as r on (r.old).objid = q.relation and (r.old).objsubid = 0
      where r.kind in ('table', 'foreign_table', 'view', 'materialized_view') and not migration_guard.may_read(f.reader, r.old, q.columns)
      union all
      select format('its owner %%s may not call %%s, as it was before, so that it could not be filled again', (o.old).owner, (r.old).identity)
      from %1$I.dependencies_backup as d
      join pg_temp.migration_guard_objects as r on ((r.old).classid, (r.old).objid) = (d.refclassid, d.refobjid)
      where (d.classid, d.objid) = ((f.entry).classid, (f.entry).objid)
        and r.kind in ('function', 'aggregate') and not migration_guard.had_privilege((o.old).owner, 'EXECUTE', (r.old).acl)
    ) as w (why)
  $query$, backup_schema);
end
$$;
comment on function migration_guard.unfillable_views(text) is
  'Materialized views that have to be made again, and whose owner may not read or call what they are made of.';

create function migration_guard.called_functions(entry migration_guard.catalog_entry, is_same_database boolean)
returns table (function text, owner text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with named as (
    -- In the trees of expressions.
    select distinct m[1] as kind, m[2]::oid as oid from regexp_matches(entry.signature::text, ':(funcid|opno) (\d+)', 'g') as m where m[2]::bigint >= 16384
  ),
  functions as (
    select n.oid from named as n where n.kind = 'funcid'
    union
    select q.oprcode::oid from named as n join pg_operator as q on q.oid = n.oid where n.kind = 'opno' and is_same_database
  )
  -- Whoever wrote what is called then: the recorded body where that is made again.
  select coalesce((o.old).identity, p.oid::regprocedure::text),
    case when o.is_made then (o.old).owner when o.is then (o.new).owner else pg_get_userbyid(p.proowner)::text end
  from functions as f
  left join pg_temp.migration_guard_objects as o on (o.old).classid = 'pg_proc'::regclass and (o.old).objid = f.oid
  left join pg_proc as p on p.oid = f.oid and is_same_database
  where o.id is not null or p.oid is not null;
end
$$;
comment on function migration_guard.called_functions(migration_guard.catalog_entry, boolean) is
  'The functions that the expressions of a recorded object call when it is made again, and whose they are then.';

create function migration_guard.untrusted_rollback_code(backup_schema text, options jsonb) returns table (object text, why text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  is_same_database constant boolean := migration_guard.is_same_database(backup_schema);
begin
  return query
  with touched as materialized (
    select t.id, t.objid, t.is
    from pg_temp.migration_guard_objects as t
    where t.kind = 'table' and (t.is_made or t.is and t.is_dropped or t.is and t.was and migration_guard.restores((t.old).objid)
      -- Or is read, for a foreign key to it.
      or exists (select from pg_temp.migration_guard_objects as k where k.kind = 'constraint' and k.is_made and (k.old).signature ->> 'confrelid' = (t.old).objid::text)
      or exists (
        select from pg_temp.migration_guard_objects as p
        where t.id in (p.parent_id, p.old_parent_id) and (p.is_retyped or p.kind = 'column' and p.is_dropped or p.kind in ('index', 'constraint') and p.is_made)))
    union
    -- Or for what would be lost, or for its greatest number.
    select t.id, t.objid, t.is
    from pg_temp.migration_guard_objects as t
    where t.kind = 'table' and t.is and (t.objid in (select h.relation from migration_guard.departing_columns() as h)
      or t.objid in (select u.objid from migration_guard.unfit_rows() as u)
      or t.was and (t.old).identity in (select k.table_name from migration_guard.kept_numbers(options) as k))
  ),
  live as (
    select array_agg(p.classid) as classids, array_agg(p.objid) as objids
    from touched as t cross join lateral migration_guard.written_parts(t.objid) as p where t.is
  ),
  found as (
    select f.object, f.function, f.owner from live as l cross join lateral migration_guard.untrusted_functions(l.classids, l.objids) as f
    union
    select migration_guard.target(o.kind, (o.old).identity), f.function, f.owner
    from pg_temp.migration_guard_objects as o
    left join pg_temp.migration_guard_objects as p on p.id = o.old_parent_id
    cross join lateral migration_guard.called_functions(o.old, is_same_database) as f
    where o.was and o.kind in ('table', 'column', 'index', 'constraint', 'domain_constraint') and (o.is_made or p.is_made)
      and not migration_guard.is_trusted(to_regrole(quote_ident(f.owner)))
  )
  select f.object, format('Postgres could call %s with the rights of %s, and it is owned by %s', f.function, current_user, f.owner) from found as f;
end
$$;
comment on function migration_guard.untrusted_rollback_code(text, jsonb) is
  'What a rollback would make Postgres call with the rights of whoever runs it, of functions of somebody who is not trusted.';

create function migration_guard.unknown_keys() returns table (object text, why text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with restored as materialized (
    select t.id, t.objid, migration_guard.target(t.kind, (t.old).identity) as object
    from pg_temp.migration_guard_objects as t
    join pg_temp.migration_guard_copies as m on m.source_oid = t.old_objid and m.mode = 'restore'
    where t.kind = 'table' and t.is and t.was and not t.is_dropped
  )
  select r.object, format('the foreign key %s is not among what is compared with the backup, and could cascade from the rows that are put back: drop it, or keep the rows', k.name)
  from migration_guard.keys_of_rows(
    array(select x.objid from restored as x),
    array(select x.objid from restored as x where exists (select from pg_temp.migration_guard_objects as o where o.parent_id = x.id and o.stays))) as k
  join restored as r on r.objid = k.relation
  -- What a key has for each partition goes with it.
  where not k.is_part and not exists (
    select from pg_temp.migration_guard_objects as o
    where (o.classid, o.objid, o.objsubid) = ('pg_constraint'::regclass, k.key, 0) and (o.is_dropped or o.stays));
end
$$;
comment on function migration_guard.unknown_keys() is
  'Tables whose rows are to be put back, and foreign keys that would refuse that when the rollback has locked them: what refuse_unknown_keys would find.';

create function migration_guard.held_rows() returns table (object text, why text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select migration_guard.target(coalesce(c.kind, 'column'), coalesce((c.new).identity, format('%s.%I', h.relation::regclass, a.attname))),
    format('it holds rows of %s, of which %s has to get another type', (t.new).identity, string_agg((k.new).name, ', ' order by (k.new).name))
  from pg_temp.migration_guard_objects as t
  join pg_temp.migration_guard_objects as k on k.parent_id = t.id and k.kind = 'column' and k.is_retyped and not k.is_dropped
  join pg_class as r on r.oid = t.objid
  cross join lateral (
    select x.relation, x.number from migration_guard.columns_holding(r.reltype) as x
    union select d.attrelid, d.attnum from pg_attribute as d where d.atttypid = r.reltype and not d.attisdropped
  ) as h
  join pg_attribute as a on a.attrelid = h.relation and a.attnum = h.number
  join pg_class as hc on hc.oid = h.relation and hc.relkind in ('r', 'p', 'm')
  left join pg_temp.migration_guard_objects as c on (c.classid, c.objid, c.objsubid) = ('pg_class'::regclass, h.relation, h.number)
  left join pg_temp.migration_guard_objects as p on p.id = c.parent_id
  where t.kind = 'table' and t.was and not t.is_dropped
    -- What goes at once is in nobody's way.
    and not coalesce(c.is_dropped and not c.is_late or p.is_dropped and not p.is_late, false)
  group by c.kind, c.new, h.relation, a.attname, t.new;
end
$$;
comment on function migration_guard.held_rows() is
  'Columns that hold rows of a table, and keep Postgres from altering the types of its columns.';

create function migration_guard.immovable_objects(options jsonb) returns table (object text, why text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select migration_guard.target('table', p.identity),
    format('it holds rows of %1$s, which would go with it: detach it, insert its rows into %1$s, and drop it; truncate it where they are not wanted; or keep it, so that drop_new does not name it', p.root)
  from migration_guard.departing_partitions() as p
  where not p.is_restored and migration_guard.has_rows(p.objid)
  union all
  select migration_guard.target('table', p.identity),
    format(case when p.is_new
      then 'it holds rows of %1$s, which has to be made anew and had no partition for them: detach it, leave it out of drop_new, and attach it again after the rollback; or restore the rows of %1$s'
      else 'it was no part of %1$s, which has to be made anew with all the rows that it has now: detach it' end, p.root)
  from migration_guard.displaced_partitions() as p
  where migration_guard.has_rows(p.objid)
  union all
  -- Its rows would go with what waits, and its bounds are taken until then.
  select migration_guard.target('table', (t.new).identity), format('it has to be made anew, and is a partition of %s, which stays: detach it', (r.new).identity)
  from pg_temp.migration_guard_objects as t
  join pg_temp.migration_guard_objects as r on r.id = migration_guard.recorded_root(t.id) and r.id <> t.id and r.is and r.was and not r.is_dropped
  where t.kind = 'table' and t.is and t.was and t.is_dropped and migration_guard.is_read_by_root(t.id)
  union all
  select migration_guard.target('table', b.identity), case
      when b.now_in is not null then format('it is made anew with %s, which it was in, and is a partition of %s now: detach it', b.root, b.now_in)
      else format('it has rows, and %1$s, which it was in, is gone: restore those of %1$s, so that these are kept as discarded; or drop it, if they are not wanted', b.root) end
  from migration_guard.returning_partitions() as b
  join pg_temp.migration_guard_objects as r on r.id = b.root_id
  where b.now_in is not null or not b.is_root_there and b.is_restored and migration_guard.rollback_mode(options, (r.old).name) = 'keep' and migration_guard.has_rows(b.objid)
  union all
  select migration_guard.target(c.kind, (c.old).identity), format('its values are gone: restore the rows of %s', b.root)
  from migration_guard.returning_partitions() as b
  join pg_temp.migration_guard_objects as c on c.old_parent_id = b.id and c.kind = 'column' and not c.is and (c.old).signature ->> 'generated' = ''
  where not b.is_restored and migration_guard.has_rows(b.objid)
  union all
  select migration_guard.target('sequence', s.identity), s.why
  from migration_guard.stuck_sequences(options) as s
  union all
  select h.object, h.why from migration_guard.held_rows() as h
  union all
  select migration_guard.target(c.kind, (c.new).identity), format('it goes with the attribute of the type that %s is of, and the backup does not hold that type: drop the attribute', (t.new).identity)
  from pg_temp.migration_guard_objects as c
  join pg_temp.migration_guard_objects as t on t.id = c.parent_id and t.kind = 'table' and t.was and not t.is_dropped
  where c.kind = 'column' and not c.was and c.is_dropped
    and (t.new).signature ->> 'of_type' <> '0' and not migration_guard.has_other_type(t.old, t.new, t.aspects)
    and not exists (
      select from pg_temp.migration_guard_objects as a
      where a.kind = 'attribute' and a.is_dropped and (a.new).parent::text = (t.new).signature ->> 'of_type' and (a.new).name = (c.new).name)
  union all
  -- Which are told apart by their order alone.
  select migration_guard.target(y.kind, (y.new).identity), format('its attributes are in another order than they were, so that values cannot become what they were of: restore the rows of %s', string_agg(distinct (t.new).identity, ', '))
  from pg_temp.migration_guard_objects as y
  cross join lateral migration_guard.columns_holding(y.objid, false) as h
  join pg_temp.migration_guard_objects as t on t.kind = 'table' and t.is and t.objid = h.relation
  where y.kind = 'composite_type' and y.was and y.is_dropped and not ((t.new).signature ->> 'is_partition')::boolean
    and exists (select from pg_temp.migration_guard_objects as c where c.kind = 'attribute' and c.parent_id = y.id and 'place' = any (c.aspects))
    and not (not t.was and t.is_dropped) and not migration_guard.restores(t.old_objid) and migration_guard.has_rows(t.objid)
  group by y.kind, y.new
  union all
  select migration_guard.target('column', format('%s.%I', e.identity, e.column_name)),
    'its values have an attribute that goes, and the backup does not hold the table: empty that attribute first'
  from migration_guard.departing_columns_elsewhere() as e
  where case when has_table_privilege(e.relation, 'select') and has_table_privilege(e.relation, 'update, delete, truncate') and migration_guard.may_be_read(e.relation)
    then migration_guard.holds_any(e.relation, e.held) else true end
  union all
  select c.object, format('its not null is called %s, and cannot be renamed while its parent has one: drop that of the parent', (c.new).parts ->> 'not_null_name')
  from migration_guard.not_null_columns() as c where c.is_misnamed
  union all
  -- It would get that of the parent, or be its own for good.
  select c.object, format('its not null was called %s, which one of a partition that comes back can be only where the whole has one: set %s not null first', (c.old).parts ->> 'not_null_name', (k.new).identity)
  from migration_guard.not_null_columns() as c
  join pg_temp.migration_guard_objects as t on (t.old).objid = (c.old).objid and t.kind = 'table' and ((t.old).signature ->> 'is_partition')::boolean
  join pg_temp.migration_guard_objects as k on k.kind = 'column' and k.is and k.was and (k.old).objid::text = (t.old).signature -> 'parents' ->> 0 and (k.old).name = (c.old).name
  where c.was and not c.is and not c.is_inherited and (k.old).signature ->> 'not_null' = 'true' and (k.new).signature ->> 'not_null' = 'false'
    and (c.old).parts ->> 'not_null_name' <> (k.old).parts ->> 'not_null_name'
  union all
  -- They belong to the superuser that Postgres was made with, and keep their names and arguments when the type waits under another name.
  select migration_guard.target(o.kind, (o.new).identity),
    'it has to be made anew, and cannot while the functions that Postgres has made for it are there: drop it with the columns that have it, and restore the rows of their tables'
  from pg_temp.migration_guard_objects as o
  where o.kind = 'range_type' and o.is and o.was and o.is_dropped
  union all
  select migration_guard.target(o.kind, (o.new).identity), format('it has the name of a schema that goes by %I now, and a schema is never dropped with what is in it', (w.new).name)
  from pg_temp.migration_guard_objects as o
  join pg_temp.migration_guard_objects as w on w.kind = 'schema' and w.was and w.is and w.is_renamed and (w.old).name = (o.new).name
  where o.kind = 'schema' and o.is and not o.was;
end
$$;
comment on function migration_guard.immovable_objects(jsonb) is
  'What bars the way as it is now, whatever is kept or restored, and why: somebody has to move it first.';

create function migration_guard.is_there(kind text, names text[], args text[]) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_get_object_address(kind, names, args);
  return true;
exception
when lock_not_available or deadlock_detected or insufficient_resources then
  raise;
-- Of each kind Postgres has an error of its own for what is not there.
when others then
  return false;
end
$$;
comment on function migration_guard.is_there(text, text[], text[]) is
  'Whether there is an object of such an address, as pg_identify_object_as_address gives it.';

create function migration_guard.broken_needs(backup_schema text) returns table (object text, why text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Elsewhere the same numbers are those of other objects.
  if migration_guard.why_versions_mislead(backup_schema) is not null then return; end if;
  return query
  select format('%s %s', n.kind, n.identity),
    case when i.identity is null then format('it is gone, and %s needs it: make it again first', n.needed_by)
      else format('it goes by %s now, and %s needs it as it was: rename it back first', i.identity, n.needed_by) end
  from migration_guard.backups as b
  join migration_guard.backup_versions as v on v.backup_id = b.id
  cross join lateral jsonb_to_recordset(v.needs) as n (classid bigint, objid bigint, objsubid int, kind text, identity text, names text[], args text[], needed_by text)
  cross join lateral pg_identify_object_as_address(n.classid::oid, n.objid::oid, n.objsubid) as a
  cross join lateral pg_identify_object(n.classid::oid, n.objid::oid, n.objsubid) as i
  -- Not by its arguments: their types may be the plan's, and get their names back.
  where b.schema_name = backup_schema and b.removed_at is null and a.object_names is distinct from n.names
    -- What was made again serves as well.
    and (a.object_names is not null or not migration_guard.is_there(n.kind, n.names, n.args));
end
$$;
comment on function migration_guard.broken_needs(text) is
  'What a backup does not hold and recorded objects need, where it is gone or has another name: their definitions could not be what they were.';

create function migration_guard.moved_objects(backup_schema text) returns table (object text, why text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from pg_temp.migration_guard_objects as o where o.is and not o.was and o.is_dropped and o.parent_id is null)
    or migration_guard.why_versions_mislead(backup_schema) is not null then
    return;
  end if;
  return query
  select migration_guard.target(o.kind, (o.new).identity), 'it was in another schema when the backup was taken, which does not hold it, and would be dropped: move it back there first'
  from pg_temp.migration_guard_objects as o
  where o.is and not o.was and o.is_dropped and o.parent_id is null and o.kind <> 'schema' and (o.classid, o.objid) in (
    select r.classid, r.objid
    from migration_guard.backups as b
    join migration_guard.backup_versions as v on v.backup_id = b.id
    cross join lateral unnest(v.classids, v.objids) as r (classid, objid)
    where b.schema_name = backup_schema and b.removed_at is null);
end
$$;
comment on function migration_guard.moved_objects(text) is
  'What a plan takes for new, and was somewhere else before: no definition of it is left when it is dropped.';

create function migration_guard.partition_obstacles() returns table (object text, why text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select migration_guard.target(o.kind, (o.new).identity), format('it stays, but overlaps a partition of %s that comes back: drop_new must name it%s, or be blocking or all', (p.new).identity,
    case (o.new).signature ->> 'kind' when 'p' then ' and its partitions' else '' end)
  from pg_temp.migration_guard_bounds as b
  join pg_temp.migration_guard_objects as o on o.id = b.id and not o.is_dropped
  join pg_temp.migration_guard_objects as p on p.id = b.parent_id and not p.is_dropped
  where b.is_new and b.is_overlapping
  union all
  select migration_guard.target('table', (t.new).identity),
    format('it holds rows that another partition of %1$s is to have again: ' || case when u.is_restored then '' else 'restore the rows of %1$s, or ' end || 'move them out of it first', u.root)
  from migration_guard.unfit_rows() as u
  join pg_temp.migration_guard_objects as t on t.id = u.id
  where u.is_default and not u.is_discarded and migration_guard.has_rows(u.objid, u.condition);
end
$$;
comment on function migration_guard.partition_obstacles() is
  'Partitions that stay and leave recorded ones no place, by their bounds or by the rows of a default.';

create function migration_guard.rollback_obstacles(backup_schema text, options jsonb) returns table (object text, why text, blocks boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not migration_guard.is_anything_to_do() then return; end if;
  return query
  select format('backup of %s', b.version), format('its verification of %s found that it is not whole: verify it again, and read which check failed', b.verified_at), true
  from migration_guard.backups as b where b.schema_name = backup_schema and b.removed_at is null and b.verified_ok is false
  union all
  -- Rows that nobody has
  select migration_guard.target(t.kind, (t.old).identity), 'its rows are gone: the backup has no copy of them', true
  from pg_temp.migration_guard_objects as t
  where t.kind = 'table' and t.was and not t.is and (t.old).signature ->> 'kind' = 'r' and not ((t.old).signature ->> 'is_partition')::boolean
    and not exists (select from pg_temp.migration_guard_copies as m where m.source_oid = (t.old).objid)
  union all
  -- The rows of a partition are in the copy of its root.
  select migration_guard.target(t.kind, (t.old).identity), case
      when w.source_oid is not null then format('its rows are gone: restore those of %s', (r.old).identity)
      when m.source_oid is not null then format('its rows are gone, and in a copy of its own: make it again, and insert them from %I.%I', backup_schema, m.backup_table)
      else format('its rows are gone: the backup has no copy of %s', (r.old).identity) end, true
  from pg_temp.migration_guard_objects as t
  cross join lateral migration_guard.recorded_root(t.id) as root (id)
  join pg_temp.migration_guard_objects as r on r.id = root.id
  -- Where the whole is not recorded, the partition is all that is known of it.
  left join pg_temp.migration_guard_copies as w on w.source_oid = r.old_objid and r.id <> t.id
  left join pg_temp.migration_guard_copies as m on m.source_oid = t.old_objid
  where t.kind = 'table' and t.was and not t.is and ((t.old).signature ->> 'is_partition')::boolean
    -- What has taken the root's place has them in partitions of its own.
    and case when r.is then r.matched_by = 'identity' and not migration_guard.restores(r.old_objid) else w.source_oid is null end
  union all
  select migration_guard.target(t.kind, (t.old).identity), format('its rows are those of %s: restore these instead, where the backup has a copy of them, or insert what is missing from %I.%I by hand',
    case when r.id = t.id then 'what it was a partition of' else (r.old).identity end, backup_schema, m.backup_table), true
  from pg_temp.migration_guard_copies as m
  join pg_temp.migration_guard_objects as t on t.old_objid = m.source_oid and t.kind = 'table' and t.is and ((t.old).signature ->> 'is_partition')::boolean
  join pg_temp.migration_guard_objects as r on r.id = migration_guard.recorded_root(t.id)
  where m.mode = 'restore' and (r.id = t.id or not migration_guard.restores(r.old_objid))
  union all
  select migration_guard.target(c.kind, (c.old).identity), case when m.source_oid is null then 'its values are gone: the backup has no copy of the table''s rows'
      else 'its values cannot be told to rows: the table had no primary key, or that has gone too; restore the table''s rows' end, true
  from pg_temp.migration_guard_objects as c
  join pg_temp.migration_guard_objects as t on t.id = c.old_parent_id and t.kind = 'table' and t.is
  left join pg_temp.migration_guard_copies as m on m.source_oid = (t.old).objid
  where c.kind = 'column' and c.was and not c.is and not ((t.old).signature ->> 'is_partition')::boolean and (c.old).signature ->> 'generated' = ''
    and (m.source_oid is null or m.mode = 'keep' and (
      not exists (select from migration_guard.row_columns(t.id) as k where k.is_key)
      or exists (select from migration_guard.row_columns(t.id) as k where k.is_key and k.kept_value is null)))
  union all
  select migration_guard.target(t.kind, (t.old).identity), case when t.is_dropped or not t.is then 'it is made anew, with all rows of the backup' else
      'it has no primary key: rows that were deleted cannot be told from those that were changed' end || ', so that leave_deleted cannot hold', true
  from pg_temp.migration_guard_objects as t
  join pg_temp.migration_guard_copies as m on m.source_oid = (t.old).objid
  where t.kind = 'table' and (options ->> 'leave_deleted')::boolean and m.mode = 'restore'
    and (t.is_dropped or not t.is or not migration_guard.has_key(t.id))
  union all
  select migration_guard.target(c.kind, (c.old).identity), format('its values are gone from %s: restore the rows of its table', (u.new).identity), true
  from pg_temp.migration_guard_objects as c
  join pg_temp.migration_guard_objects as y on y.id = c.old_parent_id and y.is
  join pg_temp.migration_guard_links as l on l.ref_id = y.id and l.via = 'type'
  join pg_temp.migration_guard_objects as u on u.id = l.id and u.kind = 'column' and u.was
  join pg_temp.migration_guard_objects as t on t.id = u.parent_id and t.kind = 'table'
  left join pg_temp.migration_guard_copies as m on m.source_oid = (t.old).objid
  -- Dropped and added again, it has the values of what came since.
  where c.kind = 'attribute' and c.was and (not c.is or c.matched_by = 'name' and y.matched_by = 'identity') and not migration_guard.restores((t.old).objid)
    -- The rows of a partition are in the copy of its root.
    and not exists (
      select from pg_temp.migration_guard_objects as r
      where r.id = migration_guard.recorded_root(t.id) and ((t.old).signature ->> 'is_partition')::boolean and migration_guard.restores((r.old).objid))
    and case when m.row_count is null then pg_relation_size(t.objid) > 0 else m.row_count > 0 end
  union all
  -- Such a column stays, and with it the type that would have to go.
  select migration_guard.target(c.kind, (c.new).identity), format('it holds rows of %s, which has to be made anew', (r.new).identity), true
  from pg_temp.migration_guard_objects as r
  join pg_temp.migration_guard_links as l on l.ref_id = r.id and l.via = 'type'
  join pg_temp.migration_guard_objects as c on c.id = l.id and c.kind = 'column' and c.is and not c.is_dropped and not c.is_retyped
  join pg_temp.migration_guard_objects as t on t.id = c.parent_id and not t.is_dropped
  where r.kind = 'table' and r.is and r.is_dropped
  union all
  select i.object, i.why, true from migration_guard.immovable_objects(options) as i
  union all
  select u.object, u.why, true from migration_guard.enum_value_uses() as u
  union all
  select u.object, u.why, true from migration_guard.unfillable_views(backup_schema) as u
  union all
  select u.object, u.why, true from migration_guard.untrusted_rollback_code(backup_schema, options) as u
  union all
  select u.object, u.why, true from migration_guard.unknown_keys() as u
  union all
  select n.object, n.why, true from migration_guard.broken_needs(backup_schema) as n
  union all
  select m.object, m.why, true from migration_guard.moved_objects(backup_schema) as m
  union all
  select p.object, p.why, true from migration_guard.partition_obstacles() as p
  union all
  -- What stays and cannot
  select migration_guard.target(o.kind, (o.new).identity), format('it stays, but %s: drop_new must name its table, or be all', o.reason), true
  from pg_temp.migration_guard_objects as o where o.is_kept and o.is_dropped and (options -> 'drop_new' <> '"blocking"' or o.kind in ('table', 'column'))
    -- Parts of a table go with it, which says so.
    and not exists (select from pg_temp.migration_guard_objects as p where p.id = o.parent_id and p.kind = 'table' and p.is_kept and p.is_dropped)
    -- An index of a key is none of the table's.
    and not (o.kind = 'index' and (o.new).is_internal)
  union all
  select distinct migration_guard.target(o.kind, (o.new).identity), format('it stays, but has the name of %s: drop_new must name its table, or be all', migration_guard.target(w.kind, (w.old).identity)), true
  from pg_temp.migration_guard_objects as o
  join pg_temp.migration_guard_objects as w on (w.old).name = (o.new).name and w.was and (w.is_made or w.is_renamed) and w.id <> o.id
  where o.is_kept and o.waiting_name is not null
  union all
  -- What the backup does not know
  select pg_describe_object(l.classid, l.objid, 0), format('it needs %s, and the backup does not hold it', coalesce((r.new).identity, '')), true
  from pg_temp.migration_guard_links as l
  join pg_temp.migration_guard_objects as r on r.id = l.ref_id
  where l.id is null and (r.is_dropped or r.is_retyped)
    and not exists (select from pg_depend as e where e.classid = l.classid and e.objid = l.objid and e.deptype = 'e');
end
$$;
comment on function migration_guard.rollback_obstacles(text, jsonb) is
  'What cannot be undone, and why; blocks tells whether the rollback is refused for it.';

-- The plan ------------------------------------------------------------------------------------------------------------

create function migration_guard.statement_effect(statement text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when statement ~* '^alter .* rename |^alter .* set schema |^select migration_guard.name_foreign_key_parts' then 'rename'
    when statement ~* '^(insert|delete|refresh)' then 'rows'
    when statement ~* '^alter table .* alter column .* type |^alter table .* set (un)?logged$' then 'rewrite'
    when statement ~* '^create (unique )?index|^create temporary table|^select migration_guard.(find_changed_rows|assert_restored)|^alter table .* add constraint (?!.* not valid)|^alter table .* set not null|^alter table .* (validate constraint|attach partition) ' then 'scan'
    else 'metadata' end
$$;
comment on function migration_guard.statement_effect(text) is
  'What a statement does to rows: nothing (rename, metadata), reads them (scan), writes them anew (rewrite), or changes them (rows).';

create function migration_guard.statement_lock(statement text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when statement ~* '^lock table' then 'ACCESS EXCLUSIVE'
    when statement ~* '^(insert|delete)' then 'ROW EXCLUSIVE'
    when statement ~* '^create (unique )?index' then 'SHARE'
    when statement ~* '^create (constraint )?trigger|^alter table .* (foreign key|(enable|disable) (replica |always )?trigger) ?' then 'SHARE ROW EXCLUSIVE'
    when statement ~* '^alter index .* rename |^comment on |^alter statistics |^create statistics|^alter publication|^alter table .* (validate constraint|set statistics|cluster on|set without cluster)' then 'SHARE UPDATE EXCLUSIVE'
    when statement ~* '^alter table |^(create|drop|alter) (policy|rule|trigger|view|materialized view|index)|^drop table|^create or replace view|^refresh|^select migration_guard.name_foreign_key_parts' then 'ACCESS EXCLUSIVE'
  end
$$;
comment on function migration_guard.statement_lock(text) is
  'The table lock that a statement takes, by the name that Postgres''s manual gives it; null where it locks no table that is there.';

create function migration_guard.all_rollback_statements(backup_schema text, options jsonb)
returns table (step int, phase int, object text, reason text, statement text, "on" text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not migration_guard.is_anything_to_do() then return; end if;
  return query
  with statements as materialized (
    select * from migration_guard.discard_statements(backup_schema)
    union all select * from migration_guard.loss_statements()
    union all select * from migration_guard.loosening_statements()
    union all select * from migration_guard.drop_statements()
    union all select * from migration_guard.unfit_row_statements()
    union all select * from migration_guard.rename_statements()
    union all select * from migration_guard.make_statements(backup_schema)
    union all select * from migration_guard.part_name_statements()
    union all select * from migration_guard.ambiguity_statements(backup_schema)
    union all select * from migration_guard.column_statements()
    union all select * from migration_guard.not_null_statements()
    union all select * from migration_guard.alter_statements()
    union all select * from migration_guard.row_statements(backup_schema, options)
    union all select * from migration_guard.completing_statements()
    union all select * from migration_guard.privilege_statements()
    union all select * from migration_guard.sequence_statements(backup_schema, options)
  ),
  locks as (
    -- At first, and in one order, what is changed or read for the last time.
    select 0, 0::numeric, 0::numeric, migration_guard.target(t.kind, (t.new).identity), 'locked while it is changed',
      format('lock table %s in access exclusive mode', (t.new).identity), coalesce((t.old).identity, (t.new).identity)
    from pg_temp.migration_guard_objects as t
    where t.kind = 'table' and t.is and exists (
      select from statements as s
      where s."on" = coalesce((t.old).identity, (t.new).identity) and migration_guard.statement_lock(s.statement) in ('ACCESS EXCLUSIVE', 'SHARE ROW EXCLUSIVE'))
  ),
  comparisons as (
    -- Foreign keys that are kept quiet refuse nothing.
    select c.* from migration_guard.comparing_statements(backup_schema, options) as c
    where exists (select from statements as s where s.statement = 'set local session_replication_role = replica')
  ),
  placed as (select * from statements union all select * from locks union all select * from comparisons)
  select (row_number() over (order by s.phase, s.position, s.place, s.object, s.statement))::int, s.phase, s.object, s.reason, s.statement, s."on"
  from placed as s
  where s.statement is not null
  order by 1;
end
$$;
comment on function migration_guard.all_rollback_statements(text, jsonb) is
  'The statements of a rollback in order, from what the planner has decided.';

create function migration_guard.assumed_catalog() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select encode(sha256(convert_to(coalesce(string_agg(format('%s %s %s %s %s %s %L %s', o.old_classid, o.old_objid, o.old_objsubid, o.classid, o.objid, o.objsubid, (o.new).identity,
      case when o.is then migration_guard.object_checksum((o.new).definition, (o.new).settings, (o.new).owner, (o.new).comment, (o.new).grants, (o.new).sort_order) end), E'\n'
      order by o.old_classid, o.old_objid, o.old_objsubid, o.classid, o.objid, o.objsubid), ''), 'UTF8')), 'hex')
    from pg_temp.migration_guard_objects as o where not o.is_same);
end
$$;
comment on function migration_guard.assumed_catalog() is
  'SHA-256 over what differs between the live catalog that a plan was drawn on and its backup.';

create function migration_guard.decide_rollback(backup_schema text, options jsonb, differing oid[] default '{}') returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set client_min_messages = 'error'
as $$
declare
  altered constant oid[] := (select a.altered from migration_guard.altered_objects(backup_schema) as a);
  copied record;
  scope record;
begin
  execute format('select coalesce(array_agg(t.source_oid), ''{}'') as oids, coalesce(array_agg(t.source_table::text), ''{}'') as names from %I.tables_backup as t', backup_schema) into copied;
  -- Where it is not known what was altered, all of it is looked at.
  select s.* into scope from migration_guard.rollback_scope(backup_schema, altered,
    array(
      select t.id from unnest(copied.oids, copied.names) as t (id, name)
      -- One that is gone gets its rows back in any case.
      where migration_guard.rollback_mode(options, t.name) = 'restore' or not exists (select from pg_class as c where c.oid = t.id))) as s
  where altered is not null;
  perform migration_guard.collect_rollback_objects(backup_schema, altered, scope.others);
  perform migration_guard.assert_tables_named(options);
  perform migration_guard.choose_modes(options, differing);
  perform migration_guard.mark_lagging_sequences(backup_schema, options);
  if not migration_guard.is_anything_to_do() then return; end if;
  perform migration_guard.collect_rollback_links(scope.reached);
  perform migration_guard.keep_new_objects(options);
  perform migration_guard.mark_redefined();
  perform migration_guard.mark_attached_indexes();
  perform migration_guard.mark_rebuilt();
  perform migration_guard.mark_overlapping(options);
  perform migration_guard.mark_in_the_way_of_rows(options);
  perform migration_guard.mark_dependents();
  perform migration_guard.mark_left();
  perform migration_guard.mark_unvalidated_checks(backup_schema);
  perform migration_guard.mark_late();
  perform migration_guard.mark_quieted();
  perform migration_guard.choose_waiting_names();
end
$$;
comment on function migration_guard.decide_rollback(text, jsonb, oid[]) is
  'Fills the planner''s tables: what stays, what goes, and what is made again. Raises invalid_parameter.';

create function migration_guard.plan_rollback(version text, options jsonb default '{}', actor text default session_user, differing oid[] default '{}')
returns table (plan_hash text, possible boolean, statements jsonb, new_objects jsonb, cannot_undo jsonb, left_as_is jsonb, tables jsonb, notes jsonb)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set row_security = off set jit = off
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set extra_float_digits = 1
set bytea_output = 'hex' set quote_all_identifiers = off set standard_conforming_strings = on set lc_monetary = 'C'
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(version);
  parsed constant jsonb := migration_guard.parse_rollback_options(options);
begin
  -- First: Postgres makes nothing in a subtransaction while it has not taken note of an ALTER DOMAIN before, which no reading has it do.
  delete from migration_guard.rollback_plans as p where p.drawn_at < now() - interval '30 days';
  begin
    perform migration_guard.assert_backup_schema(backup);
    perform migration_guard.decide_rollback(backup.schema_name, parsed, differing);
    select coalesce(jsonb_agg(jsonb_build_object('step', s.step, 'object', s.object, 'reason', s.reason, 'statement', s.statement,
        'effect', migration_guard.statement_effect(s.statement), 'lock', migration_guard.statement_lock(s.statement), 'on', s."on",
        'estimated_rows', case when migration_guard.statement_effect(s.statement) in ('scan', 'rewrite', 'rows') then migration_guard.estimated_rows(s."on") end) order by s.step), '[]'),
      encode(sha256(convert_to(jsonb_build_array(backup.id, parsed, migration_guard.assumed_catalog(),
        -- Where a sequence stands is not for the plan to say.
        jsonb_agg(case when s.phase = 14 then s.object else s.statement end order by s.step))::text, 'UTF8')), 'hex')
    into statements, plan_hash
    from migration_guard.all_rollback_statements(backup.schema_name, parsed) as s;
    select coalesce(jsonb_agg(to_jsonb(u) order by u.blocks desc, u.object, u.why), '[]'), not coalesce(bool_or(u.blocks), false)
    into cannot_undo, possible
    from migration_guard.rollback_obstacles(backup.schema_name, parsed) as u;
    select coalesce(jsonb_agg(jsonb_build_object('object', migration_guard.target(o.kind, (o.new).identity), 'dropped', o.is_dropped) order by o.id), '[]'),
      coalesce(jsonb_agg(jsonb_build_object('object', migration_guard.target(o.kind, (o.new).identity), 'why', 'new, and not named in drop_new') order by o.id) filter (where o.is_kept), '[]')
    into new_objects, left_as_is
    from pg_temp.migration_guard_objects as o
    where o.is and not o.was and (o.parent_id is null or not exists (
      select from pg_temp.migration_guard_objects as p where p.id = o.parent_id and not p.was));
    -- They are counted for whoever reads the plan.
    tables := migration_guard.rollback_tables(backup.schema_name, parsed, plan_rollback.actor is not null);
    notes := migration_guard.rollback_notes(statements);
    insert into migration_guard.rollback_plans as p (plan_hash, backup_id, options, drawn_by, statements)
    values (plan_rollback.plan_hash, backup.id, parsed, case when plan_rollback.actor is null then '{}' else jsonb_build_object(plan_rollback.actor, now()) end, (select jsonb_agg(s -> 'statement' order by n) from jsonb_array_elements(statements) with ordinality as s (s, n)))
    on conflict on constraint rollback_plans_pkey do update set drawn_at = now(), drawn_by = p.drawn_by || excluded.drawn_by;
    return next;
  exception when syntax_error_or_access_rule_violation or data_exception then
    -- A cleanup may have come while it was read.
    perform migration_guard.get_backup(version);
    perform migration_guard.refuse_damaged(backup);
    raise;
  end;
end
$$;
comment on function migration_guard.plan_rollback(text, jsonb, text, oid[]) is
  'The statements that lead back to a backup, and what stands in the way. Changes nothing but that the key has drawn it;
without an actor nobody has, and deleted rows are not counted. Tables that
are known to differ from their copies are not read to find that out. Raises backup_not_found, backup_damaged or invalid_parameter.';

create function migration_guard.estimated_rows(table_name text) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  relation oid := (
    select coalesce(o.objid, to_regclass(table_name)::oid) from (select 1) as one
    left join pg_temp.migration_guard_objects as o on o.is and coalesce((o.old).identity, (o.new).identity) = table_name and o.objsubid = 0 and migration_guard.is_table(o.kind)
    order by o.id limit 1);
  counted bigint;
  is_counted boolean;
begin
  -- A table that was not analyzed yet says -1. Of a partitioned table, those of its partitions alone.
  select nullif(sum(c.reltuples) filter (where c.reltuples > 0), 0)::bigint, coalesce(bool_and(c.reltuples >= 0), true) into counted, is_counted
  from (select relation as oid union select p.relid from pg_partition_tree(relation) as p) as r
  cross join lateral (select x.reltuples from pg_class as x where x.oid = r.oid and x.relkind <> 'p' offset 0) as c;
  return coalesce(
    counted,
    -- There is no table, or nobody has counted.
    (
      select nullif(m.row_count, 0) from pg_temp.migration_guard_objects as o
      join pg_temp.migration_guard_copies as m on m.source_oid = (o.old).objid
      where o.kind = 'table' and (o.old).identity = table_name limit 1),
    case when is_counted then 0 end);
end
$$;
comment on function migration_guard.estimated_rows(text) is
  'How many rows Postgres believes a table to have, by the name that the backup has for it, or how many its copy has; null where it
was not analyzed yet, and its copy has none.';

create function migration_guard.rollback_tables(backup_schema text, options jsonb, with_deleted boolean) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  copied record;
  deleted bigint;
  result jsonb[] := '{}';
begin
  for copied in
    select t.*, m.backup_table, m.row_count, migration_guard.rollback_mode(options, (t.old).name) as mode,
      k.condition, k.has_key
    from pg_temp.migration_guard_objects as t
    join pg_temp.migration_guard_copies as m on m.source_oid = t.old_objid
    cross join lateral (
      select string_agg(format('(%s) = %s', c.kept_value, c.old_value), ' and ') as condition, count(*) > 0 and bool_and(c.kept_value is not null) as has_key
      from migration_guard.row_columns(t.id) as c where c.is_key
    ) as k
    where t.kind = 'table'
    order by (t.old).identity
  loop
    deleted := null;
    if with_deleted and copied.is and copied.has_key and copied.mode = 'restore' and migration_guard.may_be_read(copied.objid) then
      -- By the names and types of today.
      begin
        perform migration_guard.refuse_views(true);
        execute format('select count(*) from %I.%I as b where not exists (select from %s as t where %s)', backup_schema, copied.backup_table, (copied.new).identity,
          (select string_agg(format('format(''%%s'', t.%I) = format(''%%s'', b.%I)', c.live_name, c.name), ' and ') from migration_guard.row_columns(copied.id) as c where c.is_key)) into deleted;
      exception when undefined_table or undefined_column or insufficient_privilege then
        deleted := null;
      end;
      perform migration_guard.refuse_views(false);
    end if;
    result := result || jsonb_build_object('table', (copied.old).identity, 'now', (copied.new).identity, 'mode', copied.mode, 'backup_rows', copied.row_count,
      'change', case when not copied.is then 'made again' when copied.is_dropped then 'rebuilt' when copied.mode = 'restore' then 'restored' else 'none' end,
      'deleted_since', deleted);
  end loop;
  return to_jsonb(result);
end
$$;
comment on function migration_guard.rollback_tables(text, jsonb, boolean) is
  'What becomes of the rows of each table of a backup. deleted_since, of a table to be restored, where it is asked for: rows of
the backup that are there no more, and would come back; null where its rows have no key.';

create function migration_guard.staying_materialized_views() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by n.nspname, c.relname)
    from (
      select coalesce(array_agg(t.objid), '{}') as oids
      from pg_temp.migration_guard_copies as m join pg_temp.migration_guard_objects as t on t.old_objid = m.source_oid and t.kind = 'table' and t.is
      where m.mode = 'restore'
    ) as r
    cross join lateral migration_guard.with_dependents(array_fill('pg_class'::regclass::oid, array[cardinality(r.oids)]), r.oids) as d
    join pg_class as c on c.oid = d.objid and d.classid = 'pg_class'::regclass and c.relkind = 'm' and c.relispopulated
    join pg_namespace as n on n.oid = c.relnamespace
    where not exists (select from pg_temp.migration_guard_objects as o where o.kind = 'materialized_view' and o.objid = c.oid and o.is_dropped));
end
$$;
comment on function migration_guard.staying_materialized_views() is
  'Materialized views that stay and read tables whose rows are put back.';

create function migration_guard.rollback_notes(statements jsonb) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(jsonb_agg(format('%s is found by its name: the one that was recorded has been dropped.', migration_guard.target(o.kind, (o.old).identity)) order by o.id), '[]')
    from pg_temp.migration_guard_objects as o where o.matched_by = 'name' and o.parent_id is null) || to_jsonb(array_remove(array[
    case when statements = '[]' then 'Everything is as in the backup: there is nothing to do.' end,
    case when exists (select from pg_temp.migration_guard_objects as o where o.is_retyped) then
      'Values of columns that get another type are converted; where that loses something, data=restore brings back what was.' end,
    case when exists (select from pg_temp.migration_guard_objects as o where o.kind = 'column' and o.is and o.was and 'definition' = any (o.aspects) and migration_guard.needs_time_zone(o.old, o.new)) then
      format('Times are converted in the time zone of the database, %s.', migration_guard.database_time_zone()) end,
    case when exists (select from pg_temp.migration_guard_objects as o where o.kind = 'table' and o.is_dropped and o.was) then
      'Tables that are rebuilt are written anew, with all their indexes, under a lock that keeps readers out.' end,
    'What materialized views show stays as it is: refresh ' || migration_guard.staying_materialized_views() || ' when the rows of their tables are back.'], null));
end
$$;
comment on function migration_guard.rollback_notes(jsonb) is 'What a reader of a rollback plan should know besides.';

-- Asking for it -----------------------------------------------------------------------------------------------------------

create function migration_guard.refuse_changed_plan(expected text, plan_hash text, statements jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  known constant jsonb := (select p.statements from migration_guard.rollback_plans as p where p.plan_hash = expected);
  present constant jsonb := (select coalesce(jsonb_agg(s -> 'statement'), '[]') from jsonb_array_elements(statements) as s);
begin
  if expected is distinct from plan_hash then
    perform migration_guard.fail('plan_changed',
      case
        when known is null then 'No such plan was shown for this backup.'
        when present = '[]' and known <> '[]' then 'Nothing is left to do: there are no differences any more that the plan was drawn for.'
        when present = known then 'The statements are the same, but something else was created or altered since the plan was drawn, or the options are others.'
        else 'The catalog is not what the plan was drawn on, or the options are others.' end || ' Read the plan again.',
      jsonb_build_object('plan_hash', plan_hash,
        'added', (select coalesce(jsonb_agg(s), '[]') from jsonb_array_elements(present) as s where not coalesce(known, '[]') @> jsonb_build_array(s)),
        'removed', (select coalesce(jsonb_agg(s), '[]') from jsonb_array_elements(coalesce(known, '[]')) as s where not present @> jsonb_build_array(s))));
  end if;
end
$$;
comment on function migration_guard.refuse_changed_plan(text, text, jsonb) is
  'Raises plan_changed, with the hash of the present plan and what differs, unless a hash is that of the present plan.';

create function migration_guard.refuse_impossible(possible boolean, cannot_undo jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if not possible then
    perform migration_guard.fail('rollback_refused', format('The way back is barred: %s.', (
        select string_agg(format('%s (%s)', u ->> 'object', u ->> 'why'), '; ') from jsonb_array_elements(cannot_undo) as u where (u ->> 'blocks')::boolean)),
      jsonb_build_object('cannot_undo', cannot_undo));
  end if;
end
$$;
comment on function migration_guard.refuse_impossible(boolean, jsonb) is 'Raises rollback_refused, with what cannot be undone, where anything bars the way.';

create function migration_guard.assert_recorded(backup migration_guard.backups) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not backup.verified_ok then
    perform migration_guard.fail('backup_damaged', format(
      'The last verification of the backup of %s failed: nothing is rolled back to it. Verify it again, and read which check failed.', backup.version));
  end if;
  -- What was recorded, without the rows: those are read by the job.
  if not migration_guard.is_as_recorded(backup) then
    perform migration_guard.fail('backup_damaged', format(
      'What the backup of %s recorded is not what was registered: nothing is rolled back to it. Verify it, and read which check failed.', backup.version));
  end if;
end
$$;
comment on function migration_guard.assert_recorded(migration_guard.backups) is
  'Raises backup_damaged where the last verification failed, or the manifest is not the registered one.';

create function migration_guard.refuse_single_key(backup migration_guard.backups, plan_hash text, actor text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  guard jsonb;
begin
  select to_jsonb(g) into guard from migration_guard.second_key_guard(backup, (
    select array_agg(d.actor order by d.at) from migration_guard.rollback_plans as p
    cross join lateral jsonb_each_text(p.drawn_by) as d (actor, at)
    where p.backup_id = backup.id and p.plan_hash = refuse_single_key.plan_hash and d.at::timestamptz > now() - interval '24 hours'), actor) as g;
  if not (guard ->> 'passed')::boolean then
    perform migration_guard.fail('second_key_required',
      format('The plan of %s wants two keys: %s.', backup.version, guard ->> 'details'), jsonb_build_object('guards', jsonb_build_array(guard)));
  end if;
end
$$;
comment on function migration_guard.refuse_single_key(migration_guard.backups, text, text) is
  'Raises second_key_required where a backup wants two keys, and no other key than this one has drawn the rollback plan in the last 24 hours.';

create function migration_guard.enqueue_rollback(
  version text, plan_hash text, options jsonb default '{}', rehearse boolean default false, actor text default session_user, request_id text default null
) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(version);
  -- What is not said is as in the plan.
  wanted constant jsonb := coalesce((select p.options from migration_guard.rollback_plans as p where p.plan_hash = enqueue_rollback.plan_hash and p.backup_id = backup.id), '{}')
    || migration_guard.said_options(options);
  plan record;
begin
  perform migration_guard.assert_recorded(backup);
  if not coalesce(rehearse, false) then
    perform migration_guard.refuse_single_key(backup, enqueue_rollback.plan_hash, actor);
  end if;
  -- Whoever runs a plan has not drawn it by that.
  select p.* into plan from migration_guard.plan_rollback(backup.version, wanted, null) as p;
  perform migration_guard.refuse_changed_plan(enqueue_rollback.plan_hash, plan.plan_hash, plan.statements);
  perform migration_guard.refuse_impossible(plan.possible, plan.cannot_undo);
  if not coalesce(rehearse, false) then
    -- Planning has locked the plan's row: of two requests with one approval the second finds it spent.
    perform migration_guard.refuse_single_key(backup, plan.plan_hash, actor);
    update migration_guard.rollback_plans as p set drawn_by = '{}' where p.backup_id = backup.id and p.drawn_by <> '{}';
  end if;
  return migration_guard.enqueue('rollback', backup.version, actor,
    jsonb_build_object('plan_hash', plan.plan_hash, 'options', wanted, 'rehearse', coalesce(rehearse, false), 'backup_id', backup.id,
      -- How much work it is: of the statements, and of reading the copies.
      'work', (select coalesce(sum(migration_guard.statement_work(s)), 0) from jsonb_array_elements(plan.statements) as s),
      'rows', (select coalesce(sum((t ->> 'backup_rows')::bigint), 0) from jsonb_array_elements(plan.tables) as t),
      'differing', (select coalesce(jsonb_agg(c.source_oid::bigint), '[]') from pg_temp.migration_guard_copies as c where c.mode = 'restore')), request_id);
end
$$;
comment on function migration_guard.enqueue_rollback(text, text, jsonb, boolean, text, text) is
  'Queues a rollback, or its rehearsal, exactly as planned. Raises backup_not_found, backup_damaged, invalid_parameter,
plan_changed, second_key_required, rollback_refused or backup_in_progress.';

-- Looking at what has become of it ------------------------------------------------------------------------------------

create type migration_guard.object_in_words as (
  kind text,
  schema_name text,
  identity text,
  objid oid,
  -- All that is to be said of it.
  content text
);
comment on type migration_guard.object_in_words is 'An object with all that is to be said of it in words: equal for what is the same.';

create function migration_guard.comparable_entries(entries migration_guard.catalog_entry[]) returns setof migration_guard.object_in_words
language plpgsql immutable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan' set jit = off
as $$
begin
  return query
  select e.kind, e.schema_name, e.identity, e.objid, jsonb_build_array(e.parent_name, e.definition, e.settings, e.is_internal, e.owner, e.comment,
    array(select g from unnest(e.grants) as g order by g collate "C"),
    -- The place among its like, whatever the numbers are.
    rank() over (partition by e.kind, e.schema_name, e.parent_name order by e.sort_order))::text
  from unnest(entries) as e;
end
$$;
comment on function migration_guard.comparable_entries(migration_guard.catalog_entry[]) is
  'Objects with all that is to be said of them in words: equal for catalogs that are the same.';

create function migration_guard.recorded_words(backup_schema text) returns migration_guard.object_in_words[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array(select w from migration_guard.comparable_entries(array(select r.entry from migration_guard.recorded_entries(backup_schema) as r)) as w);
end
$$;
comment on function migration_guard.recorded_words(text) is 'What a backup recorded of each object, in words.';

create function migration_guard.described_entries(schema_names text[], ids oid[]) returns setof migration_guard.catalog_entry
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  objects migration_guard.catalog_objects[] := array(
    select o
    from unnest(schema_names) as s (name)
    cross join lateral migration_guard.schema_inventory(s.name) as o
    where not migration_guard.is_reserved_schema(s.name));
begin
  if ids <> '{}' then
    objects := objects || array(select o from migration_guard.objects_elsewhere(schema_names, ids) as o);
  end if;
  return query
  select o.classid, o.objid, o.objsubid, o.kind, o.schema_name, o.name, o.identity, o.parent_classid, o.parent, o.parent_name,
    coalesce(o.definition, ''), o.settings, o.is_internal, o.owner, o.comment, o.grants, o.sort_order, null::jsonb, null::text, null::jsonb
  from unnest(objects) as o;
end
$$;
comment on function migration_guard.described_entries(text[], oid[]) is
  'As live_entries, but for the signatures, which say nothing that the words do not: what is read while others wait.';

create function migration_guard.live_words(plan_schema text, recorded migration_guard.object_in_words[], kept oid[])
returns migration_guard.object_in_words[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  elsewhere constant text[] := array(select distinct x.schema_name from unnest(recorded) as x where x.schema_name <> plan_schema);
  live migration_guard.catalog_entry[];
begin
  live := array(
    select l from migration_guard.described_entries(array[plan_schema], array(select x.objid from unnest(recorded) as x where x.schema_name <> plan_schema)) as l
    where l.objid <> all (kept) and (l.parent is null or l.parent <> all (kept))
      and (l.schema_name = plan_schema or exists (select from unnest(recorded) as x where x.kind = l.kind and x.identity = l.identity)));
  -- What was dropped and made again elsewhere has another OID.
  if elsewhere <> '{}' then
    live := live || array(
      select l from migration_guard.described_entries(elsewhere, '{}') as l
      where exists (select from unnest(recorded) as x where x.kind = l.kind and x.identity = l.identity)
        and not exists (select from unnest(live) as y where y.kind = l.kind and y.identity = l.identity));
  end if;
  return array(select w from migration_guard.comparable_entries(live) as w);
end
$$;
comment on function migration_guard.live_words(text, migration_guard.object_in_words[], oid[]) is
  'What the live catalog says of each object that was recorded or is in the schema of the plan, in words, but for what is kept.';

create function migration_guard.catalog_checksum(kinds text[], objects text[], contents text[]) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return (
    select encode(sha256(convert_to(coalesce(string_agg(concat_ws(' ', c.kind, c.object, c.content), E'\n' order by c.kind collate "C", c.object collate "C"), ''), 'UTF8')), 'hex')
    from unnest(kinds, objects, contents) as c (kind, object, content));
end
$$;
comment on function migration_guard.catalog_checksum(text[], text[], text[]) is 'SHA-256 over a catalog in words.';

-- Rows that cannot live under what is restored ----------------------------------------------------------------------------

create type migration_guard.rollback_column as (name text, value text);
comment on type migration_guard.rollback_column is 'A column by its recorded name, and an expression for its value.';

create function migration_guard.recorded_columns(relation oid, numbers jsonb) returns setof migration_guard.rollback_column
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    -- What a type somebody made prints, not what a cast of somebody's makes of it.
    select (c.old).name, case when ((c.old).signature ->> 'type')::bigint < 16384 then format('t.%I', (c.old).name)
      else migration_guard.stored_form(format('t.%I', (c.old).name), '', 'text') end
    from jsonb_array_elements_text(numbers) with ordinality as n (number, place)
    join pg_temp.migration_guard_objects as c on c.kind = 'column' and (c.old).objid = relation and (c.old).objsubid = n.number::int
    order by n.place;
end
$$;
comment on function migration_guard.recorded_columns(oid, jsonb) is 'The columns of a table that have some numbers, by their recorded names, each with the value of a row t as it is shown.';

create function migration_guard.column_list(columns migration_guard.rollback_column[], alias text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('%s.%I', alias, c.name), ', ' order by c.place) from unnest(columns) with ordinality as c (name, value, place)
$$;
comment on function migration_guard.column_list(migration_guard.rollback_column[], text) is 'Some columns of a table that goes by an alias, as a query names them.';

create function migration_guard.violation_query(entry migration_guard.catalog_entry, rows text, key text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  contype constant text := entry.signature ->> 'contype';
  -- By number: in the text of a definition a name can look like anything.
  columns constant migration_guard.rollback_column[] := array(select c from migration_guard.recorded_columns(entry.parent, case entry.kind when 'constraint' then entry.signature -> 'conkey'
    else jsonb_path_query_array(entry.signature, '$.indkey[0 to $last]', jsonb_build_object('last', (entry.signature ->> 'indnkeyatts')::int - 1)) end) as c);
  listed constant text := migration_guard.column_list(columns, 't');
begin
  if contype = 'c' then
    return format('select %s as key from %s where not %s', key, rows,
      substring(substr(entry.definition, length(format('alter table %I.%I add constraint %I CHECK ', entry.schema_name, entry.parent_name, entry.name)) + 1)
        from '^(.*?)(?: NO INHERIT)?(?: NOT VALID)?$'));
  elsif contype = 'f' then
    return format('select %s as key from %s where num_nulls(%s) = 0 and not exists (select from %s as r where (%s) = (%3$s))', key, rows, listed,
      (select (r.old).identity from pg_temp.migration_guard_objects as r where r.kind = 'table' and (r.old).objid::text = entry.signature ->> 'confrelid'),
      migration_guard.column_list(array(select c from migration_guard.recorded_columns((entry.signature ->> 'confrelid')::oid, entry.signature -> 'confkey') as c), 'r'));
  elsif contype in ('p', 'u') and not coalesce((entry.signature ->> 'conperiod')::boolean, false)
    or entry.kind = 'index' and (entry.signature ->> 'indisunique')::boolean and num_nonnulls(entry.signature ->> 'indexprs', entry.signature ->> 'indpred') = 0 then
    return format('select jsonb_build_object(%s) as key from %s group by %s having count(*) > 1',
      (select string_agg(format('%L, %s', c.name, case when c.value = format('t.%I', c.name) then c.value else format('min(%s)', c.value) end), ', ' order by c.place)
        from unnest(columns) with ordinality as c (name, value, place)), rows, listed);
  end if;
  return null;
end
$$;
comment on function migration_guard.violation_query(migration_guard.catalog_entry, text, text) is
  'The query that gives keys of rows for which a constraint or a unique index does not hold; null where it cannot be told.';

create function migration_guard.altered_column(statement text, table_id bigint) returns migration_guard.rollback_column
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  altered migration_guard.rollback_column;
begin
  select (c.old).name, migration_guard.conversion(c.old, c.new, quote_ident((c.old).name)) into altered
  from pg_temp.migration_guard_objects as c
  join pg_temp.migration_guard_objects as t on t.id = c.old_parent_id
  where t.id = table_id and c.kind = 'column' and c.is
    and starts_with(statement, format('alter table %s alter column %I type ', (t.old).identity, (c.old).name));
  return altered;
end
$$;
comment on function migration_guard.altered_column(text, bigint) is
  'The column whose type a statement alters, and the value that it then has; nulls where a statement does something else.';

create function migration_guard.unfit_keys(statement text, table_id bigint, converted text default null) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  -- A column that is altered has its old name again by then; a table that is made anew is read under its names of today.
  altered constant text := coalesce(converted, (migration_guard.altered_column(statement, table_id)).value);
  relation regclass;
  key text;
  expression text;
  place record;
  keys jsonb := '[]';
  -- Others wait for the table meanwhile.
  deadline constant timestamptz := clock_timestamp() + interval '10 seconds';
begin
  select t.objid::regclass, coalesce(migration_guard.row_key(t.id, altered is null, true), migration_guard.row_key(t.id, altered is null, false)),
    coalesce(altered, string_agg(c.kept_value, ', ' order by c.number) filter (where c.is_written))
  into relation, key, expression
  from pg_temp.migration_guard_objects as t cross join lateral migration_guard.row_columns(t.id) as c where t.id = table_id and t.is group by t.id, t.objid;
  if expression is null then
    return keys;
  end if;
  for place in execute format('select t.tableoid as part, t.ctid as row, %s as key from %s as t', key, relation) loop
    begin
      execute format('select row(%s) from %s as t where t.tableoid = $1 and t.ctid = $2', expression, relation) using place.part, place.row;
    exception when data_exception or integrity_constraint_violation then
      keys := keys || place.key;
      exit when jsonb_array_length(keys) = 20;
    end;
    exit when clock_timestamp() > deadline;
  end loop;
  return keys;
exception when syntax_error_or_access_rule_violation then
  return '[]';
end
$$;
comment on function migration_guard.unfit_keys(text, bigint, text) is
  'Keys of the first 20 rows with a value that a statement cannot convert, or for which an expression fails, tried one by one for ten seconds; none where they
cannot be told.';

create function migration_guard.is_planned_table(table_name text, relation oid, kind text) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Before it was locked its owner could put something else in its place, with code that would run with the rights of whoever reads.
  return exists (select from pg_class as c where c.oid = to_regclass(table_name) and c.oid = relation and c.relkind::text = kind);
end
$$;
comment on function migration_guard.is_planned_table(text, oid, text) is
  'Whether what has a name, and was locked by it, is the table that the planner has looked at, and a table still.';

create function migration_guard.unplanned_parts(relation oid) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Others wait meanwhile, and to plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan' set jit = off
as $$
begin
  return (
    with recursive parts (parent, oid) as (
      select i.inhparent, i.inhrelid from pg_inherits as i where i.inhparent = relation
      union
      select i.inhparent, i.inhrelid from parts as p join pg_inherits as i on i.inhparent = p.oid
    )
    select string_agg(u.oid::regclass::text, ', ' order by u.oid)
    from (
      select p.oid
      from parts as p join pg_class as c on c.oid = p.oid
      -- Of those in other schemas the planner need not know.
      where exists (select from pg_temp.migration_guard_objects as s where s.kind = 'schema' and s.objid = c.relnamespace)
        and not exists (select from pg_temp.migration_guard_heirs as h where h.parent = p.parent and h.objid = p.oid)
      union
      select h.objid
      from pg_temp.migration_guard_heirs as h
      where h.parent = relation and not exists (select from parts as p where p.oid = h.objid and p.parent = relation)
    ) as u);
end
$$;
comment on function migration_guard.unplanned_parts(oid) is
  'The partitions and heirs that a locked table has got or lost since the planner looked at it; null where there are none.';

create function migration_guard.lock_referenced(entry migration_guard.catalog_entry) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  referenced record;
begin
  select (t.old).identity as name, t.objid, (t.new).signature ->> 'kind' as kind, t.is and not t.is_dropped as is_planned into referenced
  from pg_temp.migration_guard_objects as t where t.kind = 'table' and (t.old).objid::text = entry.signature ->> 'confrelid';
  execute format('lock table %s in access share mode', referenced.name);
  return not referenced.is_planned or migration_guard.is_planned_table(referenced.name, referenced.objid, referenced.kind);
end
$$;
comment on function migration_guard.lock_referenced(migration_guard.catalog_entry) is
  'Locks the table that a foreign key refers to against being another, and tells whether it is the one that was planned for, or was made anew.';

create function migration_guard.violating_keys(statement text, table_id bigint, violated text, column_name text, state text) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  entry migration_guard.catalog_entry;
  rows text;
  key text;
  query text;
  found jsonb;
begin
  -- Of an INSERT, the rows are those of its query.
  select case when starts_with(statement, h.head) then format('(%s) as t (%s)', substr(statement, length(h.head) + 1), h.names) else (t.old).identity || ' as t' end,
    coalesce(migration_guard.row_key(t.id, false, true), migration_guard.row_key(t.id, false, false))
  into rows, key
  from pg_temp.migration_guard_objects as t
  cross join lateral (
    select w.names, format('insert into %s (%s) overriding system value ', (t.old).identity, w.names) as head
    from (select string_agg(quote_ident(x.name), ', ' order by x.number) as names from migration_guard.row_columns(t.id) as x where x.is_written) as w
  ) as h
  where t.id = table_id;
  if state = '23502' then
    query := format('select %s as key from %s where t.%I is null', key, rows, column_name);
  else
    select (o.old).* into entry from pg_temp.migration_guard_objects as o
    where o.old_parent_id = table_id and o.kind in ('constraint', 'index') and ((o.old).name = violated or (o.old).definition = statement)
    order by (o.old).name = violated desc, o.kind limit 1;
    -- The key that has failed has given its locks back.
    if entry.objid is not null and (entry.signature ->> 'contype' is distinct from 'f' or migration_guard.lock_referenced(entry)) then
      query := migration_guard.violation_query(entry, rows, key);
    end if;
  end if;
  if query is not null then
    execute format('select jsonb_agg(x.key) from (%s limit 20) as x', query) into found;
  end if;
  return coalesce(found, case when state ~ '^22' or state = '23514' and query is null then migration_guard.unfit_keys(statement, table_id) end, '[]');
exception
  when data_exception then
    return migration_guard.unfit_keys(statement, table_id);
  when syntax_error_or_access_rule_violation then
    return '[]';
end
$$;
comment on function migration_guard.violating_keys(text, bigint, text, text, text) is
  'Keys of the first 20 rows for which a statement failed; none where they cannot be told.';

create function migration_guard.are_values(keys jsonb, table_id bigint) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from jsonb_array_elements(keys) as k (value)
    where (select array_agg(n order by n) from jsonb_object_keys(k.value) as n)
      is distinct from (select array_agg(c.name order by c.name) from migration_guard.row_columns(table_id) as c where c.is_key));
end
$$;
comment on function migration_guard.are_values(jsonb, bigint) is
  'Whether what rows of a table are told by is more than their primary key: a unique column''s value or, of a table without a key, all of the row.';

create function migration_guard.placed_sequence(statement text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select (o.old).identity from pg_temp.migration_guard_objects as o
    where o.kind = 'sequence' and o.was
      and (starts_with(statement, format('alter sequence %s ', (o.old).identity)) or starts_with(statement, format('select pg_catalog.setval(%L, ', (o.old).identity)))
    order by o.id limit 1);
end
$$;
comment on function migration_guard.placed_sequence(text) is
  'The sequence that a statement gives bounds or a place; null where it does something else.';

create function migration_guard.keys_outside_domain(statement text, domain text, table_id bigint, column_name text, state text) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  value constant text := format('t.%I', column_name);
  keys jsonb;
begin
  if state = '23502' then
    execute format('select jsonb_agg(x.key) from (select %s as key from %s as t where num_nulls(%s) = 1 limit 20) as x',
      coalesce(migration_guard.row_key(table_id, false, true), migration_guard.row_key(table_id, false, false)),
      (select t.objid::regclass from pg_temp.migration_guard_objects as t where t.id = table_id), value) into keys;
  else
    -- Values that are there already are not asked, and so are cast anew.
    execute statement || ' not valid';
    keys := migration_guard.unfit_keys(statement, table_id, format('(%s)::%s', migration_guard.stored_form(value, '', 'text'), domain));
  end if;
  raise exception using errcode = 'MG998', message = 'found';
exception
  when sqlstate 'MG998' then
    return coalesce(keys, '[]');
  when syntax_error_or_access_rule_violation then
    return '[]';
end
$$;
comment on function migration_guard.keys_outside_domain(text, text, bigint, text, text) is
  'Keys of the first 20 rows of a table with a value in a column of a domain for which a statement that adds a constraint to that has failed.';

create function migration_guard.refuse_domain(statement text, relation_schema text, relation_name text, attribute_name text, state text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  domain migration_guard.catalog_entry;
  constraint_name text;
  relation oid := to_regclass(format('%I.%I', relation_schema, relation_name));
  table_name text;
  column_name text;
  table_id bigint;
  keys jsonb := '[]';
begin
  select (o.old).* into domain from pg_temp.migration_guard_objects as o
  where o.kind = 'domain' and o.was and starts_with(statement, format('alter domain %s ', (o.old).identity)) order by o.id limit 1;
  if domain.objid is null then return; end if;
  constraint_name := coalesce((select (k.old).name from pg_temp.migration_guard_objects as k where k.kind = 'domain_constraint' and k.was and (k.old).definition = statement limit 1),
    domain.parts ->> 'not_null_name');
  -- A function in a check can raise what it likes.
  select a.attname into column_name from pg_attribute as a where a.attrelid = relation and a.attname = attribute_name;
  if column_name is not null then
    table_name := format('%I.%I', relation_schema, relation_name);
    select t.id into table_id from pg_temp.migration_guard_objects as t where t.kind = 'table' and t.is and t.was and t.objid = relation;
  end if;
  if table_id is not null then
    keys := migration_guard.keys_outside_domain(statement, domain.identity, table_id, column_name, state);
  end if;
  perform migration_guard.fail('rows_violate_constraint',
    format('Rows of %s cannot live under what is restored: %s.', coalesce(table_name, 'a table'), concat_ws(' ',
      case state when '23502' then format('the domain %s must not be null', domain.identity) else format('%s of the domain %s does not hold', constraint_name, domain.identity) end,
      'for ' || column_name)),
    jsonb_build_object('table', table_name, 'constraint', constraint_name, 'domain', domain.identity, 'column', column_name, 'sqlstate', state, 'keys', keys)
      || case when migration_guard.are_values(keys, table_id) then '{"keys_hold_values": true}'::jsonb else '{}' end);
end
$$;
comment on function migration_guard.refuse_domain(text, text, text, text, text) is
  'Raises rows_violate_constraint where what has failed is a statement that adds a constraint to a domain.';

create function migration_guard.run_rollback_statement(statement text, table_name text, table_id bigint, units bigint) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  affected bigint;
  state text;
  constraint_name text;
  column_name text;
  relation_schema text;
  relation_name text;
  sequence_name text;
  keys jsonb := '[]';
begin
  begin
    -- A materialized view is filled with the rows that its owner sees.
    perform set_config('row_security', case when statement ~ '^refresh ' then 'on' else 'off' end, true);
    execute migration_guard.ticking_statement(statement, units);
    get diagnostics affected = row_count;
    return affected;
  exception when integrity_constraint_violation or data_exception then
    get stacked diagnostics state = returned_sqlstate, constraint_name = constraint_name, column_name = column_name,
      relation_schema = schema_name, relation_name = table_name;
    perform migration_guard.show_progress();
  end;
  if starts_with(statement, 'alter domain ') then
    perform migration_guard.refuse_domain(statement, relation_schema, relation_name, column_name, state);
  end if;
  -- Whoever raises an error can call anything its constraint and its column.
  if strpos(statement, format('%I', constraint_name)) = 0
    and not exists (select from pg_constraint as c where c.conname = constraint_name union all select from pg_class as c where c.relname = constraint_name) then
    constraint_name := '';
  end if;
  if strpos(statement, format('%I', column_name)) = 0 and not exists (select from pg_attribute as a where a.attname = column_name) then
    column_name := '';
  end if;
  column_name := coalesce(nullif(column_name, ''), (migration_guard.altered_column(statement, table_id)).name);
  sequence_name := migration_guard.placed_sequence(statement);
  if state ~ '^22' and sequence_name is not null then
    perform migration_guard.fail('rows_violate_constraint', format('The sequence %s would have to stand where the bounds that it had do not let it.', sequence_name),
      jsonb_build_object('table', table_name, 'constraint', null, 'column', null, 'sqlstate', state, 'keys', keys));
  end if;
  if table_id is not null then
    keys := migration_guard.violating_keys(statement, table_id, nullif(constraint_name, ''), column_name, state);
  end if;
  perform migration_guard.fail('rows_violate_constraint',
    format('Rows of %s cannot live under what is restored: %s.', coalesce(table_name, 'a table'), case
      when constraint_name <> '' then constraint_name
      when state = '23502' then format('%s must not be null', coalesce(column_name, 'a value'))
      when state = '23514' then 'a row does not fit the bounds of the partitions'
      else 'a value does not fit the type of ' || coalesce(column_name, 'its column') end),
    jsonb_build_object('table', table_name, 'constraint', nullif(constraint_name, ''), 'column', column_name, 'sqlstate', state, 'keys', keys)
      || case when migration_guard.are_values(keys, table_id) then '{"keys_hold_values": true}'::jsonb else '{}' end);
end
$$;
comment on function migration_guard.run_rollback_statement(text, text, bigint, bigint) is
  'Runs one statement and returns how many rows it touched. Raises rows_violate_constraint with the keys of the first 20.';

-- The job -----------------------------------------------------------------------------------------------------------------

create function migration_guard.taken_locks(since timestamptz, held jsonb, locked regclass default null, out taken jsonb, out all_held jsonb)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Others wait meanwhile, and to plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  with recursive locked_tables (oid) as (
    select locked::oid
    union
    select i.inhrelid from locked_tables as t join pg_inherits as i on i.inhparent = t.oid
  ),
  strong as materialized (
    select l.relation, l.mode
    from (
      select t.oid as relation, 'AccessExclusiveLock' as mode from locked_tables as t where locked is not null
      union all
      -- Postgres lists the locks of everybody to whoever looks for his own.
      select l.relation, l.mode from pg_locks as l where locked is null and l.pid = pg_backend_pid() and l.locktype = 'relation' and l.granted
    ) as l
    where l.mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
      and not held ? format('%s %s', l.relation, l.mode)
  )
  select coalesce(jsonb_agg(jsonb_build_object('relation', s.relation::regclass::text, 'mode', s.mode)), '[]'),
    held || coalesce(jsonb_object_agg(format('%s %s', s.relation, s.mode), since), '{}')
  into taken, all_held
  from strong as s
  join pg_class as c on c.oid = s.relation and c.relkind in ('r', 'p', 'm', 'v', 'f')
  join pg_namespace as n on n.oid = c.relnamespace
  where not migration_guard.is_reserved_schema(n.nspname);
end
$$;
comment on function migration_guard.taken_locks(timestamptz, jsonb, regclass) is
  'Locks of this transaction that others may wait for, on tables and views, but for those that it was known to hold; and these with the
others, each with the time since when it may be held. After a table was locked by name: those on it and its heirs, which need not be looked for.';

create function migration_guard.statement_work(statement jsonb) returns bigint
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select case when migration_guard.is_for_hand(statement ->> 'statement') then 0 else 1 + coalesce((statement ->> 'estimated_rows')::bigint, 0) end $$;
comment on function migration_guard.statement_work(jsonb) is
  'Units of work of a statement of a rollback plan: one, and as many as there are rows to be read or written; none of what a job leaves out.';

create function migration_guard.ticking_statement(statement text, relation_units bigint) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  name constant text := '(?:[a-z_][a-z0-9_$]*|"[a-zA-Z0-9_$]+")';
  -- The table that is read from its beginning to its end, what it is called, and what comes after.
  table_pattern constant text := format('(?:only )?(%1$s\.%1$s) as ([bt])', name);
  parts text[];
  condition text;
begin
  if statement !~ '^(insert|delete|create temporary table) ' then
    return statement;
  end if;
  -- A name or a text that is no plain word could look like anything.
  if regexp_replace(statement, $words$"[a-zA-Z0-9_$]+"|'[a-z%]*( [a-z]+)?'$words$, '', 'g') ~ $quotes$["']$quotes$ then
    return statement;
  end if;
  parts := coalesce(
    regexp_match(statement, format('^(insert into .* from %s)()$', table_pattern)),
    -- The rows that differ, and those that go to where they are kept.
    regexp_match(statement, format('^((?:insert into|create temporary table) .* from [(]select .* from %s)([)] as s (?:left |full )?join .*)$', table_pattern)),
    regexp_match(statement, format('^(insert into .* from %s) where ((?:not )?exists [(].*[)]|num_nonnulls[(].*)$', table_pattern)),
    regexp_match(statement, format('^(delete from %s using .*) where (.*)$', table_pattern)));
  condition := migration_guard.ticking(to_regclass(parts[2]), parts[3]);
  if condition is null then
    return statement;
  end if;
  perform migration_guard.begin_pass(current_setting('migration_guard.progress_step'), array[to_regclass(parts[2])::oid], relation_units);
  return parts[1] || ' where ' || condition || case when parts[4] ~ '^[)]' or parts[4] = '' then parts[4] else ' and ' || parts[4] end;
end
$$;
comment on function migration_guard.ticking_statement(text, bigint) is
  'A statement that compares, copies, keeps, deletes or puts back the rows of a large table, with a condition that is always true and shows
how far it is; any other as it is.';

create function migration_guard.statements_to_run(backup_schema text, options jsonb, planned jsonb)
returns table (
  step int, phase int, statement text, "on" text, table_id bigint, effect text, expected_lock text, units bigint, is_last boolean,
  locked_name text, locked_oid oid, locked_kind text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select a.step, a.phase, a.statement, a."on", o.id, migration_guard.statement_effect(a.statement), a."on" || ' ' || migration_guard.statement_lock(a.statement),
    migration_guard.statement_work(p.value), a.step = max(a.step) over (), (l.new).identity, l.objid, (l.new).signature ->> 'kind'
  from migration_guard.all_rollback_statements(backup_schema, options) as a
  join jsonb_array_elements(planned) as p on (p.value ->> 'step')::int = a.step
  left join pg_temp.migration_guard_objects as o on o.was and o.kind = 'table' and (o.old).identity = a."on"
  left join pg_temp.migration_guard_objects as l on l.is and l.kind = 'table' and format('lock table %s in access exclusive mode', (l.new).identity) = a.statement
  where not migration_guard.is_for_hand(a.statement)
  order by a.step;
end
$$;
comment on function migration_guard.statements_to_run(text, jsonb, jsonb) is
  'The statements of a rollback with all that is to be known of each before the first one locks anything.';

create function migration_guard.run_rollback_statements(backup_schema text, options jsonb, planned jsonb) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set check_function_bodies = off set synchronize_seqscans = off set jit = off
as $$
declare
  -- Of each lock that was found, since when it is held at most, and which ones were looked for.
  held jsonb := '{}';
  sought text[] := '{}';
  taken jsonb;
  begun timestamptz;
  looked timestamptz;
  shown timestamptz := '-infinity';
  -- Units of work of the statements since then.
  unfinished bigint := 0;
  rows bigint;
  ran jsonb[] := '{}';
  counts jsonb;
  unplanned text;
  s record;
begin
  -- Rows are joined with their copies in as much memory as an index is built in.
  perform set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')), pg_size_bytes(current_setting('maintenance_work_mem'))) / 1024 || 'kB', true);
  for s in select * from migration_guard.statements_to_run(backup_schema, options, planned) loop
    -- Counted when nobody can write any more.
    if counts is null and s.phase > 0 then
      counts := migration_guard.rebuilt_counts();
    end if;
    begun := clock_timestamp();
    looked := coalesce(looked, begun);
    -- What takes no time is not shown one by one; what may wait, or works on rows, is.
    if s.phase = 0 or s.units > 1 or begun > shown + interval '0.1 seconds' then
      perform migration_guard.finish_work(unfinished);
      unfinished := 0;
      perform migration_guard.begin_step(format('statement@%s+%s', s.step, migration_guard.unshown_units(s.units)));
      shown := begun;
    end if;
    rows := migration_guard.run_rollback_statement(s.statement, s."on", s.table_id, s.units);
    if s.locked_oid is not null and not migration_guard.is_planned_table(s.locked_name, s.locked_oid, s.locked_kind) then
      perform migration_guard.fail('plan_changed', format('%s is not the table any more that the plan was drawn for. Read the plan again.', s.locked_name));
    end if;
    unplanned := case when s.locked_oid is not null then migration_guard.unplanned_parts(s.locked_oid) end;
    if unplanned is not null then
      perform migration_guard.fail('plan_changed', format('%s has not the partitions or heirs any more that the plan was drawn for: %s. Read the plan again.', s.locked_name, unplanned));
    end if;
    if s.units > 1 then
      -- What was told of an index that was being built is kept before anything else can wait; and what comes next is shown.
      perform migration_guard.finish_work(s.units);
      shown := '-infinity';
    else
      unfinished := unfinished + s.units;
    end if;
    taken := '[]';
    -- Beside a lock that keeps everybody out no other is of interest.
    if s.is_last or s.effect in ('scan', 'rewrite', 'rows')
      or s.expected_lock is not null and not sought && array[s.expected_lock, s."on" || ' ACCESS EXCLUSIVE'] then
      select l.taken, l.all_held into taken, held
      from migration_guard.taken_locks(looked, held,
        case when not s.is_last then s.locked_oid end) as l;
      sought := array_remove(array_append(sought, s.expected_lock), null);
      looked := null;
    end if;
    ran := array_append(ran, jsonb_build_object('step', s.step, 'statement', s.statement, 'rows', case when s.effect = 'rows' then rows end,
      'milliseconds', round(extract(epoch from clock_timestamp() - begun) * 1000, 1), 'locks', taken));
  end loop;
  perform migration_guard.finish_work(unfinished);
  return jsonb_build_object('statements', ran, 'held', held, 'counts', coalesce(counts, '{}'));
end
$$;
comment on function migration_guard.run_rollback_statements(text, jsonb, jsonb) is
  'Runs the statements of a rollback, and tells of each how long it took, how many rows it touched and which locks were found after
it; and how many rows the tables had that it has made anew.';

create function migration_guard.prove_catalog(
  recorded migration_guard.object_in_words[], live migration_guard.object_in_words[],
  out differences jsonb, out before text, out after text, out confirmed text[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- Others wait meanwhile, and to plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan' set jit = off
as $$
begin
  with compared as materialized (
    select coalesce(o.kind, n.kind) as kind, coalesce(o.identity, n.identity) as object, o.content as before, n.content as after
    from unnest(recorded) as o full join unnest(live) as n on (n.kind, n.identity) = (o.kind, o.identity)
  ),
  different as (
    select case when c.before is null then 'unexpected' when c.after is null then 'missing' else 'different' end as difference, c.*
    from compared as c
    where c.before is distinct from c.after
      -- What is part of a table that was there, and was left.
      and not exists (select from pg_temp.migration_guard_objects as k where k.is_kept and c.before is null and k.kind = c.kind and (k.new).identity = c.object)
    order by c.kind, c.object limit 20
  )
  select (select jsonb_agg(to_jsonb(d)) from different as d),
    migration_guard.catalog_checksum(array_agg(c.kind), array_agg(c.object), array_agg(c.before)),
    migration_guard.catalog_checksum(array_agg(c.kind), array_agg(c.object), array_agg(c.after)),
    array_agg(c.kind || ' ' || c.object) filter (where c.before = c.after)
  into differences, before, after, confirmed
  from compared as c where c.before is not null;
end
$$;
comment on function migration_guard.prove_catalog(migration_guard.object_in_words[], migration_guard.object_in_words[]) is
  'What of a live catalog is not as it was recorded, checksums of both, and the objects that are the same. The proof of a rollback.';

create function migration_guard.assert_catalog_is_back(plan_schema text, recorded migration_guard.object_in_words[]) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  kept constant oid[] := array(select o.objid from pg_temp.migration_guard_objects as o where o.is_kept and o.objsubid = 0);
  proof record;
begin
  select p.* into proof from migration_guard.prove_catalog(recorded, migration_guard.live_words(plan_schema, recorded, kept)) as p;
  if proof.differences is not null then
    perform migration_guard.fail('rollback_differs', format('The catalog would not be that of the backup: %s.', (
      select string_agg(format('%s %s is %s', d ->> 'kind', d ->> 'object', d ->> 'difference'), '; ') from jsonb_array_elements(proof.differences) as d)),
      jsonb_build_object('differences', proof.differences));
  end if;
  return jsonb_build_object('before', proof.before, 'after', proof.after, 'identical', proof.before = proof.after, 'confirmed', to_jsonb(proof.confirmed));
end
$$;
comment on function migration_guard.assert_catalog_is_back(text, migration_guard.object_in_words[]) is
  'Checksums of the recorded catalog and of the live one, and the objects that are the same. Raises rollback_differs unless they are the same.';

create function migration_guard.assert_rows_are_back(options jsonb, counts jsonb) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  copied record;
  rows bigint;
  checksum text;
  -- How the rows that differed were found, as find_changed_rows has left it.
  found constant jsonb := coalesce(nullif(current_setting('migration_guard.rows_read', true), '')::jsonb, '{}');
  tables jsonb := '[]';
begin
  for copied in
    select (t.old).identity as name, (t.old).name as table_name, m.row_count, m.checksum, migration_guard.rollback_mode(options, (t.old).name) as mode, not t.is as is_missing,
      to_regclass((t.old).identity)::oid as relation, (t.old).signature ->> 'kind' as kind
    from pg_temp.migration_guard_objects as t
    join pg_temp.migration_guard_copies as m on m.source_oid = (t.old).objid
    where t.kind = 'table' order by 1
  loop
    rows := null;
    checksum := null;
    if copied.is_missing or copied.mode = 'restore' then
      select r.rows, r.checksum into rows, checksum from migration_guard.source_checksum(copied.relation, 'comparing@' || copied.relation, copied.row_count) as r;
      if checksum <> copied.checksum and not (options ->> 'leave_deleted')::boolean then
        perform migration_guard.fail('rollback_differs', format('The rows of %s would not be those of the backup: %s against %s.', copied.name, rows, copied.row_count),
          jsonb_build_object('differences', jsonb_build_array(jsonb_build_object('difference', 'rows', 'kind', 'table', 'object', copied.name, 'before', copied.checksum, 'after', checksum))));
      end if;
    elsif counts ? copied.name then
      execute format('select count(*) from %s%s', case copied.kind when 'p' then '' else 'only ' end, copied.name) into rows;
      if rows <> (counts ->> copied.name)::bigint then
        perform migration_guard.fail('rollback_differs', format('%s would have %s rows, and had %s.', copied.name, rows, counts ->> copied.name));
      end if;
      perform migration_guard.finish_work(copied.row_count);
    else
      perform migration_guard.finish_work(copied.row_count);
    end if;
    tables := tables || jsonb_build_object('table', copied.name, 'mode', copied.mode, 'rows', rows, 'checksum', checksum, 'backup_checksum', copied.checksum,
      'read', case when found ->> copied.name = '' then 'row versions' when found ? copied.name then 'values' end, 'values_read_because', nullif(found ->> copied.name, ''));
  end loop;
  return tables;
end
$$;
comment on function migration_guard.assert_rows_are_back(jsonb, jsonb) is
  'What became of the rows of each copied table. Raises rollback_differs unless it is what was promised.';

create function migration_guard.rebuilt_counts() returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  rebuilt record;
  rows bigint;
  counts jsonb := '{}';
begin
  for rebuilt in
    select (t.old).identity as name, t.objid, (t.new).signature ->> 'kind' as kind from pg_temp.migration_guard_objects as t
    where t.kind = 'table' and t.is and t.was and t.is_dropped and not ((t.old).signature ->> 'is_partition')::boolean
      and has_table_privilege(t.objid, 'select')
    union all
    -- What comes back to it has rows of it, too.
    select b.root, b.objid, (t.new).signature ->> 'kind'
    from migration_guard.returning_partitions() as b
    join pg_temp.migration_guard_objects as t on t.id = b.id
    join pg_temp.migration_guard_objects as r on r.id = b.root_id and r.is and r.is_dropped
    where not b.is_restored and has_table_privilege(b.objid, 'select')
  loop
    perform migration_guard.refuse_views(true);
    execute format('select count(*) from %s%s', case rebuilt.kind when 'p' then '' else 'only ' end, rebuilt.objid::regclass) into rows;
    perform migration_guard.refuse_views(false);
    counts := counts || jsonb_build_object(rebuilt.name, rows + coalesce((counts ->> rebuilt.name)::bigint, 0));
  end loop;
  return counts;
end
$$;
comment on function migration_guard.rebuilt_counts() is 'How many rows the tables have that are made anew from them.';

create function migration_guard.discarded_tables(backup_schema text) returns regclass[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return array(
    select c.oid::regclass from pg_class as c
    where c.relnamespace = to_regnamespace(quote_ident(backup_schema)) and c.relkind = 'r' and c.relname ~ '_discarded$' order by c.relname);
end
$$;
comment on function migration_guard.discarded_tables(text) is 'The tables of a backup schema that hold what rollbacks took away.';

create function migration_guard.close_discarded(backup migration_guard.backups) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  discarded regclass;
  total bigint;
  added bigint;
  has_any boolean := false;
  counts jsonb := '{}';
begin
  foreach discarded in array migration_guard.discarded_tables(backup.schema_name) loop
    has_any := true;
    execute format('select count(*), count(*) filter (where d.discarded_at = now()) from %s as d', discarded) into total, added;
    if total = 0 then
      execute format('drop table %s', discarded);
    else
      execute format('comment on table %s is %L', discarded, 'What rollbacks took away: rows that came after the backup, values of columns and rows of tables that were dropped.');
      counts := counts || jsonb_build_object(discarded::text, added);
    end if;
  end loop;
  -- Without any the schema is as it was.
  if not has_any then return counts; end if;
  perform migration_guard.close_schema(backup.schema_name);
  update migration_guard.backups as b set members = array(select c.identity from migration_guard.schema_contents(backup.schema_name) as c order by c.identity)
  where b.id = backup.id;
  return counts;
end
$$;
comment on function migration_guard.close_discarded(migration_guard.backups) is
  'Drops tables of discarded rows that hold none, closes the others, and registers them as part of the backup.';

create function migration_guard.rollback_checklist(confirmed text[]) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('kind', o.kind, 'object', (o.old).identity,
        'passed', o.kind || ' ' || (o.old).identity = any (confirmed),
        'details', case
          when not o.is then 'made again'
          when o.is_dropped then 'dropped and made again: ' || coalesce(o.reason, 'redefined')
          when o.is_renamed then 'was called ' || (o.new).identity
          else 'redefined: ' || array_to_string(o.aspects, ', ') end) order by o.id), '[]')
    from pg_temp.migration_guard_objects as o
    where o.was and (not o.is or o.is_dropped or o.is_made or o.is_renamed or o.aspects <> '{}'));
end
$$;
comment on function migration_guard.rollback_checklist(text[]) is
  'Every object that a rollback has made, renamed or altered, and whether it is as it was: confirmed names those that are.';

create function migration_guard.attempt_rollback(job migration_guard.jobs, backup migration_guard.backups) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  options constant jsonb := migration_guard.parse_rollback_options(job.parameters -> 'options');
  plan record;
  plan_schema text;
  recorded migration_guard.object_in_words[];
  ran jsonb;
  catalog jsonb;
  tables jsonb;
  ended timestamptz;
begin
  select p.* into plan from migration_guard.plan_rollback(backup.version, options, null,
    array(select d::oid from jsonb_array_elements_text(job.parameters -> 'differing') as d)) as p;
  perform migration_guard.refuse_changed_plan(job.parameters ->> 'plan_hash', plan.plan_hash, plan.statements);
  perform migration_guard.refuse_impossible(plan.possible, plan.cannot_undo);
  perform set_config('migration_guard.actor', job.actor, true);
  perform set_config('lock_timeout', '5s', true);
  -- A session plans a query when it first runs it: not while others wait.
  execute format('select m.plan ->> ''schema'' from %I.backup_metadata as m', backup.schema_name) into plan_schema;
  recorded := migration_guard.recorded_words(backup.schema_name);
  perform migration_guard.prove_catalog(recorded, migration_guard.live_words(plan_schema, recorded, '{}'));
  perform migration_guard.rollback_checklist('{}');
  perform migration_guard.discarded_tables(backup.schema_name);
  perform migration_guard.unplanned_parts(0);
  perform from migration_guard.taken_locks(now(), '{}');
  perform migration_guard.run_rollback_statement('select', null, null, 0);
  ran := migration_guard.run_rollback_statements(backup.schema_name, options, plan.statements);
  perform migration_guard.begin_step('proof');
  catalog := migration_guard.assert_catalog_is_back(plan_schema, recorded);
  tables := migration_guard.assert_rows_are_back(options, ran -> 'counts');
  ran := ran || jsonb_build_object('discarded', migration_guard.close_discarded(backup), 'checklist', migration_guard.rollback_checklist(array(select jsonb_array_elements_text(catalog -> 'confirmed'))));
  ended := clock_timestamp();
  return jsonb_build_object(
    'rehearsed', migration_guard.is_rehearsal(job), 'no_op', plan.statements = '[]', 'plan_hash', plan.plan_hash,
    'statements', ran -> 'statements', 'checklist', ran -> 'checklist', 'tables', tables, 'discarded', ran -> 'discarded', 'left_as_is', plan.left_as_is,
    'catalog', catalog - 'confirmed',
    'locks', (
      select coalesce(jsonb_agg(jsonb_build_object('relation', split_part(h.key, ' ', 1)::oid::regclass::text, 'mode', split_part(h.key, ' ', 2),
        'held_milliseconds', round(extract(epoch from ended - h.value::timestamptz) * 1000, 1)) order by h.value, h.key), '[]')
      from jsonb_each_text(ran -> 'held') as h));
end
$$;
comment on function migration_guard.attempt_rollback(migration_guard.jobs, migration_guard.backups) is
  'One attempt at a rollback: plans again, runs every statement, and compares catalog and rows with what was promised.';

create function migration_guard.count_versions(relation oid, written_by xid, units bigint, out total bigint, out others bigint)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  blocks constant bigint := migration_guard.table_blocks(relation);
  -- A gigabyte at a time, in some ranges for each process that may take part.
  piece constant bigint := 131072;
  ranges constant int := 4 * (current_setting('max_parallel_workers_per_gather')::int + 1);
  start bigint;
  part record;
begin
  perform migration_guard.begin_step('reading@' || relation);
  total := 0;
  others := 0;
  for start in select generate_series(0, blocks, piece) loop
    execute format('select count(*) as total, count(*) filter (where r.version <> $1) as others from (%s) as r', (
      select string_agg(format('select xmin as version from only %s where ctid >= ''(%s,0)''', relation::regclass, start + n * p.size / ranges)
        -- Beyond what was the end there may be rows by now.
        || case when start + piece <= blocks or n < ranges - 1 then format(' and ctid < ''(%s,0)''', start + (n + 1) * p.size / ranges) else '' end, ' union all ')
      from (select least(piece, blocks - start) as size) as p, generate_series(0, ranges - 1) as n
    )) into part using written_by;
    total := total + part.total;
    others := others + part.others;
    perform migration_guard.show_progress((units * least(start + piece, blocks) / greatest(blocks, 1))::bigint);
  end loop;
  perform migration_guard.finish_work(units);
end
$$;
comment on function migration_guard.count_versions(oid, xid, bigint) is
  'How many rows a table has, and how many of them another transaction has written than a certain one.';

create function migration_guard.version_checks(backup migration_guard.backups) returns table (check_name text, status text, details text)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  misleading constant text := migration_guard.why_versions_mislead(backup.schema_name);
  copied record;
  versions record;
begin
  for copied in execute format($query$
    select coalesce(m.key, format('%%I.%%I', t.source_schema, t.source_table)) as source, c.oid as relation, t.row_count,
      m.checksum_algorithm = migration_guard.checksum_algorithm() and m.major = substring(current_setting('server_version') from '^[0-9]+')
        and (m.value ->> 'backup_table', m.value ->> 'row_count', m.value ->> 'checksum') = (t.backup_table, t.row_count::text, t.backup_checksum)
        -- A column that was dropped and added again with a default has values that no row was written anew for.
        and (m.value -> 'columns', m.value -> 'types', false) = (
          select coalesce(jsonb_agg(a.attname order by a.attnum), '[]'), coalesce(jsonb_agg(format_type(a.atttypid, a.atttypmod) || case when a.attgenerated <> '' then ' generated' else '' end order by a.attnum), '[]'),
            coalesce(bool_or(a.attisdropped or a.atthasmissing), false)
          from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0) as is_as_recorded
    from (
      select e.key, e.value, b.checksum_algorithm, substring(b.server_version from '^[0-9]+') as major from %1$I.backup_metadata as b, jsonb_each(b.tables) as e
    ) as m
    full join %1$I.tables_backup as t on format('%%I.%%I', t.source_schema, t.source_table) = m.key
    left join pg_class as c on c.oid = to_regclass(format('%%I.%%I', %1$L, t.backup_table)) and c.relkind = 'r' and c.relpersistence = 'p'
      and not c.relhassubclass and not c.relispartition and not c.relrowsecurity and migration_guard.has_blocks(c.oid)
    order by 1
  $query$, backup.schema_name) loop
    select null::bigint as total, null::bigint as others into versions;
    if misleading is null and copied.is_as_recorded then
      -- The backup was taken in one transaction, which has written its metadata, too.
      select v.* into versions from migration_guard.count_versions(copied.relation, backup.metadata_version, copied.row_count) as v;
    end if;
    check_name := 'table ' || copied.source;
    status := case when (versions.total, versions.others) = (copied.row_count, 0) then 'OK' else 'FAIL' end;
    details := coalesce(misleading, format('expected %s rows that nobody has written since the backup', copied.row_count));
    return next;
    exit when status <> 'OK';
  end loop;
end
$$;
comment on function migration_guard.version_checks(migration_guard.backups) is
  'Of each copy, whether all rows of it are those that the backup has written, by their versions; up to the first of which that is not certain.';

create function migration_guard.assert_intact(backup migration_guard.backups, by_versions boolean default false) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  failed text;
begin
  if by_versions and not exists (select from migration_guard.integrity_checks(backup, true) as v where v.status <> 'OK') then
    return false;
  end if;
  select string_agg(v.check_name || ': ' || v.details, '; ') into failed
  from migration_guard.integrity_checks(backup) as v where v.status <> 'OK';
  if failed is not null then
    perform migration_guard.fail('backup_damaged', format('The backup of %s is not what was taken: %s.', backup.version, failed));
  end if;
  return true;
end
$$;
comment on function migration_guard.assert_intact(migration_guard.backups, boolean) is
  'Raises backup_damaged unless a backup passes every integrity check, and returns whether its rows were read for that. By versions:
they are not where nobody has written them since.';

create function migration_guard.run_rollback(job migration_guard.jobs) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  attempts constant int := 5;
  options constant jsonb := migration_guard.parse_rollback_options(job.parameters -> 'options');
  backup migration_guard.backups;
  rows constant bigint := coalesce((job.parameters ->> 'rows')::bigint, 0);
  total constant bigint := 2 * rows + coalesce((job.parameters ->> 'work')::bigint, 0) + 1;
  copies_read boolean;
  result jsonb;
  context text;
begin
  select b.* into backup from migration_guard.backups as b where b.id = (migration_guard.get_backup(job.version)).id for update;
  if backup.id::text is distinct from job.parameters ->> 'backup_id' then
    perform migration_guard.fail('plan_changed', 'The plan was drawn for another backup of this version. Read it again.');
  end if;
  -- Each copy is read before, and what became of each table is looked at afterwards. A copy that nobody has written since needs
  -- not be read where the table must have its checksum in the end.
  perform migration_guard.report_progress(job, 'checks', 0, total);
  copies_read := migration_guard.assert_intact(backup, options -> 'data' = '"restore"' and not (options ->> 'leave_deleted')::boolean);
  for attempt in 1..attempts loop
    perform migration_guard.report_progress(job, 'trying', rows, total);
    begin
      perform migration_guard.begin_step('catalog');
      result := migration_guard.attempt_rollback(job, backup);
      -- What a rehearsal has done is undone here, by the error that carries its result.
      if migration_guard.is_rehearsal(job) then
        raise exception using errcode = 'MG999', message = 'rehearsed', detail = result::text;
      end if;
      exit;
    exception
      when sqlstate 'MG999' then
        get stacked diagnostics context = pg_exception_context;
        -- A trigger of the project's can raise it, too.
        if context !~ '^[^"\n]*\mmigration_guard[.]run_rollback[(]' then raise; end if;
        get stacked diagnostics result = pg_exception_detail;
        perform migration_guard.report_progress(job, 'undoing', total, total);
        return result;
      when lock_not_available or deadlock_detected then
        -- With every lock given back, and a moment for whoever is in the way.
        if attempt = attempts then raise; end if;
        perform migration_guard.begin_step('waiting');
        perform pg_sleep(attempt);
      when others then
        -- What has failed may be for a copy that was not read: that is to be told then.
        if not copies_read then
          perform migration_guard.assert_intact(backup);
        end if;
        raise;
    end;
  end loop;
  -- What was signed off is undone: the migration is still to come again, and nothing is left that a retention could count from.
  update migration_guard.backups as b set rolled_back_at = clock_timestamp(), rolled_back_by = job.actor,
    confirmed_at = case when is_no_op then b.confirmed_at end, confirmed_by = case when is_no_op then b.confirmed_by end,
    confirmation_note = case when is_no_op then b.confirmation_note end
  from (select (result ->> 'no_op')::boolean as is_no_op) as r
  where b.id = backup.id;
  notify pgrst, 'reload schema';
  return result;
end
$$;
comment on function migration_guard.run_rollback(migration_guard.jobs) is
  'Does a rollback job, or its rehearsal: exactly the plan that was asked for, or nothing. Raises backup_damaged,
plan_changed, rollback_refused, rows_violate_constraint, rollback_differs.';
