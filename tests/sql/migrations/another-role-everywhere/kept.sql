select
  (select title = 'Later' from app.titles where id = 21) as "the later report is there",
  nextval('app.report_numbers') = 6 as "the sequence goes on where it stood";
