-- Chapter 1. The two schemas, the versions that name a migration, and the errors that the product raises.

create schema migration_guard;
comment on schema migration_guard is
  'Migration Guard: plans, jobs, backups and everything that does work. Never exposed over REST.';
revoke all on schema migration_guard from public, anon, authenticated, service_role;

create schema migration_guard_api;
comment on schema migration_guard_api is
  'Migration Guard: the functions that REST exposes to service_role, and nothing else.';
revoke all on schema migration_guard_api from public, anon, authenticated, service_role;

create function migration_guard.foreign_grants(schema_name text)
returns table (object text, grantee text, privilege text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with named as (
    select n.* from pg_namespace as n where n.nspname = schema_name
  ), objects (object, owner, acl) as (
    select format('schema %I', n.nspname), n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner))
    from named as n
    union all
    select format('%s %I.%I', case c.relkind when 'S' then 'sequence' else 'table' end, schema_name, c.relname), c.relowner,
      coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))
    from pg_class as c
    where c.relnamespace = (select n.oid from named as n) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    select format('routine %s', p.oid::regprocedure), p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    from pg_proc as p where p.pronamespace = (select n.oid from named as n)
    union all
    -- An array has the rights of its elements.
    select format('type %I.%I', schema_name, t.typname), t.typowner, coalesce(t.typacl, acldefault('T', t.typowner))
    from pg_type as t where t.typnamespace = (select n.oid from named as n) and t.typelem = 0
  )
  select g.object, case when g.grantee = 0 then 'public' else format('%I', pg_get_userbyid(g.grantee)) end, g.privilege
  from (
    select o.object, o.owner, a.grantee, a.privilege_type
    from objects as o
    cross join lateral aclexplode(o.acl) as a
    union all
    select format('table %I.%I', schema_name, c.relname), c.relowner, a.grantee, format('%s (%I)', a.privilege_type, t.attname)
    from pg_class as c
    join pg_attribute as t on t.attrelid = c.oid
    cross join lateral aclexplode(t.attacl) as a
    where c.relnamespace = (select n.oid from named as n)
  ) as g (object, owner, grantee, privilege)
  where g.grantee <> g.owner
$$;
comment on function migration_guard.foreign_grants(text) is
  'What anybody but its owner may do with a schema and with what is in it, the privileges that Postgres gives by itself included.';

create function migration_guard.close_schema(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  granted record;
begin
  for granted in select distinct g.object, g.grantee from migration_guard.foreign_grants(schema_name) as g loop
    -- Of a table, its columns too; and from whoever had it from them in turn.
    execute format('revoke all on %s from %s cascade', granted.object, granted.grantee);
  end loop;
end
$$;
comment on function migration_guard.close_schema(text) is
  'Takes away what Postgres or a project''s default privileges gave to anybody but its owner in a schema.';

create function migration_guard.product_version() returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select '0.1.0' $$;
comment on function migration_guard.product_version() is
  'Version of the SQL half of the product; /ready compares it with the Edge Function''s.';

-- Errors --------------------------------------------------------------------------------------------------------------

create view migration_guard.error_codes with (security_invoker = true) as
select * from (values
  ('MG001', 'invalid_version'),
  ('MG002', 'invalid_plan'),
  ('MG003', 'invalid_parameter'),
  ('MG004', 'plan_not_found'),
  ('MG005', 'backup_not_found'),
  ('MG006', 'job_not_found'),
  ('MG007', 'objects_not_found'),
  ('MG008', 'plan_in_use'),
  ('MG009', 'backup_exists'),
  ('MG010', 'backup_in_progress'),
  ('MG011', 'migration_already_applied'),
  ('MG012', 'not_ready'),
  ('MG013', 'cleanup_refused'),
  ('MG014', 'copy_differs'),
  ('MG015', 'worker_lost'),
  ('MG016', 'statement_timeout_not_lifted'),
  ('MG017', 'types_changed'),
  ('MG018', 'scheduler_missing'),
  ('MG019', 'backup_damaged'),
  ('MG020', 'backup_locked'),
  ('MG021', 'plan_changed'),
  ('MG022', 'rollback_refused'),
  ('MG023', 'rows_violate_constraint'),
  ('MG024', 'rollback_differs'),
  ('MG025', 'job_finished'),
  ('MG026', 'idempotency_key_reused'),
  ('MG027', 'role_required'),
  ('MG028', 'last_admin'),
  ('MG029', 'key_not_found'),
  ('MG030', 'audit_is_append_only'),
  ('MG031', 'rate_limited'),
  ('MG032', 'too_many_jobs'),
  ('MG035', 'second_key_required'),
  ('MG040', 'untrusted_code'),
  ('MG045', 'export_not_found'),
  ('MG046', 'export_in_use'),
  ('MG047', 'row_too_large'),
  ('MG050', 'import_damaged'),
  ('MG051', 'manifest_invalid'),
  -- Postgres's own states that a caller can do something about.
  ('23514', 'check_violation'),
  ('40P01', 'deadlock'),
  ('42501', 'insufficient_privilege'),
  ('53100', 'disk_full'),
  ('54000', 'row_too_wide'),
  ('55P03', 'lock_timeout'),
  ('57014', 'query_canceled')
) as codes (sqlstate, code);
comment on view migration_guard.error_codes is
  'The stable code behind each SQLSTATE that the product raises (class MG) or passes on.';

create function migration_guard.error_code(sqlstate text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select codes.code from migration_guard.error_codes as codes where codes.sqlstate = $1), 'database_error')
$$;
comment on function migration_guard.error_code(text) is
  'The stable code of a SQLSTATE; database_error for one that the product does not know.';

create function migration_guard.fail(code text, message text, detail jsonb default null) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  state constant text := (select codes.sqlstate from migration_guard.error_codes as codes where codes.code = fail.code);
  -- By what it has said itself the function knows that nobody else has raised this.
  call constant text := nullif(current_setting('request.headers', true), '')::jsonb ->> 'x-migration-guard-call';
  told constant jsonb := case when call is null then detail else coalesce(detail, '{}') || jsonb_build_object('call', call) end;
begin
  if told is null then
    raise exception using errcode = state, message = fail.message;
  end if;
  raise exception using errcode = state, message = fail.message, detail = told::text;
end
$$;
comment on function migration_guard.fail(text, text, jsonb) is
  'Raises one of the product''s errors: a stable code, one sentence for the reader, and what a program may need as JSON.';

create function migration_guard.is_own_error(state text, context text) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
      -- Names with quotes in them may read like anything.
      when state like 'MG%' then first.line ~ '^[^"]*\mmigration_guard[.]fail[(]'
      when first.line ~ '\mRAISE$' then first.line ~ '^[^"]*\mmigration_(guard|backup_\w+)[.]'
      else first.line !~ '^PL/(?!pgSQL )'
    end
  from (select split_part(coalesce(context, ''), E'\n', 1)) as first (line)
$$;
comment on function migration_guard.is_own_error(text, text) is
  'Whether an error is the product''s or Postgres''s own, by where it was raised. Code of a project, in a trigger say, can raise any state with any message.';

-- Reading what belongs to others ---------------------------------------------------------------------------------------

create function migration_guard.refuse_views(refuse boolean) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  exclusion constant text := current_setting('constraint_exclusion');
begin
  -- A table or sequence that is read by its name may have become a view in the meantime, whose functions would run with the
  -- rights of whoever reads. Minor versions before August 2024 do not have the setting.
  if current_setting('restrict_nonsystem_relation_kind', true) is not null then
    perform set_config('restrict_nonsystem_relation_kind', case when refuse then 'view' else '' end, true);
  end if;
  -- Nor need the functions of a table's checks be called to find out that it has no rows.
  if refuse and exclusion <> 'off' then
    perform set_config('migration_guard.constraint_exclusion', exclusion, true);
  end if;
  perform set_config('constraint_exclusion', case when refuse then 'off'
    else coalesce(nullif(current_setting('migration_guard.constraint_exclusion', true), ''), exclusion) end, true);
end
$$;
comment on function migration_guard.refuse_views(boolean) is
  'Whether this transaction refuses to read from any view that is not Postgres''s own, and leaves checks alone while it
plans, until it is called again.';

-- Versions ------------------------------------------------------------------------------------------------------------

create function migration_guard.normalize_version(version text) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if version ~ '^[0-9]{14}$' then
    return version;
  elsif version ~ '^v(0|[1-9][0-9]{0,5})([.](0|[1-9][0-9]{0,5}))?$' then
    return version || case when strpos(version, '.') = 0 then '.0' else '' end;
  end if;
  perform migration_guard.fail('invalid_version', 'A version reads v10, v10.0, v10.1 or is a 14-digit timestamp.');
end
$$;
comment on function migration_guard.normalize_version(text) is
  'The one spelling of a version: v10 and v10.0 are v10.0. Raises invalid_version.';

create function migration_guard.backup_schema_name(version text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select 'migration_backup_'
    || replace(regexp_replace(migration_guard.normalize_version(version), '[.]0$', ''), '.', '_')
$$;
comment on function migration_guard.backup_schema_name(text) is
  'The schema of a version''s backup: migration_backup_v10 for v10.0, migration_backup_v10_1 for v10.1.';

create function migration_guard.trash_schema_name(version text, backup_id uuid) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('%s_%s', regexp_replace(migration_guard.backup_schema_name(version), '^migration_backup_', 'migration_trash_'), left(backup_id::text, 8))
$$;
comment on function migration_guard.trash_schema_name(text, uuid) is
  'What the schema of a version''s backup is called in the trash, beside that of a later backup: migration_trash_v10_0a1b2c3d.';
