create schema app;

create table app.documents (
  id uuid primary key,
  owner_id uuid not null,
  body jsonb not null default '{}',
  deleted_at timestamptz
);
create unique index one_live_document_per_owner on app.documents (owner_id, (body ->> 'title')) where deleted_at is null;
create index deleted_documents on app.documents (deleted_at) where deleted_at is not null;
create table app.shares (
  document_id uuid not null references app.documents,
  user_id uuid not null,
  primary key (document_id, user_id)
);

create function app.soft_delete() returns trigger language plpgsql as $$
begin
  update app.documents set deleted_at = '2026-06-01T00:00:00Z' where id = old.id and deleted_at is null;
  return null;
end
$$;
create trigger keep_deleted before delete on app.documents for each row execute function app.soft_delete();

alter table app.documents enable row level security;
alter table app.documents force row level security;
create policy "Own live documents" on app.documents to authenticated
  using (owner_id = auth.uid() and deleted_at is null) with check (owner_id = auth.uid());
create view app.live_documents with (security_invoker = true) as select id, owner_id, body from app.documents where deleted_at is null;

insert into app.documents
select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '99999999-0000-4000-8000-000000000000',
  jsonb_build_object('title', 'Document ' || n), case when n % 3 = 0 then timestamptz '2026-05-01T00:00:00Z' end
from generate_series(1, 30) as n;
insert into app.shares select id, '88888888-0000-4000-8000-000000000000' from app.documents where deleted_at is null;
