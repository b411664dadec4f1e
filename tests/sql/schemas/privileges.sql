-- Owners, grants of every kind and by several grantors, default privileges.
create schema if not exists app;
alter schema app owner to postgres;
grant usage on schema app to public;
grant create, usage on schema app to authenticated with grant option;
grant usage on schema app to "Odd Role";

create table app.granted (id integer, a text, b text, "Odd. ""column""" text);
create table app.owned_elsewhere (id serial, note text);
create table app.revoked (id integer);
create table app.revoked_from_owner (id integer);
create table app.like_default (id integer);
create table app.chained (id integer, note text);
create sequence app.granted_sequence;
create sequence app.revoked_sequence;
create view app.granted_view as select id, a from app.granted;
create materialized view app.granted_materialized as select id from app.granted;
create foreign table app.granted_far (id integer) server far_away;
create function app.open_function() returns integer language sql as $$ select 1 $$;
create function app.closed_function(a integer, variadic b text[]) returns integer language sql as $$ select 1 $$;
create function app.owner_cannot() returns integer language sql as $$ select 1 $$;
create procedure app.closed_procedure(inout a integer) language sql as $$ select 1 $$;
create aggregate app.closed_aggregate(integer) (sfunc = int4pl, stype = integer);
create type app.open_type as enum ('a');
create type app.closed_type as enum ('a');
create domain app.closed_domain as text;
create type app.closed_composite as (a integer);
create type app.closed_range as range (subtype = integer);

-- Owners.
alter table app.owned_elsewhere owner to authenticated;
alter table app.granted owner to postgres;
alter table app.chained owner to postgres;
alter view app.granted_view owner to service_role;
alter materialized view app.granted_materialized owner to service_role;
alter sequence app.granted_sequence owner to "Odd Role";
alter function app.closed_function owner to postgres;
alter procedure app.closed_procedure owner to service_role;
alter aggregate app.closed_aggregate(integer) owner to "Odd Role";
alter type app.open_type owner to postgres;
alter type app.closed_composite owner to authenticated;
alter domain app.closed_domain owner to service_role;
alter type app.closed_range owner to "Odd Role";
alter foreign table app.granted_far owner to postgres;
create statistics app.owned_statistics on id, a from app.granted;
alter statistics app.owned_statistics owner to service_role;

-- Tables: single privileges, all, with grant option, to public, to a role with an odd name.
grant select on app.granted to anon;
grant insert, update on app.granted to authenticated with grant option;
grant all on app.granted to service_role;
grant references, trigger, truncate, delete on app.granted to public;
grant select, insert on app.granted to "Odd Role" with grant option;

-- Columns, besides the table's.
grant select (a, "Odd. ""column"""), update (b) on app.granted to anon;
grant insert (a), references (a) on app.granted to authenticated with grant option;
grant select (id) on app.granted to public;
grant all (b) on app.granted to "Odd Role";
grant select (id) on app.granted_view to anon;

-- By several grantors: the owner, and two who hold the grant option.
grant select, update on app.chained to authenticated with grant option;
grant select on app.chained to service_role with grant option;
grant select (note) on app.chained to service_role with grant option;
set role authenticated;
grant select on app.chained to anon;
grant update on app.chained to "Odd Role";
set role service_role;
grant select on app.chained to anon;
grant select on app.chained to "Odd Role" with grant option;
grant select (note) on app.chained to anon;
set role "Odd Role";
grant select on app.chained to public;
reset role;

-- Nothing for anybody; nothing for the owner; what is there by default, said aloud.
revoke all on app.revoked from public;
revoke all on app.revoked from current_user;
revoke delete, truncate on app.revoked_from_owner from current_user;
grant all on app.like_default to current_user;
revoke all on app.owned_elsewhere from authenticated;
grant select on app.owned_elsewhere to authenticated;

grant usage on sequence app.granted_sequence to anon;
grant select, update on sequence app.granted_sequence to authenticated with grant option;
revoke all on sequence app.revoked_sequence from current_user;
grant usage on sequence app.owned_elsewhere_id_seq to anon;

-- Functions and types: everybody has them until it is revoked.
grant execute on function app.open_function() to anon with grant option;
revoke execute on function app.closed_function from public;
grant execute on function app.closed_function(integer, text[]) to authenticated;
revoke all on function app.owner_cannot() from public, current_user;
revoke all on procedure app.closed_procedure(integer) from public;
grant execute on procedure app.closed_procedure(integer) to anon;
revoke execute on function app.closed_aggregate(integer) from public;
grant execute on function app.closed_aggregate(integer) to service_role;
grant usage on type app.open_type to anon with grant option;
revoke usage on type app.closed_type from public;
revoke all on domain app.closed_domain from public;
grant usage on domain app.closed_domain to anon;
revoke all on type app.closed_composite from public;
grant usage on type app.closed_composite to service_role;
revoke all on type app.closed_range from public;

grant select, insert on app.granted_view to anon;
grant select on app.granted_materialized to authenticated with grant option;
grant select, update on app.granted_far to anon;

-- Default privileges of several roles, for every kind of object that a schema can have them for.
alter default privileges for role postgres in schema app grant select on tables to anon;
alter default privileges for role postgres in schema app grant insert, update on tables to authenticated with grant option;
alter default privileges for role postgres in schema app grant usage on sequences to anon, "Odd Role";
alter default privileges for role postgres in schema app grant execute on functions to public;
alter default privileges for role authenticated in schema app grant all on tables to service_role;
alter default privileges for role authenticated in schema app grant usage on types to anon with grant option;
alter default privileges for role "Odd Role" in schema app grant execute on routines to "Odd Role", anon;
alter default privileges for role service_role in schema app grant select, update on sequences to public;
