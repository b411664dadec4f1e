insert into app.customers (name, email) values ('New one', 'new@example.com');
insert into app.addresses (customer_id, street, city) select id, '1 New Street', 'Newtown' from app.customers where email = 'new@example.com';
insert into app.orders (customer_id, total) select id, 99 from app.customers where email = 'new@example.com';
update app.customers set name = 'Renamed' where email = 'c1@example.com';
delete from app.customers where email = 'c2@example.com';
