-- Policies: commands, kinds, roles, both expressions.
create schema if not exists app;

create table app.document (id integer primary key, owner_name name default current_user, folder_id integer, body text);
create table app.folder (id integer primary key, readers name[]);
create function app.may_read(integer) returns boolean language sql stable as $$ select $1 > 0 $$;

alter table app.document enable row level security, force row level security;
alter table app.folder enable row level security;

create policy for_everything on app.document;
create policy for_all on app.document as permissive for all to public using (true) with check (true);
create policy for_select on app.document for select to authenticated using (owner_name = current_user);
create policy for_insert on app.document for insert to authenticated, anon, service_role with check (owner_name = current_user and body <> 'it''s; --');
create policy for_update on app.document for update to postgres using (app.may_read(id)) with check (id > 0);
create policy for_update_using on app.document for update using (id <> 1);
create policy for_delete on app.document as restrictive for delete to current_user using (false);
create policy restricted on app.document as restrictive to anon using (id > 10);
create policy only_checked on app.document with check (id > 11);
create policy with_subquery on app.document for select using (
  exists (select from app.folder as f where f.id = document.folder_id and current_user = any (f.readers))
);
create policy with_itself on app.document for select using (
  folder_id in (select d.folder_id from app.document as d where d.owner_name = current_user)
);
create policy "Odd. ""policy""; --" on app.document to "Odd Role" using ("body" is not null);
create policy named_before on app.folder using (true);
alter policy named_before on app.folder rename to named_after;
alter policy named_after on app.folder to anon using (id = 3) with check (id = 4);

-- Row security without a policy, and a policy without row security.
create table app.closed (id integer);
alter table app.closed enable row level security;
create table app.unprotected (id integer);
create policy sleeping on app.unprotected using (id = 1);
