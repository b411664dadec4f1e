create schema app;

create domain app.phone as text check (value ~ '^[+0-9 ]+$');
create table app.teams (id int primary key, name text);
create table app.members (
  id int primary key,
  team_id int,
  email text,
  phone app.phone,
  age int constraint age_is_sane check (age >= 0),
  joined date not null default '2026-01-01',
  ended date
);
alter table app.members add constraint member_has_team foreign key (team_id) references app.teams on delete set null not valid;
alter table app.members add constraint ends_later check (ended > joined) not valid;
create index members_by_email on app.members (email);

insert into app.teams select n, 'Team ' || n from generate_series(1, 5) as n;
insert into app.members
select n, 1 + n % 5, case when n <> 7 then 'm' || n || '@example.com' end, '+49 ' || n, case when n <> 8 then 20 + n end, '2026-01-01', null
from generate_series(1, 40) as n;
