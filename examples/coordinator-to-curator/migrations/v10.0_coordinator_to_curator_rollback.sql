-- The way back from v10.0, written by hand: the schema becomes what it was, rows that were written since stay.

begin;

set local lock_timeout = '5s';

-- Policies first, since they depend on the functions

drop policy "Users see themselves, their clients and their curator" on public.profiles;
drop policy "Users edit their own profile" on public.profiles;
drop policy "Curators manage their notes" on public.curator_notes;
drop policy "Curators manage their invite codes" on public.invite_codes;
drop policy "Only curators hand out invite codes" on public.invite_codes;
drop policy "Members of an invitation see its use" on public.invite_code_usage;
drop policy "Curators set their clients' targets" on public.nutrition_targets;
drop policy "Curators read their clients' logs" on public.daily_logs;

drop function public.is_curator(uuid);
drop function public.is_client_curator(uuid, uuid);
-- `create or replace` cannot rename a parameter.
drop function public.create_user_profile(uuid, text, text, public.user_role, uuid);

-- Renames, before the functions: their bodies are checked against the tables as they are

alter type public.user_role rename value 'curator' to 'coordinator';

alter table public.profiles rename column curator_id to coordinator_id;
alter table public.curator_notes rename to coordinator_notes;
alter table public.coordinator_notes rename column curator_id to coordinator_id;
alter table public.invite_codes rename column curator_id to coordinator_id;

alter index public.idx_profiles_curator_id rename to idx_profiles_coordinator_id;
alter index public.idx_curator_notes_curator_date rename to idx_coordinator_notes_coordinator_date;
alter index public.idx_curator_notes_client_date rename to idx_coordinator_notes_client_date;
alter index public.idx_invite_codes_curator rename to idx_invite_codes_coordinator;

-- An index has column names of its own, which only `alter table` reaches.
alter table public.idx_profiles_coordinator_id rename column curator_id to coordinator_id;
alter table public.idx_coordinator_notes_coordinator_date rename column curator_id to coordinator_id;
alter table public.idx_invite_codes_coordinator rename column curator_id to coordinator_id;

-- Postgres renames none of these with its table or column.
alter sequence public.curator_notes_id_seq rename to coordinator_notes_id_seq;
alter trigger curator_notes_touch_updated_at on public.coordinator_notes rename to coordinator_notes_touch_updated_at;
alter table public.profiles rename constraint profiles_curator_id_fkey to profiles_coordinator_id_fkey;
alter table public.profiles
  rename constraint profiles_only_clients_have_a_curator to profiles_only_clients_have_a_coordinator;
alter table public.profiles rename constraint profiles_curator_has_a_name to profiles_coordinator_has_a_name;
alter table public.coordinator_notes rename constraint curator_notes_pkey to coordinator_notes_pkey;
alter table public.coordinator_notes
  rename constraint curator_notes_curator_id_fkey to coordinator_notes_coordinator_id_fkey;
alter table public.coordinator_notes rename constraint curator_notes_client_id_fkey to coordinator_notes_client_id_fkey;
alter table public.coordinator_notes
  rename constraint curator_notes_are_about_someone_else to coordinator_notes_are_about_someone_else;
alter table public.invite_codes rename constraint invite_codes_curator_id_fkey to invite_codes_coordinator_id_fkey;

comment on type public.user_role is 'What an account may do: be coached (client), coach (coordinator), or run the app.';
comment on column public.profiles.coordinator_id is 'The coordinator of a client, null while nobody coaches them.';
comment on constraint profiles_coordinator_has_a_name on public.profiles is
  'Clients are shown their coordinator''s name.';
comment on table public.coordinator_notes is 'What a coordinator writes down about a client.';
comment on column public.coordinator_notes.coordinator_id is 'The coordinator who wrote the note.';
comment on table public.invite_codes is 'Codes with which new clients find their coordinator.';
comment on column public.invite_codes.coordinator_id is 'The coordinator whose client the user of the code becomes.';

-- Functions, before the policies that call them

create function public.is_coordinator(p_user_id uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select 1 from public.profiles where id = p_user_id and role = 'coordinator')
$$;
comment on function public.is_coordinator(uuid) is 'Whether this account is a coordinator.';

create function public.is_client_coordinator(p_client_id uuid, p_coordinator_id uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select 1 from public.profiles where id = p_client_id and coordinator_id = p_coordinator_id)
$$;
comment on function public.is_client_coordinator(uuid, uuid) is
  'Whether the second account is the first one''s coordinator.';

create or replace function public.use_invite_code(p_code text, p_user_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  invite public.invite_codes;
begin
  if p_user_id is distinct from auth.uid() and auth.role() is distinct from 'service_role' then
    raise exception 'An invite code is used by the client themselves.' using errcode = 'insufficient_privilege';
  end if;
  if not exists (select 1 from public.profiles where id = p_user_id and role = 'client') then
    return jsonb_build_object('success', false, 'error', 'not_a_client');
  end if;

  -- Locked, so that two clients cannot share the last use.
  select * into invite from public.invite_codes
  where code = p_code and is_active and uses < max_uses and (expires_at is null or expires_at > now())
  for update;
  if not found then
    return jsonb_build_object('success', false, 'error', 'invalid_code');
  end if;

  insert into public.invite_code_usage (invite_code_id, used_by) values (invite.id, p_user_id)
  on conflict (invite_code_id, used_by) do nothing;
  if not found then
    return jsonb_build_object('success', false, 'error', 'already_used');
  end if;

  update public.invite_codes set uses = uses + 1 where id = invite.id;
  update public.profiles set coordinator_id = invite.coordinator_id where id = p_user_id;
  return jsonb_build_object('success', true, 'coordinator_id', invite.coordinator_id);
end;
$$;
comment on function public.use_invite_code(text, uuid) is
  'Makes a client the client of the coordinator who gave out the code.';

create function public.create_user_profile(
  p_user_id uuid,
  p_email text,
  p_name text,
  p_role public.user_role default 'client',
  p_coordinator_id uuid default null
) returns uuid
language plpgsql security definer set search_path = '' as $$
declare
  trusted boolean := coalesce(auth.role() = 'service_role', false) or public.is_super_admin(auth.uid());
begin
  if not trusted and (p_user_id is distinct from auth.uid() or p_role <> 'client' or p_coordinator_id is not null) then
    raise exception 'A new account is a client without coordinator.'
      using errcode = 'insufficient_privilege', hint = 'Use an invite code to find a coordinator.';
  end if;
  if p_coordinator_id is not null and not public.is_coordinator(p_coordinator_id) then
    raise exception 'Account % is no coordinator.', p_coordinator_id using errcode = 'check_violation';
  end if;

  insert into public.profiles (id, email, name, role, coordinator_id)
  values (p_user_id, p_email, p_name, p_role, p_coordinator_id);
  return p_user_id;
end;
$$;
comment on function public.create_user_profile(uuid, text, text, public.user_role, uuid) is
  'Creates the profile of a new account; only a super admin or the server may create coordinators or assign one.';

revoke all on function
  public.is_coordinator(uuid),
  public.is_client_coordinator(uuid, uuid),
  public.create_user_profile(uuid, text, text, public.user_role, uuid)
from public, anon, authenticated, service_role;
grant execute on function
  public.is_coordinator(uuid),
  public.is_client_coordinator(uuid, uuid),
  public.create_user_profile(uuid, text, text, public.user_role, uuid)
to authenticated, service_role;

-- Policies

create policy "Users see themselves, their clients and their coordinator" on public.profiles
  for select to authenticated
  using (
    id = (select auth.uid())
    or coordinator_id = (select auth.uid())
    or public.is_client_coordinator((select auth.uid()), id)
  );

-- The functions see the row as it was before the update: nobody promotes themselves or picks a coordinator.
create policy "Users edit their own profile" on public.profiles
  for update to authenticated
  using (id = (select auth.uid()))
  with check (
    id = (select auth.uid())
    and (role <> 'coordinator' or public.is_coordinator(id))
    and (role <> 'super_admin' or public.is_super_admin(id))
    and (coordinator_id is null or public.is_client_coordinator(id, coordinator_id))
  );

create policy "Coordinators manage their notes" on public.coordinator_notes
  to authenticated
  using (coordinator_id = (select auth.uid()))
  with check (
    coordinator_id = (select auth.uid())
    and public.is_client_coordinator(client_id, coordinator_id)
  );

create policy "Coordinators manage their invite codes" on public.invite_codes
  to authenticated
  using (coordinator_id = (select auth.uid()))
  with check (coordinator_id = (select auth.uid()));

create policy "Only coordinators hand out invite codes" on public.invite_codes
  as restrictive for insert
  with check (public.is_coordinator((select auth.uid())));
comment on policy "Only coordinators hand out invite codes" on public.invite_codes is
  'Without it a client could invite others in their own name.';

create policy "Members of an invitation see its use" on public.invite_code_usage
  for select to authenticated
  using (
    used_by = (select auth.uid())
    or exists (
      select 1 from public.invite_codes
      where invite_codes.id = invite_code_usage.invite_code_id
        and invite_codes.coordinator_id = (select auth.uid())
    )
  );

create policy "Coordinators set their clients' targets" on public.nutrition_targets
  to authenticated
  using (public.is_client_coordinator(client_id, (select auth.uid())))
  with check (
    public.is_coordinator((select auth.uid()))
    and public.is_client_coordinator(client_id, (select auth.uid()))
  );

create policy "Coordinators read their clients' logs" on public.daily_logs
  for select to authenticated
  using (
    public.is_coordinator((select auth.uid()))
    and public.is_client_coordinator(client_id, (select auth.uid()))
  );

commit;
