create schema app;

create table app.customers (
  id bigint generated always as identity primary key,
  name text not null,
  email text not null unique,
  street text,
  city text,
  postcode text,
  country char(2) default 'DE',
  created_at timestamptz not null default '2026-01-01T00:00:00Z',
  constraint address_is_whole check ((street is null) = (city is null))
);
comment on column app.customers.country is 'ISO 3166-1 alpha-2.';
create index customers_by_city on app.customers (country, city) where city is not null;

create table app.orders (
  id bigint generated always as identity primary key,
  customer_id bigint not null references app.customers on delete cascade,
  total numeric(10, 2) not null check (total >= 0)
);
create index orders_by_customer on app.orders (customer_id);

create view app.shipping_labels with (security_invoker = true) as
select c.id, concat_ws(E'\n', c.name, c.street, c.postcode || ' ' || c.city, c.country) as label
from app.customers as c where c.street is not null;
grant select on app.shipping_labels to authenticated;

alter table app.customers enable row level security;
create policy "Own row" on app.customers for select to authenticated using (email = current_setting('app.email', true));
grant select (id, name, city), update (street, city, postcode) on app.customers to authenticated;

insert into app.customers (name, email, street, city, postcode)
select 'Customer ' || n, 'c' || n || '@example.com', case when n % 3 <> 0 then n || ' High Street' end,
  case when n % 3 <> 0 then 'Town ' || n % 5 end, lpad(n::text, 5, '0')
from generate_series(1, 60) as n;
insert into app.orders (customer_id, total) select 1 + n % 60, n from generate_series(1, 120) as n;
