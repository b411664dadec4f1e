create schema app;

create table app.people (
  id uuid primary key,
  first_name text not null check (first_name <> ''),
  last_name text,
  born date
);
create index people_by_name on app.people (lower(last_name), lower(first_name));

create function app.initials(person app.people) returns text language sql stable
as $$ select left(person.first_name, 1) || coalesce(left(person.last_name, 1), '') $$;

create view app.directory as
select p.id, p.first_name || coalesce(' ' || p.last_name, '') as name, app.initials(p) as initials from app.people as p;
comment on view app.directory is 'Who is who.';

insert into app.people
select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'First' || n, case when n % 4 <> 0 then 'Last' || n end, date '1980-01-01' + n
from generate_series(1, 40) as n;
