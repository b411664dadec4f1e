insert into app.tickets (title, status) values ('After', 'waiting'), ('After too', default);
select app.close_ticket(3);
