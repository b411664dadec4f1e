begin;

alter default privileges in schema app revoke select on tables from authenticated;
alter default privileges in schema app grant select on tables to service_role;
alter policy "They see all" on app.reports to service_role;
alter policy "They and the service write" on app.reports to service_role;
revoke all on app.reports from authenticated;
grant select, insert, update (title) on app.reports to service_role;
revoke usage on type app.severity from authenticated;
grant usage on type app.severity to service_role;
alter view app.titles owner to service_role;
alter sequence app.report_numbers owner to service_role;
alter function app.publish(int) owner to service_role;
revoke usage, create on schema app from authenticated;

commit;
