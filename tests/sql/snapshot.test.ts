import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob, verify, work } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { until } from "../support/until.ts";

/** Two tables that belong together, and a queued backup of both. */
async function queueBackup(sql: postgres.Sql): Promise<void> {
  await sql`create table public.a (id int primary key, x int)`;
  await sql`create table public.b (id int primary key, x int)`;
  await sql`insert into public.a select n, n from generate_series(1, 10) as n`;
  await sql`select migration_guard.put_plan('v1', ${sql.json({ tables: ["a", "b"] })}, 'test')`;
  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
}

/** A session of its own, and the process id that the server knows it by. */
async function session(database: TestDatabase) {
  const sql = database.connect();
  const [{ pid }] = await sql<[{ pid: number }]>`select pg_backend_pid() as pid`;
  const isWaiting = async () =>
    (await database.sql`select from pg_stat_activity where pid = ${pid} and wait_event_type = 'Lock'`).length > 0;
  return { sql, pid, isWaiting };
}

/** A worker at work, in a session of its own; how its call ends is left to `ended`. */
async function startWorker(database: TestDatabase) {
  const { sql, pid, isWaiting } = await session(database);
  let hasEnded = false;
  const ended = work(sql).then(() => undefined, (error: Error) => error).finally(() => hasEnded = true);
  const waits = async () => {
    await until(async () => hasEnded || await isWaiting());
    if (hasEnded) throw new Error("The worker ended without waiting for anything.");
  };
  return { pid, ended, waits };
}

/**
 * Makes every worker stop in the middle of a transaction, where it has just made a relation of this name.
 *
 * @returns What lets it go on.
 */
async function stopAfterMaking(database: TestDatabase, relation: string): Promise<() => Promise<unknown>> {
  const admin = database.connect("supabase_admin");
  await admin.unsafe(`
    create function extensions.stop() returns event_trigger language plpgsql set lock_timeout = 0 as $$
    begin
      if exists (select from pg_event_trigger_ddl_commands() where object_identity ~ '[.]${relation}$') then
        perform pg_advisory_xact_lock_shared(2024);
      end if;
    end $$;
    create event trigger stop on ddl_command_end when tag in ('CREATE TABLE', 'CREATE TABLE AS', 'CREATE VIEW')
      execute function extensions.stop();
    select pg_advisory_lock(2024);
  `);
  return () => admin`select pg_advisory_unlock(2024)`;
}

/**
 * Starts a worker and lets another session have its way with a table after the worker has looked at it, just before
 * the worker locks it. The other session's transaction is open then, and the worker waits for it.
 */
async function getAheadOfWorker(database: TestDatabase, statements: string) {
  const other = await session(database);
  const goOn = await stopAfterMaking(database, "migration_guard_tables");
  const worker = await startWorker(database);
  await worker.waits();
  await other.sql`begin`;
  const done = other.sql.unsafe(statements).then(() => undefined, (error: Error) => error);
  await until(other.isWaiting);
  await goOn();
  expect(await done).toBeUndefined();
  await worker.waits();
  return { other: other.sql, worker };
}

/** Every relation, function, type and schema that is not temporary. */
const everything = async (sql: postgres.Sql) => [
  ...await sql`
    with named as (
      select 'relation' as kind, relnamespace as namespace, relname as name from pg_class
      union all select 'function', pronamespace, proname from pg_proc
      union all select 'type', typnamespace, typname from pg_type
      union all select 'schema', oid, nspname from pg_namespace
    )
    select kind, namespace::regnamespace::text as schema, name from named
    where namespace::regnamespace::text !~ '^pg_(temp|toast)' order by 1, 2, 3`,
];

const backups = (sql: postgres.Sql) => sql`select from migration_guard.backups`;

test("a table that is truncated and filled again before its lock is there is copied as it is then", async ({ database }) => {
  await queueBackup(database.sql);
  const { other, worker } = await getAheadOfWorker(
    database,
    "truncate public.a; insert into public.a values (11, 11), (12, 12)",
  );
  await other`commit`;
  expect(await worker.ended).toBeUndefined();
  expect((await lastJob(database.sql)).error).toBeNull();
  expect([...await database.sql`select * from migration_backup_v1.a_backup order by id`])
    .toEqual([{ id: 11, x: 11 }, { id: 12, x: 12 }]);
});

test("a table that is rewritten before its lock is there is copied whole, in its new shape", async ({ database }) => {
  await queueBackup(database.sql);
  const { other, worker } = await getAheadOfWorker(
    database,
    "alter table public.a alter column x type text using 'x' || x; alter table public.a add column late text default 'y'",
  );
  await other`commit`;
  expect(await worker.ended).toBeUndefined();
  expect((await lastJob(database.sql)).error).toBeNull();
  const [copy] = await database.sql`
    select count(*)::int as rows, min(x) as x, min(late) as late from migration_backup_v1.a_backup`;
  expect(copy).toEqual({ rows: 10, x: "x1", late: "y" });
});

test("what is committed while a backup waits for its last table is in the copies of all tables", async ({ database }) => {
  await queueBackup(database.sql);
  const { other, worker } = await getAheadOfWorker(database, "lock table public.b in access exclusive mode");
  await other`update public.a set x = 100`;
  await other`insert into public.b select * from public.a`;
  await other`commit`;
  expect(await worker.ended).toBeUndefined();
  const [sums] = await database.sql`select
    (select sum(x)::int from migration_backup_v1.a_backup) as a, (select sum(x)::int from migration_backup_v1.b_backup) as b`;
  expect(sums).toEqual({ a: 1000, b: 1000 });
});

test("a table that is renamed before its lock is there makes the backup fail, and nothing is left", async ({ database }) => {
  await queueBackup(database.sql);
  const { other, worker } = await getAheadOfWorker(database, "alter table public.a rename to z");
  const before = await everything(other);
  await other`commit`;
  expect(await worker.ended).toBeUndefined();
  expect((await lastJob(database.sql)).error).toMatchObject({ code: "migration_already_applied" });
  expect(await everything(database.sql)).toEqual(before);
  expect(await backups(database.sql)).toHaveLength(0);
});

test("a table that takes another's name before its lock is there is not copied without one", async ({ database }) => {
  const { sql } = database;
  await queueBackup(sql);
  const { other, worker } = await getAheadOfWorker(
    database,
    "alter table public.a rename to old_a; create table public.a (id int); insert into public.a values (99)",
  );
  await other`commit`;
  expect(await worker.ended).toBeUndefined();
  expect((await lastJob(sql)).error).toMatchObject({ code: "lock_timeout" });
  expect(await sql`select to_regnamespace('migration_backup_v1') as schema`).toEqual([{ schema: null }]);

  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
  await work(sql);
  expect((await lastJob(sql)).error).toBeNull();
  expect([...await sql`select * from migration_backup_v1.a_backup`]).toEqual([{ id: 99 }]);
});

test("a table that stays locked makes the backup fail with lock_timeout; nothing is left, and it can be tried again", async ({ database }) => {
  const { sql } = database;
  await queueBackup(sql);
  const before = await everything(sql);
  const other = database.connect();
  await other`begin`;
  await other`lock table public.b in access exclusive mode`;
  await work(sql);
  const job = await lastJob(sql);
  expect(job).toMatchObject({ status: "failed", error: { code: "lock_timeout" } });
  expect(job.error!.message).toMatch(/could not be locked/);
  expect(await everything(sql)).toEqual(before);
  expect(await backups(sql)).toHaveLength(0);
  expect(
    await sql`select from pg_locks where relation in ('public.a'::regclass, 'public.b'::regclass)
    and pid = pg_backend_pid()`,
  ).toHaveLength(0);

  await other`rollback`;
  await backUp(sql, "v1", { tables: ["a", "b"] });
});

test("two backups lock their tables in one order, whatever order their plans name", async ({ database }) => {
  await queueBackup(database.sql);
  await database.sql`select migration_guard.put_plan('v2', ${database.sql.json({ tables: ["b", "a"] })}, 'test')`;
  await database.sql`select migration_guard.enqueue_backup('v2', 'test')`;
  const other = database.connect();
  await other`begin`;
  await other`lock table public.a in access exclusive mode`;
  const workers = [await startWorker(database), await startWorker(database)];
  // They may wait for one another first, when they claim their jobs.
  const locks = await until(async () => {
    const found = await database.sql`select relation::regclass::text as name, granted from pg_locks
      where pid in ${database.sql(workers.map(({ pid }) => pid))} and mode = 'AccessShareLock'
        and relation in ('public.a'::regclass, 'public.b'::regclass)`;
    return found.filter(({ granted }) => !granted).length === workers.length && found;
  });
  expect([...locks]).toEqual([{ name: "a", granted: false }, { name: "a", granted: false }]);
  await other`rollback`;
  expect(await Promise.all(workers.map(({ ended }) => ended))).toEqual([undefined, undefined]);
  expect(await database.sql`select from migration_guard.jobs where status = 'succeeded'`).toHaveLength(2);
});

test("all tables are copied as of one moment", async ({ database }) => {
  await queueBackup(database.sql);
  const goOn = await stopAfterMaking(database, "a_backup");
  const worker = await startWorker(database);
  await worker.waits();
  const other = database.connect();
  await other`with moved as (delete from public.a where id <= 5 returning *) insert into public.b select * from moved`;
  await goOn();
  expect(await worker.ended).toBeUndefined();
  const [counts] = await database.sql`select
    (select count(*)::int from migration_backup_v1.a_backup) as a, (select count(*)::int from migration_backup_v1.b_backup) as b,
    (select count(*)::int from public.b) as live`;
  expect(counts).toEqual({ a: 10, b: 0, live: 5 });
  const checks = await verify(database.sql, "v1");
  expect([...checks].filter(([, { status }]) => status !== "OK")).toEqual([]);
});

test("a backup fails when an enum type is altered while it is taken, rather than mix old names with new", async ({ database }) => {
  await database.sql`create type public.mood as enum ('sad', 'ok')`;
  await queueBackup(database.sql);
  await database.sql`alter table public.a add column mood public.mood default 'sad'`;
  await database.sql`alter table public.b add column mood public.mood default 'sad'`;
  const goOn = await stopAfterMaking(database, "a_backup");
  const worker = await startWorker(database);
  await worker.waits();
  await database.connect()`alter type public.mood rename value 'sad' to 'blue'`;
  await goOn();
  expect(await worker.ended).toBeUndefined();
  expect(await lastJob(database.sql)).toMatchObject({ status: "failed", error: { code: "types_changed" } });
  expect(await database.sql`select to_regnamespace('migration_backup_v1') as schema`).toEqual([{ schema: null }]);
});

test("a backup fails when a composite type or a function is altered while it is taken", async ({ database }) => {
  for (
    const [version, made, change] of [
      ["v1", "a_backup", "alter type public.addr drop attribute street"],
      // The catalog is recorded next: the snapshot knows the old function, and Postgres prints the new one.
      ["v2", "objects_backup", "create or replace function public.f() returns int language sql as 'select 2'"],
    ]
  ) {
    const { sql } = database;
    if (version === "v1") {
      await sql`create type public.addr as (street text, city text)`;
      await sql`create function public.f() returns int language sql as 'select 1'`;
      await sql`create table public.a (id int, home public.addr[])`;
    }
    await sql`select migration_guard.put_plan(${version!}, ${sql.json({ tables: ["a"], functions: ["f"] })}, 'test')`;
    await sql`select migration_guard.enqueue_backup(${version!}, 'test')`;
    const admin = database.connect("supabase_admin");
    await admin`drop event trigger if exists stop`;
    await admin`drop function if exists extensions.stop()`;
    const goOn = await stopAfterMaking(database, made!);
    const worker = await startWorker(database);
    await worker.waits();
    await database.connect().unsafe(change!);
    await goOn();
    expect(await worker.ended).toBeUndefined();
    expect(await lastJob(sql), change).toMatchObject({ status: "failed", error: { code: "types_changed" } });
  }
});

test("a function that is replaced while rows are copied is in the backup as it was at the snapshot", async ({ database }) => {
  const { sql } = database;
  await sql`create function public.f() returns int language sql as 'select 1'`;
  await sql`create table public.a (id int)`;
  await sql`select migration_guard.put_plan('v1', ${sql.json({ tables: ["a"], functions: ["f"] })}, 'test')`;
  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
  const goOn = await stopAfterMaking(database, "a_backup");
  const worker = await startWorker(database);
  await worker.waits();
  await database.connect()`create or replace function public.f() returns int language sql as 'select 2'`;
  await goOn();
  expect(await worker.ended).toBeUndefined();
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded" });
  expect(await sql`select function_definition from migration_backup_v1.functions_backup`)
    .toMatchObject([{ function_definition: expect.stringContaining("select 1") }]);
  await expect(sql`select migration_guard.assert_ready('v1')`).rejects.toMatchObject({ code: "MG012" });
});

test("a schema that takes another's place while a backup is taken is not copied for it", async ({ database }) => {
  const { sql } = database;
  for (const schema of ["shop", "shop_new"]) {
    await sql.unsafe(`create schema ${schema}; create table ${schema}.a (id int); create table ${schema}.b (id int)`);
  }
  await sql`insert into shop.b select generate_series(1, 100)`;
  await sql`select migration_guard.put_plan('v1', ${sql.json({ schema: "shop", tables: ["a", "b"] })}, 'test')`;
  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
  const goOn = await stopAfterMaking(database, "a_backup");
  const worker = await startWorker(database);
  await worker.waits();
  await database.connect().unsafe("alter schema shop rename to shop_old; alter schema shop_new rename to shop");
  await goOn();
  expect(await worker.ended).toBeUndefined();
  expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "copy_differs" } });
});

test("a row that keeps moving between two tables is in each backup once", async ({ database }) => {
  const { sql } = database;
  await queueBackup(sql);
  await work(sql);
  const mover = database.connect();
  let moves = 0;
  let stopped = false;
  const moving = (async () => {
    while (!stopped) {
      await mover`with moved as (delete from public.a returning *) insert into public.b select * from moved`;
      await mover`with moved as (delete from public.b returning *) insert into public.a select * from moved`;
      moves++;
    }
  })();
  try {
    for (let round = 1; round <= 15; round++) {
      const version = `v2.${round}`;
      const before = moves;
      await backUp(sql, version, { tables: ["a", "b"] });
      const [{ rows }] = await sql<[{ rows: number }]>`
        select sum(row_count)::int as rows from ${sql(`migration_backup_v2_${round}`)}.tables_backup`;
      expect(rows).toBe(10);
      await until(() => Promise.resolve(moves > before));
    }
  } finally {
    stopped = true;
    await moving;
  }
});

test("applications read and write while a backup is being taken", async ({ database }) => {
  await queueBackup(database.sql);
  const goOn = await stopAfterMaking(database, "a_backup");
  const worker = await startWorker(database);
  await worker.waits();
  const app = database.connect();
  await app`set lock_timeout = '5s'`;
  for (const table of [app`public.a`, app`public.b`]) {
    await app`insert into ${table} values (100, 1)`;
    await app`update ${table} set x = 2 where id = 100`;
    await app`select * from ${table} where id = 100 for update`;
    await app`delete from ${table} where id = 100`;
    await app`insert into ${table} values (101, 1)`;
  }
  await goOn();
  expect(await worker.ended).toBeUndefined();
  expect(await database.sql`select from migration_backup_v1.a_backup where id > 10`).toHaveLength(0);
  expect(await database.sql`select from migration_backup_v1.b_backup`).toHaveLength(0);
});

test("a backup that an administrator cancels leaves nothing behind", async ({ database }) => {
  const { sql } = database;
  await queueBackup(sql);
  await stopAfterMaking(database, "a_backup");
  const before = await everything(sql);
  const worker = await startWorker(database);
  await worker.waits();
  expect(await sql`select pg_cancel_backend(${worker.pid}) as sent`).toEqual([{ sent: true }]);
  expect(await worker.ended).toBeUndefined();
  expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "query_canceled" } });
  expect(await everything(sql)).toEqual(before);
  expect(await backups(sql)).toHaveLength(0);
});

test("a backup that is cancelled while it waits for a lock leaves nothing behind", async ({ database }) => {
  const { sql } = database;
  await queueBackup(sql);
  const before = await everything(sql);
  const { worker } = await getAheadOfWorker(database, "lock table public.a in access exclusive mode");
  await sql`select pg_cancel_backend(${worker.pid})`;
  expect(await worker.ended).toBeUndefined();
  expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "query_canceled" } });
  expect((await everything(sql)).filter(({ name }) => name !== "stop")).toEqual(before);
});

test("a backup whose session is killed leaves nothing behind, and the next worker takes it again", async ({ database }) => {
  const { sql } = database;
  await queueBackup(sql);
  const goOn = await stopAfterMaking(database, "a_backup");
  const before = await everything(sql);
  const worker = await startWorker(database);
  await worker.waits();
  await sql`select pg_terminate_backend(${worker.pid}, 60000)`;
  expect(await worker.ended).toBeInstanceOf(Error);
  expect(await lastJob(sql)).toMatchObject({ status: "running", error: null });
  expect(await everything(sql)).toEqual(before);
  // The lost session's temporary view would keep its tables from being dropped.
  expect(await sql`select from pg_class where relname = 'migration_guard_tables'`).toHaveLength(0);

  await goOn();
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
  expect(await sql`select attempts from migration_guard.jobs`).toEqual([{ attempts: 2 }]);
  const checks = await verify(sql, "v1");
  expect([...checks].filter(([, { status }]) => status !== "OK")).toEqual([]);
});

test("a backup that loses its worker three times is given up", async ({ database }) => {
  const { sql } = database;
  await queueBackup(sql);
  await stopAfterMaking(database, "b_backup");
  for (let attempt = 1; attempt <= 3; attempt++) {
    const worker = await startWorker(database);
    await worker.waits();
    await sql`select pg_terminate_backend(${worker.pid}, 60000)`;
    expect(await worker.ended).toBeInstanceOf(Error);
  }
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "worker_lost" } });
  expect(await sql`select to_regnamespace('migration_backup_v1') as schema`).toEqual([{ schema: null }]);
});

test("nobody sees a backup before it is whole", async ({ database }) => {
  const { sql } = database;
  await queueBackup(sql);
  const goOn = await stopAfterMaking(database, "b_backup");
  const worker = await startWorker(database);
  await worker.waits();
  expect(await sql`select to_regnamespace('migration_backup_v1') as schema`).toEqual([{ schema: null }]);
  expect(await backups(sql)).toHaveLength(0);
  await expect(sql`select migration_guard.assert_ready('v1')`).rejects.toMatchObject({ code: "MG012" });
  await expect(sql`select migration_guard.enqueue_backup('v1', 'test')`).rejects.toMatchObject({ code: "MG010" });
  await goOn();
  expect(await worker.ended).toBeUndefined();
  expect(await sql`select migration_guard.assert_ready('v1') as answer`).toEqual([{ answer: "Ready for v1." }]);
});
