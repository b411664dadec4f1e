-- Constraints of every kind, with every option.
create schema if not exists app;

create function app.is_even(integer) returns boolean language sql immutable as $$ select $1 % 2 = 0 $$;

create table app.checked (
  a integer check (a > 0),
  b integer constraint "b is even; really" check (app.is_even(b)),
  c text check (c ~ '^[a-z\\]+$' and c <> 'it''s'),
  d text,
  constraint a_below_b check (a < b),
  constraint not_passed_on check (a <> 7) no inherit,
  constraint whole_row check (checked.* is not null),
  constraint many check (d in ('x', 'y') or d like '%z' or d is null or (a between 1 and 5) is not false)
);
alter table app.checked add constraint only_new_rows check (a <> 13) not valid;
alter table app.checked add constraint only_new_here check (a <> 14) no inherit not valid;
alter table app.checked add constraint proven check (a <> 15) not valid;
alter table app.checked validate constraint proven;

create table app.keyed (
  a integer,
  b integer,
  c text,
  d text,
  e integer[],
  constraint keyed_first primary key (b, a) include (c) with (fillfactor = 80),
  constraint keyed_once unique (c),
  constraint keyed_nulls unique nulls not distinct (c, d),
  constraint keyed_included unique (d) include (a, b),
  constraint keyed_later unique (a) deferrable,
  constraint keyed_last unique (b) deferrable initially deferred,
  constraint keyed_options unique (e) with (fillfactor = 70, deduplicate_items = off)
);

create table app.late_key (id integer primary key deferrable initially deferred);

create table app.key_from_index (id integer not null, code text);
create unique index key_from_index_id on app.key_from_index (id) with (fillfactor = 66);
create unique index code_index on app.key_from_index (code);
alter table app.key_from_index add constraint renamed_by_constraint primary key using index key_from_index_id;
alter table app.key_from_index add constraint code_index unique using index code_index deferrable;

create table app.exclusive (
  room integer,
  during tsrange,
  place circle,
  cancelled boolean default false,
  note int4range,
  constraint no_two_at_once exclude using gist (during with &&) where (not cancelled),
  constraint no_overlap exclude using gist (place with &&) include (room) deferrable initially deferred,
  exclude using btree (room with =, (lower(during)) with =),
  constraint by_class exclude using gist (note range_ops with &&, (int4range(room, room + 1)) with &&) with (fillfactor = 75),
  constraint by_order exclude using btree (room desc nulls last with =) deferrable
);

create table app.referred_to (
  id integer primary key,
  a integer,
  b text collate "C",
  code integer not null,
  unique (a, b),
  unique (b, a)
);
create unique index referred_to_code on app.referred_to (code);

create table app.referrer (
  id bigint references app.referred_to,
  a integer,
  b text collate "C",
  c integer,
  person bigint references other.people (id) on delete restrict,
  code integer constraint by_index references app.referred_to (code),
  cascading integer references app.referred_to on delete cascade on update cascade,
  nulling integer references app.referred_to on delete set null on update set null,
  resetting integer default 0 references app.referred_to on delete set default on update set default,
  restricting integer references app.referred_to on delete restrict on update restrict,
  later integer references app.referred_to deferrable,
  last integer references app.referred_to deferrable initially deferred,
  constraint pair foreign key (a, b) references app.referred_to (a, b) match full,
  constraint pair_turned foreign key (b, c) references app.referred_to (b, a) on delete set null (c),
  constraint pair_default foreign key (a, b) references app.referred_to (a, b) on delete set default (a, b) on update no action
);
alter table app.referrer add constraint not_proven foreign key (c) references app.referred_to not valid;
alter table app.referrer add constraint proven_later foreign key (c) references app.referred_to not valid;
alter table app.referrer validate constraint proven_later;
alter table app.referrer add constraint made_deferrable foreign key (c) references app.referred_to;
alter table app.referrer alter constraint made_deferrable deferrable initially deferred;
alter table app.referrer add constraint no_longer_deferrable foreign key (c) references app.referred_to deferrable;
alter table app.referrer alter constraint no_longer_deferrable not deferrable;

-- Two tables that refer to each other, and one to itself.
create table app.hen (id integer primary key, egg_id integer);
create table app.egg (id integer primary key, hen_id integer not null references app.hen deferrable initially deferred);
alter table app.hen add constraint hen_came_from foreign key (egg_id) references app.egg;
create table app.node (id integer primary key, parent_id integer references app.node on delete cascade);

-- A name that two tables' constraints share, and one renamed.
create table app.same_name_1 (a integer constraint shared check (a > 1));
create table app.same_name_2 (a integer constraint shared check (a > 2));
alter table app.same_name_2 rename constraint shared to "Renamed Constraint";

-- A check whose text has everything that a careless splitter trips over.
create table app.tricky (
  t text constraint tricky check (t <> '; drop table x; --' and t <> '$$' and t <> E'a\nb' and t <> '''' and t <> '\')
);
