-- Tables as such: persistence, options, row security, replica identity, clustering, types of rows.
create schema if not exists app;

create table app.plain (id integer);

create table app.without_columns ();

create table app.emptied (only_one integer);
alter table app.emptied drop column only_one;

create unlogged table app.unlogged (id integer primary key, note text);

create table app.made_logged (id integer);
alter table app.made_logged set unlogged;
alter table app.made_logged set logged;

create table app.with_options (
  id integer,
  note text
) with (
  fillfactor = 70,
  autovacuum_enabled = false,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_scale_factor = 0.05,
  autovacuum_analyze_threshold = 500,
  autovacuum_freeze_max_age = 200000000,
  log_autovacuum_min_duration = 0,
  parallel_workers = 4,
  user_catalog_table = true,
  vacuum_index_cleanup = auto,
  vacuum_truncate = false,
  toast_tuple_target = 4080,
  toast.autovacuum_enabled = false,
  toast.autovacuum_vacuum_cost_delay = 2,
  toast.vacuum_truncate = true
);

create table app.options_later (id integer, note text) using heap;
alter table app.options_later set (fillfactor = 55, toast.autovacuum_vacuum_threshold = 77);
alter table app.options_later reset (fillfactor);

-- Row security, every combination of its two flags.
create table app.secured (id integer);
alter table app.secured enable row level security;
create table app.forced (id integer);
alter table app.forced enable row level security, force row level security;
create table app.only_forced (id integer);
alter table app.only_forced force row level security;

-- Replica identity.
create table app.identity_default (id integer primary key);
create table app.identity_nothing (id integer primary key);
alter table app.identity_nothing replica identity nothing;
create table app.identity_full (id integer);
alter table app.identity_full replica identity full;
create table app.identity_index (id integer not null, code text not null);
create unique index identity_index_code on app.identity_index (code);
alter table app.identity_index replica identity using index identity_index_code;
create table app.identity_key (id integer primary key, code text not null unique);
alter table app.identity_key replica identity using index identity_key_code_key;

-- Clustering.
create table app.clustered (id integer primary key, day date);
create index clustered_day on app.clustered (day desc);
alter table app.clustered cluster on clustered_day;
create table app.clustered_key (id integer primary key);
alter table app.clustered_key cluster on clustered_key_pkey;
create table app.no_longer_clustered (id integer primary key);
alter table app.no_longer_clustered cluster on no_longer_clustered_pkey;
alter table app.no_longer_clustered set without cluster;

-- Typed tables.
create type app.pair as (first integer, second text);
create table app.of_type of app.pair;
create table app.of_type_with_options of app.pair (
  first with options primary key,
  second default 'none' not null,
  constraint second_is_short check (length(second) < 100)
) with (fillfactor = 90);
create table app.became_typed (first integer not null, second text);
alter table app.became_typed of app.pair;
create table app.no_longer_typed of app.pair;
alter table app.no_longer_typed not of;

-- A type that is another table's row, and an array of it.
create table app.row_holder (id integer, held app.plain, many app.plain[], typed app.of_type);

-- Renamed things keep the names of what was made with them.
create table app.first_name (id serial primary key, code text unique check (code <> ''));
alter table app.first_name rename to second_name;
alter table app.second_name rename column code to label;

create foreign table app.far (
  id integer options (position '1') not null,
  note text options (position '2', "odd option" 'a ''b''') collate "C" default 'it''s far',
  constraint positive check (id > 0)
) server far_away options (place 'it''s elsewhere', "Big" '1');
alter foreign table app.far alter column note set statistics 7;
