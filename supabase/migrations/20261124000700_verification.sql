-- Chapter 7. Verification. A backup carries the functions that verify it, so that it stands alone: whoever may read the
-- database may call them, with or without the product. The product adds what only it knows.

create function migration_guard.standalone_source(signature text, schema_name text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select quote_literal(regexp_replace(replace(p.prosrc, E'\n    perform migration_guard.give_way();', ''),
    'migration_guard\.(?=(checksum_query|show_progress)\()', replace(format('%I', schema_name), '\', '\\') || '.', 'g'))
  from pg_proc as p where p.oid = signature::regprocedure
$$;
comment on function migration_guard.standalone_source(text, text) is
  'The body of a function, as a literal, that calls what it needs in a backup schema; it gives way to nobody.';

create function migration_guard.create_verification(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $create$
begin
  execute replace(replace(replace(replace(replace($template$
    create function {schema}.sha256_hex(value text) returns text
    language sql immutable
    set search_path = pg_catalog, pg_temp
    as $body$ select encode(sha256(convert_to(value, 'UTF8')), 'hex') $body$;
    comment on function {schema}.sha256_hex(text) is 'SHA-256 of a text, in hex.';

    create function {schema}.compute_manifest() returns text
    language sql stable
    set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO, YMD' set extra_float_digits = 1 set client_encoding = 'UTF8'
    as $body$
      -- Of what there is much, in the binary form of Postgres's protocol, whose texts are in the client's encoding.
      select {schema}.sha256_hex(concat_ws(E'\n',
        (select string_agg(encode(sha256(record_send(o)), 'hex'), E'\n' order by o.classid, o.objid, o.objsubid) from {schema}.objects_backup as o),
        (select string_agg(encode(sha256(record_send(d)), 'hex'), E'\n' order by d.classid, d.objid, d.refclassid, d.refobjid, d.is_setting)
         from {schema}.dependencies_backup as d),
        (select string_agg({schema}.sha256_hex(to_jsonb(t)::text), E'\n' order by t.source_oid) from {schema}.tables_backup as t),
        (select string_agg({schema}.sha256_hex((to_jsonb(m) - 'manifest')::text), E'\n' order by m.backup_id) from {schema}.backup_metadata as m)
      ))
    $body$;
    comment on function {schema}.compute_manifest() is 'SHA-256 over everything in this schema but the rows of the copied tables, whose checksums it covers.';

    create function {schema}.checksum_query(source text, names text[], types oid[]) returns text
    language sql stable
    set search_path = pg_catalog, pg_temp
    as {checksum_query};
    comment on function {schema}.checksum_query(text, text[], oid[]) is 'The query that gives row count and checksum of what another query reads.';

    create function {schema}.show_progress(within_pass bigint default 0) returns void
    language plpgsql stable
    set search_path = pg_catalog, pg_temp
    as {show_progress};
    comment on function {schema}.show_progress(bigint) is 'In a job: shows how far it is. Elsewhere: nothing.';

    create function {schema}.read_checksum(relation oid, head text, tail text, names text[], types oid[], step text, units bigint, out rows bigint, out checksum text)
    language plpgsql stable
    set search_path = pg_catalog, pg_temp set jit = off
    as {read_checksum};
    comment on function {schema}.read_checksum(oid, text, text, text[], oid[], text, bigint) is 'Row count and checksum of a table, in one query or, in a job, in so many that the job can show how far it is.';

    create function {schema}.verify_tables() returns table (check_name text, status text, details text)
    language plpgsql stable
    -- The binary form of a text is in the client's encoding.
    set search_path = pg_catalog, pg_temp set row_security = off set client_encoding = 'UTF8' set quote_all_identifiers = off set jit = off
    as $body$
    declare
      wanted record;
      found_columns jsonb;
      found_forms jsonb;
      found_types oid[];
      found_rows bigint;
      found_checksum text;
      this_major constant text := substring(current_setting('server_version') from '^[0-9]+');
    begin
      for wanted in
        -- Both lists name the tables: one that was taken out of either still has its check.
        select coalesce(m.key, format('%I.%I', t.source_schema, t.source_table)) as source,
          coalesce(m.value ->> 'backup_table', t.backup_table) as backup_table,
          m.value -> 'types' as types, (m.value ->> 'row_count')::bigint as row_count, m.value ->> 'checksum' as checksum, m.value -> 'columns' as columns,
          m.value is not null as is_expected, m.checksum_algorithm, substring(m.server_version from '^[0-9]+') as major
        from (select e.key, e.value, b.checksum_algorithm, b.server_version from {schema}.backup_metadata as b, jsonb_each(b.tables) as e) as m
        full join {schema}.tables_backup as t on format('%I.%I', t.source_schema, t.source_table) = m.key
        order by 1
      loop
        check_name := 'table ' || wanted.source;
        status := 'FAIL';
        if to_regclass(format('{schema}.%I', wanted.backup_table)) is null then
          details := format('expected the table %s: it is gone', wanted.backup_table);
        elsif not exists (
          select from pg_catalog.pg_class as c
          where c.oid = to_regclass(format('{schema}.%I', wanted.backup_table)) and c.relkind = 'r' and c.relpersistence = 'p'
            and not c.relhassubclass and not c.relispartition and not c.relrowsecurity
        ) then
          details := format('expected %s to be a plain table, without heirs, partitions or row security', wanted.backup_table);
        elsif not wanted.is_expected then
          details := format('no row of backup_metadata says what %s must hold', wanted.backup_table);
        elsif wanted.checksum_algorithm is distinct from {algorithm} then
          details := format('its checksum is by %s, and this function computes %s: it cannot tell', wanted.checksum_algorithm, {algorithm});
        else
          -- A checksum covers values, not the names that they go by.
          select coalesce(jsonb_agg(a.attname order by a.attnum), '[]'), coalesce(array_agg(a.atttypid order by a.attnum), '{}'),
            coalesce(jsonb_agg(format_type(a.atttypid, a.atttypmod) || case when a.attgenerated <> '' then ' generated' else '' end order by a.attnum), '[]')
          into found_columns, found_types, found_forms
          from pg_catalog.pg_attribute as a
          where a.attrelid = to_regclass(format('{schema}.%I', wanted.backup_table)) and a.attnum > 0 and not a.attisdropped;
          select r.rows, r.checksum into found_rows, found_checksum
          from (select to_regclass(format('{schema}.%I', wanted.backup_table))::oid as oid) as t
          cross join lateral {schema}.read_checksum(t.oid, format('select * from {schema}.%I', wanted.backup_table), '',
            array(select jsonb_array_elements_text(found_columns)), found_types, 'verifying@' || t.oid,
            case current_setting('migration_guard.progress_unit', true) when 'rows' then wanted.row_count else pg_table_size(t.oid) end) as r;
          if found_columns is distinct from wanted.columns then
            details := format('expected the columns %s, found %s', wanted.columns, found_columns);
          elsif found_forms is distinct from wanted.types then
            details := format('expected columns of the types %s, found %s', wanted.types, found_forms);
          elsif (found_rows, found_checksum) is not distinct from (wanted.row_count, wanted.checksum) then
            status := 'OK';
            details := format('%s rows, checksum %s', found_rows, found_checksum)
              || case when wanted.major <> this_major then format(', computed again by Postgres %s, recorded by %s', this_major, wanted.major) else '' end;
          elsif wanted.major <> this_major and found_rows = wanted.row_count then
            details := format('recorded by Postgres %s with checksum %s, found %s rows with checksum %s by Postgres %s: it cannot tell damage from a server that hashes otherwise',
              wanted.major, wanted.checksum, found_rows, found_checksum, this_major);
          else
            details := format('expected %s rows with checksum %s, found %s rows with checksum %s',
              wanted.row_count, wanted.checksum, found_rows, found_checksum);
          end if;
        end if;
        return next;
      end loop;
    end
    $body$;
    comment on function {schema}.verify_tables() is 'Reads every copied table again and compares columns, count and checksum with what was recorded.';

    create function {schema}.verify_objects() returns table (check_name text, status text, details text)
    language sql stable
    set search_path = pg_catalog, pg_temp set extra_float_digits = 1
    as $body$
      with expected as (
        select k.key as kind, o.key as identity, o.value as checksum
        -- There is one. The limit says so to the planner, who would expect millions of objects otherwise.
        from (select b.objects from {schema}.backup_metadata as b limit 2) as m, jsonb_each(m.objects) as k, jsonb_each_text(k.value) as o
      ),
      found as (
        select o.kind, o.identity, o.checksum as recorded,
          encode(sha256(convert_to(jsonb_build_array(o.definition, o.settings, o.owner, o.comment,
            array(select g from unnest(o.grants) as g order by g collate "C"), o.sort_order)::text, 'UTF8')), 'hex') as checksum
        from {schema}.objects_backup as o
      ),
      compared as (
        select coalesce(e.kind, f.kind) as kind, coalesce(e.identity, f.identity) as identity,
          case
            when f.identity is null then 'missing'
            when e.identity is null then 'unexpected'
            when e.checksum is distinct from f.checksum or f.recorded is distinct from f.checksum then 'changed'
            else 'same'
          end as state
        from expected as e
        full join found as f on f.kind = e.kind and f.identity = e.identity
      )
      select
        case when c.kind = 'index' then 'indexes' when c.kind = 'statistics' then c.kind when c.kind ~ 'y$' then regexp_replace(c.kind, 'y$', 'ies')
          else c.kind || 's' end,
        case when bool_and(c.state = 'same') then 'OK' else 'FAIL' end,
        format('expected %s, found %s as recorded', count(*) filter (where c.state <> 'unexpected'), count(*) filter (where c.state = 'same'))
        || coalesce('; ' || string_agg(c.state || ': ' || c.identity, '; ' order by c.state, c.identity) filter (where c.state <> 'same'), '')
      from compared as c
      group by c.kind
      order by c.kind
    $body$;
    comment on function {schema}.verify_objects() is 'Compares every recorded definition with its checksum, kind by kind.';

    create function {schema}.verify_metadata() returns table (check_name text, status text, details text)
    language sql stable
    set search_path = pg_catalog, pg_temp
    as $body$
      select 'metadata',
        case when count(*) = 1 and bool_and(c.is_right) then 'OK' else 'FAIL' end,
        case count(*)
          when 1 then string_agg(c.details, '')
          else format('expected 1 row in backup_metadata, found %s', count(*))
        end
      from (
        select (m.tables_backed_up, m.functions_backed_up, m.indexes_backed_up, m.policies_backed_up, m.enums_backed_up, m.objects_backed_up, m.rows_backed_up)
            = (t.tables, o.functions, o.indexes, o.policies, o.enums, o.objects, t.rows) as is_right,
          format('expected %s tables, %s rows, %s functions, %s indexes, %s policies, %s enums, %s objects; found %s, %s, %s, %s, %s, %s, %s',
            m.tables_backed_up, m.rows_backed_up, m.functions_backed_up, m.indexes_backed_up, m.policies_backed_up, m.enums_backed_up, m.objects_backed_up,
            t.tables, t.rows, o.functions, o.indexes, o.policies, o.enums, o.objects) as details
        from {schema}.backup_metadata as m,
          (select count(*) as tables, coalesce(sum(b.row_count), 0) as rows from {schema}.tables_backup as b) as t,
          (select count(*) filter (where b.kind in ('function', 'procedure', 'aggregate') and b.in_plan) as functions,
             count(*) filter (where b.kind = 'index' and b.in_plan) as indexes, count(*) filter (where b.kind = 'policy' and b.in_plan) as policies,
             count(*) filter (where b.kind = 'enum' and b.in_plan) as enums, count(*) as objects
           from {schema}.objects_backup as b) as o
      ) as c
      union all
      select 'catalogs', case when count(*) filter (where c.oid is null) = 0 then 'OK' else 'FAIL' end,
        coalesce('expected plain tables, without heirs, rules, triggers or row security: ' || string_agg(k.name, ', ' order by k.name) filter (where c.oid is null),
          'each is a plain table')
      from unnest('{objects_backup,dependencies_backup,tables_backup,backup_metadata}'::text[]) as k (name)
      left join pg_class as c on c.relnamespace = '{schema}'::regnamespace and c.relname = k.name and c.relkind = 'r' and c.relpersistence = 'p'
        and not (c.relhassubclass or c.relispartition or c.relhasrules or c.relhastriggers or c.relrowsecurity)
      union all
      select 'manifest', case when f.recorded = f.computed then 'OK' else 'FAIL' end,
        format('expected %s, found %s', coalesce(f.recorded, 'nothing: backup_metadata has no row'), f.computed)
      from (
        -- Not computed anew for each time that it is named.
        select (select m.manifest from {schema}.backup_metadata as m order by m.backup_id limit 1) as recorded, {schema}.compute_manifest() as computed offset 0
      ) as f
    $body$;
    comment on function {schema}.verify_metadata() is 'Counts what was recorded, and computes the manifest again.';

    create function {schema}.wait_for_locks() returns void
    language plpgsql stable
    set search_path = pg_catalog, pg_temp
    as $body$
    declare
      wanted oid;
    begin
      if current_setting('lock_timeout') = '0' then
        perform set_config('lock_timeout', '10s', true);
      end if;
      for wanted in
        select c.oid from pg_class as c where c.relnamespace = '{schema}'::regnamespace and c.relkind in ('r', 'p', 'v') order by c.oid
      loop
        execute format('select from %s limit 0', wanted::regclass);
      end loop;
    exception when lock_not_available then
      raise exception using errcode = 'lock_not_available', message = format('%s is locked by %s', wanted::regclass, coalesce((
        select string_agg(format('session %s%s (%s, %s, for %s seconds)', a.pid, case when l.granted then '' else ', which waits for it itself,' end, coalesce(a.usename, 'unknown user'),
            coalesce(nullif(a.application_name, ''), 'no application name'), coalesce(floor(extract(epoch from clock_timestamp() - a.xact_start))::text, '?')), ', ')
        from pg_locks as l join pg_stat_activity as a on a.pid = l.pid
        where l.locktype = 'relation' and l.relation = wanted and l.mode = 'AccessExclusiveLock' and l.pid <> pg_backend_pid()
          and l.database = (select d.oid from pg_database as d where d.datname = current_database())
      ), 'a session that is gone by now'));
    end
    $body$;
    comment on function {schema}.wait_for_locks() is
      'Takes the locks that reading this schema needs. Waits for lock_timeout, or 10 seconds, and then says which session is in the way.';

    create function {schema}.verify_backup_integrity() returns table (check_name text, status text, details text)
    language plpgsql stable
    set search_path = pg_catalog, pg_temp set row_security = off
    as $body$
    begin
      perform {schema}.wait_for_locks();
      -- In a verification job: how much there is to read, which nobody knows before the tables can be looked at.
      if current_setting('migration_guard.progress_unit', true) = 'bytes' then
        perform set_config('migration_guard.progress_total', (
          select coalesce(sum(pg_table_size(c.oid)), 0)
          from (select distinct t.backup_table from {schema}.tables_backup as t) as t
          join pg_class as c on c.relnamespace = '{schema}'::regnamespace and c.relname = t.backup_table)::text, true);
      end if;
      return query
      select * from {schema}.verify_metadata()
      union all
      select * from {schema}.verify_tables()
      union all
      select * from {schema}.verify_objects();
    end
    $body$;
    comment on function {schema}.verify_backup_integrity() is
      'Recomputes everything that was recorded when the backup was taken: one line a check, OK or FAIL, with what was expected and found.';
  $template$, '{schema}', format('%I', schema_name)), '{algorithm}', quote_literal(migration_guard.checksum_algorithm())),
    '{checksum_query}', migration_guard.standalone_source('migration_guard.checksum_query(text, text[], oid[])', schema_name)),
    '{read_checksum}', migration_guard.standalone_source('migration_guard.read_checksum(oid, text, text, text[], oid[], text, bigint)', schema_name)),
    '{show_progress}', migration_guard.standalone_source('migration_guard.show_progress(bigint)', schema_name));
end
$create$;
comment on function migration_guard.create_verification(text) is
  'Makes the functions of a backup schema: compute_manifest, checksum_query, read_checksum, verify_tables, verify_objects,
verify_backup_integrity.';

create function migration_guard.verification_source(schema_name text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Not pg_get_functiondef, which another major version may print otherwise.
  select encode(sha256(convert_to(string_agg(s.source, E'\n' order by s.source collate "C"), 'UTF8')), 'hex')
  from (
    select jsonb_build_array(p.proname, oidvectortypes(p.proargtypes), pg_get_function_result(p.oid), l.lanname, p.prokind, p.prosecdef,
      p.provolatile, p.proisstrict, p.proconfig, p.prosrc, p.probin, p.prosqlbody is not null)::text as source
    from pg_catalog.pg_proc as p
    join pg_catalog.pg_language as l on l.oid = p.prolang
    where p.pronamespace = (select n.oid from pg_catalog.pg_namespace as n where n.nspname = schema_name)
  ) as s
$$;
comment on function migration_guard.verification_source(text) is
  'SHA-256 over the functions of a backup schema, so that a verification that was made to say OK is noticed.';

create function migration_guard.catalog_view_differences(schema_name text) returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  named record;
  differs boolean;
begin
  for named in select * from migration_guard.catalog_view_queries(schema_name) loop
    if not exists (
      select from pg_class as c where c.oid = to_regclass(format('%I.%I', schema_name, named.view_name)) and c.relkind = 'v') then
      return next named.view_name || ' is gone';
      continue;
    end if;
    execute format('select exists (%1$s except all table %2$I.%3$I) or exists (table %2$I.%3$I except all %1$s)', named.query, schema_name, named.view_name)
      into differs;
    if differs then
      return next named.view_name || ' shows something else than was recorded';
    end if;
  end loop;
end
$$;
comment on function migration_guard.catalog_view_differences(text) is
  'What is wrong with the named catalogs of a backup schema: each view against the query that it was made of.';

create function migration_guard.integrity_checks(backup migration_guard.backups, by_versions boolean default false)
returns table (check_name text, status text, details text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set row_security = off
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set extra_float_digits = 1
set bytea_output = 'hex' set quote_all_identifiers = off
as $$
declare
  found_source constant text := migration_guard.verification_source(backup.schema_name);
  manifest text;
  context text;
  reason text;
begin
  check_name := 'verification';
  status := case when found_source = backup.verification_source then 'OK' else 'FAIL' end;
  details := format('expected functions with checksum %s, found %s', backup.verification_source,
    coalesce(found_source, case when to_regnamespace(format('%I', backup.schema_name)) is null then 'no schema' else 'none' end));
  return next;
  -- Functions that somebody changed are not run.
  if status = 'FAIL' then return; end if;

  begin
    if by_versions then
      execute format('select %I.wait_for_locks()', backup.schema_name);
      for check_name, status, details in select * from migration_guard.version_checks(backup) loop
        return next;
        if status <> 'OK' then return; end if;
      end loop;
    end if;
    for check_name, status, details in execute format(
      case when by_versions then 'select * from %1$I.verify_metadata() union all select * from %1$I.verify_objects()' else 'select * from %1$I.verify_backup_integrity()' end,
      backup.schema_name) loop
      if check_name = 'manifest' then
        -- At its end it says which one it found.
        manifest := substring(details from '[0-9a-f]{64}$');
      end if;
      return next;
    end loop;
    return query select 'named catalogs', case when count(*) = 0 then 'OK' else 'FAIL' end, coalesce(string_agg(d, '; '), 'each shows what was recorded')
    from migration_guard.catalog_view_differences(backup.schema_name) as d;
  exception when others then
    get stacked diagnostics context = pg_exception_context;
    -- What Postgres says of names and rights has no value of a row in it.
    reason := case when sqlstate ~ '^(42|55P03|3F000)' and migration_guard.is_own_error(sqlstate, context) then sqlerrm else 'SQLSTATE ' || sqlstate end;
    -- A lock that is not to be had says nothing of the backup; anything else that keeps it from being read does.
    if sqlstate = '55P03' then
      perform migration_guard.fail('backup_locked', format('The backup could not be read in time: %s.', reason));
    elsif sqlstate = '40P01' then
      raise;
    end if;
    check_name := 'catalog';
    status := 'FAIL';
    details := format('expected a backup that can be read: %s', reason);
    return next;
  end;
  check_name := 'registered manifest';
  status := case when manifest = backup.manifest then 'OK' else 'FAIL' end;
  details := format('expected %s, found %s', backup.manifest, coalesce(manifest, 'none'));
  return next;

  check_name := 'contents';
  select case when count(*) = 0 then 'OK' else 'FAIL' end,
    coalesce(string_agg(case when f.identity is null then 'missing ' else 'unexpected ' end || coalesce(f.identity, m.identity), '; '
      order by coalesce(f.identity, m.identity)), 'nothing but what the backup made is here')
  into status, details
  from (select c.identity from migration_guard.schema_contents(backup.schema_name) as c) as f
  full join unnest(backup.members) as m (identity) on m.identity = f.identity
  where f.identity is null or m.identity is null;
  return next;

  check_name := 'closed';
  select case when count(*) = 0 then 'OK' else 'FAIL' end,
    coalesce('found ' || string_agg(format('%s on %s to %s', g.privilege, g.object, g.grantee), '; '), 'nobody but its owner has any right here')
  into status, details
  from migration_guard.foreign_grants(backup.schema_name) as g;
  return next;

  check_name := 'stands alone';
  select case when count(*) = 0 then 'OK' else 'FAIL' end, coalesce('found ' || string_agg(r, '; '), 'nothing here depends on anything elsewhere')
  into status, details
  from migration_guard.outside_references(backup.schema_name) as r;
  return next;
end
$$;
comment on function migration_guard.integrity_checks(migration_guard.backups, boolean) is
  'Every integrity check of a backup: its own, that its functions are unchanged, that its manifest is the registered
one, and that it depends on nothing outside. By versions: that nobody has written the copies since, where no value of theirs needs to be read.';

create function migration_guard.is_as_recorded(backup migration_guard.backups) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  manifest text;
begin
  execute format('select %I.compute_manifest()', backup.schema_name) into manifest;
  return manifest is not distinct from backup.manifest;
exception
  when lock_not_available or deadlock_detected then raise;
  when others then return false;
end
$$;
comment on function migration_guard.is_as_recorded(migration_guard.backups) is
  'Whether what a backup recorded is what was registered, without the rows of its copies. What cannot be read is not.';

create function migration_guard.refuse_damaged(backup migration_guard.backups) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  altered text;
begin
  if not migration_guard.is_as_recorded(backup) then
    perform migration_guard.fail('backup_damaged', format(
      'What the backup of %s recorded is not what was registered, and cannot be used: verify it, and read which check failed.', backup.version));
  end if;
  execute format($query$
    select string_agg(t.name, ', ' order by t.name)
    from %1$I.backup_metadata as m
    cross join jsonb_each(m.tables) as e
    cross join lateral (select format('%%I.%%I', %1$L, e.value ->> 'backup_table') as name) as t
    where ((e.value -> 'columns', e.value -> 'types') = (
      select jsonb_agg(a.attname order by a.attnum),
        jsonb_agg(format_type(a.atttypid, a.atttypmod) || case when a.attgenerated <> '' then ' generated' else '' end order by a.attnum)
      from pg_attribute as a where a.attrelid = to_regclass(t.name) and a.attnum > 0 and not a.attisdropped)) is not true
  $query$, backup.schema_name) into altered;
  if altered is not null then
    perform migration_guard.fail('backup_damaged', format('%s is gone, or was altered: verify the backup of %s.', altered, backup.version));
  end if;
end
$$;
comment on function migration_guard.refuse_damaged(migration_guard.backups) is
  'Raises backup_damaged where what a backup recorded, or a column of its copies, is another than it was: for who has met an error
that this may be the cause of. Reads no row of the copies.';

create function migration_guard.enqueue_verification(
  version text, actor text default session_user, request_id text default null, expected_manifest text default null
) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(version);
begin
  if expected_manifest !~ '^[0-9a-f]{64}$' then
    perform migration_guard.fail('invalid_parameter', 'expected_manifest is the manifest that the backup''s job returned: 64 hexadecimal digits.');
  end if;
  return migration_guard.enqueue('verify', backup.version, actor,
    jsonb_strip_nulls(jsonb_build_object('expected_manifest', expected_manifest)), request_id);
end
$$;
comment on function migration_guard.enqueue_verification(text, text, text, text) is
  'Queues the verification of a backup, against a manifest that was noted elsewhere if one is given. Raises backup_not_found or invalid_parameter.';

create function migration_guard.run_verification(job migration_guard.jobs) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(job.version);
  noted constant text := job.parameters ->> 'expected_manifest';
  checks jsonb;
  failed bigint;
begin
  perform migration_guard.report_progress(job, 'checks', 0, 0);
  select jsonb_agg(to_jsonb(c)), count(*) filter (where c.status <> 'OK') into checks, failed
  from (
    select * from migration_guard.integrity_checks(backup)
    union all
    -- That it is also the one of the rows and definitions, the checks above say.
    select 'expected manifest', case when noted = backup.manifest then 'OK' else 'FAIL' end, format('expected %s, found %s', noted, backup.manifest)
      || case when noted = backup.manifest then '' else ': the note is wrong, or this is not the backup that it is of' end
    where noted is not null
  ) as c;
  update migration_guard.backups as b set verified_ok = (failed = 0), verified_at = clock_timestamp() where b.id = backup.id;
  return jsonb_build_object('ok', failed = 0, 'failed', failed, 'manifest', backup.manifest, 'checks', checks);
end
$$;
comment on function migration_guard.run_verification(migration_guard.jobs) is
  'Does a verification job. Result: {ok, failed, manifest, checks: [{check_name, status, details}]}.';
