select
  (select name = 'Later' and value = 1 from app.latest where name = 'Later') as "a later reading is there",
  (select count(*) = 123 from app.readings) as "no reading is lost",
  (select count(*) = 1 from app.readings_2026_03 where value = 2 and device_id = 1) as "it lies in the partition of its month";
