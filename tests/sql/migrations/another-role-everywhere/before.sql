create schema app;
grant usage, create on schema app to authenticated, service_role;
alter default privileges in schema app grant select on tables to authenticated;

create table app.reports (id int primary key, title text not null, secret text);
create sequence app.report_numbers;
create type app.severity as enum ('low', 'high');
create function app.publish(report int) returns void language sql volatile security definer set search_path = ''
as $$ update app.reports set secret = null where id = report $$;
create view app.titles with (security_barrier = true) as select id, title from app.reports;

alter table app.reports enable row level security;
create policy "They see all" on app.reports for select to authenticated using (true);
create policy "They and the service write" on app.reports for insert to authenticated, service_role with check (title <> '');
grant insert, update (title) on app.reports to authenticated;
grant usage on sequence app.report_numbers to authenticated with grant option;
grant usage on type app.severity to authenticated;
revoke execute on function app.publish(int) from public;
grant execute on function app.publish(int) to authenticated;
alter view app.titles owner to authenticated;
alter sequence app.report_numbers owner to authenticated;
alter function app.publish(int) owner to authenticated;

insert into app.reports select n, 'Report ' || n, 'secret' from generate_series(1, 20) as n;
