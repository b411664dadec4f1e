-- What lies outside the schema `app` and is there before it: what its objects may refer to.

-- Roles are the whole server's: another database's load may have made them, or be about to.
do $$
begin
  create role app_author superuser;
  create role "Odd Role";
  grant "Odd Role" to postgres;
exception when duplicate_object or unique_violation then
  null;
end
$$;

create schema other;
grant usage on schema other to public;

create type other.colour as enum ('red', 'green', 'blue');
create domain other.email as text check (value like '%@%');
create type other.money_amount as (amount numeric(12, 2), currency char(3));

create table other.people (
  id bigint primary key,
  email other.email unique,
  favourite other.colour
);

create function other.touch() returns trigger language plpgsql as $$
begin
  return new;
end
$$;

create function other.is_known(person bigint) returns boolean language sql stable
as $$ select exists (select from other.people as p where p.id = person) $$;

create collation other.numbered (provider = icu, locale = 'en-u-kn-true');

create sequence other.tickets;

create foreign data wrapper nowhere;
create server far_away type 'none' version '1' foreign data wrapper nowhere;

create publication app_changes;
create publication app_everything with (publish = 'insert, delete');
create publication "Odd. Publication" with (publish_via_partition_root = true);
