insert into app.members (id, team_id, email, phone, age) values (41, 1, 'later@example.com', '+49 1234', 30);
update app.members set age = 50 where id = 8;
