-- Chapter 9. Cleanup: the one thing that cannot be undone, behind guards that are evaluated where it happens.

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
    else format('%s holds backup %s and nothing else', backup.schema_name, backup.id) end;
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
end
$$;
comment on function migration_guard.cleanup_guards(migration_guard.backups, uuid) is
  'Every condition that a cleanup must meet, evaluated now. The cleanup''s own job does not count as being under way.';

create function migration_guard.cleanup_request_guards(backup migration_guard.backups, confirm text, token text)
returns table (guard text, passed boolean, details text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 'confirm_names_schema', coalesce(confirm = backup.schema_name, false),
    format('confirm must be %s', backup.schema_name)
  union all
  select 'token_is_valid', coalesce(bool_or(t.is_valid), false),
    coalesce(max(t.details), 'no such token was given out for this backup')
  from (
    select c.spent_by is null and c.expires_at > now() as is_valid,
      case
        when c.spent_by is not null then format('the token was spent by job %s', c.spent_by)
        when c.expires_at <= now() then format('the token expired at %s', c.expires_at)
        else 'the token is valid' end as details
    from migration_guard.cleanup_tokens as c
    where c.backup_id = backup.id and c.token_hash = encode(sha256(convert_to(token, 'UTF8')), 'hex')
  ) as t
$$;
comment on function migration_guard.cleanup_request_guards(migration_guard.backups, text, text) is
  'What a request for a cleanup must bring: the name of the schema, and a token that is neither unknown, spent nor expired.';

create function migration_guard.plan_cleanup(version text, actor text default session_user, out token text, out expires_at timestamptz)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(version);
begin
  token := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
  expires_at := now() + interval '10 minutes';
  delete from migration_guard.cleanup_tokens as t where t.expires_at < now() - interval '1 day' and t.spent_by is null;
  insert into migration_guard.cleanup_tokens (token_hash, backup_id, actor, expires_at)
  values (encode(sha256(convert_to(token, 'UTF8')), 'hex'), backup.id, actor, expires_at);
end
$$;
comment on function migration_guard.plan_cleanup(text, text) is
  'Gives out a token for one cleanup of a backup, valid for ten minutes; only its hash is stored. Raises backup_not_found.';

create function migration_guard.refuse_cleanup(backup migration_guard.backups, guards jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_path_exists(guards, '$[*] ? (@.passed == false)') then
    perform migration_guard.fail(
      'cleanup_refused',
      format('%s stays: %s.', backup.schema_name, (
        select string_agg(format('%s (%s)', g ->> 'guard', g ->> 'details'), '; ')
        from jsonb_array_elements(guards) as g where not (g ->> 'passed')::boolean)),
      jsonb_build_object('guards', guards));
  end if;
end
$$;
comment on function migration_guard.refuse_cleanup(migration_guard.backups, jsonb) is
  'Raises cleanup_refused, with all guards, unless every one of them passed.';

create function migration_guard.enqueue_cleanup(
  version text, confirm text, token text, actor text default session_user, request_id text default null
) returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(version);
  job migration_guard.jobs;
begin
  -- One request at a time for each token: the second waits here, and finds it spent.
  perform from migration_guard.cleanup_tokens as t
  where t.backup_id = backup.id and t.token_hash = encode(sha256(convert_to(enqueue_cleanup.token, 'UTF8')), 'hex')
  for update;
  perform migration_guard.refuse_cleanup(backup, (
    select jsonb_agg(to_jsonb(g)) from (
      select * from migration_guard.cleanup_guards(backup)
      union all
      select * from migration_guard.cleanup_request_guards(backup, confirm, token)
    ) as g));
  job := migration_guard.enqueue('cleanup', backup.version, actor, jsonb_build_object('confirm', confirm, 'backup_id', backup.id), request_id);
  update migration_guard.cleanup_tokens as t set spent_by = job.id
  where t.backup_id = backup.id and t.token_hash = encode(sha256(convert_to(enqueue_cleanup.token, 'UTF8')), 'hex');
  return job;
end
$$;
comment on function migration_guard.enqueue_cleanup(text, text, text, text, text) is
  'Queues the removal of a backup and spends the token. Raises backup_not_found, or cleanup_refused with every guard.';

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

create function migration_guard.run_cleanup(job migration_guard.jobs) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup migration_guard.backups;
  tables text;
  spent boolean;
begin
  backup := migration_guard.get_backup(job.version);
  -- From here on nobody can make anything depend on the tables, or change them; what the guards see stays so.
  select string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by c.relname) into tables
  from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
  where n.nspname = backup.schema_name and c.relkind = 'r';
  if tables is not null then
    execute 'lock table ' || tables || ' in access exclusive mode';
  end if;
  select b.* into backup from migration_guard.backups as b where b.id = backup.id for update;

  spent := exists (
    select from migration_guard.cleanup_tokens as t where t.spent_by = job.id and t.backup_id = backup.id);
  perform migration_guard.refuse_cleanup(backup, (
    select jsonb_agg(to_jsonb(g)) from (
      select * from migration_guard.cleanup_guards(backup, job.id)
      union all
      select 'confirm_names_schema', coalesce(job.parameters ->> 'confirm' = backup.schema_name, false), format('confirm must be %s', backup.schema_name)
      union all
      select 'token_is_valid', spent, 'the token was spent by this job'
    ) as g));

  -- Functions, views, tables, and the schema.
  perform migration_guard.report_progress(job, 'dropping', 0, 4);
  perform migration_guard.drop_backup_schema(backup);
  update migration_guard.backups as b set removed_at = clock_timestamp(), removed_by = job.actor where b.id = backup.id;
  return jsonb_build_object('schema', backup.schema_name, 'backup_id', backup.id, 'removed', true);
end
$$;
comment on function migration_guard.run_cleanup(migration_guard.jobs) is
  'Does a cleanup job: evaluates every guard again under lock, then drops the backup schema. Raises cleanup_refused.';
