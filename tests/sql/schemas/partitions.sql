-- Partitioned tables: by range, list and hash, partitions of partitions, and what a partition has of its own.
create schema if not exists app;

-- By range, with a default partition.
create table app.event (
  id bigint not null,
  happened timestamptz not null default now(),
  kind text not null default 'none' check (kind <> ''),
  payload jsonb,
  primary key (id, happened, kind)
) partition by range (happened);

create table app.event_old partition of app.event
  for values from (minvalue) to ('2020-01-01 00:00:00+00');
create table app.event_2020 partition of app.event
  for values from ('2020-01-01 00:00:00+00') to ('2021-01-01 00:00:00+00') with (fillfactor = 60);
create table app.event_rest partition of app.event default;

-- Attached later, with another order of columns and a dropped one between.
create table app.event_2021 (
  payload jsonb,
  gone integer,
  kind text not null default 'twenty-one' check (kind <> ''),
  happened timestamptz not null,
  id bigint not null,
  constraint only_2021 check (extract(year from happened at time zone 'utc') = 2021)
);
alter table app.event_2021 drop column gone;
alter table app.event_2021 add constraint event_kind_check check (kind <> '');
alter table app.event attach partition app.event_2021
  for values from ('2021-01-01 00:00:00+00') to ('2022-01-01 00:00:00+00');

-- Partitions of a partition, by list and by hash.
create table app.event_2022 partition of app.event
  for values from ('2022-01-01 00:00:00+00') to ('2023-01-01 00:00:00+00')
  partition by list (kind);
create table app.event_2022_login partition of app.event_2022 for values in ('login', 'log''in', E'back\\slash');
create table app.event_2022_other partition of app.event_2022 default partition by hash (id);
create table app.event_2022_other_0 partition of app.event_2022_other for values with (modulus 2, remainder 0);
create table app.event_2022_other_1 partition of app.event_2022_other for values with (modulus 2, remainder 1);

-- Own defaults, not null, checks, options, statistics, storage, row security of a partition.
alter table app.event_2020 alter column kind set default 'twenty-twenty';
alter table app.event_2020 alter column payload set default '{}';
alter table app.event_2020 alter column payload set not null;
alter table app.event_2020 add constraint only_objects check (jsonb_typeof(payload) = 'object');
alter table app.event_2020 alter column payload set statistics 10, alter column payload set storage external;
alter table app.event_2020 enable row level security;
alter table app.event_2021 alter column happened set default '2021-06-01 00:00:00+00';
alter table app.event_old alter column kind drop default;
alter table app.event_old set (autovacuum_enabled = false);

-- Indexes: one for all, one that a partition has alone, one on only the parent, one attached under another name.
create index event_kind on app.event (kind);
create index event_2020_payload on app.event_2020 using gin (payload);
create index event_day on only app.event (((happened at time zone 'utc')::date) desc);
create index odd_name_for_day on app.event_2020 (((happened at time zone 'utc')::date) desc);
alter index app.event_day attach partition app.odd_name_for_day;
alter index app.odd_name_for_day alter column 1 set statistics 55;
create index event_id on only app.event (id) include (kind);
create index event_old_id on app.event_old (id) include (kind) with (fillfactor = 50);
alter index app.event_id attach partition app.event_old_id;
alter table app.event_2020 cluster on odd_name_for_day;
alter table app.event_2020 replica identity full;

-- By list, with null, a column that allows it, and a key that is an expression with a collation and an operator class.
create table app.by_list (region text, amount numeric(10, 2)) partition by list (lower(region) collate "C" text_pattern_ops);
create table app.by_list_north partition of app.by_list for values in ('north', 'nord');
create table app.by_list_null partition of app.by_list for values in (null, 'nowhere');
create table app.by_list_none (amount numeric(10, 2), region text);
alter table app.by_list attach partition app.by_list_none default;

-- By several columns, with bounds that are open.
create table app.by_range (a integer, b text collate "C", c date) partition by range (a, b collate "POSIX", (c + 1));
create table app.by_range_low partition of app.by_range for values from (minvalue, minvalue, minvalue) to (10, 'm', '2020-01-01');
create table app.by_range_high partition of app.by_range for values from (10, 'm', '2020-01-01') to (20, maxvalue, maxvalue);

create table app.by_boolean (yes boolean, id integer) partition by list (yes);
create table app.by_boolean_true partition of app.by_boolean for values in (true);

create table app.by_hash (id uuid, note text) partition by hash (id, note);
create table app.by_hash_0 partition of app.by_hash for values with (modulus 3, remainder 0);
create unlogged table app.by_hash_1 partition of app.by_hash for values with (modulus 6, remainder 1);

-- A partitioned table without partitions, and one whose partition left.
create table app.no_partitions (id integer) partition by range (id);
create table app.divorced (id integer not null default 7, note text) partition by list (id);
create table app.divorced_1 partition of app.divorced for values in (1);
alter table app.divorced detach partition app.divorced_1;

-- Foreign keys on and to partitioned tables.
create table app.referred (id integer primary key, note text) partition by range (id);
create table app.referred_1 partition of app.referred for values from (0) to (100);
create table app.referred_2 partition of app.referred for values from (100) to (200);
create table app.referring (
  id integer,
  referred_id integer constraint referred_must_exist references app.referred on delete cascade deferrable initially deferred
) partition by hash (id);
create table app.referring_0 partition of app.referring for values with (modulus 2, remainder 0);
create table app.referring_1 partition of app.referring for values with (modulus 2, remainder 1);
alter table app.referring_0 add constraint only_zero foreign key (id) references app.referred;
create table app.refers_to_partition (id integer references app.referred_1 on update cascade);

-- Uniqueness: constraints and indexes.
create table app.uniquely (a integer, b integer, c integer) partition by list (a);
alter table app.uniquely add constraint uniquely_a_b unique nulls not distinct (a, b) include (c) deferrable;
create unique index uniquely_a_c on app.uniquely (a, c desc nulls last);
create table app.uniquely_1 partition of app.uniquely for values in (1);
alter table app.uniquely_1 add constraint uniquely_1_b unique (b);
create table app.uniquely_2 (c integer, b integer, a integer not null);
alter table app.uniquely_2 add constraint own_name_of_it unique nulls not distinct (a, b) include (c) deferrable;
create unique index own_index_name on app.uniquely_2 (a, c desc nulls last);
alter table app.uniquely attach partition app.uniquely_2 for values in (2, 3);

-- A generated column and an identity column of a partitioned table.
create table app.computed (id integer not null, twice integer generated always as (id * 2) stored) partition by range (id);
create table app.computed_1 partition of app.computed for values from (1) to (2);

-- Triggers for all partitions, a clone that is off, a partition's own.
create function app.event_trigger() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger on_every_event before insert or update of kind on app.event
  for each row when (new.kind is not null) execute function app.event_trigger('a', 'it''s');
create trigger after_event after delete on app.event referencing old table as gone
  for each statement execute function app.event_trigger();
create constraint trigger event_checked after insert on app.event
  deferrable initially deferred for each row execute function app.event_trigger();
alter table app.event_2020 disable trigger on_every_event;
alter table app.event_2021 enable always trigger on_every_event;
alter table app.event_2022 enable replica trigger on_every_event;
create trigger own_of_2020 after insert on app.event_2020 for each row execute function app.event_trigger();
create trigger off_everywhere before delete on app.event for each row execute function app.event_trigger();
alter table app.event disable trigger off_everywhere;

-- Policies on a partitioned table and on a partition.
alter table app.event enable row level security;
create policy event_everyone on app.event for select using (true);
create policy event_2020_own on app.event_2020 for insert with check (id > 0);

-- A foreign table as a partition.
create table app.spread (id integer, note text) partition by list (id);
create foreign table app.spread_far partition of app.spread for values in (9) server far_away options (place 'x');
