select
  (select body ->> 'title' = 'New' and deleted_at is null from app.documents where id = '11111111-0000-4000-8000-000000000001') as "a new document is live",
  not exists (select from app.documents where id = '00000000-0000-4000-8000-000000000001') as "what was deleted later stays deleted";
