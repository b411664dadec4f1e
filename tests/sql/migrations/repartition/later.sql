insert into app.devices values (5, 'Later');
insert into app.readings values (5, '2026-02-14T00:00:00Z', 1), (1, '2026-03-31T12:00:00Z', 2);
