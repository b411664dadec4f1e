import { connect } from "../../local/database.ts";

/** Makes admins of the keys that tests in SQL speak for, and lets them all ask as often as they want. */
export async function prepareKeys(database: { port: number; database: string }) {
  const sql = connect(database);
  await sql`
    update migration_guard.limits set max_jobs = 1000000, changes_per_minute = 1000000, refusals_per_minute = 1000000,
      anonymous_refusals_per_minute = 1000000`;
  await sql`
    insert into migration_guard.key_roles (name, role, updated_by)
    select name, 'admin', 'setup' from unnest('{test,alice,bob}'::text[]) as name`;
  await sql.end();
}
