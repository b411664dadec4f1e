-- Chapter 10, continued. Webhooks: a job that ends leaves one message for the notify_url that its plan had, in its own transaction.
-- Nothing here connects to anywhere: the Edge Function takes what is due, sends it, and tells how that ended.

create table migration_guard.webhooks (
  -- What the receiver knows it by, the same in every attempt (webhook-id).
  id text primary key default 'msg_' || replace(gen_random_uuid()::text, '-', ''),
  job_id uuid not null unique references migration_guard.jobs on delete cascade,
  -- The plan's notify_url when the job was asked for.
  url text not null,
  -- How often it was taken to be sent.
  attempts int not null default 0,
  next_attempt_at timestamptz not null default clock_timestamp(),
  delivered_at timestamptz,
  gave_up_at timestamptz,
  -- One word of how the last attempt failed: http_500, timeout, address_not_public, …
  last_error text,
  created_at timestamptz not null default clock_timestamp(),
  constraint url_is_safe check (migration_guard.is_notify_url(url)),
  constraint delivered_or_given_up check (delivered_at is null or gave_up_at is null),
  constraint last_error_is_a_word check (last_error ~ '^[a-z][a-z0-9_]{0,39}$')
);
comment on table migration_guard.webhooks is
  'One message for each ended job whose plan had a notify_url; kept for 30 days after it was delivered or given up.';

-- What a job leaves behind --------------------------------------------------------------------------------------------

create function migration_guard.notify_url(version text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when exists (select from migration_guard.plans as p where p.version = wanted.version)
    then (select p.notify_url from migration_guard.plans as p where p.version = wanted.version)
    else (
      select b.plan ->> 'notify_url'
      from migration_guard.backups as b where b.version = wanted.version order by b.created_at desc limit 1)
  end
  from (select migration_guard.normalize_version(notify_url.version) as version) as wanted
$$;
comment on function migration_guard.notify_url(text) is
  'Where jobs of a version tell that they have ended: what its plan says or, where that is gone, its last backup''s; or null.';

create function migration_guard.leave_webhook() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into migration_guard.webhooks (job_id, url)
  select new.id, new.notify_url where new.notify_url is not null
  on conflict do nothing;
  return null;
exception when others then
  -- A job does not fail for its message.
  raise log 'migration_guard: job % leaves no webhook: % (%)', new.id, sqlerrm, sqlstate;
  return null;
end
$$;
comment on function migration_guard.leave_webhook() is
  'Leaves the message of a job that has just ended, in the same transaction. Never raises an error.';

create trigger leave_webhook after update of status on migration_guard.jobs
for each row when (old.status is distinct from new.status and new.status in ('succeeded', 'failed', 'cancelled'))
execute function migration_guard.leave_webhook();

create function migration_guard.webhook_payload(job migration_guard.jobs) returns text
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select jsonb_build_object(
    'type', 'job.' || job.status,
    'timestamp', job.finished_at,
    'data', jsonb_build_object(
      'id', job.id, 'kind', job.kind, 'rehearse', migration_guard.is_rehearsal(job), 'version', job.version, 'status', job.status, 'actor', job.actor,
      'created_at', job.created_at, 'started_at', job.started_at, 'finished_at', job.finished_at,
      -- Neither a result nor the details of an error: they may show values of rows.
      'error', case when job.error is not null then jsonb_build_object('code', job.error -> 'code', 'message', job.error -> 'message') end,
      'path', '/v1/jobs/' || job.id))::text
$$;
comment on function migration_guard.webhook_payload(migration_guard.jobs) is
  'The body of a job''s webhook, the same in every attempt. No value of any row.';

-- Sending -------------------------------------------------------------------------------------------------------------

create function migration_guard.webhook_pause(attempt int) returns interval
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- Up to a fifth longer, so that what failed together does not come back together.
  select p.pauses[attempt] * (1 + random() / 5)
  from (select '{10 seconds,1 minute,5 minutes,30 minutes,2 hours,6 hours,12 hours,24 hours}'::interval[]) as p (pauses)
$$;
comment on function migration_guard.webhook_pause(int) is
  'How long after the n-th attempt the next one comes, if that failed; null after the ninth, which is the last.';

create function migration_guard.settle_webhooks() returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- Whoever took it for the last time has not come back.
  update migration_guard.webhooks as w
  set gave_up_at = clock_timestamp(), last_error = coalesce(w.last_error, 'sender_lost')
  where w.delivered_at is null and w.gave_up_at is null and w.next_attempt_at <= clock_timestamp()
    and w.attempts > 0 and migration_guard.webhook_pause(w.attempts) is null;
  delete from migration_guard.webhooks as w
  where coalesce(w.delivered_at, w.gave_up_at) < clock_timestamp() - interval '30 days';
$$;
comment on function migration_guard.settle_webhooks() is
  'Gives up webhooks whose last attempt was never told of, and removes those that are done since 30 days.';

create function migration_guard.take_webhooks(max_webhooks int) returns setof migration_guard.webhooks
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform migration_guard.settle_webhooks();
  return query
  with due as materialized (
    select w.id
    from migration_guard.webhooks as w
    where w.delivered_at is null and w.gave_up_at is null and w.next_attempt_at <= clock_timestamp()
    order by w.next_attempt_at
    limit least(greatest(max_webhooks, 1), 100)
    for update skip locked
  )
  update migration_guard.webhooks as w
  -- A sender that is lost has used up its attempt; a minute is more than any attempt takes.
  set attempts = w.attempts + 1,
    next_attempt_at = clock_timestamp() + greatest(migration_guard.webhook_pause(w.attempts + 1), '1 minute')
  from due
  where w.id = due.id
  returning w.*;
end
$$;
comment on function migration_guard.take_webhooks(int) is
  'Takes webhooks that are due, the longest due first, so that no other sender takes them as well.';

create function migration_guard.record_webhook(id text, attempt int, status int default null, failure text default null)
returns int
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  next timestamptz;
begin
  if (status is null) = (failure is null) or status not between 100 and 599 or failure !~ '^[a-z][a-z0-9_]{0,39}$' then
    perform migration_guard.fail('invalid_parameter', 'An attempt ends with an HTTP status, or a failure in one word.');
  end if;
  if status between 200 and 299 then
    update migration_guard.webhooks as w set delivered_at = clock_timestamp(), gave_up_at = null, last_error = null
    where w.id = record_webhook.id and w.delivered_at is null;
    return null;
  end if;
  update migration_guard.webhooks as w
  set last_error = coalesce(failure, 'http_' || status),
    next_attempt_at = coalesce(clock_timestamp() + p.pause, w.next_attempt_at),
    -- 410: the receiver says that it is gone for good.
    gave_up_at = case when status = 410 or p.pause is null then clock_timestamp() end
  from (select migration_guard.webhook_pause(attempt) as pause) as p
  where w.id = record_webhook.id and w.delivered_at is null and w.gave_up_at is null
    -- Of an attempt that came to an end after the next had begun, the failure says nothing.
    and w.attempts = attempt
  returning case when w.gave_up_at is null then w.next_attempt_at end into next;
  return ceil(extract(epoch from next - clock_timestamp()));
end
$$;
comment on function migration_guard.record_webhook(text, int, int, text) is
  'Records how an attempt ended. Returns the seconds until the next one, null where there is none. Raises invalid_parameter.';
