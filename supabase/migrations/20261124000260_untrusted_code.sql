-- Chapter 2, continued. Code of others, which Postgres would run with the rights of whoever reads a table or fills it.
--
-- A function in an index, in statistics or in a partition key is called while a query is planned, where its arguments are
-- constants and it calls itself immutable; those in checks, generated columns and domains when rows are written. Whoever
-- owns such a function can replace it.

create function migration_guard.is_trusted(role oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select r.rolsuper or pg_has_role(r.oid, current_user, 'member') from pg_roles as r where r.oid = role), false)
$$;
comment on function migration_guard.is_trusted(oid) is
  'Whether a role could do by itself whatever its code would do with the rights of this one: a superuser, this role, a member of it.';

create function migration_guard.untrusted_functions(classids oid[], objids oid[])
returns table (classid oid, objid oid, object text, function text, owner text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  select distinct o.classid, o.objid, pg_describe_object(o.classid, o.objid, 0), p.oid::regprocedure::text, pg_get_userbyid(p.proowner)::text
  from unnest(classids, objids) as o (classid, objid)
  join pg_depend as d on d.classid = o.classid and d.objid = o.objid
  left join pg_operator as q on d.refclassid = 'pg_operator'::regclass and q.oid = d.refobjid
  join pg_proc as p on p.oid = case when d.refclassid = 'pg_proc'::regclass then d.refobjid else q.oprcode end
  where not migration_guard.is_trusted(p.proowner);
end
$$;
comment on function migration_guard.untrusted_functions(oid[], oid[]) is
  'The functions that objects call, by themselves or by an operator, and that belong to somebody who is not trusted.';

create function migration_guard.with_partitions(relation oid) returns setof oid
language plpgsql stable rows 1
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  -- Unlike pg_partition_tree it takes no lock, and so waits for nobody.
  with recursive relations (oid) as (
    select relation
    union
    select i.inhrelid from relations as r join pg_class as c on c.oid = r.oid and c.relkind = 'p' join pg_inherits as i on i.inhparent = r.oid
  )
  select r.oid from relations as r;
end
$$;
comment on function migration_guard.with_partitions(oid) is 'A table and, where it is partitioned, all of its partitions.';

create function migration_guard.read_parts(relation oid) returns table (classid oid, objid oid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  with relations as (select r.oid from migration_guard.with_partitions(relation) as r (oid))
  select 'pg_class'::regclass::oid, r.oid from relations as r
  union all
  select 'pg_class'::regclass, i.indexrelid from relations as r join pg_index as i on i.indrelid = r.oid
  union all
  select 'pg_statistic_ext'::regclass, s.oid from relations as r join pg_statistic_ext as s on s.stxrelid = r.oid;
end
$$;
comment on function migration_guard.read_parts(oid) is
  'What of a table Postgres looks at while it plans to read it: partition keys, indexes, statistics. Checks are left out by a setting.';

create function migration_guard.written_parts(relation oid) returns table (classid oid, objid oid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  with recursive relations as (
    select r.oid from migration_guard.with_partitions(relation) as r (oid)
  ),
  types (oid) as (
    select a.atttypid from relations as r join pg_attribute as a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    union
    select m.oid
    from types as u
    join pg_type as t on t.oid = u.oid
    cross join lateral (
      select t.typelem union select t.typbasetype
      union select g.rngsubtype from pg_range as g where t.oid in (g.rngtypid, g.rngmultitypid)
      union select a.atttypid from pg_attribute as a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    ) as m (oid)
    where m.oid <> 0
  )
  select p.classid, p.objid from migration_guard.read_parts(relation) as p
  union all
  select 'pg_constraint'::regclass::oid, o.oid from relations as r join pg_constraint as o on o.conrelid = r.oid and o.contype = 'c'
  union all
  select 'pg_attrdef'::regclass, d.oid from relations as r join pg_attrdef as d on d.adrelid = r.oid
  union all
  select 'pg_constraint'::regclass, o.oid from types as t join pg_constraint as o on o.contypid = t.oid
  union all
  -- By which a text becomes a value of a type that somebody made.
  select 'pg_cast'::regclass, c.oid from types as t join pg_cast as c on c.casttarget = t.oid and c.castfunc >= 16384 where t.oid >= 16384;
end
$$;
comment on function migration_guard.written_parts(oid) is
  'What of a table Postgres looks at while rows are put into it: besides that of read_parts checks, generated columns, domains and casts.';

create function migration_guard.may_be_read(relation oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select not exists (
    select from (select array_agg(p.classid) as classids, array_agg(p.objid) as objids from migration_guard.read_parts(relation) as p) as p
    cross join lateral migration_guard.untrusted_functions(p.classids, p.objids) as f)
$$;
comment on function migration_guard.may_be_read(oid) is 'Whether no code of somebody who is not trusted can run while a table is read.';

create function migration_guard.assert_may_be_read(relations oid[]) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  found text;
begin
  select string_agg(distinct format('%s of %s, in %s', f.function, f.owner, f.object), '; ') into found
  from (
    select array_agg(p.classid) as classids, array_agg(p.objid) as objids
    from unnest(relations) as r (oid) cross join lateral migration_guard.read_parts(r.oid) as p
  ) as p
  cross join lateral migration_guard.untrusted_functions(p.classids, p.objids) as f;
  if found is not null then
    perform migration_guard.fail('untrusted_code', format('Postgres could call functions of others with the rights of %1$s while it plans to read: %2$s. Make %1$s the owner of what you trust, or drop what calls it.', current_user, found));
  end if;
end
$$;
comment on function migration_guard.assert_may_be_read(oid[]) is
  'Raises untrusted_code where code of somebody who is not trusted could run while tables are read.';
