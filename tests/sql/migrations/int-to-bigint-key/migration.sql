begin;

drop materialized view app.totals;
drop view app.debtors;
drop view app.balances;
drop function app.balance(int);
alter table app.entries drop constraint entry_has_account, drop constraint reverses_entry;

alter table app.accounts alter column id type bigint;
alter table app.entries alter column id type bigint, alter column account_id type bigint, alter column reverses type bigint;
alter sequence app.accounts_id_seq as bigint;
alter sequence app.entries_id_seq as bigint;

alter table app.entries
  add constraint entry_has_account foreign key (account_id) references app.accounts (id) on update cascade,
  add constraint reverses_entry foreign key (reverses) references app.entries (id) deferrable initially deferred;
create function app.balance(account bigint) returns numeric language sql stable
as $$ select coalesce(sum(e.amount), 0) from app.entries as e where e.account_id = account $$;
create view app.balances as select a.id, a.name, app.balance(a.id) as balance from app.accounts as a;
create view app.debtors as select b.id, b.name, -b.balance as owes from app.balances as b where b.balance < 0;
create materialized view app.totals as select e.account_id, sum(e.amount) as total from app.entries as e group by e.account_id;
create unique index totals_key on app.totals (account_id);

commit;
