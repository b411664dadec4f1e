-- What Postgres 16 brought.
create schema if not exists app;

create table app.storage_in_create (a text storage external, b text storage main compression pglz, c text storage default);
create table app.generating (a integer, b integer generated always as (a * 2) stored);
create table app.generating_otherwise (b integer generated always as (a * 3) stored) inherits (app.generating);
create statistics on a, b from app.generating;
create table app.partly (id integer not null, twice integer generated always as (id * 2) stored) partition by range (id);
create table app.partly_1 partition of app.partly (twice generated always as (id * 20) stored) for values from (1) to (2);
create view app.json_of_16 as
select json_object('a': 1, 'b': null absent on null with unique keys) as object,
  json_array(1, 2, null null on null returning jsonb) as array,
  json_objectagg(id: twice) as all_of_them, '{}' is json object with unique keys as is_object,
  any_value(id) as any_id, 0x1f + 1_000 as numbers
from app.partly;
