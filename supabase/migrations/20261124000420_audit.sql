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

-- Unique, and so of use for what they keep apart: what is asked for by one of them is found from the newest back.
create unique index audit_log_by_version on migration_guard.audit_log (version, id);
create unique index audit_log_by_actor on migration_guard.audit_log (actor, id);
create unique index audit_log_by_action on migration_guard.audit_log (action, id);
create unique index audit_log_by_outcome on migration_guard.audit_log (outcome, id);
create unique index audit_log_by_time on migration_guard.audit_log (at, id);

create table migration_guard.audit_chain (
  -- Without a gap, from 1.
  number bigint primary key,
  entry_id bigint not null unique references migration_guard.audit_log,
  previous_hash text not null,
  -- SHA-256, in hex, over the hash before and the entry.
  hash text not null unique
);
comment on table migration_guard.audit_chain is 'The order in which the entries of the trail were sealed, each with a hash over all before it.';

create table migration_guard.audit_pending (
  entry_id bigint primary key
);
comment on table migration_guard.audit_pending is 'Entries of the trail that are not in the chain yet.';

-- Turns ---------------------------------------------------------------------------------------------------------------

-- Not logged: whoever takes a turn does not wait for the disk, and a row that a crash has lost is made again.
create unlogged table migration_guard.turns (
  name text primary key
);
comment on table migration_guard.turns is
  'What one transaction does at a time, by locks of rows: an advisory lock can be held by whoever may log in, and these by the owner alone.';
-- Whoever made it would have all others wait until its transaction ends.
insert into migration_guard.turns (name) values ('audit_chain');

create function migration_guard.take_turn(name text, waits boolean default true) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  loop
    if waits then
      perform from migration_guard.turns as t where t.name = take_turn.name for update;
    else
      perform from migration_guard.turns as t where t.name = take_turn.name for update skip locked;
    end if;
    if found then return true; end if;
    if exists (select from migration_guard.turns as t where t.name = take_turn.name) then return false; end if;
    insert into migration_guard.turns (name) values (take_turn.name) on conflict do nothing;
  end loop;
end
$$;
comment on function migration_guard.take_turn(text, boolean) is
  'Keeps others from what is called so until the transaction ends. One that does not wait is told false where another transaction
has the turn; it does wait for one that makes a row anew that a crash has lost.';

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

create function migration_guard.stamp_entry() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  new.at := clock_timestamp();
  new.db_user := session_user;
  return new;
end
$$;
comment on function migration_guard.stamp_entry() is
  'Says when an entry is written, and by whom, whatever the statement says. Not in a session that is a replica, as one is that restores data.';

create trigger stamp_entry before insert on migration_guard.audit_log
  for each row execute function migration_guard.stamp_entry();

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
  return jsonb_build_array(entry.id, entry.at at time zone 'UTC', entry.actor, entry.role, entry.db_user,
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
  if current_setting('transaction_isolation') <> 'read committed' or not migration_guard.take_turn('audit_chain', waits => false) then
    return;
  end if;
  -- What a dump brings back has its place already.
  delete from migration_guard.audit_pending as p where exists (select from migration_guard.audit_chain as c where c.entry_id = p.entry_id);
  perform migration_guard.end_refusal_counts();
  select c.* into last from migration_guard.audit_chain as c order by c.number desc limit 1;
  for entry in
    select l.* from migration_guard.audit_pending as p join migration_guard.audit_log as l on l.id = p.entry_id order by l.id
    -- However many there are, whoever is at it is done in a moment.
    limit 5000
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

create function migration_guard.audit_pending_state() returns table (pending bigint, oldest_pending_at timestamptz)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select count(*), min(l.at)
  from migration_guard.audit_pending as p
  left join migration_guard.audit_log as l on l.id = p.entry_id
$$;
comment on function migration_guard.audit_pending_state() is
  'How many entries wait for the chain, and since when the oldest does: for moments, unless something keeps them from it.';

create function migration_guard.audit_links(from_number bigint, max_entries int, previous_hash text)
returns table (number bigint, entry_id bigint, hash text, previous_id bigint, why text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select c.number, c.entry_id, c.hash, c.previous_id,
    case
      when c.number <> from_number - 1 + c.place then format('Number %s is missing.', from_number - 1 + c.place)
      when c.previous_hash <> c.expected then 'It does not hold the hash of the one before it.'
      when l.id is null then format('Its entry %s is gone.', c.entry_id)
      when c.hash <> migration_guard.audit_hash(c.previous_hash, l) then format('Its entry %s was changed, or its hash.', c.entry_id)
    end
  from (
    select c.*, row_number() over w as place, coalesce(lag(c.entry_id) over w, b.entry_id) as previous_id,
      coalesce(lag(c.hash) over w, audit_links.previous_hash, b.hash, migration_guard.audit_root()) as expected
    from (
      select c.* from migration_guard.audit_chain as c where c.number >= from_number order by c.number limit max_entries
    ) as c
    left join migration_guard.audit_chain as b on b.number = from_number - 1
    window w as (order by c.number)
  ) as c
  left join migration_guard.audit_log as l on l.id = c.entry_id
$$;
comment on function migration_guard.audit_links(bigint, int, text) is
  'So many links of the chain from a number on, each with the entry before it, and why it is not as it was sealed, if it is not.';

create function migration_guard.verify_audit(
  expected_hash text default null, from_number bigint default 1, max_entries int default null, previous_hash text default null
)
returns table (
  intact boolean, entries bigint, head text, first_broken jsonb, next_number bigint, last_hash text, pending bigint, oldest_pending_at timestamptz
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with links as materialized (
    select * from migration_guard.audit_links(from_number, max_entries, previous_hash)
  ),
  part as materialized (
    select count(*) as entries, max(k.number) as last_number, (array_agg(k.hash order by k.number desc))[1] as last_hash,
      -- Parts that follow each other leave out no id.
      case when from_number > 1 then least(min(k.entry_id), min(k.previous_id)) end as from_id,
      case when exists (select from migration_guard.audit_chain as c where c.number > max(k.number)) then max(k.entry_id) end as to_id
    from links as k
  ),
  broken as (
    select k.number, k.entry_id, k.why from links as k where k.why is not null
    union all
    select from_number - 1, null, format('Number %s is missing, or does not have the hash that it had.', from_number - 1)
    where from_number > 1 and not exists (
      select from migration_guard.audit_chain as c where c.number = from_number - 1 and c.hash = coalesce(verify_audit.previous_hash, c.hash))
    union all
    select null, l.id, format('Entry %s is neither in the chain nor waits for it.', l.id)
    from part as p
    join migration_guard.audit_log as l on l.id >= coalesce(p.from_id, -9223372036854775808) and l.id <= coalesce(p.to_id, 9223372036854775807)
    where not exists (select from migration_guard.audit_chain as c where c.entry_id = l.id)
      and not exists (select from migration_guard.audit_pending as w where w.entry_id = l.id)
    union all
    select null, w.entry_id, format('Entry %s waits for the chain, and is gone.', w.entry_id)
    from migration_guard.audit_pending as w
    where not exists (select from migration_guard.audit_log as l where l.id = w.entry_id)
    union all
    select null, null, 'No entry of the chain has the expected hash: if that is copied as it was noted, the chain was cut off, or made anew.'
    where not exists (select from migration_guard.audit_chain as c where c.hash = expected_hash) and expected_hash is not null
  )
  select b.found is null, p.entries, (select c.hash from migration_guard.audit_chain as c order by c.number desc limit 1), b.found,
    case when p.to_id is not null then p.last_number + 1 end, p.last_hash, w.pending, w.oldest_pending_at
  from part as p
  cross join (
    select (select to_jsonb(b) from broken as b order by b.number nulls last, b.entry_id limit 1) as found
  ) as b
  cross join migration_guard.audit_pending_state() as w
$$;
comment on function migration_guard.verify_audit(text, bigint, int, text) is
  'Reckons hashes of the trail again, all or so many from a number on: whether all is as it was sealed, and of what is not, the first,
with the reason. next_number is where the next part begins, and last_hash its previous_hash. That
the end of the chain was cut off, or all of it made anew, shows only where a hash that was kept elsewhere is expected.';

create function migration_guard.audit_entries(
  max_entries int, before bigint, of_version text, of_actor text, of_action text, of_outcome text, since timestamptz, until timestamptz
) returns setof migration_guard.audit_log
language plpgsql stable
rows 200
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A condition that may be null has Postgres read the whole trail: there are only those that are given.
  return query execute concat_ws(' and ', 'select l.* from migration_guard.audit_log as l where true',
    case when before is not null then 'l.id < $2' end,
    case when of_version is not null then 'l.version = $3' end,
    case when of_actor is not null then 'l.actor = $4' end,
    case when of_action is not null then 'l.action = $5' end,
    case when of_outcome is not null then 'l.outcome = $6' end,
    case when since is not null then 'l.at >= $7' end,
    case when until is not null then 'l.at < $8' end) || ' order by l.id desc limit $1'
  using least(greatest(max_entries, 1), 201), before, case when of_version is not null then migration_guard.normalize_version(of_version) end,
    of_actor, of_action, of_outcome, since, until;
end
$$;
comment on function migration_guard.audit_entries(int, bigint, text, text, text, text, timestamptz, timestamptz) is
  'Entries of the trail, newest first, 201 at most; what is null does not choose.';

-- What is recorded ----------------------------------------------------------------------------------------------------

create function migration_guard.request_header(name text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select left(nullif(current_setting('request.headers', true), '')::jsonb ->> ('x-migration-guard-' || name), 255) $$;
comment on function migration_guard.request_header(text) is 'What the function says of a request besides the call itself, in a header that REST passes on; null elsewhere.';

create function migration_guard.note_role(actor text) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$ select set_config('migration_guard.asked', jsonb_build_object('actor', actor, 'role', migration_guard.role_of(actor))::text, true) $$;
comment on function migration_guard.note_role(text) is
  'Keeps, until the transaction ends, what a key is before it acts: what it does may be to lower itself.';

create function migration_guard.noted_role(actor text) returns text
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select case when n.asked ->> 'actor' = noted_role.actor then n.asked ->> 'role' else migration_guard.role_of(noted_role.actor) end
  from (select nullif(current_setting('migration_guard.asked', true), '')::jsonb as asked) as n
  where noted_role.actor is not null
$$;
comment on function migration_guard.noted_role(text) is 'What a key was before it acted, where that was noted; else what it is.';

create function migration_guard.audit(
  action text, actor text, version text default null, job_id uuid default null, parameters jsonb default '{}', outcome text default 'done'
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into migration_guard.audit_log (actor, role, request_id, source, version, job_id, action, outcome, parameters)
  values (audit.actor, migration_guard.noted_role(audit.actor),
    migration_guard.request_header('request-id'), migration_guard.request_header('source'),
    case when audit.version is not null then migration_guard.normalize_version(audit.version) end,
    audit.job_id, audit.action, audit.outcome, jsonb_strip_nulls(audit.parameters));
  -- What only reads is not limited (chapter 4, limits), nor what ends a job, nor is what was refused.
  if audit.outcome = 'done' and audit.action <> all ('{rollback_plan,diff.values.read,cancel}'::text[]) then
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
