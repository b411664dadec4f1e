import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob } from "../support/backup.ts";
import { test } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";

type Verification = { status: string; actor: string; ok: boolean | null };

const verifications = (sql: postgres.Sql): Promise<Verification[]> =>
  sql<Verification[]>`
    select status, actor, (result ->> 'ok')::boolean as ok from migration_guard.jobs
    where kind = 'verify' order by number`.then((rows) => [...rows]);

const succeeded = { status: "succeeded", actor: "pg_cron", ok: true };

/** Calls the procedure that pg_cron calls, as pg_cron does: a statement by itself. */
const verifyIfDue = (sql: postgres.Sql, every: string) =>
  sql.unsafe(`call migration_guard.verify_if_due('v10.0', '${every}')`).simple().execute();

/** Makes everything that was verified be verified that much longer ago. */
async function letPass(sql: postgres.Sql, time: string): Promise<void> {
  await sql`update migration_guard.backups set
    created_at = created_at - ${time}::interval, verified_at = verified_at - ${time}::interval`;
  await sql`update migration_guard.jobs set created_at = created_at - ${time}::interval`;
}

const damage = (sql: postgres.Sql) =>
  sql`delete from migration_backup_v10.profiles_backup where ctid = '(0,1)' returning *`;

test("where there is no pg_cron, a schedule is refused by that name", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  const scheduler_missing = { code: "MG018", message: expect.stringContaining("create the extension pg_cron") };
  await expect(sql`select migration_guard.schedule_verification('v10.0', '1 day')`).rejects.toMatchObject(
    scheduler_missing,
  );
  await expect(sql`select migration_guard.unschedule_verification('v10.0')`).rejects.toMatchObject(scheduler_missing);
  await expect(sql`select migration_guard.schedule_worker()`).rejects.toMatchObject(scheduler_missing);
  await expect(sql`select migration_guard.unschedule_worker()`).rejects.toMatchObject(scheduler_missing);
  expect([...await sql`select pg_cron from migration_guard_api.get_readiness()`]).toEqual([{ pg_cron: false }]);
});

test("what cannot be scheduled is refused", async ({ example: { sql } }) => {
  const schedule = (version: string, every: string | null) =>
    sql`select migration_guard.schedule_verification(${version}, ${every}::interval)`;
  await expect(schedule("v10.0", "1 day")).rejects.toMatchObject({ code: "MG005" });
  await expect(schedule("10", "1 day")).rejects.toMatchObject({ code: "MG001" });
  await backUp(sql, "v10", examplePlan);
  for (const every of ["59 seconds", "0", "-1 day", "1 year 1 day", "1 month -30 days", null]) {
    await expect(schedule("v10", every), String(every)).rejects.toMatchObject({ code: "MG003" });
  }
  for (const every of ["0", "-1 second", "1.5 seconds", "90 seconds", "45 minutes", "61 minutes", "1 day", null]) {
    await expect(sql`select migration_guard.schedule_worker(${every}::interval)`, String(every))
      .rejects.toMatchObject({ code: "MG003" });
  }
});

test("a backup is verified when its last verification is so long ago, and not before", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await verifyIfDue(sql, "1 day");
  expect(await verifications(sql)).toEqual([succeeded]);
  await letPass(sql, "23 hours");
  await verifyIfDue(sql, "1 day");
  expect(await verifications(sql)).toEqual([succeeded]);
  await letPass(sql, "1 hour");
  await verifyIfDue(sql, "1 day");
  expect(await verifications(sql)).toEqual([succeeded, succeeded]);
});

test("whoever verified it last, a backup is not verified again before its time", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`select migration_guard.enqueue_verification('v10', 'somebody')`;
  await sql`call migration_guard.work()`.simple();
  await verifyIfDue(sql, "1 hour");
  expect(await verifications(sql)).toEqual([{ ...succeeded, actor: "somebody" }]);
});

test("a verification that waits for a worker is run, not doubled", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`select migration_guard.enqueue_verification('v10', 'somebody')`;
  await verifyIfDue(sql, "1 hour");
  expect(await verifications(sql)).toEqual([{ ...succeeded, actor: "somebody" }]);
});

test("the scheduled run leaves other jobs to the worker", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`select migration_guard.put_plan('v11', ${sql.json(examplePlan)}, 'test')`;
  await sql`select migration_guard.enqueue_backup('v11', 'test')`;
  await verifyIfDue(sql, "1 hour");
  expect([...await sql`select kind, status from migration_guard.jobs order by number`]).toEqual([
    { kind: "backup", status: "succeeded" },
    { kind: "backup", status: "queued" },
    { kind: "verify", status: "succeeded" },
  ]);
});

test("the scheduled run fails when it finds damage, and says where to read of it", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await damage(sql);
  await expect(verifyIfDue(sql, "1 hour")).rejects.toMatchObject({
    code: "MG019",
    message: expect.stringMatching(/^The backup of v10\.0 is damaged: [1-9]/),
  });
  const job = await lastJob(sql);
  expect(job).toMatchObject({ status: "succeeded", result: { ok: false } });
  await expect(verifyIfDue(sql, "1 hour")).resolves.toBeDefined();
  expect([...await sql`select verified_ok from migration_guard.backups`]).toEqual([{ verified_ok: false }]);
});

test("a verification that takes longer than the session's statement timeout is run to its end", async ({ example }) => {
  const { sql } = example;
  await backUp(sql, "v10", examplePlan);
  const [locker, watcher] = [example.connect(), example.connect()];
  await locker.unsafe("begin; lock table migration_backup_v10.profiles_backup");
  await sql`set statement_timeout = '500ms'`;
  const run = verifyIfDue(sql, "1 hour");
  await expect.poll(
    () =>
      watcher`select from pg_stat_activity where query ~ '^call migration_guard.verify' and clock_timestamp() - query_start > '2 seconds'`,
    { timeout: 60_000 },
  ).toHaveLength(1);
  expect(await verifications(watcher)).toEqual([{ status: "running", actor: "pg_cron", ok: null }]);
  await locker`rollback`;
  await run;
  expect(await verifications(watcher)).toEqual([succeeded]);
});

test("a verification that an administrator cancels is not begun again", async ({ example }) => {
  const { sql } = example;
  await backUp(sql, "v10", examplePlan);
  const [locker, watcher] = [example.connect(), example.connect()];
  await locker.unsafe("begin; lock table migration_backup_v10.profiles_backup");
  const run = verifyIfDue(sql, "1 hour");
  await expect.poll(() =>
    watcher`
    select pg_cancel_backend(l.pid) from pg_locks as l
    where not l.granted and l.relation = 'migration_backup_v10.profiles_backup'::regclass`
  ).toHaveLength(1);
  await run;
  expect(await verifications(watcher)).toEqual([{ status: "failed", actor: "pg_cron", ok: null }]);
});

test("nobody but the owner has verifications run", async ({ example }) => {
  await backUp(example.sql, "v10", examplePlan);
  await expect(verifyIfDue(example.connect("supabase_admin"), "1 hour")).rejects.toMatchObject({ code: "42501" });
  expect(await verifications(example.sql)).toEqual([]);
});

test("the scheduled run of a backup that is gone does nothing", async ({ example: { sql } }) => {
  await verifyIfDue(sql, "1 hour");
  expect(await verifications(sql)).toEqual([]);
});
