-- Chapter 2, continued. What each object is apart from all names: equal before and after a rename.
--
-- A definition is text, and changes with the name of a column that it mentions. A signature refers to everything by OID and
-- attribute number, as the system catalogs do, and their expressions are trees that do so too.
--
-- signature    The object's row in its system catalog, without names, owner and privileges.
-- acl          Its privileges, in no order; null where the kind has none.
-- parts        Pieces of its definition, for the statements that change it in place.

create function migration_guard.without_places(signature jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Where in a text an expression once stood is no part of what it is.
  select regexp_replace(signature::text, ' :([a-z_]*location|stmt_len|list_start|list_end) -?[0-9]+', '', 'g')::jsonb
$$;
comment on function migration_guard.without_places(jsonb) is
  'A signature without the places of its expressions in their source text, by which two that mean the same can differ.';

create function migration_guard.acl_items(acl text) returns aclitem[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- The name of a role may hold a comma, and stands in quotes then.
  select nullif(array(select m[1]::aclitem from regexp_matches(acl, '((?:"(?:[^"]|"")*"|[^",])+)', 'g') as m), '{}')
$$;
comment on function migration_guard.acl_items(text) is 'The access control list that catalog_signatures has made a text of; null where it is empty.';

create view migration_guard.relation_signatures with (security_invoker = true) as
-- Schemas
select
  'pg_catalog.pg_namespace'::regclass::oid as classid, n.oid as objid, 0 as objsubid, '{}'::jsonb as signature,
  coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner)) as acl, '{}'::jsonb as parts
from pg_catalog.pg_namespace as n
union all
-- Tables, views
select
  'pg_catalog.pg_class'::regclass, c.oid, 0,
  jsonb_build_object(
    'kind', c.relkind, 'persistence', c.relpersistence, 'of_type', c.reloftype, 'access_method', c.relam, 'options', c.reloptions,
    'toast_options', x.reloptions, 'tablespace', c.reltablespace, 'is_partition', c.relispartition, 'bound', c.relpartbound,
    -- Which one is the default is told by that partition.
    'partitioning', to_jsonb(p) - '{partrelid,partdefid}'::text[], 'server', f.ftserver, 'foreign_options', f.ftoptions,
    'parents', array(select i.inhparent from pg_catalog.pg_inherits as i where i.inhrelid = c.oid order by i.inhseqno),
    'row_security', c.relrowsecurity, 'force_row_security', c.relforcerowsecurity,
    'replica_identity', c.relreplident, 'triggers_disabled', exists (select from migration_guard.catalog_disabled_tables as dt where dt.relation = c.oid),
    'query', w.ev_action, 'is_populated', c.relkind <> 'm' or c.relispopulated,
    'column_names', case when c.relkind in ('v', 'm') then array(
      select a.attname from pg_catalog.pg_attribute as a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) end),
  coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner)),
  jsonb_build_object('options', migration_guard.option_list(nullif(c.reloptions || array(select 'toast.' || unnest(x.reloptions)), '{}')),
    'bound', pg_catalog.pg_get_expr(c.relpartbound, c.oid),
    'of_type', case when c.reloftype <> 0 then pg_catalog.format_type(c.reloftype, null) end,
    'parents', array(
      select format('%I.%I', pn.nspname, pc.relname)
      from pg_catalog.pg_inherits as i
      join pg_catalog.pg_class as pc on pc.oid = i.inhparent
      join pg_catalog.pg_namespace as pn on pn.oid = pc.relnamespace
      where i.inhrelid = c.oid order by i.inhseqno))
from pg_catalog.pg_class as c
left join pg_catalog.pg_class as x on x.oid = c.reltoastrelid
left join pg_catalog.pg_partitioned_table as p on p.partrelid = c.oid
left join pg_catalog.pg_foreign_table as f on f.ftrelid = c.oid
left join pg_catalog.pg_rewrite as w on w.ev_class = c.oid and w.rulename = '_RETURN'
where c.relkind in ('r', 'p', 'f', 'v', 'm')
union all
-- Columns, attributes
select
  'pg_catalog.pg_class'::regclass, a.attrelid, a.attnum,
  jsonb_build_object(
    'type', a.atttypid, 'typmod', a.atttypmod, 'collation', a.attcollation, 'not_null', a.attnotnull, 'identity', a.attidentity,
    'generated', a.attgenerated, 'default', d.adbin, 'is_local', a.attislocal, 'statistics', a.attstattarget, 'storage', a.attstorage,
    'compression', a.attcompression, 'options', a.attoptions, 'foreign_options', a.attfdwoptions, 'not_null_constraint', o.oid)
    -- Before 18 there is none.
    || case when o.oid is not null then jsonb_build_object('not_null_no_inherit', o.connoinherit, 'not_null_validated', o.convalidated) else '{}' end,
  coalesce(a.attacl, '{}'),
  jsonb_build_object(
    'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
    'collation', case when a.attcollation <> t.typcollation then format('%I.%I', k.nspname, l.collname) end,
    'not_null_name', o.conname, 'is_inherited', a.attinhcount > 0, 'number', a.attnum)
    || case when o.oid is not null then jsonb_build_object('not_null_is_own', o.conislocal) else '{}' end
from pg_catalog.pg_attribute as a
join pg_catalog.pg_class as c on c.oid = a.attrelid
join pg_catalog.pg_type as t on t.oid = a.atttypid
left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
left join pg_catalog.pg_collation as l on l.oid = a.attcollation
left join pg_catalog.pg_namespace as k on k.oid = l.collnamespace
left join pg_catalog.pg_constraint as o on o.conrelid = a.attrelid and o.contype = 'n' and o.conkey[1] = a.attnum
where c.relkind in ('r', 'p', 'f', 'v', 'm', 'c') and a.attnum > 0 and not a.attisdropped
union all
-- Indexes
select
  'pg_catalog.pg_class'::regclass, i.indexrelid, 0,
  (to_jsonb(i) || jsonb_build_object(
    'access_method', c.relam, 'tablespace', c.reltablespace,
    -- Those of a partitioned one cannot be altered.
    case c.relkind when 'I' then 'fixed_options' else 'options' end, c.reloptions,
    'statistics', array(select jsonb_build_array(a.attnum, a.attstattarget) from pg_catalog.pg_attribute as a where a.attrelid = i.indexrelid and a.attstattarget >= 0 order by a.attnum),
    'parent', (select h.inhparent from pg_catalog.pg_inherits as h where h.inhrelid = i.indexrelid))) - '{indexrelid,indcheckxmin,indisready,indislive}'::text[],
  null, jsonb_build_object('columns', array(select a.attname from pg_catalog.pg_attribute as a where a.attrelid = i.indexrelid and a.attnum > 0 order by a.attnum))
from pg_catalog.pg_index as i
join pg_catalog.pg_class as c on c.oid = i.indexrelid
union all
-- Sequences
select
  'pg_catalog.pg_class'::regclass, s.seqrelid, 0,
  to_jsonb(s) - 'seqrelid' || jsonb_build_object('persistence', c.relpersistence, 'owned_by', (
    select jsonb_build_array(d.refobjid, d.refobjsubid, d.deptype) from pg_catalog.pg_depend as d
    where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = s.seqrelid and d.refclassid = 'pg_catalog.pg_class'::regclass
      and d.deptype in ('a', 'i') and d.refobjsubid > 0)),
  coalesce(c.relacl, pg_catalog.acldefault('s', c.relowner)), '{}'
from pg_catalog.pg_sequence as s
join pg_catalog.pg_class as c on c.oid = s.seqrelid;
comment on view migration_guard.relation_signatures is 'Signatures of schemas, tables, views, columns, indexes and sequences.';

create view migration_guard.part_signatures with (security_invoker = true) as
-- What belongs to a table
select
  'pg_catalog.pg_constraint'::regclass::oid as classid, o.oid as objid, 0 as objsubid,
  (to_jsonb(o) || jsonb_build_object(
    'index', to_jsonb(i) - '{indexrelid,indcheckxmin,indisready,indislive,indisclustered,indisreplident}'::text[])) - '{oid,conname,connamespace,conindid}'::text[] as signature,
  null::aclitem[] as acl, '{}'::jsonb as parts
from pg_catalog.pg_constraint as o
left join pg_catalog.pg_index as i on i.indexrelid = o.conindid and o.contype in ('p', 'u', 'x')
where o.conrelid <> 0 and o.contype in ('c', 'f', 'p', 'u', 'x')
union all
select 'pg_catalog.pg_trigger'::regclass, t.oid, 0, to_jsonb(t) - '{oid,tgname,tgconstraint,tgconstrindid}'::text[], null, '{}'
from pg_catalog.pg_trigger as t where not t.tgisinternal
union all
select 'pg_catalog.pg_rewrite'::regclass, w.oid, 0, to_jsonb(w) - '{oid,rulename}'::text[], null, '{}'
from pg_catalog.pg_rewrite as w where w.rulename <> '_RETURN'
union all
select 'pg_catalog.pg_policy'::regclass, p.oid, 0, to_jsonb(p) - '{oid,polname}'::text[], null, '{}'
from pg_catalog.pg_policy as p
union all
select 'pg_catalog.pg_statistic_ext'::regclass, s.oid, 0, to_jsonb(s) - '{oid,stxname,stxnamespace,stxowner}'::text[], null, '{}'
from pg_catalog.pg_statistic_ext as s
union all
select 'pg_catalog.pg_publication_rel'::regclass, p.oid, 0, to_jsonb(p) - '{oid}'::text[], null, '{}'
from pg_catalog.pg_publication_rel as p
union all
select 'pg_catalog.pg_publication_namespace'::regclass, p.oid, 0, to_jsonb(p) - '{oid}'::text[], null, '{}'
from pg_catalog.pg_publication_namespace as p
union all
select 'pg_catalog.pg_default_acl'::regclass, d.oid, 0, '{}', d.defaclacl, '{}'
from pg_catalog.pg_default_acl as d where d.defaclnamespace <> 0 and cardinality(d.defaclacl) > 0;
comment on view migration_guard.part_signatures is
  'Signatures of constraints, triggers, rules, policies, statistics, publications'' members and default privileges.';

create view migration_guard.type_signatures with (security_invoker = true) as
select
  'pg_catalog.pg_proc'::regclass::oid as classid, p.oid as objid, 0 as objsubid,
  (to_jsonb(p) || jsonb_build_object('aggregate', to_jsonb(g) - 'aggfnoid')) - '{oid,proname,pronamespace,proowner,proacl}'::text[] as signature,
  coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)) as acl, '{}'::jsonb as parts
from pg_catalog.pg_proc as p
left join pg_catalog.pg_aggregate as g on g.aggfnoid = p.oid
union all
select
  'pg_catalog.pg_type'::regclass, t.oid, 0,
  jsonb_build_object('kind', t.typtype, 'base', t.typbasetype, 'typmod', t.typtypmod, 'collation', t.typcollation,
    'not_null', t.typnotnull, 'default', t.typdefaultbin, 'range', to_jsonb(r) - '{rngtypid,rngmultitypid}'::text[]),
  coalesce(t.typacl, pg_catalog.acldefault('T', t.typowner)),
  jsonb_build_object('default', coalesce(pg_catalog.pg_get_expr(t.typdefaultbin, 0), quote_literal(t.typdefault)),
    'not_null_name', (select o.conname from pg_catalog.pg_constraint as o where o.contypid = t.oid and o.contype = 'n'))
from pg_catalog.pg_type as t
left join pg_catalog.pg_class as c on c.oid = t.typrelid
left join pg_catalog.pg_range as r on r.rngtypid = t.oid
where t.typtype in ('e', 'd', 'r') or t.typtype = 'c' and c.relkind = 'c'
union all
select 'pg_catalog.pg_enum'::regclass, e.oid, 0, '{}', null, '{}' from pg_catalog.pg_enum as e
union all
select 'pg_catalog.pg_constraint'::regclass, o.oid, 0, to_jsonb(o) - '{oid,conname,connamespace}'::text[], null, '{}'
from pg_catalog.pg_constraint as o where o.contypid <> 0 and o.contype = 'c';
comment on view migration_guard.type_signatures is 'Signatures of functions, aggregates, types, enum values and checks of domains.';

create view migration_guard.catalog_signatures with (security_invoker = true) as
select s.classid, s.objid, s.objsubid, s.signature,
  case when s.acl is not null then pg_catalog.array_to_string(array(
    select i.item::text from pg_catalog.unnest(s.acl) as i (item) order by i.item::text collate "C"), ',') end as acl,
  s.parts
from (
  select * from migration_guard.relation_signatures
  union all select * from migration_guard.part_signatures
  union all select * from migration_guard.type_signatures
) as s;
comment on view migration_guard.catalog_signatures is 'Signatures of every object of every kind.';

create function migration_guard.signatures_of(ids oid[]) returns setof migration_guard.catalog_signatures
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan the views takes longer than to read a small catalog: a session plans them once.
set plan_cache_mode = 'force_generic_plan' set jit = off
as $$
begin
  return query select s.* from migration_guard.catalog_signatures as s where s.objid = any (ids);
end
$$;
comment on function migration_guard.signatures_of(oid[]) is 'Signatures of the objects of some OIDs, and of what is a part of them.';
