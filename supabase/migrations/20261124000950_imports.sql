create function migration_guard.import_progress(job migration_guard.jobs) returns table (done bigint, total bigint) language sql stable set search_path = pg_catalog, pg_temp as $$ select 0::bigint, 0::bigint $$;
create function migration_guard.drop_leftover_imports() returns void language sql volatile set search_path = pg_catalog, pg_temp as $$ select null::void $$;
create function migration_guard.run_import(job migration_guard.jobs) returns jsonb language sql volatile set search_path = pg_catalog, pg_temp as $$ select '{}'::jsonb $$;
