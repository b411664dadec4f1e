begin;

drop trigger keep_deleted on app.documents;
drop function app.soft_delete();

create table app.archived_documents (like app.documents including defaults, archived_by name not null default current_user, primary key (id));
insert into app.archived_documents select d.* from app.documents as d where d.deleted_at is not null;
delete from app.documents where deleted_at is not null;

drop policy "Own live documents" on app.documents;
drop view app.live_documents;
alter table app.documents drop column deleted_at;
create unique index one_live_document_per_owner on app.documents (owner_id, (body ->> 'title'));
create policy "Own documents" on app.documents to authenticated using (owner_id = auth.uid()) with check (owner_id = auth.uid());
create view app.live_documents with (security_invoker = true) as select id, owner_id, body from app.documents;

create function app.archive() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into app.archived_documents (id, owner_id, body, deleted_at) values (old.id, old.owner_id, old.body, now());
  return old;
end
$$;
create trigger archive_deleted before delete on app.documents for each row execute function app.archive();
alter table app.shares drop constraint shares_document_id_fkey,
  add constraint shares_document_id_fkey foreign key (document_id) references app.documents on delete cascade;

commit;
