insert into app.accounts (name) values ('Later');
insert into app.entries (account_id, amount, reverses) select id, -7, 1 from app.accounts where name = 'Later';
