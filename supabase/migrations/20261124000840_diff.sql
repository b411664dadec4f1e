-- Chapter 8, continued. The diff of a backup and what is live: the rows of each copied table, and the job that tells them
-- beside the objects of the chapter before.

create type migration_guard.paired_column as (
  -- In the copy.
  number int,
  name text,
  type text,
  stored_type text,
  -- Live; null where it is gone.
  live_attnum int,
  live_name text,
  live_type text,
  live_stored_type text,
  -- An expression over a live row r.
  live_value text,
  -- Whether it reads as it does as long as its row is not written anew: see stored_columns.
  is_lasting boolean,
  is_retyped boolean,
  is_relabelled boolean,
  is_opaque boolean
);
comment on type migration_guard.paired_column is
  'A column of a copy and the live one that it is now, with an expression that reads as the backup would have stored it. Opaque
is what hides an enum of other labels in a composite, a range or arrays in arrays.';

create type migration_guard.table_pair as (
  source_schema text,
  source_table text,
  backup_table text,
  row_count bigint,
  checksum text,
  -- How each column was stored, in the order of the copy, and the attribute number that it has live, if any.
  columns jsonb,
  -- {is_primary, columns} of each key that the table had, the primary one first.
  keys jsonb,
  -- The label that each live enum value had, by its OID.
  labels jsonb,
  -- The file that the table was in.
  filenode oid,
  -- The live table, or null.
  live oid,
  matched_by text,
  -- Where it has been looked at: the columns of the copy beside its own, the names of those that are in no copy, and the query
  -- that reads it in the form of the backup.
  paired migration_guard.paired_column[],
  new_columns text[],
  projection text,
  -- The sizes of both, by which progress is told.
  live_bytes bigint,
  copy_bytes bigint
);
comment on type migration_guard.table_pair is 'A copied table and the live one that it is now.';

create function migration_guard.key_columns(definition text) returns text[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return (
    -- What looks like capitals without quotes is no name.
    select array_agg(case when c.token[1] like '"%' then replace(substr(c.token[1], 2, length(c.token[1]) - 2), '""', '"') else c.token[1] end
      order by c.position)
    from regexp_matches(
      substring(definition from '^(?:PRIMARY KEY|UNIQUE(?: NULLS NOT DISTINCT)?) \(((?:"(?:[^"]|"")*"|[^")])*)\)'),
      '"(?:[^"]|"")*"|[^", ]+', 'g') with ordinality as c (token, position)
    where c.token[1] <> all ('{WITHOUT,OVERLAPS}'));
end
$$;
comment on function migration_guard.key_columns(text) is
  'Names of the columns of a primary key or unique constraint as Postgres prints it; null for any other constraint.';

create function migration_guard.table_pairs(schema_name text, compared migration_guard.compared_object[]) returns setof migration_guard.table_pair
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = 'force_generic_plan'
-- How many objects there are is not known to who plans it.
set enable_nestloop = off
as $$
declare
  copied record;
begin
  execute format($query$
    select coalesce(array_agg(t.source_oid), '{}') as oids, array_agg(t.source_schema::text) as schemas, array_agg(t.source_table::text) as names, array_agg(t.backup_table::text) as copies,
      array_agg(t.row_count) as counts, array_agg(t.backup_checksum::text) as checksums, jsonb_agg(t.columns) as columns, array_agg(t.source_filenode) as filenodes
    from (select t.* from %I.tables_backup as t order by t.source_schema, t.source_table) as t
  $query$, schema_name) into copied;
  return query
  -- Of all objects what is looked for below, each once.
  with recorded as materialized (
    select c.old, c.new, (c.old).kind, (c.old).objid, c.matched_by
    from unnest(compared) as c
    where (c.old).kind = 'enum_value' or (c.old).objid in (select o.id from unnest(copied.oids) as o (id))
      or (c.old).kind = 'constraint' and (c.old).parent in (select o.id from unnest(copied.oids) as o (id))
  ),
  matches as materialized (
    select r.objid, (r.old).objsubid, (r.new).objid as live_objid, (r.new).objsubid as live_objsubid, r.matched_by
    from recorded as r
    where r.matched_by is not null and (r.old).classid = 'pg_class'::regclass and (r.new).classid = 'pg_class'::regclass
  ),
  live_columns as (
    select m.objid, m.live_objid, jsonb_object_agg(m.objsubid, m.live_objsubid) as numbers from matches as m where m.objsubid > 0 group by m.objid, m.live_objid
  ),
  keys as (
    select (r.old).parent as table_oid, jsonb_agg(jsonb_build_object('is_primary', k.is_primary, 'columns', k.names)
      order by k.is_primary desc, cardinality(k.names), k.definition) as keys
    from recorded as r
    join unnest(copied.oids, copied.schemas, copied.names) as t (source_oid, source_schema, source_table) on t.source_oid = (r.old).parent
    cross join lateral (
      select substr((r.old).definition, length(format('alter table only %I.%I add constraint %I ', t.source_schema, t.source_table, (r.old).name)) + 1)
    ) as d (definition)
    cross join lateral (select d.definition, starts_with(d.definition, 'PRIMARY KEY') as is_primary, migration_guard.key_columns(d.definition) as names) as k
    where r.kind = 'constraint' and (r.old).parent_classid = 'pg_class'::regclass and d.definition ~ '^(PRIMARY KEY|UNIQUE)' and k.names is not null
    group by (r.old).parent
  ),
  labels as (
    select coalesce(jsonb_object_agg((r.new).objid, (r.old).name), '{}') as labels from recorded as r where r.kind = 'enum_value' and r.matched_by is not null
  )
  select t.source_schema, t.source_table, t.backup_table, t.row_count, t.backup_checksum,
    (
      select coalesce(jsonb_agg(c.value || jsonb_build_object('live_attnum', (n.numbers ->> (c.value ->> 'attnum'))::int) order by c.position), '[]')
      from jsonb_array_elements(t.columns) with ordinality as c (value, position)
    ),
    coalesce(k.keys, '[]'),
    -- Types of other schemas are known from the columns that have them.
    case when p.matched_by = 'identity' then (
      select coalesce(jsonb_object_agg(x.key, x.value), '{}')
      from jsonb_array_elements(t.columns) as c (value) cross join lateral jsonb_each(c.value -> 'labels') as x
    ) else '{}' end || l.labels,
    t.source_filenode, p.live_objid, p.matched_by, null::migration_guard.paired_column[], null::text[], null::text,
    migration_guard.table_bytes(p.live_objid), migration_guard.table_bytes(to_regclass(format('%I.%I', schema_name, t.backup_table)))
  from rows from (unnest(copied.oids, copied.schemas, copied.names, copied.copies, copied.counts, copied.checksums, copied.filenodes), jsonb_array_elements(copied.columns))
    with ordinality as t (source_oid, source_schema, source_table, backup_table, row_count, backup_checksum, source_filenode, columns, position)
  cross join labels as l
  left join matches as p on p.objid = t.source_oid and p.objsubid = 0
  left join live_columns as n on n.objid = t.source_oid and n.live_objid = p.live_objid
  left join keys as k on k.table_oid = t.source_oid
  order by t.position;
end
$$;
comment on function migration_guard.table_pairs(text, migration_guard.compared_object[]) is
  'The copied tables of a backup schema, each with the live table that it is now, its columns and its keys.';

-- What a live column reads like in the backup -------------------------------------------------------------------------

create function migration_guard.label_changes(labels jsonb)
returns table (enum oid, label text, recorded text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  with recorded as (
    select e.enumtypid, e.oid, e.enumlabel::text as label, r.value as recorded
    from jsonb_each_text(labels) as r
    join pg_enum as e on e.oid = r.key::oid
  )
  select r.enumtypid, r.label, r.recorded from recorded as r where r.label <> r.recorded
  union all
  -- A value that was added under the old label of a renamed one was never in the backup: longer than a label can be.
  select e.enumtypid, e.enumlabel::text, rpad(e.enumlabel::text, 64 + length(e.enumlabel::text), '*')
  from pg_enum as e
  join recorded as r on r.enumtypid = e.enumtypid and r.recorded = e.enumlabel::text and r.oid <> e.oid
  where not exists (select from recorded as o where o.oid = e.oid);
end
$$;
comment on function migration_guard.label_changes(jsonb) is
  'The labels of live enum values that read otherwise in the backup, and how.';

create function migration_guard.relabelled(value text, in_array boolean, labels text[], recorded text[]) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when coalesce(cardinality(labels), 0) = 0 then value
    when not in_array then format('case %s collate "C" %s else %1$s end', value,
      (select string_agg(format('when %L then %L', l.label, l.recorded), ' ' order by l.label) from unnest(labels, recorded) as l (label, recorded)))
    -- The text of an array of labels reads as an array of texts. Each label changes by way of what no label can be, so that
    -- two can change places.
    else format('(%s%s::text[]%s%s)::text', repeat('array_replace(', 2 * cardinality(labels)), value,
      (select string_agg(format(', %L, %L)', l.label, repeat('*', 64) || l.number), '' order by l.number) from unnest(labels) with ordinality as l (label, number)),
      (select string_agg(format(', %L, %L)', repeat('*', 64) || l.number, l.recorded), '' order by l.number) from unnest(recorded) with ordinality as l (recorded, number)))
  end
$$;
comment on function migration_guard.relabelled(text, boolean, text[], text[]) is
  'An expression that gives the stored text of an enum, or of an array of one, with other labels.';

create function migration_guard.exact_form(value text, type text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- As in the checksum: what has an equality that is not that of its bytes is sent.
  select case
    when t.oid = any ('{bool,int2,int4,int8,oid,uuid,"\"char\"",bytea}'::regtype[]) then value
    when t.oid = any ('{name,text,varchar,refcursor,json,xml}'::regtype[]) then format('(%s)::text collate "C"', value)
    when t.typsend = 0 then format('case when num_nulls(%s) = 0 then convert_to(format(''%%s'', %1$s), ''UTF8'') end', value)
    else format('%s(%s)', t.typsend::regproc, value)
  end
  from pg_type as t
  where t.oid = type::regtype
$$;
comment on function migration_guard.exact_form(text, text) is
  'An expression that is equal for two values of a stored type only where every byte of them is.';

create function migration_guard.plain_text(value text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select format('case when num_nulls(%s) = 0 then format(''%%s'', %1$s) end collate "C"', value) $$;
comment on function migration_guard.plain_text(text) is 'An expression for the text that the type of a value gives it.';

create function migration_guard.looked_at(pair migration_guard.table_pair) returns migration_guard.table_pair
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- It is asked for each table, and to plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  with changes as materialized (select * from migration_guard.label_changes(pair.labels)),
  stored as materialized (select s.* from migration_guard.stored_columns(pair.live) as s),
  paired as materialized (
    select c.position::int, c.value ->> 'name', c.value ->> 'type', c.value ->> 'stored_type',
      s.attnum, s.name, s.type, s.stored_type,
      case when e.labels is null then 'r.' || quote_ident(s.name) else migration_guard.relabelled('r.' || quote_ident(s.name), e.in_array, e.labels, e.recorded) end,
      s.is_lasting, s.stored_type <> c.value ->> 'stored_type', e.labels is not null, e.is_opaque
    from jsonb_array_elements(pair.columns) with ordinality as c (value, position)
    left join stored as s on s.attnum = (c.value ->> 'live_attnum')::int
    left join pg_attribute as a on a.attrelid = pair.live and a.attnum = s.attnum
    left join lateral (
      select bool_or(p.arrays = 1) as in_array,
        array_agg(x.label order by x.label) filter (where p.is_plain and p.arrays <= 1) as labels,
        array_agg(x.recorded order by x.label) filter (where p.is_plain and p.arrays <= 1) as recorded,
        coalesce(bool_or(not p.is_plain or p.arrays > 1), false) as is_opaque
      -- Where no label has changed, and in a type that came with Postgres, there is nothing to look for.
      from (select a.atttypid as oid where a.atttypid >= 16384 and exists (select from changes)) as t
      cross join lateral migration_guard.enum_parts(t.oid) as p
      join changes as x on x.enum = p.enum
    ) as e on true
    order by c.position
  )
  select array(select row(p.*)::migration_guard.paired_column from paired as p),
    array(select s.name from stored as s where not exists (
      select from jsonb_array_elements(pair.columns) as c (value) where (c.value ->> 'live_attnum')::int = s.attnum) order by s.attnum),
    migration_guard.projection(pair.live, coalesce((select string_agg(format('%s as %I', s.expression, s.name), ', ' order by s.attnum) from stored as s), ''))
  into pair.paired, pair.new_columns, pair.projection;
  return pair;
end
$$;
comment on function migration_guard.looked_at(migration_guard.table_pair) is
  'A table pair with the columns of the copy beside the live ones that they are now, and with the query that reads these. It holds names,
types and labels: what is another afterwards was altered in between.';

-- The queries ---------------------------------------------------------------------------------------------------------

create function migration_guard.live_checksum(pair migration_guard.table_pair, out rows bigint, out checksum text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.rows, r.checksum
  from (
    select format('select %s from (', coalesce(string_agg(format('%s as %I', c.live_value, c.name), ', ' order by c.number), '')) as head,
      coalesce(array_agg(c.name order by c.number), '{}') as names,
      coalesce(array_agg(c.stored_type::regtype::oid order by c.number), '{}') as types
    from unnest(pair.paired) as c
    -- It is comparable when every column of the copy is there, and is stored as it was.
    having coalesce(bool_and(c.live_attnum is not null and not c.is_retyped), true)
  ) as f
  cross join lateral migration_guard.read_checksum(pair.live, f.head || pair.projection, ') as r', f.names, f.types,
    'reading@' || pair.live, pair.live_bytes) as r
$$;
comment on function migration_guard.live_checksum(migration_guard.table_pair) is
  'Count and checksum of the live rows in the form of the backup, read as of one moment; null where they have another form.';

create function migration_guard.compared_forms(pair migration_guard.table_pair, with_casts boolean)
returns table (number bigint, live_form text, copy_form text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select row_number() over (order by c.number, f.position), f.live_form, f.copy_form
  from unnest(pair.paired) as c
  cross join lateral (select format('r.%I', c.name) as copy_value) as v
  cross join lateral (
    select 1, migration_guard.exact_form(c.live_value, c.stored_type), migration_guard.exact_form(v.copy_value, c.stored_type)
    where not c.is_retyped
    union all
    -- Of another type: the same where a cast leads from each to the other and nothing is lost on either way.
    select 1, migration_guard.exact_form(format('(%s)::%s', c.live_value, c.stored_type), c.stored_type), migration_guard.exact_form(v.copy_value, c.stored_type)
    where c.is_retyped and with_casts
    union all
    select 2, migration_guard.exact_form(c.live_value, c.live_stored_type), migration_guard.exact_form(format('(%s)::%s', v.copy_value, c.live_stored_type), c.live_stored_type)
    where c.is_retyped and with_casts
    union all
    select 1, migration_guard.plain_text(c.live_value), migration_guard.plain_text(v.copy_value)
    where c.is_retyped and not with_casts
  ) as f (position, live_form, copy_form)
  where c.live_attnum is not null
$$;
comment on function migration_guard.compared_forms(migration_guard.table_pair, boolean) is
  'What two rows are compared by: pairs of expressions, one over a live row and one over a copied one, both called r.';

create function migration_guard.comparison_ticks(schema_name text, pair migration_guard.table_pair, out live text, out copy text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(' where ' || migration_guard.ticking(pair.live, null), ''),
    coalesce(' where ' || migration_guard.ticking(to_regclass(format('%I.%I', schema_name, pair.backup_table)), 'r'), '')
$$;
comment on function migration_guard.comparison_ticks(text, migration_guard.table_pair) is
  'What makes the rows of either side tick, where there are many of them.';

create function migration_guard.key_comparison_query(
  schema_name text, pair migration_guard.table_pair, key text[], with_casts boolean, sample_keys int, include_values boolean,
  of_versions text default null
) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with forms as (
    select string_agg(format(', %s as s%s', f.live_form, f.number), '' order by f.number) as live,
      string_agg(format(', %s as s%s', f.copy_form, f.number), '' order by f.number) as copy,
      string_agg(format(' or l.s%s is distinct from b.s%1$s', f.number), '' order by f.number) as differs
    from migration_guard.compared_forms(pair, with_casts) as f
  ),
  keys as (
    -- k joins, v is shown: an enum's label joins by what it was and is shown as it is.
    select string_agg(format(', %s as k%s, r.%I as v%2$s', j.live_key, k.number, c.live_name), '' order by k.number) as live,
      string_agg(format(', %s as k%s, r.%I as v%2$s', j.copy_key, k.number, c.name), '' order by k.number) as copy,
      string_agg(format('l.k%s = b.k%1$s', k.number), ' and ' order by k.number) as joined,
      string_agg(format(', l.v%s as l%1$s, b.v%1$s as b%1$s', k.number), '' order by k.number) as shown,
      format('jsonb_build_object(%s)', string_agg(format('%L, c.l%s', c.live_name, k.number), ', ' order by k.number)) as live_object,
      format('jsonb_build_object(%s)', string_agg(format('%L, c.b%s', c.name, k.number), ', ' order by k.number)) as copy_object,
      string_agg('c.l' || k.number, ', ' order by k.number) as live_order,
      string_agg('c.b' || k.number, ', ' order by k.number) as copy_order
    from unnest(key) with ordinality as k (name, number)
    join unnest(pair.paired) as c on c.name = k.name
    join pg_type as t on t.oid = c.stored_type::regtype
    cross join lateral (
      -- Unique values of one type have unique texts, but another type's cast could make them equal.
      select case when c.is_retyped then migration_guard.plain_text(c.live_value) else c.live_value || case when t.typcollation <> 0 then ' collate "C"' else '' end end as live_key,
        case when c.is_retyped then migration_guard.plain_text(format('r.%I', c.name)) else format('r.%I', c.name) || case when t.typcollation <> 0 then ' collate "C"' else '' end end as copy_key
    ) as j
  )
  select format($query$
    with changed as (
      select case when l.is_there is null then 'deleted' when b.is_there is null then 'inserted' else 'updated' end as change%s%s
      from (select true as is_there%s%s%s from (%s%s) as r) as l
      %s join (select true as is_there%s%s%s from only %I.%I as r%s) as b on %s
      where l.is_there is null or b.is_there is null%s
    )
    select count(*) filter (where c.change = 'inserted') as inserted, count(*) filter (where c.change = 'updated') as updated,
      count(*) filter (where c.change = 'deleted') as deleted, %s as samples
    from changed as c$query$,
    k.shown, w.shown, k.live, f.live, w.whole, pair.projection, coalesce(of_versions, t.live),
    case when of_versions is null then 'full' else 'left' end, k.copy, f.copy, w.whole, schema_name, pair.backup_table, t.copy, k.joined, f.differs,
    case when sample_keys = 0 then 'null::jsonb' else (
      select format('jsonb_build_object(%s)', string_agg(format(
        '%1$L, (select coalesce(jsonb_agg(x.sample), ''[]'') from (select %2$s as sample from changed as c where c.change = %1$L order by %3$s limit %4$s) as x)',
        g.change,
        case when include_values then format('jsonb_build_object(''key'', %s, ''before'', migration_guard.sample_row(to_jsonb(c.b_row)), ''after'', migration_guard.sample_row(to_jsonb(c.l_row)))', g.object) else g.object end,
        g.ordered, sample_keys), ', '))
      from (values ('inserted', k.live_object, k.live_order), ('updated', k.live_object, k.live_order), ('deleted', k.copy_object, k.copy_order)) as g (change, object, ordered)
    ) end)
  from forms as f, keys as k, migration_guard.comparison_ticks(schema_name, pair) as t, (
    select case when include_values and sample_keys > 0 then ', coalesce(r.*) as whole' end as whole,
      case when include_values and sample_keys > 0 then ', l.whole as l_row, b.whole as b_row' end as shown
  ) as w
$$;
comment on function migration_guard.key_comparison_query(text, migration_guard.table_pair, text[], boolean, int, boolean, text) is
  'The query that counts the rows of a live table that were inserted, updated and deleted since the backup, by a key; or, of
the live rows that a condition leaves, those that were inserted and updated.';

create function migration_guard.multiset_comparison_query(
  schema_name text, pair migration_guard.table_pair, with_casts boolean, sample_keys int, include_values boolean
) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with forms as (
    select string_agg(format(', %s as s%s', f.live_form, f.number), '' order by f.number) as live,
      string_agg(format(', %s as s%s', f.copy_form, f.number), '' order by f.number) as copy,
      coalesce(string_agg('u.s' || f.number, ', ' order by f.number), '()') as grouped
    from migration_guard.compared_forms(pair, with_casts) as f
  )
  select format($query$
    with changed as (
      select sum(u.is_live) as live, sum(1 - u.is_live) as copied%s
      from (
        select 1 as is_live%s%s from (%s%s) as r
        union all
        select 0%s%s from only %I.%I as r%s
      ) as u
      group by %s
      having sum(u.is_live) <> sum(1 - u.is_live)
    )
    select coalesce(sum(c.live - c.copied) filter (where c.live > c.copied), 0)::bigint as inserted, 0::bigint as updated,
      coalesce(sum(c.copied - c.live) filter (where c.copied > c.live), 0)::bigint as deleted, %s as samples
    from changed as c$query$,
    w.shown, f.live, w.whole, pair.projection, t.live, f.copy, w.whole, schema_name, pair.backup_table, t.copy, f.grouped,
    case when w.whole is null then 'null::jsonb' else format($samples$jsonb_build_object(
      'inserted', (select coalesce(jsonb_agg(x.sample), '[]') from (
        select jsonb_build_object('key', null, 'rows', c.live - c.copied, 'before', null, 'after', migration_guard.sample_row(c.l_row::jsonb)) as sample
        from changed as c where c.live > c.copied order by c.l_row limit %1$s) as x),
      'updated', '[]'::jsonb,
      'deleted', (select coalesce(jsonb_agg(x.sample), '[]') from (
        select jsonb_build_object('key', null, 'rows', c.copied - c.live, 'before', migration_guard.sample_row(c.b_row::jsonb), 'after', null) as sample
        from changed as c where c.copied > c.live order by c.b_row limit %1$s) as x))$samples$, sample_keys) end)
  from forms as f, migration_guard.comparison_ticks(schema_name, pair) as t, (
    -- Of rows that are alike in what is compared, any one is shown.
    select case when include_values and sample_keys > 0 then ', to_jsonb(r.*)::text collate "C" as whole' end as whole,
      case when include_values and sample_keys > 0
        then ', max(u.whole) filter (where u.is_live = 1) as l_row, max(u.whole) filter (where u.is_live = 0) as b_row' end as shown
  ) as w
$$;
comment on function migration_guard.multiset_comparison_query(text, migration_guard.table_pair, boolean, int, boolean) is
  'The query that counts the rows that are there more often, or less often, than in the backup.';

create function migration_guard.sample_row(value jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_object_agg(e.key, case when length(e.value::text) > 2000 then to_jsonb(left(e.value #>> '{}', 2000) || '…') else e.value end)
  from jsonb_each(value) as e
$$;
comment on function migration_guard.sample_row(jsonb) is 'A row as a sample shows it: what is longer than 2,000 characters is cut.';

-- One table -----------------------------------------------------------------------------------------------------------

create function migration_guard.is_unique(relation oid, attnums int2[]) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return (
    select exists (
      select from pg_index as i
      -- What a trigger would say later, if it was not kept from it, is not certain.
      where i.indrelid = relation and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null
        and (i.indkey::int2[])[0:i.indnkeyatts - 1] <@ attnums));
end
$$;
comment on function migration_guard.is_unique(oid, int2[]) is 'Whether an index says that no two rows of a table agree in these columns.';

create function migration_guard.usable_key(schema_name text, pair migration_guard.table_pair) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  candidate record;
  is_usable boolean;
begin
  for candidate in
    select k.names, (j.value ->> 'is_primary')::boolean as is_primary, c.live_attnums, c.live_values
    from jsonb_array_elements(pair.keys) with ordinality as j (value, position)
    cross join lateral (select array(select jsonb_array_elements_text(j.value -> 'columns')) as names) as k
    cross join lateral (
      select array_agg(p.live_attnum::int2) as live_attnums, array_agg(p.live_value) as live_values
      from unnest(pair.paired) as p where p.name = any (k.names) and p.live_attnum is not null
    ) as c
    where cardinality(c.live_attnums) = cardinality(k.names)
    order by j.position
  loop
    -- Under a unique constraint there may be nulls, as many as one likes.
    if not candidate.is_primary then
      execute format('select not exists (select from only %I.%I as r where %s)', schema_name, pair.backup_table,
        (select string_agg(format('r.%I is null', n), ' or ') from unnest(candidate.names) as n)) into is_usable;
      continue when not is_usable;
    end if;
    if migration_guard.is_unique(pair.live, candidate.live_attnums) then
      return candidate.names;
    end if;
    -- The live table may have lost the constraint.
    execute format('select not exists (select from (%s) as r where num_nulls(%s) = 0 group by %s having count(*) > 1)',
      pair.projection, array_to_string(candidate.live_values, ', '), array_to_string(candidate.live_values, ', ')) into is_usable;
    if is_usable then return candidate.names; end if;
  end loop;
  return null;
end
$$;
comment on function migration_guard.usable_key(text, migration_guard.table_pair) is
  'The columns by which the rows of a copy can be found in the live table: of its primary key, or of a unique constraint without nulls.';

create function migration_guard.comparison_note(pair migration_guard.table_pair, key text[], with_casts boolean) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return (
    select nullif(concat_ws(' ',
      case when pair.matched_by = 'name' then 'Found by its name: its identity is gone.' end,
      'Not compared, since they are gone: ' || string_agg(format('%I', c.name), ', ' order by c.number) filter (where c.live_attnum is null) || '.',
      'Not compared, since they are new: ' || (select string_agg(format('%I', n.name), ', ' order by n.place) from unnest(pair.new_columns) with ordinality as n (name, place)) || '.',
      format('Compared by %s: ', case when with_casts then 'casts in both directions' else 'their text' end)
        || string_agg(format('%I, which was %s and is %s', c.name, c.type, c.live_type), ', ' order by c.number) filter (where c.is_retyped) || '.',
      'Values whose labels were renamed count as changed: ' || string_agg(format('%I', c.name), ', ' order by c.number) filter (where c.is_opaque) || '.',
      case when key is null and pair.keys <> '[]' then 'Its key does not tell the rows apart any more.' end), '')
    from unnest(pair.paired) as c);
end
$$;
comment on function migration_guard.comparison_note(migration_guard.table_pair, text[], boolean) is
  'What a reader must know of how a table was compared; null where nothing is out of the ordinary.';

create function migration_guard.hold_table(relation oid) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  named constant text := (
    select format('%I.%I', n.nspname, c.relname) from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = relation);
begin
  if named is not null then
    execute format('lock table only %s in access share mode', named);
  end if;
  if named is null or to_regclass(named)::oid is distinct from relation then
    raise exception using errcode = 'undefined_table', message = 'it goes by another name';
  end if;
exception when undefined_table or invalid_schema_name or wrong_object_type then
  perform migration_guard.fail('types_changed', format('%s was altered while it was compared.', coalesce(named, 'A table')));
end
$$;
comment on function migration_guard.hold_table(oid) is
  'Keeps a table from being altered until the transaction ends, as reading it does. Raises types_changed where it is too late.';

create function migration_guard.compare_rows(
  schema_name text, pair migration_guard.table_pair, key text[], with_casts boolean, sample_keys int, include_values boolean
) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Compiling the expressions of hundreds of columns takes longer than evaluating them.
set jit = off
set synchronize_seqscans = off
as $$
declare
  query constant text := case
    when key is null then migration_guard.multiset_comparison_query(schema_name, pair, with_casts, sample_keys, include_values)
    else migration_guard.key_comparison_query(schema_name, pair, key, with_casts, sample_keys, include_values) end;
  found record;
begin
  execute query into found;
  return jsonb_build_object('compared_by', case when key is null then 'multiset' else 'key' end,
    'inserted', found.inserted, 'updated', found.updated, 'deleted', found.deleted,
    'samples', coalesce(found.samples, '{"inserted": [], "updated": [], "deleted": []}'),
    'note', nullif(concat_ws(' ', migration_guard.comparison_note(pair, key, with_casts),
      case when key is null and sample_keys > 0 and not include_values then 'It has no key, so that there are no sample keys.' end), ''));
end
$$;
comment on function migration_guard.compare_rows(text, migration_guard.table_pair, text[], boolean, int, boolean) is
  'Counts what has changed in a table, by a key or as a multiset.';

create function migration_guard.why_read_values(backup migration_guard.backups, pair migration_guard.table_pair) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return (
    select coalesce(migration_guard.why_versions_mislead(backup.schema_name), case
      when pair.matched_by <> 'identity' then 'it is another table of the same name'
      when (select c.relkind <> 'r' from pg_class as c where c.oid = pair.live) then 'partitions can be attached with their rows'
      when not migration_guard.has_blocks(pair.live) then 'its storage is no heap'
      when pg_relation_filenode(pair.live) is distinct from pair.filenode
        then 'it has been written anew since (truncate, vacuum full, cluster, or an alter table that rewrites)'
      else (
        select 'these columns were replaced, or what a value of theirs reads like can change without a change of its row: '
          || string_agg(format('%I', c.name), ', ' order by c.number)
        from unnest(pair.paired) as c
        where c.live_attnum <> (pair.columns -> (c.number - 1) ->> 'attnum')::int or c.is_retyped or c.is_opaque or not c.is_lasting) end));
end
$$;
comment on function migration_guard.why_read_values(migration_guard.backups, migration_guard.table_pair) is
  'Why the versions of a table''s rows do not prove that they are as they were; null where they do.';

create function migration_guard.oldest_version(backup migration_guard.backups) returns xid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  oldest xid;
begin
  execute format('select pg_snapshot_xmin(m.snapshot::pg_snapshot)::xid from %I.backup_metadata as m', backup.schema_name) into oldest;
  return oldest;
end
$$;
comment on function migration_guard.oldest_version(migration_guard.backups) is
  'The oldest transaction that was still running when a backup was taken: all rows of older ones that are there are in it.';

create function migration_guard.find_versions(relation oid, youth text, most bigint, units bigint, out total bigint, out places tid[])
-- Stable, so that whoever asks sees the same rows at these places.
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  blocks constant bigint := migration_guard.table_blocks(relation);
  -- In pieces of 64 MB, or of a million rows where these are less, so that progress is seen and no more is gathered than fits into memory.
  piece constant bigint := (
    select least(8192, case when c.reltuples > 0 and c.relpages > 0 then ceil(1000000 * c.relpages::float8 / c.reltuples) end)
    from pg_class as c where c.oid = relation);
  start bigint;
  range text;
  part record;
begin
  perform migration_guard.begin_step('reading@' || relation);
  total := 0;
  places := '{}';
  for start in select generate_series(0, blocks, piece) loop
    -- Beyond what was the end there may be rows by now. A range of all takes longer than no range.
    range := concat_ws(' and ', case when start > 0 then format('ctid >= ''(%s,0)''', start) end,
      case when start + piece <= blocks then format('ctid < ''(%s,0)''', start + piece) end);
    execute format('select count(*) as total, array_agg(ctid) filter (where %s) as places from only %s%s', youth, relation::regclass, ' where ' || nullif(range, ''))
      into part;
    total := total + part.total;
    places := places || part.places;
    if cardinality(places) > most then
      places := null;
      exit;
    end if;
    perform migration_guard.show_progress((units * least(start + piece, blocks) / greatest(blocks, 1))::bigint);
  end loop;
  perform migration_guard.finish_work(units);
end
$$;
comment on function migration_guard.find_versions(oid, text, bigint, bigint) is
  'How many rows a table has, and the places of those for which a condition holds; null where there are more of them than asked for.';

create function migration_guard.compare_versions(
  backup migration_guard.backups, pair migration_guard.table_pair, key text[], sample_keys int, include_values boolean,
  units bigint, join_units bigint
) returns jsonb
-- Stable, so that all that it reads is of one moment.
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
set synchronize_seqscans = off
-- For the rows that are new, at most a quarter of them all.
set work_mem = '64MB'
as $$
declare
  -- A row that is visible now, and that a transaction wrote which had ended before the backup, was visible then: it is one of
  -- the backup's rows, and as it was. Of a younger one, or one whose number has come round, its values tell.
  youth constant text := format('age(xmin) <= %s', age(migration_guard.oldest_version(backup)));
  live_attnums constant int2[] := array(select p.live_attnum::int2 from unnest(pair.paired) as p where p.name = any (key));
  -- More are found faster by reading all, and a million places take 30 MB.
  most constant bigint := least(pair.row_count / 4, 1000000);
  versions record;
  old_rows bigint;
  new_rows bigint;
  deleted bigint;
  found record;
begin
  select v.* into versions from migration_guard.find_versions(pair.live, youth, most, units) as v;
  new_rows := cardinality(versions.places);
  old_rows := versions.total - new_rows;
  if new_rows is null or old_rows > pair.row_count then return null; end if;
  if new_rows = 0 then
    select 0::bigint as inserted, 0::bigint as updated, null::jsonb as samples into found;
  elsif migration_guard.is_unique(pair.live, live_attnums) then
    perform migration_guard.begin_pass('comparing@' || pair.live, array[to_regclass(format('%I.%I', backup.schema_name, pair.backup_table))::oid], join_units);
    execute migration_guard.key_comparison_query(backup.schema_name, pair, key, true, sample_keys, include_values, ' where ctid = any ($1)')
      into found using versions.places;
  else
    return null;
  end if;
  -- Those of the backup's rows that are neither there as they were, nor under their key as another version.
  deleted := pair.row_count - old_rows - (new_rows - found.inserted);
  if deleted < 0 or (deleted > 0 and sample_keys > 0) then return null; end if;
  return jsonb_build_object('compared_by', case when key is null then 'multiset' else 'key' end,
    'inserted', found.inserted, 'updated', found.updated, 'deleted', deleted,
    'samples', coalesce(found.samples, '{"inserted": [], "updated": [], "deleted": []}'),
    'note', migration_guard.comparison_note(pair, key, true));
end
$$;
comment on function migration_guard.compare_versions(migration_guard.backups, migration_guard.table_pair, text[], int, boolean, bigint, bigint) is
  'Counts what has changed in a table by the versions of its rows: those that are as old as the backup are not read. Null
where that cannot tell enough: many rows are new, they have no key, or the keys of deleted ones are wanted.';

create function migration_guard.compare_values(
  schema_name text, pair migration_guard.table_pair, key text[], sample_keys int, include_values boolean, join_units bigint
) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  copy constant oid := to_regclass(format('%I.%I', schema_name, pair.backup_table));
  outcome jsonb;
begin
  perform migration_guard.begin_pass('trying', array[pair.live, copy], join_units);
  begin
    perform migration_guard.begin_step('comparing@' || pair.live);
    outcome := migration_guard.compare_rows(schema_name, pair, key, true, sample_keys, include_values);
  exception when others then
    -- A cast may be missing, or fail at some value; nothing else has a second chance.
    if not exists (select from unnest(pair.paired) as c where c.is_retyped) then raise; end if;
    perform migration_guard.begin_step('comparing@' || pair.live);
    outcome := migration_guard.compare_rows(schema_name, pair, key, false, sample_keys, include_values);
  end;
  return outcome;
end
$$;
comment on function migration_guard.compare_values(text, migration_guard.table_pair, text[], int, boolean, bigint) is
  'Joins the rows of a table with those of its copy, by casts where columns have other types, or else by their texts.';

create function migration_guard.compare_table(
  backup migration_guard.backups, pair migration_guard.table_pair, sample_keys int, include_values boolean, is_exact boolean
) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  afterwards migration_guard.table_pair;
  live_bytes constant bigint := pair.live_bytes;
  join_bytes constant bigint := live_bytes + pair.copy_bytes;
  live_rows bigint;
  live_checksum text;
  key text[];
  reason text := 'exact';
  outcome jsonb;
begin
  perform migration_guard.hold_table(pair.live);
  perform migration_guard.assert_may_be_read(array[pair.live]);
  perform migration_guard.refuse_views(true);
  pair := migration_guard.looked_at(pair);
  perform migration_guard.begin_step('comparing@' || pair.live);
  key := migration_guard.usable_key(backup.schema_name, pair);
  if not is_exact then
    reason := migration_guard.why_read_values(backup, pair);
  end if;
  if reason is null then
    outcome := migration_guard.compare_versions(backup, pair, key, sample_keys, include_values, live_bytes, join_bytes);
    if outcome is null then
      reason := 'many rows are new, or there is no unique index to find them by' || case when sample_keys > 0 then ', or the keys of deleted rows were asked for' else '' end;
    end if;
  end if;
  if outcome is null then
    select r.rows, r.checksum into live_rows, live_checksum from migration_guard.live_checksum(pair) as r;
    if (live_rows, live_checksum) is not distinct from (pair.row_count, pair.checksum) then
      outcome := jsonb_build_object('compared_by', case when key is null then 'multiset' else 'key' end, 'inserted', 0, 'updated', 0, 'deleted', 0,
        'samples', '{"inserted": [], "updated": [], "deleted": []}'::jsonb, 'note', migration_guard.comparison_note(pair, key, true));
    elsif live_checksum is null then
      perform migration_guard.finish_work(live_bytes);
    end if;
  end if;
  if outcome is null then
    outcome := migration_guard.compare_values(backup.schema_name, pair, key, sample_keys, include_values, join_bytes);
  end if;
  perform migration_guard.finish_work(join_bytes);
  perform migration_guard.refuse_views(false);
  -- Neither enums nor the names of schemas can be locked: as it was read, so it still is.
  afterwards := migration_guard.looked_at(pair);
  if (afterwards.paired, afterwards.projection) is distinct from (pair.paired, pair.projection) then
    perform migration_guard.fail('types_changed', format('%I.%I was altered while it was compared.', pair.source_schema, pair.source_table));
  end if;
  return outcome || jsonb_build_object('read', case when reason is null then 'row versions' else 'values' end, 'values_read_because', nullif(reason, 'exact'));
end
$$;
comment on function migration_guard.compare_table(migration_guard.backups, migration_guard.table_pair, int, boolean, boolean) is
  'What has changed in the rows of a table since the backup. Where the versions of its rows do not tell, or every value is to be
compared, the checksum is enough for a table that has not changed; otherwise the rows are joined.';

create function migration_guard.row_drift(
  backup migration_guard.backups, sample_keys int default 0, include_values boolean default false, is_exact boolean default false,
  known_pairs migration_guard.table_pair[] default null
) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set row_security = off
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set extra_float_digits = 1
set bytea_output = 'hex' set quote_all_identifiers = off set lc_monetary = 'C' set client_encoding = 'UTF8'
as $$
declare
  -- Each table is read in one statement with a snapshot of its own, while its lock keeps it as it is: a snapshot of the
  -- whole would show a table that somebody truncates or rewrites in the meantime as empty.
  pairs constant migration_guard.table_pair[] := coalesce(known_pairs, array(
    select p from migration_guard.table_pairs(backup.schema_name, array(select c from migration_guard.compared_objects(backup.schema_name) as c)) as p));
  pair migration_guard.table_pair;
  live record;
  outcome jsonb;
  tables jsonb[] := '{}';
begin
  foreach pair in array pairs loop
    perform migration_guard.assert_copy(backup, pair.backup_table);
    select format('%I.%I', n.nspname, c.relname) as name, c.relkind in ('r', 'p') as is_table into live
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = coalesce(pair.live, to_regclass(format('%I.%I', pair.source_schema, pair.source_table)));
    if pair.live is not null and live.is_table then
      outcome := migration_guard.compare_table(backup, pair, sample_keys, include_values, is_exact);
    else
      outcome := jsonb_build_object('compared_by', null, 'read', null, 'values_read_because', null, 'inserted', 0, 'updated', 0, 'deleted', pair.row_count,
        'samples', '{"inserted": [], "updated": [], "deleted": []}'::jsonb,
        'note', case when live.is_table is false then format('It is gone: %s is no table, and is not read.', live.name) else 'It is gone.' end);
    end if;
    tables := tables || (jsonb_build_object(
      'table', format('%I.%I', pair.source_schema, pair.source_table), 'backup_table', pair.backup_table,
      'now', case when pair.live is not null and live.is_table then live.name end) || outcome);
  end loop;
  return to_jsonb(tables);
end
$$;
comment on function migration_guard.row_drift(migration_guard.backups, int, boolean, boolean, migration_guard.table_pair[]) is
  'For each table of a backup how many rows were inserted, updated and deleted since, with samples of their keys, and with
values only where they are asked for. Exact is what compares every value, and relies on nothing that Postgres says of its rows.';

create function migration_guard.assert_copy(backup migration_guard.backups, backup_table text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select from pg_class as c
    where c.oid = to_regclass(format('%I.%I', backup.schema_name, backup_table)) and c.relkind = 'r' and not c.relrowsecurity
  ) then
    perform migration_guard.fail('backup_damaged', format('%I.%I is gone: verify the backup of %s.', backup.schema_name, backup_table, backup.version));
  end if;
end
$$;
comment on function migration_guard.assert_copy(migration_guard.backups, text) is
  'Raises backup_damaged unless a copied table is there.';

-- The job -------------------------------------------------------------------------------------------------------------

create function migration_guard.assert_backup_schema(backup migration_guard.backups) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  missing constant text := (
    select string_agg(k.name, ', ' order by k.name)
    from unnest('{objects_backup,dependencies_backup,tables_backup,backup_metadata}'::text[]) as k (name)
    where to_regclass(format('%I.%I', backup.schema_name, k.name)) is null);
begin
  if missing is not null then
    perform migration_guard.fail('backup_damaged', case when to_regnamespace(quote_ident(backup.schema_name)) is null
      then format('The schema %I is gone.', backup.schema_name)
      else format('The schema %I has lost what it had recorded: %s.', backup.schema_name, missing) end);
  end if;
end
$$;
comment on function migration_guard.assert_backup_schema(migration_guard.backups) is
  'Raises backup_damaged where the schema of a registered backup, or a table of what it recorded, is not there to be compared.';

create function migration_guard.enqueue_diff(
  version text, actor text default session_user, request_id text default null, sample_keys int default 0, include_values boolean default false,
  exact boolean default false
) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(version);
begin
  if sample_keys is null or sample_keys not between 0 and 100 then
    perform migration_guard.fail('invalid_parameter', 'sample_keys is a number from 0 to 100.');
  end if;
  perform migration_guard.assert_backup_schema(backup);
  return migration_guard.enqueue('diff', backup.version, actor,
    jsonb_build_object('sample_keys', sample_keys, 'include_values', coalesce(include_values, false), 'exact', coalesce(exact, false)), request_id);
end
$$;
comment on function migration_guard.enqueue_diff(text, text, text, int, boolean, boolean) is
  'Queues the diff of a backup and what is live. Raises backup_not_found, backup_damaged or invalid_parameter.';

create function migration_guard.run_diff(job migration_guard.jobs) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(job.version);
  include_values constant boolean := coalesce((job.parameters ->> 'include_values')::boolean, false);
  is_exact constant boolean := coalesce((job.parameters ->> 'exact')::boolean, false);
  reason text := 'exact';
  altered oid[];
  compared migration_guard.compared_object[];
  pairs migration_guard.table_pair[];
  objects jsonb;
  tables jsonb;
  outline jsonb;
begin
  perform migration_guard.assert_backup_schema(backup);
  if include_values then
    raise log 'migration_guard: % reads row values in the diff of % (job %)', job.actor, job.version, job.id;
  end if;
  if not is_exact then
    select a.why_read, a.altered into reason, altered from migration_guard.altered_objects(backup.schema_name) as a;
  end if;
  compared := array(select c from migration_guard.compared_objects(backup.schema_name, altered) as c);
  pairs := array(select p from migration_guard.table_pairs(backup.schema_name, compared) as p);
  -- The live rows are read for their checksum, and with the copy's where it is another.
  perform migration_guard.report_progress(job, 'catalog', 0, (
    select coalesce(sum(2 * p.live_bytes + p.copy_bytes), 0)::bigint from unnest(pairs) as p where p.live is not null));
  select coalesce(jsonb_agg(to_jsonb(d) order by d.kind, d.object, d.now), '[]') into objects from migration_guard.object_drift(compared) as d;
  tables := migration_guard.row_drift(backup, coalesce((job.parameters ->> 'sample_keys')::int, 0), include_values, is_exact, pairs);

  select jsonb_build_object('objects', o.counts, 'rows', r.counts) into outline
  from (
    select jsonb_object_agg(k.change, (select count(*) from jsonb_array_elements(objects) as e (value) where e.value -> 'changes' ? k.change)) as counts
    from unnest('{renamed,redefined,missing,new}'::text[]) as k (change)
  ) as o, (
    select jsonb_object_agg(k.change, (select coalesce(sum((e.value ->> k.change)::bigint), 0) from jsonb_array_elements(tables) as e (value))) as counts
    from unnest('{inserted,updated,deleted}'::text[]) as k (change)
  ) as r;
  outline := jsonb_build_object('summary', outline,
    'is_clean', objects = '[]' and outline -> 'rows' = '{"inserted": 0, "updated": 0, "deleted": 0}'::jsonb);
  update migration_guard.backups as b set last_diff = outline, last_diff_at = clock_timestamp() where b.id = backup.id;
  return outline || jsonb_build_object('objects', objects, 'tables', tables,
    'catalog', jsonb_build_object('read', case when reason is null then 'row versions' else 'definitions' end, 'definitions_read_because', nullif(reason, 'exact')));
exception when syntax_error_or_access_rule_violation or data_exception then
  perform migration_guard.refuse_damaged(backup);
  raise;
end
$$;
comment on function migration_guard.run_diff(migration_guard.jobs) is
  'Does a diff job. Result: {is_clean, summary, objects, tables, catalog}; the backup keeps the first two. Raises backup_damaged.';
