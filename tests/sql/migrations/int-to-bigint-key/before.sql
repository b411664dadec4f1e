create schema app;

create table app.accounts (id serial primary key, name text not null unique);
create table app.entries (
  id serial constraint entries_key primary key,
  account_id int not null constraint entry_has_account references app.accounts (id) on update cascade,
  reverses int constraint reverses_entry references app.entries (id) deferrable initially deferred,
  amount numeric(12, 2) not null
);
create index entries_by_account on app.entries (account_id) include (amount);

create function app.balance(account int) returns numeric language sql stable
as $$ select coalesce(sum(e.amount), 0) from app.entries as e where e.account_id = account $$;
create view app.balances as select a.id, a.name, app.balance(a.id) as balance from app.accounts as a;
create view app.debtors as select b.id, b.name, -b.balance as owes from app.balances as b where b.balance < 0;
create materialized view app.totals as select e.account_id, sum(e.amount) as total from app.entries as e group by e.account_id;
create unique index totals_key on app.totals (account_id);

insert into app.accounts (name) select 'Account ' || n from generate_series(1, 10) as n;
insert into app.entries (account_id, amount) select 1 + n % 10, n - 50 from generate_series(1, 100) as n;
update app.entries set reverses = id - 1 where id % 10 = 0;
refresh materialized view app.totals;
