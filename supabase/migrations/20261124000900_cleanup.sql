-- Chapter 9. Cleanup: what cannot be undone for ever, behind guards that are evaluated where it happens. A backup goes to the
-- trash first, and is dropped when it has been there for as long as its plan says.

create function migration_guard.overridable_guards() returns text[]
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select '{retention_passed,export_verified}'::text[] $$;
comment on function migration_guard.overridable_guards() is 'The guards that an admin may override, with a reason. No other has a way around it.';

create function migration_guard.visible_length(text text) returns int
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Without controls, separators and what Unicode calls format characters or lets be ignored, and the blanks that it takes for letters.
  select length(regexp_replace(text, '[\s\u0001-\u0020\u007f-\u00a0\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]', '', 'g'))
$$;
comment on function migration_guard.visible_length(text) is 'How many characters of a text a reader sees.';

create function migration_guard.parse_override(override jsonb, actor text) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_typeof(coalesce(override, 'null')) = 'null' then
    return null;
  end if;
  if jsonb_typeof(override) <> 'object' or override - '{guard,reason}'::text[] <> '{}'
    or jsonb_typeof(override -> 'guard') is distinct from 'string' or jsonb_typeof(override -> 'reason') is distinct from 'string'
    or migration_guard.visible_length(override ->> 'reason') < 10 or length(btrim(override ->> 'reason', e' \t\r\n')) > 2000 then
    perform migration_guard.fail('invalid_parameter', 'override is {guard, reason}, with a reason of 10 to 2000 characters, ten of which can be seen.');
  end if;
  if override ->> 'guard' <> all (migration_guard.overridable_guards()) then
    perform migration_guard.fail('invalid_parameter',
      format('The guard %s has no way around it: only %s can be overridden.', override ->> 'guard', array_to_string(migration_guard.overridable_guards(), ' and ')));
  end if;
  perform migration_guard.require_admin_or_owner(actor);
  return jsonb_build_object('guard', override ->> 'guard', 'reason', btrim(override ->> 'reason', e' \t\r\n'), 'by', actor);
end
$$;
comment on function migration_guard.parse_override(jsonb, text) is
  'An override as a job keeps it, {guard, reason, by}; null for none. Raises invalid_parameter, or role_required where it is neither an admin''s nor the owner''s.';

create function migration_guard.cleanup_guards(backup migration_guard.backups, for_job uuid default null)
returns table (guard text, passed boolean, details text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  retention constant interval := make_interval(days => (backup.plan ->> 'retention_days')::int);
  registered_id uuid;
  strangers text;
begin
  guard := 'schema_is_a_backup';
  if to_regclass(format('%I.backup_metadata', backup.schema_name)) is not null then
    execute format('select m.backup_id from %I.backup_metadata as m where m.backup_id = $1', backup.schema_name)
      into registered_id using backup.id;
  end if;
  select string_agg(c.identity, '; ' order by c.identity) into strangers
  from migration_guard.schema_contents(backup.schema_name) as c where c.identity <> all (backup.members);
  passed := registered_id is not null and strangers is null;
  details := case
    when registered_id is null then format('%s does not say that it is backup %s', backup.schema_name, backup.id)
    when strangers is not null then format('%s holds what is not part of the backup: %s', backup.schema_name, strangers)
    else format('%s holds backup %s and nothing else', backup.schema_name, backup.id)
      -- They are in no backup, and go with this one.
      || coalesce('; what rollbacks took away is nowhere but in ' || nullif(array_to_string(migration_guard.discarded_tables(backup.schema_name), ', '), ''), '') end;
  return next;

  return query
  select 'no_job_under_way', count(*) = 0,
    coalesce(string_agg(format('job %s (%s) is %s', j.id, j.kind, j.status), '; '), 'no job on this version is queued or running')
  from migration_guard.jobs as j
  where j.version = backup.version and j.status in ('queued', 'running') and j.id is distinct from for_job;

  guard := 'verified_recently';
  passed := coalesce(backup.verified_ok and backup.verified_at > now() - interval '24 hours', false);
  details := case
    when backup.verified_at is null then 'its integrity was never verified'
    when not backup.verified_ok then format('the verification of %s failed', backup.verified_at)
    else format('verified OK at %s, which counts for 24 hours', backup.verified_at) end;
  return next;

  guard := 'migration_confirmed';
  passed := backup.confirmed_at is not null;
  details := case when passed then format('signed off by %s at %s', backup.confirmed_by, backup.confirmed_at)
    else 'nobody has signed off the migration' end;
  return next;

  guard := 'retention_passed';
  passed := coalesce(backup.confirmed_at + retention <= now(), false);
  details := case
    when backup.confirmed_at is null then format('%s days count from the sign-off', backup.plan ->> 'retention_days')
    else format('%s days from the sign-off end at %s', backup.plan ->> 'retention_days', backup.confirmed_at + retention) end;
  return next;

  return query
  select 'nothing_depends_on_it', count(*) = 0, coalesce(string_agg(d, '; '), 'nothing elsewhere depends on it')
  from (
    select d from migration_guard.outside_dependents(backup.schema_name) as d
    union all
    -- A partition depends on its parent, and not the parent on it; but its rows are the parent's.
    select r from migration_guard.outside_references(backup.schema_name) as r
    union all
    select format('%s inherits from %s', i.inhrelid::regclass, i.inhparent::regclass)
    from pg_catalog.pg_inherits as i
    join pg_catalog.pg_class as c on c.oid in (i.inhrelid, i.inhparent) and c.relkind in ('r', 'p')
    where c.relnamespace = to_regnamespace(format('%I', backup.schema_name))
    union all
    select format('publication %I publishes %s', u.pubname, p.prrelid::regclass)
    from pg_catalog.pg_publication_rel as p
    join pg_catalog.pg_publication as u on u.oid = p.prpubid
    join pg_catalog.pg_class as c on c.oid = p.prrelid
    where c.relnamespace = to_regnamespace(format('%I', backup.schema_name))
  ) as found (d);
  return query select g.* from migration_guard.export_verified_guard(backup) as g;
end
$$;
comment on function migration_guard.cleanup_guards(migration_guard.backups, uuid) is
  'Every condition that a cleanup must meet, evaluated now. The cleanup''s own job does not count as being under way.';

create function migration_guard.second_key_guard(backup migration_guard.backups, drawn_by text[], actor text)
returns table (guard text, passed boolean, details text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 'second_key', coalesce(exists (select from unnest(drawn_by) as d (actor) where d.actor <> second_key_guard.actor), false),
    format('another key than %s must do what %s has drawn the plan of', coalesce(second_key_guard.actor, '?'), coalesce(array_to_string(drawn_by, ', '), 'nobody'))
  where coalesce((backup.plan ->> 'two_keys')::boolean, false)
$$;
comment on function migration_guard.second_key_guard(migration_guard.backups, text[], text) is
  'Whether a plan or a token was drawn by another key than the one that acts on it; no row where the backup does not want two.';

create function migration_guard.cleanup_request_guards(backup migration_guard.backups, confirm text, token text, actor text)
returns table (guard text, passed boolean, details text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 'confirm_names_schema', coalesce(confirm = backup.schema_name, false),
    format('confirm must be %s', backup.schema_name)
  union all
  select 'token_is_valid', coalesce(bool_or(t.is_valid), false),
    coalesce(max(t.details), 'no such token was given out for this backup: its cleanup plan has one')
  from (
    select c.spent_by is null and c.expires_at > now() as is_valid,
      case
        when c.spent_by is not null then format('the token was spent by job %s', c.spent_by)
        when c.expires_at <= now() then format('the token expired at %s: ask for another cleanup plan', c.expires_at)
        else 'the token is valid' end as details
    from migration_guard.cleanup_tokens as c
    where c.backup_id = backup.id and c.token_hash = encode(sha256(convert_to(token, 'UTF8')), 'hex')
  ) as t
  union all
  select * from migration_guard.second_key_guard(backup, (
    select array_agg(c.actor) from migration_guard.cleanup_tokens as c
    where c.backup_id = backup.id and c.token_hash = encode(sha256(convert_to(token, 'UTF8')), 'hex')), actor)
$$;
comment on function migration_guard.cleanup_request_guards(migration_guard.backups, text, text, text) is
  'What a request for a cleanup must bring: the name of the schema, a token that is neither unknown, spent nor expired and,
where the backup wants two keys, another key than the one that drew it.';

create function migration_guard.applied_override(guards jsonb, override jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_agg(g.value || case when g.value ->> 'guard' = override ->> 'guard' and not (g.value ->> 'passed')::boolean
      and override ->> 'guard' = any (migration_guard.overridable_guards())
    then jsonb_build_object('overridden', true, 'details', format('%s; %s overrides it: %s', g.value ->> 'details', override ->> 'by', override ->> 'reason'))
    else '{"overridden": false}' end order by g.position)
  from jsonb_array_elements(guards) with ordinality as g (value, position)
$$;
comment on function migration_guard.applied_override(jsonb, jsonb) is
  'Guards, each with whether it has not passed and is overridden.';

create function migration_guard.keep_token(token_hash text, backup_id uuid, actor text, export text default null) returns timestamptz
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  expires_at constant timestamptz := now() + interval '10 minutes';
begin
  delete from migration_guard.cleanup_tokens as t where t.expires_at < now() - interval '1 day' and t.spent_by is null;
  insert into migration_guard.cleanup_tokens (token_hash, backup_id, actor, export, expires_at)
  values (token_hash, backup_id, actor, export, expires_at);
  return expires_at;
end
$$;
comment on function migration_guard.keep_token(text, uuid, text, text) is
  'Keeps the hash of a token that was drawn, for ten minutes, and removes those that nobody used; returns when it expires.';

create function migration_guard.plan_cleanup(version text, actor text default session_user, out token text, out expires_at timestamptz)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(version);
begin
  token := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
  expires_at := migration_guard.keep_token(encode(sha256(convert_to(token, 'UTF8')), 'hex'), backup.id, actor);
end
$$;
comment on function migration_guard.plan_cleanup(text, text) is
  'Gives out a token for one cleanup of a backup, valid for ten minutes; only its hash is stored. Raises backup_not_found.';

create function migration_guard.refuse_cleanup(what text, guards jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_path_exists(guards, '$[*] ? (@.passed == false && !(@.overridden == true))') then
    perform migration_guard.fail(
      'cleanup_refused',
      format('%s stays: %s.', what, (
        select string_agg(format('%s (%s)', g ->> 'guard', g ->> 'details'), '; ')
        from jsonb_array_elements(guards) as g where not (g ->> 'passed')::boolean and not coalesce((g ->> 'overridden')::boolean, false))),
      jsonb_build_object('guards', guards));
  end if;
end
$$;
comment on function migration_guard.refuse_cleanup(text, jsonb) is
  'Raises cleanup_refused, with all guards of what is to be removed, unless every one of them passed or is overridden.';

create function migration_guard.enqueue_cleanup(
  version text, confirm text, token text, actor text default session_user, request_id text default null, override jsonb default null
) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(version);
  parsed constant jsonb := migration_guard.parse_override(override, actor);
  guards jsonb;
  job migration_guard.jobs;
begin
  -- One request at a time for each token: the second waits here, and finds it spent.
  perform from migration_guard.cleanup_tokens as t
  where t.backup_id = backup.id and t.token_hash = encode(sha256(convert_to(enqueue_cleanup.token, 'UTF8')), 'hex')
  for update;
  select jsonb_agg(to_jsonb(g)) into guards
  from (
    select * from migration_guard.cleanup_guards(backup)
    union all
    select * from migration_guard.cleanup_request_guards(backup, confirm, token, actor)
  ) as g;
  if parsed is not null and not jsonb_path_exists(guards, '$[*] ? (@.guard == $name)', jsonb_build_object('name', parsed ->> 'guard')) then
    perform migration_guard.fail('invalid_parameter', format('The plan of this backup asks for no guard %s.', parsed ->> 'guard'));
  end if;
  perform migration_guard.refuse_cleanup(backup.schema_name, migration_guard.applied_override(guards, parsed));
  job := migration_guard.enqueue('cleanup', backup.version, actor,
    jsonb_strip_nulls(jsonb_build_object('confirm', confirm, 'backup_id', backup.id, 'override', parsed)), request_id);
  update migration_guard.cleanup_tokens as t set spent_by = job.id
  where t.backup_id = backup.id and t.token_hash = encode(sha256(convert_to(enqueue_cleanup.token, 'UTF8')), 'hex');
  return job;
end
$$;
comment on function migration_guard.enqueue_cleanup(text, text, text, text, text, jsonb) is
  'Queues the removal of a backup and spends the token. override is {guard, reason} of one that need not have passed. Raises
backup_not_found, invalid_parameter, role_required, or cleanup_refused with every guard.';

create function migration_guard.drop_backup_schema(backup migration_guard.backups) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  statement text;
begin
  -- Never cascade: what depends on any of it, or is in the schema besides, makes Postgres refuse, and all of it stays.
  for statement in
    select format('drop %s %s restrict', m.kind, string_agg(m.name, ', '))
    from (
      select p.oid::regprocedure::text as name, 'function' as kind, 1 as position
      from pg_catalog.pg_proc as p
      join migration_guard.schema_contents(backup.schema_name) as c
        on c.classid = 'pg_catalog.pg_proc'::regclass and c.objid = p.oid and c.identity = any (backup.members)
      union all
      select r.oid::regclass::text, case r.relkind when 'v' then 'view' else 'table' end, case r.relkind when 'v' then 2 else 3 end
      from pg_catalog.pg_class as r
      join migration_guard.schema_contents(backup.schema_name) as c
        on c.classid = 'pg_catalog.pg_class'::regclass and c.objid = r.oid and c.identity = any (backup.members)
    ) as m
    group by m.kind, m.position
    order by m.position
  loop
    execute statement;
    perform migration_guard.finish_work(1);
  end loop;
  execute format('drop schema %I restrict', backup.schema_name);
  perform migration_guard.finish_work(1);
end
$$;
comment on function migration_guard.drop_backup_schema(migration_guard.backups) is
  'Drops a backup schema and the backup in it. Raises where something else is in it or depends on it.';

create function migration_guard.lock_schema_tables(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  patience constant int := (select s.setting from pg_catalog.pg_settings as s where s.name = 'lock_timeout');
  started constant timestamptz := clock_timestamp();
  tables text;
begin
  loop
    select string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by c.relname) into tables
    from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = lock_schema_tables.schema_name and c.relkind = 'r';
    exit when tables is null;
    begin
      -- Whoever reads one table keeps nobody from the others for longer, but in the end it waits its turn. An autovacuum gives way after a second.
      perform set_config('lock_timeout', (select case when left_over * 2 > patience then least(nullif(patience, 0), 1500) else greatest(left_over, 1500) end::text
        from (select coalesce(nullif(patience, 0), 3000) - (extract(epoch from clock_timestamp() - started) * 1000)::int as left_over) as l), true);
      execute 'lock table ' || tables || ' in access exclusive mode';
      perform set_config('lock_timeout', patience::text, true);
      exit;
    exception when lock_not_available then
      -- With every lock given back.
      if clock_timestamp() >= started + make_interval(secs => patience / 1000.0) and patience > 0 then raise; end if;
    end;
    perform pg_sleep(0.2);
  end loop;
end
$$;
comment on function migration_guard.lock_schema_tables(text) is
  'From here on nobody can make anything depend on the tables of a schema, or change them; what the guards see stays so. Tries
until lock_timeout is over, and holds no lock for long while it waits for another.';

create function migration_guard.rename_backup_schema(backup migration_guard.backups, new_name text) returns text[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  -- What somebody puts there meanwhile does not become part of the backup.
  members constant text[] := array(
    select c.classid || '/' || c.objid from migration_guard.schema_contents(backup.schema_name) as c where c.identity = any (backup.members));
begin
  execute format('alter schema %I rename to %I', backup.schema_name, new_name);
  perform migration_guard.close_schema(new_name);
  return array(
    select c.identity from migration_guard.schema_contents(new_name) as c where c.classid || '/' || c.objid = any (members) order by c.identity);
end
$$;
comment on function migration_guard.rename_backup_schema(migration_guard.backups, text) is
  'Gives the schema of a backup another name, takes away whatever rights anybody but its owner has there, and returns what the
parts of the backup are called now.';

create function migration_guard.run_cleanup(job migration_guard.jobs) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup migration_guard.backups;
  guards jsonb;
  hours int;
begin
  backup := migration_guard.get_backup(job.version);
  perform migration_guard.lock_schema_tables(backup.schema_name);
  select b.* into backup from migration_guard.backups as b where b.id = backup.id for update;
  select jsonb_agg(to_jsonb(g)) into guards
  from (
    select * from migration_guard.cleanup_guards(backup, job.id)
    union all
    select 'confirm_names_schema', coalesce(job.parameters ->> 'confirm' = backup.schema_name, false), format('confirm must be %s', backup.schema_name)
    union all
    select 'token_is_valid', exists (select from migration_guard.cleanup_tokens as t where t.spent_by = job.id and t.backup_id = backup.id),
      'the token was spent by this job'
    union all
    select * from migration_guard.second_key_guard(backup,
      array(select t.actor from migration_guard.cleanup_tokens as t where t.spent_by = job.id and t.backup_id = backup.id), job.actor)
  ) as g;
  perform migration_guard.refuse_cleanup(backup.schema_name, migration_guard.applied_override(guards, job.parameters -> 'override'));

  hours := coalesce(backup.plan ->> 'trash_hours', '24')::int;
  if hours = 0 then
    -- Functions, views, tables, and the schema.
    perform migration_guard.report_progress(job, 'dropping', 0, 4);
    perform migration_guard.drop_backup_schema(backup);
    update migration_guard.backups as b set removed_at = clock_timestamp(), removed_by = job.actor where b.id = backup.id;
    return jsonb_strip_nulls(jsonb_build_object('schema', backup.schema_name, 'backup_id', backup.id, 'removed', true,
      'override', job.parameters -> 'override'));
  end if;
  perform migration_guard.report_progress(job, 'trashing', 0, 1);
  update migration_guard.backups as b
  set schema_name = t.schema_name, members = migration_guard.rename_backup_schema(backup, t.schema_name),
    trashed_at = clock_timestamp(), trashed_by = job.actor, purge_after = clock_timestamp() + make_interval(hours => hours)
  from (select migration_guard.trash_schema_name(backup.version, backup.id) as schema_name) as t
  where b.id = backup.id
  returning b.* into backup;
  execute format('comment on schema %I is %L', backup.schema_name,
    format('Migration Guard trash: the backup of %s, dropped by the first worker after %s.', backup.version, backup.purge_after));
  perform migration_guard.finish_work(1);
  return jsonb_strip_nulls(jsonb_build_object('schema', job.parameters ->> 'confirm', 'backup_id', backup.id, 'removed', false,
    'trash_schema', backup.schema_name, 'purge_after', backup.purge_after, 'override', job.parameters -> 'override'));
end
$$;
comment on function migration_guard.run_cleanup(migration_guard.jobs) is
  'Does a cleanup job: evaluates every guard again under lock, then puts the backup into the trash, or drops it where its plan
says so. Raises cleanup_refused.';

-- The trash -----------------------------------------------------------------------------------------------------------

create function migration_guard.put_plan_back(backup migration_guard.backups, actor text) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  plan migration_guard.plans;
  present jsonb;
begin
  loop
    select migration_guard.plan_document(p) into present from migration_guard.plans as p where p.version = backup.version for update;
    if migration_guard.objects_of_plan(present) = migration_guard.objects_of_plan(backup.plan) then
      return '{}';
    end if;
    -- Not by put_plan, which wants that what it names is there: the migration may have dropped it.
    plan := migration_guard.parse_plan(backup.version, backup.plan, actor);
    exit when present is not null;
    -- One that is being stored for the first time is waited for.
    insert into migration_guard.plans as p select plan.* on conflict on constraint plans_pkey do nothing;
    if found then return '{"plan_put_back": true}'; end if;
  end loop;
  perform migration_guard.replace_plan(plan);
  return jsonb_build_object('plan_put_back', true, 'replaced_plan', jsonb_strip_nulls(present - 'notify_url'));
end
$$;
comment on function migration_guard.put_plan_back(migration_guard.backups, text) is
  'Has a version the plan again that its backup was taken by, where it has none now, or one that names other objects; returns what
of that the trail tells: {plan_put_back, replaced_plan}, or nothing.';

create function migration_guard.restore_from_trash(
  version text, backup_id uuid default null, actor text default session_user, out backup migration_guard.backups, out changed jsonb
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted constant text := migration_guard.normalize_version(version);
  original constant text := migration_guard.backup_schema_name(wanted);
begin
  select b.* into backup from migration_guard.backups as b where b.id = (migration_guard.find_in_trash(wanted, backup_id)).id for update nowait;
  -- A purge may have come first.
  if backup.id is null or backup.removed_at is not null or backup.trashed_at is null then
    perform migration_guard.fail('backup_not_found', format('There is no %s of %s in the trash.', coalesce('backup ' || backup_id, 'backup'), wanted));
  end if;
  perform migration_guard.assert_nothing_under_way(wanted);
  perform migration_guard.assert_schema_is_free(wanted,
    'where the migration has not run since and it is not wanted, drop that schema; otherwise clean that backup up first');
  if to_regnamespace(quote_ident(backup.schema_name)) is null then
    perform migration_guard.fail('backup_damaged', format('Somebody has dropped or renamed %s.', backup.schema_name));
  end if;
  perform migration_guard.forget_dropped_backup(wanted);
  update migration_guard.backups as b
  set schema_name = original, members = migration_guard.rename_backup_schema(backup, original),
    trashed_at = null, trashed_by = null, purge_after = null
  where b.id = backup.id
  returning b.* into backup;
  perform migration_guard.close_backup_schema(backup.schema_name);
  -- Whoever brings it back does not want it cleaned up by what was asked for before.
  delete from migration_guard.cleanup_tokens as t where t.backup_id = backup.id and t.export is null and t.spent_by is null;
  changed := migration_guard.put_plan_back(backup, actor);
exception
  when lock_not_available then
    perform migration_guard.fail('backup_locked', format('The backup of %s is being dropped, or brought back, or somebody changes its plan, at this moment.', wanted));
  when duplicate_schema or unique_violation then
    perform migration_guard.fail('backup_exists', format('The schema %s is being made at this moment.', original));
end
$$;
comment on function migration_guard.restore_from_trash(text, uuid, text) is
  'Brings a backup of a version back to where it was that a cleanup has put into the trash: the one with an id, or the last; and
with it the plan that it was taken by. Raises backup_not_found, backup_exists, backup_in_progress, backup_damaged or backup_locked.';

create function migration_guard.enqueue_due_purges() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform migration_guard.enqueue('purge', b.version, 'migration_guard', jsonb_build_object('backup_id', b.id))
  from migration_guard.backups as b
  where b.removed_at is null and b.trashed_at is not null and b.purge_after <= clock_timestamp()
    -- One that failed is tried again after an hour.
    and not exists (
      select from migration_guard.jobs as j
      where j.kind = 'purge' and j.version = b.version and j.parameters ->> 'backup_id' = b.id::text
        and (j.status in ('queued', 'running') or j.created_at > clock_timestamp() - interval '1 hour'));
end
$$;
comment on function migration_guard.enqueue_due_purges() is
  'Queues the end of each backup that has been in the trash for as long as its plan says. Called by whoever claims jobs, one at a time.';

create function migration_guard.run_purge(job migration_guard.jobs) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup migration_guard.backups;
begin
  select b.* into backup from migration_guard.backups as b where b.id = (job.parameters ->> 'backup_id')::uuid for update;
  -- Somebody has brought it back since, or another purge has come first.
  if backup.removed_at is not null or backup.trashed_at is null or backup.purge_after > clock_timestamp() then
    return jsonb_build_object('backup_id', job.parameters -> 'backup_id', 'removed', false);
  end if;
  if to_regnamespace(quote_ident(backup.schema_name)) is null then
    update migration_guard.backups as b
    set removed_at = clock_timestamp(), removed_by = 'unknown: its schema was dropped or renamed without a purge' where b.id = backup.id;
    return jsonb_build_object('schema', backup.schema_name, 'backup_id', backup.id, 'removed', false, 'missing', true);
  end if;
  perform migration_guard.lock_schema_tables(backup.schema_name);
  perform migration_guard.refuse_cleanup(backup.schema_name, (
    select jsonb_agg(to_jsonb(g)) from migration_guard.cleanup_guards(backup, job.id) as g
    where g.guard in ('schema_is_a_backup', 'migration_confirmed', 'nothing_depends_on_it')));
  perform migration_guard.report_progress(job, 'dropping', 0, 4);
  perform migration_guard.drop_backup_schema(backup);
  update migration_guard.backups as b set removed_at = clock_timestamp(), removed_by = backup.trashed_by where b.id = backup.id;
  return jsonb_build_object('schema', backup.schema_name, 'backup_id', backup.id, 'removed', true);
end
$$;
comment on function migration_guard.run_purge(migration_guard.jobs) is
  'Drops a backup that is due in the trash, if it is whole in its schema and nothing depends on it. One that is not there any
more, or not due, is left alone. Raises cleanup_refused.';
