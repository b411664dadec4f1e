insert into app.people (id, full_name) values ('11111111-0000-4000-8000-000000000001', 'Ada Lovelace');
delete from app.people where id = '00000000-0000-4000-8000-000000000003';
