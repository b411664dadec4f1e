import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type postgres from "postgres";
import { expect, test, type TestContext } from "vitest";
import {
  connect,
  createPlatformRoles,
  createPlatformSchemas,
  loadExample,
  pushMigrations,
} from "../../local/database.ts";
import { freePort } from "../../local/edge-runtime.ts";
import { removeData, startPostgres, superuser } from "../../local/postgres.ts";
import { backUp, lastJob, verify, work } from "../support/backup.ts";
import { debianBinaries } from "../support/debian-binaries.ts";
import { examplePlan } from "../support/example.ts";
import { heldJob, lockTable } from "../support/held-job.ts";
import { until } from "../support/until.ts";

type Verification = { status: string; actor: string; ok: boolean | null };

const verifications = (sql: postgres.Sql): Promise<Verification[]> =>
  sql<Verification[]>`
    select status, actor, (result ->> 'ok')::boolean as ok from migration_guard.jobs
    where kind = 'verify' order by number`.then((rows) => [...rows]);

const succeeded = { status: "succeeded", actor: "pg_cron", ok: true };

const damage = (sql: postgres.Sql) =>
  sql`delete from migration_backup_v10.profiles_backup where ctid = '(0,1)' returning *`;

/** A server with pg_cron, which logs in without a password as on the platform, and the example app. */
async function startWithCron(settings: Record<string, string>, onTestFinished: TestContext["onTestFinished"]) {
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-cron-"));
  const database = "postgres";
  const port = await freePort();
  const server = await startPostgres({
    dataDirectory: join(folder, "postgres"),
    port,
    binaries: debianBinaries("lib/pg_cron.so"),
    settings: { fsync: "off", shared_preload_libraries: "pg_cron", "cron.host": "127.0.0.1", ...settings },
  });
  const [admin, sql] = [connect({ port, user: superuser }), connect({ port })];
  onTestFinished(async () => {
    await Promise.all([admin.end(), sql.end()]);
    await server.stop();
    removeData(join(folder, "postgres"));
    rmSync(folder, { recursive: true, force: true });
  });
  await createPlatformRoles(port);
  await createPlatformSchemas({ port, database });
  await pushMigrations({ port, database });
  await loadExample({ port, database });
  const [{ rules }] = await admin<[{ rules: string }]>`select current_setting('hba_file') as rules`;
  writeFileSync(rules, "host all all 127.0.0.1/32 trust\n");
  await admin`select pg_reload_conf()`;
  await admin`create extension pg_cron`;
  await admin`grant usage on schema cron to postgres`;
  return { admin, sql, open: () => connect({ port }) };
}

test.for([
  { what: "over connections of its own", "cron.use_background_workers": "off" },
  { what: "in background workers", "cron.use_background_workers": "on" },
])("pg_cron verifies a backup $what, finds damage, and stops when told or when the backup is gone", {
  timeout: 400_000,
}, async ({ what: _what, ...settings }, { onTestFinished, skip }) => {
  if (!debianBinaries("lib/pg_cron.so")) skip("pg_cron is not installed: apt-get install postgresql-15-cron");
  const { admin, sql } = await startWithCron(settings, onTestFinished);
  const schedule = async (every: string) =>
    (await sql`select migration_guard.schedule_verification('v10', ${every}::interval) as id`)[0]!.id as string;
  const jobs = () => sql`select jobid as id, jobname, schedule, command, database, username, active from cron.job`;
  const runs = () =>
    sql`select status, return_message from cron.job_run_details where status not in ('starting', 'running')`;
  await backUp(sql, "v10", examplePlan);

  const id = await schedule("90 minutes");
  expect([...await jobs()]).toEqual([{
    id,
    jobname: "migration_guard verifies v10.0",
    schedule: "*/5 * * * *",
    command: "call migration_guard.verify_if_due('v10.0', '01:30:00')",
    database: "postgres",
    username: "postgres",
    active: true,
  }]);
  await expect(admin`select migration_guard.schedule_verification('v10', '1 day')`)
    .rejects.toMatchObject({ code: "42501" });

  // Scheduled anew, it is one job still; pg_cron calls it when the next minute begins.
  expect(await schedule("1 minute")).toBe(id);
  expect(await jobs()).toMatchObject([{ id, schedule: "* * * * *" }]);
  await expect.poll(runs, { timeout: 180_000, interval: 500 }).toHaveLength(1);
  expect(await runs()).toMatchObject([{ status: "succeeded" }]);
  expect(await verifications(sql)).toEqual([succeeded]);
  const [lost] = await damage(sql);
  // One may have begun before the damage.
  await expect.poll(runs, { timeout: 240_000, interval: 500 })
    .toContainEqual({ status: "failed", return_message: expect.stringContaining("is damaged") });
  expect([...await sql`select verified_ok from migration_guard.backups`]).toEqual([{ verified_ok: false }]);

  expect(await schedule("1 day")).toBe(id);
  expect(await jobs()).toMatchObject([{ id, schedule: expect.stringMatching(/^[0-5]?[0-9] \* \* \* \*$/) }]);
  expect([...await sql`select migration_guard.unschedule_verification('v10') as was_there`]).toEqual([{
    was_there: true,
  }]);
  expect([...await jobs()]).toEqual([]);
  expect([...await sql`select migration_guard.unschedule_verification('v10') as was_there`]).toEqual([{
    was_there: false,
  }]);

  await schedule("1 day");
  const [{ command }] = await jobs() as unknown as [{ command: string }];
  await sql`insert into migration_backup_v10.profiles_backup ${sql(lost!)}`;
  await verify(sql, "v10");
  await sql`select migration_guard.confirm_backup('v10', 'All green.', 'test')`;
  await sql`update migration_guard.backups set confirmed_at = now() - interval '15 days'`;
  const [{ token }] = await sql<[{ token: string }]>`select token from migration_guard.plan_cleanup('v10', 'default')`;
  await sql`select migration_guard.enqueue_cleanup('v10', 'migration_backup_v10', ${token}, 'default')`;
  await work(sql);
  expect([...await sql`select to_regnamespace('migration_backup_v10') as left`]).toEqual([{ left: null }]);
  await sql.unsafe(command).simple();
  expect([...await jobs()]).toEqual([]);
});

test.for([
  { what: "over connections of its own", "cron.use_background_workers": "off" },
  { what: "in background workers", "cron.use_background_workers": "on" },
])("pg_cron runs queued jobs $what, whatever statement timeout it has, until told to stop", {
  timeout: 400_000,
}, async ({ what: _what, ...settings }, { onTestFinished, skip }) => {
  if (!debianBinaries("lib/pg_cron.so")) skip("pg_cron is not installed: apt-get install postgresql-15-cron");
  const { admin, sql, open } = await startWithCron(settings, onTestFinished);
  const isScheduled = async () =>
    (await sql`select pg_cron from migration_guard_api.get_readiness()`)[0]!.pg_cron as boolean;
  await admin`alter database postgres set statement_timeout = '1s'`;
  await sql`select migration_guard.put_plan('v10', ${sql.json(examplePlan)}, 'test')`;
  expect(await isScheduled()).toBe(false);
  await expect(admin`select migration_guard.schedule_worker()`).rejects.toMatchObject({ code: "42501" });

  await sql`select migration_guard.schedule_worker('5 minutes')`;
  expect([...await sql`select jobname, schedule, command, active from cron.job`]).toEqual([
    { jobname: "migration_guard works", schedule: "*/5 * * * *", command: "call migration_guard.work()", active: true },
  ]);
  // As often as this pg_cron can; it is one schedule still.
  await sql`select migration_guard.schedule_worker()`;
  expect([...await sql`select schedule from cron.job`]).toEqual([
    { schedule: expect.stringMatching(/^(10 seconds|\* \* \* \* \*)$/) },
  ]);
  expect(await isScheduled()).toBe(true);

  const holder = open();
  const { release } = await lockTable(holder, "public.profiles");
  await sql`select migration_guard.enqueue_backup('v10', 'test')`;
  const { worker_pid } = await heldJob(sql);
  await until(async () => {
    const [call] = await sql`
      select query from pg_stat_activity where pid = ${worker_pid} and clock_timestamp() - query_start > '3 seconds'`;
    return call;
  });
  await release();
  await holder.end();
  await until(async () => (await lastJob(sql)).status !== "running");
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded" });

  expect([...await sql`select migration_guard.unschedule_worker() as was_there`]).toEqual([{ was_there: true }]);
  expect([...await sql`select migration_guard.unschedule_worker() as was_there`]).toEqual([{ was_there: false }]);
  expect(await isScheduled()).toBe(false);
});
