import { spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import process from "node:process";
import type postgres from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { superuser } from "../../local/postgres.ts";
import { backUp, lastJob, work } from "../support/backup.ts";
import { difference } from "../support/difference.ts";
import { freshApp } from "../support/fresh-app.ts";
import { heldJob, lockTable } from "../support/held-job.ts";
import { createOwnServer, type OwnServer } from "../support/own-server.ts";
import { planRollback } from "../support/rollback.ts";
import { type Connections, schemaState } from "../support/schema-state.ts";
import { tableRows } from "../support/table-rows.ts";

const version = "v1";
const plan = { schema: "app", tables: "*" as const };

let server: OwnServer;
beforeAll(async () => {
  server = await createOwnServer();
});
// What a failed test has left open would hold up the next.
afterEach(() => server.closeAll());
afterAll(() => server.remove());

const open = (): Connections => ({ sql: server.open(), admin: server.open(superuser) });

/** What is in the app's schema and in the backup's. */
const everything = async (connections: Connections) => [
  ...await schemaState(connections, "app"),
  ...await tableRows(connections.admin, "app"),
  ...(await connections.admin<{ line: string }[]>`
    select format('backup has %s %s', c.relkind, c.relname) as line from pg_class as c
    where c.relnamespace = to_regnamespace('migration_backup_v1') and c.relkind in ('r', 'v')`).map(({ line }) => line),
];

/** How each kind of job is asked for, after a backup and a change but for the backup itself. */
const requests: Record<string, (sql: postgres.Sql) => Promise<unknown>> = {
  backup: (sql) => sql`select migration_guard.enqueue_backup(${version}, 'test')`,
  verify: (sql) => sql`select migration_guard.enqueue_verification(${version}, 'test')`,
  diff: (sql) => sql`select migration_guard.enqueue_diff(${version}, 'test')`,
  rollback: async (sql) => {
    const { plan_hash } = await planRollback(sql, version, { data: "restore" });
    await sql`select migration_guard.enqueue_rollback(${version}, ${plan_hash}, '{"data": "restore"}', false, 'test')`;
  },
  cleanup: async (sql) => {
    await sql`select migration_guard.enqueue_verification(${version}, 'test')`;
    await work(sql);
    await sql`select migration_guard.confirm_backup(${version}, 'done', 'test')`;
    await sql`update migration_guard.backups set confirmed_at = now() - interval '30 days'`;
    const [{ token }] = await sql<
      [{ token: string }]
    >`select token from migration_guard.plan_cleanup(${version}, 'test')`;
    await sql`select migration_guard.enqueue_cleanup(${version}, 'migration_backup_v1', ${token}, 'test')`;
  },
};

/** Has a job of some kind stop in the middle, at a lock that somebody else holds. */
async function stopInTheMiddle(kind: string, connections: Connections) {
  const { sql } = connections;
  await freshApp(connections);
  await sql.unsafe(`
    create table app.notes (id int primary key, body text);
    insert into app.notes select n, 'Note ' || n from generate_series(1, 1000) as n`).simple();
  if (kind === "backup") {
    await sql`select migration_guard.put_plan(${version}, ${sql.json(plan)}, 'test')`;
  } else {
    await backUp(sql, version, plan);
    await sql`update app.notes set body = 'changed' where id < 10`;
  }
  await requests[kind]!(sql);
  const before = await everything(connections);
  const holder = server.open();
  const { release } = await lockTable(holder, kind === "backup" ? "app.notes" : "migration_backup_v1.notes_backup");
  const ended = work(server.open()).catch((error: Error) => error);
  const job = await heldJob(sql);
  expect(job.kind).toBe(kind);
  return { before, ended, job, release };
}

describe.for(Object.keys(requests))("%s", (kind) => {
  test("is as if it had not begun when Postgres is killed in the middle, and goes on after its restart", async () => {
    const { before, ended, job: { worker_pid } } = await stopInTheMiddle(kind, open());
    // The worker first: without a server it might go on, and end its job, before it notices.
    process.kill(worker_pid, "SIGKILL");
    process.kill(server.pid(), "SIGKILL");
    await server.startAgain();
    expect(await ended).toBeInstanceOf(Error);

    const connections = open();
    expect(difference(before, await everything(connections))).toEqual([]);
    await work(connections.sql);
    const [job] = await connections.sql`
      select status, attempts, jsonb_array_length(lost_workers) as lost from migration_guard.jobs order by number desc limit 1`;
    expect(job).toEqual({ status: "succeeded", attempts: 2, lost: 1 });
  });

  test("is cancelled within seconds, and all is as before", async () => {
    const connections = open();
    const { before, ended, job, release } = await stopInTheMiddle(kind, connections);
    await connections.sql`select migration_guard.cancel_job(${job.id}, 'somebody')`;
    expect(await ended).not.toBeInstanceOf(Error);
    await release();
    expect(await lastJob(connections.sql)).toMatchObject({
      status: "cancelled",
      error: { code: "cancelled", message: "somebody has cancelled it. Nothing was changed." },
    });
    const [asked] = await connections.sql`
      select j.finished_at - c.requested_at < '5 seconds' as in_time
      from migration_guard.jobs as j join migration_guard.cancellations as c on c.job_id = j.id where j.id = ${job.id}`;
    expect(asked).toEqual({ in_time: true });
    expect(difference(before, await everything(connections))).toEqual([]);
  });
});

test("a session that has kept a job's lock and does nothing is ended, and the job is run by another", async () => {
  const connections = open();
  const { job, ended, release } = await stopInTheMiddle("verify", connections);
  const idle = server.open();
  await release();
  await ended;
  const [{ worker_lock }] = await connections.sql<[{ worker_lock: number }]>`
    update migration_guard.jobs set status = 'queued', result = null, finished_at = null where id = ${job.id}
    returning worker_lock`;
  const [{ pid }] = await idle<[{ pid: number }]>`
    select pg_backend_pid() as pid from pg_advisory_lock(migration_guard.lock_class(), ${worker_lock})`;
  await work(connections.sql);
  expect(await lastJob(connections.sql)).toMatchObject({ status: "succeeded" });
  expect([...await connections.sql`select from pg_stat_activity where pid = ${pid}`]).toEqual([]);
});

test("a job that was cancelled while it had lost its worker is cancelled, and not begun again", async () => {
  const connections = open();
  const { before, job, release } = await stopInTheMiddle("verify", connections);
  await connections.admin`select pg_terminate_backend(${job.worker_pid}, 60000)`;
  await connections.sql`select migration_guard.cancel_job(${job.id}, 'somebody')`;
  expect(await lastJob(connections.sql)).toMatchObject({ status: "cancelled" });
  await release();
  expect(difference(before, await everything(connections))).toEqual([]);
  await expect(connections.sql`select migration_guard.cancel_job(${job.id}, 'somebody')`).rejects.toMatchObject({
    code: "MG025",
  });
});

test("when the disk is full a backup fails with the reason, and leaves nothing behind", async ({ skip }) => {
  if (spawnSync("prlimit", ["--version"]).error) skip("prlimit, of Debian's util-linux, is not there");
  const connections = open();
  const { sql } = connections;
  await freshApp(connections);
  await sql`create table app.big as select n as id, repeat(md5(n::text), 30) as body from generate_series(1, 40000) as n`;
  await sql`select migration_guard.put_plan(${version}, ${sql.json(plan)}, 'test')`;
  await sql`select migration_guard.enqueue_backup(${version}, 'test')`;
  const before = await everything(connections);
  const worker = server.open();
  const [{ pid }] = await worker<[{ pid: number }]>`select pg_backend_pid() as pid`;
  // No file of this backend's may grow beyond 20 MB, as if the disk ended there; one of the WAL has 16.
  const { uid, gid } = statSync(`/proc/${pid}`);
  expect(spawnSync("prlimit", ["--pid", String(pid), "--fsize=20000000"], { uid, gid }).status).toBe(0);
  await work(worker);
  expect(await lastJob(sql)).toMatchObject({
    status: "failed",
    error: { code: "disk_full", message: expect.stringContaining("Nothing was changed") },
  });
  expect(difference(before, await everything(connections))).toEqual([]);
  // With room it is taken.
  await sql`select migration_guard.enqueue_backup(${version}, 'test')`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded" });
});
