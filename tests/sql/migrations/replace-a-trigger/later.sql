update app.stock set amount = amount * 2 where item in ('item 1', 'item 2');
insert into app.stock values ('item 26', 3);
