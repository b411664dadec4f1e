-- Run before v10.0, in psql, from the folder that holds plan.json:
--
--   \i migrations/v10.0_coordinator_to_curator_backup.sql
--
-- Stores the plan (what the backup must hold), asks for the backup and takes it, into the schema migration_backup_v10.
-- At the end come two answers. The first is the integrity check: every line must say OK. The second is the metadata:
-- 4 tables, the plan's 4 functions, and the indexes and policies on those tables. Without both, do not migrate:
-- v10.0 refuses to anyway.

\set ON_ERROR_STOP on
\set plan `cat plan.json`

-- A copy takes as long as the tables are large; the platform's limit is two minutes.
set statement_timeout = 0;

select migration_guard.put_plan('v10.0', :'plan'::jsonb, actor => 'psql');
select migration_guard.enqueue_backup('v10.0', actor => 'psql');
call migration_guard.work();

select * from migration_backup_v10.verify_backup_integrity();
select * from migration_backup_v10.backup_metadata;
