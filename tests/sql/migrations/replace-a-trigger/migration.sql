begin;

drop trigger record_movement on app.stock;
drop trigger a_disabled_one on app.stock;
create or replace function app.record_movement() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into app.movements (item, change)
  select n.item, n.amount - o.amount from was as o join is_now as n on n.item = o.item where n.amount <> o.amount;
  return null;
end
$$;
create trigger record_movements after update on app.stock referencing old table as was new table as is_now
  for each statement execute function app.record_movement();
drop trigger refuse_negative on app.stock;
drop function app.refuse_negative();
alter table app.stock add constraint there_is_enough check (amount >= 0);

commit;
