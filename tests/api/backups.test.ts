import { setTimeout } from "node:timers/promises";
import type postgres from "postgres";
import { expect } from "vitest";
import { type Api, type CallOptions, test } from "../support/api.ts";
import { makeRemovable, schema } from "../support/cleanup.ts";
import { examplePlan } from "../support/example.ts";
import { heldJob, lockTable } from "../support/held-job.ts";
import { until } from "../support/until.ts";

async function takeBackup({ call }: Api, version = "v10.0", plan: object = examplePlan) {
  expect((await call("PUT", `/v1/plans/${version}`, { json: plan })).status).toBe(201);
  const backup = await call("POST", "/v1/backups", { json: { version }, wait: 60 });
  expect(backup).toMatchObject({ status: 200, json: { kind: "backup", status: "succeeded", error: null } });
  return backup.json;
}

test("a backup is taken, verified, listed, confirmed and cleaned up", async ({ freshApi }) => {
  const { call, database } = freshApi;
  const job = await takeBackup(freshApi);
  expect(job).toMatchObject({
    version: "v10.0",
    actor: "default",
    progress: { percent: 100 },
    result: { schema: "migration_backup_v10", tables_backed_up: 4, functions_backed_up: 4, enums_backed_up: 1 },
  });
  expect(job.finished_at).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$/);

  expect((await call("GET", "/v1/backups/v10")).json).toMatchObject({
    state: "fresh",
    verified_ok: null,
    verified_at: null,
    schema: "migration_backup_v10",
  });
  const verified = await call("POST", "/v1/backups/v10/verify", { wait: 60 });
  expect(verified.json).toMatchObject({ kind: "verify", status: "succeeded", result: { ok: true, failed: 0 } });

  const { json: { backups } } = await call("GET", "/v1/backups");
  expect(backups).toHaveLength(1);
  expect(backups[0]).toMatchObject({
    version: "v10.0",
    state: "fresh",
    verified_ok: true,
    manifest: job.result.manifest,
  });
  const counts = await database.sql`select count(*)::int as rows from public.profiles`;
  const profiles = backups[0].tables.find((table: { table: string }) => table.table === "public.profiles");
  expect(profiles).toMatchObject({ backup_table: "profiles_backup", row_count: counts[0]!.rows });
  expect(profiles.source_checksum).toBe(profiles.backup_checksum);

  const checklist = await call("GET", "/v1/backups/v10.0/checklist");
  expect(checklist.json).toMatchObject({ ready: true });
  expect(checklist.json.items.filter(({ required }: { required: boolean }) => required)).toHaveLength(6);

  const confirmed = await call("POST", "/v1/backups/v10.0/confirm", { json: { note: "All is well." } });
  expect(confirmed.json).toMatchObject({
    state: "migrated",
    confirmed_by: "default",
    confirmation_note: "All is well.",
  });

  await database.sql`update migration_guard.backups set confirmed_at = now() - interval '15 days'`;
  const plan = await call("GET", "/v1/backups/v10.0/cleanup-plan");
  expect(plan.json).toMatchObject({ allowed: true, schema: "migration_backup_v10" });
  const removed = await call("DELETE", "/v1/backups/v10.0", {
    json: { confirm: "migration_backup_v10", token: plan.json.token },
    wait: 60,
  });
  expect(removed).toMatchObject({ status: 200, json: { kind: "cleanup", status: "succeeded" } });
  expect((await call("GET", "/v1/backups/v10.0")).json).toMatchObject({ status: 404, code: "backup_not_found" });
  expect((await call("GET", "/v1/backups")).json.backups).toMatchObject([{ version: "v10.0", state: "trashed" }]);
  expect((await call("GET", "/v1/jobs?version=v10")).json.jobs.map((each: { kind: string }) => each.kind))
    .toEqual(["cleanup", "verify", "backup"]);
});

test("a damaged backup is told by its verification, its state and the checklist", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await takeBackup(freshApi);
  await database
    .sql`delete from migration_backup_v10.profiles_backup where ctid = (select min(ctid) from migration_backup_v10.profiles_backup)`;
  const verified = await call("POST", "/v1/backups/v10/verify", { wait: 60 });
  expect(verified.json).toMatchObject({ status: "succeeded", result: { ok: false, failed: 1 } });
  const failed = verified.json.result.checks.filter((check: { status: string }) => check.status === "FAIL");
  expect(failed).toMatchObject([{
    check_name: "table public.profiles",
    details: expect.stringMatching(/expected \d+ rows.*found \d+ rows/),
  }]);
  expect((await call("GET", "/v1/backups/v10")).json).toMatchObject({ state: "damaged" });
  expect((await call("GET", "/v1/backups/v10/checklist")).json).toMatchObject({ ready: false });
});

test("without Prefer: wait a job is answered at once, and read where Location says", async ({ freshApi }) => {
  const { call } = freshApi;
  await call("PUT", "/v1/plans/v1", { json: { tables: ["profiles"] } });
  const queued = await call("POST", "/v1/backups", { json: { version: "v1" } });
  expect(queued.status).toBe(202);
  expect(queued.json).toMatchObject({ kind: "backup", version: "v1.0", result: null, error: null });
  expect(queued.headers.get("location")).toBe(`/v1/jobs/${queued.json.id}`);
  expect(Number(queued.headers.get("retry-after"))).toBeGreaterThan(0);
  await expect.poll(async () => (await call("GET", queued.headers.get("location")!)).json.status, { timeout: 60_000 })
    .toBe("succeeded");
});

test("a wait that is too short is answered with the running job, and its progress", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await call("PUT", "/v1/plans/v1", { json: { tables: ["profiles"] } });
  const holder = database.connect();
  const lock = await holder.reserve();
  await lock`begin`;
  await lock`lock table public.profiles in access exclusive mode`;
  const running = await call("POST", "/v1/backups", { json: { version: "v1" }, wait: 1 });
  expect(running).toMatchObject({ status: 202, json: { status: "running", progress: { step: "starting" } } });
  expect(running.headers.get("preference-applied")).toBe("wait=1");
  await lock`rollback`;
  lock.release();
  await expect.poll(async () => (await call("GET", `/v1/jobs/${running.json.id}`)).json.status, { timeout: 60_000 })
    .toBe("succeeded");
});

test("a wait counts from when the request came, and not from when its job was made", async ({ freshApi }) => {
  const { call, database: { connect } } = freshApi;
  await call("PUT", "/v1/plans/v10", { json: examplePlan });
  const table = await lockTable(connect(), "public.profiles");
  const plans = await lockTable(connect(), "migration_guard.plans");
  const released = setTimeout(2500).then(plans.release);
  const begun = Date.now();
  const { status, headers } = await call("POST", "/v1/backups", { json: { version: "v10" }, wait: 4 });
  const took = Date.now() - begun;
  await released;
  await table.release();
  expect([status, headers.get("preference-applied")]).toEqual([202, "wait=4"]);
  expect(took).toBeGreaterThan(3900);
  expect(took).toBeLessThan(5500);
});

test("a job whose worker is lost while a request waits for it is taken up again", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await call("PUT", "/v1/plans/v1", { json: { tables: ["profiles"] } });
  const lock = await database.connect().reserve();
  await lock`begin`;
  await lock`lock table public.profiles in access exclusive mode`;
  const answer = call("POST", "/v1/backups", { json: { version: "v1" }, wait: 100 });
  const admin = database.connect("supabase_admin");
  const isWaiting = () =>
    admin`select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`;
  await expect.poll(isWaiting, { timeout: 60_000 }).toHaveLength(1);
  await admin`select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`;
  await lock`rollback`;
  lock.release();
  expect(await answer).toMatchObject({ status: 200, json: { status: "succeeded" } });
});

test("a second backup of a version is refused: while one runs, and when there is one", async ({ freshApi }) => {
  const { call } = freshApi;
  await call("PUT", "/v1/plans/v1", { json: { tables: ["profiles"] } });
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => call("POST", "/v1/backups", { json: { version: "v1" } })),
  );
  expect(answers.filter(({ status }) => status === 202)).toHaveLength(1);
  for (const { status, json } of answers) {
    if (status !== 202) expect(json.code).toMatch(/^backup_(in_progress|exists)$/);
  }
  await expect.poll(async () => (await call("GET", "/v1/jobs")).json.jobs[0].status, { timeout: 60_000 }).toBe(
    "succeeded",
  );
  expect((await call("POST", "/v1/backups", { json: { version: "v1.0" } })).json).toMatchObject({
    status: 409,
    code: "backup_exists",
  });
});

test("a backup after the migration is refused", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await call("PUT", "/v1/plans/v10", { json: examplePlan });
  await database.sql`alter table public.coordinator_notes rename to curator_notes`;
  const refused = await call("POST", "/v1/backups", { json: { version: "v10" } });
  expect(refused.json).toMatchObject({
    status: 409,
    code: "migration_already_applied",
    detail: expect.stringContaining("coordinator_notes"),
  });
  expect((await call("GET", "/v1/jobs")).json.jobs).toEqual([]);
});

test("a cleanup that a guard blocks is refused with all guards, and drops nothing", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await takeBackup(freshApi);
  const { json: plan } = await call("GET", "/v1/backups/v10/cleanup-plan");
  expect(plan.allowed).toBe(false);
  const refused = await call("DELETE", "/v1/backups/v10", {
    json: { confirm: "migration_backup_v10", token: plan.token },
  });
  expect(refused.json).toMatchObject({ status: 409, code: "cleanup_refused" });
  const passed = Object.fromEntries(
    refused.json.guards.map((guard: { guard: string; passed: boolean }) => [guard.guard, guard.passed]),
  );
  expect(passed).toEqual({
    schema_is_a_backup: true,
    no_job_under_way: true,
    verified_recently: false,
    migration_confirmed: false,
    retention_passed: false,
    nothing_depends_on_it: true,
    confirm_names_schema: true,
    token_is_valid: true,
  });
  expect(await database.sql`select to_regclass('migration_backup_v10.profiles_backup') as t`).toEqual([{
    t: "migration_backup_v10.profiles_backup",
  }]);
});

test("a wrong, a spent and an expired token are refused", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await takeBackup(freshApi);
  await call("POST", "/v1/backups/v10/verify", { wait: 60 });
  await call("POST", "/v1/backups/v10/confirm", { json: { note: "fine" } });
  await database.sql`update migration_guard.backups set confirmed_at = now() - interval '15 days'`;
  const confirm = "migration_backup_v10";
  const tokenOf = async () => (await call("GET", "/v1/backups/v10/cleanup-plan")).json.token;
  const remove = (token: string) => call("DELETE", "/v1/backups/v10", { json: { confirm, token }, wait: 60 });
  const blocked = (answer: { json: { guards: { guard: string; passed: boolean; details: string }[] } }) =>
    answer.json.guards.filter((guard) => !guard.passed).map((guard) => `${guard.guard}: ${guard.details}`).join();

  expect(blocked(await remove("0".repeat(64)))).toMatch(/^token_is_valid: no such token/);

  const expired = await tokenOf();
  await database.sql`update migration_guard.cleanup_tokens set expires_at = now() - interval '1 second'`;
  expect(blocked(await remove(expired))).toMatch(/^token_is_valid: the token expired/);

  const wrongName = await call("DELETE", "/v1/backups/v10", { json: { confirm: "public", token: await tokenOf() } });
  expect(blocked(wrongName)).toMatch(/^confirm_names_schema/);

  const spent = await tokenOf();
  expect((await remove(spent)).json.status).toBe("succeeded");
  await takeBackup(freshApi, "v11");
  expect((await remove(spent)).json).toMatchObject({ status: 404, code: "backup_not_found" });
});

test("a cleanup is undone until its time in the trash is over", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await takeBackup(freshApi);
  await call("POST", "/v1/backups/v10/verify", { wait: 60 });
  await call("POST", "/v1/backups/v10/confirm", { json: { note: "fine" } });
  const { json: before } = await call("GET", "/v1/backups/v10");
  expect((await call("POST", "/v1/backups/v10/restore-from-trash")).json).toMatchObject({
    status: 404,
    code: "backup_not_found",
  });
  const remove = async (override?: unknown) => {
    const { json: { token } } = await call("GET", "/v1/backups/v10/cleanup-plan");
    return call("DELETE", "/v1/backups/v10", { json: { confirm: "migration_backup_v10", token, override }, wait: 60 });
  };
  expect((await remove()).json).toMatchObject({ status: 409, code: "cleanup_refused" });
  expect((await remove({ guard: "migration_confirmed", reason: "I am in a hurry." })).json).toMatchObject({
    status: 400,
  });
  expect((await remove({ guard: "retention_passed", reason: "short" })).json).toMatchObject({ status: 400 });
  const removed = await remove({ guard: "retention_passed", reason: "The customer asked for erasure." });
  expect(removed).toMatchObject({
    status: 200,
    json: {
      status: "succeeded",
      result: {
        removed: false,
        trash_schema: expect.stringMatching(/^migration_trash_v10_[0-9a-f]{8}$/),
        override: { guard: "retention_passed", by: "default", reason: "The customer asked for erasure." },
      },
    },
  });
  const gone = await call("GET", "/v1/backups/v10");
  expect(gone.json).toMatchObject({
    status: 404,
    detail: expect.stringContaining("restore-from-trash brings back until"),
  });
  const restored = await call("POST", "/v1/backups/v10/restore-from-trash");
  expect(restored).toMatchObject({
    status: 200,
    json: { state: "migrated", schema: "migration_backup_v10", trashed_at: null },
  });
  expect((await call("GET", "/v1/backups/v10")).json).toEqual(before);
  expect(
    await database.sql`select outcome from migration_guard.audit_log where action = 'restore_from_trash' order by id`,
  )
    .toEqual([{ outcome: "done" }]);
});

test("a plan of every table and a term comes back as it was stored, and its contacts are where they are needed", async ({ freshApi }) => {
  const { call, database } = freshApi;
  const plan = { tables: "*", match: "coordinator", contacts: ["Alice, +49 30 1234567"] };
  const stored = await call("PUT", "/v1/plans/v3", { json: plan });
  expect(stored).toMatchObject({ status: 201, json: { ...plan, enums: [], functions: [], schema: "public" } });
  expect((await call("GET", "/v1/plans/v3")).json).toEqual(stored.json);
  const backup = await call("POST", "/v1/backups", { json: { version: "v3" }, wait: 60 });
  expect(backup.json).toMatchObject({ status: "succeeded", error: null });
  const { json } = await call("GET", "/v1/backups/v3");
  expect(json.metadata).toMatchObject({ contacts: plan.contacts });
  expect(json.tables.length).toBeGreaterThan(4);

  await database.connect("supabase_admin").unsafe(`
    create table public.closed (id int);
    revoke all on public.closed from postgres, anon, authenticated, service_role;
  `);
  await call("PUT", "/v1/plans/v4", { json: plan });
  const failed = await call("POST", "/v1/backups", { json: { version: "v4" }, wait: 60 });
  expect(failed.json.error).toMatchObject({ code: "insufficient_privilege", contacts: plan.contacts });
});

test("a verification holds against the manifest that the backup's job returned, and not against another", async ({ freshApi }) => {
  const { call } = freshApi;
  await call("PUT", "/v1/plans/v10.0", { json: examplePlan });
  const { json: { result: { manifest } } } = await call("POST", "/v1/backups", {
    json: { version: "v10.0" },
    wait: 60,
  });
  expect(manifest).toMatch(/^[0-9a-f]{64}$/);
  expect((await call("GET", "/v1/backups/v10.0")).json.manifest).toBe(manifest);
  const verify = (json?: unknown) => call("POST", "/v1/backups/v10/verify", { json, wait: 60 });
  expect((await verify({ expected_manifest: manifest })).json.result).toMatchObject({ ok: true, manifest });
  expect((await verify({ expected_manifest: "f".repeat(64) })).json.result).toMatchObject({ ok: false, failed: 1 });
  expect((await verify()).json.result).toMatchObject({ ok: true });
  const empty = await call("POST", "/v1/backups/v10/verify", {
    body: "",
    headers: { "content-type": "application/json" },
    wait: 60,
  });
  expect(empty.json.result).toMatchObject({ ok: true });
  for (const wrong of [{ expected_manifest: "abc" }, { expected: manifest }, { expected_manifest: null }]) {
    expect((await verify(wrong)).json, JSON.stringify(wrong)).toMatchObject({ status: 400, code: "invalid_request" });
  }
});

test("while a cleanup waits for a reader, and when it is done, every read is answered", async ({ freshApi }) => {
  const { call, database: { sql, connect } } = freshApi;
  await makeRemovable(sql, "v10", { trash_hours: 24 });
  const reader = connect();
  await reader.unsafe("begin; select from migration_backup_v10.tables_backup").simple();
  const { json: { token } } = await call("GET", "/v1/backups/v10/cleanup-plan");
  const cleanup = { json: { confirm: schema, token } };
  const { json: { id } } = await call("DELETE", "/v1/backups/v10", cleanup);
  await heldJob(sql);

  const begun = Date.now();
  const list = await call("GET", "/v1/backups");
  expect(list).toMatchObject({ status: 200, json: { backups: [{ version: "v10.0", state: "migrated" }] } });
  expect(Date.now() - begun).toBeLessThan(1000);

  const released = setTimeout(3000).then(() => reader`rollback`);
  const answers: Record<string, Set<number>> = {};
  const repeat = async (method: string, path: string, options?: CallOptions) => {
    while (!(await sql`select from migration_guard.jobs where id = ${id} and finished_at is not null`).length) {
      const { status } = await call(method, path, options);
      (answers[`${method} ${path}`] ??= new Set()).add(status);
    }
  };
  await Promise.all([
    repeat("GET", "/v1/backups"),
    repeat("GET", "/v1/backups/v10"),
    repeat("GET", "/v1/backups/v10/cleanup-plan"),
    repeat("GET", "/v1/backups/v10/rollback-plan"),
    repeat("DELETE", "/v1/backups/v10", cleanup),
    repeat("DELETE", "/v1/backups/v10", cleanup),
  ]);
  await released;
  expect([...answers["GET /v1/backups"]!]).toEqual([200]);
  expect(Object.values(answers).flatMap((each) => [...each]).filter((status) => ![200, 404, 409, 429].includes(status)))
    .toEqual([]);
  expect((await call("GET", `/v1/jobs/${id}`)).json).toMatchObject({ status: "succeeded", error: null });
  expect((await call("GET", "/v1/backups")).json.backups).toMatchObject([{ version: "v10.0", state: "trashed" }]);
});

const cleanedUp = "update migration_guard.backups set removed_at = now(), removed_by = 'alice'";
test.for(
  [
    ["", "cleaned up", 404],
    ["", "dropped by hand", 200],
    ["/cleanup-plan", "cleaned up", 404],
    ["/cleanup-plan", "dropped by hand", 200],
    ["/rollback-plan", "cleaned up", 404],
    ["/rollback-plan", "dropped by hand", 409],
  ] as const,
)(
  "GET /v1/backups/v10%s of one that is %s meanwhile is answered by what it is then",
  async ([path, how, wanted], { freshApi }) => {
    const { call, database: { sql, connect } } = freshApi;
    await makeRemovable(sql);
    // REST reads the whole catalog before its first answer, and after it has begun to listen.
    await until(async () =>
      (await sql`select from pg_stat_activity where datname = current_database() and query like 'listen%'`).length
    );
    await call("GET", "/v1/backups");
    const other = connect();
    await other.unsafe(`begin; lock table ${schema}.backup_metadata, ${schema}.objects_backup`).simple();
    const reading = call("GET", `/v1/backups/v10${path}`);
    await heldCall(sql);
    await other.unsafe(`drop schema ${schema} cascade; ${how === "cleaned up" ? cleanedUp : "select"}; commit`)
      .simple();
    expect((await reading).status).toBe(wanted);
    const { json: { backups } } = await call("GET", "/v1/backups");
    expect(backups.map(({ state }: { state: string }) => state)).toEqual(how === "cleaned up" ? [] : ["missing"]);
  },
);

/** Waits until a call of REST waits for what somebody else has locked. */
const heldCall = (sql: postgres.Sql) =>
  until(async () =>
    (await sql`
      select from pg_locks as l join pg_stat_activity as a using (pid)
      where not l.granted and a.datname = current_database() and a.usename = 'authenticator'`).length
  );
