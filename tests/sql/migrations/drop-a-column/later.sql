insert into app.products (sku, title, price_cents) values ('SKU-NEW', 'Brand new', 1);
update app.products set price_cents = 555 where sku = 'SKU-2';
