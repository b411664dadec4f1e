import type postgres from "postgres";
import { describe, expect } from "vitest";
import { superuser } from "../../local/postgres.ts";
import { backUp, lastJob, verify, work } from "../support/backup.ts";
import { test } from "../support/database.ts";
import { exampleFile, examplePlan } from "../support/example.ts";
import { heldJob, lockTable } from "../support/held-job.ts";
import { readPlan, rollBack } from "../support/rollback.ts";
import { until } from "../support/until.ts";

type Item = { item: string; title: string; required: boolean; passed: boolean; details: string };

const allItems = [
  "tables_backed_up",
  "functions_saved",
  "indexes_documented",
  "policies_preserved",
  "integrity_passes",
  "metadata_as_expected",
];
const wholeChecklist = (sql: postgres.Sql) => sql<Item[]>`select * from migration_guard_api.get_checklist('v10')`;
const checklist = async (sql: postgres.Sql) => (await wholeChecklist(sql)).filter(({ required }) => required);
const assertReady = (sql: postgres.Sql) => sql`select migration_guard.assert_ready('v10.0')`;

test("after a backup all six items pass, and the migration may run", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  const items = await checklist(sql);
  expect(items.map(({ item }) => item)).toEqual(allItems);
  expect(items.filter(({ passed }) => !passed)).toEqual([]);
  for (const { title, details } of items) expect([title, details]).not.toContain("");
  expect(items[0]!.details).toMatch(/public\.profiles: \d+ rows/);
  await assertReady(sql);
});

test("after the migration the checklist says what is not as it was saved, and that the backup is whole", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql.unsafe(exampleFile("migrations", "v10.0_coordinator_to_curator.sql").replaceAll(/^\\.*$/gm, ""));
  const items = await checklist(sql);
  expect(items.filter(({ passed }) => passed).map(({ item }) => item)).toEqual([
    "integrity_passes",
    "metadata_as_expected",
  ]);
  expect(items.find(({ item }) => item === "functions_saved")?.details).toMatch(
    /not as saved: .*is_client_coordinator/,
  );
});

test("a backup whose migration was signed off does not let it run again", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`select migration_guard.assert_ready('v10')`;
  await sql`select migration_guard.confirm_backup('v10', 'done', 'test')`;
  await expect(sql`select migration_guard.assert_ready('v10')`).rejects.toMatchObject({
    code: "MG012",
    message: expect.stringContaining("signed off"),
  });
  const open = (await checklist(sql)).filter(({ required, passed }) => required && !passed);
  expect(open.map(({ item }) => item)).toEqual(["not_signed_off"]);
});

test("a function that was replaced since the backup makes the migration wait for another backup", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`create or replace function public.is_coordinator(user_id uuid) returns boolean language sql as 'select true'`
    .catch(() =>
      sql`create or replace function public.is_coordinator(p_user_id uuid) returns boolean language sql as 'select true'`
    );
  await expect(sql`select migration_guard.assert_ready('v10')`).rejects.toMatchObject({
    code: "MG012",
    message: expect.stringMatching(/not as saved: public\.is_coordinator/),
  });
});

const tampering: { title: string; change: string; fails: string[]; says: RegExp }[] = [
  {
    title: "a changed value in a copied row",
    change:
      `update migration_backup_v10.profiles_backup set email = 'x' where id = (select id from migration_backup_v10.profiles_backup order by id limit 1)`,
    fails: ["tables_backed_up", "integrity_passes"],
    says: /public\.profiles/,
  },
  {
    title: "a copied row that was removed",
    change:
      `delete from migration_backup_v10.invite_codes_backup where id = (select id from migration_backup_v10.invite_codes_backup order by id limit 1)`,
    fails: ["tables_backed_up", "integrity_passes"],
    says: /public\.invite_codes: expected \d+ rows/,
  },
  {
    title: "an edited function text",
    change:
      `update migration_backup_v10.objects_backup set definition = definition || ' ' where kind = 'function' and name = 'is_coordinator'`,
    fails: ["functions_saved", "integrity_passes", "metadata_as_expected"],
    says: /changed: public\.is_coordinator/,
  },
  {
    title: "a function that was taken out",
    change: `delete from migration_backup_v10.objects_backup where kind = 'function' and name = 'use_invite_code'`,
    fails: ["functions_saved", "integrity_passes", "metadata_as_expected"],
    says: /missing: public\.use_invite_code/,
  },
  {
    title: "an index that was taken out",
    change:
      `delete from migration_backup_v10.objects_backup where kind = 'index' and name = 'idx_invite_codes_coordinator'`,
    fails: ["indexes_documented", "integrity_passes", "metadata_as_expected"],
    says: /missing: public\.idx_invite_codes_coordinator/,
  },
  {
    title: "an edited policy",
    change:
      `update migration_backup_v10.objects_backup set definition = replace(definition, 'restrictive', 'permissive') where kind = 'policy'`,
    fails: ["policies_preserved", "integrity_passes", "metadata_as_expected"],
    says: /changed: "Only coordinators hand out invite codes"/,
  },
  {
    title: "something that ties the backup to the live schema",
    change:
      `alter table migration_backup_v10.profiles_backup alter column id set default public.create_user_profile(null, null, null)`,
    fails: ["integrity_passes"],
    says: /create_user_profile/,
  },
  {
    title: "a count in the metadata",
    change: `update migration_backup_v10.backup_metadata set policies_backed_up = 0`,
    fails: ["integrity_passes", "metadata_as_expected"],
    says: /metadata: expected/,
  },
  {
    title: "emptied metadata",
    change: `delete from migration_backup_v10.backup_metadata`,
    fails: allItems,
    says: /found 0/,
  },
  {
    title: "a lost manifest",
    change: `alter table migration_backup_v10.backup_metadata drop column manifest`,
    fails: allItems,
    says: /^nothing of the backup could be checked; catalog: .*manifest/,
  },
  {
    title: "the lost order of the objects",
    change: `drop table migration_backup_v10.dependencies_backup`,
    fails: allItems,
    says: /catalog: .*migration_backup_v10\.dependencies_backup/,
  },
  {
    title: "lost objects",
    change: `drop table migration_backup_v10.objects_backup cascade`,
    fails: allItems,
    says: /verification: /,
  },
  {
    title: "a column of the recorded objects that is gone",
    change: `alter table migration_backup_v10.objects_backup drop column in_plan cascade`,
    fails: allItems,
    says: /catalog: .*in_plan/,
  },
  {
    title: "a verification that was made to say OK",
    change:
      `create or replace function migration_backup_v10.verify_backup_integrity() returns table (check_name text, status text, details text) language sql as $$ values ('metadata', 'OK', 'fine') $$`,
    fails: allItems,
    says: /verification/,
  },
  {
    title: "a schema that was dropped",
    change: `drop schema migration_backup_v10 cascade`,
    fails: ["backup_there"],
    says: /^there is no schema migration_backup_v10: .* take the backup again \(POST \/v1\/backups\)$/,
  },
];

test.for(tampering.map((tamper) => [tamper.title, tamper] as const))(
  "%s fails its own items, and the migration does not run",
  async ([, { change, fails, says }], { example: { sql } }) => {
    await backUp(sql, "v10", examplePlan);
    await sql.unsafe(change);
    const failed = (await checklist(sql)).filter(({ passed }) => !passed);
    expect(failed.map(({ item }) => item)).toEqual(fails);
    expect(failed.map(({ details }) => details).join("\n")).toMatch(says);
    expect(failed.map(({ details }) => details)).not.toContainEqual(expect.stringContaining("metadata says so"));
    for (const { details } of failed) expect(details).not.toMatch(/^live .*: as saved$/);
    const rejection = await assertReady(sql).catch((error) => error);
    expect(rejection).toMatchObject({ code: "MG012" });
    for (const { details } of failed) expect(rejection.message).toContain(details);
  },
);

test("a backup whose schema was dropped or renamed has one failed item for that, until what it says is done", async ({ example: { sql } }) => {
  const open = async () => (await checklist(sql)).filter(({ passed }) => !passed).map(({ item }) => item);
  await backUp(sql, "v10", examplePlan);
  await sql`alter schema migration_backup_v10 rename to elsewhere`;
  expect((await checklist(sql)).map(({ item }) => item)).toEqual(["backup_there"]);
  await sql`alter schema elsewhere rename to migration_backup_v10`;
  expect(await open()).toEqual([]);
  await sql`drop schema migration_backup_v10 cascade`;
  expect(await open()).toEqual(["backup_there"]);
  await backUp(sql, "v10", examplePlan);
  expect(await open()).toEqual([]);
  await sql`select migration_guard.confirm_backup('v10', 'done', 'test')`;
  await sql`drop schema migration_backup_v10 cascade`;
  expect(await open()).toEqual(["backup_there", "not_signed_off"]);
});

test("a backup is ready again once the damage is undone", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`update migration_backup_v10.profiles_backup set email = email || 'x'`;
  await expect(assertReady(sql)).rejects.toMatchObject({ code: "MG012" });
  await sql`update migration_backup_v10.profiles_backup set email = left(email, -1)`;
  await assertReady(sql);
});

test("assert_ready as the first line of a migration keeps the rest of it from running", async ({ example: { sql } }) => {
  const migration = `
    select migration_guard.assert_ready('v10.0');
    alter table public.coordinator_notes rename to curator_notes;`;
  const renamed = async () =>
    (await sql`select to_regclass('public.curator_notes') is not null as renamed`)[0]!.renamed;

  await expect(sql.begin((sql) => sql.unsafe(migration))).rejects.toMatchObject({ code: "MG012" });
  expect(await renamed()).toBe(false);

  await backUp(sql, "v10", examplePlan);
  await sql`update migration_backup_v10.backup_metadata set rows_backed_up = 0`;
  await expect(sql.begin((sql) => sql.unsafe(migration))).rejects.toMatchObject({ code: "MG012" });
  expect(await renamed()).toBe(false);
});

test("assert_ready lets a migration run whose backup is whole", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql.begin((sql) =>
    sql.unsafe(`
      select migration_guard.assert_ready('v10.0');
      alter table public.coordinator_notes rename to curator_notes;`)
  );
  expect(await sql`select to_regclass('public.curator_notes') is not null as renamed`).toEqual([{ renamed: true }]);
});

test("a version without a backup has no checklist, and is not ready", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await expect(sql`select * from migration_guard_api.get_checklist('v10.1')`).rejects.toMatchObject({ code: "MG005" });
  await expect(sql`select migration_guard.assert_ready('v10.1')`).rejects.toMatchObject({
    code: "MG012",
    message: expect.stringContaining("v10.1"),
  });
});

test("a plan of tables alone passes the items that it has nothing for", async ({ database: { sql } }) => {
  await sql`create table public.kept (id int)`;
  await backUp(sql, "v10", { tables: ["kept"] });
  expect((await checklist(sql)).filter(({ passed }) => !passed)).toEqual([]);
  await sql`update migration_backup_v10.backup_metadata set functions_backed_up = 1`;
  const failed = (await checklist(sql)).filter(({ passed }) => !passed).map(({ item }) => item);
  expect(failed).toContain("functions_saved");
});

// The sign-off

test("the first sign-off stands, whoever says it again", async ({ example: { sql } }) => {
  const confirm = async (note: string, actor: string) => {
    const [backup] = await sql`
      select state, confirmed_at, confirmed_by, confirmation_note
      from migration_guard_api.confirm_backup('v10', ${note}, ${actor})`;
    return backup!;
  };
  await backUp(sql, "v10", examplePlan);
  const first = await confirm("All green since Monday.", "alice");
  expect(first).toMatchObject({
    confirmed_by: "alice",
    confirmation_note: "All green since Monday.",
    state: "migrated",
  });
  expect(first.confirmed_at).toBeInstanceOf(Date);
  expect(await confirm("Me too.", "bob")).toEqual(first);
});

test("a backup that the last verification did not find whole makes the migration wait for another", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  const failed = async () =>
    (await checklist(sql)).filter(({ required, passed }) => required && !passed).map(({ item }) => item);
  await sql`select migration_guard.enqueue_verification('v10', 'test', null, ${"0".repeat(64)})`;
  await work(sql);
  expect(await failed()).toEqual(["last_verification_passed"]);
  await expect(sql`select migration_guard.assert_ready('v10')`).rejects.toThrow(
    /The last verification .*verify the backup again/,
  );
  await verify(sql, "v10");
  expect(await failed()).toEqual([]);
});

test("what is gone is not signed off: its exports may be all that is left", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  const confirm = () => sql`select state from migration_guard_api.confirm_backup('v10', 'All green.', 'alice')`;
  await sql`alter schema migration_backup_v10 rename to elsewhere`;
  await expect(confirm()).rejects.toMatchObject({ code: "MG019" });
  await sql`alter schema elsewhere rename to migration_backup_v10`;
  const [first] = await confirm();
  await sql`drop schema migration_backup_v10 cascade`;
  // It was signed off before.
  expect(await confirm()).toEqual([{ state: "missing" }]);
  expect(first).toEqual({ state: "migrated" });
});

test("a rollback withdraws the sign-off of what it undoes, so that the migration can be made again", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  const confirm = (note: string) => sql`select migration_guard_api.confirm_backup('v10', ${note}, 'alice')`;
  const signedOff = async () => [
    ...await sql`select state, confirmed_by, confirmation_note from migration_guard_api.get_backup('v10')`,
  ];
  await sql`alter table public.profiles rename to people`;
  await confirm("All green.");
  await rollBack(sql, "v10", { data: "keep" });
  expect(await signedOff()).toEqual([{ state: "rolled_back", confirmed_by: null, confirmation_note: null }]);
  expect((await checklist(sql)).filter(({ passed }) => !passed)).toEqual([]);
  expect([...await sql`select migration_guard.assert_ready('v10')`]).toEqual([{ assert_ready: "Ready for v10." }]);
  await sql`alter table public.profiles rename to people`;
  await confirm("Now it is.");
  expect(await signedOff()).toEqual([{ state: "migrated", confirmed_by: "alice", confirmation_note: "Now it is." }]);
});

test("a rollback that has nothing to do leaves the sign-off", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`update public.profiles set name = 'as the migration wants it'`;
  await sql`select migration_guard_api.confirm_backup('v10', 'Only rows were changed.', 'alice')`;
  await rollBack(sql, "v10", { data: "keep" });
  expect([...await sql`select confirmed_by, confirmation_note from migration_guard_api.get_backup('v10')`]).toEqual([
    { confirmed_by: "alice", confirmation_note: "Only rows were changed." },
  ]);
});

describe("a sign-off of what is about to be undone is refused", () => {
  const enqueueRollback = async (sql: postgres.Sql) => {
    const { plan_hash } = await readPlan(sql, "v10", { data: "keep" });
    await sql`select migration_guard.enqueue_rollback('v10', ${plan_hash}, '{"data": "keep"}', false, 'test')`;
  };
  const confirm = (sql: postgres.Sql) => sql`select migration_guard_api.confirm_backup('v10', 'All green.', 'alice')`;
  const underWay = { code: "MG010", message: expect.stringContaining("rollback") };
  const unsigned = [{ state: "rolled_back", confirmed_by: null }];
  const signedOff = async (sql: postgres.Sql) => [
    ...await sql`select state, confirmed_by from migration_guard_api.get_backup('v10')`,
  ];

  test("while the rollback waits, and while it runs", async ({ example }) => {
    const { sql } = example;
    await backUp(sql, "v10", examplePlan);
    await sql`alter table public.profiles rename to people`;
    await enqueueRollback(sql);
    await expect(confirm(sql)).rejects.toMatchObject(underWay);

    const { release } = await lockTable(example.connect(), "public.people");
    const working = work(example.connect());
    await heldJob(sql);
    await sql`set lock_timeout = '1ms'`;
    await expect(confirm(sql)).rejects.toMatchObject(underWay);
    await release();
    await working;
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
    expect(await signedOff(sql)).toEqual(unsigned);
  });

  test("when the rollback comes between the look for it and the sign-off", async ({ example }) => {
    const { sql } = example;
    const [admin, holder] = [example.connect(superuser), example.connect()];
    await backUp(sql, "v10", examplePlan);
    await sql`alter table public.profiles rename to people`;
    const waiting = (count: number) =>
      until(async () => {
        const held =
          await admin`select from pg_locks where not granted and relation = 'migration_guard.backups'::regclass`;
        return held.length === count;
      });
    // Whoever writes to the registry waits.
    await holder.unsafe("begin; lock table migration_guard.backups in share mode").simple();
    const confirming = expect(confirm(example.connect())).rejects.toMatchObject(underWay);
    await waiting(1);
    await enqueueRollback(sql);
    const working = work(sql);
    await waiting(2);
    await holder`commit`;
    await working;
    await confirming;
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
    expect(await signedOff(sql)).toEqual(unsigned);
  });
});

test.for([[null], [""], ["   "], ["x".repeat(2001)]])(
  "a sign-off with the note %j is refused",
  async ([note], { example: { sql } }) => {
    await backUp(sql, "v10", examplePlan);
    await expect(sql`select migration_guard_api.confirm_backup('v10', ${note!}, 'alice')`)
      .rejects.toMatchObject({ code: "MG003" });
    expect(await sql`select confirmed_at from migration_guard_api.get_backup('v10')`).toEqual([{ confirmed_at: null }]);
  },
);

test("there is nothing to sign off without a backup", async ({ example: { sql } }) => {
  await expect(sql`select migration_guard_api.confirm_backup('v10', 'note', 'alice')`)
    .rejects.toMatchObject({ code: "MG005" });
});
