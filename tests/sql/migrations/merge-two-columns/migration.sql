begin;

alter table app.people add column full_name text;
update app.people set full_name = concat_ws(' ', first_name, last_name);
alter table app.people alter column full_name set not null, add constraint full_name_is_there check (full_name <> '');

create or replace view app.directory as
select p.id, p.full_name as name, upper(left(p.full_name, 1)) as initials from app.people as p;
drop function app.initials(app.people);
alter table app.people drop column first_name, drop column last_name;
create index people_by_name on app.people (lower(full_name));

commit;
