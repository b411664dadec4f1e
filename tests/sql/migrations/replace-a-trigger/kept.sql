select
  (select amount = 4 from app.stock where item = 'item 1') as "what was changed stays changed",
  (select count(*) = 27 from app.movements) as "refilling fired no trigger",
  (select amount = 3 from app.stock where item = 'item 26') as "the new item is there";
