import type postgres from "postgres";
import { backUp, type Plan, verify } from "./backup.ts";
import { examplePlan } from "./example.ts";

export type Guard = { guard: string; passed: boolean; overridden: boolean; details: string };

/** The schema of the backup that these tests are about. */
export const schema = "migration_backup_v10";

export async function planCleanup(sql: postgres.Sql, version = "v10", actor = "alice") {
  const [plan] = await sql<
    { schema: string; guards: Guard[]; token: string; token_expires_at: Date; two_keys: boolean; trash_hours: number }[]
  >`select * from migration_guard_api.plan_cleanup(${version}, ${actor})`;
  return plan!;
}

export const deleteBackup = (
  sql: postgres.Sql,
  token: string | null,
  { version = "v10", confirm = schema as string | null, actor = "alice", override = null as unknown } = {},
) =>
  sql`select * from migration_guard_api.delete_backup(${version}, ${confirm}, ${token}, ${actor}, null, null, ${
    sql.json(override as never)
  })`;

/** The guards that have not passed. */
export const blocked = (guards: Guard[]) => guards.filter(({ passed }) => !passed).map(({ guard }) => guard);

/**
 * Brings a backup to where every guard passes: verified now, signed off longer ago than its plan asks for. Its cleanup drops
 * it at once, unless `plan` says otherwise.
 */
export async function makeRemovable(sql: postgres.Sql, version = "v10", plan: Plan = {}): Promise<void> {
  await backUp(sql, version, { ...examplePlan, trash_hours: 0, ...plan });
  await verify(sql, version);
  await sql`select migration_guard_api.confirm_backup(${version}, 'All green.', 'alice')`;
  await sql`
    update migration_guard.backups set confirmed_at = now() - interval '14 days 1 second'
    where version = migration_guard.normalize_version(${version}) and removed_at is null and trashed_at is null`;
}
