import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob, verify, work } from "../support/backup.ts";
import { deleteBackup, makeRemovable, planCleanup, schema } from "../support/cleanup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";
import { heldJob } from "../support/held-job.ts";
import { until } from "../support/until.ts";

type Backup = {
  id: string;
  schema_name: string;
  trashed_at: Date | null;
  trashed_by: string | null;
  purge_after: Date | null;
  removed_at: Date | null;
  removed_by: string | null;
};

const newest = async (sql: postgres.Sql) =>
  (await sql<Backup[]>`select * from migration_guard.backups order by created_at desc limit 1`)[0]!;
const exists = async (sql: postgres.Sql, name: string) =>
  (await sql`select to_regnamespace(${name}) is not null as exists`)[0]!.exists;
const restore = (sql: postgres.Sql, id: string | null = null) =>
  sql`select * from migration_guard_api.restore_from_trash('v10', 'alice', ${id})`;

/** Has the backup of the example go to the trash, for a day unless it is said otherwise. */
async function trash(sql: postgres.Sql, trash_hours = 24): Promise<Backup> {
  await makeRemovable(sql, "v10", { trash_hours });
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
  return newest(sql);
}

/** Lets its time in the trash be over. */
const letExpire = (sql: postgres.Sql) =>
  sql`update migration_guard.backups set purge_after = now() - interval '1 second' where trashed_at is not null and removed_at is null`;

/** Names and rows of all that a backup schema holds. */
async function contents(sql: postgres.Sql, name: string): Promise<unknown> {
  const rows = await sql<{ name: string; kind: string }[]>`
    select c.relname as name, c.relkind::text as kind from pg_class as c where c.relnamespace = to_regnamespace(${name}) order by 1`;
  const functions = await sql`
    select p.proname, md5(p.prosrc) as source from pg_proc as p where p.pronamespace = to_regnamespace(${name}) order by 1`;
  const tables = rows.filter(({ kind }) => kind === "r");
  const checksums = await Promise.all(
    tables.map((table) =>
      sql.unsafe(`select md5(string_agg(t::text, ',' order by t::text)) from ${name}."${table.name}" as t`)
    ),
  );
  return [[...rows], [...functions], checksums.map(([row]) => row!.md5)];
}

test("a cleanup renames the schema, closes it, and says until when it can be undone", async ({ example: { sql } }) => {
  await makeRemovable(sql, "v10", { trash_hours: 36 });
  await sql.unsafe(`
    grant usage on schema ${schema} to anon; grant select on all tables in schema ${schema} to anon;
    grant execute on all functions in schema ${schema} to public`).simple();
  const before = await contents(sql, schema);
  const { token, trash_hours } = await planCleanup(sql);
  expect(trash_hours).toBe(36);
  await deleteBackup(sql, token);
  await work(sql);

  const backup = await newest(sql);
  expect(backup.schema_name).toBe(`migration_trash_v10_${backup.id.slice(0, 8)}`);
  expect(backup).toMatchObject({ trashed_by: "alice", removed_at: null });
  expect(Number(backup.purge_after) - Number(backup.trashed_at)).toBeCloseTo(36 * 3600 * 1000, -3);
  const { result } = await lastJob(sql);
  expect(result).toMatchObject({ schema, removed: false, trash_schema: backup.schema_name });
  expect(new Date(result.purge_after as string)).toEqual(backup.purge_after);
  expect(await exists(sql, schema)).toBe(false);
  expect(await contents(sql, backup.schema_name)).toEqual(before);
  const rights = await sql`
    select c.relname as name from pg_class as c, aclexplode(c.relacl) as a
    where c.relnamespace = ${backup.schema_name}::regnamespace and a.grantee <> c.relowner
    union all
    select n.nspname from pg_namespace as n, aclexplode(n.nspacl) as a where n.nspname = ${backup.schema_name} and a.grantee <> n.nspowner
    union all
    select p.proname from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
    where p.pronamespace = ${backup.schema_name}::regnamespace and a.grantee <> p.proowner`;
  expect([...rights]).toEqual([]);
});

test("what is in the trash is listed as such, and is no backup for anything else", async ({ example: { sql } }) => {
  const backup = await trash(sql);
  expect(await sql`select version, state, trashed_by, purge_after from migration_guard_api.list_backups()`).toEqual([
    { version: "v10.0", state: "trashed", trashed_by: "alice", purge_after: backup.purge_after },
  ]);
  const says = {
    code: "MG005",
    message: expect.stringContaining("one in the trash, which restore-from-trash brings back until"),
  };
  await expect(sql`select migration_guard_api.get_backup('v10')`).rejects.toMatchObject(says);
  await expect(sql`select migration_guard_api.verify_backup('v10', 'alice')`).rejects.toMatchObject(says);
  await expect(sql`select migration_guard_api.plan_rollback('v10', '{}', 'alice')`).rejects.toMatchObject(says);
  await expect(planCleanup(sql)).rejects.toMatchObject(says);
  await expect(sql`select migration_guard.assert_ready('v10')`).rejects.toMatchObject({ code: "MG012" });
  const plan = { schema: backup.schema_name, tables: "*" };
  await expect(sql`select migration_guard.put_plan('v11', ${sql.json(plan)}, 'alice')`).rejects.toMatchObject({
    code: "MG002",
  });
  const [counted] = await sql`
    select value from migration_guard.metrics() where metric = 'migration_guard_backups' and labels = '{"state": "trashed"}'`;
  expect(counted).toEqual({ value: 1 });
});

test("restored, a backup is what it was, verifies, and leads back", async ({ example: { sql } }) => {
  await makeRemovable(sql, "v10", { trash_hours: 1 });
  const [before] = await sql`select to_jsonb(b) as backup from migration_guard.backups as b`;
  const held = await contents(sql, schema);
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await work(sql);

  expect(await restore(sql)).toEqual([
    expect.objectContaining({ version: "v10.0", schema, trashed_at: null, purge_after: null }),
  ]);
  const [after] = await sql`select to_jsonb(b) as backup from migration_guard.backups as b`;
  expect(after).toEqual(before);
  expect(await contents(sql, schema)).toEqual(held);
  expect([...(await verify(sql, "v10")).values()].filter(({ status }) => status !== "OK")).toEqual([]);
  const [plan] = await sql`select plan_hash, possible from migration_guard_api.plan_rollback('v10', '{}', 'alice')`;
  await sql`select migration_guard_api.roll_back('v10', ${plan!.plan_hash}, '{}', false, 'alice')`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
  // Nothing is left that would be dropped later, and what was cleaned up once can be cleaned up again.
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await work(sql);
  expect(await newest(sql)).toMatchObject({ trashed_by: "alice", removed_at: null });
});

test("a worker drops what has been in the trash for long enough, and nothing before", async ({ example: { sql } }) => {
  const backup = await trash(sql);
  await work(sql);
  expect(await exists(sql, backup.schema_name)).toBe(true);
  await letExpire(sql);
  await work(sql);
  expect(await exists(sql, backup.schema_name)).toBe(false);
  expect(await newest(sql)).toMatchObject({ removed_at: expect.any(Date), removed_by: "alice" });
  const [job] =
    await sql`select kind, status, actor, result ->> 'removed' as removed from migration_guard.jobs order by number desc limit 1`;
  expect(job).toEqual({ kind: "purge", status: "succeeded", actor: "migration_guard", removed: "true" });
  await expect(restore(sql)).rejects.toMatchObject({ code: "MG005" });
  await work(sql);
  expect(await sql`select from migration_guard.jobs where kind = 'purge'`).toHaveLength(1);
});

test("a later backup of the version and one in the trash leave each other alone", async ({ example: { sql } }) => {
  const first = await trash(sql);
  await backUp(sql, "v10", examplePlan);
  await expect(restore(sql)).rejects.toMatchObject({
    code: "MG009",
    message: expect.stringMatching(/drop that schema; otherwise clean that backup up first\.$/),
  });
  expect(await sql`select state from migration_guard_api.list_backups() order by state`).toEqual([{ state: "fresh" }, {
    state: "trashed",
  }]);
  await letExpire(sql);
  await work(sql);
  expect(await exists(sql, first.schema_name)).toBe(false);
  expect(await exists(sql, schema)).toBe(true);
  expect([...(await verify(sql, "v10")).values()].filter(({ status }) => status !== "OK")).toEqual([]);
});

test("of two in the trash an older one comes back where it is named", async ({ example: { sql } }) => {
  const first = await trash(sql);
  const second = await trash(sql);
  await expect(restore(sql, "00000000-0000-4000-8000-000000000000")).rejects.toMatchObject({ code: "MG005" });
  expect(await restore(sql, first.id)).toEqual([expect.objectContaining({ backup_id: first.id, schema })]);
  expect([...(await verify(sql, "v10")).values()].filter(({ status }) => status !== "OK")).toEqual([]);
  const trail = await sql`
    select parameters from migration_guard.audit_log where action = 'restore_from_trash'`;
  expect([...trail]).toEqual([{ parameters: { backup_id: first.id } }]);
  // The other one waits for its turn.
  await expect(restore(sql, first.id)).rejects.toMatchObject({ code: "MG005" });
  await expect(restore(sql)).rejects.toMatchObject({ code: "MG009" });
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await work(sql);
  expect(await restore(sql, second.id)).toEqual([expect.objectContaining({ backup_id: second.id, schema })]);
});

test.for<[string, { tables: string[] } | null]>([["none", null], ["one of other objects", {
  tables: ["nutrition_targets"],
}]])(
  "where the version has %s now, the plan that the backup was taken by comes back with it",
  async ([, other], { example: { sql } }) => {
    await trash(sql);
    const plan = async () => (await sql`select * from migration_guard_api.get_plan('v10')`)[0]!;
    const before = await plan();
    await sql`select migration_guard_api.delete_plan('v10', 'bob')`;
    if (other) await sql`select migration_guard_api.put_plan('v10', ${sql.json(other)}, 'bob')`;
    await sql`alter table public.coordinator_notes rename to curator_notes`;
    await restore(sql);
    const restored = { ...before, actor: "alice", created_at: expect.any(Date), updated_at: expect.any(Date) };
    expect(await plan()).toEqual(restored);
    const [entry] = await sql`select parameters from migration_guard.audit_log where action = 'restore_from_trash'`;
    expect(entry!.parameters).toMatchObject({ plan_put_back: true, ...(other ? { replaced_plan: other } : {}) });
    const [{ possible }] = await sql`
      select possible from migration_guard_api.plan_rollback('v10', '{}', 'alice')` as [{ possible: boolean }];
    expect(possible).toBe(true);
  },
);

test("a plan that names the same stays as it is when the backup comes back", async ({ example: { sql } }) => {
  await trash(sql);
  await sql`select migration_guard_api.put_plan('v10', ${sql.json({ ...examplePlan, title: "Later" })}, 'bob')`;
  await restore(sql);
  expect(await sql`select title, actor from migration_guard_api.get_plan('v10')`).toEqual([{
    title: "Later",
    actor: "bob",
  }]);
});

/** Does something in a transaction, and has a restore wait for that before it is committed. */
async function restoreWhile({ sql, connect }: TestDatabase, change: (other: postgres.Sql) => Promise<unknown>) {
  const [other, observer] = [connect(), connect()];
  await other`begin`;
  await change(other);
  const restored = restore(sql).execute();
  await until(async () =>
    (await observer`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
      .length > 0
  );
  await other`commit`;
  await restored;
}
const removePlan = (sql: postgres.Sql) => sql`select migration_guard_api.delete_plan('v10', 'bob')`;
const putPlan = (sql: postgres.Sql, plan: postgres.JSONValue) =>
  sql`select migration_guard_api.put_plan('v10', ${sql.json(plan)}, 'bob')`;
const shownPlan = (sql: postgres.Sql) => sql`select tables, title, actor from migration_guard_api.get_plan('v10')`;

test("a plan that is stored for the first time while the backup comes back is waited for, and stays or is replaced", async ({ example }) => {
  const { sql } = example;
  await trash(sql);
  await removePlan(sql);
  await restoreWhile(example, (other) => putPlan(other, { ...examplePlan, title: "Later" }));
  expect(await shownPlan(sql)).toEqual([{ tables: examplePlan.tables, title: "Later", actor: "bob" }]);

  await deleteBackup(sql, (await planCleanup(sql)).token);
  await work(sql);
  await removePlan(sql);
  await restoreWhile(example, (other) => putPlan(other, { tables: ["nutrition_targets"] }));
  expect(await shownPlan(sql)).toEqual([{ tables: examplePlan.tables, title: examplePlan.title, actor: "alice" }]);
  const trail = await sql`
    select parameters from migration_guard.audit_log where action = 'restore_from_trash' order by id`;
  expect(trail[0]!.parameters).not.toHaveProperty("plan_put_back");
  expect(trail[1]!.parameters).toMatchObject({ plan_put_back: true, replaced_plan: { tables: ["nutrition_targets"] } });
});

test("a plan that is removed while the backup comes back is put back", async ({ example }) => {
  const { sql } = example;
  await trash(sql);
  await restoreWhile(example, removePlan);
  expect(await shownPlan(sql)).toEqual([{ tables: examplePlan.tables, title: examplePlan.title, actor: "alice" }]);
});

test("a plan that somebody holds for long keeps the backup in the trash, and that is said", async ({ example: { sql, connect } }) => {
  await trash(sql);
  const other = connect();
  await other`begin`;
  await putPlan(other, { ...examplePlan, title: "Later" });
  await expect(restore(sql)).rejects.toMatchObject({
    code: "MG020",
    message: expect.stringContaining("somebody changes its plan"),
  });
  await other`rollback`;
  await restore(sql);
});

test("rights to columns, and those that were passed on, are found and go with the cleanup", async ({ example: { sql } }) => {
  await makeRemovable(sql, "v10", { trash_hours: 1 });
  await sql.unsafe(`
    grant usage on schema ${schema} to anon, authenticated;
    grant select (email), update (name) on ${schema}.profiles_backup to anon;
    grant select on ${schema}.invite_codes_backup to authenticated with grant option;
    set role authenticated;
    grant select on ${schema}.invite_codes_backup to anon;
    reset role`).simple();
  const closed = (await verify(sql, "v10")).get("closed")!;
  expect(closed.status).toBe("FAIL");
  for (const right of ["SELECT (email)", "UPDATE (name)"]) {
    expect(closed.details).toContain(`${right} on table ${schema}.profiles_backup to anon`);
  }
  await sql`update migration_guard.backups set verified_ok = true`;
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
  const left = await sql`
    select c.relname from pg_class as c left join pg_attribute as a on a.attrelid = c.oid
    cross join lateral aclexplode(c.relacl || a.attacl) as g
    where c.relnamespace = ${(await newest(sql)).schema_name}::regnamespace and g.grantee <> c.relowner`;
  expect([...left]).toEqual([]);
});

test("of two in the trash the last comes back, and each goes when its own time is over", async ({ example: { sql } }) => {
  const first = await trash(sql);
  const second = await trash(sql);
  expect(second.schema_name).not.toBe(first.schema_name);
  await sql`update migration_guard.backups set purge_after = now() where id = ${first.id}`;
  await work(sql);
  expect(await exists(sql, first.schema_name)).toBe(false);
  await restore(sql);
  expect(await sql`select id from migration_guard.backups where trashed_at is null and removed_at is null`).toEqual([{
    id: second.id,
  }]);
});

test("what depends on it, or was put into it, keeps it from being dropped until it is gone", async ({ example: { sql } }) => {
  const { schema_name } = await trash(sql);
  await letExpire(sql);
  await sql.unsafe(`create view public.dependent as select email from ${schema_name}.profiles_backup`);
  await sql.unsafe(`create table ${schema_name}.precious (id int)`);
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "cleanup_refused" } });
  expect(await exists(sql, schema_name)).toBe(true);
  // It is not tried again at once, but after an hour.
  await work(sql);
  expect(await sql`select from migration_guard.jobs where kind = 'purge'`).toHaveLength(1);
  await sql.unsafe(`drop view public.dependent; drop table ${schema_name}.precious`).simple();
  await sql`update migration_guard.jobs set created_at = created_at - interval '61 minutes' where kind = 'purge'`;
  await work(sql);
  expect(await exists(sql, schema_name)).toBe(false);
});

test("what is put into the schema while it is on its way to the trash is not taken for a part of it", async ({ example: { sql } }) => {
  const { schema_name, id } = await trash(sql);
  await sql.unsafe(`create table ${schema_name}.precious (id int)`);
  await restore(sql);
  const [{ members }] = await sql`select members from migration_guard.backups where id = ${id}` as [
    { members: string[] },
  ];
  expect(members.filter((member) => member.includes("precious"))).toEqual([]);
  expect(members).toContain(`table ${schema}.profiles_backup`);
});

test("nothing automatic drops the backup of a migration that nobody has signed off", async ({ example: { sql } }) => {
  const { id, schema_name } = await trash(sql);
  await letExpire(sql);
  await expect(sql`update migration_guard.backups set confirmed_at = null, confirmed_by = null where id = ${id}`)
    .rejects.toMatchObject({ code: "23514", constraint_name: "trashed_when_confirmed" });
  // One that is not in the trash is none of a purge's business, whoever queues it.
  await sql`update migration_guard.jobs set created_at = now() - interval '2 hours'`;
  await restore(sql);
  await sql`select migration_guard.enqueue('purge', 'v10', 'mallory', ${sql.json({ backup_id: id })})`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({
    status: "succeeded",
    error: null,
    result: { removed: false, backup_id: id },
  });
  expect(await exists(sql, schema)).toBe(true);
  expect(await exists(sql, schema_name)).toBe(false);
});

test("a purge that is at work is waited for by no restore, and one that came too late drops nothing", async ({ example }) => {
  const { sql } = example;
  const { schema_name } = await trash(sql);
  await letExpire(sql);
  const other = example.connect();
  await other.unsafe(`begin; lock table ${schema_name}.profiles_backup in access share mode`).simple();
  const working = work(example.connect());
  await until(async () => (await heldJob(sql)).kind === "purge");
  await until(async () =>
    (await sql`select from pg_stat_activity where wait_event_type = 'Lock' and application_name like 'migration_guard%' or query like 'call%' and wait_event_type = 'Lock'`)
      .length > 0
  );
  await expect(restore(sql)).rejects.toMatchObject({ code: "MG020" });
  await other.unsafe("rollback");
  await working;
  expect(await exists(sql, schema_name)).toBe(false);
});

test("whoever reads a backup for long is named by the cleanup or the purge that wants it, and nobody else is", async ({ example }) => {
  const { sql, connect } = example;
  await makeRemovable(sql, "v10", { trash_hours: 24 });
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await connect().unsafe("begin; set application_name = 'app'; select from public.profiles; lock public.invite_codes")
    .simple();
  const reader = connect();
  const pid = async (name: string) => {
    await reader.unsafe(`begin; set application_name = 'report'; select from ${name}.tables_backup`).simple();
    return (await reader`select pg_backend_pid() as pid`)[0]!.pid;
  };
  const held = (name: string, by: number) =>
    new RegExp(`^${name}\\.tables_backup is locked by session ${by} \\(postgres, report\\) for \\d+ seconds$`);
  const by = await pid(schema);
  await work(sql);
  const { status, error } = await lastJob(sql);
  expect([status, error?.code]).toEqual(["failed", "lock_timeout"]);
  expect(error!.message.replace(/^.*in time: (.*)\. Nothing.*$/, "$1")).toMatch(held(schema, by));
  await reader`rollback`;

  await deleteBackup(sql, (await planCleanup(sql)).token);
  await work(sql);
  await letExpire(sql);
  await sql`select migration_guard.enqueue_due_purges()`;
  const { schema_name } = await newest(sql);
  const later = await pid(schema_name);
  await sql`select pg_sleep(1.5)`;
  const [{ holders }] = await sql`
    select migration_guard.lock_holders(j) as holders from migration_guard.jobs as j where j.kind = 'purge'` as [
    { holders: string },
  ];
  expect(holders).toMatch(held(schema_name, later));
});

test("where the schema is gone the trash says so, and forgets it when its time is over", async ({ example: { sql } }) => {
  const { schema_name } = await trash(sql);
  await sql.unsafe(`drop schema ${schema_name} cascade`);
  await expect(restore(sql)).rejects.toMatchObject({ code: "MG019" });
  expect(await sql`select state from migration_guard_api.list_backups()`).toEqual([{ state: "missing" }]);
  await letExpire(sql);
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", result: { removed: false, missing: true } });
  expect(await sql`select state from migration_guard_api.list_backups()`).toEqual([]);
  expect((await newest(sql)).removed_by).toContain("unknown");
});

test("a purge that comes after a restore has nothing to do, and calls nobody", async ({ example: { sql } }) => {
  const { schema_name } = await trash(sql);
  await letExpire(sql);
  await sql`select migration_guard.enqueue_due_purges()`;
  await restore(sql);
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null, result: { removed: false } });
  expect(await exists(sql, schema)).toBe(true);
  expect(await exists(sql, schema_name)).toBe(false);
});

test("a backup under way, or a schema in its place, keeps a backup in the trash", async ({ example: { sql } }) => {
  await trash(sql);
  await sql`select migration_guard.enqueue_backup('v10', 'alice')`;
  await expect(restore(sql)).rejects.toMatchObject({ code: "MG010" });
  await sql`select migration_guard.cancel_job(id, 'alice') from migration_guard.jobs where status = 'queued'`;
  await sql.unsafe(`create schema ${schema}`);
  await expect(restore(sql)).rejects.toMatchObject({
    code: "MG009",
    message: expect.stringMatching(/is no registered backup: .* drop it or rename it/),
  });
  await sql.unsafe(`drop schema ${schema}`);
  await restore(sql);
});

test("only an admin brings a backup back", async ({ example }: { example: TestDatabase }) => {
  const { sql } = example;
  await trash(sql);
  await sql`select migration_guard.put_key('carol', 'operator', 'alice')`;
  await expect(sql`select migration_guard_api.restore_from_trash('v10', 'carol')`).rejects.toMatchObject({
    code: "MG027",
  });
  await restore(sql);
  const trail = await sql`
    select actor, version, outcome from migration_guard.audit_log where action = 'restore_from_trash'`;
  expect([...trail]).toEqual([{ actor: "alice", version: "v10.0", outcome: "done" }]);
});

test.for([[-1], [8761], [1.5], ["24"], [true]])(
  "trash_hours %j is refused",
  async ([trash_hours], { example: { sql } }) => {
    await expect(
      sql`select migration_guard.put_plan('v10', ${sql.json({ ...examplePlan, trash_hours } as never)}, 'alice')`,
    )
      .rejects.toMatchObject({ code: "MG002", message: expect.stringContaining("trash_hours") });
  },
);
