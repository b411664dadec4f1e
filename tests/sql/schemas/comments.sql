-- A comment on every kind of object that a schema has.
create schema if not exists app;
comment on schema app is 'A schema; it''s "all" of it \ -- $$';

create table app.remarked (
  id integer constraint remarked_key primary key,
  a text constraint remarked_check check (a <> ''),
  b integer generated always as identity,
  "Odd. ""column""; --" text default 'x'
);
create table app.remarked_child (id integer constraint remarked_reference references app.remarked) inherits (app.remarked);
create index remarked_index on app.remarked (a);
create sequence app.remarked_sequence;
create view app.remarked_view as select id, a from app.remarked;
create materialized view app.remarked_materialized as select id, a from app.remarked;
create index remarked_materialized_index on app.remarked_materialized (a);
create foreign table app.remarked_far (id integer) server far_away;
create function app.remarked_function(a integer, b text default 'x', out c integer) language sql as $$ select 1 $$;
create function app.remarked_trigger_function() returns trigger language plpgsql as $$ begin return new; end $$;
create procedure app.remarked_procedure(a integer, inout b text) language sql as $$ select 'x'::text $$;
create aggregate app.remarked_aggregate(integer) (sfunc = int4pl, stype = integer);
create aggregate app.remarked_ordered(double precision order by double precision) (
  sfunc = ordered_set_transition, stype = internal, finalfunc = percentile_cont_float8_final, finalfunc_modify = read_write
);
create trigger remarked_trigger before insert on app.remarked for each row execute function app.remarked_trigger_function();
create rule remarked_rule as on delete to app.remarked do also nothing;
create policy remarked_policy on app.remarked using (true);
create statistics app.remarked_statistics on id, a from app.remarked;
create type app.remarked_enum as enum ('a', 'b');
create type app.remarked_composite as (a integer, b text);
create domain app.remarked_domain as text constraint remarked_domain_check check (value <> '');
create type app.remarked_range as range (subtype = integer);
create table app.remarked_parts (id integer constraint remarked_parts_key primary key) partition by range (id);
create table app.remarked_part partition of app.remarked_parts for values from (0) to (10);
create index remarked_parts_index on app.remarked_parts (id);

comment on table app.remarked is 'A table''s comment;
in two lines, with \ and "quotes" and $$dollars$$ -- and ; more';
comment on column app.remarked.id is 'A column';
comment on column app.remarked."Odd. ""column""; --" is 'An odd column';
comment on column app.remarked.a is '';
comment on column app.remarked.b is ' ';
comment on constraint remarked_key on app.remarked is 'A primary key';
comment on constraint remarked_check on app.remarked is 'A check';
comment on constraint remarked_reference on app.remarked_child is 'A foreign key';
comment on table app.remarked_child is 'An heir';
comment on column app.remarked_child.a is 'An inherited column';
comment on constraint remarked_check on app.remarked_child is 'An inherited check';
comment on index app.remarked_index is 'An index';
comment on index app.remarked_key is 'The index behind a primary key';
comment on sequence app.remarked_sequence is 'A sequence';
comment on sequence app.remarked_b_seq is 'The sequence of an identity column';
comment on view app.remarked_view is 'A view';
comment on column app.remarked_view.a is 'A column of a view';
comment on materialized view app.remarked_materialized is 'A materialized view';
comment on column app.remarked_materialized.id is 'A column of a materialized view';
comment on index app.remarked_materialized_index is 'An index of a materialized view';
comment on foreign table app.remarked_far is 'A foreign table';
comment on column app.remarked_far.id is 'A column of a foreign table';
comment on function app.remarked_function(integer, text) is 'A function';
comment on procedure app.remarked_procedure(integer, text) is 'A procedure';
comment on aggregate app.remarked_aggregate(integer) is 'An aggregate';
comment on aggregate app.remarked_ordered(double precision order by double precision) is 'An ordered-set aggregate';
comment on trigger remarked_trigger on app.remarked is 'A trigger';
comment on rule remarked_rule on app.remarked is 'A rule';
comment on policy remarked_policy on app.remarked is 'A policy';
comment on statistics app.remarked_statistics is 'Statistics';
comment on type app.remarked_enum is 'An enum';
comment on type app.remarked_composite is 'A composite type';
comment on column app.remarked_composite.b is 'An attribute';
comment on domain app.remarked_domain is 'A domain';
comment on constraint remarked_domain_check on domain app.remarked_domain is 'A domain''s check';
comment on type app.remarked_range is 'A range type';
comment on table app.remarked_parts is 'A partitioned table';
comment on table app.remarked_part is 'A partition';
comment on column app.remarked_part.id is 'A partition''s column';
comment on constraint remarked_part_pkey on app.remarked_part is 'A partition''s key';
comment on index app.remarked_part_id_idx is 'A partition''s index';
comment on index app.remarked_parts_index is 'A partitioned index';
