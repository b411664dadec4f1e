-- Chapter 8. Before the migration: the checklist. After it: the sign-off.

create function migration_guard.catalog_checks(backup migration_guard.backups)
returns table (check_name text, ok boolean, details text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
  plan constant migration_guard.plans := migration_guard.parse_plan(backup.version, backup.plan, backup.actor);
begin
  return query execute format($query$
    select 'live ' || coalesce(l.kind, s.kind), bool_and(l.checksum is not distinct from s.checksum),
      coalesce('not as saved: ' || string_agg(coalesce(l.identity, s.identity), ', ') filter (where l.checksum is distinct from s.checksum), 'as saved')
    from (
      select o.kind, o.identity, migration_guard.object_checksum(o.definition, o.settings, o.owner, o.comment, o.grants, o.sort_order) as checksum
      from migration_guard.plan_objects($1) as o
    ) as l
    full join (select o.kind, o.identity, o.checksum from %I.objects_backup as o where o.in_plan) as s on s.kind = l.kind and s.identity = l.identity
    group by 1
  $query$, backup.schema_name) using plan;
exception when syntax_error_or_access_rule_violation or data_exception then
  -- Of a backup that is damaged its own checks tell.
  if migration_guard.is_as_recorded(backup) then raise; end if;
end
$$;
comment on function migration_guard.catalog_checks(migration_guard.backups) is
  'For each kind of object, whether those of the plan are now as the backup has saved them.';

create function migration_guard.coverage_items(backup migration_guard.backups)
returns table (item text, title text, required boolean, passed boolean, details text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  uncovered constant text := (
    select string_agg(u, ', ' order by u) from migration_guard.uncovered_objects(backup.plan ->> 'schema') as u);
begin
  begin
    return query execute format($query$
      with objects as (select * from %1$I.objects_backup as o where not o.is_internal),
      outside as (
        select distinct o.kind, o.identity
        from objects as o
        join %1$I.dependencies_backup as d on d.classid = o.classid and d.objid = o.objid
        join objects as p on p.classid = d.refclassid and p.objid = d.refobjid and p.in_plan
        where not o.in_plan and o.objsubid = 0
      )
      select 'plan_covers_dependents', 'What depends on the plan''s objects is in the plan', false, count(*) = 0,
        coalesce('outside of it: ' || string_agg(replace(o.kind, '_', ' ') || ' ' || o.identity, '; ' order by o.kind, o.identity), 'nothing outside depends on it')
      from outside as o
      union all
      select 'plan_coverage', 'The plan covers the schema', false, count(*) filter (where not o.in_plan and o.kind = 'table' and o.schema_name = $1) = 0,
        format('%%s of %%s objects of the schema %%s are in the plan', count(*) filter (where o.in_plan and o.schema_name = $1), count(*) filter (where o.schema_name = $1), $1)
        || coalesce('; tables that are not: ' || string_agg(o.name, ', ' order by o.name) filter (where not o.in_plan and o.kind = 'table' and o.schema_name = $1), '')
      from objects as o
    $query$, backup.schema_name) using backup.plan ->> 'schema';
  exception when syntax_error_or_access_rule_violation or data_exception then
    if migration_guard.is_as_recorded(backup) then raise; end if;
  end;
  return query select 'kinds_covered', 'Every object of the schema is of a kind that a backup holds', false, uncovered is null,
    coalesce('no backup holds ' || uncovered, 'there is none of another kind');
end
$$;
comment on function migration_guard.coverage_items(migration_guard.backups) is
  'Items of the checklist that only warn: what the plan, or any backup, does not cover, as far as a damaged backup can tell.';

create function migration_guard.backup_items(backup migration_guard.backups)
returns table (item text, title text, required boolean, passed boolean, details text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regnamespace(quote_ident(backup.schema_name)) is null then
    -- Of what is not there nothing else needs to be said.
    return query values ('backup_there', 'The backup is there', true, false, format(
      'there is no schema %s: somebody has dropped or renamed it. Rename it back, or import an export of it (POST /v1/imports); if the migration has not run yet, take the backup again (POST /v1/backups)',
      backup.schema_name));
    return;
  end if;
  return query
  with checks as materialized (
    select c.check_name, c.status = 'OK' as ok, c.details from migration_guard.integrity_checks(backup) as c
    union all
    select c.check_name, c.ok, c.details from migration_guard.catalog_checks(backup) as c
  ),
  items (position, item, title, pattern) as (values
    (1, 'tables_backed_up', 'Every table is backed up with the right number of rows', '^(table |live (?!(function|procedure|aggregate|index|policy)$))'),
    (2, 'functions_saved', 'Every function definition is saved', '^(functions|procedures|aggregates|live (function|procedure|aggregate))$'),
    (3, 'indexes_documented', 'Every index is documented', '^(indexes|live index)$'),
    (4, 'policies_preserved', 'Every row level security policy is preserved', '^(policies|live policy)$'),
    (5, 'integrity_passes', 'Every integrity check passes', '^(?!live )'),
    (6, 'metadata_as_expected', 'The metadata shows the expected counts', '^(metadata|manifest|registered manifest)$')
  )
  select i.item, i.title, true,
    -- Where a plan names no function, say, there is nothing to check, and the metadata must agree with that.
    coalesce(bool_and(c.ok), true) and (coalesce(bool_or(c.check_name !~ '^live '), false) or m.ok),
    coalesce(
      string_agg(c.check_name || ': ' || c.details, E'\n' order by c.check_name) filter (where not c.ok),
      case
        when not (coalesce(bool_or(c.check_name !~ '^live '), false) or m.ok) then (
          select 'nothing of the backup could be checked; ' || string_agg(f.check_name || ': ' || f.details, E'\n' order by f.check_name)
          from checks as f where not f.ok)
        when count(c.check_name) = 0 then 'there is none, and the metadata says so'
        when i.item = 'integrity_passes' then format('%s checks, all OK', count(*))
        else string_agg(c.check_name || ': ' || c.details, E'\n' order by c.check_name)
      end)
  from items as i
  cross join (select coalesce(bool_and(c.ok), false) as ok from checks as c where c.check_name = 'metadata') as m
  left join checks as c on c.check_name ~ i.pattern
  group by i.position, i.item, i.title, m.ok
  order by i.position;
end
$$;
comment on function migration_guard.backup_items(migration_guard.backups) is
  'Items of the checklist about what a backup holds, evaluated by reading it again; a single one where its schema is gone.';

create function migration_guard.checklist(version text)
returns table (item text, title text, required boolean, passed boolean, details text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  backup constant migration_guard.backups := migration_guard.get_backup(version);
begin
  return query select * from migration_guard.backup_items(backup);
  if backup.confirmed_at is not null then
    return query values ('not_signed_off', 'The migration is still to come', true, false,
      format('signed off by %s at %s, so that the backup is of an earlier time; if that was too early and the migration has not run, drop the schema %I and take the backup again', backup.confirmed_by, backup.confirmed_at, backup.schema_name));
  end if;
  -- It may have been against the manifest that somebody has noted, which nothing here knows.
  if not backup.verified_ok then
    return query values ('last_verification_passed', 'The last verification found the backup whole', true, false,
      format('that of %s did not: read which check has failed, and verify the backup again', backup.verified_at));
  end if;
  return query
  select g.guard, 'The export that the plan requires is there, and was verified', true, g.passed, g.details from migration_guard.export_verified_guard(backup) as g;
  return query select * from migration_guard.coverage_items(backup);
end
$$;
comment on function migration_guard.checklist(text) is
  'The pre-migration checklist of a backup, every item evaluated now by reading the backup again. Those that are not required
are warnings; one is there only after the sign-off, one after a verification that found damage, and fails then. Raises backup_not_found or backup_locked.';

create function migration_guard.assert_ready(version text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  open_items text;
  -- As it would be if it were sent once more.
  is_changed boolean;
begin
  if (migration_guard.find_backup(version)).id is null then
    perform migration_guard.fail('not_ready', format('Not ready for %s: there is no backup of it.', version));
  end if;
  select string_agg(format('%s (%s)', c.title, c.details), '; '), bool_or(c.details ~ '(^|\n)live ') and not bool_or(c.item in ('integrity_passes', 'last_verification_passed')) into open_items, is_changed
  from migration_guard.checklist(version) as c where c.required and not c.passed;
  if open_items is not null then
    perform migration_guard.fail('not_ready', format('Not ready for %s: %s%s.', version,
      case when is_changed then 'the schema is not as it was saved. If the migration has run already, keep the backup, which is the way back. ' else '' end, open_items));
  end if;
  return format('Ready for %s.', version);
end
$$;
comment on function migration_guard.assert_ready(text) is
  'First line of a migration: raises not_ready unless the version has a backup that passes the whole checklist now.';

create function migration_guard.confirm_backup(version text, note text, actor text default session_user)
returns migration_guard.backups
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  backup migration_guard.backups := migration_guard.get_backup(version);
begin
  if coalesce(length(btrim(note)), 0) not between 1 and 2000 then
    perform migration_guard.fail('invalid_parameter', 'A sign-off has a note of 1 to 2000 characters.');
  end if;
  perform migration_guard.assert_nothing_under_way(version);
  -- The retention of its exports begins with the sign-off, and they may be all that is left.
  if backup.confirmed_at is null and to_regnamespace(format('%I', backup.schema_name)) is null then
    perform migration_guard.fail('backup_damaged', format('The schema %s is gone: there is nothing to go back to. Import an export of it before the migration is signed off.', backup.schema_name));
  end if;
  -- The first sign-off stands: saying it again must not move the retention clock. A rollback that came since the look holds the
  -- row: what it has undone by then is not signed off; and one that comes later takes the sign-off away.
  update migration_guard.backups as b
  set confirmed_at = clock_timestamp(), confirmed_by = confirm_backup.actor, confirmation_note = confirm_backup.note
  where b.id = backup.id and b.confirmed_at is null and b.rolled_back_at is not distinct from backup.rolled_back_at;
  backup := migration_guard.get_backup(version);
  if backup.confirmed_at is null then
    perform migration_guard.fail('backup_in_progress', format('A rollback of %s has come in between: look at what is there, and sign that off.', version));
  end if;
  return backup;
end
$$;
comment on function migration_guard.confirm_backup(text, text, text) is
  'Signs off a migration: the retention clock of its backup starts. Saying it again changes nothing. Raises backup_not_found, backup_damaged
where its schema is gone, or backup_in_progress where a rollback of it is queued, runs, or was faster.';
