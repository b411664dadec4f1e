import { superuser } from "../../local/postgres.ts";
import { catalogRows } from "./catalog-rows.ts";
import type { TestDatabase } from "./database.ts";

/** All that the product and Postgres's own catalogs say of a database but for its backups, as lines that can be compared. */
export async function schemaState({ connect, sql }: TestDatabase, schema: string): Promise<string[]> {
  const inventory = await sql<{ line: string }[]>`
    select format('%s %s %s', kind, identity, jsonb_build_object('parent', parent_name, 'definition', definition,
      'settings', settings, 'owner', owner, 'comment', comment, 'is_internal', is_internal,
      'grants', array(select g from unnest(grants) as g order by g),
      'place', rank() over (partition by kind, parent_name order by sort_order))) as line
    from migration_guard.schema_inventory(${schema})`;
  const admin = connect(superuser);
  const catalog = await catalogRows(admin, /migration_backup_|pg_temp/);
  await admin.end();
  return [...inventory.map(({ line }) => line), ...catalog].sort();
}
