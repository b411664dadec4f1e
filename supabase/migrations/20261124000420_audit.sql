-- Chapter 4, continued. The audit trail: who has asked for what, what became of it, and a chain of hashes that shows where
-- somebody has changed it since.

create table migration_guard.audit_log (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  -- The name of the key, as whoever called said; null before a credential was accepted.
  actor text,
  -- What the key was when it asked; null where no key did.
  role text,
  -- Whom Postgres itself has let in.
  db_user text not null default session_user,
  request_id text,
  -- Address of the client, as the gateway gave it.
  source text,
  version text,
  job_id uuid,
  action text not null,
  outcome text not null,
  -- What was asked for: never a key, a token, or the value of a row.
  parameters jsonb not null default '{}'
);
comment on table migration_guard.audit_log is
  'What was asked of the product and what became of it. It speaks of backups and jobs, and outlives them: nothing here refers to a row of theirs.';

create table migration_guard.audit_chain (
  -- Without a gap, from 1.
  number bigint primary key,
  entry_id bigint not null unique references migration_guard.audit_log,
  previous_hash text not null,
  -- SHA-256, in hex, over the hash before and the entry.
  hash text not null
);
comment on table migration_guard.audit_chain is 'The order in which the entries of the trail were sealed, each with a hash over all before it.';

create table migration_guard.audit_pending (
  entry_id bigint primary key
);
comment on table migration_guard.audit_pending is 'Entries of the trail that are not in the chain yet.';

-- Append-only ---------------------------------------------------------------------------------------------------------

create function migration_guard.refuse_change() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform migration_guard.fail('audit_is_append_only', format('%I.%I takes new rows, and nothing else.', tg_table_schema, tg_table_name));
  return null;
end
$$;
comment on function migration_guard.refuse_change() is 'Raises audit_is_append_only.';

create trigger append_only before update or delete or truncate on migration_guard.audit_log
  for each statement execute function migration_guard.refuse_change();
create trigger append_only_rows before update or delete on migration_guard.audit_log
  for each row execute function migration_guard.refuse_change();
create trigger append_only before update or delete or truncate on migration_guard.audit_chain
  for each statement execute function migration_guard.refuse_change();
create trigger append_only_rows before update or delete on migration_guard.audit_chain
  for each row execute function migration_guard.refuse_change();

create function migration_guard.await_seal() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into migration_guard.audit_pending (entry_id) values (new.id) on conflict do nothing;
  return null;
end
$$;
comment on function migration_guard.await_seal() is 'Notes that an entry of the trail is not in the chain yet.';

create trigger await_seal after insert on migration_guard.audit_log
  for each row execute function migration_guard.await_seal();

-- In a session that replays what others have done, too: the owner may say of one that it does.
alter table migration_guard.audit_log enable always trigger append_only;
alter table migration_guard.audit_log enable always trigger append_only_rows;
alter table migration_guard.audit_log enable always trigger await_seal;
alter table migration_guard.audit_chain enable always trigger append_only;
alter table migration_guard.audit_chain enable always trigger append_only_rows;

-- The chain -----------------------------------------------------------------------------------------------------------

create function migration_guard.audit_text(entry migration_guard.audit_log) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Nothing in it depends on a setting.
  return jsonb_build_array(entry.id, to_char(entry.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), entry.actor, entry.role, entry.db_user,
    entry.request_id, entry.source, entry.version, entry.job_id, entry.action, entry.outcome, entry.parameters)::text;
end
$$;
comment on function migration_guard.audit_text(migration_guard.audit_log) is
  'The one text of an entry, which its hash is taken over: a JSON array of its columns.';

create function migration_guard.audit_hash(previous_hash text, entry migration_guard.audit_log) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return encode(sha256(convert_to(previous_hash || migration_guard.audit_text(entry), 'UTF8')), 'hex');
end
$$;
comment on function migration_guard.audit_hash(text, migration_guard.audit_log) is 'The hash of an entry that comes after the one with another hash.';

create function migration_guard.audit_root() returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select repeat('0', 64) $$;
comment on function migration_guard.audit_root() is 'What stands before the first entry in the place of a hash.';

create function migration_guard.seal_audit() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  last migration_guard.audit_chain;
  entry migration_guard.audit_log;
begin
  -- A transaction that does not see what others commit meanwhile does not see the end of the chain.
  if current_setting('transaction_isolation') <> 'read committed'
    or not pg_try_advisory_xact_lock(hashtextextended('migration_guard.audit_chain', 0)) then
    return;
  end if;
  -- What a dump brings back has its place already.
  delete from migration_guard.audit_pending as p where exists (select from migration_guard.audit_chain as c where c.entry_id = p.entry_id);
  perform migration_guard.end_refusal_counts();
  select c.* into last from migration_guard.audit_chain as c order by c.number desc limit 1;
  for entry in
    select l.* from migration_guard.audit_pending as p join migration_guard.audit_log as l on l.id = p.entry_id order by l.id
  loop
    insert into migration_guard.audit_chain as c (number, entry_id, previous_hash, hash)
    select coalesce(last.number, 0) + 1, entry.id, p.hash, migration_guard.audit_hash(p.hash, entry)
    from (select coalesce(last.hash, migration_guard.audit_root()) as hash) as p
    returning c.* into last;
    delete from migration_guard.audit_pending as p where p.entry_id = entry.id;
  end loop;
end
$$;
comment on function migration_guard.seal_audit() is
  'Puts what is pending at the end of the chain, in order of id. Waits for nobody: where another transaction is at it, what is
pending is left to the next one. The last thing that a transaction does, since it keeps others from it until the commit.';

create function migration_guard.verify_audit(expected_hash text default null)
returns table (intact boolean, entries bigint, head text, first_broken jsonb)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with links as (
    select c.number, c.entry_id, c.hash,
      case
        when c.number <> c.position then format('Number %s is missing.', c.position)
        when c.previous_hash <> c.expected then 'It does not hold the hash of the one before it.'
        when l.id is null then format('Its entry %s is gone.', c.entry_id)
        when c.hash <> migration_guard.audit_hash(c.previous_hash, l) then format('Its entry %s was changed, or its hash.', c.entry_id)
      end as why
    from (
      select c.*, row_number() over w as position, coalesce(lag(c.hash) over w, migration_guard.audit_root()) as expected
      from migration_guard.audit_chain as c window w as (order by c.number)
    ) as c
    left join migration_guard.audit_log as l on l.id = c.entry_id
  ),
  broken as (
    select k.number, k.entry_id, k.why from links as k where k.why is not null
    union all
    select null, l.id, format('Entry %s is neither in the chain nor waits for it.', l.id)
    from migration_guard.audit_log as l
    where not exists (select from migration_guard.audit_chain as c where c.entry_id = l.id)
      and not exists (select from migration_guard.audit_pending as p where p.entry_id = l.id)
    union all
    select null, p.entry_id, format('Entry %s waits for the chain, and is gone.', p.entry_id)
    from migration_guard.audit_pending as p
    where not exists (select from migration_guard.audit_log as l where l.id = p.entry_id)
    union all
    select null, null, 'The chain does not have the expected hash: it was cut off, or made anew.'
    where not exists (select from migration_guard.audit_chain as c where c.hash = expected_hash) and expected_hash is not null
  )
  select b.found is null, (select count(*) from migration_guard.audit_log), (select k.hash from links as k order by k.number desc limit 1), b.found
  from (
    select (select to_jsonb(b) from broken as b order by b.number nulls last, b.entry_id limit 1) as found
  ) as b
$$;
comment on function migration_guard.verify_audit(text) is
  'Reckons every hash of the trail again: whether all is as it was sealed, and of what is not, the first, with the reason. That
the end of the chain was cut off, or all of it made anew, shows only where a hash that was kept elsewhere is expected.';

-- What is recorded ----------------------------------------------------------------------------------------------------

create function migration_guard.request_header(name text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select left(nullif(current_setting('request.headers', true), '')::jsonb ->> ('x-migration-guard-' || name), 255) $$;
comment on function migration_guard.request_header(text) is 'What the function says of a request besides the call itself, in a header that REST passes on; null elsewhere.';

create function migration_guard.audit(
  action text, actor text, version text default null, job_id uuid default null, parameters jsonb default '{}', outcome text default 'done'
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into migration_guard.audit_log (actor, role, request_id, source, version, job_id, action, outcome, parameters)
  values (audit.actor, case when audit.actor is not null then migration_guard.role_of(audit.actor) end,
    migration_guard.request_header('request-id'), migration_guard.request_header('source'),
    case when audit.version is not null then migration_guard.normalize_version(audit.version) end,
    audit.job_id, audit.action, audit.outcome, jsonb_strip_nulls(audit.parameters));
  -- What only reads is not limited (chapter 4, limits), nor is what was refused.
  if audit.outcome = 'done' and audit.action <> all ('{rollback_plan,diff.values.read}'::text[]) then
    perform migration_guard.count_change(audit.actor);
  end if;
  perform migration_guard.seal_audit();
end
$$;
comment on function migration_guard.audit(text, text, text, uuid, jsonb, text) is
  'Records what a key has asked for, in the transaction in which it is done, and counts what was changed. Raises rate_limited.';

create function migration_guard.audited(job migration_guard.jobs, action text, actor text, parameters jsonb default '{}') returns migration_guard.jobs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform migration_guard.audit(action, actor, job.version, job.id, parameters);
  return job;
end
$$;
comment on function migration_guard.audited(migration_guard.jobs, text, text, jsonb) is 'Records who has asked for a job; returns the job.';

create function migration_guard.audit_job_transition() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Not sealed here: a job that holds the chain until it ends would keep all others from it.
  insert into migration_guard.audit_log (actor, request_id, version, job_id, action, outcome, parameters)
  values (new.actor, new.request_id, new.version, new.id, 'job.' || new.kind, new.status, jsonb_strip_nulls(jsonb_build_object(
    'from', case when tg_op = 'UPDATE' then old.status end, 'attempt', new.attempts, 'error_code', new.error ->> 'code')));
  return null;
end
$$;
comment on function migration_guard.audit_job_transition() is 'Records a transition of a job, in its own transaction: what is undone is not recorded.';

create trigger audit_new_job after insert on migration_guard.jobs
  for each row execute function migration_guard.audit_job_transition();
create trigger audit_job_transition after update on migration_guard.jobs
  for each row when ((old.status, old.attempts) is distinct from (new.status, new.attempts))
  execute function migration_guard.audit_job_transition();
