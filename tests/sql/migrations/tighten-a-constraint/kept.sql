select
  (select age = 30 from app.members where id = 41) as "the later member is there",
  (select age = 50 from app.members where id = 8) as "a later change stays",
  (select email = 'unknown-7@example.com' from app.members where id = 7) as "so does what the migration filled in";
