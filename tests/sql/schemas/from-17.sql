-- What Postgres 17 brought.
create schema if not exists app;

create table app.numbered (id bigint generated always as identity (start 10 increment 5), note text) partition by list (note);
create table app.numbered_a partition of app.numbered for values in ('a');
create table app.numbered_b partition of app.numbered for values in ('b', null);
create table app.apart (room integer, during tsrange, exclude using gist (int4range(room, room, '[]') with &&, during with &&));
create table app.apart_parts (room int4range, during tsrange, exclude using gist (room with =, during with &&)) partition by list (room);
create table app.apart_part partition of app.apart_parts for values in ('[1,2)');
create domain app.required as text constraint named_not_null not null constraint also_checked check (value <> '');
create domain app.required_later as integer;
alter domain app.required_later add constraint required_named not null;
create table app.maintained (id integer);
grant maintain on app.maintained to anon;
grant maintain on app.maintained to authenticated with grant option;
alter default privileges for role postgres in schema app grant maintain on tables to anon;
create table app.generated_anew (a integer, b integer generated always as (a + 1) stored);
alter table app.generated_anew alter column b set expression as (a + 2);
create table app.default_method (id integer) partition by list (id) using heap;
create table app.default_method_1 partition of app.default_method for values in (1);
create view app.json_of_17 as
select jt.*, json_value('{"a": 1}', '$.a' returning integer default 5 on error) as value,
  json_query('{"a": 1}', '$.a' with conditional array wrapper) as query, json_exists('{}', '$.a' error on error) as is_there
from json_table('[{"a": 1, "b": [1, 2]}]', '$[*]' columns (
  row_number for ordinality, a integer path '$.a' default 0 on empty, nested path '$.b[*]' columns (b integer path '$')
)) as jt;
