import { expect } from "vitest";
import { test } from "../support/database.ts";

test.for([
  ["v10", "v10.0", "migration_backup_v10"],
  ["v10.0", "v10.0", "migration_backup_v10"],
  ["v10.1", "v10.1", "migration_backup_v10_1"],
  ["v10.10", "v10.10", "migration_backup_v10_10"],
  ["v100.0", "v100.0", "migration_backup_v100"],
  ["v0", "v0.0", "migration_backup_v0"],
  ["v0.1", "v0.1", "migration_backup_v0_1"],
  ["v999999.999999", "v999999.999999", "migration_backup_v999999_999999"],
  ["20260101000000", "20260101000000", "migration_backup_20260101000000"],
])("%s is version %s and its backup is in %s", async ([version, normalized, schema], { database: { sql } }) => {
  const [row] = await sql`
    select migration_guard.normalize_version(${version!}) as normalized, migration_guard.backup_schema_name(${version!}) as schema`;
  expect(row).toEqual({ normalized, schema });
});

test("no two versions share a schema", async ({ database: { sql } }) => {
  const versions = ["v1", "v1.1", "v1.10", "v10", "v10.1", "v11", "v11.1", "v110", "20260101000000"];
  const schemas = await sql<{ schema: string }[]>`
    select migration_guard.backup_schema_name(version) as schema from unnest(${versions}::text[]) as version`;
  expect(new Set(schemas.map(({ schema }) => schema)).size).toBe(versions.length);
});

const malformed = [
  "",
  " ",
  "v",
  "10",
  "10.0",
  "V10",
  "v10.",
  "v.1",
  "v010",
  "v10.00",
  "v10.01",
  "v10.0.0",
  "v-1",
  "v1e3",
  "v10 ",
  " v10",
  "v10\n",
  "\nv10",
  "v10\nv11",
  "v1234567",
  "v1.1234567",
  "v١٠",
  "2026010100000",
  "202601010000000",
  "20260101000000\n",
  "20260101-00000",
  "v10; drop schema public",
  "v10'; drop schema public; --",
  'v10"',
  "v10_1",
  "../v10",
  "latest",
  null,
];

test.for(malformed.map((version) => [JSON.stringify(version), version] as const))(
  "%s is refused as a version by everything that takes one, and nothing changes",
  async ([, version], { database: { sql } }) => {
    const plan = sql.json({ tables: ["kept"] });
    await sql`create table public.kept (id int)`;
    const attempts = [
      sql`select migration_guard.normalize_version(${version})`,
      sql`select migration_guard.backup_schema_name(${version})`,
      sql`select migration_guard_api.put_plan(${version}, ${plan}, 'test')`,
      sql`select migration_guard_api.get_plan(${version})`,
      sql`select migration_guard_api.delete_plan(${version}, 'test')`,
      sql`select migration_guard_api.create_backup(${version}, 'test')`,
      sql`select migration_guard_api.get_backup(${version})`,
      sql`select migration_guard_api.verify_backup(${version}, 'test')`,
      sql`select * from migration_guard_api.get_checklist(${version})`,
      sql`select migration_guard.assert_ready(${version})`,
      sql`select migration_guard_api.confirm_backup(${version}, 'note', 'test')`,
      sql`select * from migration_guard_api.plan_cleanup(${version}, 'test')`,
      sql`select migration_guard_api.delete_backup(${version}, 'migration_backup_v10', 'token', 'test')`,
    ];
    for (const attempt of attempts) await expect(attempt).rejects.toMatchObject({ code: "MG001" });
    const [left] = await sql`
      select (select count(*)::int from migration_guard.plans) as plans,
        (select count(*)::int from migration_guard.jobs) as jobs,
        to_regclass('public.kept') is not null as kept`;
    expect(left).toEqual({ plans: 0, jobs: 0, kept: true });
  },
);
