-- What a Supabase database has before a project puts anything into it: roles, schemas, privileges and limits as on
-- the hosted platform, so that what would fail there fails here. Run once in a new cluster, by `supabase_admin`.

-- Roles. `postgres` is what a project's owner works as: powerful, but no superuser.
create role postgres login createdb createrole replication bypassrls password 'postgres';
create role anon noinherit;
create role authenticated noinherit;
create role service_role noinherit bypassrls;
create role authenticator login noinherit password 'postgres';
grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to postgres with admin option;
-- Owns the schema `storage`, which the service of that name makes and uses.
create role supabase_storage_admin login noinherit createrole password 'postgres';
grant anon, authenticated, service_role to supabase_storage_admin;
grant pg_monitor, pg_signal_backend to postgres;
grant set on parameter session_replication_role to postgres;

-- Limits of what comes through REST.
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
