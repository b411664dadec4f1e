-- Chapter 3a. The plan that a migration needs, from what its statements touch. The Edge Function reads the file; here the
-- names are looked up in the live catalog, and followed to what a change of them reaches.

create type migration_guard.touch as (
  -- Position among the touches, from 1.
  number int,
  line int,
  statement text,
  -- create, alter, rename, drop, data, comment, grant or call.
  action text,
  kind text,
  -- Where the name is looked up, in order.
  schemas text[],
  name text,
  parent text,
  signature jsonb,
  cascade boolean,
  contents text,
  optional boolean
);
comment on type migration_guard.touch is 'What one statement of a migration does to one object.';

create type migration_guard.derived as (
  -- The touch that leads to the object.
  number int,
  reason text,
  classid oid,
  objid oid,
  objsubid int
);
comment on type migration_guard.derived is 'An object that a migration touches, or that a change of one reaches.';

-- What the statements name -----------------------------------------------------------------------------------------

create function migration_guard.read_touches(touches jsonb, schema_name text) returns migration_guard.touch[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select row(t.number, t.line, coalesce(t.statement, ''), t.action, t.kind,
      case
        when t.schema is not null then array[t.schema]
        else array['pg_catalog'] || coalesce(t.search_path, array[schema_name])
      end,
      t.name, t.parent, t.signature, coalesce(t.cascade, false), t.contents, coalesce(t.optional, false)
    )::migration_guard.touch
    from rows from (
      jsonb_to_recordset(touches) as (
        line int, statement text, action text, kind text, schema text, search_path text[], name text, parent text,
        signature jsonb, cascade boolean, contents text, is_new boolean, optional boolean
      )
    ) with ordinality as t (
      line, statement, action, kind, schema, search_path, name, parent, signature, cascade, contents, is_new, optional, number
    )
    -- What the file makes is nothing to look up; what it calls is of interest all the same.
    where not coalesce(t.is_new, false) or t.action = 'call'
    order by t.number
  );
exception
  when data_exception then
    perform migration_guard.fail('invalid_parameter', 'touches is a list of objects, each with line, action, kind and name.');
end
$$;
comment on function migration_guard.read_touches(jsonb, text) is
  'Touches from their JSON form, without those of objects that the migration has made itself. Raises invalid_parameter.';

create function migration_guard.touched_relations(touches migration_guard.touch[]) returns table (number int, oid oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select distinct on (t.number) t.number, c.oid
  from unnest(touches) as t
  join pg_class as c on c.relname = case
    when t.kind in ('column', 'constraint', 'trigger', 'policy', 'rule') then t.parent::name
    when t.kind in ('table', 'foreign_table', 'view', 'materialized_view', 'index', 'sequence') then t.name::name
  end
  join pg_namespace as n on n.oid = c.relnamespace and n.nspname = any (t.schemas)
  order by t.number, array_position(t.schemas, n.nspname::text)
$$;
comment on function migration_guard.touched_relations(migration_guard.touch[]) is
  'The relation that each touch names, or that the column, constraint, trigger, policy or rule belongs to.';

create function migration_guard.touched_types(touches migration_guard.touch[]) returns table (number int, oid oid, typrelid oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select distinct on (t.number) t.number, y.oid, y.typrelid
  from unnest(touches) as t
  join pg_type as y on y.typname = case
    when t.kind in ('attribute', 'enum_value', 'domain_constraint') then t.parent::name
    when t.kind in ('type', 'domain') then t.name::name
  end
  join pg_namespace as n on n.oid = y.typnamespace and n.nspname = any (t.schemas)
  order by t.number, array_position(t.schemas, n.nspname::text)
$$;
comment on function migration_guard.touched_types(migration_guard.touch[]) is
  'The type that each touch names, or that the attribute, value or constraint belongs to.';

create function migration_guard.touched_arguments(signature jsonb) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(string_agg(coalesce((
    select case when (a.argument ->> 'array')::boolean then y.typarray else y.oid end::text
    from pg_type as y
    join pg_namespace as n on n.oid = y.typnamespace
    cross join lateral (
      select case
        when a.argument ? 'schema' then array[a.argument ->> 'schema']
        else array['pg_catalog'] || array(select jsonb_array_elements_text(a.argument -> 'search_path'))
      end as schemas
    ) as s
    where y.typname = (a.argument ->> 'name')::name and n.nspname = any (s.schemas)
    order by array_position(s.schemas, n.nspname::text)
    limit 1
  ), '?'), ' ' order by a.position), '')
  from jsonb_array_elements(signature) with ordinality as a (argument, position)
$$;
comment on function migration_guard.touched_arguments(jsonb) is
  'The types of a signature as their OIDs, one after the other, with ? for one that is not there.';

create function migration_guard.touched_routines(touches migration_guard.touch[]) returns table (number int, oid oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with wanted as (
    select t.number, t.schemas, t.name, t.signature is null as any_arguments,
      migration_guard.touched_arguments(t.signature) as arguments
    from unnest(touches) as t
    where t.kind in ('function', 'procedure', 'aggregate', 'routine')
  )
  select s.number, s.oid
  from (
    select w.number, p.oid, array_position(w.schemas, n.nspname::text) as place,
      min(array_position(w.schemas, n.nspname::text)) over (partition by w.number) as first_place
    from wanted as w
    join pg_proc as p on p.proname = w.name::name
    join pg_namespace as n on n.oid = p.pronamespace and n.nspname = any (w.schemas)
    -- A procedure may be named with its output arguments.
    where w.any_arguments
      or w.arguments in (array_to_string(p.proargtypes::oid[], ' '), array_to_string(p.proallargtypes, ' '))
  ) as s
  where s.place = s.first_place
$$;
comment on function migration_guard.touched_routines(migration_guard.touch[]) is
  'The functions, procedures and aggregates that each touch names: all of a name where it gives no arguments.';

create function migration_guard.touched_members(touches migration_guard.touch[])
returns table (number int, classid oid, objid oid, objsubid int)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with relations as materialized (
    select t.kind, t.name::name as name, r.number, r.oid
    from unnest(touches) as t
    join migration_guard.touched_relations(touches) as r on r.number = t.number
  ), types as materialized (
    select t.kind, t.name, y.number, y.oid, y.typrelid
    from unnest(touches) as t
    join migration_guard.touched_types(touches) as y on y.number = t.number
  )
  select r.number, 'pg_class'::regclass::oid, a.attrelid, a.attnum::int
  from relations as r
  join pg_attribute as a on r.kind = 'column' and a.attrelid = r.oid and a.attname = r.name and not a.attisdropped
  union all
  select r.number, 'pg_constraint'::regclass, o.oid, 0
  from relations as r join pg_constraint as o on r.kind = 'constraint' and o.conrelid = r.oid and o.conname = r.name
  union all
  select r.number, 'pg_trigger'::regclass, g.oid, 0
  from relations as r join pg_trigger as g on r.kind = 'trigger' and g.tgrelid = r.oid and g.tgname = r.name
  union all
  select r.number, 'pg_policy'::regclass, p.oid, 0
  from relations as r join pg_policy as p on r.kind = 'policy' and p.polrelid = r.oid and p.polname = r.name
  union all
  select r.number, 'pg_rewrite'::regclass, w.oid, 0
  from relations as r join pg_rewrite as w on r.kind = 'rule' and w.ev_class = r.oid and w.rulename = r.name
  union all
  select y.number, 'pg_class'::regclass, a.attrelid, a.attnum::int
  from types as y
  join pg_attribute as a on y.kind = 'attribute' and a.attrelid = y.typrelid and a.attname = y.name::name and not a.attisdropped
  union all
  select y.number, 'pg_enum'::regclass, e.oid, 0
  from types as y join pg_enum as e on y.kind = 'enum_value' and e.enumtypid = y.oid and e.enumlabel = y.name::name
  union all
  select y.number, 'pg_constraint'::regclass, o.oid, 0
  from types as y join pg_constraint as o on y.kind = 'domain_constraint' and o.contypid = y.oid and o.conname = y.name::name
$$;
comment on function migration_guard.touched_members(migration_guard.touch[]) is
  'The columns, constraints, triggers, policies, rules, attributes and enum values that the touches name.';

create function migration_guard.touched_others(touches migration_guard.touch[])
returns table (number int, classid oid, objid oid, objsubid int)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select t.number, 'pg_namespace'::regclass::oid, n.oid, 0
  from unnest(touches) as t join pg_namespace as n on t.kind = 'schema' and t.contents is null and n.nspname = t.name::name
  union all
  select t.number, 'pg_extension'::regclass, e.oid, 0
  from unnest(touches) as t join pg_extension as e on t.kind = 'extension' and e.extname = t.name::name
  union all
  select t.number, 'pg_publication'::regclass, p.oid, 0
  from unnest(touches) as t join pg_publication as p on t.kind = 'publication' and p.pubname = t.name::name
  union all
  select t.number, 'pg_publication_rel'::regclass, m.oid, 0
  from unnest(touches) as t
  join pg_publication as p on t.kind = 'publication' and p.pubname = t.name::name
  join pg_publication_rel as m on m.prpubid = p.oid
  union all
  select t.number, 'pg_statistic_ext'::regclass, s.oid, 0
  from unnest(touches) as t
  join pg_statistic_ext as s on t.kind = 'statistics' and s.stxname = t.name::name
  join pg_namespace as n on n.oid = s.stxnamespace and n.nspname = any (t.schemas)
  union all
  -- All that is in a schema: for `drop` and `rename` of the schema, and for `grant … on all tables in schema`.
  select t.number, m.classid, m.objid, 0
  from unnest(touches) as t
  join pg_namespace as n on t.kind = 'schema' and n.nspname = t.name::name
  join pg_depend as m on m.refclassid = 'pg_namespace'::regclass and m.refobjid = n.oid and m.deptype = 'n'
  left join pg_class as c on m.classid = 'pg_class'::regclass and c.oid = m.objid
  where (t.contents is null and t.action in ('drop', 'rename'))
    or (t.contents = 'table' and c.relkind in ('r', 'p', 'v', 'm', 'f'))
    or (t.contents = 'sequence' and c.relkind = 'S')
    or (t.contents in ('function', 'procedure', 'routine') and m.classid = 'pg_proc'::regclass)
$$;
comment on function migration_guard.touched_others(migration_guard.touch[]) is
  'The schemas, extensions, publications and statistics that the touches name, and what is in a schema as a whole.';

create function migration_guard.touched_outside(touches migration_guard.touch[])
returns table (number int, classid oid, objid oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with named (kind, name, namespace, arguments, classid, oid) as (
    select 'collation', o.collname, o.collnamespace, null::text, o.tableoid, o.oid from pg_collation as o
    union all select 'conversion', o.conname, o.connamespace, null, o.tableoid, o.oid from pg_conversion as o
    union all select 'operator', o.oprname, o.oprnamespace, concat_ws(' ', nullif(o.oprleft, 0), nullif(o.oprright, 0)), o.tableoid, o.oid
      from pg_operator as o
    union all select 'operator_class', o.opcname, o.opcnamespace, null, o.tableoid, o.oid from pg_opclass as o
    union all select 'operator_family', o.opfname, o.opfnamespace, null, o.tableoid, o.oid from pg_opfamily as o
    union all select 'text_search_configuration', o.cfgname, o.cfgnamespace, null, o.tableoid, o.oid from pg_ts_config as o
    union all select 'text_search_dictionary', o.dictname, o.dictnamespace, null, o.tableoid, o.oid from pg_ts_dict as o
    union all select 'text_search_parser', o.prsname, o.prsnamespace, null, o.tableoid, o.oid from pg_ts_parser as o
    union all select 'text_search_template', o.tmplname, o.tmplnamespace, null, o.tableoid, o.oid from pg_ts_template as o
    union all select 'access_method', o.amname, null, null, o.tableoid, o.oid from pg_am as o
    union all select 'foreign_data_wrapper', o.fdwname, null, null, o.tableoid, o.oid from pg_foreign_data_wrapper as o
    union all select 'language', o.lanname, null, null, o.tableoid, o.oid from pg_language as o
    union all select 'server', o.srvname, null, null, o.tableoid, o.oid from pg_foreign_server as o
    -- A cast has no name but its types.
    union all select 'cast', '', null, concat_ws(' ', o.castsource, o.casttarget), o.tableoid, o.oid from pg_cast as o
  )
  select s.number, s.classid, s.oid
  from (
    select t.number, o.classid, o.oid, p.place, min(p.place) over (partition by t.number) as first_place
    from unnest(touches) as t
    join named as o on o.kind = t.kind and o.name = t.name::name
      and (t.signature is null or o.arguments = migration_guard.touched_arguments(t.signature))
    left join pg_namespace as n on n.oid = o.namespace
    cross join lateral (
      select case when o.namespace is null then 1 else array_position(t.schemas, n.nspname::text) end as place) as p
    where p.place is not null
  ) as s
  where s.place = s.first_place
$$;
comment on function migration_guard.touched_outside(migration_guard.touch[]) is
  'The objects that the touches name of the kinds that no backup holds, but that others may depend on.';

create function migration_guard.touched_objects(touches migration_guard.touch[]) returns setof migration_guard.derived
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select f.number, t.statement, f.classid, f.objid, f.objsubid
  from (
    select r.number, 'pg_class'::regclass::oid as classid, r.oid as objid, 0 as objsubid from migration_guard.touched_relations(touches) as r
    union all
    select y.number, 'pg_type'::regclass, y.oid, 0 from migration_guard.touched_types(touches) as y
    union all
    select p.number, 'pg_proc'::regclass, p.oid, 0 from migration_guard.touched_routines(touches) as p
    union all
    select m.number, m.classid, m.objid, m.objsubid from migration_guard.touched_members(touches) as m
    union all
    select o.number, o.classid, o.objid, o.objsubid from migration_guard.touched_others(touches) as o
    union all
    select e.number, e.classid, e.objid, 0 from migration_guard.touched_outside(touches) as e
  ) as f
  join unnest(touches) as t on t.number = f.number and t.action <> 'call'
$$;
comment on function migration_guard.touched_objects(migration_guard.touch[]) is
  'The objects that the touches name, members with the relation or type that they belong to.';

-- What a change of them reaches --------------------------------------------------------------------------------------

create function migration_guard.derived_dependents(touches migration_guard.touch[], found migration_guard.derived[])
returns table (number int, dropped boolean, classid oid, objid oid, objsubid int)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive starts as (
    select min(f.number) as number, t.cascade as deep, t.cascade and t.action = 'drop' as dropped, f.classid, f.objid, f.objsubid
    from unnest(found) as f
    join unnest(touches) as t on t.number = f.number
    where
      -- A member stands for itself; its relation is not what is renamed or dropped.
      (t.action in ('rename', 'drop') and (t.kind not in ('column', 'constraint', 'trigger', 'policy', 'rule')
        or f.objsubid > 0 or f.classid <> 'pg_class'::regclass)
        -- Nothing shows or mentions the names of these but the text of functions.
        and not (t.action = 'rename'
          and t.kind in ('index', 'sequence', 'constraint', 'domain_constraint', 'trigger', 'policy', 'rule', 'statistics')))
      or (t.action in ('create', 'alter') and f.classid in ('pg_type'::regclass, 'pg_proc'::regclass))
    group by deep, dropped, f.classid, f.objid, f.objsubid
  ), reached (number, deep, dropped, classid, objid, objsubid, goes_on) as (
    select s.number, s.deep, s.dropped, s.classid, s.objid, s.objsubid, true from starts as s
    union
    select r.number, r.deep, r.dropped, x.classid, x.objid, x.objsubid, x.goes_on
    from reached as r
    join pg_depend as d
      on d.refclassid = r.classid and d.refobjid = r.objid and (r.objsubid = 0 or d.refobjsubid = r.objsubid)
    cross join lateral (
      -- Types are used by other types; anything else matters further on only where `cascade` drops it.
      select d.classid, d.objid, d.objsubid, r.deep or d.classid = 'pg_type'::regclass as goes_on
      union all
      select 'pg_class'::regclass, c.oid, 0, c.relkind in ('v', 'm')
      from pg_rewrite as w join pg_class as c on c.oid = w.ev_class
      where d.classid = 'pg_rewrite'::regclass and w.oid = d.objid
      union all
      select 'pg_type'::regclass, c.reltype, 0, true
      from pg_class as c where d.classid = 'pg_class'::regclass and c.oid = d.objid and c.relkind = 'c'
    ) as x
    where r.goes_on
  )
  select distinct on (r.classid, r.objid, r.objsubid, r.dropped) r.number, r.dropped, r.classid, r.objid, r.objsubid
  from reached as r
  order by r.classid, r.objid, r.objsubid, r.dropped, r.number
$$;
comment on function migration_guard.derived_dependents(migration_guard.touch[], migration_guard.derived[]) is
  'What depends on objects that a migration renames, drops or defines anew; dropped where cascade drops the dependents, too.';

create function migration_guard.derived_writes(touches migration_guard.touch[], found migration_guard.derived[])
returns table (number int, statement text, oid oid, is_heir boolean, reason text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive written (number, statement, oid, is_heir, reason) as (
    select t.number, case when t.cascade then 'TRUNCATE CASCADE' else t.statement end, f.objid, false, null::text
    from unnest(found) as f
    join unnest(touches) as t on t.number = f.number and t.action = 'data'
    where f.classid = 'pg_class'::regclass
    union
    select w.number, x.statement, x.oid, x.is_heir, x.reason collate "default"
    from written as w
    cross join lateral (
      -- Rows of partitions and heirs are the parent's, too, but none is inserted into an heir.
      select w.statement, i.inhrelid as oid, true as is_heir, format('its rows are rows of %s', i.inhparent::regclass) as reason
      from pg_inherits as i
      join pg_class as c on c.oid = i.inhparent
        and (c.relkind = 'p' or (c.relkind in ('r', 'f')
          and w.statement not in ('INSERT', 'COPY … FROM', 'INSERT … ON CONFLICT DO UPDATE')))
      where i.inhparent = w.oid
      union all
      -- A foreign key passes changes on to the rows that refer to a changed one.
      select
        case when w.statement = 'TRUNCATE CASCADE' then w.statement when o.confdeltype = 'c' then 'DELETE' else 'UPDATE' end,
        o.conrelid, false, format('its foreign key %I follows changes of %s', o.conname, o.confrelid::regclass)
      from pg_constraint as o
      left join pg_constraint as p on p.oid = o.conparentid
      -- A partition has its parent's foreign key once more.
      where o.contype = 'f' and o.confrelid = w.oid and p.confrelid is distinct from o.confrelid and (
        w.statement = 'TRUNCATE CASCADE'
        or (w.statement in ('DELETE', 'MERGE') and o.confdeltype in ('c', 'n', 'd'))
        or (w.statement in ('UPDATE', 'MERGE', 'INSERT … ON CONFLICT DO UPDATE') and o.confupdtype in ('c', 'n', 'd'))
      )
      union all
      -- Rows that are written to a view are its tables'; other rules write where and what they like.
      select case r.rulename when '_RETURN' then w.statement else 'MERGE' end,
        d.refobjid, false, format('what is written to %s may reach it by rule %I', w.oid::regclass, r.rulename)
      from pg_rewrite as r
      join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
      join pg_class as v on v.oid = r.ev_class and (v.relkind = 'v' or r.rulename <> '_RETURN')
      where r.ev_class = w.oid and d.refobjid <> w.oid
    ) as x
  )
  select w.number, w.statement, w.oid, w.is_heir, w.reason from written as w
$$;
comment on function migration_guard.derived_writes(migration_guard.touch[], migration_guard.derived[]) is
  'Each relation that a migration writes to, and how: as the file says (then without a reason), as a partition or an heir
of one, by foreign keys, through views and by rules.';

create function migration_guard.derived_rows(touches migration_guard.touch[], found migration_guard.derived[])
returns setof migration_guard.derived
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select w.number, w.reason, 'pg_class'::regclass::oid, w.oid, 0
  from migration_guard.derived_writes(touches, found) as w
  -- The rows of a partition are planned with its root; heirs come with their parents in any case.
  where w.reason is not null and not w.is_heir
$$;
comment on function migration_guard.derived_rows(migration_guard.touch[], migration_guard.derived[]) is
  'Tables whose rows change with those of the tables that a migration writes to: by foreign keys, through views and by rules.';

create function migration_guard.derived_mentions(
  touches migration_guard.touch[], found migration_guard.derived[], schema_name text
)
returns setof migration_guard.derived
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with names as (
    select t.number, t.name from unnest(touches) as t
    where t.action in ('rename', 'drop') and exists (select from unnest(found) as f where f.number = t.number)
    union
    select d.number, case d.classid
      when 'pg_class'::regclass then (
        select coalesce(a.attname, c.relname)
        from pg_class as c left join pg_attribute as a on a.attrelid = c.oid and a.attnum = d.objsubid and d.objsubid > 0
        where c.oid = d.objid and c.relkind <> 'i')
      when 'pg_proc'::regclass then (select p.proname from pg_proc as p where p.oid = d.objid)
      when 'pg_type'::regclass then (select y.typname from pg_type as y where y.oid = d.objid)
    end
    from migration_guard.derived_dependents(touches, found) as d where d.dropped
  ), patterns as (
    select w.number, w.name, w.word, format('(^|[^[:alnum:]_$])%s($|[^[:alnum:]_$])', w.word) as pattern,
      -- What needs quotes is written in one way, anything else in any case, but not in quotes.
      w.name ~ '^[a-z_][a-z0-9_$]*$' as any_case
    from (
      select min(n.number) as number, n.name, regexp_replace(n.name, '([!-/:-@\[-^`{-~])', '\\\1', 'g') as word
      from names as n where n.name <> ''
      group by n.name
    ) as w
  )
  select m.number, format('its body mentions %s', m.name), 'pg_proc'::regclass::oid, m.oid, 0
  from (
    select distinct on (p.oid) p.oid, x.number, x.name
    from pg_proc as p
    join patterns as x on p.prosrc ~ x.pattern
      or (x.any_case and regexp_replace(p.prosrc, format('"%s"', x.word), '', 'gi') ~* x.pattern)
    where p.pronamespace = (select n.oid from pg_namespace as n where n.nspname = schema_name)
    order by p.oid, x.number
  ) as m
$$;
comment on function migration_guard.derived_mentions(migration_guard.touch[], migration_guard.derived[], text) is
  'Functions of a schema whose bodies mention, as a word, what a migration renames or drops: they break when they are called.';

create function migration_guard.derived_owner(classid oid, objid oid) returns oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case classid
    when 'pg_class'::regclass then (
      select case c.relkind
        when 'i' then (select i.indrelid from pg_index as i where i.indexrelid = c.oid)
        when 'I' then (select i.indrelid from pg_index as i where i.indexrelid = c.oid)
        when 'S' then (
          select d.refobjid from pg_depend as d
          where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
          limit 1)
        else c.oid
      end
      from pg_class as c where c.oid = derived_owner.objid)
    when 'pg_attrdef'::regclass then (select a.adrelid from pg_attrdef as a where a.oid = derived_owner.objid)
    when 'pg_constraint'::regclass then (select nullif(o.conrelid, 0) from pg_constraint as o where o.oid = derived_owner.objid)
    when 'pg_trigger'::regclass then (select g.tgrelid from pg_trigger as g where g.oid = derived_owner.objid)
    when 'pg_policy'::regclass then (select p.polrelid from pg_policy as p where p.oid = derived_owner.objid)
    when 'pg_rewrite'::regclass then (select w.ev_class from pg_rewrite as w where w.oid = derived_owner.objid)
    when 'pg_statistic_ext'::regclass then (select s.stxrelid from pg_statistic_ext as s where s.oid = derived_owner.objid)
    when 'pg_publication_rel'::regclass then (select m.prrelid from pg_publication_rel as m where m.oid = derived_owner.objid)
  end
$$;
comment on function migration_guard.derived_owner(oid, oid) is
  'The relation that an object belongs to, a relation itself included; null for what belongs to none.';

create function migration_guard.derived_relatives(found migration_guard.derived[]) returns setof migration_guard.derived
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive owners as (
    select min(f.number) as number, o.oid
    from unnest(found) as f
    cross join lateral (select migration_guard.derived_owner(f.classid, f.objid) as oid) as o
    where o.oid is not null
    group by o.oid
  ), relatives (number, oid, reason) as (
    select o.number, o.oid, null::text from owners as o
    union
    select r.number, x.oid, x.reason
    from relatives as r
    cross join lateral (
      -- The rows of a partitioned table are its partitions', those of an heir its own.
      select i.inhparent as oid, format('%s is a partition of it', r.oid::regclass) as reason
      from pg_inherits as i join pg_class as c on c.oid = i.inhparent and c.relkind = 'p'
      where i.inhrelid = r.oid
      union all
      select i.inhrelid, format('it inherits from %s', r.oid::regclass)
      from pg_inherits as i join pg_class as c on c.oid = i.inhparent and c.relkind in ('r', 'f')
      where i.inhparent = r.oid
    ) as x
  )
  select r.number, coalesce(r.reason, 'something of it is touched'), 'pg_class'::regclass::oid, r.oid, 0 from relatives as r
$$;
comment on function migration_guard.derived_relatives(migration_guard.derived[]) is
  'The relations that objects belong to, with the partitioned tables of partitions and the heirs of parents.';

create function migration_guard.derive_objects(touches migration_guard.touch[], schema_name text)
returns migration_guard.derived[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  found migration_guard.derived[] := array(select f from migration_guard.touched_objects(touches) as f);
begin
  found := found
    || array(
      select row(d.number, case when d.dropped then 'dropped with ' else 'depends on ' end || t.name, d.classid, d.objid, d.objsubid)::migration_guard.derived
      from migration_guard.derived_dependents(touches, found) as d
      join unnest(touches) as t on t.number = d.number
      -- What an extension has made is the extension's.
      where not exists (
        select from pg_depend as e where e.classid = d.classid and e.objid = d.objid and e.deptype = 'e'))
    || array(select m from migration_guard.derived_mentions(touches, found, schema_name) as m)
    || array(select r from migration_guard.derived_rows(touches, found) as r);
  found := found || array(select r from migration_guard.derived_relatives(found) as r);
  -- The enum that a value belongs to is there already, the enum of an array is not.
  return array(
    select row(s.number, s.reason, s.classid, s.objid, s.objsubid)::migration_guard.derived
    from (
      select distinct on (f.classid, f.objid, f.objsubid) f.number, f.reason, f.classid, f.objid, f.objsubid, f.position
      from unnest(found) with ordinality as f (number, reason, classid, objid, objsubid, position)
      order by f.classid, f.objid, f.objsubid, f.number, f.position
    ) as s
    order by s.number, s.position
  );
end
$$;
comment on function migration_guard.derive_objects(migration_guard.touch[], text) is
  'Every object that a migration touches or that a change of it reaches, once, with the first touch that leads there.';

-- What is to be said of them ------------------------------------------------------------------------------------------

create function migration_guard.show_derived(found migration_guard.derived[])
returns table (number int, reason text, classid oid, objid oid, kind text, schema_name text, name text, identity text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select f.number, f.reason, f.classid, f.objid,
    case
      when f.classid = 'pg_enum'::regclass then 'enum_value'
      when f.classid = 'pg_class'::regclass and f.objsubid > 0 then case c.relkind when 'c' then 'attribute' else 'column' end
      when f.classid = 'pg_class'::regclass then case c.relkind
        when 'r' then 'table' when 'p' then 'table' when 'f' then 'foreign_table' when 'v' then 'view'
        when 'm' then 'materialized_view' when 'S' then 'sequence' when 'c' then 'composite_type' else 'index' end
      when f.classid = 'pg_type'::regclass then case y.typtype
        when 'e' then 'enum' when 'd' then 'domain' when 'c' then 'composite_type' when 'r' then 'range_type' else 'type' end
      when f.classid = 'pg_proc'::regclass then case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end
      when f.classid = 'pg_constraint'::regclass and i.type = 'domain constraint' then 'domain_constraint'
      when f.classid = 'pg_constraint'::regclass then 'constraint'
      else translate(i.type, ' -', '__')
    end,
    coalesce(n.nspname, i.schema), coalesce(c.relname, y.typname, p.proname, i.name),
    case when e.oid is null then i.identity else format('%L of %s', e.enumlabel, e.enumtypid::regtype) end
  from unnest(found) as f
  left join pg_enum as e on f.classid = 'pg_enum'::regclass and e.oid = f.objid
  -- Postgres has no name for a value of an enum.
  cross join lateral pg_identify_object(
    case when e.oid is null then f.classid else 'pg_type'::regclass end, coalesce(e.enumtypid, f.objid), f.objsubid) as i
  left join pg_class as c on f.classid = 'pg_class'::regclass and c.oid = f.objid
  left join pg_type as y on f.classid = 'pg_type'::regclass and y.oid = f.objid
  left join pg_proc as p on f.classid = 'pg_proc'::regclass and p.oid = f.objid
  left join pg_namespace as n on n.oid = coalesce(c.relnamespace, y.typnamespace, p.pronamespace,
    (select r.relnamespace from pg_class as r where r.oid = migration_guard.derived_owner(f.classid, f.objid)))
  -- A table's own type, an array's and a toast table with its index say nothing that the table, the element and the
  -- column do not.
  where coalesce(n.nspname, '') !~ '^pg_toast'
    and (y.oid is null or (y.typtype <> 'p' and y.typelem = 0 and not exists (
      select from pg_class as r where r.oid = y.typrelid and r.relkind <> 'c')))
    and not (coalesce(c.relkind, 'r') = 'c' and f.objsubid = 0)
    and f.classid not in ('pg_attrdef'::regclass)
    and not exists (select from pg_rewrite as w where f.classid = 'pg_rewrite'::regclass and w.oid = f.objid and w.rulename = '_RETURN')
    -- Postgres makes and drops the constructors of a range with it.
    and not exists (
      select from pg_depend as d
      where f.classid = 'pg_proc'::regclass and d.classid = f.classid and d.objid = f.objid and d.deptype = 'i')
    and not exists (select from pg_trigger as g where f.classid = 'pg_trigger'::regclass and g.oid = f.objid and g.tgisinternal)
$$;
comment on function migration_guard.show_derived(migration_guard.derived[]) is
  'Derived objects, as the API shows them: kind, schema, name and identity.';

create function migration_guard.derived_call_warnings(touches migration_guard.touch[])
returns table (line int, code text, statement text, detail text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select t.line, 'effect_unknown', t.statement,
    format('It calls %s: what that changes is not known before it runs. Name it in the plan by yourself.', t.name)
  from unnest(touches) as t
  where t.action = 'call' and not (
    exists (
      select from pg_proc as p
      where p.proname = t.name::name and p.pronamespace = 'pg_catalog'::regnamespace and 'pg_catalog' = any (t.schemas))
    and not exists (
      select from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
      where p.proname = t.name::name and n.nspname = any (t.schemas)
        and (n.nspname <> 'pg_catalog' or p.provolatile = 'v')
        -- Volatile, and yet they change nothing in a schema.
        and not (n.nspname = 'pg_catalog' and p.proname in (
          'random', 'random_normal', 'setseed', 'clock_timestamp', 'timeofday', 'gen_random_uuid', 'uuidv4', 'uuidv7',
          'pg_sleep', 'pg_sleep_for', 'pg_sleep_until', 'currval', 'lastval', 'txid_current', 'pg_current_xact_id',
          'pg_notify', 'pg_advisory_lock', 'pg_advisory_xact_lock', 'pg_try_advisory_lock', 'pg_try_advisory_xact_lock',
          'pg_advisory_unlock', 'pg_advisory_unlock_all'))))
$$;
comment on function migration_guard.derived_call_warnings(migration_guard.touch[]) is
  'A warning for each function that a migration calls, but those of Postgres that change nothing.';

create function migration_guard.derived_run_warnings(touches migration_guard.touch[])
returns table (line int, code text, statement text, detail text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive written as materialized (
    select distinct w.number, w.statement, w.oid
    from migration_guard.derived_writes(touches, array(select o from migration_guard.touched_objects(touches) as o)) as w
    where not w.is_heir
  ), queried (number, oid) as (
    select w.number, w.oid from written as w
    union
    select q.number, v.oid
    from queried as q
    join pg_rewrite as r on r.ev_class = q.oid
    join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
    join pg_class as v on v.oid = d.refobjid and v.relkind = 'v'
  ), sources (number, classid, objid, place) as (
    select q.number, 'pg_rewrite'::regclass::oid, r.oid, format(case r.rulename when '_RETURN' then '%s' else 'a rule of %s' end, q.oid::regclass)
    from queried as q join pg_rewrite as r on r.ev_class = q.oid
    union all
    select w.number, 'pg_attrdef'::regclass, a.oid, format('a default of %s', w.oid::regclass)
    from written as w
    join pg_attrdef as a on a.adrelid = w.oid
    where w.statement in ('INSERT', 'INSERT … ON CONFLICT DO UPDATE', 'COPY … FROM', 'MERGE')
    union all
    select w.number, 'pg_constraint'::regclass, o.oid, format('a check of %s', w.oid::regclass)
    from written as w
    join pg_constraint as o on o.conrelid = w.oid and o.contype = 'c'
    where w.statement <> 'DELETE' and w.statement not like 'TRUNCATE%'
  )
  select t.line, 'effect_unknown', t.statement,
    format('It runs %s (%s): what that changes is not known before it runs. Name it in the plan by yourself.',
      p.oid::regprocedure, string_agg(distinct s.place, ', '))
  from sources as s
  join unnest(touches) as t on t.number = s.number
  join pg_depend as d on d.classid = s.classid and d.objid = s.objid and d.refclassid = 'pg_proc'::regclass
  join pg_proc as p on p.oid = d.refobjid and p.provolatile = 'v' and p.pronamespace <> 'pg_catalog'::regnamespace
  -- Volatile, and yet they change nothing.
  where not exists (
    select from pg_depend as m
    join pg_extension as e on e.oid = m.refobjid and e.extname in ('uuid-ossp', 'pgcrypto')
    where m.classid = 'pg_proc'::regclass and m.objid = p.oid and m.refclassid = 'pg_extension'::regclass and m.deptype = 'e')
  group by t.number, t.line, t.statement, p.oid
$$;
comment on function migration_guard.derived_run_warnings(migration_guard.touch[]) is
  'A warning for each volatile function that runs when a migration writes to a table, a view or a materialized view: one of
its query, of a rule, a default or a check.';

create function migration_guard.derived_trigger_warnings(touches migration_guard.touch[])
returns table (line int, code text, statement text, detail text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select t.line, 'triggers_fire', t.statement,
    format('It fires triggers of %s (%s): what their functions change is not known before they run.', w.oid::regclass,
      string_agg(distinct format('%I', g.tgname), ', '))
  from migration_guard.derived_writes(touches, array(select o from migration_guard.touched_objects(touches) as o)) as w
  join unnest(touches) as t on t.number = w.number
  join pg_class as c on c.oid = w.oid
  join pg_trigger as g on g.tgrelid = w.oid and not g.tgisinternal and g.tgenabled in ('O', 'A')
    -- A partition has its parent's triggers once more, and its own ones for a whole statement fire when it is named.
    and (not w.is_heir or (g.tgparentid = 0 and (g.tgtype & 1 = 1 or w.statement like 'TRUNCATE%')))
  -- Bits of tgtype: row 1, insert 4, delete 8, update 16, truncate 32.
  where (g.tgtype & case
    when w.statement in ('INSERT', 'COPY … FROM') then 4
    when w.statement = 'INSERT … ON CONFLICT DO UPDATE' then 20
    -- A row that moves to another partition is deleted and inserted.
    when w.statement = 'UPDATE' and not (w.is_heir and c.relispartition) then 16
    when w.statement = 'DELETE' then 8
    when w.statement in ('TRUNCATE', 'TRUNCATE CASCADE') then 32
    else 28
  end) <> 0
  group by t.number, t.line, t.statement, w.oid
$$;
comment on function migration_guard.derived_trigger_warnings(migration_guard.touch[]) is
  'A warning for each table whose triggers fire when a migration writes to it, its partitions and heirs included.';

create function migration_guard.derived_missing_warnings(touches migration_guard.touch[])
returns table (line int, code text, statement text, detail text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select t.line, o.code, t.statement,
    case
      when o.code = 'effect_unknown' then format(
        'The %s was not found: what cascade drops with it is not known here.', concat_ws(' ', replace(t.kind, '_', ' '), nullif(t.name, '')))
      when t.parent is not null then format('There is no %s %I of %I', replace(t.kind, '_', ' '), t.name, t.parent)
      else format('There is no %s %I', replace(t.kind, '_', ' '), t.name)
    end
    || case
      when o.code = 'effect_unknown' then ''
      when t.kind in ('schema', 'extension', 'publication') then '.'
      else format(' in %s, and the file does not make one.', array_to_string(array_remove(t.schemas, 'pg_catalog'), ', '))
    end
  from unnest(touches) as t
  -- What a file makes of these kinds, or how some are named, is not read.
  cross join lateral (
    select case
      when t.kind in ('access_method', 'cast', 'collation', 'conversion', 'event_trigger', 'foreign_data_wrapper', 'language',
        'server', 'transform') or t.kind like 'operator%' or t.kind like 'text_search%' then 'effect_unknown'
      else 'not_found'
    end as code
  ) as o
  where not t.optional and t.action <> 'call'
    -- A value or a column that is added is not there yet.
    and t.action <> 'create'
    and not exists (
      select from migration_guard.touched_members(touches) as m where m.number = t.number
      union all
      select from migration_guard.touched_others(touches) as o where o.number = t.number
      union all
      select from migration_guard.touched_outside(touches) as e where e.number = t.number
      union all
      select from migration_guard.touched_routines(touches) as r where r.number = t.number
      union all
      select from migration_guard.touched_relations(touches) as c where c.number = t.number and t.parent is null
      union all
      select from migration_guard.touched_types(touches) as y where y.number = t.number and t.parent is null)
    and not (t.kind = 'schema' and t.contents is not null
      and exists (select from pg_namespace as n where n.nspname = t.name::name))
$$;
comment on function migration_guard.derived_missing_warnings(migration_guard.touch[]) is
  'A warning for each name that neither the catalog knows nor the migration itself has made.';

create function migration_guard.derived_schema_warnings(
  touches migration_guard.touch[], found migration_guard.derived[], schema_name text
)
returns table (line int, code text, statement text, detail text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with shown as materialized (
    select d.* from migration_guard.show_derived(found) as d where d.schema_name is not null
  ), others as (
    select d.schema_name as schema, min(d.number) as number,
      string_agg(distinct format('%s %s', replace(d.kind, '_', ' '), d.identity), ', ') as names
    from shown as d where d.schema_name <> derived_schema_warnings.schema_name
    group by d.schema_name
  )
  select t.line, 'other_schema', t.statement,
    format('A plan has one schema. These are in %I, not in %I: %s.', o.schema, derived_schema_warnings.schema_name, o.names)
  from others as o join unnest(touches) as t on t.number = o.number
  union all
  select null, 'wrong_schema', '', format('Everything that the file touches is in %1$I: ask with schema=%1$s.', min(o.schema))
  from others as o
  where not exists (select from shown as d where d.schema_name = derived_schema_warnings.schema_name)
  having count(*) = 1 and not migration_guard.is_reserved_schema(min(o.schema))
$$;
comment on function migration_guard.derived_schema_warnings(migration_guard.touch[], migration_guard.derived[], text) is
  'A warning for each schema besides the plan''s in which something is touched, and one when all is in another.';

create function migration_guard.derived_unplanned_warnings(
  touches migration_guard.touch[], found migration_guard.derived[], schema_name text
)
returns table (line int, code text, statement text, detail text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select t.line, 'not_in_plan', t.statement,
    format('A plan cannot name the %s %s: note by yourself what it was before.', replace(d.kind, '_', ' '), d.identity)
  from migration_guard.show_derived(found) as d
  join unnest(touches) as t on t.number = d.number
  where d.schema_name = derived_unplanned_warnings.schema_name and d.kind = 'foreign_table'
  union all
  select null, o.said[1], '', o.said[2]
  from (
    select case count(d.kind)
      when 0 then array['nothing_touched',
        format('Nothing was found in %I that the file touches. If no other warning says that it may, there is nothing to back up.',
          derived_unplanned_warnings.schema_name)]
      else array['empty_plan', format('The file touches nothing in %I that a plan can name: no table, no enum, no function.',
        derived_unplanned_warnings.schema_name)]
    end as said
    from migration_guard.show_derived(found) as d
    where d.schema_name = derived_unplanned_warnings.schema_name
    having count(d.kind) filter (where d.kind in ('table', 'enum', 'function', 'procedure', 'aggregate')) = 0
  ) as o
$$;
comment on function migration_guard.derived_unplanned_warnings(migration_guard.touch[], migration_guard.derived[], text) is
  'A warning for each object that a plan cannot name, and one when there is nothing that it can.';

-- The plan ------------------------------------------------------------------------------------------------------------

create function migration_guard.derived_plan(found migration_guard.derived[], schema_name text) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with names as (
    select distinct d.kind, case
      when d.classid = 'pg_proc'::regclass then format('%s(%s)', d.name, (
        select replace(oidvectortypes(p.proargtypes), format('%I.', derived_plan.schema_name), '')
        from pg_proc as p where p.oid = d.objid))
      else d.name
    end as name
    from migration_guard.show_derived(found) as d
    where d.schema_name = derived_plan.schema_name
  )
  select jsonb_build_object(
    'schema', derived_plan.schema_name,
    'tables', coalesce(jsonb_agg(n.name order by n.name) filter (where n.kind = 'table'), '[]'),
    'enums', coalesce(jsonb_agg(n.name order by n.name) filter (where n.kind = 'enum'), '[]'),
    'functions', coalesce(jsonb_agg(n.name order by n.name) filter (where n.kind in ('function', 'procedure', 'aggregate')), '[]'))
  from names as n
$$;
comment on function migration_guard.derived_plan(migration_guard.derived[], text) is
  'The plan that names the derived objects of a schema, in the form that put_plan takes.';

create function migration_guard.derive_plan(version text, schema_name text, touches jsonb) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  normalized constant text := migration_guard.normalize_version(version);
  read constant migration_guard.touch[] := migration_guard.read_touches(touches, schema_name);
  found constant migration_guard.derived[] := migration_guard.derive_objects(read, schema_name);
begin
  perform migration_guard.assert_schema_plannable(schema_name);
  if not exists (select from pg_namespace as n where n.nspname = schema_name) then
    perform migration_guard.fail('objects_not_found', format('There is no schema %s.', schema_name),
      jsonb_build_object('errors', jsonb_build_array(jsonb_build_object('kind', 'schema', 'name', schema_name))));
  end if;
  return jsonb_build_object(
    'version', normalized,
    'plan', migration_guard.derived_plan(found, schema_name),
    'objects', (
      select coalesce(jsonb_agg(o.object order by o.kind, o.identity), '[]')
      from (
        select distinct on (d.kind, d.identity) d.kind, d.identity, jsonb_build_object(
          'kind', d.kind, 'identity', d.identity, 'reason', d.reason, 'line', t.line) as object
        from migration_guard.show_derived(found) as d
        join unnest(read) as t on t.number = d.number
        where d.schema_name is null or d.schema_name = derive_plan.schema_name
        order by d.kind, d.identity, d.number
      ) as o),
    'warnings', (
      select coalesce(jsonb_agg(distinct to_jsonb(w)), '[]')
      from (
        select * from migration_guard.derived_call_warnings(read)
        union all
        select * from migration_guard.derived_missing_warnings(read)
        union all
        select * from migration_guard.derived_run_warnings(read)
        union all
        select * from migration_guard.derived_trigger_warnings(read)
        union all
        select * from migration_guard.derived_schema_warnings(read, found, schema_name)
        union all
        select * from migration_guard.derived_unplanned_warnings(read, found, schema_name)
      ) as w));
end
$$;
comment on function migration_guard.derive_plan(text, text, jsonb) is
  'The plan that a migration needs, from what its statements touch: the plan, every object with the reason why it is in
it, and what cannot be answered for. Raises invalid_version, invalid_parameter, or for the schema invalid_plan or
objects_not_found.';
