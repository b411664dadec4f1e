import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob, work } from "../support/backup.ts";
import { blocked, deleteBackup, type Guard, makeRemovable, planCleanup, schema } from "../support/cleanup.ts";
import { test } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";
import { until } from "../support/until.ts";

const twoKeys = { two_keys: true };
const reason = "The customer asked for erasure.";

/** The guards of a refusal. */
async function refusal(request: Promise<unknown>, code = "MG013"): Promise<Guard[]> {
  const error = await request.then(() => undefined, (error) => error);
  expect(error).toMatchObject({ code });
  return JSON.parse(error.detail).guards;
}
const drawRollback = async (sql: postgres.Sql, actor: string) =>
  (await sql<{ plan_hash: string }[]>`select plan_hash from migration_guard_api.plan_rollback('v10', '{}', ${actor})`)[
    0
  ]!.plan_hash;
const rollBack = (sql: postgres.Sql, hash: string, actor: string, rehearse = false) =>
  sql`select * from migration_guard_api.roll_back('v10', ${hash}, '{}', ${rehearse}, ${actor})`;

test("the key that drew the token of a cleanup may not spend it, and another may", async ({ example: { sql } }) => {
  await makeRemovable(sql, "v10", twoKeys);
  const plan = await planCleanup(sql);
  expect(plan.two_keys).toBe(true);
  const guards = await refusal(deleteBackup(sql, plan.token));
  expect(blocked(guards)).toEqual(["second_key"]);
  expect(guards.at(-1)!.details).toContain("alice");
  await deleteBackup(sql, plan.token, { actor: "bob" });
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
});

test("the second key is asked for again where the backup goes", async ({ example: { sql } }) => {
  await makeRemovable(sql, "v10", twoKeys);
  await deleteBackup(sql, (await planCleanup(sql)).token, { actor: "bob" });
  await sql`update migration_guard.cleanup_tokens set actor = 'bob'`;
  await work(sql);
  const { error } = await lastJob(sql);
  expect(error).toMatchObject({ code: "cleanup_refused" });
  expect(blocked((error as unknown as { guards: Guard[] }).guards)).toEqual(["second_key"]);
});

test("the key that drew a rollback plan may rehearse it, and another must run it", async ({ example: { sql } }) => {
  await backUp(sql, "v10", { ...examplePlan, ...twoKeys });
  await sql`alter table public.coordinator_notes rename to curator_notes`;
  const hash = await drawRollback(sql, "alice");
  await rollBack(sql, hash, "alice", true);
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
  const guards = await refusal(rollBack(sql, hash, "alice"), "MG035");
  expect(guards).toMatchObject([{ guard: "second_key", passed: false, details: expect.stringContaining("alice") }]);
  expect(await sql`select from migration_guard.jobs where status = 'queued'`).toHaveLength(0);
  await rollBack(sql, hash, "bob");
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
  expect(await sql`select to_regclass('public.coordinator_notes') is not null as back`).toEqual([{ back: true }]);
});

test("a plan that nobody has drawn, or whoever runs it alone, is refused; drawn by both, either may run it", async ({ example: { sql } }) => {
  await backUp(sql, "v10", { ...examplePlan, ...twoKeys });
  await sql`alter table public.coordinator_notes rename to curator_notes`;
  const [plan] = await refusal(rollBack(sql, "0".repeat(64), "bob"), "MG035");
  expect(plan!.details).toContain("nobody");
  const hash = await drawRollback(sql, "alice");
  // To be refused is not to have drawn it.
  await refusal(rollBack(sql, hash, "alice"), "MG035");
  expect(await drawRollback(sql, "bob")).toBe(hash);
  await rollBack(sql, hash, "alice");
});

const twoKeyBackup = async (sql: postgres.Sql) => {
  await backUp(sql, "v10", { ...examplePlan, ...twoKeys });
  await sql`alter table public.coordinator_notes rename to curator_notes`;
};

test("what another key has drawn is good for one rollback, and not for the next", async ({ example: { sql } }) => {
  await twoKeyBackup(sql);
  const hash = await drawRollback(sql, "bob");
  await rollBack(sql, hash, "alice");
  await sql`select migration_guard_api.cancel_job(id, 'alice') from migration_guard.jobs where status = 'queued'`;
  const [guard] = await refusal(rollBack(sql, hash, "alice"), "MG035");
  expect(guard!.details).toContain("nobody");
  await drawRollback(sql, "alice");
  await refusal(rollBack(sql, hash, "alice"), "MG035");
  await rollBack(sql, hash, "bob");
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
});

test("what another key has drawn counts for a day, whoever draws it meanwhile", async ({ example: { sql } }) => {
  await twoKeyBackup(sql);
  const hash = await drawRollback(sql, "bob");
  await sql`
    update migration_guard.rollback_plans set drawn_by = jsonb_build_object('bob', now() - interval '24 hours 1 second')`;
  await drawRollback(sql, "alice");
  const [guard] = await refusal(rollBack(sql, hash, "alice"), "MG035");
  expect(guard!.details).not.toContain("bob");
  await drawRollback(sql, "bob");
  await rollBack(sql, hash, "alice");
});

test("whoever has run or rehearsed a plan has not drawn it by that", async ({ example: { sql } }) => {
  await twoKeyBackup(sql);
  const hash = await drawRollback(sql, "alice");
  await rollBack(sql, hash, "bob", true);
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
  await refusal(rollBack(sql, hash, "alice"), "MG035");
  await rollBack(sql, hash, "bob");
});

test("of two requests with one approval one is let through", async ({ example }) => {
  const { sql } = example;
  await twoKeyBackup(sql);
  const hash = await drawRollback(sql, "alice");
  const other = example.connect();
  const [{ pid }] = await other<[{ pid: number }]>`select pg_backend_pid() as pid`;
  const waiting = await sql.begin(async (first) => {
    await rollBack(first as unknown as postgres.Sql, hash, "bob");
    const second = other`select migration_guard.enqueue_rollback('v10', ${hash}, '{}', false, 'bob')`;
    const refused = expect(second).rejects.toMatchObject({ code: "MG035" });
    await until(async () => (await first`select from pg_locks where pid = ${pid} and not granted`).length > 0);
    return [refused];
  });
  await waiting[0];
});

test("where one key is enough, the one that drew the plan runs it", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  const plan = await planCleanup(sql);
  expect(plan.two_keys).toBe(false);
  await rollBack(sql, await drawRollback(sql, "alice"), "alice", true);
  await work(sql);
  await deleteBackup(sql, plan.token);
});

test("the rule of the backup counts, whatever its plan says later", async ({ example: { sql } }) => {
  await makeRemovable(sql, "v10", twoKeys);
  await sql`select migration_guard_api.put_plan('v10', ${sql.json({ ...examplePlan, two_keys: false })}, 'alice')`;
  expect(blocked(await refusal(deleteBackup(sql, (await planCleanup(sql)).token)))).toEqual(["second_key"]);
});

// Overrides

const earlySignOff = (sql: postgres.Sql) =>
  sql`update migration_guard.backups set confirmed_at = now() - interval '1 hour'`;

test("an admin overrides the retention, and the trail and the job say who and why", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await earlySignOff(sql);
  const { token } = await planCleanup(sql);
  expect(blocked(await refusal(deleteBackup(sql, token)))).toEqual(["retention_passed"]);
  await deleteBackup(sql, token, { override: { guard: "retention_passed", reason: `  ${reason}\n` } });
  const override = { guard: "retention_passed", reason, by: "alice" };
  expect(await sql`select parameters -> 'override' as override from migration_guard.jobs where kind = 'cleanup'`)
    .toEqual([{ override }]);
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null, result: { removed: true, override } });
  const [entry] = await sql`
    select actor, outcome, parameters -> 'override' as override from migration_guard.audit_log where action = 'cleanup'`;
  expect(entry).toMatchObject({ actor: "alice", outcome: "done", override: { guard: "retention_passed" } });
  expect(entry!.override.reason).toContain(reason);
});

test("an override does away with its guard and no other", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await earlySignOff(sql);
  await sql`update migration_guard.backups set verified_ok = false`;
  const { token } = await planCleanup(sql);
  const guards = await refusal(deleteBackup(sql, token, { override: { guard: "retention_passed", reason } }));
  expect(blocked(guards)).toEqual(["verified_recently", "retention_passed"]);
  expect(guards.find(({ guard }) => guard === "retention_passed")).toMatchObject({
    overridden: true,
    details: expect.stringContaining(reason),
  });
  expect(guards.filter(({ overridden }) => overridden)).toHaveLength(1);
});

test("what an override does not do, it does not do later: the job looks at the other guards again", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await earlySignOff(sql);
  await deleteBackup(sql, (await planCleanup(sql)).token, { override: { guard: "retention_passed", reason } });
  await sql`update migration_guard.backups set verified_ok = false`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "cleanup_refused" } });
  expect(await sql`select to_regnamespace(${schema}) is not null as there`).toEqual([{ there: true }]);
});

test.for([
  ["schema_is_a_backup"],
  ["no_job_under_way"],
  ["verified_recently"],
  ["migration_confirmed"],
  ["nothing_depends_on_it"],
  ["confirm_names_schema"],
  ["token_is_valid"],
  ["second_key"],
  ["nonsense"],
  [""],
])("the guard %j has no way around it", async ([guard], { example: { sql } }) => {
  await makeRemovable(sql);
  const { token } = await planCleanup(sql);
  await expect(deleteBackup(sql, token, { override: { guard, reason } })).rejects.toMatchObject({
    code: "MG003",
    message: expect.stringContaining("only retention_passed and export_verified can be overridden"),
  });
});

test.for<[string, unknown]>([
  ["a reason of nine characters", { guard: "retention_passed", reason: "too short" }],
  ["a reason of blanks", { guard: "retention_passed", reason: " ".repeat(20) }],
  ["a reason of no-break spaces", { guard: "retention_passed", reason: "\u00a0".repeat(20) }],
  ["a reason of nothing visible", {
    guard: "retention_passed",
    reason: "\u200b\u200d\u2060\ufeff\u00ad\u3164\u{e0041}".repeat(3),
  }],
  ["nine letters among what is not seen", {
    guard: "retention_passed",
    reason: "a\u200bb\u00a0c d\u2003e\u0001f\u061cg\u2800hi",
  }],
  ["a reason of 2,001 characters", { guard: "retention_passed", reason: "x".repeat(2001) }],
  ["no reason", { guard: "retention_passed" }],
  ["a reason that is no text", { guard: "retention_passed", reason: 1234567890 }],
  ["another field", { guard: "retention_passed", reason, force: true }],
  ["a list", [{ guard: "retention_passed", reason }]],
  ["a text", "retention_passed"],
])("an override with %s is refused", async ([, override], { example: { sql } }) => {
  await makeRemovable(sql);
  await expect(deleteBackup(sql, (await planCleanup(sql)).token, { override })).rejects.toMatchObject({
    code: "MG003",
  });
});

test("an override of a guard that the backup does not have is told", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await expect(deleteBackup(sql, (await planCleanup(sql)).token, { override: { guard: "export_verified", reason } }))
    .rejects.toMatchObject({ code: "MG003", message: "The plan of this backup asks for no guard export_verified." });
});

test("in SQL, too, an override is an admin's", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await earlySignOff(sql);
  await sql`select migration_guard.put_key('carol', 'operator', 'alice')`;
  const { token } = await planCleanup(sql);
  await expect(sql`
    select migration_guard.enqueue_cleanup('v10', ${schema}, ${token}, 'carol', null, ${
    sql.json({ guard: "retention_passed", reason })
  })`)
    .rejects.toMatchObject({ code: "MG027" });
});

test("the owner, who asks in SQL and names nobody, overrides as an admin does, and nobody by that name elsewhere", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await earlySignOff(sql);
  const [{ token }] = await sql<[{ token: string }]>`select token from migration_guard.plan_cleanup('v10')`;
  const override = { guard: "retention_passed", reason };
  await expect(deleteBackup(sql, token, { actor: "postgres", override })).rejects.toMatchObject({ code: "MG027" });
  await expect(sql`
    select migration_guard.enqueue_cleanup('v10', ${schema}, ${token}, null, null, ${sql.json(override)})`)
    .rejects.toMatchObject({ code: "MG027" });
  await sql`select migration_guard.enqueue_cleanup('v10', ${schema}, ${token}, override => ${sql.json(override)})`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({
    status: "succeeded",
    error: null,
    result: { removed: true, override: { ...override, by: "postgres" } },
  });
});

test("ages are measured by the database's clock alone", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await earlySignOff(sql);
  // Nothing that a session can set moves it.
  await sql`set timezone = 'Pacific/Kiritimati'`;
  await sql`set datestyle = 'German'`;
  expect(blocked((await planCleanup(sql)).guards)).toEqual(["retention_passed"]);
});
