import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, verify } from "../support/backup.ts";
import { test } from "../support/database.ts";
import { exampleFile, examplePlan } from "../support/example.ts";
import { rollBack } from "../support/rollback.ts";

/** The state that GET /v1/backups/v10 tells, and the one of the list. */
async function states(sql: postgres.Sql) {
  const [one] = await sql`select state from migration_guard_api.get_backup('v10')`;
  const [listed] = await sql`select state from migration_guard_api.list_backups()`;
  return [one!.state, listed!.state];
}

/** Records what a diff or a rollback records, at a time counted in seconds from the backup. */
const record = {
  diff: (sql: postgres.Sql, seconds: number, is_clean: boolean) =>
    sql`update migration_guard.backups set last_diff = ${sql.json({ is_clean })},
      last_diff_at = created_at + make_interval(secs => ${seconds})`,
  rollback: (sql: postgres.Sql, seconds: number) =>
    sql`update migration_guard.backups set rolled_back_by = 'alice', rolled_back_at = created_at + make_interval(secs => ${seconds})`,
  signOff: (sql: postgres.Sql, seconds: number) =>
    sql`update migration_guard.backups set confirmed_by = 'alice', confirmed_at = created_at + make_interval(secs => ${seconds})`,
};

test("a backup is fresh until something has changed, verified or not", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  expect(await states(sql)).toEqual(["fresh", "fresh"]);
  await verify(sql, "v10");
  expect(await states(sql)).toEqual(["fresh", "fresh"]);
  await record.diff(sql, 1, true);
  expect(await states(sql)).toEqual(["fresh", "fresh"]);
});

test("a backup is stale when a diff found drift", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await record.diff(sql, 1, false);
  expect(await states(sql)).toEqual(["stale", "stale"]);
});

test("asked for by itself, a backup is stale as soon as the schema is another", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`alter table public.coordinator_notes rename to curator_notes`;
  expect(await states(sql)).toEqual(["stale", "fresh"]);
  await sql`alter table public.curator_notes rename to coordinator_notes`;
  expect(await states(sql)).toEqual(["fresh", "fresh"]);
});

test("the schema of a session with other settings is the same schema", async ({ example: { sql, connect } }) => {
  await sql`alter table public.daily_logs alter column created_at set default timestamptz '2026-01-01 00:00:00+00'`;
  await backUp(sql, "v10", examplePlan);
  const session = connect();
  await session`set timezone = 'Asia/Tokyo'`;
  await session`set datestyle = 'German'`;
  expect(await states(session)).toEqual(["fresh", "fresh"]);
});

test("signed off it is migrated, whatever differs", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await record.diff(sql, 1, false);
  await record.signOff(sql, 2);
  expect(await states(sql)).toEqual(["migrated", "migrated"]);
  await record.diff(sql, 3, false);
  expect(await states(sql)).toEqual(["migrated", "migrated"]);
});

test("rolled back it is until a sign-off or a diff with drift comes after it", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await record.diff(sql, 1, false);
  await record.rollback(sql, 2);
  expect(await states(sql)).toEqual(["rolled_back", "rolled_back"]);
  await record.diff(sql, 3, true);
  expect(await states(sql)).toEqual(["rolled_back", "rolled_back"]);
  await record.diff(sql, 4, false);
  expect(await states(sql)).toEqual(["stale", "stale"]);
  await record.rollback(sql, 5);
  await record.signOff(sql, 6);
  expect(await states(sql)).toEqual(["migrated", "migrated"]);
  await record.rollback(sql, 7);
  expect(await states(sql)).toEqual(["rolled_back", "rolled_back"]);
});

test("new tables that a rollback kept do not make it stale", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`create table public.archived (id int)`;
  await record.rollback(sql, 1);
  expect(await states(sql)).toEqual(["rolled_back", "rolled_back"]);
});

test("rolled back it is until the migration is made again, whatever tables the rollback kept", async ({ example }) => {
  const { sql } = example;
  const migrate = () =>
    example.connect().unsafe(exampleFile("migrations", "v10.0_coordinator_to_curator.sql")).simple();
  await backUp(sql, "v10", examplePlan);
  await migrate();
  await sql`create table public.archived (id int primary key, of_profile uuid references public.profiles)`;
  await rollBack(sql, "v10", { data: "keep" });
  expect(await states(sql)).toEqual(["rolled_back", "rolled_back"]);
  await migrate();
  expect(await states(sql)).toEqual(["stale", "rolled_back"]);
  await rollBack(sql, "v10", { data: "keep" });
  expect(await states(sql)).toEqual(["rolled_back", "rolled_back"]);
});

test("whatever else is known, a backup is damaged when it is not whole, and missing when it is gone", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await record.rollback(sql, 1);
  await sql`delete from migration_backup_v10.invite_codes_backup`;
  expect(await states(sql)).toEqual(["rolled_back", "rolled_back"]);
  await verify(sql, "v10");
  expect(await states(sql)).toEqual(["damaged", "damaged"]);
  await sql`drop schema migration_backup_v10 cascade`;
  expect(await states(sql)).toEqual(["missing", "missing"]);
});

test("a backup whose catalog somebody dropped is told damaged, and not an error", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`drop table migration_backup_v10.objects_backup cascade`;
  expect(await states(sql)).toEqual(["damaged", "fresh"]);
});

test("while somebody alters a table the backup is told as it was", async ({ example: { sql, connect } }) => {
  await backUp(sql, "v10", examplePlan);
  const migration = await connect().reserve();
  await migration`begin`;
  await migration`alter table public.coordinator_notes rename to curator_notes`;
  expect(await states(sql)).toEqual(["fresh", "fresh"]);
  await migration`commit`;
  migration.release();
  expect(await states(sql)).toEqual(["stale", "fresh"]);
});
