begin;

update app.members set email = 'unknown-' || id || '@example.com' where email is null;
update app.members set age = 18 where age is null;
alter table app.members alter column email set not null, alter column age set not null, alter column team_id set not null;
drop index app.members_by_email;
alter table app.members add constraint one_member_per_email unique (email);
alter table app.members drop constraint age_is_sane, add constraint age_is_sane check (age between 16 and 120);
alter table app.members drop constraint member_has_team,
  add constraint member_has_team foreign key (team_id) references app.teams on delete restrict not valid;
alter table app.members validate constraint member_has_team;
alter table app.members validate constraint ends_later;
alter table app.teams alter column name set not null, add constraint team_names_differ unique (name);
alter domain app.phone add constraint phone_is_long check (length(value) > 3) not valid;
alter domain app.phone validate constraint phone_is_long;

commit;
