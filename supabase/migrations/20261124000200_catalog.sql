-- Chapter 2. What the catalog says of each kind of object: one view a kind, all of one shape, read by everything else.
--
-- classid, objid, objsubid    Postgres's own identity of the object, which survives a rename.
-- kind, schema_name, name     The kind in words, the schema that the object is in, its name.
-- identity                    Its name as COMMENT ON and ALTER take it.
-- parent_classid, parent,     What it is a part of: the table of a column, the type of an enum value. Null for what stands
-- parent_name                 by itself.
-- definition                  The statement that makes it. That of a table has its columns, that of a type its attributes or
--                             values, which are objects of their own besides.
-- settings                    Statements that complete it and run when everything is there.
-- is_internal                 True where Postgres makes it together with another object: then nobody runs the definition.
-- owner, comment              Null where it has none of its own.
-- grants                      Statements that give its privileges; empty where they are what Postgres gives by default.
-- sort_order                  The place of a column or of an enum value among its siblings.
--
-- Definitions are deparsed, and depend on the session's settings: the functions that read them (read_schema, read_objects,
-- read_altered) pin these. They also keep Postgres from looking for a better order of the joins, which takes longer than to read a small
-- catalog: each view begins with what is in a schema, and goes from there.

-- What the views are made with ----------------------------------------------------------------------------------------

create function migration_guard.grant_statements(target text, acl aclitem[], acl_default aclitem[], owner oid, column_name text default '')
returns text[]
language plpgsql stable strict
set search_path = pg_catalog, pg_temp
as $$
begin
  if acl @> acl_default and acl_default @> acl then return '{}'; end if;
  return case when column_name = '' then array[format('revoke all on %s from public, %I', target, pg_get_userbyid(owner))] else '{}' end || (
    select coalesce(array_agg(s.statement order by s.is_passed_on, s.position, s.statement), '{}')
    from (
      select g.grantor <> owner as is_passed_on, min(g.position) as position,
        -- Only who granted a privilege can be the one who did.
        case when g.grantor <> owner then format('set role %I; ', pg_get_userbyid(g.grantor)) else '' end
        || format('grant %s on %s to %s',
          string_agg(lower(g.privilege_type) || case when column_name <> '' then format(' (%I)', column_name) else '' end, ', ' order by g.privilege_type),
          target, case when g.grantee = 0 then 'public' else format('%I', pg_get_userbyid(g.grantee)) end)
        || case when g.is_grantable then ' with grant option' else '' end
        || case when g.grantor <> owner then '; reset role' else '' end as statement
      from aclexplode(acl) with ordinality as g (grantor, grantee, privilege_type, is_grantable, position)
      group by g.grantor, g.grantee, g.is_grantable
    ) as s);
end
$$;
comment on function migration_guard.grant_statements(text, aclitem[], aclitem[], oid, text) is
  'The statements that give an object the privileges in an access control list, none where it is the default one, and
null where there is no list. Target reads as after ON in GRANT.';

create function migration_guard.option_list(options text[]) returns text
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(
    case when name ~ '^[a-z_][a-z0-9_.]*$' then name else quote_ident(name) end || '=' || quote_literal(value), ', ' order by position)
  from unnest(options) with ordinality as o (option, position)
  cross join lateral (select split_part(o.option, '=', 1) as name, substr(o.option, strpos(o.option, '=') + 1) as value) as p
$$;
comment on function migration_guard.option_list(text[]) is
  'Storage parameters, as pg_class.reloptions has them, in the form that WITH ( … ) takes; null where there are none.';

create function migration_guard.foreign_option_list(options text[]) returns text
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('%I %L', split_part(o.option, '=', 1), substr(o.option, strpos(o.option, '=') + 1)), ', ' order by position)
  from unnest(options) with ordinality as o (option, position)
$$;
comment on function migration_guard.foreign_option_list(text[]) is
  'Options of a foreign table or of its columns in the form that OPTIONS ( … ) takes; null where there are none.';

create function migration_guard.phrase(template text, value text) returns text
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$ select format(template, value) $$;
comment on function migration_guard.phrase(text, text) is 'format() of one value, and null where there is none.';

create view migration_guard.catalog_extension_needs with (security_invoker = true) as
select d.classid, d.objid, e.extname
from pg_catalog.pg_depend as d
join pg_catalog.pg_extension as e on e.oid = d.refobjid
where d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'x';
comment on view migration_guard.catalog_extension_needs is 'The extensions with which an object that is not theirs goes.';

create view migration_guard.catalog_disabled_tables with (security_invoker = true) as
select t.tgrelid as relation
from pg_catalog.pg_trigger as t
where t.tgisinternal
group by t.tgrelid
having bool_and(t.tgenabled = 'D');
comment on view migration_guard.catalog_disabled_tables is
  'Tables of which all triggers by which Postgres keeps the foreign keys are disabled, as by disable trigger all.';

-- The schema itself, its relations ------------------------------------------------------------------------------------

create view migration_guard.catalog_schemas with (security_invoker = true) as
select
  'pg_catalog.pg_namespace'::regclass::oid as classid, n.oid as objid, 0 as objsubid, 'schema' as kind,
  n.nspname::text as schema_name, n.nspname::text as name, format('%I', n.nspname) as identity,
  null::oid as parent_classid, null::oid as parent, null::text as parent_name,
  format('create schema if not exists %I', n.nspname) as definition,
  '{}'::text[] as settings, false as is_internal,
  pg_catalog.pg_get_userbyid(n.nspowner)::text as owner, de.description as comment,
  coalesce(migration_guard.grant_statements(format('schema %I', n.nspname), n.nspacl, pg_catalog.acldefault('n', n.nspowner), n.nspowner), '{}') as grants,
  null::real as sort_order
from pg_catalog.pg_namespace as n
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_namespace'::regclass and de.objoid = n.oid and de.objsubid = 0;
comment on view migration_guard.catalog_schemas is 'Schemas.';

create view migration_guard.catalog_columns with (security_invoker = true) as
select
  'pg_catalog.pg_class'::regclass::oid as classid, a.attrelid as objid, a.attnum::int as objsubid,
  case c.relkind when 'c' then 'attribute' else 'column' end as kind,
  n.nspname::text as schema_name, a.attname::text as name, r.identity || format('.%I', a.attname) as identity,
  case c.relkind when 'c' then 'pg_catalog.pg_type'::regclass::oid else 'pg_catalog.pg_class'::regclass::oid end as parent_classid,
  case c.relkind when 'c' then c.reltype else a.attrelid end as parent, c.relname::text as parent_name,
  concat_ws(' ',
    case c.relkind when 'c' then format('alter type %s add attribute %I', r.identity, a.attname)
      else format('alter table %s add column %I', r.identity, a.attname) end,
    pg_catalog.format_type(a.atttypid, a.atttypmod),
    migration_guard.phrase('options (%s)', migration_guard.foreign_option_list(a.attfdwoptions)),
    case when a.attcollation <> t.typcollation then format('collate %I.%I', k.nspname, l.collname) end,
    case
      -- From 17 on a partition has it from its root.
      when a.attidentity <> '' and q.sequence is not null then format('generated %s as identity (sequence name %s)',
        case a.attidentity when 'a' then 'always' else 'by default' end, q.sequence)
      when a.attgenerated = 's' then format('generated always as (%s) stored', pg_catalog.pg_get_expr(d.adbin, d.adrelid))
      when a.attgenerated = 'v' then format('generated always as (%s) virtual', pg_catalog.pg_get_expr(d.adbin, d.adrelid))
    end,
    case when a.attnotnull and o.convalidated and (o.conislocal or c.relispartition) then concat_ws(' ', format('constraint %I', o.conname), 'not null', case when o.connoinherit then 'no inherit' end)
      when a.attnotnull and o.oid is null then 'not null' end
  ) as definition,
  pg_catalog.array_remove(array[
    case
      when a.attgenerated <> '' then null
      when a.atthasdef then format('alter table only %s alter column %I set default %s', r.identity, a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid))
      -- An heir may have dropped the default that it would have from its parent.
      when i.is_inherited and c.relkind in ('r', 'f') then format('alter table only %s alter column %I drop default', r.identity, a.attname)
    end,
    case
      when not a.attnotnull or c.relkind not in ('r', 'p', 'f') then null
      when o.oid is null and i.is_internal then format('alter table only %s alter column %I set not null', r.identity, a.attname)
      -- An heir may have looked at its rows already where its parent has not.
      when not o.conislocal then (
        select format('alter table %s validate constraint %I', r.identity, o.conname)
        from pg_catalog.pg_inherits as h
        join pg_catalog.pg_attribute as pa on pa.attrelid = h.inhparent and pa.attname = a.attname
        join pg_catalog.pg_constraint as po on po.conrelid = pa.attrelid and po.contype = 'n' and po.conkey[1] = pa.attnum and not po.convalidated
        where h.inhrelid = a.attrelid and o.convalidated
        limit 1)
      when not o.convalidated then concat_ws(' ', format('alter table %s add constraint %I not null %I', r.identity, o.conname, a.attname), case when o.connoinherit then 'no inherit' end, 'not valid')
      -- Under a name of its own beside that of a parent it is made with the table, and not afterwards.
      when i.is_inherited and o.coninhcount > 0 then null
      when i.is_internal then concat_ws(' ', format('alter table %s add constraint %I not null %I', r.identity, o.conname, a.attname), case when o.connoinherit then 'no inherit' end)
    end,
    'comment on constraint ' || quote_ident(o.conname) || ' on ' || r.identity || ' is ' || quote_literal(ne.description),
    case when c.relkind in ('r', 'p', 'f', 'm') and coalesce(a.attstattarget, -1) >= 0
      then format('alter table only %s alter column %I set statistics %s', r.identity, a.attname, a.attstattarget) end,
    case when c.relkind in ('r', 'p', 'f', 'm') and a.attstorage <> t.typstorage then format('alter table only %s alter column %I set storage %s', r.identity, a.attname,
      case a.attstorage when 'p' then 'plain' when 'e' then 'external' when 'm' then 'main' else 'extended' end) end,
    case when a.attcompression <> '' then format('alter table only %s alter column %I set compression %s', r.identity, a.attname,
      case a.attcompression when 'p' then 'pglz' else 'lz4' end) end,
    format('alter table only %s alter column %I ', r.identity, a.attname) || migration_guard.phrase('set (%s)', migration_guard.option_list(a.attoptions))
  ], null) as settings,
  i.is_internal,
  null::text as owner, de.description as comment,
  coalesce(migration_guard.grant_statements('table ' || r.identity, a.attacl, '{}', c.relowner, a.attname), '{}') as grants,
  a.attnum::real as sort_order
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_attribute as a on a.attrelid = c.oid
join pg_catalog.pg_type as t on t.oid = a.atttypid
cross join lateral (select format('%I.%I', n.nspname, c.relname) as identity) as r
cross join lateral (
  select not a.attislocal and not c.relispartition as is_inherited,
    not a.attislocal and not c.relispartition or c.reloftype <> 0 or c.relkind in ('v', 'm') as is_internal
) as i
left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
left join pg_catalog.pg_collation as l on l.oid = a.attcollation
left join pg_catalog.pg_namespace as k on k.oid = l.collnamespace
-- Not null is a constraint with a name from 18 on.
left join pg_catalog.pg_constraint as o on o.conrelid = a.attrelid and o.contype = 'n' and o.conkey[1] = a.attnum
left join lateral (
  select format('%I.%I', sn.nspname, sc.relname) as sequence
  from pg_catalog.pg_depend as s
  join pg_catalog.pg_class as sc on sc.oid = s.objid and sc.relkind = 'S'
  join pg_catalog.pg_namespace as sn on sn.oid = sc.relnamespace
  where a.attidentity <> '' and s.classid = 'pg_catalog.pg_class'::regclass and s.refclassid = 'pg_catalog.pg_class'::regclass
    and s.refobjid = a.attrelid and s.refobjsubid = a.attnum and s.deptype = 'i'
) as q on true
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_class'::regclass and de.objoid = a.attrelid and de.objsubid = a.attnum
left join pg_catalog.pg_description as ne on ne.classoid = 'pg_catalog.pg_constraint'::regclass and ne.objoid = o.oid and ne.objsubid = 0
where c.relkind in ('r', 'p', 'f', 'v', 'm', 'c') and a.attnum > 0 and not a.attisdropped;
comment on view migration_guard.catalog_columns is
  'Columns of tables and views, and attributes of composite types: type, collation, identity, generation, not null; as
settings the default, statistics, storage, compression and options.';

create view migration_guard.catalog_tables with (security_invoker = true) as
select
  'pg_catalog.pg_class'::regclass::oid as classid, c.oid as objid, 0 as objsubid,
  case c.relkind when 'f' then 'foreign_table' else 'table' end as kind,
  n.nspname::text as schema_name, c.relname::text as name, r.identity,
  'pg_catalog.pg_class'::regclass::oid as parent_classid, c.oid as parent, c.relname::text as parent_name,
  concat_ws(' ',
    case when c.relkind = 'f' then 'create foreign table' when c.relpersistence = 'u' then 'create unlogged table' else 'create table' end,
    r.identity,
    case when c.reloftype <> 0 then 'of ' || pg_catalog.format_type(c.reloftype, null) else '(' || coalesce(a.columns, '') || ')' end,
    case when not c.relispartition then migration_guard.phrase('inherits (%s)', h.parents) end,
    case when c.relkind = 'p' then 'partition by ' || pg_catalog.pg_get_partkeydef(c.oid) end,
    case when m.amname <> 'heap' or c.relkind = 'p' then migration_guard.phrase('using %I', m.amname::text) end,
    migration_guard.phrase('with (%s)', migration_guard.option_list(nullif(c.reloptions || array(select 'toast.' || unnest(x.reloptions)), '{}'))),
    migration_guard.phrase('tablespace %I', s.spcname::text),
    migration_guard.phrase('server %I', v.srvname::text),
    migration_guard.phrase('options (%s)', migration_guard.foreign_option_list(f.ftoptions))
  ) || case when c.relispartition and h.parents is not null then
    format(E';\nalter table only %s attach partition %s %s', h.parents, r.identity, pg_catalog.pg_get_expr(c.relpartbound, c.oid))
    else '' end as definition,
  pg_catalog.array_remove(array[
    case when c.relkind <> 'f' then format('alter table %s %s row level security, %s row level security', r.identity,
      case when c.relrowsecurity then 'enable' else 'disable' end, case when c.relforcerowsecurity then 'force' else 'no force' end) end,
    -- That by an index is a setting of the index.
    case when c.relreplident <> 'i' and c.relkind <> 'f' then format('alter table only %s replica identity %s', r.identity,
      case c.relreplident when 'f' then 'full' when 'n' then 'nothing' else 'default' end) end,
    case when exists (select from migration_guard.catalog_disabled_tables as dt where dt.relation = c.oid) then format('alter table only %s disable trigger all', r.identity) end
  ], null) as settings,
  false as is_internal,
  pg_catalog.pg_get_userbyid(c.relowner)::text as owner, de.description as comment,
  coalesce(migration_guard.grant_statements('table ' || r.identity, c.relacl, pg_catalog.acldefault('r', c.relowner), c.relowner), '{}') as grants,
  null::real as sort_order
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
cross join lateral (select format('%I.%I', n.nspname, c.relname) as identity) as r
left join pg_catalog.pg_am as m on m.oid = c.relam
left join pg_catalog.pg_class as x on x.oid = c.reltoastrelid
left join pg_catalog.pg_tablespace as s on s.oid = c.reltablespace
left join pg_catalog.pg_foreign_table as f on f.ftrelid = c.oid
left join pg_catalog.pg_foreign_server as v on v.oid = f.ftserver
left join lateral (
  select string_agg(k.definition, ', ' order by k.is_constraint, k.position) as columns
  from (
    select false, k.objsubid, substr(k.definition, length(r.identity) + length('alter table  add column ') + 1)
    from migration_guard.catalog_columns as k
    where k.objid = c.oid and not k.is_internal
    union all
    -- What an heir requires by itself of a column that it has from a parent: see the settings of columns.
    select true, q.attnum, format('constraint %I not null %I', o.conname, q.attname)
    from pg_catalog.pg_attribute as q
    join pg_catalog.pg_constraint as o on o.conrelid = q.attrelid and o.contype = 'n' and o.conkey[1] = q.attnum
    where q.attrelid = c.oid and q.attnum > 0 and not q.attisdropped and not q.attislocal and not c.relispartition
      and o.conislocal and o.coninhcount > 0 and o.convalidated
  ) as k (is_constraint, position, definition)
) as a on true
left join lateral (
  select string_agg(format('%I.%I', pn.nspname, pc.relname), ', ' order by i.inhseqno) as parents
  from pg_catalog.pg_inherits as i
  join pg_catalog.pg_class as pc on pc.oid = i.inhparent
  join pg_catalog.pg_namespace as pn on pn.oid = pc.relnamespace
  where i.inhrelid = c.oid and not i.inhdetachpending
) as h on true
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_class'::regclass and de.objoid = c.oid and de.objsubid = 0
where c.relkind in ('r', 'p', 'f');
comment on view migration_guard.catalog_tables is
  'Tables, partitioned tables, partitions and foreign tables, whole but for constraints and defaults. A partition is made by itself and attached.';

create view migration_guard.catalog_sequences with (security_invoker = true) as
select
  'pg_catalog.pg_class'::regclass::oid as classid, c.oid as objid, 0 as objsubid, 'sequence' as kind,
  n.nspname::text as schema_name, c.relname::text as name, r.identity,
  case when w.deptype is not null then 'pg_catalog.pg_class'::regclass::oid end as parent_classid, w.relid as parent, w.relname as parent_name,
  concat_ws(' ',
    case when w.deptype = 'i' then 'alter sequence' when c.relpersistence = 'u' then 'create unlogged sequence' else 'create sequence' end,
    r.identity,
    'as ' || pg_catalog.format_type(s.seqtypid, null),
    format('increment by %s minvalue %s maxvalue %s start with %s cache %s', s.seqincrement, s.seqmin, s.seqmax, s.seqstart, s.seqcache),
    case when s.seqcycle then 'cycle' else 'no cycle' end
  ) as definition,
  pg_catalog.array_remove(array[
    case when w.deptype = 'a' then format('alter sequence %s owned by %s', r.identity, w.column_identity) end,
    case when w.deptype = 'i' and c.relpersistence <> w.relpersistence
      then format('alter sequence %s set %s', r.identity, case c.relpersistence when 'u' then 'unlogged' else 'logged' end) end
  ], null) as settings,
  false as is_internal,
  case when w.deptype is null then pg_catalog.pg_get_userbyid(c.relowner)::text end as owner,
  de.description as comment,
  coalesce(migration_guard.grant_statements('sequence ' || r.identity, c.relacl, pg_catalog.acldefault('s', c.relowner), c.relowner), '{}') as grants,
  null::real as sort_order
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_sequence as s on s.seqrelid = c.oid
cross join lateral (select format('%I.%I', n.nspname, c.relname) as identity) as r
left join lateral (
  select d.deptype, tc.relpersistence, tc.oid as relid, tc.relname::text as relname, format('%I.%I.%I', tn.nspname, tc.relname, ta.attname) as column_identity
  from pg_catalog.pg_depend as d
  join pg_catalog.pg_class as tc on tc.oid = d.refobjid
  join pg_catalog.pg_namespace as tn on tn.oid = tc.relnamespace
  join pg_catalog.pg_attribute as ta on ta.attrelid = tc.oid and ta.attnum = d.refobjsubid
  where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_catalog.pg_class'::regclass
    and d.deptype in ('a', 'i') and d.refobjsubid > 0
) as w on true
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_class'::regclass and de.objoid = c.oid and de.objsubid = 0;
comment on view migration_guard.catalog_sequences is
  'Sequences with their parameters and the column that owns them. Where they stand is no part of the definition.';

create view migration_guard.catalog_views with (security_invoker = true) as
select
  'pg_catalog.pg_class'::regclass::oid as classid, c.oid as objid, 0 as objsubid,
  case c.relkind when 'm' then 'materialized_view' else 'view' end as kind,
  n.nspname::text as schema_name, c.relname::text as name, r.identity,
  'pg_catalog.pg_class'::regclass::oid as parent_classid, c.oid as parent, c.relname::text as parent_name,
  concat_ws(' ',
    case c.relkind when 'm' then 'create materialized view' else 'create or replace view' end,
    r.identity,
    case when m.amname <> 'heap' then format('using %I', m.amname) end,
    migration_guard.phrase('with (%s)', migration_guard.option_list(nullif(c.reloptions || array(select 'toast.' || unnest(x.reloptions)), '{}'))),
    migration_guard.phrase('tablespace %I', s.spcname::text),
    'as', rtrim(pg_catalog.pg_get_viewdef(c.oid), ';'),
    case c.relkind when 'm' then 'with no data' end
  ) as definition,
  pg_catalog.array_remove(array[
    case when c.relkind = 'm' and c.relispopulated then 'refresh materialized view ' || r.identity end
  ], null) || array(
    select format('alter materialized view %s depends on extension %I', r.identity, en.extname)
    from migration_guard.catalog_extension_needs as en where en.classid = 'pg_catalog.pg_class'::regclass and en.objid = c.oid order by en.extname) as settings,
  false as is_internal,
  pg_catalog.pg_get_userbyid(c.relowner)::text as owner, de.description as comment,
  coalesce(migration_guard.grant_statements('table ' || r.identity, c.relacl, pg_catalog.acldefault('r', c.relowner), c.relowner), '{}') as grants,
  null::real as sort_order
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
cross join lateral (select format('%I.%I', n.nspname, c.relname) as identity) as r
left join pg_catalog.pg_am as m on m.oid = c.relam
left join pg_catalog.pg_class as x on x.oid = c.reltoastrelid
left join pg_catalog.pg_tablespace as s on s.oid = c.reltablespace
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_class'::regclass and de.objoid = c.oid and de.objsubid = 0
where c.relkind in ('v', 'm');
comment on view migration_guard.catalog_views is 'Views and materialized views.';

-- What belongs to a relation ------------------------------------------------------------------------------------------

create view migration_guard.catalog_constraints with (security_invoker = true) as
select
  'pg_catalog.pg_constraint'::regclass::oid as classid, o.oid as objid, 0 as objsubid, 'constraint' as kind,
  n.nspname::text as schema_name, o.conname::text as name, format('%I on %I.%I', o.conname, n.nspname, c.relname) as identity,
  'pg_catalog.pg_class'::regclass::oid as parent_classid, o.conrelid as parent, c.relname::text as parent_name,
  -- Each partition has its own key, which is attached to that of the root; an exclusion constraint cannot be attached.
  format('alter table %s%I.%I add constraint %I %s', case when o.contype in ('p', 'u') then 'only ' else '' end, n.nspname, c.relname, o.conname,
    pg_catalog.pg_get_constraintdef(o.oid))
  || case when p.parent_index is null then '' else format(E';\nalter index %s attach partition %I.%I', p.parent_index, xn.nspname, x.relname) end as definition,
  pg_catalog.array_remove(array[(
    select format('alter table %I.%I validate constraint %I', n.nspname, c.relname, o.conname)
    from pg_catalog.pg_inherits as h
    join pg_catalog.pg_constraint as po on po.conrelid = h.inhparent and po.contype = 'c' and po.conname = o.conname and not po.convalidated
    where h.inhrelid = o.conrelid and o.contype = 'c' and o.convalidated and not o.conislocal
    limit 1
  )], null) as settings,
  case when o.contype in ('p', 'u') then false else o.conparentid <> 0 or not o.conislocal end as is_internal,
  null::text as owner, de.description as comment, '{}'::text[] as grants, null::real as sort_order
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_constraint as o on o.conrelid = c.oid
left join pg_catalog.pg_class as x on x.oid = o.conindid and o.contype in ('p', 'u')
left join pg_catalog.pg_namespace as xn on xn.oid = x.relnamespace
left join lateral (
  select format('%I.%I', pn.nspname, pc.relname) as parent_index
  from pg_catalog.pg_inherits as i
  join pg_catalog.pg_class as pc on pc.oid = i.inhparent
  join pg_catalog.pg_namespace as pn on pn.oid = pc.relnamespace
  where i.inhrelid = x.oid
) as p on true
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_constraint'::regclass and de.objoid = o.oid and de.objsubid = 0
-- A constraint trigger is a trigger; not null is told by the column.
where o.contype in ('c', 'f', 'p', 'u', 'x');
comment on view migration_guard.catalog_constraints is
  'Check, foreign key, primary key, unique and exclusion constraints of tables.';

create view migration_guard.catalog_indexes with (security_invoker = true) as
select
  'pg_catalog.pg_class'::regclass::oid as classid, i.indexrelid as objid, 0 as objsubid, 'index' as kind,
  n.nspname::text as schema_name, x.relname::text as name, r.identity,
  'pg_catalog.pg_class'::regclass::oid as parent_classid, i.indrelid as parent, c.relname::text as parent_name,
  pg_catalog.pg_get_indexdef(i.indexrelid)
  || case when p.parent_index is null then '' else format(E';\nalter index %s attach partition %s', p.parent_index, r.identity) end as definition,
  pg_catalog.array_remove(array[
    case when k.is_internal then 'alter index ' || r.identity || migration_guard.phrase(' set (%s)', migration_guard.option_list(x.reloptions)) end,
    'alter index ' || r.identity || migration_guard.phrase(' set tablespace %I', s.spcname::text),
    case when i.indisclustered then format('alter table %s cluster on %I', r.table_identity, x.relname) end,
    case when i.indisreplident then format('alter table only %s replica identity using index %I', r.table_identity, x.relname) end
  ], null) || array(
    select format('alter index %s alter column %s set statistics %s', r.identity, a.attnum, a.attstattarget)
    from pg_catalog.pg_attribute as a where a.attrelid = i.indexrelid and a.attstattarget >= 0 order by a.attnum
  ) || array(
    select format('alter index %s depends on extension %I', r.identity, en.extname)
    from migration_guard.catalog_extension_needs as en where en.classid = 'pg_catalog.pg_class'::regclass and en.objid = i.indexrelid order by en.extname) as settings,
  k.is_internal,
  null::text as owner, de.description as comment, '{}'::text[] as grants, null::real as sort_order
from pg_catalog.pg_class as x
join pg_catalog.pg_namespace as n on n.oid = x.relnamespace
join pg_catalog.pg_index as i on i.indexrelid = x.oid
join pg_catalog.pg_class as c on c.oid = i.indrelid
join pg_catalog.pg_namespace as cn on cn.oid = c.relnamespace
cross join lateral (select format('%I.%I', n.nspname, x.relname) as identity, format('%I.%I', cn.nspname, c.relname) as table_identity) as r
cross join lateral (
  select exists (
    select from pg_catalog.pg_constraint as o where o.conindid = i.indexrelid and o.conrelid = i.indrelid and o.contype in ('p', 'u', 'x')
  ) as is_internal
) as k
left join pg_catalog.pg_tablespace as s on s.oid = x.reltablespace
left join lateral (
  select format('%I.%I', pn.nspname, pc.relname) as parent_index
  from pg_catalog.pg_inherits as h
  join pg_catalog.pg_class as pc on pc.oid = h.inhparent
  join pg_catalog.pg_namespace as pn on pn.oid = pc.relnamespace
  where h.inhrelid = i.indexrelid and not k.is_internal
) as p on true
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_class'::regclass and de.objoid = i.indexrelid and de.objsubid = 0
where c.relkind in ('r', 'p', 'm');
comment on view migration_guard.catalog_indexes is
  'Indexes of tables and materialized views, those that a constraint makes included.';

create view migration_guard.catalog_triggers with (security_invoker = true) as
select
  'pg_catalog.pg_trigger'::regclass::oid as classid, t.oid as objid, 0 as objsubid, 'trigger' as kind,
  n.nspname::text as schema_name, t.tgname::text as name, format('%I on %I.%I', t.tgname, n.nspname, c.relname) as identity,
  'pg_catalog.pg_class'::regclass::oid as parent_classid, t.tgrelid as parent, c.relname::text as parent_name,
  pg_catalog.pg_get_triggerdef(t.oid) as definition,
  pg_catalog.array_remove(array[
    case
      when t.tgenabled <> 'O' then format('alter table only %I.%I %s trigger %I', n.nspname, c.relname,
        case t.tgenabled when 'D' then 'disable' when 'R' then 'enable replica' else 'enable always' end, t.tgname)
      -- What the table says of all its triggers is not said of this one.
      when exists (select from migration_guard.catalog_disabled_tables as dt where dt.relation = t.tgrelid) then format('alter table only %I.%I enable trigger %I', n.nspname, c.relname, t.tgname)
    end
  ], null) || array(
    select format('alter trigger %s depends on extension %I', format('%I on %I.%I', t.tgname, n.nspname, c.relname), en.extname)
    from migration_guard.catalog_extension_needs as en where en.classid = 'pg_catalog.pg_trigger'::regclass and en.objid = t.oid order by en.extname) as settings,
  -- That of a partitioned table is on its partitions, too.
  t.tgparentid <> 0 as is_internal,
  null::text as owner, de.description as comment, '{}'::text[] as grants, null::real as sort_order
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_trigger as t on t.tgrelid = c.oid
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_trigger'::regclass and de.objoid = t.oid and de.objsubid = 0
where not t.tgisinternal;
comment on view migration_guard.catalog_triggers is 'Triggers, constraint triggers included, and whether they are enabled.';

create view migration_guard.catalog_rules with (security_invoker = true) as
select
  'pg_catalog.pg_rewrite'::regclass::oid as classid, w.oid as objid, 0 as objsubid, 'rule' as kind,
  n.nspname::text as schema_name, w.rulename::text as name, format('%I on %I.%I', w.rulename, n.nspname, c.relname) as identity,
  'pg_catalog.pg_class'::regclass::oid as parent_classid, w.ev_class as parent, c.relname::text as parent_name,
  rtrim(pg_catalog.pg_get_ruledef(w.oid), ';') as definition,
  pg_catalog.array_remove(array[
    case when w.ev_enabled <> 'O' then format('alter table %I.%I %s rule %I', n.nspname, c.relname,
      case w.ev_enabled when 'D' then 'disable' when 'R' then 'enable replica' else 'enable always' end, w.rulename) end
  ], null) as settings,
  false as is_internal,
  null::text as owner, de.description as comment, '{}'::text[] as grants, null::real as sort_order
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_rewrite as w on w.ev_class = c.oid
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_rewrite'::regclass and de.objoid = w.oid and de.objsubid = 0
-- The one that makes a view a view is told by the view.
where w.rulename <> '_RETURN';
comment on view migration_guard.catalog_rules is 'Rules, and whether they are enabled.';

create view migration_guard.catalog_policies with (security_invoker = true) as
select
  'pg_catalog.pg_policy'::regclass::oid as classid, p.oid as objid, 0 as objsubid, 'policy' as kind,
  n.nspname::text as schema_name, p.polname::text as name, format('%I on %I.%I', p.polname, n.nspname, c.relname) as identity,
  'pg_catalog.pg_class'::regclass::oid as parent_classid, p.polrelid as parent, c.relname::text as parent_name,
  concat_ws(' ',
    format('create policy %I on %I.%I', p.polname, n.nspname, c.relname),
    case when p.polpermissive then 'as permissive' else 'as restrictive' end,
    case p.polcmd
      when '*' then 'for all' when 'r' then 'for select' when 'a' then 'for insert'
      when 'w' then 'for update' when 'd' then 'for delete'
    end,
    'to ' || (
      select string_agg(case when role = 0 then 'public' else format('%I', pg_catalog.pg_get_userbyid(role)) end, ', ' order by position)
      from unnest(p.polroles) with ordinality as roles (role, position)
    ),
    case when p.polqual is not null then format('using (%s)', pg_catalog.pg_get_expr(p.polqual, p.polrelid)) end,
    case when p.polwithcheck is not null then format('with check (%s)', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) end
  ) as definition,
  '{}'::text[] as settings, false as is_internal,
  null::text as owner, de.description as comment, '{}'::text[] as grants, null::real as sort_order
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_policy as p on p.polrelid = c.oid
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_policy'::regclass and de.objoid = p.oid and de.objsubid = 0;
comment on view migration_guard.catalog_policies is
  'Row level security policies: kind, command, roles and both expressions.';

create view migration_guard.catalog_statistics with (security_invoker = true) as
select
  'pg_catalog.pg_statistic_ext'::regclass::oid as classid, s.oid as objid, 0 as objsubid, 'statistics' as kind,
  n.nspname::text as schema_name, s.stxname::text as name, format('%I.%I', n.nspname, s.stxname) as identity,
  'pg_catalog.pg_class'::regclass::oid as parent_classid, s.stxrelid as parent, c.relname::text as parent_name,
  pg_catalog.pg_get_statisticsobjdef(s.oid) as definition,
  pg_catalog.array_remove(array[
    case when s.stxstattarget >= 0 then format('alter statistics %I.%I set statistics %s', n.nspname, s.stxname, s.stxstattarget) end
  ], null) as settings,
  false as is_internal,
  pg_catalog.pg_get_userbyid(s.stxowner)::text as owner, de.description as comment,
  '{}'::text[] as grants, null::real as sort_order
from pg_catalog.pg_statistic_ext as s
join pg_catalog.pg_namespace as n on n.oid = s.stxnamespace
-- Those on a temporary table go with it, in whatever schema they are.
join pg_catalog.pg_class as c on c.oid = s.stxrelid and c.relpersistence <> 't'
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_statistic_ext'::regclass and de.objoid = s.oid and de.objsubid = 0;
comment on view migration_guard.catalog_statistics is 'Extended statistics.';

create view migration_guard.catalog_publication_tables with (security_invoker = true) as
select
  'pg_catalog.pg_publication_rel'::regclass::oid as classid, p.oid as objid, 0 as objsubid, 'publication_table' as kind,
  n.nspname::text as schema_name, u.pubname::text as name, format('%I for %I.%I', u.pubname, n.nspname, c.relname) as identity,
  'pg_catalog.pg_class'::regclass::oid as parent_classid, p.prrelid as parent, c.relname::text as parent_name,
  concat_ws(' ',
    format('alter publication %I add table only %I.%I', u.pubname, n.nspname, c.relname),
    (
      select format('(%s)', string_agg(format('%I', a.attname), ', ' order by a.attnum))
      from pg_catalog.pg_attribute as a
      where p.prattrs is not null and a.attrelid = p.prrelid and a.attnum = any (p.prattrs)
      having count(*) > 0
    ),
    migration_guard.phrase('where (%s)', pg_catalog.pg_get_expr(p.prqual, p.prrelid))
  ) as definition,
  '{}'::text[] as settings, false as is_internal, null::text as owner, null::text as comment, '{}'::text[] as grants, null::real as sort_order
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_publication_rel as p on p.prrelid = c.oid
join pg_catalog.pg_publication as u on u.oid = p.prpubid;
comment on view migration_guard.catalog_publication_tables is 'Which publications publish which tables, columns and rows.';

create view migration_guard.catalog_publication_schemas with (security_invoker = true) as
select
  'pg_catalog.pg_publication_namespace'::regclass::oid as classid, p.oid as objid, 0 as objsubid, 'publication_schema' as kind,
  n.nspname::text as schema_name, u.pubname::text as name, format('%I for schema %I', u.pubname, n.nspname) as identity,
  'pg_catalog.pg_namespace'::regclass::oid as parent_classid, n.oid as parent, n.nspname::text as parent_name,
  format('alter publication %I add tables in schema %I', u.pubname, n.nspname) as definition,
  '{}'::text[] as settings, false as is_internal, null::text as owner, null::text as comment, '{}'::text[] as grants, null::real as sort_order
from pg_catalog.pg_publication_namespace as p
join pg_catalog.pg_publication as u on u.oid = p.pnpubid
join pg_catalog.pg_namespace as n on n.oid = p.pnnspid;
comment on view migration_guard.catalog_publication_schemas is 'Which publications publish all tables of a schema.';

create view migration_guard.catalog_default_privileges with (security_invoker = true) as
select
  'pg_catalog.pg_default_acl'::regclass::oid as classid, d.oid as objid, 0 as objsubid, 'default_privilege' as kind,
  n.nspname::text as schema_name, r.role || ' on ' || r.objects as name,
  format('for role %I in schema %I on %s', r.role, n.nspname, r.objects) as identity,
  'pg_catalog.pg_namespace'::regclass::oid as parent_classid, n.oid as parent, n.nspname::text as parent_name,
  (
    select string_agg(format('alter default privileges for role %I in schema %I grant %s on %s to %s%s', r.role, n.nspname,
      g.privileges, r.objects, g.grantee, case when g.is_grantable then ' with grant option' else '' end), E';\n' order by g.position)
    from (
      select e.is_grantable, min(e.position) as position,
        case when e.grantee = 0 then 'public' else format('%I', pg_catalog.pg_get_userbyid(e.grantee)) end as grantee,
        string_agg(lower(e.privilege_type), ', ' order by e.privilege_type) as privileges
      from pg_catalog.aclexplode(d.defaclacl) with ordinality as e (grantor, grantee, privilege_type, is_grantable, position)
      group by e.grantee, e.is_grantable
    ) as g
  ) as definition,
  '{}'::text[] as settings, false as is_internal, null::text as owner, null::text as comment, '{}'::text[] as grants, null::real as sort_order
from pg_catalog.pg_default_acl as d
join pg_catalog.pg_namespace as n on n.oid = d.defaclnamespace
cross join lateral (
  select pg_catalog.pg_get_userbyid(d.defaclrole)::text as role,
    case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types' else 'schemas' end as objects
) as r
where cardinality(d.defaclacl) > 0;
comment on view migration_guard.catalog_default_privileges is 'Privileges that objects get when a role makes them in a schema.';

-- Routines and types --------------------------------------------------------------------------------------------------

create view migration_guard.catalog_functions with (security_invoker = true) as
select
  'pg_catalog.pg_proc'::regclass::oid as classid, p.oid as objid, 0 as objsubid, r.kind,
  n.nspname::text as schema_name, p.proname::text as name, r.identity,
  null::oid as parent_classid, null::oid as parent, null::text as parent_name,
  pg_catalog.pg_get_functiondef(p.oid) as definition,
  array(
    select format('alter %s %s depends on extension %I', r.kind, r.identity, en.extname)
    from migration_guard.catalog_extension_needs as en where en.classid = 'pg_catalog.pg_proc'::regclass and en.objid = p.oid order by en.extname) as settings,
  -- The constructors of a range come with it. Looked up for each by itself: of all functions to find a few takes longer.
  coalesce((
    select true from pg_catalog.pg_depend as d where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'i' limit 1
  ), false) as is_internal,
  pg_catalog.pg_get_userbyid(p.proowner)::text as owner, (
    -- Not in the join, which would read those of all functions of the system to find a few.
    select de.description from pg_catalog.pg_description as de
    where de.classoid = 'pg_catalog.pg_proc'::regclass and de.objoid = p.oid and de.objsubid = 0
  ) as comment,
  coalesce(migration_guard.grant_statements(r.kind || ' ' || r.identity, p.proacl, pg_catalog.acldefault('f', p.proowner), p.proowner), '{}') as grants,
  null::real as sort_order
from pg_catalog.pg_proc as p
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
cross join lateral (
  select case p.prokind when 'p' then 'procedure' else 'function' end as kind,
    format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)) as identity
) as r
where p.prokind <> 'a';
comment on view migration_guard.catalog_functions is 'Functions, window functions and procedures.';

create view migration_guard.catalog_aggregates with (security_invoker = true) as
select
  'pg_catalog.pg_proc'::regclass::oid as classid, p.oid as objid, 0 as objsubid, 'aggregate' as kind,
  n.nspname::text as schema_name, p.proname::text as name, r.identity,
  null::oid as parent_classid, null::oid as parent, null::text as parent_name,
  format('create aggregate %I.%I(%s) (%s)', n.nspname, p.proname,
    coalesce(nullif(pg_catalog.pg_get_function_arguments(p.oid), ''), '*'),
    concat_ws(', ',
      format('sfunc = %s', g.aggtransfn),
      format('stype = %s', pg_catalog.format_type(g.aggtranstype, null)),
      case when g.aggtransspace <> 0 then format('sspace = %s', g.aggtransspace) end,
      case when g.aggfinalfn <> 0 then format('finalfunc = %s', g.aggfinalfn) end,
      case when g.aggfinalextra then 'finalfunc_extra' end,
      format('finalfunc_modify = %s', f.final_modify),
      case when g.aggcombinefn <> 0 then format('combinefunc = %s', g.aggcombinefn) end,
      case when g.aggserialfn <> 0 then format('serialfunc = %s', g.aggserialfn) end,
      case when g.aggdeserialfn <> 0 then format('deserialfunc = %s', g.aggdeserialfn) end,
      migration_guard.phrase('initcond = %L', g.agginitval),
      case when g.aggmtransfn <> 0 then format('msfunc = %s', g.aggmtransfn) end,
      case when g.aggminvtransfn <> 0 then format('minvfunc = %s', g.aggminvtransfn) end,
      case when g.aggmtranstype <> 0 then format('mstype = %s', pg_catalog.format_type(g.aggmtranstype, null)) end,
      case when g.aggmtransspace <> 0 then format('msspace = %s', g.aggmtransspace) end,
      case when g.aggmfinalfn <> 0 then format('mfinalfunc = %s', g.aggmfinalfn) end,
      case when g.aggmfinalextra then 'mfinalfunc_extra' end,
      case when g.aggmtransfn <> 0 then format('mfinalfunc_modify = %s', f.moving_final_modify) end,
      migration_guard.phrase('minitcond = %L', g.aggminitval),
      (
        select format('sortop = operator(%I.%s)', os.nspname, op.oprname)
        from pg_catalog.pg_operator as op join pg_catalog.pg_namespace as os on os.oid = op.oprnamespace
        where op.oid = g.aggsortop
      ),
      case p.proparallel when 's' then 'parallel = safe' when 'r' then 'parallel = restricted' end,
      case when g.aggkind = 'h' then 'hypothetical' end
    )) as definition,
  '{}'::text[] as settings, false as is_internal,
  pg_catalog.pg_get_userbyid(p.proowner)::text as owner, de.description as comment,
  coalesce(migration_guard.grant_statements('function ' || r.signature, p.proacl, pg_catalog.acldefault('f', p.proowner), p.proowner), '{}') as grants,
  null::real as sort_order
from pg_catalog.pg_aggregate as g
join pg_catalog.pg_proc as p on p.oid = g.aggfnoid
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
cross join lateral (
  select
    format('%I.%I(%s)', n.nspname, p.proname, coalesce(nullif(pg_catalog.pg_get_function_identity_arguments(p.oid), ''), '*')) as identity,
    -- As GRANT takes it: types alone.
    format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.oidvectortypes(p.proargtypes)) as signature
) as r
cross join lateral (
  select
    case g.aggfinalmodify when 'r' then 'read_only' when 's' then 'shareable' else 'read_write' end as final_modify,
    case g.aggmfinalmodify when 'r' then 'read_only' when 's' then 'shareable' else 'read_write' end as moving_final_modify
) as f
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_proc'::regclass and de.objoid = p.oid and de.objsubid = 0;
comment on view migration_guard.catalog_aggregates is 'Aggregates: plain, moving, ordered-set and hypothetical-set.';

create view migration_guard.catalog_types with (security_invoker = true) as
select
  'pg_catalog.pg_type'::regclass::oid as classid, t.oid as objid, 0 as objsubid,
  case t.typtype when 'e' then 'enum' when 'd' then 'domain' when 'r' then 'range_type' else 'composite_type' end as kind,
  n.nspname::text as schema_name, t.typname::text as name, r.identity,
  'pg_catalog.pg_type'::regclass::oid as parent_classid, t.oid as parent, t.typname::text as parent_name,
  case t.typtype
    when 'e' then format('create type %s as enum (%s)', r.identity, (
      select string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder) from pg_catalog.pg_enum as e where e.enumtypid = t.oid))
    when 'c' then format('create type %s as (%s)', r.identity, (
      select string_agg(substr(k.definition, length(r.identity) + length('alter type  add attribute ') + 1), ', ' order by k.objsubid)
      from migration_guard.catalog_columns as k where k.objid = t.typrelid))
    when 'd' then concat_ws(' ',
      format('create domain %s as %s', r.identity, pg_catalog.format_type(t.typbasetype, t.typtypmod)),
      case when t.typcollation <> b.typcollation then format('collate %I.%I', cn.nspname, l.collname) end,
      'default ' || coalesce(pg_catalog.pg_get_expr(t.typdefaultbin, 0), quote_literal(t.typdefault)),
      -- Not null is a constraint with a name from 17 on.
      case when t.typnotnull then concat_ws(' ', migration_guard.phrase('constraint %I', nn.conname::text), 'not null') end)
    else format('create type %s as range (%s)', r.identity, concat_ws(', ',
      format('subtype = %s', pg_catalog.format_type(g.rngsubtype, null)),
      format('multirange_type_name = %s', pg_catalog.format_type(g.rngmultitypid, null)),
      (select format('subtype_opclass = %I.%I', pn.nspname, o.opcname)
       from pg_catalog.pg_opclass as o join pg_catalog.pg_namespace as pn on pn.oid = o.opcnamespace where o.oid = g.rngsubopc),
      case when l.oid is not null then format('collation = %I.%I', cn.nspname, l.collname) end,
      case when g.rngcanonical <> 0 then format('canonical = %s', g.rngcanonical) end,
      case when g.rngsubdiff <> 0 then format('subtype_diff = %s', g.rngsubdiff) end))
  end as definition,
  pg_catalog.array_remove(array[
    -- Until 17 it does not follow the owner of its range.
    case when t.typtype = 'r' and current_setting('server_version_num')::int < 170000 then
      (select format('alter type %s owner to %I', pg_catalog.format_type(x.oid, null), pg_catalog.pg_get_userbyid(x.typowner))
       from pg_catalog.pg_type as x where x.oid = g.rngmultitypid) end,
    'comment on constraint ' || quote_ident(nn.conname) || ' on domain ' || r.identity || ' is ' || quote_literal(ne.description)
  ], null) as settings,
  false as is_internal,
  pg_catalog.pg_get_userbyid(t.typowner)::text as owner, de.description as comment,
  coalesce(migration_guard.grant_statements('type ' || r.identity, t.typacl, pg_catalog.acldefault('T', t.typowner), t.typowner), '{}') as grants,
  null::real as sort_order
from pg_catalog.pg_type as t
join pg_catalog.pg_namespace as n on n.oid = t.typnamespace
cross join lateral (select format('%I.%I', n.nspname, t.typname) as identity) as r
left join pg_catalog.pg_class as c on c.oid = t.typrelid
left join pg_catalog.pg_type as b on b.oid = t.typbasetype
left join pg_catalog.pg_range as g on g.rngtypid = t.oid
left join pg_catalog.pg_collation as l on l.oid = coalesce(g.rngcollation, t.typcollation)
left join pg_catalog.pg_namespace as cn on cn.oid = l.collnamespace
left join pg_catalog.pg_constraint as nn on nn.contypid = t.oid and nn.contype = 'n'
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_type'::regclass and de.objoid = t.oid and de.objsubid = 0
left join pg_catalog.pg_description as ne on ne.classoid = 'pg_catalog.pg_constraint'::regclass and ne.objoid = nn.oid and ne.objsubid = 0
where t.typtype in ('e', 'd', 'r') or t.typtype = 'c' and c.relkind = 'c';
comment on view migration_guard.catalog_types is
  'Enum, domain, range and composite types, whole but for the checks of domains.';

create view migration_guard.catalog_enum_values with (security_invoker = true) as
select
  'pg_catalog.pg_enum'::regclass::oid as classid, e.oid as objid, 0 as objsubid, 'enum_value' as kind,
  n.nspname::text as schema_name, e.enumlabel::text as name, format('%I.%I.%I', n.nspname, t.typname, e.enumlabel) as identity,
  'pg_catalog.pg_type'::regclass::oid as parent_classid, t.oid as parent, t.typname::text as parent_name,
  format('alter type %I.%I add value %L', n.nspname, t.typname, e.enumlabel) as definition,
  '{}'::text[] as settings, false as is_internal, null::text as owner, null::text as comment, '{}'::text[] as grants,
  e.enumsortorder as sort_order
from pg_catalog.pg_type as t
join pg_catalog.pg_namespace as n on n.oid = t.typnamespace
join pg_catalog.pg_enum as e on e.enumtypid = t.oid;
comment on view migration_guard.catalog_enum_values is
  'Values of enum types; the parent is the type, sort_order the value''s place.';

create view migration_guard.catalog_domain_constraints with (security_invoker = true) as
select
  'pg_catalog.pg_constraint'::regclass::oid as classid, o.oid as objid, 0 as objsubid, 'domain_constraint' as kind,
  n.nspname::text as schema_name, o.conname::text as name, format('%I on domain %I.%I', o.conname, n.nspname, t.typname) as identity,
  'pg_catalog.pg_type'::regclass::oid as parent_classid, o.contypid as parent, t.typname::text as parent_name,
  format('alter domain %I.%I add constraint %I %s', n.nspname, t.typname, o.conname, pg_catalog.pg_get_constraintdef(o.oid)) as definition,
  '{}'::text[] as settings, false as is_internal,
  null::text as owner, de.description as comment, '{}'::text[] as grants, null::real as sort_order
from pg_catalog.pg_type as t
join pg_catalog.pg_namespace as n on n.oid = t.typnamespace
join pg_catalog.pg_constraint as o on o.contypid = t.oid
left join pg_catalog.pg_description as de on de.classoid = 'pg_catalog.pg_constraint'::regclass and de.objoid = o.oid and de.objsubid = 0
where o.contype = 'c';
comment on view migration_guard.catalog_domain_constraints is 'Check constraints of domains.';

create view migration_guard.catalog_objects with (security_invoker = true) as
select * from migration_guard.catalog_schemas
union all select * from migration_guard.catalog_tables
union all select * from migration_guard.catalog_columns
union all select * from migration_guard.catalog_constraints
union all select * from migration_guard.catalog_indexes
union all select * from migration_guard.catalog_sequences
union all select * from migration_guard.catalog_triggers
union all select * from migration_guard.catalog_rules
union all select * from migration_guard.catalog_policies
union all select * from migration_guard.catalog_statistics
union all select * from migration_guard.catalog_publication_tables
union all select * from migration_guard.catalog_publication_schemas
union all select * from migration_guard.catalog_default_privileges
union all select * from migration_guard.catalog_functions
union all select * from migration_guard.catalog_aggregates
union all select * from migration_guard.catalog_views
union all select * from migration_guard.catalog_types
union all select * from migration_guard.catalog_enum_values
union all select * from migration_guard.catalog_domain_constraints;
comment on view migration_guard.catalog_objects is 'Every object of every kind above.';

-- What depends on what ------------------------------------------------------------------------------------------------

create view migration_guard.catalog_owners with (security_invoker = true) as
-- A view's rule, a generation expression
select 'pg_catalog.pg_rewrite'::regclass::oid as classid, w.oid as objid, 'pg_catalog.pg_class'::regclass::oid as owner_classid, w.ev_class as owner_objid
from pg_catalog.pg_rewrite as w where w.rulename = '_RETURN'
union all
select 'pg_catalog.pg_attrdef'::regclass, d.oid, 'pg_catalog.pg_class'::regclass, d.adrelid from pg_catalog.pg_attrdef as d
-- Row types, arrays, multiranges, the relation behind a composite type
union all
select 'pg_catalog.pg_type'::regclass, t.oid, 'pg_catalog.pg_class'::regclass, t.typrelid
from pg_catalog.pg_type as t join pg_catalog.pg_class as c on c.oid = t.typrelid where c.relkind <> 'c'
union all
select 'pg_catalog.pg_type'::regclass, e.typarray,
  case when c.relkind <> 'c' then 'pg_catalog.pg_class'::regclass else 'pg_catalog.pg_type'::regclass end, case when c.relkind <> 'c' then c.oid else e.oid end
from pg_catalog.pg_type as e left join pg_catalog.pg_class as c on c.oid = e.typrelid where e.typarray <> 0
union all
select 'pg_catalog.pg_type'::regclass, g.rngmultitypid, 'pg_catalog.pg_type'::regclass, g.rngtypid from pg_catalog.pg_range as g
union all
select 'pg_catalog.pg_class'::regclass, c.oid, 'pg_catalog.pg_type'::regclass, c.reltype from pg_catalog.pg_class as c where c.relkind = 'c'
-- The index of a constraint, not null, enum values
union all
select 'pg_catalog.pg_class'::regclass, o.conindid, 'pg_catalog.pg_constraint'::regclass, o.oid
from pg_catalog.pg_constraint as o where o.contype in ('p', 'u', 'x')
union all
select 'pg_catalog.pg_constraint'::regclass, o.oid,
  case when o.conrelid <> 0 then 'pg_catalog.pg_class'::regclass else 'pg_catalog.pg_type'::regclass end, case when o.conrelid <> 0 then o.conrelid else o.contypid end
from pg_catalog.pg_constraint as o where o.contype = 'n'
union all
select 'pg_catalog.pg_enum'::regclass, e.oid, 'pg_catalog.pg_type'::regclass, e.enumtypid from pg_catalog.pg_enum as e;
comment on view migration_guard.catalog_owners is
  'What has no statement of its own in the views above, and the object whose statement makes it.';

create view migration_guard.catalog_dependencies with (security_invoker = true) as
with owners as materialized (select * from migration_guard.catalog_owners)
select distinct
  coalesce(s.owner_classid, d.classid) as classid, coalesce(s.owner_objid, d.objid) as objid,
  coalesce(r.owner_classid, d.refclassid) as refclassid, coalesce(r.owner_objid, d.refobjid) as refobjid,
  -- A default is a setting of its column, and who owns a sequence a setting of that.
  f.adnum is not null and a.attgenerated = '' or d.deptype = 'a' and q.seqrelid is not null as is_setting
from pg_catalog.pg_depend as d
left join owners as s on s.classid = d.classid and s.objid = d.objid
left join owners as r on r.classid = d.refclassid and r.objid = d.refobjid
left join pg_catalog.pg_attrdef as f on d.classid = 'pg_catalog.pg_attrdef'::regclass and f.oid = d.objid
left join pg_catalog.pg_attribute as a on a.attrelid = f.adrelid and a.attnum = f.adnum
left join pg_catalog.pg_sequence as q on d.classid = 'pg_catalog.pg_class'::regclass and q.seqrelid = d.objid
-- What came with Postgres needs nothing that anybody made.
where d.objid >= 16384 and (coalesce(s.owner_classid, d.classid), coalesce(s.owner_objid, d.objid))
  is distinct from (coalesce(r.owner_classid, d.refclassid), coalesce(r.owner_objid, d.refobjid));
comment on view migration_guard.catalog_dependencies is
  'pg_depend between the objects of the views above: what each needs to be made, or only for one of its settings.';

create function migration_guard.is_extension_member(classid oid, objid oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from pg_depend as d
    where d.classid = is_extension_member.classid and d.objid = is_extension_member.objid and d.deptype = 'e')
$$;
comment on function migration_guard.is_extension_member(oid, oid) is
  'Whether an object came with an extension, which makes and drops it.';

-- The functions that read them. Each asks every kind by itself: to plan many small queries takes two thirds of the time that to
-- plan the union of all takes, which is most of the time that a small schema takes.
do $make$
declare
  reader record;
  kinds constant text[] := array(
    select c.relname
    from pg_catalog.pg_class as c
    where c.oid in (
      select d.refobjid
      from pg_catalog.pg_rewrite as w
      join pg_catalog.pg_depend as d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = w.oid
      where w.ev_class = 'migration_guard.catalog_objects'::regclass and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid <> w.ev_class)
    order by c.oid);
begin
  for reader in
    select * from (values
      ('read_schema(schema_name text)', null, 'o.schema_name = read_schema.schema_name', 'force_generic_plan'),
      -- Arrays and names reach into the views: a join would deparse every object of the database first, and wait for the locks
      -- on tables that are no business of who asks, another session's temporary ones among them.
      ('read_objects(ids oid[], parents oid[], known_schemas text[])', $$ids = '{}' and parents = '{}'$$,
        '(o.objid = any (ids) or o.parent = any (parents)) and o.schema_name <> all (known_schemas)
          and not migration_guard.is_reserved_schema(o.schema_name)', 'force_generic_plan'),
      -- Known when they are planned, many OIDs are looked up by a hash.
      ('read_altered(ids oid[], schema_names text[], elsewhere oid[], parents oid[])', $$ids = '{}'$$,
        '(o.objid = any (ids) or o.parent = any (ids))
          and (o.schema_name = any (schema_names) or o.objid = any (elsewhere) or o.parent = any (parents))
          and not migration_guard.is_reserved_schema(o.schema_name)', 'auto')
    ) as r (signature, reads_nothing, condition, plans)
  loop
    execute format($create$
      create function migration_guard.%s returns setof migration_guard.catalog_objects
      language plpgsql stable
      set search_path = pg_catalog, pg_temp
      set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set extra_float_digits = 1
      set bytea_output = 'hex' set quote_all_identifiers = off set standard_conforming_strings = on set lc_monetary = 'C'
      set plan_cache_mode = %s set join_collapse_limit = 1 set jit = off
      as $read$
      begin
        %s
      end
      $read$
    $create$, reader.signature, reader.plans, concat_ws(E'\n        ', 'if ' || reader.reads_nothing || ' then return; end if;', (
      select string_agg(format('return query select o.* from migration_guard.%I as o where %s;', k.name, reader.condition), E'\n        ' order by k.number)
      from unnest(kinds) with ordinality as k (name, number))));
  end loop;
end
$make$;
comment on function migration_guard.read_schema(text) is 'Every object of a schema.';
comment on function migration_guard.read_objects(oid[], oid[], text[]) is
  'The objects of some OIDs, and those that belong to some, but for what is in the system''s schemas, in the product''s own and in
those that are known.';
comment on function migration_guard.read_altered(oid[], text[], oid[], oid[]) is
  'The objects of some OIDs and those that belong to them: all in some schemas, and elsewhere those of some OIDs and what belongs to some.';

create function migration_guard.without_extensions(objects migration_guard.catalog_objects[]) returns setof migration_guard.catalog_objects
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  with members as materialized (select e.classid, e.objid from pg_depend as e where e.refclassid = 'pg_extension'::regclass and e.deptype = 'e')
  select o.*
  from unnest(objects) as o
  where (o.classid, o.objid) not in (select m.classid, m.objid from members as m)
    and (o.parent is null or (o.parent_classid, o.parent) not in (select m.classid, m.objid from members as m));
end
$$;
comment on function migration_guard.without_extensions(migration_guard.catalog_objects[]) is
  'Objects, but for those that came with an extension, which makes and drops them, and what belongs to those.';

create function migration_guard.schema_inventory(schema_name text) returns setof migration_guard.catalog_objects
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select i.* from migration_guard.without_extensions(array(select o from migration_guard.read_schema(schema_name) as o)) as i;
end
$$;
comment on function migration_guard.schema_inventory(text) is
  'Every object of a schema, but for those that came with an extension.';

create function migration_guard.object_checksum(definition text, settings text[], owner text, comment text, grants text[], sort_order real)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- The order in which privileges were granted is no difference.
  select encode(sha256(convert_to(jsonb_build_array(
    definition, settings, owner, comment, array(select g from unnest(grants) as g order by g collate "C"), sort_order)::text, 'UTF8')), 'hex')
$$;
comment on function migration_guard.object_checksum(text, text[], text, text, text[], real) is
  'SHA-256 over all that is to be said of an object, but its identity: equal for what is the same, in the backup and live.';

create function migration_guard.schema_members(schema_name text)
returns table (classid oid, objid oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive members as (
    select d.classid, d.objid
    from pg_catalog.pg_depend as d
    where d.refclassid = 'pg_catalog.pg_namespace'::regclass
      and d.refobjid = (select n.oid from pg_catalog.pg_namespace as n where n.nspname = schema_name)
      and d.deptype = 'n'
    union
    -- What Postgres drops together with a member: its type, its indexes, its rule, its toast table.
    select d.classid, d.objid
    from members as m
    join pg_catalog.pg_depend as d on d.refclassid = m.classid and d.refobjid = m.objid
    where d.deptype in ('a', 'i')
  )
  select members.classid, members.objid from members
$$;
comment on function migration_guard.schema_members(text) is
  'Everything that is in a schema, down to the rules, types and indexes that belong to its relations.';

create function migration_guard.schema_contents(schema_name text)
returns table (classid oid, objid oid, identity text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select d.classid, d.objid, i.type || ' ' || i.identity
  from pg_catalog.pg_depend as d
  cross join lateral pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) as i
  where d.refclassid = 'pg_catalog.pg_namespace'::regclass
    and d.refobjid = (select n.oid from pg_catalog.pg_namespace as n where n.nspname = schema_name)
    and d.deptype = 'n'
$$;
comment on function migration_guard.schema_contents(text) is
  'What somebody made in a schema: its tables, views, functions, types and so on, without what belongs to those.';

create function migration_guard.outside_dependents(schema_name text) returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with members as materialized (select * from migration_guard.schema_members(schema_name))
  select distinct pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
  from pg_catalog.pg_depend as d
  join members as m on m.classid = d.refclassid and m.objid = d.refobjid
  where not exists (select from members as o where o.classid = d.classid and o.objid = d.objid)
$$;
comment on function migration_guard.outside_dependents(text) is
  'Objects elsewhere that depend on something in a schema, as Postgres describes them.';

create function migration_guard.outside_references(schema_name text) returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with members as materialized (select * from migration_guard.schema_members(schema_name))
  select distinct pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
    || ' depends on ' || pg_catalog.pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
  from pg_catalog.pg_depend as d
  join members as m on m.classid = d.classid and m.objid = d.objid
  where not exists (select from members as o where o.classid = d.refclassid and o.objid = d.refobjid)
    -- A member depends on its schema, a function on its language.
    and d.refclassid not in ('pg_catalog.pg_namespace'::regclass, 'pg_catalog.pg_language'::regclass)
$$;
comment on function migration_guard.outside_references(text) is
  'What objects in a schema depend on outside of it: nothing, for a backup.';

create function migration_guard.uncovered_objects(schema_name text) returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- By kind alone: the views above would read every definition, and wait for the locks on its table.
  select c.identity
  from migration_guard.schema_contents(schema_name) as c
  where c.classid not in ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_constraint'::regclass, 'pg_statistic_ext'::regclass,
      'pg_default_acl'::regclass, 'pg_publication_namespace'::regclass, 'pg_extension'::regclass)
    and not (c.classid = 'pg_type'::regclass
      and exists (select from pg_type as t where t.oid = c.objid and t.typtype in ('e', 'd', 'c', 'r', 'm')))
    and not migration_guard.is_extension_member(c.classid, c.objid)
$$;
comment on function migration_guard.uncovered_objects(text) is
  'What is in a schema and of a kind that no backup holds: operators, text search configurations, casts and the like.';
