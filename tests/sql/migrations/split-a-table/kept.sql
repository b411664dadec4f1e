select
  (select c.street is null and c.country is not distinct from 'DE' and o.total = 99 from app.customers as c join app.orders as o on o.customer_id = c.id
   where c.email = 'new@example.com') as "the new customer has an order and the default country",
  (select (name, street, city, postcode) = ('Renamed', '1 High Street', 'Town 1', '00001') from app.customers where email = 'c1@example.com')
    as "a changed name stays beside the address from the backup",
  not exists (select from app.customers where email = 'c2@example.com') as "a deleted customer stays deleted",
  (select count(*) = 39 from app.customers where street is not null) as "everybody else has their address again";
