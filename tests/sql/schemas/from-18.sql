-- What Postgres 18 brought.
create schema if not exists app;

create table app.virtual (
  a integer,
  b integer generated always as (a * 2) virtual,
  c integer generated always as (a * 3),
  d integer generated always as (a * 4) stored,
  e text generated always as (a::text collate "C") virtual
);
create table app.virtual_heir (b integer generated always as (a * 20) virtual) inherits (app.virtual);
create table app.virtual_parts (id integer not null, twice integer generated always as (id * 2) virtual) partition by range (id);
create table app.virtual_part partition of app.virtual_parts (twice generated always as (id * 20) virtual) for values from (1) to (2);

-- Not null constraints have names, may be not valid, and may stay with the table.
create table app.not_null_names (
  a integer constraint a_is_required not null,
  b integer not null,
  c integer not null no inherit,
  d integer,
  e integer,
  f integer primary key,
  g integer constraint "Odd. ""not null""; --" not null
);
alter table app.not_null_names add constraint d_is_required not null d not valid;
alter table app.not_null_names add constraint e_is_required not null e no inherit;
comment on constraint a_is_required on app.not_null_names is 'A not null';
create table app.not_null_heir (h integer not null) inherits (app.not_null_names);
create table app.not_null_local (a integer constraint own_name not null, d integer not null) inherits (app.not_null_names);
create table app.not_null_parent (a integer constraint of_parent not null, b integer);
create table app.not_null_joined (a integer constraint of_heir not null, b integer constraint heir_only not null);
alter table app.not_null_joined inherit app.not_null_parent;
create table app.not_null_parts (id integer constraint id_required not null, note text not null) partition by list (id);
create table app.not_null_part partition of app.not_null_parts for values in (1);
create table app.not_null_part_2 (note text constraint note_of_part not null, id integer constraint id_of_part not null);
alter table app.not_null_parts attach partition app.not_null_part_2 for values in (2);
create table app.made_inherited (a integer constraint made_inherited_a not null no inherit);
alter table app.made_inherited alter constraint made_inherited_a inherit;

-- Constraints that are not enforced.
create table app.unenforced_target (id integer primary key);
create table app.unenforced (
  id integer constraint unenforced_check check (id > 0) not enforced,
  target_id integer constraint unenforced_reference references app.unenforced_target not enforced,
  back_id integer constraint enforced_again references app.unenforced_target not enforced,
  deferred_id integer constraint unenforced_deferred references app.unenforced_target deferrable initially deferred not enforced
);
alter table app.unenforced alter constraint enforced_again enforced;
create table app.unenforced_heir () inherits (app.unenforced);

-- Foreign keys of partitioned tables that are not valid.
create table app.unproven (id integer, target_id integer) partition by list (id);
create table app.unproven_1 partition of app.unproven for values in (1);
alter table app.unproven add constraint unproven_reference foreign key (target_id) references app.unenforced_target not valid;

-- Keys with time.
create table app.booking (
  room int4range,
  during daterange,
  note text,
  constraint booking_key primary key (room, during without overlaps),
  constraint booking_once unique (room, during without overlaps) deferrable
);
create table app.booking_detail (
  id int4range,
  room int4range,
  valid daterange,
  primary key (id, valid without overlaps) include (room),
  constraint detail_of_booking foreign key (room, period valid) references app.booking (room, period during)
);

create function app.with_returning(a integer) returns setof integer language sql
begin atomic
  update app.unenforced_target set id = a returning old.id;
  delete from app.unenforced_target returning with (old as o) o.id;
end;

-- A key makes an heir require by itself what its parent requires, under another name.
create table app.not_null_keyed (id integer primary key, a text);
create table app.not_null_keyed_heir (b integer, primary key (id)) inherits (app.not_null_keyed);
