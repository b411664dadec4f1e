select
  (select legacy_code = 'none' and price_euros = 0.01 from app.products where sku = 'SKU-NEW') as "a new product has the default and a computed price",
  (select legacy_code = 'OLD2' and price_euros = 5.55 from app.products where sku = 'SKU-2') as "a changed product has its old code and its new price",
  (select count(*) = 24 from app.cheap where legacy_code like 'OLD%') is not null as "the views read them";
