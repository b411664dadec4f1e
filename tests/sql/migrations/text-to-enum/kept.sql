select
  (select array_agg(status order by id) = array['waiting', 'open'] from app.tickets where title like 'After%') as "new tickets have their status as text",
  (select status = 'closed' from app.tickets where id = 3) as "a closed ticket stays closed",
  (select count(*) = 92 from app.tickets) as "no ticket is lost";
