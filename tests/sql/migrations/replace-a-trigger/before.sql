create schema app;

create table app.stock (item text primary key, amount int not null);
create table app.movements (
  id bigint generated always as identity primary key,
  item text not null,
  change int not null,
  moved_at timestamptz not null default '2026-01-01T00:00:00Z'
);
create function app.record_movement() returns trigger language plpgsql as $$
begin
  if new.amount <> old.amount then
    insert into app.movements (item, change) values (new.item, new.amount - old.amount);
  end if;
  return new;
end
$$;
create trigger record_movement before update of amount on app.stock for each row
  when (new.amount is distinct from old.amount) execute function app.record_movement();
create function app.refuse_negative() returns trigger language plpgsql as $$
begin
  if new.amount < 0 then raise exception 'There is not enough of %.', new.item; end if;
  return null;
end
$$;
create constraint trigger refuse_negative after insert or update on app.stock deferrable initially deferred
  for each row execute function app.refuse_negative();
create trigger a_disabled_one after insert on app.stock for each statement execute function app.record_movement('unused');
alter table app.stock disable trigger a_disabled_one;
comment on trigger record_movement on app.stock is 'Row by row.';

insert into app.stock select 'item ' || n, n from generate_series(1, 25) as n;
update app.stock set amount = amount + 1;
