begin;

create type app.ticket_status as enum ('open', 'waiting', 'closed');
drop view app.workload;
drop policy "Closed tickets are history" on app.tickets;
drop index app.open_tickets;
alter table app.tickets
  drop constraint status_is_known,
  alter column status drop default,
  alter column status type app.ticket_status using status::app.ticket_status,
  alter column status set default 'open';
create index open_tickets on app.tickets (opened_at) where status = 'open';
create policy "Closed tickets are history" on app.tickets for update using (status <> 'closed');
create view app.workload as select status, count(*) as tickets from app.tickets group by status;

drop function app.close_ticket(int);
create function app.close_ticket(ticket int) returns app.ticket_status language plpgsql volatile security definer set search_path = ''
as $$
declare
  result app.ticket_status;
begin
  update app.tickets set status = 'closed' where id = ticket returning status into result;
  return result;
end
$$;
revoke execute on function app.close_ticket(int) from public;
grant execute on function app.close_ticket(int) to authenticated;

commit;
