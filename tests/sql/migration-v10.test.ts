import { spawnSync } from "node:child_process";
import type postgres from "postgres";
import { expect, type TestContext } from "vitest";
import { databaseUrl } from "../../local/database-url.ts";
import { backUp, verify } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { exampleFile, exampleFolder, examplePlan } from "../support/example.ts";

const script = (suffix = "") => `v10.0_coordinator_to_curator${suffix}.sql`;

/** Runs one of the example's scripts as somebody does who sits in its folder, in psql. */
function runInPsql({ name, port }: TestDatabase, file: string) {
  const { status, stdout, stderr } = spawnSync(
    "psql",
    [databaseUrl({ port, database: name }), "--no-psqlrc", "-v", "ON_ERROR_STOP=1"],
    { cwd: exampleFolder, input: `\\i migrations/${file}\n`, encoding: "utf8" },
  );
  return { status, stdout, stderr };
}

function needsPsql({ skip }: Pick<TestContext, "skip">) {
  if (spawnSync("psql", ["--version"]).status !== 0) skip("psql is not installed");
}

/** Runs one of the example's scripts, which must be plain SQL, through the driver. */
const run = (sql: postgres.Sql, file: string) => sql.unsafe(exampleFile("migrations", file)).simple();

/** All that makes up schema public: its objects by name and definition, their owners, grants and comments. */
async function publicSchema(database: TestDatabase) {
  const sql = database.connect();
  await sql`set search_path = ''`;
  const objects = await sql`
    select kind, identity, definition, sort_order from migration_guard.catalog_objects
    where schema_name = 'public' order by kind, identity`;
  const grants = await sql`
    with owned as (
      select 'pg_class'::regclass as classid, oid, relowner as owner,
        coalesce(relacl, acldefault(case relkind when 'S' then 'S' else 'r' end::"char", relowner)) as acl
      from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'S')
      union all select 'pg_proc'::regclass, oid, proowner, coalesce(proacl, acldefault('f', proowner))
      from pg_proc where pronamespace = 'public'::regnamespace
      union all select 'pg_type'::regclass, oid, typowner, coalesce(typacl, acldefault('T', typowner))
      from pg_type where typnamespace = 'public'::regnamespace
    )
    select pg_describe_object(o.classid, o.oid, 0) as object, o.owner::regrole::text as owner,
      a.grantee::regrole::text as grantee, a.privilege_type, a.is_grantable
    from owned as o left join lateral aclexplode(o.acl) as a on true order by 1, 3, 4`;
  const columnGrants = await sql`
    select attrelid::regclass::text as table, attname, attacl::text from pg_attribute
    where attrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace) and attacl is not null
    order by 1, 2`;
  const comments = await sql`
    select pg_describe_object(classoid, objoid, objsubid) as object, description from pg_description
    where pg_describe_object(classoid, objoid, objsubid) ~ 'public[.]' order by 1`;
  return { objects: [...objects], grants: [...grants], columnGrants: [...columnGrants], comments: [...comments] };
}

/** Every row of the app's tables, as they are called before the migration. */
async function rows(sql: postgres.Sql) {
  const tables = [...examplePlan.tables as string[], "nutrition_targets", "daily_logs"];
  const found = tables.map(async (table) => [table, [...await sql`select * from public.${sql(table)} order by 1, 2`]]);
  return Object.fromEntries(await Promise.all(found)) as Record<string, Record<string, unknown>[]>;
}

async function expectBackupOk(sql: postgres.Sql): Promise<void> {
  expect([...await verify(sql, "v10")].filter(([, { status }]) => status !== "OK")).toEqual([]);
  const own = await sql`select * from migration_backup_v10.verify_backup_integrity() where status <> 'OK'`;
  expect([...own]).toEqual([]);
}

/** What the app does every day, by whatever name the coordinators go: a new coach, a new client, a note about them. */
async function useApp(sql: postgres.Sql, word: "coordinator" | "curator", number: number): Promise<void> {
  const id = (who: string) => `${who === "coach" ? 1 : 2}000000${number}-0000-4000-8000-000000000000`;
  await sql.unsafe(`
    begin;
    set local request.jwt.claims = '{"role": "service_role"}';
    insert into auth.users (id) values ('${id("coach")}'), ('${id("client")}');
    select public.create_user_profile('${id("coach")}', 'coach${number}@x.y', 'Coach', '${word}');
    select public.create_user_profile('${id("client")}', 'client${number}@x.y', null);
    insert into public.invite_codes (code, ${word}_id) values ('NEWCODE${number}', '${id("coach")}');
    insert into public.${word}_notes (${word}_id, client_id, note) values ('${id("coach")}', '${
    id("client")
  }', 'hello');
    commit`);
  const [used] = await sql.begin(async (transaction) => {
    await transaction`select set_config('request.jwt.claims', '{"role": "service_role"}', true)`;
    return await transaction.unsafe(`select public.use_invite_code('NEWCODE${number}', '${id("client")}') as answer,
      public.is_${word}('${id("coach")}') as is_coach,
      public.is_client_${word}('${id("client")}', '${id("coach")}') as has_coach`);
  });
  expect(used).toMatchObject({ answer: { success: true, [`${word}_id`]: id("coach") }, is_coach: true });
  const [client] = await sql.unsafe(`select ${word}_id as coach from public.profiles where id = '${id("client")}'`);
  expect(client).toEqual({ coach: id("coach") });
}

test("the three scripts run in psql: backup, migration, and all the way back", async ({ example, skip }) => {
  needsPsql({ skip });
  const { sql } = example;
  const before = await publicSchema(example);
  const rowsBefore = await rows(sql);

  const backup = runInPsql(example, script("_backup"));
  expect(backup).toMatchObject({ status: 0, stderr: "" });
  expect(backup.stdout).toMatch(/table public\.profiles +\| OK/);
  expect(backup.stdout).not.toMatch(/FAIL/);
  expect(backup.stdout).toMatch(/rows_backed_up +\| 3078\n/);
  expect(backup.stdout).toMatch(/functions_backed_up +\| 4\n/);
  expect(backup.stdout).toMatch(/indexes_backed_up +\| 11\n/);
  await expectBackupOk(sql);

  expect(runInPsql(example, script())).toMatchObject({ status: 0, stderr: "" });
  expect(await publicSchema(example)).not.toEqual(before);
  await expectBackupOk(sql);

  expect(runInPsql(example, script("_rollback"))).toMatchObject({ status: 0, stderr: "" });
  expect(await publicSchema(example)).toEqual(before);
  expect(await rows(sql)).toEqual(rowsBefore);
  await expectBackupOk(sql);
});

test("without its backup the migration refuses to run in psql, and changes nothing", async ({ example, skip }) => {
  needsPsql({ skip });
  const before = await publicSchema(example);
  const { status, stderr } = runInPsql(example, script());
  expect(status).toBe(3);
  expect(stderr).toMatch(/Not ready for v10\.0: there is no backup of it/);
  expect(await publicSchema(example)).toEqual(before);
});

test("run again, the backup script says that there is a backup, and leaves it alone", async ({ example, skip }) => {
  needsPsql({ skip });
  expect(runInPsql(example, script("_backup")).status).toBe(0);
  const before = [...await example.sql`select * from migration_backup_v10.backup_metadata`];
  const { status, stderr } = runInPsql(example, script("_backup"));
  expect(status).toBe(3);
  expect(stderr).toMatch(/migration_backup_v10 is there already/);
  expect([...await example.sql`select * from migration_backup_v10.backup_metadata`]).toEqual(before);
});

test("without its backup the migration refuses to run, and changes nothing", async ({ example }) => {
  const before = await publicSchema(example);
  await expect(run(example.connect(), script())).rejects.toMatchObject({ code: "MG012" });
  expect(await publicSchema(example)).toEqual(before);
});

test("with a damaged backup the migration refuses to run, and changes nothing", async ({ example }) => {
  await backUp(example.sql, "v10.0", examplePlan);
  await example.sql`delete from migration_backup_v10.invite_codes_backup where max_uses = 100`;
  const before = await publicSchema(example);
  await expect(run(example.connect(), script())).rejects.toMatchObject({
    code: "MG012",
    message: expect.stringMatching(/table public\.invite_codes: expected 72 rows/),
  });
  expect(await publicSchema(example)).toEqual(before);
});

test("a migration that fails half-way leaves everything as it was", async ({ example }) => {
  await backUp(example.sql, "v10.0", examplePlan);
  await example.sql`create function public.is_curator(p_user_id uuid) returns boolean language sql as 'select true'`;
  const before = await publicSchema(example);
  await expect(run(example.connect(), script())).rejects.toMatchObject({ code: "42723" });
  expect(await publicSchema(example)).toEqual(before);
  await expectBackupOk(example.sql);
});

test("after the migration nothing but data says coordinator, and the app works", async ({ example }) => {
  const { sql } = example;
  await backUp(sql, "v10.0", examplePlan);
  await run(example.connect(), script());
  const { objects, grants, comments } = await publicSchema(example);
  for (const list of [objects, grants, comments]) {
    // From 18 on not null is a constraint with a name, which Postgres made of the table's name at the time.
    const says = (entry: unknown) => JSON.stringify(entry).replace(/constraint \w+_not_null not null/g, "not null");
    expect(list.filter((entry) => /coordinator/i.test(says(entry)))).toEqual([]);
    expect(list.some((entry) => /curator/i.test(JSON.stringify(entry)))).toBe(true);
  }
  await useApp(sql, "curator", 1);
});

test("the backup still tells what was, after the migration and after the way back", async ({ example }) => {
  const { sql } = example;
  const before = await rows(sql);
  await backUp(sql, "v10.0", examplePlan);
  await expectBackupOk(sql);
  const told = async () => ({
    roles: [...await sql`select role, count(*)::int from migration_backup_v10.profiles_backup group by 1 order by 1`],
    values: [...await sql`select enum_value from migration_backup_v10.user_role_enum_backup order by enum_sort_order`],
    functions: [...await sql`select * from migration_backup_v10.functions_backup order by 1`],
    policies: [...await sql`select * from migration_backup_v10.policies_backup order by 1, 2`],
    indexes: [...await sql`select * from migration_backup_v10.indexes_backup order by 1`],
    notes: [...await sql`select * from migration_backup_v10.coordinator_notes_backup order by id`],
  });
  const then = await told();
  expect(then.roles).toEqual([
    { role: "client", count: 475 },
    { role: "coordinator", count: 24 },
    { role: "super_admin", count: 1 },
  ]);
  expect(then.values.map(({ enum_value }) => enum_value)).toEqual(["client", "coordinator", "super_admin"]);
  expect(then.notes).toEqual(before.coordinator_notes);

  await run(example.connect(), script());
  expect(await told()).toEqual(then);
  await expectBackupOk(sql);
  await run(example.connect(), script("_rollback"));
  expect(await told()).toEqual(then);
  await expectBackupOk(sql);
  await sql`drop schema public cascade`;
  expect(await told()).toEqual(then);
  await expectBackupOk(sql);
});

test("the way back restores the schema, and keeps what was written after the migration", async ({ example }) => {
  const { sql } = example;
  const before = await publicSchema(example);
  await useApp(sql, "coordinator", 1);
  const rowsBefore = await rows(sql);
  await backUp(sql, "v10.0", examplePlan);
  await run(example.connect(), script());
  await useApp(sql, "curator", 2);
  await run(example.connect(), script("_rollback"));

  expect(await publicSchema(example)).toEqual(before);
  const rowsAfter = await rows(sql);
  for (const [table, earlier] of Object.entries(rowsBefore)) {
    const later = new Set(rowsAfter[table]!.map((row) => JSON.stringify(row)));
    expect(earlier.filter((row) => !later.has(JSON.stringify(row))), table).toEqual([]);
  }
  const added = await sql`
    select p.role::text, p.name, n.note, c.code, c.uses from public.profiles as p
    left join public.coordinator_notes as n on n.coordinator_id = p.id
    left join public.invite_codes as c on c.coordinator_id = p.id
    where p.email like '%2@x.y' order by 1`;
  expect([...added]).toEqual([
    { role: "client", name: null, note: null, code: null, uses: null },
    { role: "coordinator", name: "Coach", note: "hello", code: "NEWCODE2", uses: 1 },
  ]);
  await useApp(sql, "coordinator", 3);
  await expectBackupOk(sql);

  // The backup is of this very state again: the migration may have another try.
  await example.sql`select migration_guard.assert_ready('v10.0')`;
});

test("after the migration its backup cannot be taken any more", async ({ example }) => {
  const { sql } = example;
  await backUp(sql, "v10.0", examplePlan);
  await run(example.connect(), script());
  await sql`drop schema migration_backup_v10 cascade`;
  await expect(sql`select migration_guard.enqueue_backup('v10.0', 'test')`).rejects.toMatchObject({ code: "MG011" });
  expect(await sql`select to_regnamespace('migration_backup_v10') as schema`).toEqual([{ schema: null }]);
});
