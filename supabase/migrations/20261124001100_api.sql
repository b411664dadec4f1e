-- Chapter 12. What REST exposes: one function for each route, for service_role alone. Each is `security definer`, since
-- service_role has no right in the schema where the work is done, and does nothing but see to it that the key's role
-- is enough (chapter 4, keys), call what does the work, and shape the answer.

create type migration_guard_api.plan as (
  version text,
  title text,
  description text,
  schema text,
  tables jsonb,
  enums text[],
  functions text[],
  match text,
  retention_days int,
  trash_hours int,
  two_keys boolean,
  require_export boolean,
  contacts text[],
  notify_url text,
  actor text,
  created_at timestamptz,
  updated_at timestamptz
);
comment on type migration_guard_api.plan is 'A plan, as the API shows it.';

create type migration_guard_api.job as (
  id uuid,
  kind text,
  rehearse boolean,
  version text,
  status text,
  progress jsonb,
  result jsonb,
  error jsonb,
  actor text,
  created_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz
);
comment on type migration_guard_api.job is 'A job, as the API shows it.';

create type migration_guard_api.backup as (
  version text,
  schema text,
  state text,
  backup_id uuid,
  actor text,
  created_at timestamptz,
  manifest text,
  retention_days int,
  trash_hours int,
  two_keys boolean,
  require_export boolean,
  verified_ok boolean,
  verified_at timestamptz,
  confirmed_at timestamptz,
  confirmed_by text,
  confirmation_note text,
  last_diff jsonb,
  last_diff_at timestamptz,
  rolled_back_at timestamptz,
  rolled_back_by text,
  trashed_at timestamptz,
  trashed_by text,
  purge_after timestamptz,
  metadata jsonb,
  tables jsonb
);
comment on type migration_guard_api.backup is 'A backup, as the API shows it.';

-- Shapes --------------------------------------------------------------------------------------------------------------

create function migration_guard.show_plan(plan migration_guard.plans) returns migration_guard_api.plan
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select row(plan.version, plan.title, plan.description, plan.schema_name, migration_guard.plan_document(plan) -> 'tables',
    plan.enums, plan.functions, plan.match, plan.retention_days, plan.trash_hours, plan.two_keys, plan.require_export, plan.contacts, plan.notify_url, plan.actor,
    plan.created_at, plan.updated_at)::migration_guard_api.plan
$$;
comment on function migration_guard.show_plan(migration_guard.plans) is 'A plan, as the API shows it.';

create function migration_guard.without_values(result jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select result || jsonb_build_object('values_hidden', true, 'tables', (
    select coalesce(jsonb_agg(t.value || jsonb_build_object('samples', (
      select jsonb_object_agg(s.key, jsonb_path_query_array(s.value, '$[*].key ? (@ != null)'))
      from jsonb_each(t.value -> 'samples') as s)) order by t.position), '[]')
    from jsonb_array_elements(result -> 'tables') with ordinality as t (value, position)))
$$;
comment on function migration_guard.without_values(jsonb) is 'The result of a diff that holds whole rows, with no more of them than their keys.';

create function migration_guard.without_keys(result jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select result || jsonb_build_object('samples_hidden', true, 'tables', (
    select coalesce(jsonb_agg(t.value || '{"samples": {"inserted": [], "updated": [], "deleted": []}}' order by t.position), '[]')
    from jsonb_array_elements(result -> 'tables') with ordinality as t (value, position)))
$$;
comment on function migration_guard.without_keys(jsonb) is 'The result of a diff with its counts, and no rows'' keys.';

create function migration_guard.holds_values(job migration_guard.jobs) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select job.kind = 'diff' and coalesce((job.parameters ->> 'include_values')::boolean, false) and job.result is not null
    or coalesce((job.error ->> 'keys_hold_values')::boolean, false)
$$;
comment on function migration_guard.holds_values(migration_guard.jobs) is 'Whether the result of a job, or its error, has values of rows.';

create table migration_guard.value_readings (
  job_id uuid not null references migration_guard.jobs,
  reader text not null,
  -- When the trail told of it last.
  at timestamptz not null default now(),
  primary key (job_id, reader)
);
comment on table migration_guard.value_readings is 'Which key was shown the values of rows of which job.';

create function migration_guard.audit_reading(read_jobs migration_guard.jobs[], reader text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  ids uuid[];
  versions text[];
begin
  if migration_guard.role_of(reader) <> 'admin' then return; end if;
  with told as (
    insert into migration_guard.value_readings as v (job_id, reader)
    -- In one order, so that two readers at once do not wait for each other.
    select j.id, audit_reading.reader from unnest(read_jobs) as j where migration_guard.holds_values(j) order by j.id
    on conflict on constraint value_readings_pkey do update set at = now() where v.at <= now() - interval '1 hour'
    returning v.job_id
  )
  select array_agg(t.job_id order by j.number), array_agg(distinct j.version) into ids, versions
  from told as t join unnest(read_jobs) as j on j.id = t.job_id;
  if ids is not null then
    perform migration_guard.audit('diff.values.read', reader, case when cardinality(versions) = 1 then versions[1] end,
      case when cardinality(ids) = 1 then ids[1] end, case when cardinality(ids) > 1 then jsonb_build_object('jobs', ids) else '{}' end);
  end if;
end
$$;
comment on function migration_guard.audit_reading(migration_guard.jobs[], text) is
  'Records that a key is shown the values of rows of jobs, if it is: in one entry, and of each job once an hour.';

create function migration_guard.show_job(job migration_guard.jobs, reader text) returns migration_guard_api.job
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select row(job.id, job.kind, migration_guard.is_rehearsal(job), job.version, job.status, migration_guard.job_progress(job),
    case
      when job.kind = 'diff' and r.role = 'viewer' then migration_guard.without_keys(job.result)
      when job.kind = 'diff' and migration_guard.holds_values(job) and r.role <> 'admin' then migration_guard.without_values(job.result)
      else job.result end,
    case when job.error ? 'keys' and (r.role = 'viewer' or r.role <> 'admin' and migration_guard.holds_values(job)) then job.error - 'keys' || '{"keys_hidden": true}' else job.error end || case when job.status = 'failed' then jsonb_build_object('contacts', migration_guard.contacts(job.version)) else '{}' end,
    job.actor, job.created_at, job.started_at, job.finished_at)::migration_guard_api.job
  from migration_guard.role_of(reader) as r (role)
$$;
comment on function migration_guard.show_job(migration_guard.jobs, text) is
  'A job, as the API shows it to a key: values of rows to an admin alone, and to a viewer no keys of rows either.';

create function migration_guard.backup_state(backup migration_guard.backups) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when to_regnamespace(format('%I', backup.schema_name)) is null then 'missing'
    when backup.trashed_at is not null then 'trashed'
    when not backup.verified_ok then 'damaged'
    -- The sign-off and a diff that found drift tell of what came after them, until the next rollback.
    when backup.rolled_back_at > greatest(backup.created_at, backup.confirmed_at, case when drifted then backup.last_diff_at end) then 'rolled_back'
    when backup.confirmed_at is not null then 'migrated'
    when drifted then 'stale'
    else 'fresh'
  end
  from (select coalesce(not (backup.last_diff ->> 'is_clean')::boolean and backup.last_diff_at > backup.created_at, false) as drifted) as d
$$;
comment on function migration_guard.backup_state(migration_guard.backups) is
  'Where a migration stands by what was recorded last: missing (somebody dropped the schema), trashed (cleaned up, and not
dropped yet), damaged (the last verification failed), rolled_back, migrated (signed off), stale (the last diff found drift) or fresh.';

create function migration_guard.look_at_catalog(backup migration_guard.backups, state text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- New tables may be what a rollback has left; all that was recorded was as it was then.
  return case when state in ('fresh', 'rolled_back') and migration_guard.catalog_moved(backup, state = 'fresh') then 'stale' else state end;
exception
  when lock_not_available then
    -- What somebody alters right now is, for everybody else, still what it was.
    return state;
  when undefined_table or undefined_column or invalid_schema_name then
    return 'damaged';
end
$$;
comment on function migration_guard.look_at_catalog(migration_guard.backups, text) is
  'A backup''s state, fresh no longer where the catalog is not what it recorded, nor rolled back where anything that it recorded is
another again, and damaged where it cannot be read. Reads the whole catalog.';

create function migration_guard.show_backup(backup migration_guard.backups, state text default null) returns migration_guard_api.backup
language plpgsql stable
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
declare
  metadata jsonb;
  tables jsonb;
begin
  begin
    if to_regclass(format('%I.backup_metadata', backup.schema_name)) is not null then
      execute format('select to_jsonb(m) - ''tables'' - ''objects'' - ''plan'' - ''manifest''
        || jsonb_build_object(''contacts'', m.plan -> ''contacts'') from %I.backup_metadata as m limit 1', backup.schema_name)
        into metadata;
    end if;
    if to_regclass(format('%I.tables_backup', backup.schema_name)) is not null then
      execute format($query$
        select jsonb_agg(jsonb_build_object(
          'table', t.source_schema || '.' || t.source_table, 'backup_table', t.backup_table, 'row_count', t.row_count,
          'source_checksum', t.source_checksum, 'backup_checksum', t.backup_checksum, 'bytes', t.backup_bytes
        ) order by t.source_schema, t.source_table)
        from %I.tables_backup as t$query$, backup.schema_name) into tables;
    end if;
  exception when lock_not_available or undefined_table or undefined_column or invalid_schema_name then
    -- Whoever removes it, or alters it, keeps nobody from what is registered.
  end;
  return row(backup.version, backup.schema_name,
    coalesce(state, migration_guard.backup_state(backup)),
    backup.id, backup.actor, backup.created_at, backup.manifest, (backup.plan ->> 'retention_days')::int,
    coalesce(backup.plan ->> 'trash_hours', '24')::int, coalesce((backup.plan ->> 'two_keys')::boolean, false),
    coalesce((backup.plan ->> 'require_export')::boolean, false), backup.verified_ok, backup.verified_at, backup.confirmed_at, backup.confirmed_by, backup.confirmation_note,
    backup.last_diff, backup.last_diff_at, backup.rolled_back_at, backup.rolled_back_by,
    backup.trashed_at, backup.trashed_by, backup.purge_after, metadata, coalesce(tables, '[]'));
end
$$;
comment on function migration_guard.show_backup(migration_guard.backups, text) is
  'A backup, as the API shows it: what is registered, and what its schema says of itself, if that can be read at once. The state
that is recorded, unless the caller knows a newer one.';

create function migration_guard.show_listed_backup(backup migration_guard.backups) returns migration_guard_api.backup
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  shown migration_guard_api.backup := migration_guard.show_backup(backup);
begin
  -- It may have gone to the trash, or for good, since the list was begun.
  if shown.state = 'missing' then
    select b.* into backup from migration_guard.backups as b where b.id = backup.id and b.removed_at is null;
    shown := case when backup.id is not null then migration_guard.show_backup(backup) end;
  end if;
  return shown;
end
$$;
comment on function migration_guard.show_listed_backup(migration_guard.backups) is
  'A backup of a list, as it is now; null where it has been removed meanwhile.';

create function migration_guard.look_at_backup(version text) returns migration_guard_api.backup
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(version);
  shown constant migration_guard_api.backup :=
    migration_guard.show_backup(backup, migration_guard.look_at_catalog(backup, migration_guard.backup_state(backup)));
begin
  -- A cleanup may have come while it was read.
  return case when to_regnamespace(quote_ident(backup.schema_name)) is null then migration_guard.show_backup(migration_guard.get_backup(version)) else shown end;
end
$$;
comment on function migration_guard.look_at_backup(text) is
  'A backup with the catalog compared. Raises backup_not_found, also where it has gone meanwhile.';

-- Health --------------------------------------------------------------------------------------------------------------

create function migration_guard_api.get_readiness()
returns table (product_version text, server_version text, queued_jobs int, running_jobs int, pg_cron boolean)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.product_version(), current_setting('server_version'),
    (count(*) filter (where j.status = 'queued'))::int, (count(*) filter (where j.status = 'running'))::int,
    migration_guard.worker_is_scheduled()
  from migration_guard.jobs as j
  where j.status in ('queued', 'running')
$$;
comment on function migration_guard_api.get_readiness() is 'GET /ready: versions, how many jobs wait and run, and whether pg_cron calls the worker.';

create function migration_guard_api.get_metrics() returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_agg(jsonb_build_object('metric', m.metric, 'labels', m.labels, 'value', m.value)
    order by m.metric, m.labels - 'le', (m.labels ->> 'le')::double precision)
  from migration_guard.metrics() as m
$$;
comment on function migration_guard_api.get_metrics() is 'GET /metrics: every figure, as [{metric, labels, value}].';

-- Plans ---------------------------------------------------------------------------------------------------------------

create function migration_guard_api.list_plans() returns setof migration_guard_api.plan
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$ select (migration_guard.show_plan(p)).* from migration_guard.plans as p order by p.version $$;
comment on function migration_guard_api.list_plans() is 'GET /v1/plans.';

create function migration_guard_api.get_plan(version text) returns migration_guard_api.plan
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$ select migration_guard.show_plan(migration_guard.get_plan(version)) $$;
comment on function migration_guard_api.get_plan(text) is 'GET /v1/plans/{version}. Raises plan_not_found.';

create function migration_guard_api.put_plan(version text, plan jsonb, actor text) returns migration_guard_api.plan
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'operator');
  select migration_guard.put_plan(version, plan, actor);
  -- The URL may be a secret.
  select migration_guard.audit('plan.put', actor, version, parameters => plan - 'notify_url');
  select migration_guard.show_plan(migration_guard.get_plan(version));
$$;
comment on function migration_guard_api.put_plan(text, jsonb, text) is
  'PUT /v1/plans/{version}; created_at = updated_at tells a new plan. Raises invalid_plan, objects_not_found or plan_in_use.';

create function migration_guard_api.delete_plan(version text, actor text) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'operator');
  select migration_guard.audit('plan.delete', actor, version, null, jsonb_build_object('forgotten_backup_id', migration_guard.delete_plan(version)));
$$;
comment on function migration_guard_api.delete_plan(text, text) is 'DELETE /v1/plans/{version}. Raises plan_not_found or plan_in_use.';

create function migration_guard_api.list_names(schema text)
returns table (schemas text[], tables text[], enums text[], functions text[], signatures text[])
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$ select n.* from migration_guard.existing_names(schema) as n $$;
comment on function migration_guard_api.list_names(text) is
  'One row, since REST answers with a limited number of rows: the schemas, and what a plan could name in one of them.';

create function migration_guard_api.derive_plan(version text, schema text, touches jsonb, actor text) returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp
-- A file of a mebibyte may name thirty thousand objects; the caller waits for 30 s. See get_checklist.
set statement_timeout = '29s' set lock_timeout = '2s'
as $$
  select migration_guard.require_role(actor, 'operator');
  select migration_guard.derive_plan(version, schema, touches);
$$;
comment on function migration_guard_api.derive_plan(text, text, jsonb, text) is
  'POST /v1/plans/{version}/derive. Raises invalid_parameter, or for the schema invalid_plan or objects_not_found.';

create function migration_guard_api.preflight_plan(version text, actor text, touches jsonb default null, warnings jsonb default '[]')
returns table (can_back_up boolean, estimated_bytes bigint, checks jsonb)
language sql stable security definer
set search_path = pg_catalog, pg_temp
-- It reads the whole catalog; see get_checklist. A lock that came in between is no reason to wait long.
set statement_timeout = '25s' set lock_timeout = '2s'
as $$
  select migration_guard.require_role(actor, 'operator');
  select c.can_back_up, migration_guard.estimated_backup_bytes(p), c.checks
  from migration_guard.get_plan(version) as p
  cross join lateral (
    select bool_and(f.status <> 'blocked') as can_back_up,
      jsonb_agg(jsonb_build_object('check_name', f.check_name, 'status', f.status, 'details', f.details, 'items', f.items)
        order by f.position) as checks
    from migration_guard.preflight(p, touches, warnings) with ordinality as f (check_name, status, details, items, position)
  ) as c;
$$;
comment on function migration_guard_api.preflight_plan(text, text, jsonb, jsonb) is
  'POST /v1/plans/{version}/preflight: one row. Raises plan_not_found or invalid_parameter.';

-- Backups -------------------------------------------------------------------------------------------------------------

create function migration_guard_api.create_backup(version text, actor text, request_id text default null, idempotency_key text default null) returns migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'operator');
  select migration_guard.show_job(migration_guard.audited(coalesce(
    migration_guard.repeated_job(actor, idempotency_key, r.request),
    migration_guard.remember_request(migration_guard.enqueue_backup(version, actor, request_id), idempotency_key, r.request)),
    'backup', actor), actor)
  from (select jsonb_build_array('backup', migration_guard.normalize_version(version)) as request) as r;
$$;
comment on function migration_guard_api.create_backup(text, text, text, text) is
  'POST /v1/backups. Raises plan_not_found, backup_exists, backup_in_progress, migration_already_applied or untrusted_code.';

create function migration_guard_api.list_backups() returns setof migration_guard_api.backup
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select (s.backup).*
  from (
    select migration_guard.show_listed_backup(b) as backup
    from migration_guard.backups as b where b.removed_at is null order by b.created_at desc
    offset 0
  ) as s
  where (s.backup).backup_id is not null
$$;
comment on function migration_guard_api.list_backups() is
  'GET /v1/backups, newest first, those in the trash included. Of one that is locked, what is registered.';

create function migration_guard_api.get_backup(version text) returns migration_guard_api.backup
language sql volatile security definer
set search_path = pg_catalog, pg_temp
-- See preflight_plan.
set statement_timeout = '25s' set lock_timeout = '2s'
as $$ select migration_guard.look_at_backup(version) $$;
comment on function migration_guard_api.get_backup(text) is
  'GET /v1/backups/{version}: with the catalog compared, unlike in the list. Raises backup_not_found.';

create function migration_guard_api.verify_backup(
  version text, actor text, request_id text default null, expected_manifest text default null, idempotency_key text default null
)
returns migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'operator');
  select migration_guard.show_job(migration_guard.audited(coalesce(
    migration_guard.repeated_job(actor, idempotency_key, r.request),
    migration_guard.remember_request(migration_guard.enqueue_verification(version, actor, request_id, expected_manifest), idempotency_key, r.request)),
    'verify', actor, jsonb_build_object('expected_manifest', expected_manifest)), actor)
  from (select jsonb_build_array('verify', migration_guard.normalize_version(version), expected_manifest) as request) as r;
$$;
comment on function migration_guard_api.verify_backup(text, text, text, text, text) is
  'POST /v1/backups/{version}/verify. Raises backup_not_found or invalid_parameter.';

create function migration_guard_api.get_checklist(version text)
returns table (item text, title text, required boolean, passed boolean, details text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
-- It reads the backup again. PostgREST takes the limit of a request from its function; the platform allows 60 s.
set statement_timeout = '55s'
as $$ select c.item, c.title, c.required, c.passed, c.details from migration_guard.checklist(version) as c $$;
comment on function migration_guard_api.get_checklist(text) is 'GET /v1/backups/{version}/checklist. Raises backup_not_found or backup_locked.';

create function migration_guard_api.confirm_backup(version text, note text, actor text) returns migration_guard_api.backup
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'operator');
  select migration_guard.confirm_backup(version, note, actor);
  -- A sign-off that was made before, or at the same moment by somebody else, stands, and the note of this one is nowhere else.
  select migration_guard.audit('confirm', actor, version, parameters => jsonb_build_object('note', note, 'stands', (
    select b.confirmed_by from migration_guard.get_backup(version) as b
    where b.confirmed_at < statement_timestamp() or (b.confirmed_by, b.confirmation_note) is distinct from (confirm_backup.actor, confirm_backup.note))));
  select migration_guard.show_backup(migration_guard.get_backup(version));
$$;
comment on function migration_guard_api.confirm_backup(text, text, text) is
  'POST /v1/backups/{version}/confirm. Raises backup_not_found, backup_in_progress or invalid_parameter.';

create function migration_guard_api.plan_cleanup(version text, actor text)
returns table (schema text, guards jsonb, token text, token_expires_at timestamptz, two_keys boolean, trash_hours int)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
  select migration_guard.require_change(actor, 'admin');
  select b.schema_name, g.guards, t.token, t.expires_at, coalesce((b.plan ->> 'two_keys')::boolean, false), coalesce(b.plan ->> 'trash_hours', '24')::int
  from migration_guard.get_backup(version) as b
  cross join lateral (
    select migration_guard.applied_override(jsonb_agg(to_jsonb(g)), null) as guards from migration_guard.cleanup_guards(b) as g) as g
  cross join lateral migration_guard.plan_cleanup(plan_cleanup.version, plan_cleanup.actor) as t
  cross join lateral migration_guard.audit('cleanup_plan', plan_cleanup.actor, plan_cleanup.version,
    parameters => jsonb_build_object('allowed', not jsonb_path_exists(g.guards, '$[*] ? (@.passed == false)'), 'until', t.expires_at));
$$;
comment on function migration_guard_api.plan_cleanup(text, text) is
  'GET /v1/backups/{version}/cleanup-plan: every guard, and a one-time token. Raises backup_not_found.';

create function migration_guard_api.delete_backup(
  version text, confirm text, token text, actor text, request_id text default null, idempotency_key text default null,
  override jsonb default null
)
returns migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
  select migration_guard.require_change(actor, 'admin');
  select migration_guard.show_job(migration_guard.audited(coalesce(
    migration_guard.repeated_job(actor, idempotency_key, r.request),
    migration_guard.remember_request(migration_guard.enqueue_cleanup(version, confirm, token, actor, request_id, override), idempotency_key, r.request)),
    'cleanup', actor, jsonb_build_object('confirm', confirm, 'override', override)), actor)
  from (select jsonb_build_array('cleanup', migration_guard.normalize_version(version), confirm, token, override) as request) as r;
$$;
comment on function migration_guard_api.delete_backup(text, text, text, text, text, text, jsonb) is
  'DELETE /v1/backups/{version}. Raises backup_not_found, backup_in_progress, invalid_parameter, or cleanup_refused with every guard.';

create function migration_guard_api.create_import(
  export text, version text, actor text, target text default null, expected_manifest text default null,
  request_id text default null, idempotency_key text default null
)
returns migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'admin');
  select migration_guard.show_job(migration_guard.audited(coalesce(
    migration_guard.repeated_job(actor, idempotency_key, r.request),
    migration_guard.remember_request(migration_guard.enqueue_import(export, version, target, expected_manifest, actor, request_id), idempotency_key, r.request)),
    'import', actor, jsonb_build_object('export', export, 'target', target, 'expected_manifest', expected_manifest)), actor)
  from (select jsonb_build_array('import', migration_guard.normalize_version(version), export, target, expected_manifest) as request) as r;
$$;
comment on function migration_guard_api.create_import(text, text, text, text, text, text, text) is
  'POST /v1/imports. Raises invalid_version, invalid_parameter, backup_exists, backup_in_progress or export_in_use.';

create function migration_guard_api.restore_from_trash(version text, actor text, backup_id uuid default null) returns migration_guard_api.backup
language sql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
  select migration_guard.require_change(actor, 'admin');
  select migration_guard.audit('restore_from_trash', restore_from_trash.actor, restore_from_trash.version,
    parameters => jsonb_build_object('backup_id', (r.backup).id) || r.changed)
  from migration_guard.restore_from_trash(restore_from_trash.version, restore_from_trash.backup_id, restore_from_trash.actor) as r;
  select migration_guard.show_backup(migration_guard.get_backup(version));
$$;
comment on function migration_guard_api.restore_from_trash(text, text, uuid) is
  'POST /v1/backups/{version}/restore-from-trash. Raises role_required, rate_limited, backup_not_found, backup_exists, backup_in_progress,
backup_damaged or backup_locked.';

-- Exports -------------------------------------------------------------------------------------------------------------

create type migration_guard_api.export as (
  id text,
  version text,
  backup_id uuid,
  target text,
  location text,
  recipients text[],
  state text,
  actor text,
  created_at timestamptz,
  finished_at timestamptz,
  chunks int,
  chunks_done int,
  objects int,
  rows bigint,
  bytes bigint,
  text_bytes bigint,
  manifest text,
  sums_sha256 text,
  verified_ok boolean,
  verified_at timestamptz,
  removed_at timestamptz,
  removed_by text
);
comment on type migration_guard_api.export is 'An export, as the API shows it.';

create function migration_guard.show_export(export migration_guard.exports) returns migration_guard_api.export
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select row(export.id, export.version, export.backup_id, export.target, export.location, export.recipients, export.state, export.actor, export.created_at,
    export.finished_at, c.planned::int, c.done::int, (r.numbers ->> 'objects')::int, (r.numbers ->> 'rows')::bigint, (r.numbers ->> 'bytes')::bigint,
    (r.numbers ->> 'text_bytes')::bigint, r.numbers ->> 'manifest', export.sums_sha256, export.verified_ok, export.verified_at, export.removed_at,
    export.removed_by)::migration_guard_api.export
  from (select migration_guard.transfer_result(export) as numbers) as r,
    (select count(*) as planned, count(c.done_at) as done from migration_guard.export_chunks as c where c.export_id = export.id) as c
$$;
comment on function migration_guard.show_export(migration_guard.exports) is 'An export, as the API shows it.';

create function migration_guard_api.create_export(
  version text, target text, recipients text[], actor text, request_id text default null, idempotency_key text default null
) returns migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'operator');
  select migration_guard.show_job(migration_guard.audited(coalesce(
    migration_guard.repeated_job(actor, idempotency_key, r.request),
    migration_guard.remember_request(migration_guard.enqueue_export(version, target, recipients, actor, request_id), idempotency_key, r.request)),
    'export', actor, jsonb_build_object('target', target, 'recipients', recipients)), actor)
  from (select jsonb_build_array('export', migration_guard.normalize_version(version), target, recipients) as request) as r;
$$;
comment on function migration_guard_api.create_export(text, text, text[], text, text, text) is
  'POST /v1/backups/{version}/exports. Raises backup_not_found, backup_in_progress, backup_damaged or invalid_parameter.';

create function migration_guard_api.list_exports(version text) returns setof migration_guard_api.export
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select (s.export).*
  from (
    select migration_guard.show_export(e) as export
    from migration_guard.exports as e
    -- One whose backup came back as another version is listed by both: the folder's name stays.
    where migration_guard.normalize_version(list_exports.version) in (e.version, split_part(e.id, '-', 1)) order by e.created_at desc
    offset 0
  ) as s
$$;
comment on function migration_guard_api.list_exports(text) is 'GET /v1/backups/{version}/exports: newest first, also those of backups that are gone.';

create function migration_guard_api.get_export(id text) returns migration_guard_api.export
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$ select migration_guard.show_export(migration_guard.get_export(id)) $$;
comment on function migration_guard_api.get_export(text) is 'GET /v1/exports/{id}. Raises export_not_found.';

create function migration_guard_api.resume_export(id text, actor text, request_id text default null, idempotency_key text default null)
returns migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'operator');
  select migration_guard.show_job(migration_guard.audited(coalesce(
    migration_guard.repeated_job(actor, idempotency_key, r.request),
    migration_guard.remember_request(migration_guard.enqueue_export_resumption(id, actor, request_id), idempotency_key, r.request)),
    'export.resume', actor, jsonb_build_object('export', id)), actor)
  from (select jsonb_build_array('export.resume', id) as request) as r;
$$;
comment on function migration_guard_api.resume_export(text, text, text, text) is
  'POST /v1/exports/{id}/resume. Raises export_not_found, export_in_use or backup_in_progress.';

create function migration_guard_api.verify_export(
  id text, stored_only boolean, actor text, request_id text default null, idempotency_key text default null
) returns migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'operator');
  select migration_guard.show_job(migration_guard.audited(coalesce(
    migration_guard.repeated_job(actor, idempotency_key, r.request),
    migration_guard.remember_request(migration_guard.enqueue_export_verification(id, stored_only, actor, request_id), idempotency_key, r.request)),
    'export.verify', actor, jsonb_build_object('export', id, 'stored_only', stored_only)), actor)
  from (select jsonb_build_array('export.verify', id, stored_only) as request) as r;
$$;
comment on function migration_guard_api.verify_export(text, boolean, text, text, text) is
  'POST /v1/exports/{id}/verify. Raises export_not_found or export_in_use.';

create function migration_guard_api.plan_export_removal(id text, actor text)
returns table (guards jsonb, token text, token_expires_at timestamptz, two_keys boolean)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'admin');
  select p.guards, p.token, p.expires_at, p.two_keys
  from migration_guard.plan_export_removal(plan_export_removal.id, plan_export_removal.actor) as p
  cross join lateral migration_guard.audit('export.removal_plan', plan_export_removal.actor, (migration_guard.get_export(plan_export_removal.id)).version,
    parameters => jsonb_build_object('export', plan_export_removal.id, 'allowed', not jsonb_path_exists(p.guards, '$[*] ? (@.passed == false)'), 'until', p.expires_at));
$$;
comment on function migration_guard_api.plan_export_removal(text, text) is
  'GET /v1/exports/{id}/removal-plan: every guard, and a one-time token. Raises export_not_found.';

create function migration_guard_api.delete_export(
  id text, confirm text, token text, actor text, request_id text default null, idempotency_key text default null, override jsonb default null
) returns migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'admin');
  select migration_guard.show_job(migration_guard.audited(coalesce(
    migration_guard.repeated_job(actor, idempotency_key, r.request),
    migration_guard.remember_request(migration_guard.enqueue_export_removal(id, confirm, token, actor, request_id, override), idempotency_key, r.request)),
    'export.remove', actor, jsonb_build_object('export', id, 'confirm', confirm, 'override', override)), actor)
  from (select jsonb_build_array('export.remove', id, confirm, token, override) as request) as r;
$$;
comment on function migration_guard_api.delete_export(text, text, text, text, text, text, jsonb) is
  'DELETE /v1/exports/{id}. Raises export_not_found, invalid_parameter, role_required, or cleanup_refused with every guard.';

-- Drift and rollback --------------------------------------------------------------------------------------------------

create function migration_guard_api.diff_backup(
  version text, sample_keys int, include_values boolean, actor text, request_id text default null, idempotency_key text default null,
  exact boolean default false
) returns migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, case when include_values then 'admin' else 'operator' end);
  select migration_guard.show_job(migration_guard.audited(coalesce(
    migration_guard.repeated_job(actor, idempotency_key, r.request),
    migration_guard.remember_request(migration_guard.enqueue_diff(version, actor, request_id, sample_keys, include_values, exact), idempotency_key, r.request)),
    case when include_values then 'diff.values' else 'diff' end, actor, jsonb_build_object('sample_keys', sample_keys, 'exact', exact)), actor)
  from (select jsonb_build_array('diff', migration_guard.normalize_version(version), sample_keys, include_values, exact) as request) as r;
$$;
comment on function migration_guard_api.diff_backup(text, int, boolean, text, text, text, boolean) is
  'POST /v1/backups/{version}/diff. Raises backup_not_found, backup_damaged or invalid_parameter.';

create function migration_guard_api.plan_rollback(version text, options jsonb, actor text)
returns table (
  plan_hash text, possible boolean, statements jsonb, new_objects jsonb, cannot_undo jsonb, left_as_is jsonb, tables jsonb,
  notes jsonb
)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
-- It compares the whole catalog, and rows where they are to be restored; see get_checklist and preflight_plan.
set statement_timeout = '55s' set lock_timeout = '2s'
as $$
  select migration_guard.require_role(actor, 'operator');
  select migration_guard.note_role(actor);
  select p.plan_hash, p.possible, p.statements, p.new_objects, p.cannot_undo, p.left_as_is, p.tables, p.notes
  from migration_guard.plan_rollback(version, options, actor) as p
  cross join lateral migration_guard.audit('rollback_plan', plan_rollback.actor, plan_rollback.version,
    parameters => jsonb_build_object('options', options, 'plan_hash', p.plan_hash));
$$;
comment on function migration_guard_api.plan_rollback(text, jsonb, text) is
  'GET /v1/backups/{version}/rollback-plan: one row. Raises backup_not_found, backup_damaged or invalid_parameter.';

create function migration_guard_api.roll_back(
  version text, plan_hash text, options jsonb, rehearse boolean, actor text, request_id text default null, idempotency_key text default null
) returns migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
-- It makes the plan again, to see that it is the one that was read.
set statement_timeout = '55s' set lock_timeout = '2s'
as $$
  select migration_guard.require_change(actor, 'admin');
  select migration_guard.show_job(migration_guard.audited(coalesce(
    migration_guard.repeated_job(actor, idempotency_key, r.request),
    migration_guard.remember_request(migration_guard.enqueue_rollback(version, plan_hash, options, rehearse, actor, request_id), idempotency_key, r.request)),
    case when rehearse then 'rehearsal' else 'rollback' end, actor, jsonb_build_object('plan_hash', plan_hash, 'options', options)), actor)
  from (select jsonb_build_array('rollback', migration_guard.normalize_version(version), plan_hash, options, rehearse) as request) as r;
$$;
comment on function migration_guard_api.roll_back(text, text, jsonb, boolean, text, text, text) is
  'POST /v1/backups/{version}/rollback. Raises backup_not_found, backup_damaged, backup_in_progress, plan_changed,
second_key_required, rollback_refused or invalid_parameter.';

-- Jobs ----------------------------------------------------------------------------------------------------------------

create function migration_guard.recent_jobs(version text, max_jobs int) returns setof migration_guard.jobs
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select j.*
  from migration_guard.jobs as j
  where recent_jobs.version is null or j.version = migration_guard.normalize_version(recent_jobs.version)
  order by j.number desc
  limit least(greatest(max_jobs, 1), 200)
$$;
comment on function migration_guard.recent_jobs(text, int) is 'Newest first, all or those of one version, 200 at most.';

create function migration_guard_api.list_jobs(version text default null, max_jobs int default 50, actor text default null) returns setof migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.audit_reading(array(select j from migration_guard.recent_jobs(list_jobs.version, max_jobs) as j), list_jobs.actor);
  select (s.job).*
  from (
    select migration_guard.show_job(j, list_jobs.actor) as job
    from migration_guard.recent_jobs(list_jobs.version, max_jobs) as j
    order by j.number desc
    offset 0
  ) as s;
$$;
comment on function migration_guard_api.list_jobs(text, int, text) is
  'GET /v1/jobs: newest first, all or those of one version, 200 at most. Values of rows are shown to an admin alone.';

create function migration_guard_api.get_job(id uuid, actor text default null) returns migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.audit_reading(array[migration_guard.get_job(id)], actor);
  select migration_guard.show_job(migration_guard.get_job(id), actor);
$$;
comment on function migration_guard_api.get_job(uuid, text) is
  'GET /v1/jobs/{id}. Values of rows are shown to an admin alone. Raises job_not_found.';

create function migration_guard_api.cancel_job(id uuid, actor text) returns migration_guard_api.job
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  -- Not counted: whoever has gone too far can always stop. It ends a job, and only the first time is told.
  select migration_guard.require_role(actor, 'operator');
  select migration_guard.note_role(actor);
  select migration_guard.show_job(case when c.is_told then migration_guard.cancel_job(id, actor)
    else migration_guard.audited(migration_guard.cancel_job(id, actor), 'cancel', actor) end, actor)
  from (select exists (select from migration_guard.cancellations as c where c.job_id = cancel_job.id) as is_told offset 0) as c;
$$;
comment on function migration_guard_api.cancel_job(uuid, text) is
  'DELETE /v1/jobs/{id}, which no limit refuses. Raises job_not_found or job_finished.';

-- Webhooks ------------------------------------------------------------------------------------------------------------

create function migration_guard_api.take_webhooks(max_webhooks int)
returns table (id text, url text, attempt int, unix_time bigint, payload text)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select w.id, w.url, w.attempts, extract(epoch from clock_timestamp())::bigint, migration_guard.webhook_payload(j)
  from migration_guard.take_webhooks(max_webhooks) as w
  join migration_guard.jobs as j on j.id = w.job_id
$$;
comment on function migration_guard_api.take_webhooks(int) is
  'Webhooks that are due, for the caller to send: each is taken for a minute at least, and told of by record_webhook.
unix_time is the seconds since 1970 by the database''s clock, payload the body as it is to be signed and sent.';

create function migration_guard_api.record_webhook(id text, attempt int, status int default null, failure text default null)
returns int
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$ select migration_guard.record_webhook(id, attempt, status, failure) $$;
comment on function migration_guard_api.record_webhook(text, int, int, text) is
  'How an attempt ended: with an HTTP status, or a failure in one word. Returns the seconds until the next attempt, null
where there is none. Raises invalid_parameter.';

-- Keys ----------------------------------------------------------------------------------------------------------------

create type migration_guard_api.key as (
  name text,
  role text,
  is_assigned boolean,
  updated_at timestamptz,
  updated_by text
);
comment on type migration_guard_api.key is 'What a key may do, as the API shows it.';

create function migration_guard.show_key(name text) returns migration_guard_api.key
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select row(n.name, migration_guard.role_of(n.name), k.name is not null, k.updated_at, k.updated_by)::migration_guard_api.key
  from (select show_key.name) as n (name)
  left join migration_guard.key_roles as k on k.name = n.name
$$;
comment on function migration_guard.show_key(text) is 'What a key of this name may do, and who said so, if anybody has.';

create function migration_guard_api.get_role(actor text) returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$ select migration_guard.role_of(actor) $$;
comment on function migration_guard_api.get_role(text) is 'The role of the key that asks: what the function looks at before it begins.';

create function migration_guard_api.admit_change(actor text) returns table (role text, admission uuid)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.assert_named(actor);
  select migration_guard.role_of(actor), migration_guard.admit_change(actor);
$$;
comment on function migration_guard_api.admit_change(text) is
  'What the function calls before it begins with what changes something: one row, with the role of the key, and what the change is
to be called with in the header x-migration-guard-admission, in order not to be counted twice. Raises invalid_parameter or rate_limited.';

create function migration_guard_api.list_keys(names text[], actor text) returns setof migration_guard_api.key
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_role(actor, 'admin');
  select (migration_guard.show_key(n.name)).*
  from (select unnest(names) union select k.name from migration_guard.key_roles as k) as n (name)
  order by n.name;
$$;
comment on function migration_guard_api.list_keys(text[], text) is
  'GET /v1/keys: the keys that the function knows of, and those that were given a role. Raises role_required.';

create function migration_guard_api.get_key(name text, actor text) returns migration_guard_api.key
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_role(actor, 'admin');
  select migration_guard.show_key(name);
$$;
comment on function migration_guard_api.get_key(text, text) is
  'GET /v1/keys/{name}: what a key of that name may do, whether or not there is one. Raises role_required.';

create function migration_guard_api.put_key(name text, role text, actor text) returns migration_guard_api.key
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'admin');
  select migration_guard.put_key(name, role, actor);
  select migration_guard.audit('key.put', actor, parameters => jsonb_build_object('name', name, 'role', role));
  select migration_guard.show_key(name);
$$;
comment on function migration_guard_api.put_key(text, text, text) is
  'PUT /v1/keys/{name}. Raises role_required, invalid_parameter or last_admin.';

create function migration_guard_api.delete_key(name text, actor text) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_change(actor, 'admin');
  select migration_guard.delete_key(name, actor);
  select migration_guard.audit('key.delete', actor, parameters => jsonb_build_object('name', name));
$$;
comment on function migration_guard_api.delete_key(text, text) is
  'DELETE /v1/keys/{name}. Raises role_required, key_not_found or last_admin.';

-- Audit ---------------------------------------------------------------------------------------------------------------

create type migration_guard_api.audit_entry as (
  id bigint,
  at timestamptz,
  actor text,
  role text,
  db_user text,
  request_id text,
  source text,
  version text,
  job_id uuid,
  action text,
  outcome text,
  parameters jsonb,
  number bigint,
  hash text
);
comment on type migration_guard_api.audit_entry is 'An entry of the audit trail, with its place in the chain, as the API shows it.';

create function migration_guard_api.list_audit(
  actor text, max_entries int default 50, before bigint default null, of_version text default null, of_actor text default null,
  of_action text default null, of_outcome text default null, since timestamptz default null, until timestamptz default null
) returns setof migration_guard_api.audit_entry
language sql volatile security definer
set search_path = pg_catalog, pg_temp
set statement_timeout = '25s'
as $$
  select migration_guard.require_role(actor, 'admin');
  select migration_guard.seal_audit();
  select l.id, l.at, l.actor, l.role, l.db_user, l.request_id, l.source, l.version, l.job_id, l.action, l.outcome, l.parameters,
    c.number, c.hash
  from migration_guard.audit_entries(max_entries, before, of_version, of_actor, of_action, of_outcome, since, until) as l
  left join migration_guard.audit_chain as c on c.entry_id = l.id
  order by l.id desc;
$$;
comment on function migration_guard_api.list_audit(text, int, bigint, text, text, text, text, timestamptz, timestamptz) is
  'GET /v1/audit: newest first, those before an id. Raises role_required.';

create function migration_guard_api.verify_audit(
  actor text, expected_hash text default null, from_number bigint default 1, max_entries int default 100000, previous_hash text default null
)
returns table (
  intact boolean, entries bigint, head text, first_broken jsonb, next_number bigint, last_hash text, pending bigint, oldest_pending_at timestamptz
)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
-- See get_checklist.
set statement_timeout = '55s'
as $$
  select migration_guard.require_role(actor, 'admin');
  select migration_guard.seal_audit();
  select v.intact, v.entries, v.head, v.first_broken, v.next_number, v.last_hash, v.pending, v.oldest_pending_at
  from migration_guard.verify_audit(expected_hash, greatest(from_number, 1), least(greatest(max_entries, 1), 200000), previous_hash) as v;
$$;
comment on function migration_guard_api.verify_audit(text, text, bigint, int, text) is
  'GET /v1/audit/verify: one row, of so many entries from a number on. Raises role_required.';

create function migration_guard_api.get_audit_head(actor text)
returns table (number bigint, hash text, at timestamptz, pending bigint, oldest_pending_at timestamptz)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select migration_guard.require_role(actor, 'admin');
  select migration_guard.seal_audit();
  select c.number, c.hash, l.at, p.pending, p.oldest_pending_at
  from migration_guard.audit_pending_state() as p
  left join lateral (select c.* from migration_guard.audit_chain as c order by c.number desc limit 1) as c on true
  left join migration_guard.audit_log as l on l.id = c.entry_id;
$$;
comment on function migration_guard_api.get_audit_head(text) is
  'GET /v1/audit/head: one row, without a head before anything was recorded, and what waits for the chain. Raises role_required.';

create function migration_guard_api.record_refusal(
  action text, actor text default null, version text default null, job_id uuid default null, parameters jsonb default '{}'
) returns int
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$ select migration_guard.record_refusal(action, actor, version, job_id, parameters) $$;
comment on function migration_guard_api.record_refusal(text, text, text, uuid, jsonb) is
  'Records that a request was refused, when all else that it did was undone. Returns null or, where this key''s refusals with
this status are no longer told one by one, for how many seconds more that is so. Raises invalid_parameter.';

create function migration_guard_api.count_refusals(status text, times int, actor text default null) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$ select migration_guard.count_refusals(actor, status, times) $$;
comment on function migration_guard_api.count_refusals(text, int, text) is 'Numbers refusals that record_refusal wants no more of one by one. Raises invalid_parameter.';

-- Rights --------------------------------------------------------------------------------------------------------------

select migration_guard.close_schema('migration_guard');
select migration_guard.close_schema('migration_guard_api');
grant usage on schema migration_guard_api to service_role;
grant execute on all functions in schema migration_guard_api to service_role;
grant usage on type migration_guard_api.plan, migration_guard_api.job, migration_guard_api.backup, migration_guard_api.export,
  migration_guard_api.key, migration_guard_api.audit_entry to service_role;

notify pgrst, 'reload schema';
