-- Chapter 8, continued. What a rollback has to do: which objects stay, go or are made again, and why.
--
-- The planner works on two temporary tables, made and read by the functions here and in the next chapter:
--
-- migration_guard_objects    Every recorded object beside the live one that it is now, and what becomes of both.
-- migration_guard_links      Which live object needs which.
--
-- An object that holds rows, or that others refer to by OID, is changed in place where Postgres can: renamed, altered. What
-- is only a definition is dropped and made again. A table whose columns cannot be put right in place is made anew from
-- its live rows ("rebuilt"), and so is a type; the old one waits under another name until nothing needs it.

create function migration_guard.is_table(kind text) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select kind in ('table', 'foreign_table') $$;
comment on function migration_guard.is_table(text) is 'Whether a kind of object is a table.';

create function migration_guard.is_type(kind text) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select kind in ('enum', 'domain', 'composite_type', 'range_type') $$;
comment on function migration_guard.is_type(text) is 'Whether a kind of object is a type of its own.';

create function migration_guard.is_table_part(kind text) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select kind in ('constraint', 'index', 'trigger', 'rule', 'policy', 'statistics', 'publication_table', 'publication_schema') $$;
comment on function migration_guard.is_table_part(text) is 'Whether a kind of object is made when all tables, types and functions are there.';

-- The two tables ------------------------------------------------------------------------------------------------------

create function migration_guard.collect_rollback_objects(backup_schema text, altered oid[], others oid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set client_min_messages = 'error'
set work_mem = '64MB' set jit = off
as $$
begin
  drop table if exists pg_temp.migration_guard_objects, pg_temp.migration_guard_links, pg_temp.migration_guard_copies, pg_temp.migration_guard_order,
    pg_temp.migration_guard_bounds, pg_temp.migration_guard_heirs;
  create temporary table migration_guard_objects (
    id bigint, old migration_guard.catalog_entry, new migration_guard.catalog_entry, kind text, in_plan boolean, creation_order int,
    matched_by text, is_renamed boolean, aspects text[],
    -- In every byte, and so nothing of it is to be altered for its own sake.
    is_same boolean,
    was boolean, "is" boolean, classid oid, objid oid, objsubid int, old_classid oid, old_objid oid, old_objsubid int,
    -- Rows of this table: what the object is a part of, live and as recorded.
    parent_id bigint, old_parent_id bigint,
    -- New, and stays.
    is_kept boolean not null default false,
    -- Goes, and when: now, or when what takes its place is there.
    is_dropped boolean not null default false, is_late boolean not null default false,
    -- Is made again from its definition.
    is_made boolean not null,
    -- In place: a column gets its type, a column its default, any object its settings.
    is_retyped boolean not null default false, is_reset boolean not null default false,
    reason text, level int not null default 0, waiting_name text,
    -- A view that needs itself, by way of others.
    is_circular boolean not null default false,
    -- A foreign key between tables whose rows are put back, which need not go for that.
    stays boolean not null default false
  ) on commit drop;
  -- To compress them takes longer than to write them.
  alter table pg_temp.migration_guard_objects alter old set storage external, alter new set storage external;
  insert into pg_temp.migration_guard_objects (id, old, new, kind, in_plan, creation_order, matched_by, is_renamed, aspects, is_same, was, "is",
    classid, objid, objsubid, old_classid, old_objid, old_objsubid, parent_id, old_parent_id, is_made)
  with objects as materialized (
    select row_number() over (order by coalesce((c.old).kind, (c.new).kind), (c.old).identity, (c.new).identity) as id, c.old, c.new, coalesce((c.old).kind, (c.new).kind) as kind, c.in_plan, c.creation_order,
      c.matched_by, c.is_renamed, c.aspects,
      c.is_unaltered or coalesce(c.old *= c.new, false) and c.aspects = '{}' as is_same,
      (c.old).classid is not null as was, (c.new).classid is not null as "is",
      (c.new).classid as classid, (c.new).objid as objid, (c.new).objsubid as objsubid,
      (c.old).classid as old_classid, (c.old).objid as old_objid, (c.old).objsubid as old_objsubid
    from (
      select u.*, true as is_unaltered from migration_guard.unaltered_objects(backup_schema, others, '{schema,table}', altered) as u where altered is not null
      union all
      select m.*, false from migration_guard.matched_objects(backup_schema, altered) as m where altered is null or altered <> '{}'
    ) as c
  ),
  -- What the others are joined by, so that their definitions are not gathered once more.
  keys as materialized (select o.id, o.kind, o.classid, o.objid, o.objsubid, o.old_classid, o.old_objid, o.old_objsubid from objects as o)
  select o.*, p.id, q.id, not o.is
  from objects as o
  -- An index is a part of its table, and of the constraint that makes it.
  left join keys as p on (p.classid, p.objid, p.objsubid) = ((o.new).parent_classid, (o.new).parent, 0) and p.id <> o.id and p.kind <> 'index' and o.kind <> 'sequence'
  left join keys as q on (q.old_classid, q.old_objid, q.old_objsubid) = ((o.old).parent_classid, (o.old).parent, 0) and q.id <> o.id and q.kind <> 'index' and o.kind <> 'sequence';
  create index on pg_temp.migration_guard_objects (kind) where kind = 'schema';
  create temporary table migration_guard_heirs on commit drop as
  select o.objid, s.oid::oid as parent
  from pg_temp.migration_guard_objects as o cross join lateral jsonb_array_elements_text((o.new).signature -> 'parents') as s (oid)
  where o.is and o.kind in ('table', 'foreign_table');
  create index on pg_temp.migration_guard_heirs (parent);
  create index on pg_temp.migration_guard_objects (id);
  create index on pg_temp.migration_guard_objects (parent_id);
  create index on pg_temp.migration_guard_objects (old_parent_id);
  create index on pg_temp.migration_guard_objects (classid, objid, objsubid);
  create index on pg_temp.migration_guard_objects (old_classid, old_objid, old_objsubid);
  -- Not the objects themselves: to compare those takes longer than all else.
  analyze pg_temp.migration_guard_objects (id, kind, classid, objid, objsubid, old_classid, old_objid, old_objsubid, parent_id, old_parent_id, was, "is");
  create temporary table migration_guard_copies on commit drop as select 0::oid as source_oid, ''::text as backup_table, '[]'::jsonb as columns, 0::bigint as row_count, ''::text as checksum, 'keep' as mode where false;
  execute format('insert into pg_temp.migration_guard_copies select t.source_oid, t.backup_table, t.columns, t.row_count, t.backup_checksum, ''keep'' from %I.tables_backup as t', backup_schema);
  create index on pg_temp.migration_guard_copies (source_oid);
  analyze pg_temp.migration_guard_copies;
  create temporary table migration_guard_bounds (
    id bigint, parent_id bigint, bound text, is_new boolean, is_back boolean, is_default boolean,
    -- With one that comes back.
    is_overlapping boolean not null default false,
    -- What is true of the rows that it may hold.
    fits text
  ) on commit drop;
end
$$;
comment on function migration_guard.collect_rollback_objects(text, oid[], oid[]) is
  'Makes the planner''s temporary tables for a backup schema: of what may have been altered, and of some other objects with what belongs to them, besides
all tables; of all objects, where it is not known what was altered.';

create function migration_guard.rollback_scope(backup_schema text, altered oid[], restored oid[], out reached oid[], out others oid[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
set work_mem = '64MB' set jit = off
as $$
declare
  needed oid[];
  further oid[];
begin
  reached := altered || array(
    select d.objid from migration_guard.with_dependents(array_fill('pg_class'::regclass::oid, array[cardinality(restored)]), restored) as d);
  -- Of a table whose owner may not use it the privileges are given back, whatever else is done.
  execute format($query$
    select array(
      select t.oid from (
        select c.oid, c.relowner from %1$I.objects_backup as o join pg_class as c on c.oid = o.objid where o.kind = 'table' offset 0
      ) as t
      where pg_has_role(t.relowner, 'usage')
        and not (has_table_privilege(t.oid, 'select') and has_table_privilege(t.oid, 'insert') and has_table_privilege(t.oid, 'delete')))
  $query$, backup_schema) into others;
  -- A sequence that no table owns may stand elsewhere, of which the catalog says nothing. One that does not has nothing to be done to it.
  if restored <> '{}' then
    execute format($query$
      select $1 || array(
        select o.objid from %I.objects_backup as o
        where o.kind = 'sequence' and o.signature -> 'owned_by' ->> 0 is null
          and case when o.is_called and exists (select from pg_sequence as s where s.seqrelid = o.objid) and has_sequence_privilege(o.objid, 'select')
            then pg_sequence_last_value(o.objid) end is distinct from o.last_value)
    $query$, backup_schema) into others using others;
  end if;
  if reached = '{}' then return; end if;
  -- Step by step: of a recursion Postgres expects, and makes room for, a thousand times what comes.
  needed := reached;
  further := reached;
  while further <> '{}' loop
    execute format($query$
      select array(
        select d.refobjid from %I.dependencies_backup as d
        where d.objid in (select f.id from unnest($1) as f (id)) and d.refobjid not in (select n.id from unnest($2) as n (id))
        group by d.refobjid)
    $query$, backup_schema) into further using further, needed;
    needed := needed || further;
  end loop;
  execute format($query$
    with placed (id) as materialized (
      select n.id from unnest($1) as n (id)
      union
      select o.parent from %1$I.objects_backup as o where o.parent is not null and o.objid in (select n.id from unnest($1) as n (id))
      union
      select t.id from unnest($2) as t (id)
    ),
    -- What has one name, be it a function of other arguments or a type beside a sequence, may get into the way.
    names as (
      select distinct o.schema_name, o.name from %1$I.objects_backup as o
      where o.kind not in ('column', 'attribute', 'enum_value', 'trigger', 'policy', 'rule') and o.objid in (select p.id from placed as p)
    )
    select array(
      select p.id from placed as p
      union
      select o.objid from %1$I.objects_backup as o join names as n on (n.schema_name, n.name) = (o.schema_name, o.name)
      where o.kind in ('table', 'foreign_table', 'view', 'materialized_view', 'sequence', 'index', 'enum', 'domain', 'composite_type', 'range_type', 'function', 'procedure', 'aggregate'))
  $query$, backup_schema) into others using needed, others;
  -- Parents, heirs and their parts refer to each other in ways of their own.
  if migration_guard.is_family(backup_schema, others) then
    reached := null;
    others := null;
  end if;
end
$$;
comment on function migration_guard.rollback_scope(text, oid[], oid[]) is
  'What a plan has to look at, where it is known what was altered: reached are the altered objects, the tables that get their rows back, and all
that depends on those; others are what these need, or have their names from. Everything else stays as it is. Null is everything.';

create function migration_guard.is_anything_to_do() returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from pg_temp.migration_guard_objects as o where not o.is_same or o.aspects <> '{}')
    or exists (select from pg_temp.migration_guard_copies as c where c.mode = 'restore');
end
$$;
comment on function migration_guard.is_anything_to_do() is
  'Whether any object is not as it was, or the rows of any table are to be put back: only then is there anything to be planned.';

create function migration_guard.collect_rollback_links(reached oid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set work_mem = '64MB' set jit = off
as $$
begin
  create temporary table migration_guard_links on commit drop as
  with owners as materialized (select * from migration_guard.catalog_owners),
  edges as materialized (
    select
      coalesce(s.owner_classid, d.classid) as classid, coalesce(s.owner_objid, d.objid) as objid,
      case when f.oid is not null then f.adnum when s.owner_objid is null then d.objsubid else 0 end as objsubid,
      coalesce(r.owner_classid, d.refclassid) as refclassid, coalesce(r.owner_objid, d.refobjid) as refobjid,
      case when r.owner_objid is null then d.refobjsubid else coalesce(rf.adnum, 0) end as refobjsubid,
      case
        when f.oid is not null and a.attgenerated = '' then 'default'
        when f.oid is not null then 'generated'
        when q.seqrelid is not null and d.deptype in ('a', 'i') and d.refobjsubid > 0 then 'owned'
        when d.classid = 'pg_class'::regclass and d.objsubid > 0 then 'type'
        else 'use' end as via,
      d.deptype, case when r.owner_objid is not null and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0 then d.refobjid end as composite, d.refobjsubid as attribute
    from pg_depend as d
    left join owners as s on s.classid = d.classid and s.objid = d.objid
    left join owners as r on r.classid = d.refclassid and r.objid = d.refobjid
    left join pg_attrdef as f on d.classid = 'pg_attrdef'::regclass and f.oid = d.objid
    left join pg_attrdef as rf on d.refclassid = 'pg_attrdef'::regclass and rf.oid = d.refobjid
    left join pg_attribute as a on a.attrelid = f.adrelid and a.attnum = f.adnum
    left join pg_sequence as q on d.classid = 'pg_class'::regclass and q.seqrelid = d.objid
    where (d.refobjid >= 16384 or d.refclassid = 'pg_namespace'::regclass)
      and (reached is null or d.refobjid in (select i.id from unnest(reached) as i (id)))
      and not exists (select from pg_trigger as t where d.classid = 'pg_trigger'::regclass and t.oid = d.objid and t.tgisinternal)
  ),
  objects as materialized (select o.id, o.classid, o.objid, o.objsubid, o.parent_id from pg_temp.migration_guard_objects as o where o.is),
  -- A column is a row of its own, every other part of an object is the object.
  ends as (
    select distinct coalesce(p.id, o.id) as id, e.classid, e.objid, coalesce(s.id, r.id) as ref_id, e.via
    from edges as e
    left join objects as o on (o.classid, o.objid, o.objsubid) = (e.classid, e.objid, 0)
    left join objects as p on (p.classid, p.objid, p.objsubid) = (e.classid, e.objid, e.objsubid)
    left join objects as r on (r.classid, r.objid, r.objsubid) = (e.refclassid, e.refobjid, 0)
    left join objects as s on (s.classid, s.objid, s.objsubid) = (e.refclassid, e.refobjid, e.refobjsubid)
    -- Of what is not compared, only what stands by itself can bar the way.
    where coalesce(s.id, r.id) is not null and (coalesce(p.id, o.id) is not null or e.deptype = 'n')
    union
    -- What needs an attribute goes before it.
    select coalesce(p.id, o.id), e.classid, e.objid, a.id, e.via
    from edges as e
    join objects as a on (a.classid, a.objid, a.objsubid) = ('pg_class'::regclass, e.composite, e.attribute)
    left join objects as o on (o.classid, o.objid, o.objsubid) = (e.classid, e.objid, 0)
    left join objects as p on (p.classid, p.objid, p.objsubid) = (e.classid, e.objid, e.objsubid)
    where coalesce(p.id, o.id) is not null or e.deptype = 'n'
  )
  select e.id, e.classid, e.objid, e.ref_id, e.via from ends as e
  -- A table does not need its columns, whatever its constraints on them say.
  where e.id is distinct from e.ref_id and not exists (select from objects as r where r.id = e.ref_id and r.parent_id = e.id)
  union
  select o.id, o.classid, o.objid, o.parent_id, 'part' from pg_temp.migration_guard_objects as o where o.parent_id is not null and o.kind <> 'sequence';
  create index on pg_temp.migration_guard_links (id);
  create index on pg_temp.migration_guard_links (ref_id);
  analyze pg_temp.migration_guard_links;
end
$$;
comment on function migration_guard.collect_rollback_links(oid[]) is
  'Makes the table of which live object needs which, or of what needs one of some; one that is not compared has no id.';

-- What becomes of each -----------------------------------------------------------------------------------------------

create function migration_guard.rollback_mode(options jsonb, table_name text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case jsonb_typeof(options -> 'data') when 'string' then options ->> 'data' else coalesce(options -> 'data' ->> table_name, 'keep') end
$$;
comment on function migration_guard.rollback_mode(jsonb, text) is
  'What the options of a rollback say of a table''s rows: keep, or restore.';

create function migration_guard.restores(relation oid) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from pg_temp.migration_guard_copies as c where c.source_oid = relation and c.mode = 'restore');
end
$$;
comment on function migration_guard.restores(oid) is 'Whether the rows of a recorded table are to be put back and are not those of the backup already.';

create function migration_guard.choose_modes(options jsonb, differing oid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  copied record;
  rows bigint;
  present text;
begin
  update pg_temp.migration_guard_copies as c set mode = 'restore'
  from pg_temp.migration_guard_objects as t
  where t.old_objid = c.source_oid and t.kind = 'table' and migration_guard.rollback_mode(options, (t.old).name) = 'restore';
  if not found then return; end if;
  -- A table whose rows are as they were has nothing to be restored.
  for copied in
    select t.source_oid, t.checksum, t.objid
    from (
      select c.source_oid, c.checksum, o.objid, o.id
      from pg_temp.migration_guard_copies as c
      join pg_temp.migration_guard_objects as o on o.old_objid = c.source_oid and o.kind = 'table' and o.is
      where c.mode = 'restore' and c.source_oid <> all (differing)
      -- Of each what takes long is asked once.
      offset 0
    ) as t
    where has_table_privilege(t.objid, 'select') and migration_guard.may_be_read(t.objid)
      and t.id not in (
        select unnest(array_remove(array[x.parent_id, x.old_parent_id], null)) from pg_temp.migration_guard_objects as x
        where x.kind = 'column' and (not x.is or not x.was or x.aspects && '{definition,place}'))
      -- Nor has one that has lost a partition, or has one with other bounds.
      and t.id not in (
        select migration_guard.recorded_root(x.id) from pg_temp.migration_guard_objects as x
        where x.kind = 'table' and x.was and ((x.old).signature ->> 'is_partition')::boolean
          and (not x.is or (x.old).parts -> 'bound' is distinct from (x.new).parts -> 'bound'))
      -- Nor one that may lose a new partition, and its rows with that.
      and t.objid not in (
        select a.relid from pg_temp.migration_guard_objects as x cross join lateral pg_partition_ancestors(x.objid) as a (relid)
        where x.kind = 'table' and x.is and not x.was and ((x.new).signature ->> 'is_partition')::boolean
          and (options -> 'drop_new' = '"all"' or options -> 'drop_new' @> to_jsonb((x.new).name)
            -- Nothing that is as it was needs it out of the way.
            or options -> 'drop_new' = '"blocking"' and exists (select from pg_temp.migration_guard_objects as o where o.was and (not o.is_same or o.aspects <> '{}'))))
  loop
    perform migration_guard.refuse_views(true);
    execute migration_guard.source_checksum_query(copied.objid) into rows, present;
    perform migration_guard.refuse_views(false);
    update pg_temp.migration_guard_copies as c set mode = 'keep' where c.source_oid = copied.source_oid and c.checksum = present;
  end loop;
end
$$;
comment on function migration_guard.choose_modes(jsonb, oid[]) is
  'Tells of each copied table whether its rows are to be put back.';

create function migration_guard.numbers_restored_rows(sequence migration_guard.catalog_entry, live oid, options jsonb, with_refilled boolean default false) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  mode_of_all constant text := case jsonb_typeof(options -> 'data') when 'string' then options ->> 'data' end;
begin
  return exists (
    select from pg_temp.migration_guard_objects as t
    -- One that no table owns may number any. To ask each for its mode takes longest.
    where case when t.kind = 'table' and t.was and (
        coalesce(sequence.signature -> 'owned_by' ->> 0, t.old_objid::text) = t.old_objid::text
        or t.objid in (
          select f.adrelid from pg_depend as d join pg_attrdef as f on d.classid = 'pg_attrdef'::regclass and f.oid = d.objid
          where d.refclassid = 'pg_class'::regclass and d.refobjid = live))
      then with_refilled and not t.is or coalesce(mode_of_all, migration_guard.rollback_mode(options, (t.old).name)) = 'restore' end);
end
$$;
comment on function migration_guard.numbers_restored_rows(migration_guard.catalog_entry, oid, jsonb, boolean) is
  'Whether a sequence may have given its numbers to rows that are put back; with those of tables that are gone, which are filled again in any case.';

create function migration_guard.sequences_named(expression text) returns setof oid
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- In the tree of a default that calls nextval (1574), the OID in a constant of the type regclass (2205). Some machines print bytes with a sign.
  select (b[1] + 256 * b[2] + 65536 * b[3] + 16777216 * b[4])::oid
  from regexp_matches(expression, ':consttype 2205 [^{}]*:constvalue 4 \[ (-?\d+) (-?\d+) (-?\d+) (-?\d+) ', 'g') as m
  cross join lateral (select array_agg((x.byte::bigint + 256) % 256 order by x.number) as b from unnest(m) with ordinality as x (byte, number)) as bytes
  where expression ~ ':funcid 1574 '
$$;
comment on function migration_guard.sequences_named(text) is 'The sequences that give numbers to a column with a default.';

create function migration_guard.kept_numbers(options jsonb) returns table (sequence_id bigint, column_name text, table_name text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with sequences as materialized (
    select o.id, o.old_objid, o.objid, o.is_made, (o.old).signature -> 'owned_by' as owned_by, (o.new).signature -> 'owned_by' as owned_now
    from pg_temp.migration_guard_objects as o where o.kind = 'sequence' and o.was
  ),
  -- While a partition is detached anybody can number its rows, without the sequence of the whole.
  joined as materialized (
    select distinct migration_guard.recorded_root(t.id) as root_id
    from pg_temp.migration_guard_objects as t
    where t.kind = 'table' and t.is and t.was and not t.is_same and ((t.old).signature ->> 'is_partition')::boolean and not migration_guard.is_read_by_root(t.id)
  ),
  columns as materialized (
    select c.id, c.old_parent_id, c.is, c.is_same, c.objid, c.objsubid, c.old_objid, c.old_objsubid, (c.old).name, (c.old).schema_name, (c.old).parent_name,
      (c.old).signature ->> 'type' as type, (c.old).signature ->> 'default' as old_default, (c.new).signature ->> 'default' as new_default
    from pg_temp.migration_guard_objects as c
    where c.kind = 'column' and c.was
      and (not c.is_same or c.old_parent_id in (select j.root_id from joined as j) or exists (select from sequences as s where s.is_made))
  ),
  numbered as (
    select s.id as sequence_id, c.id as column_id, s.owned_by ->> 2 = 'i' as is_default
    from sequences as s
    join columns as c on c.old_objid::text = s.owned_by ->> 0 and c.old_objsubid::text = s.owned_by ->> 1
    where s.is_made or not c.is_same or c.old_parent_id in (select j.root_id from joined as j)
    union all
    select s.id, c.id, true
    from columns as c
    cross join lateral migration_guard.sequences_named(c.old_default) as n (sequence)
    join sequences as s on s.old_objid = n.sequence
    where s.is_made or not c.is_same or c.old_parent_id in (select j.root_id from joined as j)
  ),
  -- What has its numbers from elsewhere by now, or from where the sequence did not stay.
  kept as materialized (
    select distinct n.sequence_id, c.name as column_name, quote_ident(c.schema_name) || '.' || quote_ident(c.parent_name) as table_name,
      c.old_objid::text as relation, (t.old).signature -> 'parents' as parents
    from numbered as n
    join sequences as s on s.id = n.sequence_id
    join columns as c on c.id = n.column_id
    join pg_temp.migration_guard_objects as t on t.id = c.old_parent_id and t.kind = 'table'
    left join pg_temp.migration_guard_objects as d on d.kind = 'domain' and d.old_objid::text = c.type
    -- A sequence may belong to a column that holds no number.
    where coalesce((d.old).signature ->> 'base', c.type) in (select x.type::oid::text from unnest('{int2,int4,int8,numeric}'::regtype[]) as x (type))
      and (s.is_made or migration_guard.rollback_mode(options, (t.old).name) = 'keep' and (not c.is or t.id in (select j.root_id from joined as j) or n.is_default
        and s.owned_now is distinct from jsonb_build_array(c.objid, c.objsubid, 'i')
        and s.objid not in (select x from migration_guard.sequences_named(c.new_default) as x)))
  )
  select k.sequence_id, k.column_name, k.table_name
  from kept as k
  -- Rows of a partition or an heir are its parent's, too.
  where not exists (select from kept as p where p.sequence_id = k.sequence_id and p.column_name = k.column_name and k.parents @> to_jsonb(p.relation));
end
$$;
comment on function migration_guard.kept_numbers(jsonb) is
  'The columns that a sequence has numbered, is to number again, and may not have numbered in between: where it goes on, their rows tell.';

create function migration_guard.sequence_position(relation oid, out last_value bigint, out is_called boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Not from pg_sequences, which says nothing of one that has given out nothing yet.
  perform migration_guard.refuse_views(true);
  execute format('select s.last_value, s.is_called from %s as s', relation::regclass) into last_value, is_called;
  perform migration_guard.refuse_views(false);
end
$$;
comment on function migration_guard.sequence_position(oid) is 'Where a sequence stands, for a role that may read it.';

create function migration_guard.mark_lagging_sequences(backup_schema text, options jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  recorded record;
  live record;
begin
  for recorded in execute format($query$
    select o.id, o.objid, b.last_value, b.is_called, (o.old).signature ->> 'seqincrement' ~ '^-' as descends
    from pg_temp.migration_guard_objects as o
    join %I.objects_backup as b on (b.classid, b.objid, b.objsubid) = (o.old_classid, o.old_objid, 0)
    where case when o.kind = 'sequence' and o.was and o.is and b.last_value is not null then has_sequence_privilege(o.objid, 'select')
      and migration_guard.numbers_restored_rows(o.old, o.objid, $1, true) end
      -- Mostly none are put back.
      and ($1 ->> 'data' <> 'keep' or exists (select from pg_temp.migration_guard_objects as t where t.kind = 'table' and t.was and not t.is))
  $query$, backup_schema) using options
  loop
    live := migration_guard.sequence_position(recorded.objid);
    update pg_temp.migration_guard_objects as o set aspects = o.aspects || '{position}'
    where o.id = recorded.id and (live.last_value = recorded.last_value and recorded.is_called and not live.is_called
      or live.last_value <> recorded.last_value and (live.last_value > recorded.last_value) = recorded.descends);
  end loop;
  update pg_temp.migration_guard_objects as o set aspects = o.aspects || '{position}'
  where o.is and not ('position' = any (o.aspects)) and o.id in (select k.sequence_id from migration_guard.kept_numbers(options) as k);
end
$$;
comment on function migration_guard.mark_lagging_sequences(text, jsonb) is
  'Marks the sequences that stand where they would give out numbers of rows again: of rows that are put back, or may, of rows that others have numbered since.';

create function migration_guard.keep_new_objects(options jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  changed bigint := 1;
  -- A list of tables, all, or blocking.
  wanted constant jsonb := coalesce(options -> 'drop_new', '[]');
begin
  update pg_temp.migration_guard_objects as o set is_kept = true
  where o.is and not o.was and wanted <> '"all"'
    and (wanted = '"blocking"' or o.kind = 'table') and not wanted @> to_jsonb((o.new).name);
  while changed > 0 loop
    -- With a table stays what belongs to it, and what it needs.
    update pg_temp.migration_guard_objects as o set is_kept = true
    where o.is and not o.was and not o.is_kept
      and (
        exists (select from pg_temp.migration_guard_objects as p where p.id = o.parent_id and p.is_kept)
        or (o.parent_id is null or o.kind = 'sequence') and exists (
          select from pg_temp.migration_guard_links as l join pg_temp.migration_guard_objects as k on k.id = l.id and k.is_kept where l.ref_id = o.id)
        or exists (
          select from pg_temp.migration_guard_links as l join pg_temp.migration_guard_objects as k on k.id = l.ref_id and k.is_kept where l.id = o.id and l.via = 'owned'));
    get diagnostics changed = row_count;
  end loop;
end
$$;
comment on function migration_guard.keep_new_objects(jsonb) is
  'Marks what is new and stays: new tables that are not named, with what belongs to them and what they need.';

create function migration_guard.is_replaceable(old jsonb, new jsonb) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select bool_and(old -> k = new -> k)
  from unnest('{prokind,proargtypes,proallargtypes,proargmodes,proargnames,prorettype,proretset,provariadic}'::text[]) as k
  where (old ->> 'pronargdefaults')::int >= (new ->> 'pronargdefaults')::int
$$;
comment on function migration_guard.is_replaceable(jsonb, jsonb) is
  'Whether CREATE OR REPLACE can make a function what another signature says.';

create function migration_guard.mark_redefined() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update pg_temp.migration_guard_objects as o set is_dropped = true, reason = 'new'
  where o.is and not o.was and not o.is_kept;
  -- What is nothing but its definition.
  update pg_temp.migration_guard_objects as o set is_dropped = true, is_made = true, reason = 'redefined'
  from (select '{conparentid,conislocal,coninhcount,parent}'::text[] as marks) as p
  where o.is and o.was and 'definition' = any (o.aspects) and not (o.new).is_internal
    -- Constraints and indexes of a partition that stays follow it out of its parent and back.
    and not (o.kind = 'constraint' and (o.old).signature ->> 'contype' in ('c', 'f') and (o.old).signature - p.marks = (o.new).signature - p.marks)
    and not ((o.kind = 'index' or o.kind = 'constraint' and (o.old).signature ->> 'contype' in ('p', 'u', 'x')) and (o.old).signature - p.marks - 'connoinherit' = (o.new).signature - p.marks - 'connoinherit')
    and (migration_guard.is_table_part(o.kind) or o.kind in ('view', 'materialized_view', 'aggregate', 'domain_constraint', 'default_privilege', 'foreign_table')
      or o.kind in ('function', 'procedure') and not coalesce(migration_guard.is_replaceable((o.old).signature, (o.new).signature), false));
  update pg_temp.migration_guard_objects as o set is_made = true, reason = 'redefined'
  where o.is and o.was and not o.is_dropped and 'definition' = any (o.aspects) and o.kind in ('function', 'procedure');
  -- An index that a constraint has taken over, or one that was a constraint's, goes and comes with that.
  update pg_temp.migration_guard_objects as o set is_dropped = true, is_made = true, reason = 'redefined'
  where o.is and o.was and o.kind = 'index' and (o.old).is_internal <> (o.new).is_internal;
  update pg_temp.migration_guard_objects as o set is_retyped = true, reason = 'redefined'
  where o.is and o.was and o.kind = 'column' and 'definition' = any (o.aspects)
    and exists (select from pg_temp.migration_guard_objects as t where t.id = o.parent_id and t.kind = 'table')
    and (
      ((o.old).signature ->> 'typmod', (o.old).signature ->> 'collation') is distinct from ((o.new).signature ->> 'typmod', (o.new).signature ->> 'collation')
      or (o.new).signature ->> 'type' <> coalesce(
        (select t.objid::text from pg_temp.migration_guard_objects as t where migration_guard.is_type(t.kind) and t.is and (t.old).objid::text = (o.old).signature ->> 'type'),
        (o.old).signature ->> 'type'));
end
$$;
comment on function migration_guard.mark_redefined() is
  'Marks what is new and goes, what is redefined and so is dropped and made again or replaced, and columns of another type.';

create function migration_guard.mark_attached_indexes() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- An index that was attached to another since neither goes by itself nor leaves it: that goes, too, with all that are attached to it.
  with roots as materialized (
    select pg_partition_root(i.objid)::oid as objid, min((i.new).identity) as cause
    from pg_temp.migration_guard_objects as i
    join pg_temp.migration_guard_objects as t on t.id = i.parent_id
    where i.kind = 'index' and i.is and (i.new).signature ->> 'parent' is not null and (not i.was and i.is_dropped or i.was and (i.old).signature ->> 'parent' is null)
      -- Unless it goes with its table, or leaves it with that.
      and t.was and not t.is_dropped and (t.old).signature -> 'parents' = (t.new).signature -> 'parents'
    group by 1
  )
  update pg_temp.migration_guard_objects as o set is_dropped = true, is_made = o.was, reason = 'needs ' || r.cause
  from roots as r
  where o.is and not o.is_dropped and (
    o.kind = 'index' and o.objid = r.objid and not (o.new).is_internal
    or o.kind = 'constraint' and o.objid in (select k.oid from pg_constraint as k where k.conindid = r.objid and k.contype in ('p', 'u')));
end
$$;
comment on function migration_guard.mark_attached_indexes() is
  'Marks partitioned indexes, and keys that have one, to which an index was attached that was not.';

create function migration_guard.columns_holding(type oid, is_within boolean default true) returns table (relation oid, number int)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive holders (oid, is_around) as (
    select columns_holding.type, false
    union
    select x.oid, h.is_around or x.is_around
    from holders as h
    cross join lateral (
      select t.oid, false from pg_type as t where t.typbasetype = h.oid
      union all select t.typarray, true from pg_type as t where t.oid = h.oid
      union all select r.rngtypid, true from pg_range as r where r.rngsubtype = h.oid
      union all select r.rngmultitypid, true from pg_range as r where r.rngtypid = h.oid
      union all select c.reltype, true from pg_attribute as a join pg_class as c on c.oid = a.attrelid where a.atttypid = h.oid and not a.attisdropped
    ) as x (oid, is_around)
    where x.oid <> 0
  )
  select distinct a.attrelid, a.attnum::int
  from holders as h
  join pg_attribute as a on a.atttypid = h.oid and a.attnum > 0 and not a.attisdropped
  join pg_class as c on c.oid = a.attrelid and c.relkind in ('r', 'p', 'm')
  where h.is_around or not is_within
$$;
comment on function migration_guard.columns_holding(oid, boolean) is
  'The columns with values of a type within others: in arrays, rows or ranges; or also by itself or in a domain.';

create function migration_guard.mark_rebuilt() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update pg_temp.migration_guard_objects as o set is_dropped = true, is_late = true, is_made = true, reason = case
      when (o.old).signature -> 'kind' <> (o.new).signature -> 'kind' or (o.old).signature -> 'partitioning' <> (o.new).signature -> 'partitioning' then 'redefined'
      else 'columns cannot be put right in place' end
  where o.kind = 'table' and o.is and o.was
    and (
      ((o.old).signature -> 'kind', (o.old).signature #- '{partitioning,partexprs}' -> 'partitioning') is distinct from ((o.new).signature -> 'kind', (o.new).signature #- '{partitioning,partexprs}' -> 'partitioning')
      -- An expression with types or functions that were made again since says what it said.
      or 'definition' = any (o.aspects) and (o.old).signature -> 'partitioning' <> (o.new).signature -> 'partitioning'
      or exists (
        select from pg_temp.migration_guard_objects as c
        where c.old_parent_id = o.id and c.kind = 'column'
          and (not c.is or 'place' = any (c.aspects)
            or (c.old).signature -> 'generated' <> (c.new).signature -> 'generated'
            or (c.old).signature ->> 'generated' <> '' and 'definition' = any (c.aspects)
            or c.is_retyped and migration_guard.restores((o.old).objid)
            -- Dropped and added again: what it had is in the copy.
            or c.matched_by = 'name' and o.matched_by = 'identity' and exists (select from pg_temp.migration_guard_copies as m where m.source_oid = (o.old).objid)))
      -- What an heir had from a parent is its own once it has left that, and stays so when it comes back. That of a partition does not.
      or not ((o.old).signature ->> 'is_partition')::boolean and exists (
        select from pg_temp.migration_guard_objects as c
        cross join lateral (values ((c.old).signature ->> 'is_local', (c.new).signature ->> 'is_local'),
          ((c.old).signature ->> 'conislocal', (c.new).signature ->> 'conislocal')) as l (was_own, is_own)
        where c.old_parent_id = o.id and c.kind in ('column', 'constraint') and c.is and (l.was_own, l.is_own) = ('false', 'true')));
  -- The new partitions of such a table hold its rows.
  with recursive partitions as (
    select l.id from pg_temp.migration_guard_links as l
    join pg_temp.migration_guard_objects as t on t.id = l.ref_id and t.kind = 'table' and t.was and t.is_dropped
    join pg_temp.migration_guard_objects as p on p.id = l.id and p.kind = 'table' and not p.was and ((p.new).signature ->> 'is_partition')::boolean
    union
    select l.id from partitions as r
    join pg_temp.migration_guard_links as l on l.ref_id = r.id
    join pg_temp.migration_guard_objects as p on p.id = l.id and p.kind = 'table' and not p.was and ((p.new).signature ->> 'is_partition')::boolean
  )
  update pg_temp.migration_guard_objects as o set is_dropped = true, reason = coalesce(o.reason, 'new')
  where not o.was and not o.is_kept and (o.id in (select p.id from partitions as p) or o.parent_id in (select p.id from partitions as p));
  update pg_temp.migration_guard_objects as o set is_dropped = true, is_late = true, is_made = true, reason = case o.kind when 'enum' then 'values cannot be put right in place' else 'redefined' end
  where migration_guard.is_type(o.kind) and o.is and o.was
    and (
      o.kind = 'range_type' and 'definition' = any (o.aspects)
      or o.kind = 'domain' and ((o.old).signature - '{not_null,default}'::text[]) <> ((o.new).signature - '{not_null,default}'::text[]) and 'definition' = any (o.aspects)
      -- What a domain does not allow cannot be said of values within others.
      or o.kind = 'domain' and (
          (o.old).signature ->> 'not_null' = 'true' and (o.new).signature ->> 'not_null' = 'false'
          or exists (
            select from pg_temp.migration_guard_objects as x
            where x.kind = 'domain_constraint' and x.old_parent_id = o.id and x.is_made and ((x.old).signature ->> 'convalidated')::boolean))
        and exists (select from migration_guard.columns_holding(o.objid))
      or exists (
        select from pg_temp.migration_guard_objects as v
        where v.kind in ('enum_value', 'attribute') and o.id in (v.parent_id, v.old_parent_id) and not v.is_kept
          -- An attribute too many can be dropped, and one that was the last be added.
          and (v.aspects && '{place,definition}' or v.kind = 'enum_value' and not (v.is and v.was)
            or v.kind = 'attribute' and not v.is and exists (
              select from pg_temp.migration_guard_objects as later
              where later.old_parent_id = o.id and later.kind = 'attribute' and later.is and (later.old).sort_order > (v.old).sort_order))));
end
$$;
comment on function migration_guard.mark_rebuilt() is
  'Marks tables and types that are made anew, since ALTER does not lead back: a column that is gone, an enum value too many.';

create function migration_guard.reattached_partitions() returns table (id bigint, parent_id bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select o.id, p.id
  from pg_temp.migration_guard_objects as o
  join pg_temp.migration_guard_objects as p on p.kind = 'table' and p.is and p.was and not p.is_dropped and p.old_objid::text = (o.old).signature -> 'parents' ->> 0
  where migration_guard.is_table(o.kind) and o.was and ((o.old).signature ->> 'is_partition')::boolean
    and not coalesce(o.is and ((o.new).signature ->> 'is_partition')::boolean and (o.new).signature -> 'parents' ->> 0 = p.objid::text
      and ((o.old).signature -> 'bound' = (o.new).signature -> 'bound' or (o.old).parts -> 'bound' = (o.new).parts -> 'bound'), false);
end
$$;
comment on function migration_guard.reattached_partitions() is
  'Recorded partitions that are made or attached again, or get their bounds back, below a table that stays.';

create function migration_guard.is_plain_bound(bound text, of_enum boolean) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(bound ~* format('^(default|for values (in \(%1$s\)|from \(%1$s\) to \(%1$s\)|with \(modulus \d+, remainder \d+\)))$', format('%1$s(, %1$s)*',
    -- To an enum a number would be cast, by a function that somebody may have made.
    $value$(null|minvalue|maxvalue|'[^'\\]*'('[^'\\]*')*$value$ || case when of_enum then '' else '|true|false|-?[0-9.]+(e[+-]?[0-9]+)?' end || ')')), false)
$$;
comment on function migration_guard.is_plain_bound(text, boolean) is
  'Whether the bounds of a partition are nothing but values, so that they can be tried before anybody has agreed to a plan.';

create function migration_guard.bounds_model(relation oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with keys as (
    select p.partstrat, k.place, quote_ident(a.attname) as name, format_type(a.atttypid, a.atttypmod) as type, format('%I.%I', os.nspname, oc.opcname) as opclass,
      coalesce(' collate ' || quote_ident(cs.nspname) || '.' || quote_ident(co.collname), '') as collation_clause,
      coalesce(oc.oid < 16384 and (t.oid < 16384 and t.typtype in ('b', 'r', 'm') or t.typtype = 'e'), false) as is_plain
    from pg_partitioned_table as p
    cross join lateral unnest(p.partattrs::int2[], p.partclass::oid[], p.partcollation::oid[]) with ordinality as k (number, class_id, collation_id, place)
    left join pg_attribute as a on a.attrelid = p.partrelid and a.attnum = k.number
    left join pg_type as t on t.oid = a.atttypid
    left join pg_opclass as oc on oc.oid = k.class_id
    left join pg_namespace as os on os.oid = oc.opcnamespace
    left join pg_collation as co on co.oid = k.collation_id
    left join pg_namespace as cs on cs.oid = co.collnamespace
    where p.partrelid = relation
  )
  select format('(%s) partition by %s (%s)',
    (select string_agg(distinct concat_ws(' ', k.name, k.type), ', ') from keys as k),
    case min(k.partstrat) when 'l' then 'list' when 'h' then 'hash' else 'range' end,
    string_agg(k.name || k.collation_clause || ' ' || k.opclass, ', ' order by k.place))
  from keys as k
  having bool_and(k.is_plain)
$$;
comment on function migration_guard.bounds_model(oid) is
  'How a partitioned table divides its rows: a table of the columns that say so, and of no others. Null where functions of somebody''s own would be called for that.';

create function migration_guard.try_bounds(table_id bigint) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  parent constant oid := (select o.objid from pg_temp.migration_guard_objects as o where o.id = table_id);
  model constant text := migration_guard.bounds_model(parent);
  of_enum constant boolean := exists (
    select from pg_partitioned_table as p join pg_attribute as a on a.attrelid = p.partrelid and a.attnum = any (p.partattrs) join pg_type as t on t.oid = a.atttypid
    where p.partrelid = parent and t.typtype = 'e');
  is_tried boolean := model is not null and not exists (
    select from pg_temp.migration_guard_bounds as b where b.parent_id = table_id and not migration_guard.is_plain_bound(b.bound, of_enum));
  part record;
begin
  drop table if exists pg_temp.migration_guard_model;
  if is_tried then
    begin
      execute 'create temporary table migration_guard_model ' || model;
    exception when insufficient_privilege then
      -- Of a schema that a type is in.
      is_tried := false;
    end;
  end if;
  for part in
    select b.id, b.is_new, format('create temporary table migration_guard_model_%s partition of pg_temp.migration_guard_model %s', b.id, b.bound) as statement
    from pg_temp.migration_guard_bounds as b
    where is_tried and b.parent_id = table_id
    order by b.is_new, b.id
  loop
    begin
      execute part.statement;
    exception
    when lock_not_available or deadlock_detected or insufficient_resources then
      -- That says nothing of the bounds.
      raise;
    when others then
      update pg_temp.migration_guard_bounds as b set is_overlapping = true where b.id = part.id;
      is_tried := is_tried and part.is_new;
    end;
  end loop;
  if is_tried then
    -- That of a hash says nothing without its table.
    update pg_temp.migration_guard_bounds as b set fits = pg_get_partition_constraintdef(to_regclass('pg_temp.migration_guard_model_' || b.id))
    where b.parent_id = table_id and (b.is_back or b.is_default) and (select p.partstrat <> 'h' from pg_partitioned_table as p where p.partrelid = parent);
  else
    update pg_temp.migration_guard_bounds as b set is_overlapping = b.is_new and exists (
      select from pg_temp.migration_guard_bounds as r where r.parent_id = b.parent_id and r.is_back and r.is_default = b.is_default)
    where b.parent_id = table_id;
  end if;
  drop table if exists pg_temp.migration_guard_model;
end
$$;
comment on function migration_guard.try_bounds(bigint) is
  'Finds the new partitions of a table whose bounds leave no place for recorded ones that come back, by making them all without their rows. Where that cannot be
tried, all new ones are held to be in the way.';

create function migration_guard.mark_overlapping(options jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  with back as materialized (
    select r.id, r.parent_id from migration_guard.reattached_partitions() as r
  ),
  partitions as (
    select o.id, p.id as parent_id, case when o.was then o.old else o.new end as entry, not o.was as is_new
    from pg_temp.migration_guard_objects as p
    join pg_temp.migration_guard_objects as o on migration_guard.is_table(o.kind)
      and case when o.was then (o.old).signature -> 'parents' ->> 0 = p.old_objid::text else (o.new).signature -> 'parents' ->> 0 = p.objid::text end
    where p.id in (select b.parent_id from back as b) and (o.was or not o.is_dropped)
  ),
  bounds as (
    select p.id, p.parent_id, (p.entry).parts ->> 'bound' as bound, p.is_new, p.id in (select b.id from back as b) as is_back,
      (p.entry).parts ->> 'bound' = 'DEFAULT' as is_default
    from partitions as p
    where ((p.entry).signature ->> 'is_partition')::boolean
  )
  insert into pg_temp.migration_guard_bounds (id, parent_id, bound, is_new, is_back, is_default)
  select b.* from bounds as b
  -- Those that stay as they are say only what a default does not hold.
  where b.is_new or b.is_back or b.is_default
    or exists (select from bounds as d where d.parent_id = b.parent_id and d.is_back and d.is_default);
  perform migration_guard.try_bounds(p.parent_id) from (select distinct b.parent_id from pg_temp.migration_guard_bounds as b) as p;
  if options -> 'drop_new' <> '"blocking"' then return; end if;
  with recursive partitions as (
    select b.id from pg_temp.migration_guard_bounds as b where b.is_new and b.is_overlapping
    union
    select l.id from partitions as r
    join pg_temp.migration_guard_links as l on l.ref_id = r.id
    join pg_temp.migration_guard_objects as p on p.id = l.id and migration_guard.is_table(p.kind) and not p.was and ((p.new).signature ->> 'is_partition')::boolean
  )
  update pg_temp.migration_guard_objects as o set is_kept = false, is_dropped = true, reason = coalesce(o.reason, 'in the way of partitions')
  where not o.was and (o.id in (select p.id from partitions as p) or o.parent_id in (select p.id from partitions as p));
end
$$;
comment on function migration_guard.mark_overlapping(jsonb) is
  'Finds new partitions that recorded ones need the place of, and marks them where what bars the way goes.';

create function migration_guard.unfit_rows()
returns table (id bigint, objid oid, is_default boolean, root text, condition text, is_restored boolean, is_discarded boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select t.id, t.objid, b.is_default, (r.new).identity, format('(%s) is false', b.fits), migration_guard.restores(r.old_objid),
    migration_guard.restores(r.old_objid) and (t.new).signature ->> 'kind' = 'r'
      -- A rule would put something else in the place of what is done, and how the triggers of a table stand is known of a recorded one.
      and not exists (select from pg_rewrite as w where w.ev_class = t.objid)
      and (t.was or not exists (select from pg_trigger as g where g.tgrelid = t.objid and not g.tgisinternal and g.tgenabled <> 'O'))
  from pg_temp.migration_guard_bounds as b
  join pg_temp.migration_guard_objects as t on t.id = b.id and t.kind = 'table' and t.is and not t.is_dropped
  join pg_temp.migration_guard_objects as p on p.id = b.parent_id and not p.is_dropped
  join pg_temp.migration_guard_objects as r on r.id = migration_guard.recorded_root(p.id) and r.is and not r.is_dropped
  where b.fits is not null and not b.is_overlapping
    -- By the names that it has itself.
    and not exists (
      select from pg_partitioned_table as k
      join pg_attribute as a on a.attrelid = k.partrelid and a.attnum = any (k.partattrs)
      where k.partrelid = p.objid and not exists (
        select from pg_attribute as own
        where own.attrelid = t.objid and own.attnum > 0 and not own.attisdropped and (own.attname, own.atttypid) = (a.attname, a.atttypid)));
end
$$;
comment on function migration_guard.unfit_rows() is
  'Partitions that may hold rows which do not fit the bounds that they have in the end, under a condition that is true of such rows, and whether these go.';

create function migration_guard.mark_staying_keys(options jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Tables without the rows that stay deleted are not what they were together.
  if (options ->> 'leave_deleted')::boolean then return; end if;
  begin
    -- Where a role that has not been granted it may say so all the same, as on the platform, no privilege tells of it. It stays what it is.
    execute format('set local session_replication_role = %s', current_setting('session_replication_role'));
  exception when insufficient_privilege then
    return;
  end;
  with proven as materialized (
    -- Those whose rows are as they were are compared in the end, too.
    select t.id, t.objid
    from pg_temp.migration_guard_objects as t
    join pg_temp.migration_guard_copies as m on m.source_oid = t.old_objid
    join pg_class as c on c.oid = t.objid and c.relkind = 'r' and not c.relispartition
    where t.kind = 'table' and t.is and t.was and not t.is_dropped and migration_guard.rollback_mode(options, (t.old).name) = 'restore'
      and not coalesce(((t.old).signature ->> 'triggers_disabled')::boolean, false)
  )
  update pg_temp.migration_guard_objects as o set stays = true
  from pg_constraint as f
  join proven as t on t.objid = f.conrelid
  join proven as p on p.objid = f.confrelid
  where o.kind = 'constraint' and o.is and o.was and not o.is_dropped and o.classid = 'pg_constraint'::regclass and o.objid = f.oid and o.parent_id = t.id
    and f.contype = 'f' and f.convalidated and f.conparentid = 0 and o.aspects <@ '{comment}'
    -- From Postgres 18 on there are such as are not enforced.
    and coalesce((to_jsonb(f) ->> 'conenforced')::boolean, true)
    -- What is always called, a superuser must have said so, would cascade all the same; and what is never called has checked nothing.
    and not exists (select from pg_trigger as g where g.tgconstraint = f.oid and g.tgenabled <> 'O')
    and not exists (select from pg_trigger as g where g.tgrelid in (f.conrelid, f.confrelid) and g.tgisinternal and g.tgenabled not in ('O', 'D'));

  -- Where rows go in without triggers, nothing else of the table must go unchecked: neither another foreign key that is there
  -- then, nor a key that is checked at the end.
  update pg_temp.migration_guard_objects as o set stays = false
  from pg_temp.migration_guard_objects as t
  where o.stays and t.id = o.parent_id and migration_guard.restores(t.old_objid)
    and exists (
      select from pg_constraint as x
      left join pg_temp.migration_guard_objects as k on (k.classid, k.objid, k.objsubid) = ('pg_constraint'::regclass, x.oid, 0)
      left join pg_temp.migration_guard_objects as p on p.kind = 'table' and p.objid = x.confrelid and p.is and p.was
      where x.conrelid = t.objid and (x.contype in ('p', 'u', 'x') and x.condeferrable
        -- One to a table whose rows are put back goes where it does not stay.
        or x.contype = 'f' and not coalesce(k.stays or k.is_dropped, false) and not coalesce(migration_guard.restores(p.old_objid), false)));
end
$$;
comment on function migration_guard.mark_staying_keys(jsonb) is
  'Marks the foreign keys that stay in place while rows are put back: both of their tables have exactly the rows in the end that they had together.';

create function migration_guard.mark_in_the_way_of_rows(options jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from pg_temp.migration_guard_copies as c where c.mode = 'restore') then return; end if;
  perform migration_guard.mark_staying_keys(options);
  -- Foreign keys would cascade from rows that are replaced, or miss rows that are not there yet, unless they stay and are kept quiet; checks
  -- that were never validated and rules would refuse or divert.
  update pg_temp.migration_guard_objects as o set is_dropped = true, is_made = o.was, reason = 'in the way of rows'
  from pg_temp.migration_guard_objects as t
  join pg_temp.migration_guard_copies as c on c.source_oid = (t.old).objid
  where t.is and t.was and migration_guard.restores((t.old).objid)
    and o.is and not o.is_dropped and not (o.new).is_internal
    and (
      o.kind = 'rule' and o.parent_id = t.id
      -- Postgres deletes no row of a table that is published without the columns that identify it.
      or o.kind = 'publication_table' and o.parent_id = t.id and (o.new).signature -> 'prattrs' <> 'null'
      or o.kind = 'constraint' and (o.new).signature ->> 'contype' = 'f' and not o.stays and (
        (o.new).signature ->> 'confrelid' = t.objid::text
        or (o.new).signature ->> 'conparentid' = '0' and ((o.new).signature ->> 'confrelid')::oid in (select x.relid from pg_partition_tree(t.objid) as x))
      or o.kind = 'constraint' and o.parent_id = t.id and not ((o.new).signature ->> 'convalidated')::boolean);
end
$$;
comment on function migration_guard.mark_in_the_way_of_rows(jsonb) is
  'Marks what must not be there while a table''s rows are put back.';

create function migration_guard.mark_unvalidated_checks(backup_schema text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select from pg_temp.migration_guard_objects as o
    where o.kind = 'domain_constraint' and o.was and o.is and not o.is_dropped and not ((o.new).signature ->> 'convalidated')::boolean) then
    return;
  end if;
  -- Rows that were there before such a check of a domain need not pass it, and are put in as if they had come later.
  execute format($query$
    with recursive types (objid) as (
      select (t.old).objid from pg_temp.migration_guard_objects as t
      where t.kind = 'table' and t.was and (t.is_made or t.is and migration_guard.restores((t.old).objid)
        or exists (select from pg_temp.migration_guard_objects as c where c.old_parent_id = t.id and c.is_retyped))
      union
      select d.refobjid from types as t join %1$I.dependencies_backup as d on d.objid = t.objid
      join %1$I.objects_backup as y on (y.classid, y.objid, y.objsubid) = (d.refclassid, d.refobjid, 0) and migration_guard.is_type(y.kind)
    )
    update pg_temp.migration_guard_objects as o set is_dropped = true, is_made = true, reason = 'in the way of rows'
    where o.kind = 'domain_constraint' and o.was and o.is and not o.is_dropped and not ((o.new).signature ->> 'convalidated')::boolean
      and (o.old).parent in (select t.objid from types as t)
  $query$, backup_schema);
end
$$;
comment on function migration_guard.mark_unvalidated_checks(text) is
  'Marks the checks of domains that were never validated and would refuse rows that are written.';

create function migration_guard.mark_quieted() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Triggers are all disabled and enabled again around the rows: those that were in another state get that back; so does
  -- the index of a replica identity.
  with quieted as (
    select p.relid
    from pg_temp.migration_guard_objects as t
    cross join lateral (select t.objid union select x.relid from pg_partition_tree(t.objid) as x) as p (relid)
    where t.kind = 'table' and t.is and t.was and not t.is_dropped and migration_guard.restores((t.old).objid)
    union
    select u.objid from migration_guard.unfit_rows() as u where u.is_discarded
  )
  update pg_temp.migration_guard_objects as o set is_reset = true
  where o.was and (o.new).parent in (select q.relid from quieted as q)
    and (o.kind = 'trigger' and (o.old).signature ->> 'tgenabled' <> 'O' or o.kind = 'index' and (o.old).signature ->> 'indisreplident' = 'true');
  -- An owner may have taken from himself what he needs for the rows.
  update pg_temp.migration_guard_objects as t set aspects = t.aspects || '{privileges}'
  where t.kind = 'table' and t.is and not ('privileges' = any (t.aspects))
    and not (has_table_privilege(t.objid, 'select') and has_table_privilege(t.objid, 'insert') and has_table_privilege(t.objid, 'delete'))
    and pg_has_role((select c.relowner from pg_class as c where c.oid = t.objid), 'usage');
end
$$;
comment on function migration_guard.mark_quieted() is
  'Marks what gets its state back after rows have been put back: triggers, replica identities, the owner''s privileges.';

create function migration_guard.mark_returning_partitions() returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  marked bigint;
begin
  -- With a table that is made anew all its rows are put in: none must be there before.
  update pg_temp.migration_guard_objects as t set is_dropped = true, is_late = true, is_made = true, reason = coalesce(t.reason, 'needs ' || (p.old).identity)
  from pg_temp.migration_guard_objects as p
  where t.kind = 'table' and t.is and t.was and not t.is_dropped and ((t.old).signature ->> 'is_partition')::boolean
    and p.kind = 'table' and p.was and p.old_objid::text = (t.old).signature -> 'parents' ->> 0
    -- Where nothing is put in, its own rows come back with it.
    and (p.is_made and (p.is or exists (
        select from pg_temp.migration_guard_copies as m join pg_temp.migration_guard_objects as r on r.old_objid = m.source_oid
        where r.id = migration_guard.recorded_root(t.id)))
      -- Nor is anything converted that is put back anyway.
      or not ((t.new).signature ->> 'is_partition')::boolean
        and exists (select from pg_temp.migration_guard_objects as c where c.parent_id = t.id and c.kind = 'column' and c.is_retyped)
        and migration_guard.restores((select r.old_objid from pg_temp.migration_guard_objects as r where r.id = migration_guard.recorded_root(t.id))));
  get diagnostics marked = row_count;
  return marked;
end
$$;
comment on function migration_guard.mark_returning_partitions() is
  'Marks the partitions that have left a table which is made anew, or whose rows come back with its own, and tells how many these are.';

create function migration_guard.leaves_parent(old migration_guard.catalog_entry, new migration_guard.catalog_entry, parent text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Bounds of a type that was made again since say what they said: who asks looks at tables alone that are redefined.
  return not coalesce(old.signature -> 'parents' @> (
      select jsonb_agg(coalesce((x.old).objid::text, parent)) from pg_temp.migration_guard_objects as x where x.is and x.objid::text = parent and x.objsubid = 0), false)
    or (new.signature -> 'is_partition', new.signature -> 'bound') is distinct from (old.signature -> 'is_partition', old.signature -> 'bound');
end
$$;
comment on function migration_guard.leaves_parent(migration_guard.catalog_entry, migration_guard.catalog_entry, text) is
  'Whether a redefined table leaves a parent that it has now, be it to come back with other bounds.';

create function migration_guard.leaving_tables() returns table (id bigint, objid oid, parent oid, is_left boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with tables as materialized (
    select t.id, t.objid, s.oid::oid as parent, migration_guard.leaves_parent(t.old, t.new, s.oid) as is_left
    from pg_temp.migration_guard_objects as t
    cross join lateral jsonb_array_elements_text((t.new).signature -> 'parents') as s (oid)
    where migration_guard.is_table(t.kind) and t.is and t.was and 'definition' = any (t.aspects) and not t.is_dropped
  )
  select * from tables as t where exists (select from tables as l where l.id = t.id and l.is_left);
end
$$;
comment on function migration_guard.leaving_tables() is
  'Tables that stay and leave a parent first of all, each with all parents that it has.';

create function migration_guard.mark_dependents() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  changed bigint := 1;
  changed_again bigint;
begin
  while changed > 0 loop
    with leaving as materialized (select t.id from migration_guard.leaving_tables() as t where t.is_left),
    hits as (
      select l.id, l.via, r.kind as ref_kind, r.was as ref_was, r.is_dropped as ref_goes, coalesce((r.new).identity, (r.old).identity) as ref_identity
      from pg_temp.migration_guard_links as l
      join pg_temp.migration_guard_objects as r on r.id = l.ref_id
      where r.is and (r.is_dropped or r.is_retyped)
        -- A key that was there leaves that of the root with its table.
        and not (r.kind in ('constraint', 'index') and exists (
          select from pg_temp.migration_guard_objects as k join leaving as t on t.id = k.parent_id
          where k.id = l.id and k.was and k.kind = r.kind and r.objid::text = migration_guard.part_of(k.new)))
    ),
    fates as (
      select o.id,
        bool_or(h.via = 'default') as resets, bool_or(o.kind = 'column' and h.via = 'type' and migration_guard.is_type(h.ref_kind)) as retypes,
        bool_or(h.via = 'owned' and h.ref_goes and (o.new).signature -> 'owned_by' ->> 2 = 'a' and o.was) as disowns,
        -- A table that was there is detached from a parent that was not; the column of a table goes with it only.
        bool_or(case
          when h.via = 'default' or o.kind = 'column' and h.via in ('type', 'use') then false
          when h.via = 'owned' then h.ref_goes and (not o.was or (o.new).signature -> 'owned_by' ->> 2 = 'i')
          when h.via = 'generated' then false
          when o.kind = 'table' and h.ref_kind in ('table', 'foreign_table') then h.ref_was or not o.was
          when o.kind in ('enum_value', 'attribute') then false
          else true end) as goes,
        bool_or(h.via = 'generated') as is_computed_anew,
        min(h.ref_identity) as cause
      from hits as h
      join pg_temp.migration_guard_objects as o on o.id = h.id
      group by o.id
    )
    update pg_temp.migration_guard_objects as o set
      is_reset = o.is_reset or f.resets or f.disowns,
      is_retyped = o.is_retyped or f.retypes and o.was and not o.is_dropped,
      is_dropped = o.is_dropped or f.goes or f.retypes and not o.was,
      is_made = o.is_made or f.goes and o.was,
      is_late = o.is_late or f.goes and (migration_guard.is_type(o.kind) or o.kind = 'table' and o.was),
      reason = coalesce(o.reason, 'needs ' || f.cause)
    from fates as f
    where f.id = o.id and (
      (f.resets or f.disowns) and not o.is_reset
      or f.retypes and o.was and not o.is_retyped and not o.is_dropped
      or (f.goes or f.retypes and not o.was) and not o.is_dropped);
    get diagnostics changed = row_count;
    -- What a column computes from another is made anew with its table.
    update pg_temp.migration_guard_objects as t set is_dropped = true, is_late = true, is_made = t.was, reason = 'columns cannot be put right in place'
    from pg_temp.migration_guard_objects as c
    join pg_temp.migration_guard_links as l on l.id = c.id and l.via = 'generated'
    join pg_temp.migration_guard_objects as r on r.id = l.ref_id and (r.is_dropped or r.is_retyped)
    where t.id = c.parent_id and c.was and not c.is_dropped and not t.is_dropped;
    get diagnostics changed_again = row_count;
    changed := changed + changed_again;
    -- The type of a column that says where rows go cannot be altered, in the whole or in any part.
    update pg_temp.migration_guard_objects as t set is_dropped = true, is_late = true, is_made = true, reason = 'columns cannot be put right in place'
    where t.kind = 'table' and t.is and t.was and not t.is_dropped and t.objid in (
      select pg_partition_root(p.partrelid)
      from pg_temp.migration_guard_objects as c
      join pg_partitioned_table as p on p.partrelid = c.objid and (c.objsubid = any (p.partattrs) or p.partexprs::text ~ format(':varattno %s ', c.objsubid))
      where c.kind = 'column' and c.is_retyped);
    get diagnostics changed_again = row_count;
    changed := changed + changed_again;
    -- Rows that are put back anyway need no conversion, which might fail.
    update pg_temp.migration_guard_objects as t set is_dropped = true, is_late = true, is_made = true, reason = 'columns cannot be put right in place'
    where t.kind = 'table' and t.is and t.was and not t.is_dropped and migration_guard.restores((t.old).objid)
      and exists (select from pg_temp.migration_guard_objects as c where c.parent_id = t.id and c.kind = 'column' and c.is_retyped);
    get diagnostics changed_again = row_count;
    changed := changed + changed_again + migration_guard.mark_returning_partitions();
  end loop;
end
$$;
comment on function migration_guard.mark_dependents() is
  'Marks what needs something that goes, until nothing is left that does.';

create function migration_guard.mark_left() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  with parents as materialized (select * from migration_guard.leaving_tables()),
  left_parts as (
    select distinct o.id
    from parents as l
    join pg_temp.migration_guard_objects as o on o.parent_id = l.id and o.is
    where l.is_left and case
      when o.kind = 'column' then ((o.new).parts ->> 'is_inherited')::boolean
        and not exists (
          select from parents as k join pg_attribute as a on a.attrelid = k.parent and a.attname = (o.new).name and not a.attisdropped
          where k.id = l.id and not k.is_left)
      when o.kind = 'constraint' and (o.new).signature ->> 'contype' = 'c' then (o.new).signature ->> 'coninhcount' <> '0'
        and exists (select from pg_constraint as c where c.conrelid = l.parent and c.contype = 'c' and c.conname = (o.new).name)
        and not exists (
          select from parents as k join pg_constraint as c on c.conrelid = k.parent and c.contype = 'c' and c.conname = (o.new).name
          where k.id = l.id and not k.is_left)
      when o.kind = 'constraint' then exists (
        select from pg_constraint as c where c.oid = ((o.new).signature ->> 'conparentid')::oid and c.conrelid = l.parent)
      when o.kind = 'index' then exists (
        select from pg_index as i where i.indexrelid = ((o.new).signature ->> 'parent')::oid and i.indrelid = l.parent)
      else false end
  )
  update pg_temp.migration_guard_objects as o set
    new.is_internal = (o.new).is_internal and o.kind <> 'constraint',
    new.signature = (o.new).signature || case o.kind
      when 'constraint' then '{"conparentid": "0", "coninhcount": 0}' when 'index' then '{"parent": null}' else '{}' end::jsonb,
    new.parts = (o.new).parts || case o.kind when 'column' then '{"is_inherited": false, "is_left": true}' else '{}' end::jsonb
  from left_parts as l
  where l.id = o.id;
end
$$;
comment on function migration_guard.mark_left() is
  'Marks what tables have of parents that they leave as their own, as it is when the rest is done.';

create function migration_guard.mark_circular() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  with recursive needs as materialized (
    select distinct case when d.kind = 'column' then d.parent_id else d.id end as id, case when r.kind = 'column' then r.parent_id else r.id end as ref_id
    from pg_temp.migration_guard_links as l
    join pg_temp.migration_guard_objects as d on d.id = l.id
    join pg_temp.migration_guard_objects as r on r.id = l.ref_id
    where l.via = 'use' and d.is_dropped and r.is_dropped
      and (d.kind in ('view', 'function') or d.kind = 'column' and exists (select from pg_temp.migration_guard_objects as v where v.id = d.parent_id and v.kind = 'view'))
  ),
  reached (id, ref_id) as (
    select n.id, n.ref_id from needs as n where exists (select from pg_temp.migration_guard_objects as v where v.id = n.id and v.kind = 'view')
    union
    select r.id, n.ref_id from reached as r join needs as n on n.id = r.ref_id
  )
  update pg_temp.migration_guard_objects as o set is_circular = true
  where o.id in (select r.id from reached as r where r.id = r.ref_id);
  delete from pg_temp.migration_guard_links as l
  where l.via = 'use' and exists (select from pg_temp.migration_guard_objects as o where o.is_circular and l.id = o.id);
end
$$;
comment on function migration_guard.mark_circular() is
  'Finds views that CREATE OR REPLACE has made need themselves: none of them can be dropped before it needs nothing.';

create function migration_guard.mark_late() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  changed bigint := 1;
begin
  if not exists (select from pg_temp.migration_guard_objects as o where o.is_dropped) then return; end if;
  update pg_temp.migration_guard_objects as o set is_late = true where o.is_dropped and migration_guard.is_type(o.kind);
  while changed > 0 loop
    update pg_temp.migration_guard_objects as o set is_late = true
    where o.is_dropped and not o.is_late
      and (
        o.kind in ('column', 'enum_value') and exists (select from pg_temp.migration_guard_objects as t where t.id = o.parent_id and t.is_late)
        -- A partition goes with its root, whose rows it has; so does the sequence of an identity.
        or o.kind in ('table', 'sequence') and exists (
          select from pg_temp.migration_guard_links as l join pg_temp.migration_guard_objects as t on t.id = l.ref_id
          where l.id = o.id and l.via in ('use', 'owned') and t.is_dropped and t.is_late and (t.kind = 'table' or l.via = 'owned'))
        or not migration_guard.is_table_part(o.kind) and o.kind <> 'domain_constraint' and exists (
          select from pg_temp.migration_guard_links as l
          join pg_temp.migration_guard_objects as n on n.id = l.id
          where l.ref_id = o.id and n.is_dropped and n.is_late and l.via <> 'part' and not migration_guard.is_table_part(n.kind)));
    get diagnostics changed = row_count;
  end loop;
  -- What the planner of these queries knows is of before anything was marked.
  analyze pg_temp.migration_guard_objects (is_dropped, is_late, is_made);
  perform migration_guard.mark_circular();
  create temporary table migration_guard_order on commit drop as
    -- A column goes with its table, and what it needs after that, but for the columns beside it.
    select l.ref_id, w.id
    from pg_temp.migration_guard_links as l
    join pg_temp.migration_guard_objects as d on d.id = l.id and d.is_dropped
    join pg_temp.migration_guard_objects as r on r.id = l.ref_id and r.is_dropped
    join pg_temp.migration_guard_objects as w on w.id = d.id
    where l.via <> 'owned'
    union
    select l.ref_id, w.id
    from pg_temp.migration_guard_links as l
    join pg_temp.migration_guard_objects as d on d.id = l.id and d.is_dropped and d.kind = 'column'
    join pg_temp.migration_guard_objects as r on r.id = l.ref_id and r.is_dropped
    join pg_temp.migration_guard_objects as w on w.id = d.parent_id and w.is_dropped
    where l.via <> 'owned' and w.id <> r.id and r.parent_id is distinct from w.id;
  analyze pg_temp.migration_guard_order;
  changed := 1;
  for round in 1..1000 loop
    exit when changed = 0;
    -- First goes what nothing needs any more.
    update pg_temp.migration_guard_objects as o set level = n.level + 1
    from (
      select x.ref_id, max(w.level) as level
      from pg_temp.migration_guard_order as x join pg_temp.migration_guard_objects as w on w.id = x.id
      group by x.ref_id
    ) as n
    where o.id = n.ref_id and o.is_dropped and o.level <= n.level;
    get diagnostics changed = row_count;
  end loop;
end
$$;
comment on function migration_guard.mark_late() is
  'Tells what goes at once from what goes when its successor is there, and puts both in order.';
