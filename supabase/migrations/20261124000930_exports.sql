-- Chapter 9.3. Exports: a table as texts of `copy`, each of some pages of its file, so that it can be read by itself.

create function migration_guard.estimated_bytes_expression(name text, type oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
      when t.typname in ('text', 'varchar', 'bpchar', 'name') then format('coalesce(octet_length(%I), 2)', name)
      when t.typname = 'bytea' then format('coalesce(2 * octet_length(%I) + 3, 2)', name)
      when t.typlen > 0 then format('case when %I is null then 2 else %s end', name,
        case when t.typname in ('date', 'time', 'timetz', 'timestamp', 'timestamptz') then 29 when t.typname = 'uuid' then 36 else 2 * t.typlen end)
      -- Compressed, it is some times as long in text.
      else format('coalesce(pg_column_size(%1$I) * case when pg_column_compression(%1$I) is null then 1 else 4 end, 2)', name)
    end
  from pg_type as t where t.oid = type
$$;
comment on function migration_guard.estimated_bytes_expression(text, oid) is
  'An expression for about as many bytes as a column''s value has in the text of copy. None of its functions reads a value that is kept outside of its row.';

create function migration_guard.plan_chunks(relation oid, target_bytes bigint)
returns table (number int, first_block bigint, end_block bigint, estimated_rows bigint, estimated_bytes bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  source record;
begin
  select n.nspname, c.relname, (
    select string_agg(migration_guard.estimated_bytes_expression(a.attname, a.atttypid) || ' + 1', ' + ' order by a.attnum)
    from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  ) as row_bytes into source
  from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
  where c.oid = relation and c.relkind in ('r', 'm') and c.relam = (select m.oid from pg_am as m where m.amname = 'heap');
  if not found or coalesce(target_bytes, 0) < 1 then
    perform migration_guard.fail('invalid_parameter', 'Chunks are made of a table that has pages of its own, and of at least one byte.');
  end if;
  return query execute format($query$
    with page as (
      select (r.ctid::text::point)[0]::bigint as block, count(*) as rows, sum(%s)::bigint as bytes from only %I.%I as r group by 1
    ), placed as (
      select p.*, p.bytes >= $1 as is_large,
        -- Where the page begins in the text of the whole; a large one ends a chunk, and is one by itself.
        (sum(p.bytes) over preceding - p.bytes)::bigint / $1 as part, count(*) filter (where p.bytes >= $1) over preceding as large
      from page as p
      window preceding as (order by p.block)
    ), chunk as (
      select min(p.block) as first_block, sum(p.rows)::bigint as rows, sum(p.bytes)::bigint as bytes
      from placed as p
      group by p.part, p.large, p.is_large
    )
    select (row_number() over following)::int - 1, case when row_number() over following = 1 then 0 else c.first_block end,
      lead(c.first_block) over following, c.rows, c.bytes
    from chunk as c
    window following as (order by c.first_block)
    order by c.first_block$query$, coalesce(source.row_bytes, '1'), source.nspname, source.relname)
  using target_bytes;
end
$$;
comment on function migration_guard.plan_chunks(oid, bigint) is
  'A table''s chunks, from 0: ranges of pages whose rows have about target_bytes as text, less than twice as many, unless a single page has more. Together they
are all pages, also those that come to be at the end: end_block is not in the range, and null in the last one. A table without rows has none. They hold as long as
pg_relation_filenode is the same. Reads each row, and nothing that is kept outside of it. Raises invalid_parameter for what has no pages, as a partitioned table.';

create function migration_guard.chunk_statement(relation oid, first_row tid, end_row tid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('copy (select %s from only %I.%I where ctid operator(pg_catalog.>=) %L%s) to stdout (encoding ''UTF8'')',
    (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
    n.nspname, c.relname, first_row,
    -- Without an order: rows are read by their place, as it is.
    ' and ctid operator(pg_catalog.<) ' || quote_literal(end_row))
  from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
  where c.oid = relation
$$;
comment on function migration_guard.chunk_statement(oid, tid, tid) is
  'The copy that writes the rows from a place on, up to another one or, where end_row is null, to the end: its columns by name, in their order. The same rows are the
same text each time under the same DateStyle, IntervalStyle, TimeZone, extra_float_digits, bytea_output and lc_monetary. Its scan reads no other page, unless enable_tidscan is off.';
