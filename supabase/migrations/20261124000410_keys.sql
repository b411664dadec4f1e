-- Chapter 4, continued. Keys: what each secret key of the project may do. The key itself is known to the platform alone; here
-- it is its name, which is the actor of whatever it asks for.

create table migration_guard.key_roles (
  -- As the project's API keys have it; service_role stands for every token of that role.
  name text primary key,
  role text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- The key that gave the role last.
  updated_by text not null,
  constraint role_is_known check (role in ('viewer', 'operator', 'admin')),
  constraint name_has_a_length check (length(name) between 1 and 200)
);
comment on table migration_guard.key_roles is 'Roles that were given to keys. A key without a row has the role that default_role tells.';

create function migration_guard.default_role(name text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select case when name in ('default', 'service_role') then 'admin' else 'viewer' end $$;
comment on function migration_guard.default_role(text) is
  'The role of a key that was given none: admin for those that every project begins with, viewer for every other.';

create function migration_guard.role_of(actor text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select k.role from migration_guard.key_roles as k where k.name = actor), migration_guard.default_role(actor))
$$;
comment on function migration_guard.role_of(text) is 'The role of a key: the one that it was given, or the one that it has without.';

create function migration_guard.role_includes(role text, needed text) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_position(r.roles, role) >= array_position(r.roles, needed), false)
  from (values ('{viewer,operator,admin}'::text[])) as r (roles)
$$;
comment on function migration_guard.role_includes(text, text) is 'Whether a role may do all that another one may.';

create function migration_guard.require_role(actor text, needed text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  role constant text := migration_guard.role_of(actor);
begin
  if not migration_guard.role_includes(role, needed) then
    perform migration_guard.fail(
      'role_required', format('The key %s is %s, and this wants %s: send such a key, or have an admin give it that role.', coalesce(actor, 'without a name'), role, needed),
      jsonb_build_object('role', role, 'required', needed));
  end if;
end
$$;
comment on function migration_guard.require_role(text, text) is 'Raises role_required when a key may less than the role that is needed.';

create function migration_guard.assert_another_admin(name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- What default may without a row is no reason to lower it, nor is a token that the project may have switched off.
  if not exists (select from migration_guard.key_roles as k where k.role = 'admin' and k.name <> assert_another_admin.name)
    and (migration_guard.default_role(name) = 'admin' or migration_guard.role_of('default') <> 'admin') then
    perform migration_guard.fail('last_admin', format('The key %s is the last admin: make another one admin first.', name));
  end if;
end
$$;
comment on function migration_guard.assert_another_admin(text) is
  'Raises last_admin when no other key is sure to be an admin: one that was made so or, for other keys, default itself.';

create function migration_guard.put_key(name text, role text, actor text default session_user) returns migration_guard.key_roles
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  given migration_guard.key_roles;
begin
  if length(name) between 1 and 200 is not true or role in ('viewer', 'operator', 'admin') is not true then
    perform migration_guard.fail('invalid_parameter', 'A key has a name of 1 to 200 characters, and one of the roles viewer, operator and admin.');
  end if;
  if name ~ '^(sb_|eyJ)' then
    perform migration_guard.fail('invalid_parameter', 'A key is called by its name, and shown to nobody itself.');
  end if;
  -- Two admins that lower each other at once take turns.
  lock table migration_guard.key_roles in share row exclusive mode;
  if role <> 'admin' and migration_guard.role_of(name) = 'admin' then
    perform migration_guard.assert_another_admin(name);
  end if;
  insert into migration_guard.key_roles as k (name, role, updated_by) values (put_key.name, put_key.role, put_key.actor)
  on conflict on constraint key_roles_pkey
  do update set role = excluded.role, updated_at = now(), updated_by = excluded.updated_by
  returning k.* into given;
  return given;
end
$$;
comment on function migration_guard.put_key(text, text, text) is 'Gives a role to a key. Raises invalid_parameter or last_admin.';

create function migration_guard.delete_key(name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  lock table migration_guard.key_roles in share row exclusive mode;
  if not exists (select from migration_guard.key_roles as k where k.name = delete_key.name) then
    perform migration_guard.fail('key_not_found', format('No role was given to a key %s.', name));
  end if;
  if migration_guard.role_of(name) = 'admin' and migration_guard.default_role(name) <> 'admin' then
    perform migration_guard.assert_another_admin(name);
  end if;
  delete from migration_guard.key_roles as k where k.name = delete_key.name;
end
$$;
comment on function migration_guard.delete_key(text) is
  'Takes the role away that was given to a key, which then has the one that it has without. Raises key_not_found or last_admin.';
