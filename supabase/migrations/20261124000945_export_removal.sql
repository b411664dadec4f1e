-- Chapter 9.5. Removing an export, behind the same kind of guards as a cleanup; and what an export is asked for.

create function migration_guard.export_is_verified(backup migration_guard.backups, but_for text default null) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from migration_guard.exports as e
    where e.backup_id = backup.id and e.state = 'complete' and e.verified_ok and e.id is distinct from but_for)
$$;
comment on function migration_guard.export_is_verified(migration_guard.backups, text) is
  'Whether there is an export of a backup that was read back, and nothing has been found wrong with it since.';

create function migration_guard.export_verified_guard(backup migration_guard.backups)
returns table (guard text, passed boolean, details text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 'export_verified', e.id is not null, case when e.id is not null then format('the export %s was read back at %s', e.id, e.verified_at)
    else 'its plan requires an export that was verified, and there is none: POST /v1/backups/{version}/exports, then POST /v1/exports/{id}/verify' end
  from (select coalesce((backup.plan ->> 'require_export')::boolean, false) as is_required) as r
  left join lateral (
    select x.id, x.verified_at from migration_guard.exports as x
    where x.backup_id = backup.id and x.state = 'complete' and x.verified_ok order by x.verified_at desc limit 1) as e on true
  where r.is_required
$$;
comment on function migration_guard.export_verified_guard(migration_guard.backups) is
  'Whether a backup has the verified export that its plan requires; no row where that requires none.';

create function migration_guard.export_removal_guards(export migration_guard.exports, for_job uuid default null)
returns table (guard text, passed boolean, details text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  backup migration_guard.backups;
begin
  select b.* into backup from migration_guard.backups as b where b.id = export.backup_id;
  guard := 'export_is_there';
  passed := export.state <> 'removed';
  details := format('the export is %s', export.state);
  return next;
  return query
  select 'no_job_under_way', count(*) = 0, coalesce(string_agg(format('job %s (%s) is %s', j.id, j.kind, j.status), '; '), 'no job works on this export')
  from migration_guard.jobs_of_export(export.id, for_job) as j;
  -- One that was never finished, or of which a part is gone, protects nobody.
  if export.state <> 'complete' then return; end if;
  return query
  select g.guard, g.passed, g.details || case when g.guard = 'migration_confirmed' and not g.passed and backup.removed_at is not null
      then ', and its backup is gone: import it, sign that off, and remove both when the retention is over' else '' end
  from migration_guard.cleanup_guards(backup) as g where g.guard in ('migration_confirmed', 'retention_passed');
  guard := 'not_required';
  passed := not coalesce((backup.plan ->> 'require_export')::boolean, false) or backup.removed_at is not null
    or migration_guard.export_is_verified(backup, export.id);
  details := case when passed then 'no backup needs this export to be there'
    else format('the plan of %s requires a verified export while its backup is there, and this is the only one', backup.version) end;
  return next;
end
$$;
comment on function migration_guard.export_removal_guards(migration_guard.exports, uuid) is
  'Every condition that the removal of an export must meet, evaluated now. Its own job does not count.';

create function migration_guard.export_token_hash(export_id text, token text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
-- Of bytes that are no text, so that no token of a cleanup has the same: a token does what it was drawn for.
as $$ select encode(sha256('\xff'::bytea || convert_to(format('%s %s', export_id, token), 'UTF8')), 'hex') $$;
comment on function migration_guard.export_token_hash(text, text) is 'What is kept of a token for the removal of an export.';

create function migration_guard.export_request_guards(export migration_guard.exports, confirm text, token text, actor text)
returns table (guard text, passed boolean, details text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with drawn as (
    select t.* from migration_guard.cleanup_tokens as t
    where t.backup_id = export.backup_id and t.token_hash = migration_guard.export_token_hash(export.id, token)
  )
  select 'confirm_names_export', coalesce(confirm = export.id, false), format('confirm must be %s', export.id)
  union all
  select 'token_is_valid', coalesce(bool_or(d.spent_by is null and d.expires_at > now()), false),
    coalesce(max(case when d.spent_by is not null then format('the token was spent by job %s', d.spent_by)
      when d.expires_at <= now() then format('the token expired at %s: ask for another removal plan', d.expires_at) else 'the token is valid' end), 'no such token was given out for this export: its removal plan has one')
  from drawn as d
  union all
  select g.* from migration_guard.backups as b
  cross join lateral migration_guard.second_key_guard(b, (select array_agg(d.actor) from drawn as d), export_request_guards.actor) as g
  where b.id = export.backup_id
$$;
comment on function migration_guard.export_request_guards(migration_guard.exports, text, text, text) is
  'What a request for a removal must bring: the export''s id, a token and, where the backup wants two keys, another key than the one that drew it.';

create function migration_guard.plan_export_removal(
  id text, actor text default session_user, out guards jsonb, out token text, out expires_at timestamptz, out two_keys boolean
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  export constant migration_guard.exports := migration_guard.get_export(id);
begin
  token := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
  expires_at := migration_guard.keep_token(migration_guard.export_token_hash(export.id, token), export.backup_id, actor, export.id);
  select migration_guard.applied_override(jsonb_agg(to_jsonb(g)), null) into guards from migration_guard.export_removal_guards(export) as g;
  two_keys := coalesce((select (b.plan ->> 'two_keys')::boolean from migration_guard.backups as b where b.id = export.backup_id), false);
end
$$;
comment on function migration_guard.plan_export_removal(text, text) is
  'Every guard of an export''s removal, and a token for one, valid for ten minutes; only its hash is stored. Raises export_not_found.';

create function migration_guard.enqueue_export_removal(
  id text, confirm text, token text, actor text default session_user, request_id text default null, override jsonb default null
) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  parsed constant jsonb := migration_guard.parse_override(override, actor);
  export migration_guard.exports := migration_guard.get_export(id);
  guards jsonb;
  job migration_guard.jobs;
begin
  select e.* into export from migration_guard.exports as e where e.id = export.id for update;
  -- One request at a time for each token: the second waits here, and finds it spent.
  perform from migration_guard.cleanup_tokens as t where t.token_hash = migration_guard.export_token_hash(export.id, enqueue_export_removal.token) for update;
  select jsonb_agg(to_jsonb(g)) into guards
  from (
    select * from migration_guard.export_removal_guards(export)
    union all
    select * from migration_guard.export_request_guards(export, confirm, token, actor)
  ) as g;
  if parsed is not null and not jsonb_path_exists(guards, '$[*] ? (@.guard == $name)', jsonb_build_object('name', parsed ->> 'guard')) then
    perform migration_guard.fail('invalid_parameter', format('The removal of this export asks for no guard %s.', parsed ->> 'guard'));
  end if;
  perform migration_guard.refuse_cleanup('The export ' || export.id, migration_guard.applied_override(guards, parsed));
  job := migration_guard.enqueue('remove_export', export.version, actor,
    jsonb_strip_nulls(jsonb_build_object('export', export.id, 'override', parsed)), request_id);
  update migration_guard.cleanup_tokens as t set spent_by = job.id
  where t.token_hash = migration_guard.export_token_hash(export.id, enqueue_export_removal.token);
  -- From the end: without its sums an export counts as unfinished.
  insert into migration_guard.transfer_objects (job_id, number, object, bytes)
  select job.id, row_number() over (order by o.number, o.object), o.object, 1
  from (
    select 0 as number, 'SHA256SUMS' as object
    union all
    select 1, f || migration_guard.export_suffix(export) from unnest('{manifest.json,restore.sql}'::text[]) as f
    union all
    -- Tries that were given up have left something, perhaps.
    select 2 + c.number, migration_guard.chunk_object(export, c.number, a)
    from migration_guard.export_chunks as c cross join generate_series(1, c.attempts) as a where c.export_id = export.id
  ) as o;
  update migration_guard.jobs as j set run_by = 'function' where j.id = job.id returning j.* into job;
  return job;
end
$$;
comment on function migration_guard.enqueue_export_removal(text, text, text, text, text, jsonb) is
  'Queues the removal of an export and spends the token. override is {guard, reason} of one that need not have passed. Raises
export_not_found, invalid_parameter, role_required, or cleanup_refused with every guard.';

create function migration_guard.begin_removal(job uuid) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  transfer constant migration_guard.jobs := migration_guard.get_transfer(job);
  export migration_guard.exports;
  guards jsonb;
begin
  if transfer.id is null then return true; end if;
  -- One at a time of each backup: of two exports that stand for each other one stays.
  perform from migration_guard.backups as b join migration_guard.exports as e on e.backup_id = b.id
  where e.id = transfer.parameters ->> 'export' for no key update of b;
  -- Whoever still writes, for a job that was cancelled, comes to an end first: afterwards it would be removed by nobody.
  select e.* into export from migration_guard.exports as e where e.id = transfer.parameters ->> 'export' for update skip locked;
  if export.id is null or (select count(*) from migration_guard.export_chunks as c where c.export_id = export.id) > (
    select count(*) from (select from migration_guard.export_chunks as c where c.export_id = export.id for update skip locked) as f
  ) then
    return false;
  end if;
  if export.state = 'removing' and exists (select from migration_guard.transfer_objects as o where o.job_id = job and o.done_at is not null) then
    return true;
  end if;
  if transfer.actor <> migration_guard.owner() then
    perform migration_guard.require_role(transfer.actor, 'admin');
  end if;
  select jsonb_agg(to_jsonb(g)) into guards
  from (
    select * from migration_guard.export_removal_guards(export, job)
    union all
    select 'token_is_valid', exists (
      select from migration_guard.cleanup_tokens as t where t.spent_by = job and t.backup_id = export.backup_id), 'the token was spent by this job'
    union all
    select g.* from migration_guard.backups as b
    cross join lateral migration_guard.second_key_guard(b,
      array(select t.actor from migration_guard.cleanup_tokens as t where t.spent_by = job), transfer.actor) as g
    where b.id = export.backup_id
  ) as g;
  perform migration_guard.refuse_cleanup('The export ' || export.id, migration_guard.applied_override(guards, transfer.parameters -> 'override'));
  update migration_guard.exports as e set state = 'removing', verified_ok = null, verified_at = null where e.id = export.id;
  return true;
end
$$;
comment on function migration_guard.begin_removal(uuid) is
  'Evaluates every guard again, before the first object is removed; from then on the export counts for nothing. False while somebody
still writes to it. Raises cleanup_refused or role_required.';
