create schema app;

create table app.products (
  sku text primary key,
  title text not null,
  legacy_code varchar(12) not null default 'none' collate "C",
  price_cents int not null,
  price_euros numeric generated always as (price_cents / 100.0) stored
);
alter table app.products add constraint legacy_code_is_short check (length(legacy_code) > 2);
create unique index products_by_legacy_code on app.products (legacy_code, sku);
create statistics app.codes on sku, legacy_code from app.products;
comment on column app.products.legacy_code is 'Of the system before this one.';
grant select (sku, legacy_code) on app.products to anon;

create view app.catalogue as select sku, title, legacy_code, price_euros from app.products;
create view app.cheap as select * from app.catalogue where price_euros < 10;
alter table app.products enable row level security;
create policy "Old codes are internal" on app.products for select to anon using (legacy_code = 'none');

insert into app.products (sku, title, legacy_code, price_cents)
select 'SKU-' || n, 'Product ' || n, case when n % 2 = 0 then 'OLD' || n else 'none' end, n * 37 from generate_series(1, 50) as n;
