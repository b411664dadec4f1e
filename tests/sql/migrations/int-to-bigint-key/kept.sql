select
  (select owes = 7 from app.debtors where name = 'Later') as "the later account owes what was written later",
  (select reverses = 1 and pg_typeof(id) = 'integer'::regtype from app.entries where amount = -7 and reverses = 1) as "its entry has a key of the old type";
