-- Chapter 10, continued. What is told of jobs and backups to whoever watches: the figures that /metrics shows, and one line
-- of the log for each transition of a job.

-- Figures -------------------------------------------------------------------------------------------------------------

-- All that the figures want of a job, so that they are read from the index, however much the jobs' results hold.
create unique index jobs_by_outcome on migration_guard.jobs (status, kind, number) include (created_at, started_at, finished_at);

create function migration_guard.duration_bounds() returns double precision[]
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select '{-infinity,-14400,-3600,-900,-300,-60,-15,-5,-1,-0.5,-0.1}'::double precision[] $$;
comment on function migration_guard.duration_bounds() is
  'The upper bounds in seconds of the histograms'' buckets, negated: a bound belongs to its bucket, and width_bucket gives the
lower one to it.';

create function migration_guard.job_metrics() returns table (metric text, labels jsonb, value double precision)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with kinds (kind) as (values ('backup'), ('verify'), ('diff'), ('rollback'), ('cleanup'), ('purge'), ('export'), ('verify_export'), ('remove_export'), ('import')),
  statuses (status, is_end) as (
    values ('queued', false), ('running', false), ('succeeded', true), ('failed', true), ('cancelled', true)
  ),
  -- The only reading of all jobs. `ran` and `waited` tell how many buckets a job is in; a cancelled one may never have run.
  counted as materialized (
    select j.kind, j.status, width_bucket(-j.ran, b.bounds) as ran, width_bucket(-j.waited, b.bounds) as waited,
      count(*) as jobs, sum(j.ran) as ran_seconds, sum(j.waited) as waited_seconds
    from (
      -- Unlike extract, date_part does without numeric.
      select j.kind, j.status, date_part('epoch', j.finished_at - j.started_at) as ran,
        date_part('epoch', j.started_at - j.created_at) as waited
      from migration_guard.jobs as j
    ) as j
    cross join migration_guard.duration_bounds() as b (bounds)
    group by 1, 2, 3, 4
  ),
  observed (metric, labels, bucket, jobs, seconds) as (
    select 'migration_guard_job_duration_seconds', jsonb_build_object('kind', k.kind, 'status', s.status), c.ran, c.jobs, c.ran_seconds
    from kinds as k
    join statuses as s on s.is_end
    left join counted as c on (c.kind, c.status) = (k.kind, s.status) and c.ran is not null
    union all
    select 'migration_guard_job_queue_seconds', jsonb_build_object('kind', k.kind), c.waited, c.jobs, c.waited_seconds
    from kinds as k
    left join counted as c on c.kind = k.kind and c.waited is not null
  )
  select 'migration_guard_jobs', jsonb_build_object('kind', k.kind, 'status', s.status), coalesce(sum(c.jobs), 0)::double precision
  from kinds as k
  cross join statuses as s
  left join counted as c on (c.kind, c.status) = (k.kind, s.status)
  group by k.kind, s.status
  union all
  select o.metric || '_bucket', o.labels || jsonb_build_object('le', case when b.bound = '-infinity' then '+Inf' else (-b.bound)::text end),
    coalesce(sum(o.jobs) filter (where o.bucket >= b.position), 0)
  from observed as o
  cross join unnest(migration_guard.duration_bounds()) with ordinality as b (bound, position)
  group by o.metric, o.labels, b.bound
  union all
  select o.metric || t.suffix, o.labels, coalesce(sum(case t.suffix when '_sum' then o.seconds else o.jobs end), 0)
  from observed as o
  cross join (values ('_sum'), ('_count')) as t (suffix)
  group by o.metric, o.labels, t.suffix
  union all
  select 'migration_guard_oldest_queued_job_age_seconds', '{}', coalesce(greatest(extract(epoch from now() - min(j.created_at)), 0), 0)
  from migration_guard.jobs as j where j.status = 'queued'
$$;
comment on function migration_guard.job_metrics() is
  'The figures of all jobs by kind and status, those included that are zero, so that the first failure is seen as an increase.';

create function migration_guard.backup_metrics() returns table (metric text, labels jsonb, value double precision)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with kept as materialized (
    select b.version, migration_guard.backup_state(b) as state, b.bytes, b.created_at, b.verified_ok, b.verified_at,
      case when b.trashed_at is null then b.confirmed_at + make_interval(days => (b.plan ->> 'retention_days')::int) end as kept_until
    from migration_guard.backups as b where b.removed_at is null
  )
  select 'migration_guard_backups', jsonb_build_object('state', s.state), count(k.version)::double precision
  from unnest('{fresh,stale,migrated,rolled_back,damaged,missing,trashed}'::text[]) as s (state)
  left join kept as k on k.state = s.state
  group by s.state
  union all
  select f.metric, jsonb_build_object('version', k.version) || f.labels, f.value::double precision
  from kept as k
  cross join lateral (values
    ('migration_guard_backup_age_seconds', jsonb_build_object('state', k.state), extract(epoch from now() - k.created_at)),
    ('migration_guard_backup_size_bytes', '{}', k.bytes),
    ('migration_guard_backup_intact', '{}', k.verified_ok::int),
    ('migration_guard_backup_verified_timestamp_seconds', '{}', extract(epoch from k.verified_at)),
    ('migration_guard_backup_retention_remaining_days', '{}', extract(epoch from k.kept_until - now()) / 86400)
  ) as f (metric, labels, value)
  -- A version may have one in the trash besides.
  where f.value is not null and k.state <> 'trashed'
  union all
  select 'migration_guard_copied_bytes_total', '{}', coalesce(sum(b.bytes), 0)::double precision
  from migration_guard.backups as b;
end
$$;
comment on function migration_guard.backup_metrics() is
  'The figures of the backups that are registered, by what was recorded of them last, and of the bytes that were ever copied.';

create function migration_guard.metrics() returns table (metric text, labels jsonb, value double precision)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 'migration_guard_build_info', jsonb_build_object('component', c.component, 'version', c.version), 1
  from (values
    ('sql', migration_guard.product_version()),
    ('postgres', current_setting('server_version'))
  ) as c (component, version)
  union all
  select j.metric, j.labels, j.value from migration_guard.job_metrics() as j
  union all
  select b.metric, b.labels, b.value from migration_guard.backup_metrics() as b
$$;
comment on function migration_guard.metrics() is 'Every figure that the database has for /metrics.';

-- Log -----------------------------------------------------------------------------------------------------------------

create function migration_guard.log_job_transition() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  since timestamptz;
  until timestamptz;
begin
  if tg_op = 'UPDATE' then
    since := case old.status when 'queued' then old.created_at else old.started_at end;
    until := coalesce(new.finished_at, case old.status when 'queued' then new.started_at else clock_timestamp() end);
  end if;
  -- It speaks as whoever commits, who may have no right in this schema: nothing of it may be called.
  raise log '%', json_build_object(
    'level', case when new.status = 'failed' then 'error' when old.status = 'running' and new.status = 'running' then 'warn' else 'info' end,
    'event', 'job', 'job_id', new.id, 'kind', new.kind, 'version', new.version, 'from', old.status, 'to', new.status,
    'actor', new.actor, 'request_id', new.request_id, 'attempt', new.attempts,
    'duration_ms', round(extract(epoch from until - since) * 1000)::bigint, 'error_code', new.error ->> 'code');
  return null;
exception when others then
  -- A line that cannot be written (a client whose encoding lacks a character, say) is no reason to undo a job.
  return null;
end
$$;
comment on function migration_guard.log_job_transition() is
  'Writes a transition of a job into Postgres''s log, as one line of JSON: never a parameter, a result or a message. Not to the
client, unless it asks for that: to write to one that is gone would end the session, and undo the job at its commit.';

-- Deferred, so that what is undone is not told.
create constraint trigger log_new_job after insert on migration_guard.jobs
  deferrable initially deferred
  for each row execute function migration_guard.log_job_transition();
create constraint trigger log_job_transition after update on migration_guard.jobs
  deferrable initially deferred
  -- A job whose worker was lost is claimed again: running becomes running.
  for each row when ((old.status, old.attempts) is distinct from (new.status, new.attempts))
  execute function migration_guard.log_job_transition();
