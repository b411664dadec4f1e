-- Run before v10.0, in psql, from the folder that holds plan.json:
--
--   \i migrations/v10.0_coordinator_to_curator_backup.sql
--
-- Stores the plan (what the backup must hold), asks for the backup, and takes it into the schema migration_backup_v10.
-- The last two answers are the ones to read. The integrity check: every line must say OK. The metadata: 4 tables with
-- 3078 rows, 4 functions, 11 indexes, and each policy on those tables or that calls those functions. If either is
-- missing or wrong, do not migrate.

\set ON_ERROR_STOP on
\set plan `cat plan.json`

-- A copy takes as long as the tables are large; the platform's limit is two minutes.
set statement_timeout = 0;

select migration_guard.put_plan('v10.0', :'plan'::jsonb, actor => 'psql');
select migration_guard.enqueue_backup('v10.0', actor => 'psql');
call migration_guard.work();

select * from migration_backup_v10.verify_backup_integrity();
\x on
-- All but plan, tables and objects, which fill pages.
select backup_id, backup_date, migration_version, description, tables_backed_up, rows_backed_up, functions_backed_up, indexes_backed_up,
  policies_backed_up, enums_backed_up, objects_backed_up, actor, server_version, product_version, manifest
from migration_backup_v10.backup_metadata;
\x off
