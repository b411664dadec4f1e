import type postgres from "postgres";
import { catalogRows } from "./catalog-rows.ts";

/** Two connections to a database with the product: as `postgres`, and as a superuser, who reads everything. */
export type Connections = { sql: postgres.Sql; admin: postgres.Sql };

/**
 * All that the product says of a schema, and Postgres's own catalogs of its database but for backups, as lines that can
 * be compared.
 *
 * @param first Leaves out objects that were made before the one with this number.
 */
export async function schemaState({ sql, admin }: Connections, schema: string, first?: number): Promise<string[]> {
  const inventory = await sql<{ line: string }[]>`
    select format('%s %s %s', kind, identity, jsonb_build_object('parent', parent_name, 'definition', definition,
      'settings', settings, 'owner', owner, 'comment', comment, 'is_internal', is_internal,
      'grants', array(select g from unnest(grants) as g order by g),
      'place', rank() over (partition by kind, parent_name order by sort_order))) as line
    from migration_guard.schema_inventory(${schema})`;
  // A table that has ever had long values keeps the place for them, whatever columns it has now.
  const catalog = await catalogRows(admin, /migration_backup_|pg_temp|"relname":"toast of /, first);
  const withoutToast = catalog.map((line) => line.replace(/"reltoastrelid":("[^"]*"|null),/, ""));
  return [...inventory.map(({ line }) => line), ...withoutToast].sort();
}
