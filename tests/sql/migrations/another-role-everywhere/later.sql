insert into app.reports values (21, 'Later', 'secret');
select nextval('app.report_numbers') from generate_series(1, 5);
