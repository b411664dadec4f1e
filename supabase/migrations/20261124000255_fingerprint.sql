-- Chapter 2, continued. A fingerprint of the catalog: equal where nothing has been altered at all.
--
-- Postgres writes a row of a system catalog anew whenever it alters what the row tells, and each version carries the number of the
-- transaction that wrote it. Where all versions are those that were there before, so is what they say, and no definition needs
-- to be printed to know that.

create view migration_guard.catalog_versions with (security_invoker = true) as
-- classid, objid: the object that the row is a part of.
select r.tableoid as catalog, r.xmin as version, r.ctid as place, r.tableoid as classid, r.oid as objid from pg_catalog.pg_namespace as r
-- Relations
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_class as r
union all select r.tableoid, r.xmin, r.ctid, 'pg_catalog.pg_class'::regclass, r.attrelid from pg_catalog.pg_attribute as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_attrdef as r
union all select r.tableoid, r.xmin, r.ctid, 'pg_catalog.pg_class'::regclass, r.indexrelid from pg_catalog.pg_index as r
union all select r.tableoid, r.xmin, r.ctid, 'pg_catalog.pg_class'::regclass, r.inhrelid from pg_catalog.pg_inherits as r
union all select r.tableoid, r.xmin, r.ctid, 'pg_catalog.pg_class'::regclass, r.partrelid from pg_catalog.pg_partitioned_table as r
union all select r.tableoid, r.xmin, r.ctid, 'pg_catalog.pg_class'::regclass, r.seqrelid from pg_catalog.pg_sequence as r
union all select r.tableoid, r.xmin, r.ctid, 'pg_catalog.pg_class'::regclass, r.ftrelid from pg_catalog.pg_foreign_table as r
-- What belongs to them
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_constraint as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_trigger as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_rewrite as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_policy as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_statistic_ext as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_publication as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_publication_rel as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_publication_namespace as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_default_acl as r
-- Functions and types
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_proc as r
union all select r.tableoid, r.xmin, r.ctid, 'pg_catalog.pg_proc'::regclass, r.aggfnoid from pg_catalog.pg_aggregate as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_type as r
union all select r.tableoid, r.xmin, r.ctid, 'pg_catalog.pg_type'::regclass, r.rngtypid from pg_catalog.pg_range as r
union all select r.tableoid, r.xmin, r.ctid, 'pg_catalog.pg_type'::regclass, r.enumtypid from pg_catalog.pg_enum as r
-- What a definition may name
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_collation as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_operator as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_opclass as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_opfamily as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_am as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_cast as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_language as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_tablespace as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_foreign_server as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_foreign_data_wrapper as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_ts_config as r
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_ts_dict as r
-- Comments, what came with an extension or goes with one, whose a sequence is
-- Not on the functions, operators and so on that came with Postgres, which no schema of ours has and which are a quarter of all rows.
union all select r.tableoid, r.xmin, r.ctid, r.classoid, r.objoid from pg_catalog.pg_description as r
  where r.objoid >= 16384 or r.classoid <> all ('{pg_catalog.pg_proc,pg_catalog.pg_operator,pg_catalog.pg_collation,pg_catalog.pg_conversion,pg_catalog.pg_type}'::regclass[])
union all select r.tableoid, r.xmin, r.ctid, r.tableoid, r.oid from pg_catalog.pg_extension as r
union all select r.tableoid, r.xmin, r.ctid, r.classid, r.objid from pg_catalog.pg_depend as r where r.deptype in ('e', 'x') or r.deptype in ('a', 'i') and r.refobjsubid > 0;
comment on view migration_guard.catalog_versions is
  'The version of each row of the system catalogs that any definition, signature, owner or comment is read from.';

create view migration_guard.version_hashes with (security_invoker = true) as
select v.classid, v.objid,
  -- The 32 bits of a version, of which nothing makes a number but its distance from another: 0 for what was always there. To hash a record takes four times as long.
  pg_catalog.hashtidextended(v.place, v.catalog::bigint << 32
    | coalesce(pg_catalog.age('3'::xid)::bigint - nullif(pg_catalog.age(v.version), 2147483647) & 4294967295, 0)) as hash
from migration_guard.catalog_versions as v;
comment on view migration_guard.version_hashes is
  'A hash of each version in catalog_versions and of where it is.';

create function migration_guard.passing_objects() returns table (classid oid, objid oid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = 'force_generic_plan' set jit = off
as $$
begin
  return query
  with passing as materialized (
    select n.oid from pg_namespace as n where n.nspname ~ '^(pg_temp|pg_toast_temp|migration_backup|migration_trash|migration_import)_'
  ), named as materialized (
    select c.oid, c.reltoastrelid from pg_class as c where c.relnamespace in (select p.oid from passing as p)
  ), relations as materialized (
    select n.oid from named as n
    union all
    select n.reltoastrelid from named as n where n.reltoastrelid <> 0
    union all
    select i.indexrelid from pg_index as i where i.indrelid in (select n.reltoastrelid from named as n where n.reltoastrelid <> 0)
  ), types as materialized (
    select t.oid from pg_type as t where t.typnamespace in (select p.oid from passing as p)
  )
  select 'pg_namespace'::regclass::oid, p.oid from passing as p
  union all select 'pg_class'::regclass, r.oid from relations as r
  union all select 'pg_type'::regclass, t.oid from types as t
  union all select o.tableoid, o.oid from pg_proc as o where o.pronamespace in (select p.oid from passing as p)
  union all select o.tableoid, o.oid from pg_statistic_ext as o where o.stxnamespace in (select p.oid from passing as p)
  union all select o.tableoid, o.oid from pg_publication_namespace as o where o.pnnspid in (select p.oid from passing as p)
  union all select o.tableoid, o.oid from pg_default_acl as o where o.defaclnamespace in (select p.oid from passing as p)
  union all select o.tableoid, o.oid from pg_constraint as o where o.conrelid in (select r.oid from relations as r) or o.contypid in (select t.oid from types as t)
  union all select o.tableoid, o.oid from pg_trigger as o where o.tgrelid in (select r.oid from relations as r)
  union all select o.tableoid, o.oid from pg_rewrite as o where o.ev_class in (select r.oid from relations as r)
  union all select o.tableoid, o.oid from pg_policy as o where o.polrelid in (select r.oid from relations as r)
  union all select o.tableoid, o.oid from pg_attrdef as o where o.adrelid in (select r.oid from relations as r)
  union all select o.tableoid, o.oid from pg_publication_rel as o where o.prrelid in (select r.oid from relations as r);
end
$$;
comment on function migration_guard.passing_objects() is
  'What comes and goes without a migration: temporary objects, and the schemas of backups and imports with what is in them, by name. Not what is elsewhere
and goes with them, as a partition does.';

create function migration_guard.fingerprint_of(versions bigint, hash bigint, passing_classids oid[], passing_objids oid[]) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = 'force_generic_plan' set jit = off
as $$
begin
  -- What stays could have another definition when something that it names comes and goes.
  if exists (
    select from unnest(passing_classids, passing_objids) as p (classid, objid)
    -- Of each by itself, since to read all dependencies takes longer.
    cross join lateral (select d.classid, d.objid from pg_depend as d where d.refclassid = p.classid and d.refobjid = p.objid offset 0) as d
    where (d.classid, d.objid) not in (select o.classid, o.objid from unnest(passing_classids, passing_objids) as o (classid, objid))
  ) then
    return null;
  end if;
  return format('%s/%s', versions, hash);
end
$$;
comment on function migration_guard.fingerprint_of(bigint, bigint, oid[], oid[]) is
  'The fingerprint that a number of versions and their hashes, joined by xor, make. Null where something depends on what comes and goes.';

create function migration_guard.object_versions(out classids oid[], out objids oid[], out versions bigint[], out fingerprint text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = 'force_generic_plan' set jit = off set work_mem = '64MB'
as $$
declare
  passing_classids oid[];
  passing_objids oid[];
begin
  select array_agg(o.classid), array_agg(o.objid) into passing_classids, passing_objids from migration_guard.passing_objects() as o;
  with objects as (
    -- What came with Postgres is told apart from nothing else of it. Grouped by one number, since to hash two takes longer.
    select case when v.objid >= 16384 then v.classid::bigint << 32 | v.objid::bigint else 0 end as key, bit_xor(v.hash) as version, count(*) as total
    from migration_guard.version_hashes as v
    where v.objid < 16384 or (v.classid, v.objid) not in (select p.classid, p.objid from unnest(passing_classids, passing_objids) as p (classid, objid))
    group by 1
    union all
    -- All roles, since no dependency tells whom an aclitem in a default names. Two that have changed names give another number, which a sum of their hashes need not.
    select 'pg_authid'::regclass::bigint << 32, bit_xor(hashnameextended(r.rolname, r.oid::bigint)), null from pg_roles as r
  )
  select array_agg((o.key >> 32)::oid), array_agg((o.key & 4294967295)::oid), array_agg(o.version),
    -- Where as many versions as before were all written before, none is gone either. The hash says the same once more.
    migration_guard.fingerprint_of(sum(o.total)::bigint, bit_xor(o.version), passing_classids, passing_objids)
  into classids, objids, versions, fingerprint from objects as o;
end
$$;
comment on function migration_guard.object_versions() is
  'Versions of all rows of the catalog, but for what comes and goes, and the names of all roles: of each object a number that is equal only where no row of it
was written, came or went; what came with Postgres is one object, 0, and so are all roles. And a fingerprint of all: equal in the same database, within
two thousand million transactions, only where nothing was altered; null where something depends on what comes and goes.';
