-- Chapter 5. Copying one table: how each column is stored, and the checksum that says the copy is whole.

create function migration_guard.stored_columns(relation oid)
returns table (attnum int, name text, type text, stored_type text, collation_name text, expression text, is_lasting boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- It is asked for each table several times, and to plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  with recursive columns as (
    select a.attnum as number, a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attgenerated = 'v' as is_virtual
    from pg_catalog.pg_attribute as a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
  ),
  -- A domain leads to the type that it is made of.
  bases as (
    select c.number, c.atttypid as typid, false as is_domain from columns as c
    union all
    select b.number, t.typbasetype, true
    from bases as b
    join pg_catalog.pg_type as t on t.oid = b.typid
    where t.typtype = 'd'
  ),
  classified as (
    select c.*, b.is_domain, b.typid as base, t.typtype = 'e' as is_enum, t.typcategory = 'A' and e.typtype = 'e' as is_enum_array,
      -- Built in, so that no migration can touch it, and with a binary form, so that it can be hashed.
      t.oid < 16384 and t.typnamespace = 'pg_catalog'::regnamespace and t.typtype in ('b', 'r', 'm')
        and t.typsend <> 0 and (e.oid is null or e.typsend <> 0)
        -- regclass and the like hold the OID of an object, which goes by another name after a migration.
        and t.typname !~ '^_?reg' as is_built_in
    from columns as c
    join bases as b on b.number = c.number
    join pg_catalog.pg_type as t on t.oid = b.typid and t.typtype <> 'd'
    left join pg_catalog.pg_type as e on e.oid = t.typelem
  )
  select
    c.number::int,
    c.attname::text,
    pg_catalog.format_type(c.atttypid, c.atttypmod),
    case
      when not c.is_built_in then 'text'
      when c.is_domain then pg_catalog.format_type(c.base, -1)
      else pg_catalog.format_type(c.atttypid, c.atttypmod)
    end,
    (
      select format('%I.%I', n.nspname, l.collname)
      from pg_catalog.pg_collation as l
      join pg_catalog.pg_namespace as n on n.oid = l.collnamespace
      where l.oid = c.attcollation and l.oid <> 100
    ),
    case
      -- The text that the type's own output function gives: a cast could be somebody's function. num_nulls, since a
      -- composite of nulls is null to `is null`.
      when c.is_enum then format('textin(enum_out(%I%s))', c.attname, case when c.is_domain then '::' || pg_catalog.format_type(c.base, -1) end)
      when not c.is_built_in then format('case when num_nulls(%1$I) = 0 then format(''%%s'', %1$I) end', c.attname)
      when c.is_domain then format('%I::%s', c.attname, pg_catalog.format_type(c.base, -1))
      else format('%I', c.attname)
    end
    -- The column must not depend on a collation that can be dropped; those below 12000 cannot.
    || case when c.attcollation >= 12000 then ' collate "default"' else '' end,
    (c.is_built_in or c.is_enum or coalesce(c.is_enum_array, false)) and not c.is_virtual
  from classified as c
  order by c.number;
end
$$;
comment on function migration_guard.stored_columns(oid) is
  'How a backup stores each column of a table: built-in types as they are, domains as what they are made of, and every
other type as the text of its output function, so that nothing in the copy depends on a type that a migration can change.
Lasting is what reads as it does as long as its row is not written anew, but for the labels of enums; a composite type, a
function of an extension or a virtual column''s expression can be altered beneath a row.';

create function migration_guard.enum_parts(type oid) returns table (enum oid, arrays int, is_plain boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive parts (oid, arrays, is_plain) as (
    select $1, 0, true
    union
    select m.oid, p.arrays + case when m.is_element then 1 else 0 end, p.is_plain and m.is_plain
    from parts as p
    join pg_type as t on t.oid = p.oid
    cross join lateral (
      select t.typbasetype, false, true where t.typtype = 'd'
      union all
      select t.typelem, true, true where t.typcategory = 'A' and t.typelem <> 0 and t.typtype <> 'd'
      union all
      select r.rngsubtype, false, false from pg_range as r where r.rngtypid = t.oid or r.rngmultitypid = t.oid
      union all
      select a.atttypid, false, false from pg_attribute as a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    ) as m (oid, is_element, is_plain)
  )
  select p.oid, p.arrays, p.is_plain from parts as p join pg_type as t on t.oid = p.oid where t.typtype = 'e'
$$;
comment on function migration_guard.enum_parts(oid) is
  'The enums that a type is made of, in how many arrays, and whether through nothing but arrays and domains.';

create function migration_guard.enum_labels(type oid) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(e.oid, e.enumlabel), '{}')
  from migration_guard.enum_parts($1) as p
  join pg_enum as e on e.enumtypid = p.enum
$$;
comment on function migration_guard.enum_labels(oid) is
  'The labels that a stored text of a type can hold, by the OIDs of their enum values.';

create function migration_guard.projection(relation oid, columns text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select format(
      'select %s from %s%I.%I',
      columns,
      -- A child's rows are the child's own; a partitioned table has none but its partitions'.
      case when c.relkind = 'r' then 'only ' else '' end,
      n.nspname, c.relname)
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where c.oid = relation);
end
$$;
comment on function migration_guard.projection(oid, text) is 'The query that reads some columns, or expressions over them, of a table.';

create function migration_guard.projection(relation oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.projection(relation,
    coalesce(string_agg(format('%s as %I', s.expression, s.name), ', ' order by s.attnum), ''))
  from migration_guard.stored_columns(relation) as s
$$;
comment on function migration_guard.projection(oid) is 'The query that reads a table in the form in which a backup stores it.';

-- The checksum --------------------------------------------------------------------------------------------------------

create function migration_guard.checksum_algorithm() returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select 'sums of mix(xor(column hashes)), folded and high half' $$;
comment on function migration_guard.checksum_algorithm() is
  'Name of what checksum_query computes. A checksum is comparable under the same name and server major version only.';

create function migration_guard.checksum_query(source text, names text[], types oid[]) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Each column is hashed with a seed of its own, so that values cannot change places unseen; the hashes of a row are joined
  -- by xor and mixed again, because sums of what is linear in the columns hide an exchange between rows; the sums over all
  -- rows depend on no order and, unlike an xor, count duplicates. One is of both halves of a row's hash, folded into one, and
  -- the other of the high half: together they tell all of it.
  with direct (type, hash) as (
    -- Types whose own hash covers every byte. That of int8 folds its halves into one: the high one is hashed beside.
    values
      ('bool', 'hashint4extended(r.%I::int4, %s)'),
      ('int2', 'hashint2extended(r.%I, %s)'),
      ('int4', 'hashint4extended(r.%I, %s)'),
      ('int8', 'hashint8extended(r.%1$I, %2$s) # hashint4extended((r.%1$I >> 32)::int4, %3$s)'),
      ('oid', 'hashoidextended(r.%I, %s)'),
      ('uuid', 'uuid_hash_extended(r.%I, %s)'),
      ('char', 'hashcharextended(r.%I, %s)'),
      ('name', 'hashnameextended(r.%I, %s)'),
      ('text', 'hashtextextended(r.%I::text collate "C", %s)'),
      ('varchar', 'hashtextextended(r.%I::text collate "C", %s)'),
      ('refcursor', 'hashtextextended(r.%I::text collate "C", %s)'),
      ('json', 'hashtextextended(r.%I::text collate "C", %s)'),
      ('xml', 'hashtextextended(r.%I::text collate "C", %s)'),
      ('bytea', 'hash_array_extended(array[r.%I], %s)')
  ),
  columns as (
    select c.name, c.number, d.hash,
      case when t.typsend = 0 then 'convert_to(format(''%%s'', r.%I), ''UTF8'')' else t.typsend::regproc || '(r.%I)' end as bytes
    from unnest(names, types) with ordinality as c (name, type, number)
    join pg_catalog.pg_type as t on t.oid = c.type
    left join direct as d on d.type = t.typname and t.typnamespace = 'pg_catalog'::regnamespace
  ),
  -- Columns of all other types, whose equality is not that of their bytes, are hashed together as an array of bytes.
  hashes as (
    select c.number, format(c.hash, c.name, 2 * c.number, 2 * c.number + 1) as hash from columns as c where c.hash is not null
    union all
    select 0, format('hash_array_extended(array[%s], 0)', string_agg(format(c.bytes, c.name), ', ' order by c.number))
    from columns as c where c.hash is null
    having count(*) > 0
  )
  -- `offset '0'` keeps Postgres from computing a row's hash where it stands for each time that it is named; `offset 0` would
  -- keep it from a parallel plan as well.
  select format($query$
    select count(*), concat_ws(':', count(*),
      coalesce(sum(hashint8extended(h, 0)), 0), coalesce(sum(hashint4extended((h >> 32)::int4, 1)), 0))
    from (select %s as h from (%s) as r offset '0') as x$query$,
    coalesce(string_agg(format('coalesce(%s, 0)', h.hash), ' # ' order by h.number), '0::int8'), source)
  from hashes as h
$$;
comment on function migration_guard.checksum_query(text, text[], oid[]) is
  'The query that gives row count and checksum of what another query reads, whose columns have these names and built-in
types. It depends on pg_catalog alone: each backup schema has a copy of this function for its verification.';

-- Giving way to others ------------------------------------------------------------------------------------------------

create function migration_guard.others_last_active() returns timestamptz
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  perform pg_stat_clear_snapshot();
  return (
    select coalesce(max(case
      -- Hidden from this role, or not told at all.
      when a.state is null or a.state = 'disabled' then 'infinity'
      when a.state <> 'active' or a.wait_event_type in ('Client', 'Lock', 'Timeout') then a.state_change
      else clock_timestamp()
    end), '-infinity')
    from pg_stat_activity as a
    where coalesce(a.backend_type = 'client backend', a.datid is not null) and a.pid <> pg_backend_pid() and not starts_with(a.application_name, 'migration_guard/'));
end
$$;
comment on function migration_guard.others_last_active() is
  'When a session of the server that is not at work for a job last began or ended anything: now for one that runs something,
infinity where the role may not see it.';

create function migration_guard.is_quiet(in_session boolean default false) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  now_at constant float8 := extract(epoch from clock_timestamp());
  -- Rows written, transactions, and when that was: as they were when somebody was last seen at work; and when the first look was.
  seen float8[] := nullif(current_setting('migration_guard.traffic', true), '');
  written float8;
  transactions float8;
begin
  -- What this transaction does is not counted before its end.
  perform pg_stat_clear_snapshot();
  select sum(d.tup_inserted + d.tup_updated + d.tup_deleted), sum(d.xact_commit + d.xact_rollback) into written, transactions
  from pg_stat_database as d;
  if seen is null or written < seen[1] or written - seen[1] > 20 or transactions - seen[2] > 20 + 20 * (now_at - seen[3]) then
    seen := array[written, transactions, now_at, coalesce(seen[4], now_at)];
    perform set_config('migration_guard.traffic', seen::text, not in_session);
  end if;
  return now_at - seen[3] > 1.2
    -- Sessions tell of their rows once a second. Whoever writes all the time has been seen at it sooner.
    or (seen[3] = seen[4] and now_at - seen[3] > 0.1 and migration_guard.others_last_active() < to_timestamp(seen[3]));
end
$$;
comment on function migration_guard.is_quiet(boolean) is
  'Whether this transaction, or session, has seen for a second that nobody writes to any database of the server, but for 20 rows, and that
there are fewer than 20 transactions a second; or in its first second, that no other session has done anything for a tenth of one.
False at the first call.';

create function migration_guard.give_way() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  -- How many parallel workers there may be for one query, of a worker; 'help' for a helper.
  gives_way constant text := nullif(current_setting('migration_guard.gives_way', true), '');
  job_number constant int := substring(current_setting('migration_guard.progress_job', true) from '[0-9]+$');
  worker int;
  step text;
begin
  if gives_way is null then return; end if;
  if gives_way <> 'help' then
    perform set_config('max_parallel_workers_per_gather', case
      when migration_guard.is_quiet()
        and not exists (select from migration_guard.helpers_of(job_number) as h where not starts_with(h.shown, '='))
        then gives_way
      else '0' end, true);
    return;
  end if;
  worker := (select j.worker_pid from migration_guard.jobs as j where j.number = job_number);
  while not migration_guard.is_quiet() loop
    step := (select substring(a.application_name from format('^migration_guard/%s/.*/([^/]*)$', job_number)) from pg_stat_activity as a where a.pid = worker);
    -- A worker that waits leaves its processor to the helper.
    exit when step = 'reading';
    if step is null or step ~ '^reading@' then
      raise exception using errcode = 'operator_intervention', message = 'The worker reads the tables itself, or is gone.';
    end if;
    -- Seldom, since to look takes a processor, too.
    perform pg_sleep(0.1);
  end loop;
end
$$;
comment on function migration_guard.give_way() is
  'In a backup that has no more than two processors, before it reads the next piece of a table: has the worker take a second one only
while nobody else is at work, and the helper wait as long as somebody is. Raises operator_intervention in a helper that is not needed any more.';

create function migration_guard.has_begun(job_number int) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_stat_clear_snapshot();
  return exists (select from migration_guard.helpers_of(job_number) as h where h.shown !~ '^0/');
end
$$;
comment on function migration_guard.has_begun(int) is 'Whether a helper of a job has read anything yet.';

-- Reading for the checksum --------------------------------------------------------------------------------------------

create function migration_guard.read_checksum(
  relation oid, head text, tail text, names text[], types oid[], step text, units bigint, out rows bigint, out checksum text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  leaves constant oid[] := array(
    select c.oid from (select relation as oid union select p.relid from pg_partition_tree(relation) as p) as r
    -- Each by itself: see has_blocks.
    cross join lateral (select x.oid from pg_class as x where x.oid = r.oid and x.relkind <> 'p' offset 0) as c);
  in_one constant boolean := coalesce(current_setting('migration_guard.progress_job', true), '') = '' or exists (
    select from pg_class as c where c.oid = any (leaves) and (c.relkind <> 'r' or c.relam <> (select a.oid from pg_am as a where a.amname = 'heap')));
  -- Sooner where others may need the processor.
  seconds constant float8 := case when coalesce(current_setting('migration_guard.gives_way', true), '') = '' then 1 else 0.4 end;
  blocks bigint[];
  highest bigint := 0;
  size bigint := 0;
  start bigint := 0;
  stop bigint;
  begun timestamptz;
  part_rows bigint;
  part text;
  sums numeric[] := '{0,0}';
begin
  perform set_config('migration_guard.progress_step', step, true);
  if not in_one then
    perform migration_guard.show_progress();
    blocks := array(select pg_relation_size(l) / current_setting('block_size')::int from unnest(leaves) as l);
    highest := coalesce((select max(b) from unnest(blocks) as b), 0);
    -- As much as is read in about a second at most; what comes after is cut by how long that has taken.
    size := ceil(67108864.0 * seconds * highest / greatest((select sum(pg_table_size(l)) from unnest(leaves) as l), 1));
  end if;
  rows := 0;
  loop
    -- A short rest is read along.
    stop := case when start + size * 5 / 4 < highest then start + size end;
    perform migration_guard.give_way();
    begun := clock_timestamp();
    execute migration_guard.checksum_query(
      case
        -- The whole in one, as Postgres likes it best.
        when start = 0 and stop is null then head || tail
        -- Some ranges for each process that may take part, so that none is done long before another. Beyond what was the end
        -- there may be rows by now.
        else (
          select string_agg(format('%s where ctid >= ''(%s,0)''%s%s', head, r.low, case when r.high is not null then format(' and ctid < ''(%s,0)''', r.high) end, tail), ' union all ')
          from (
            select start + n * (coalesce(stop, highest) - start) / s.pieces as low,
              case when stop is not null or n + 1 < s.pieces then start + (n + 1) * (coalesce(stop, highest) - start) / s.pieces end as high
            from (select 4 * (current_setting('max_parallel_workers_per_gather')::bigint + 1) as pieces) as s, generate_series(0, s.pieces - 1) as n
          ) as r
        ) end,
      names, types) into part_rows, part;
    rows := rows + part_rows;
    sums := array[sums[1] + split_part(part, ':', 2)::numeric, sums[2] + split_part(part, ':', 3)::numeric];
    exit when stop is null;
    start := stop;
    size := greatest(1, least(8 * size, size * seconds / greatest(extract(epoch from clock_timestamp() - begun), 0.001)));
    perform migration_guard.show_progress((units * (select sum(least(b, start)) from unnest(blocks) as b) / (select sum(b) from unnest(blocks) as b))::bigint);
  end loop;
  checksum := concat_ws(':', rows, sums[1], sums[2]);
  perform set_config('migration_guard.progress_done',
    (nullif(current_setting('migration_guard.progress_done', true), '')::bigint + units)::text, true);
  perform migration_guard.show_progress();
end
$$;
comment on function migration_guard.read_checksum(oid, text, text, text[], oid[], text, bigint) is
  'Row count and checksum of what a query reads from a table, whose text is a head that ends with the table and a tail. In a
job it is read piece by piece, as of one moment, and each piece shows how far it is: a step of so many units of work. Each
backup schema has a copy of this function, as of checksum_query.';

create function migration_guard.source_checksum_query(relation oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.checksum_query(
    migration_guard.projection(relation),
    coalesce(array_agg(s.name order by s.attnum), '{}'),
    coalesce(array_agg(s.stored_type::regtype::oid order by s.attnum), '{}'))
  from migration_guard.stored_columns(relation) as s
$$;
comment on function migration_guard.source_checksum_query(oid) is
  'The query that gives row count and checksum of a table, in the form in which a backup stores it.';

create function migration_guard.source_checksum(relation oid, step text, units bigint, out rows bigint, out checksum text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.rows, r.checksum
  from (
    select coalesce(array_agg(s.name order by s.attnum), '{}') as names, coalesce(array_agg(s.stored_type::regtype::oid order by s.attnum), '{}') as types
    from migration_guard.stored_columns(relation) as s
  ) as c
  cross join lateral migration_guard.read_checksum(relation, migration_guard.projection(relation), '', c.names, c.types, step, units) as r
$$;
comment on function migration_guard.source_checksum(oid, text, bigint) is
  'Row count and checksum of a table, in the form in which a backup stores it, read as a step of so many units of work.';

create function migration_guard.copy_checksum(relation oid, step text, units bigint, out rows bigint, out checksum text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Nothing beside it in FROM: in a join it would be called for rows that the join then leaves out.
  select r.rows, r.checksum
  from migration_guard.read_checksum(
    relation,
    (select format('select * from only %I.%I', n.nspname, c.relname) from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = relation),
    '',
    array(select a.attname::text from pg_attribute as a where a.attrelid = relation and a.attnum > 0 and not a.attisdropped order by a.attnum),
    array(select a.atttypid from pg_attribute as a where a.attrelid = relation and a.attnum > 0 and not a.attisdropped order by a.attnum),
    step, units) as r
$$;
comment on function migration_guard.copy_checksum(oid, text, bigint) is
  'Row count and checksum of a copied table, from its own columns alone, read as a step of so many units of work.';

-- The copy, and its proof ---------------------------------------------------------------------------------------------

create function migration_guard.backup_object_name(name text, suffix text, reserved text[]) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when octet_length(name || suffix) <= 63 and name || suffix <> all (reserved) then name || suffix
    else (
      -- The longest beginning that leaves room for a hash of the whole; cut between characters, counted in bytes.
      select left(name, max(n)) || '_' || left(md5(name), 8) || suffix
      from generate_series(0, length(name)) as n
      where octet_length(left(name, n)) + 9 + octet_length(suffix) <= 63
    )
  end
$$;
comment on function migration_guard.backup_object_name(text, text, text[]) is
  'Name of something in a backup schema: with the suffix, or with a hash too where it is too long or taken.';

create function migration_guard.assert_still_named(relation oid, schema_name text, table_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A schema can be renamed without a lock on its tables. to_regclass knows the present name, whatever the snapshot.
  if to_regclass(format('%I.%I', schema_name, table_name))::oid is distinct from relation then
    perform migration_guard.fail('copy_differs', format('%I.%I became another table during the backup.', schema_name, table_name));
  end if;
end
$$;
comment on function migration_guard.assert_still_named(oid, text, text) is
  'Raises copy_differs unless a table goes by a name at this moment.';

create function migration_guard.copy_table(schema_name text, relation oid, units bigint, is_helped boolean) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Compiling the expressions of hundreds of columns takes longer than evaluating them.
set jit = off
-- A place in a table tells how much of it has been read only where the reading begins at its beginning.
set synchronize_seqscans = off
as $$
declare
  reserved constant text[] := '{objects_backup,dependencies_backup,tables_backup,functions_backup,indexes_backup,policies_backup,backup_metadata}';
  source record;
  backup_table text;
  source_rows bigint;
  source_checksum text;
begin
  select n.nspname, c.relname into source
  from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
  where c.oid = relation;
  backup_table := migration_guard.backup_object_name(source.relname, '_backup', reserved);
  -- What a long name is shortened to may be the name of another table.
  if to_regclass(format('%I.%I', schema_name, backup_table)) is not null then
    backup_table := migration_guard.backup_object_name(source.relname, format('_%s_backup', relation), reserved);
  end if;

  perform migration_guard.assert_still_named(relation, source.nspname, source.relname);
  perform migration_guard.assert_may_be_read(array[relation]);
  perform migration_guard.refuse_views(true);
  if not is_helped then
    select r.rows, r.checksum into source_rows, source_checksum from migration_guard.source_checksum(relation, 'reading@' || relation, units) as r;
  end if;
  perform migration_guard.begin_pass('copying@' || relation, array[relation], units);
  execute format('create table %I.%I as %s%s', schema_name, backup_table, migration_guard.projection(relation),
    ' where ' || migration_guard.ticking(relation, null));
  perform migration_guard.finish_work(units);
  perform migration_guard.refuse_views(false);
  perform migration_guard.assert_still_named(relation, source.nspname, source.relname);
  execute format(
    'insert into %I.tables_backup (source_oid, source_schema, source_table, backup_table, row_count, source_checksum, backup_bytes, source_filenode, columns)
     select $1, $2, $3, $4, $5, $6, pg_catalog.pg_total_relation_size(%L::regclass), pg_catalog.pg_relation_filenode($1),
       (select coalesce(jsonb_agg(to_jsonb(s) - ''{expression,is_lasting}''::text[] || jsonb_build_object(''labels'',
          case when a.atttypid < 16384 then ''{}'' else migration_guard.enum_labels(a.atttypid) end) order by s.attnum), ''[]'')
        from migration_guard.stored_columns($1) as s join pg_catalog.pg_attribute as a on a.attrelid = $1 and a.attnum = s.attnum)',
    schema_name, format('%I.%I', schema_name, backup_table))
  using relation, source.nspname, source.relname, backup_table, source_rows, source_checksum;
  execute format('comment on table %I.%I is %L', schema_name, backup_table,
    format('Rows of %I.%I as they were when the backup was taken.', source.nspname, source.relname));
end
$$;
comment on function migration_guard.copy_table(text, oid, bigint, boolean) is
  'Copies a table into a backup schema, and records its checksum, unless a helper reads it: that many units of work each.';

create function migration_guard.fail_copy(source_schema text, source_table text, copy_rows bigint, source_rows bigint) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform migration_guard.fail(
    'copy_differs', format('The copy of %I.%I is not what was read: %s rows against %s.', source_schema, source_table, copy_rows, source_rows));
end
$$;
comment on function migration_guard.fail_copy(text, text, bigint, bigint) is 'Raises copy_differs, for a copy that is not what was read.';

create function migration_guard.prove_copy(schema_name text, relation oid, units bigint) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
set synchronize_seqscans = off
as $$
declare
  recorded record;
  copy_rows bigint;
  copy_checksum text;
begin
  execute format('select * from %I.tables_backup as t where t.source_oid = $1', schema_name) into recorded using relation;
  select r.rows, r.checksum into copy_rows, copy_checksum
  from migration_guard.copy_checksum(format('%I.%I', schema_name, recorded.backup_table)::regclass, 'proving@' || relation, units) as r;
  if recorded.source_checksum is not null and (recorded.row_count, recorded.source_checksum) is distinct from (copy_rows, copy_checksum) then
    perform migration_guard.fail_copy(recorded.source_schema, recorded.source_table, copy_rows, recorded.row_count);
  end if;
  execute format('update %I.tables_backup as t set row_count = $2, backup_checksum = $3 where t.source_oid = $1', schema_name)
    using relation, copy_rows, copy_checksum;
end
$$;
comment on function migration_guard.prove_copy(text, oid, bigint) is
  'Reads a copy back, and records its checksum: so many units of work. Raises copy_differs where it is not that of the table.';

create function migration_guard.prove_sources(schema_name text, job_number int, sizes jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
set synchronize_seqscans = off
as $$
declare
  digest text;
  tables jsonb;
  recorded record;
  source record;
begin
  -- A helper that has given way until now goes on when the worker waits for it. One that has read nothing yet is not waited for.
  if not migration_guard.must_give_way() or migration_guard.has_begun(job_number) then
    perform migration_guard.begin_step('reading');
    digest := migration_guard.digest_of_helper(job_number);
  end if;
  execute format('select jsonb_agg(jsonb_build_array(t.source_oid, t.row_count, t.backup_checksum)) from %I.tables_backup as t', schema_name) into tables;
  if migration_guard.sources_digest(coalesce(tables, '[]')) is distinct from digest then
    -- The helper is gone, or has found something else: what that is must be seen here.
    for recorded in execute format('select * from %I.tables_backup as t order by t.source_schema, t.source_table', schema_name) loop
      perform migration_guard.assert_still_named(recorded.source_oid, recorded.source_schema, recorded.source_table);
      perform migration_guard.assert_may_be_read(array[recorded.source_oid]);
      perform migration_guard.refuse_views(true);
      select r.rows, r.checksum into source
      from migration_guard.source_checksum(recorded.source_oid, 'reading@' || recorded.source_oid, (sizes ->> recorded.source_oid::text)::bigint) as r;
      perform migration_guard.refuse_views(false);
      if (source.rows, source.checksum) is distinct from (recorded.row_count, recorded.backup_checksum) then
        perform migration_guard.fail_copy(recorded.source_schema, recorded.source_table, recorded.row_count, source.rows);
      end if;
    end loop;
  end if;
  execute format('update %I.tables_backup as t set source_checksum = t.backup_checksum', schema_name);
end
$$;
comment on function migration_guard.prove_sources(text, int, jsonb) is
  'Compares the copies with what a helper has read, or else with the tables, which are read again. Raises copy_differs.';
