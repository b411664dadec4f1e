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
  -- The form that the platform gives them.
  constraint name_is_a_name check (name ~ '^[a-z_][a-z0-9_-]{0,63}$')
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

create function migration_guard.require_admin_or_owner(actor text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The owner needs no key: whoever asks for something in SQL and names nobody is named by their role.
  if actor is distinct from migration_guard.owner() then
    perform migration_guard.require_role(actor, 'admin');
  end if;
end
$$;
comment on function migration_guard.require_admin_or_owner(text) is
  'Raises role_required for whoever is neither an admin nor the owner of the product.';

create function migration_guard.assert_named(actor text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if actor is null then
    perform migration_guard.fail('invalid_parameter', 'The key that asks has a name.');
  end if;
end
$$;
comment on function migration_guard.assert_named(text) is 'Raises invalid_parameter where nobody says who asks.';

create function migration_guard.assert_may_lower(name text, actor text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- That there is a key of another name is known of the one that asks, and of no other.
  if actor = name then
    perform migration_guard.fail('last_admin', format('No key takes away its own role: have another admin do it, so that there is one (%s).', name));
  -- A token that the project may switch off.
  elsif actor = 'service_role' and (name = 'default' or migration_guard.role_of('default') <> 'admin') then
    perform migration_guard.fail('last_admin', format('%s may be the last admin, since service_role does not count: have another admin do it.', name));
  end if;
end
$$;
comment on function migration_guard.assert_may_lower(text, text) is
  'Raises last_admin unless an admin other than the one that is to be lowered is sure to exist: the one that asks or, for
service_role, default itself.';

create function migration_guard.assert_can_have_role(name text, role text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if name ~ '^(sb_|eyJ)' then
    perform migration_guard.fail('invalid_parameter', 'A key is called by its name, and shown to nobody itself.');
  elsif name ~ '^[a-z_][a-z0-9_-]{0,63}$' is not true or role in ('viewer', 'operator', 'admin') is not true then
    perform migration_guard.fail('invalid_parameter', 'A key has a name of 1 to 64 lower-case letters, digits, _ and -, and one of the roles viewer, operator and admin.');
  elsif name in ('migration_guard', 'pg_cron', migration_guard.owner()) then
    perform migration_guard.fail('invalid_parameter', format('%s is what does without a key is called: no key of that name has a role.', name));
  end if;
end
$$;
comment on function migration_guard.assert_can_have_role(text, text) is
  'Raises invalid_parameter for what is no name of a key or no role, and for names that stand for the product or its owner.';

create function migration_guard.put_key(name text, role text, actor text) returns migration_guard.key_roles
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  given migration_guard.key_roles;
begin
  perform migration_guard.assert_can_have_role(name, role);
  -- Two admins that lower each other at once take turns, and whoever was lowered meanwhile is none any more.
  lock table migration_guard.key_roles in share row exclusive mode;
  perform migration_guard.require_role(actor, 'admin');
  if role <> 'admin' and migration_guard.role_of(name) = 'admin' then
    perform migration_guard.assert_may_lower(name, actor);
  end if;
  insert into migration_guard.key_roles as k (name, role, updated_by) values (put_key.name, put_key.role, put_key.actor)
  on conflict on constraint key_roles_pkey
  do update set role = excluded.role, updated_at = now(), updated_by = excluded.updated_by
  returning k.* into given;
  return given;
end
$$;
comment on function migration_guard.put_key(text, text, text) is 'Gives a role to a key. Raises invalid_parameter, role_required or last_admin.';

create function migration_guard.delete_key(name text, actor text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  lock table migration_guard.key_roles in share row exclusive mode;
  perform migration_guard.require_role(actor, 'admin');
  if not exists (select from migration_guard.key_roles as k where k.name = delete_key.name) then
    perform migration_guard.fail('key_not_found', format('No role was given to a key %s.', name));
  end if;
  if migration_guard.role_of(name) = 'admin' and migration_guard.default_role(name) <> 'admin' then
    perform migration_guard.assert_may_lower(name, actor);
  end if;
  delete from migration_guard.key_roles as k where k.name = delete_key.name;
end
$$;
comment on function migration_guard.delete_key(text, text) is
  'Takes the role away that was given to a key, which then has the one that it has without. Raises role_required,
key_not_found or last_admin.';
