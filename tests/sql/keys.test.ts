import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob, work } from "../support/backup.ts";
import { deleteBackup, makeRemovable, planCleanup } from "../support/cleanup.ts";
import { test as base, type TestDatabase } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";
import { until } from "../support/until.ts";

/** `test` with databases in which no key was given a role. */
const test = base.extend<{ example: TestDatabase; database: TestDatabase }>({
  example: async ({ example }, use) => {
    await example.sql`truncate migration_guard.key_roles`;
    await use(example);
  },
  database: async ({ database }, use) => {
    await database.sql`truncate migration_guard.key_roles`;
    await use(database);
  },
});

const put = (sql: postgres.Sql, name: string, role: string, actor = "default") =>
  sql`select * from migration_guard_api.put_key(${name}, ${role}, ${actor})`;
const remove = (sql: postgres.Sql, name: string, actor = "default") =>
  sql`select migration_guard_api.delete_key(${name}, ${actor})`;
const roleOf = async (sql: postgres.Sql, name: string) =>
  (await sql<[{ role: string }]>`select migration_guard_api.get_role(${name}) as role`)[0].role;
const required = (role: string, needed: string) => ({
  code: "MG027",
  detail: JSON.stringify({ role, required: needed }).replaceAll(":", ": ").replaceAll(",", ", "),
});

test("default and service_role are admins, and every other key reads, until they are given a role", async ({ database: { sql } }) => {
  expect(await Promise.all(["default", "service_role", "night_shift", ""].map((name) => roleOf(sql, name))))
    .toEqual(["admin", "admin", "viewer", "viewer"]);
  expect(await put(sql, "night_shift", "operator")).toEqual([{
    name: "night_shift",
    role: "operator",
    is_assigned: true,
    updated_at: expect.any(Date),
    updated_by: "default",
  }]);
  expect(await roleOf(sql, "night_shift")).toBe("operator");
  await remove(sql, "night_shift");
  expect(await roleOf(sql, "night_shift")).toBe("viewer");
  await expect(remove(sql, "night_shift")).rejects.toMatchObject({ code: "MG029" });
});

test("whoever is no admin is told which role would do, and changes no role", async ({ database: { sql } }) => {
  await put(sql, "night_shift", "operator");
  for (const [actor, role] of [["night_shift", "operator"], ["stranger", "viewer"]] as const) {
    await expect(put(sql, actor, "admin", actor)).rejects.toMatchObject(required(role, "admin"));
    await expect(remove(sql, "night_shift", actor)).rejects.toMatchObject(required(role, "admin"));
    await expect(sql`select * from migration_guard_api.list_keys('{}', ${actor})`).rejects.toMatchObject({
      code: "MG027",
    });
    await expect(sql`select * from migration_guard_api.get_key('x', ${actor})`).rejects.toMatchObject({
      code: "MG027",
    });
  }
  expect(await sql`select name, role from migration_guard.key_roles`).toEqual([
    { name: "night_shift", role: "operator" },
  ]);
});

const lastAdmin = { code: "MG028" };

test("an admin is lowered by another admin alone, so that there is one whose key exists", async ({ database: { sql } }) => {
  await put(sql, "alice", "admin");
  for (const name of ["default", "service_role", "alice"]) {
    await expect(put(sql, name, "operator", name)).rejects.toMatchObject(lastAdmin);
  }
  await expect(remove(sql, "alice", "alice")).rejects.toMatchObject(lastAdmin);
  await put(sql, "default", "operator", "alice");
  await put(sql, "service_role", "viewer", "alice");
  expect(await Promise.all(["default", "service_role", "alice"].map((name) => roleOf(sql, name))))
    .toEqual(["operator", "viewer", "admin"]);
  await expect(put(sql, "bob", "admin")).rejects.toMatchObject(required("operator", "admin"));
  // Without a row it is an admin again.
  await remove(sql, "default", "alice");
  await remove(sql, "alice");
  expect(await Promise.all(["default", "alice"].map((name) => roleOf(sql, name)))).toEqual(["admin", "viewer"]);
});

test("an admin that nobody has seen does not stand for one", async ({ database: { sql } }) => {
  await put(sql, "tpyo", "admin");
  await put(sql, "service_role", "viewer");
  await expect(put(sql, "default", "viewer")).rejects.toMatchObject(lastAdmin);
  expect(await roleOf(sql, "default")).toBe("admin");
});

test("a token that may be switched off is not the last admin", async ({ database: { sql } }) => {
  await put(sql, "service_role", "admin");
  await put(sql, "alice", "admin");
  await put(sql, "bob", "admin");
  await expect(put(sql, "default", "viewer", "service_role")).rejects.toMatchObject(lastAdmin);
  await remove(sql, "bob", "service_role");
  await put(sql, "default", "viewer", "alice");
  await expect(put(sql, "alice", "viewer", "service_role")).rejects.toMatchObject(lastAdmin);
  await expect(remove(sql, "alice", "service_role")).rejects.toMatchObject(lastAdmin);
  expect(await roleOf(sql, "alice")).toBe("admin");
});

test("an admin who is lowered while its call waits changes no role any more", async ({ database }) => {
  const { sql } = database;
  for (const name of ["alice", "bob", "carol"]) await put(sql, name, "admin");
  const calls = [
    (other: postgres.Sql) => put(other, "mallory", "admin", "bob"),
    (other: postgres.Sql) => remove(other, "carol", "bob"),
  ];
  for (const call of calls) {
    await put(sql, "bob", "admin");
    const other = database.connect();
    const [{ pid }] = await other<[{ pid: number }]>`select pg_backend_pid() as pid`;
    const waiting = await sql.begin(async (first) => {
      await put(first as unknown as postgres.Sql, "bob", "viewer", "alice");
      const refused = expect(call(other)).rejects.toMatchObject(required("viewer", "admin"));
      await until(async () => (await first`select from pg_locks where pid = ${pid} and not granted`).length > 0);
      return [refused];
    });
    await waiting[0];
  }
  expect(await Promise.all(["mallory", "carol"].map((name) => roleOf(sql, name)))).toEqual(["viewer", "admin"]);
});

test("a rollback or a cleanup is not run when its key is no admin any more", async ({ example: { sql } }) => {
  for (const name of ["test", "alice", "bob"]) await put(sql, name, "admin");
  await makeRemovable(sql);
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await put(sql, "alice", "operator");
  await work(sql);
  const refused = { status: "failed", error: { code: "role_required", role: "operator", required: "admin" } };
  expect(await lastJob(sql)).toMatchObject(refused);
  await put(sql, "alice", "admin");
  await sql`alter table public.coordinator_notes rename to curator_notes`;
  const [plan] = await sql`select plan_hash from migration_guard_api.plan_rollback('v10', '{}', 'bob')`;
  for (const rehearse of [true, false]) {
    await sql`select migration_guard_api.roll_back('v10', ${plan!.plan_hash}, '{}', ${rehearse}, 'alice')`;
    await put(sql, "alice", "operator");
    await work(sql);
    expect(await lastJob(sql)).toMatchObject(refused);
    await put(sql, "alice", "admin");
  }
  // Whoever owns the database and asks in SQL has no key.
  await sql`select migration_guard.enqueue_rollback('v10', ${plan!.plan_hash})`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
});

test.for([
  ["sb_secret_x", "viewer"],
  ["eyJhbGciOi", "viewer"],
  ["", "viewer"],
  ["x".repeat(65), "viewer"],
  [" sb_secret_x", "viewer"],
  ["a\nb", "viewer"],
  ["a\n", "viewer"],
  ["Alice", "viewer"],
  ["night shift", "viewer"],
  ["migration_guard", "viewer"],
  ["pg_cron", "operator"],
  ["postgres", "admin"],
  [null, "viewer"],
  ["a", "owner"],
  ["a", null],
])(
  "the role of a key %j %j is refused",
  async ([name, role], { database: { sql } }) => {
    await expect(put(sql, name!, role!)).rejects.toMatchObject({ code: "MG003" });
  },
);

const hash = "0".repeat(64);
const exportId = "v10.0-20260101T000000Z-00000000";

/** Each call of the API that wants more than a viewer, with the role that it wants. */
const calls: [needed: string, call: string][] = [
  ["operator", `put_plan('v10', '{"tables": ["profiles"]}', $1)`],
  ["operator", `delete_plan('v10', $1)`],
  ["operator", `derive_plan('v10', 'public', '[]', $1)`],
  ["operator", `preflight_plan('v10', $1)`],
  ["operator", `create_backup('v10', $1)`],
  ["operator", `verify_backup('v10', $1)`],
  ["operator", `confirm_backup('v10', 'note', $1)`],
  ["operator", `diff_backup('v10', 1, false, $1)`],
  ["operator", `diff_backup('v10', 1, null, $1)`],
  ["admin", `diff_backup('v10', 1, true, $1)`],
  ["operator", `plan_rollback('v10', '{}', $1)`],
  ["operator", `cancel_job('00000000-0000-4000-8000-000000000000', $1)`],
  ["admin", `roll_back('v10', '${hash}', '{}', false, $1)`],
  ["admin", `roll_back('v10', '${hash}', '{}', true, $1)`],
  ["admin", `plan_cleanup('v10', $1)`],
  ["admin", `delete_backup('v10', 'migration_backup_v10', 'token', $1)`],
  ["admin", `restore_from_trash('v10', $1)`],
  ["operator", `create_export('v10', 'supabase', '{}', $1)`],
  ["operator", `resume_export('${exportId}', $1)`],
  ["operator", `verify_export('${exportId}', false, $1)`],
  ["admin", `plan_export_removal('${exportId}', $1)`],
  ["admin", `delete_export('${exportId}', '${exportId}', 'token', $1)`],
  ["admin", `create_import('v10.0-20261129T113335Z-8f3a2b1c', 'v10', $1)`],
  ["admin", `list_keys('{}', $1)`],
  ["admin", `get_key('default', $1)`],
  ["admin", `put_key('x', 'admin', $1)`],
  ["admin", `delete_key('night_shift', $1)`],
  ["admin", `list_audit($1)`],
  ["admin", `verify_audit($1)`],
  ["admin", `get_audit_head($1)`],
];

/** What every key may call: it is given nothing that tells who asks, or asks for what a viewer may see. */
const forEverybody = [
  ...["get_readiness", "get_metrics", "list_plans", "get_plan", "list_names", "list_backups", "get_backup"],
  ...["get_checklist", "list_jobs", "get_job", "get_role", "take_webhooks", "record_webhook", "record_refusal"],
  ...["count_refusals", "admit_change", "list_exports", "get_export"],
];

test("the list of calls that want a role is whole", async ({ database: { sql } }) => {
  const functions = await sql<{ name: string }[]>`
    select proname as name from pg_proc where pronamespace = 'migration_guard_api'::regnamespace`;
  const listed = [...forEverybody, ...calls.map(([, call]) => call.replace(/\(.*/s, ""))];
  expect(functions.map(({ name }) => name).sort()).toEqual([...new Set(listed)].sort());
});

test("each call is refused to every lesser role before it looks at anything else, and changes nothing", async ({ database }) => {
  const { sql } = database;
  await put(sql, "night_shift", "operator");
  const rest = database.connect("authenticator");
  await rest`set role service_role`;
  for (const [needed, call] of calls) {
    for (const [actor, role] of [["night_shift", "operator"], ["watcher", "viewer"], [null, "viewer"]] as const) {
      if (role === needed) continue;
      const asked = rest.unsafe(`select * from migration_guard_api.${call}`, [actor]);
      await expect(asked, `${call} by ${actor}`).rejects.toMatchObject(required(role, needed));
    }
  }
  expect(await sql`select from migration_guard.jobs union all select from migration_guard.plans`).toHaveLength(0);
  // To the role that it wants it says something else, if anything.
  for (const [needed, call] of calls) {
    const actor = needed === "admin" ? "default" : "night_shift";
    const said = await rest.unsafe(`select * from migration_guard_api.${call}`, [actor]).catch((error) => error);
    expect(said.code, call).not.toBe("MG027");
  }
});

test("a cleanup's token is recorded with the key that asked for it", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`select from migration_guard_api.plan_cleanup('v10', 'default')`;
  expect(await sql`select actor from migration_guard.cleanup_tokens`).toEqual([{ actor: "default" }]);
});

test("values of rows are shown to an admin alone, whoever reads the job", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`update public.profiles set name = 'SECRET' where id = (select min(id::text)::uuid from public.profiles)`;
  await sql`select migration_guard_api.diff_backup('v10', 5, true, 'default')`;
  await work(sql);
  const { id, result } = await lastJob(sql);
  expect(JSON.stringify(result)).toContain("SECRET");
  await put(sql, "night_shift", "operator");
  const none = { inserted: [], updated: [], deleted: [] };
  for (const actor of ["watcher", null]) {
    const [job] = await sql`select result from migration_guard_api.get_job(${id}, ${actor})`;
    expect(JSON.stringify(job)).not.toContain("SECRET");
    const tables = (result.tables as object[]).map((table) => ({ ...table, samples: none }));
    expect(job!.result).toEqual({ ...result, tables, samples_hidden: true });
  }
  const [job] = await sql`select result from migration_guard_api.get_job(${id}, 'night_shift')`;
  const [listed] = await sql`select result from migration_guard_api.list_jobs('v10', 1, 'night_shift')`;
  expect(JSON.stringify([job, listed])).not.toContain("SECRET");
  expect(listed).toEqual(job);
  const { values_hidden, tables, ...rest } = job!.result;
  expect(values_hidden).toBe(true);
  expect(rest).toEqual({
    is_clean: result.is_clean,
    summary: result.summary,
    objects: result.objects,
    catalog: result.catalog,
  });
  const profiles = tables.find(({ table }: { table: string }) => table === "public.profiles");
  expect(profiles.samples).toEqual({ ...none, updated: [{ id: expect.any(String) }] });
  expect((await sql`select result from migration_guard_api.get_job(${id}, 'default')`)[0]!.result).toEqual(result);
});

test("the keys of rows that a rollback failed for are shown to an operator, and to a viewer not", async ({ example: { sql } }) => {
  await put(sql, "night_shift", "operator");
  await backUp(sql, "v10", examplePlan);
  const [job] = await sql`
    insert into migration_guard.jobs (kind, version, actor, status, finished_at, error)
    values ('rollback', 'v10.0', 'default', 'failed', now(), '{"code": "rows_violate_constraint", "message": "m", "keys": [{"email": "a@b.c"}]}')
    returning id`;
  const error = async (actor: string) =>
    (await sql`select error from migration_guard_api.get_job(${job!.id}, ${actor})`)[0]!.error;
  expect(await error("night_shift")).toMatchObject({ message: "m", keys: [{ email: "a@b.c" }] });
  const { keys, ...seen } = await error("watcher");
  expect(keys).toBeUndefined();
  expect(seen).toMatchObject({ code: "rows_violate_constraint", message: "m", keys_hidden: true });
});

test.for([
  [
    "a whole row of a table without a key",
    "email text, n int constraint few check (n < 10)",
    "drop constraint few",
    "('SECRET', 50)",
    {
      email: "SECRET",
      n: 50,
    },
  ],
  [
    "a value of a unique column",
    "id int primary key, n text constraint once unique",
    "drop constraint once",
    "(1, 'SECRET'), (2, 'SECRET')",
    {
      n: "SECRET",
    },
  ],
])(
  "%s that a rollback failed for is shown to an admin alone, which is recorded",
  async ([, columns, change, rows, key], { database: { sql } }) => {
    await sql.unsafe(`create schema app; create table app.t (${columns as string})`).simple();
    await backUp(sql, "v10", { schema: "app", tables: "*" });
    await sql.unsafe(`alter table app.t ${change as string}; insert into app.t values ${rows as string}`).simple();
    const [plan] = await sql`select plan_hash from migration_guard_api.plan_rollback('v10', '{}', 'default')`;
    await sql`select migration_guard_api.roll_back('v10', ${plan!.plan_hash}, '{}', false, 'default')`;
    await work(sql);
    const { id } = await lastJob(sql);
    await put(sql, "night_shift", "operator");
    const error = async (actor: string) =>
      (await sql`select error from migration_guard_api.get_job(${id}, ${actor})`)[0]!.error;
    for (const actor of ["night_shift", "watcher"]) {
      expect(JSON.stringify(await error(actor))).not.toContain("SECRET");
      expect(await error(actor)).toMatchObject({ code: "rows_violate_constraint", keys_hidden: true });
    }
    const readings = () => sql`select actor, job_id from migration_guard.audit_log where action = 'diff.values.read'`;
    expect([...await readings()]).toEqual([]);
    expect(await error("default")).toMatchObject({ keys: [key], keys_hold_values: true });
    expect([...await readings()]).toEqual([{ actor: "default", job_id: id }]);
  },
);

test("whoever is shown values of rows is recorded, of each job once an hour, and nobody else", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`select migration_guard_api.diff_backup('v10', 5, false, 'default')`;
  await sql`select migration_guard_api.diff_backup('v10', 5, true, 'default')`;
  const { id } = await lastJob(sql);
  const readings = async () => [
    ...await sql`
      select actor, version, job_id, outcome from migration_guard.audit_log where action = 'diff.values.read' order by id`,
  ];
  await sql`select migration_guard_api.get_job(${id}, 'default')`;
  await work(sql);
  expect(await readings()).toEqual([]);
  await put(sql, "night_shift", "operator");
  for (const actor of ["night_shift", null, "default"]) await sql`select migration_guard_api.get_job(${id}, ${actor})`;
  const reading = { actor: "default", version: "v10.0", job_id: id, outcome: "done" };
  expect(await readings()).toEqual([reading]);
  // Of the listed jobs one has values.
  for (const actor of ["night_shift", "default"]) await sql`select migration_guard_api.list_jobs('v10', 50, ${actor})`;
  expect(await readings()).toEqual([reading]);
  const letPass = () => sql`update migration_guard.value_readings set at = at - interval '1 hour'`;
  await letPass();
  await sql`select migration_guard_api.list_jobs('v10', 50, 'default')`;
  expect(await readings()).toEqual([reading, reading]);

  // A list is one reading, of all that it shows.
  await sql`select migration_guard_api.diff_backup('v10', 5, true, 'default')`;
  await work(sql);
  await letPass();
  for (let i = 0; i < 3; i++) await sql`select migration_guard_api.list_jobs(null, 50, 'default')`;
  const [newest] = await sql`
    select job_id, version, parameters from migration_guard.audit_log where action = 'diff.values.read' order by id desc`;
  expect(newest).toEqual({ job_id: null, version: "v10.0", parameters: { jobs: [id, (await lastJob(sql)).id] } });
  expect(await readings()).toHaveLength(3);
});
