-- Chapter 10, continued. Help with a backup: a second session that reads the tables for their checksums, in the snapshot of the
-- job's transaction, while the worker copies them. It writes nothing, and the job is as well done without it.
--
-- A transaction that is open shows nothing of itself but its session's application_name. The worker shows its snapshot there while
-- it reads the catalog, and the helper its progress, and then what it has found.

create function migration_guard.helper_name(job_number int) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select format('migration_guard/help/%s/', job_number) $$;
comment on function migration_guard.helper_name(int) is 'What the application_name of a session that helps with a job begins with.';

create function migration_guard.helpers_of(job_number int) returns table (pid int, shown text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
declare
  own_name constant text := migration_guard.helper_name(job_number);
begin
  return query
  select a.pid, substr(a.application_name, length(own_name) + 1)
  from pg_catalog.pg_stat_activity as a
  where starts_with(a.application_name, own_name)
    and a.datid = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
    -- Anybody may take that name, and who cannot be the owner has not read the tables.
    and pg_has_role(a.usesysid, migration_guard.owner(), 'member');
end
$$;
comment on function migration_guard.helpers_of(int) is 'The sessions that help with a job, and what they show.';

create function migration_guard.is_over(job_number int) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return (
    select coalesce(bool_and(j.finished_at is not null or not migration_guard.has_worker(j)), true)
    from migration_guard.jobs as j where j.number = job_number);
end
$$;
comment on function migration_guard.is_over(int) is 'Whether nobody is at work on a job.';

create function migration_guard.snapshot_step(snapshot text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
-- There is not much room in a name: 00000003-0000001B-1 is 3-1B-1.
as $$ select 'snapshot@' || regexp_replace(snapshot, '(^|-)0+', '\1', 'g') $$;
comment on function migration_guard.snapshot_step(text) is 'The step of a job that shows its exported snapshot to who can help.';

create function migration_guard.shown_snapshot(application_name text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('%s-%s-%s', lpad(s.parts[1], 8, '0'), lpad(s.parts[2], 8, '0'), s.parts[3])
  from regexp_match(application_name, '/snapshot@([0-9A-F]+)-([0-9A-F]+)-([0-9]+)$') as s (parts)
  where s.parts is not null
$$;
comment on function migration_guard.shown_snapshot(text) is 'The snapshot that an application_name shows, as `set transaction snapshot` wants it.';

create function migration_guard.backup_to_help() returns table (job_number int, snapshot text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select j.number, migration_guard.shown_snapshot(a.application_name)
  from migration_guard.jobs as j
  left join migration_guard.workers_of(j) as w on j.status = 'running'
  left join pg_catalog.pg_stat_activity as a on a.pid = w.pid
  where j.kind = 'backup'
    and current_setting('max_parallel_workers')::int > 1
    and case
      when j.status = 'queued' then true
      -- It has not begun, or is at what it shows its snapshot during.
      else j.status = 'running' and a.pid <> pg_backend_pid()
        and (not starts_with(a.application_name, format('migration_guard/%s/', j.number)) or migration_guard.shown_snapshot(a.application_name) is not null)
        and not exists (select from migration_guard.helpers_of(j.number))
    end
  order by migration_guard.shown_snapshot(a.application_name) is null, j.number limit 1
$$;
comment on function migration_guard.backup_to_help() is
  'A backup that has no helper yet and can use one, with its snapshot; without it as long as it has none; no row where there is none, nor
where there is one processor only.';

create function migration_guard.sources_digest(tables jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Half of it is 128 bits, as the checksums are, and fits into a name.
  select left(encode(sha256(convert_to(coalesce(string_agg(t.value::text, E'\n' order by t.value::text collate "C"), ''), 'UTF8')), 'hex'), 32)
  from jsonb_array_elements(tables) as t (value)
$$;
comment on function migration_guard.sources_digest(jsonb) is 'What a helper shows of all checksums together: of [[OID, rows, checksum], …].';

create function migration_guard.read_sources(job_number int) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set row_security = off
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set extra_float_digits = 1
set bytea_output = 'hex' set quote_all_identifiers = off set standard_conforming_strings = on
set lc_monetary = 'C' set client_encoding = 'UTF8' set client_min_messages = 'error'
-- It waits for no lock: whoever waits for the worker's would keep it from the tables, and it the worker.
set lock_timeout = '50ms' set jit = off set synchronize_seqscans = off
-- The worker has a processor of its own that way, which is what takes the longest.
set max_parallel_workers_per_gather = 0
as $$
declare
  job constant migration_guard.jobs := (select j from migration_guard.jobs as j where j.number = job_number);
  plan constant migration_guard.plans := migration_guard.get_plan(job.version);
  relations constant oid[] := array(select t.oid from migration_guard.plan_tables(plan) as t order by t.name);
  found record;
  tables jsonb := '[]';
begin
  perform migration_guard.lift_transaction_timeout();
  begin
    if migration_guard.must_give_way() then
      perform set_config('migration_guard.gives_way', 'help', true);
    end if;
    perform migration_guard.report_progress(job, 'reading', 0,
      (select coalesce(sum(migration_guard.table_bytes(r)), 0)::bigint from unnest(relations) as r), 'help/' || job.number);
    for n in 1..cardinality(relations) loop
      if not migration_guard.has_worker(job) then
        drop sequence pg_temp.migration_guard_shown;
        return null;
      end if;
      execute format('lock table only %s in access share mode', relations[n]::regclass);
      perform migration_guard.assert_may_be_read(array[relations[n]]);
      perform migration_guard.refuse_views(true);
      select r.rows, r.checksum into found
      from migration_guard.source_checksum(relations[n], 'reading@' || relations[n], migration_guard.table_bytes(relations[n])) as r;
      perform migration_guard.refuse_views(false);
      tables := tables || jsonb_build_array(jsonb_build_array(relations[n], found.rows, found.checksum));
    end loop;
    drop sequence pg_temp.migration_guard_shown;
    return migration_guard.sources_digest(tables);
  exception
    when operator_intervention then
      -- It gave way, and is not needed any more.
      return null;
    when query_canceled or others then
      raise log 'migration_guard: no help with job %: % (%)', job.id, sqlerrm, sqlstate;
      return null;
  end;
end
$$;
comment on function migration_guard.read_sources(int) is
  'Reads the tables of a backup job, in this transaction''s snapshot, for the digest of their checksums; null where that fails.';

create function migration_guard.digest_of_helper(job_number int) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  shown text;
  shown_before text;
  since timestamptz := clock_timestamp();
begin
  loop
    perform pg_stat_clear_snapshot();
    select h.shown into shown from migration_guard.helpers_of(job_number) as h order by h.pid limit 1;
    if not found or starts_with(shown, '=') then
      return substr(shown, 2);
    end if;
    if shown is distinct from shown_before then
      shown_before := shown;
      since := clock_timestamp();
    elsif clock_timestamp() > since + interval '10 seconds' then
      return null;
    end if;
    perform pg_sleep(0.005);
  end loop;
end
$$;
comment on function migration_guard.digest_of_helper(int) is
  'What the helper of a job has found, when it has; null where there is none, or it gets no further.';

create function migration_guard.dismiss_helpers() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- To plan it takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  if not exists (select from pg_catalog.pg_stat_activity as a where starts_with(a.application_name, 'migration_guard/help/')) then return; end if;
  perform pg_cancel_backend(h.pid)
  from (
    -- Of the last few: a helper does not outlive its job by long.
    select j.number from migration_guard.jobs as j where j.kind = 'backup' order by j.number desc limit 20
  ) as j
  cross join lateral migration_guard.helpers_of(j.number) as h
  join pg_catalog.pg_stat_activity as a on a.pid = h.pid
  where not starts_with(h.shown, '=') and migration_guard.is_over(j.number)
    -- One that gives way sees it by itself, and might not be reading any more when it is told.
    and a.wait_event is distinct from 'PgSleep';
end
$$;
comment on function migration_guard.dismiss_helpers() is
  'Ends the reading of helpers whose job has ended or has lost its worker, and with it their locks and their snapshot.';

create procedure migration_guard.help(require_no_statement_timeout boolean default false)
language plpgsql
as $$
declare
  wanted pg_catalog.record;
  digest pg_catalog.text;
  is_over pg_catalog.bool := false;
  -- To look takes a processor, too.
  pause constant pg_catalog.float8 := case when migration_guard.must_give_way() then 0.1 else 0.01 end;
  own_name constant pg_catalog.text := pg_catalog.current_setting('application_name');
begin
  -- The caller's search_path is in force here, as in work().
  perform migration_guard.assert_may_work(require_no_statement_timeout);
  if migration_guard.must_give_way() then
    -- What others do is watched from here on, before there is a snapshot to read with.
    perform pg_catalog.set_config('migration_guard.traffic', '', false);
    perform migration_guard.is_quiet(in_session => true);
    commit;
  end if;
  -- A worker waits for its locks for ten seconds, and has no snapshot before.
  for look in 1..(case when migration_guard.must_give_way() then 140 else 1200 end) loop
    select h.job_number, h.snapshot into wanted from migration_guard.backup_to_help() as h;
    commit;
    exit when wanted.job_number is null or wanted.snapshot is not null;
    -- The worker shows its snapshot soon, and does not wait to be helped, unless it waits for locks itself.
    perform pg_catalog.pg_sleep(case when look <= 20 then least(pause, 0.03) else pause end);
  end loop;
  if wanted.snapshot is not null then
    -- A snapshot must be imported before anything takes one, as the evaluation of any expression does: it has to stand in the text.
    execute pg_catalog.format($create$
      create or replace procedure pg_temp.migration_guard_help(job_number pg_catalog.int4, inout digest pg_catalog.text) language plpgsql as $body$
      begin
        commit;
        set transaction isolation level repeatable read;
        set transaction snapshot %L;
        digest := migration_guard.read_sources(job_number);
        commit;
      end
      $body$ $create$, wanted.snapshot);
    call pg_temp.migration_guard_help(wanted.job_number, digest);
    drop procedure pg_temp.migration_guard_help(pg_catalog.int4, pg_catalog.text);
    commit;
  end if;
  if digest is not null then
    perform pg_catalog.set_config('application_name', pg_catalog.concat(migration_guard.helper_name(wanted.job_number), '=', digest), false);
    loop
      begin
        is_over := migration_guard.is_over(wanted.job_number);
        perform pg_catalog.pg_sleep(pause);
      exception when query_canceled then
        is_over := true;
      end;
      commit;
      exit when is_over;
    end loop;
    perform pg_catalog.set_config('application_name', own_name, false);
    commit;
  end if;
  if require_no_statement_timeout then
    reset statement_timeout;
  end if;
end
$$;
comment on procedure migration_guard.help(boolean) is
  'Helps the backup that a worker has begun or is about to begin, if there is one: call it in a second session right after work()
was called in a first. It commits, so that it may not be called in a transaction; set statement_timeout = 0 before, and see
work() for who is behind a pooler. What it cannot do the worker does by itself.';
