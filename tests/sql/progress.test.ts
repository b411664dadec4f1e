import type postgres from "postgres";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { backUp, lastJob, verify, work } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { slowTicks } from "../support/slow-ticks.ts";

type Progress = {
  step: string;
  done: number;
  total: number | null;
  unit: string | null;
  percent: number;
  eta_seconds: number | null;
};

/** A table that is too large to be copied or compared without a tick, with values whose reading takes a while. */
const createBig = (sql: postgres.Sql, keyIncludes = "") =>
  sql.unsafe(`
    create table public.big as
    select n as id, repeat('x', 300) as filling, jsonb_build_object('n', n, 'x', repeat('y', 100)) as doc
    from generate_series(1, 200000) as n;
    -- Its size is to stay what it is.
    alter table public.big set (autovacuum_enabled = false, toast.autovacuum_enabled = false);
    alter table public.big add primary key (id) ${keyIncludes};
    analyze public.big;
  `);

/** Runs what is queued, and gives every progress that another session has seen meanwhile, one after the other. */
async function watch(database: TestDatabase): Promise<Progress[]> {
  const { sql } = database;
  const [job] = await sql<{ id: string }[]>`select id from migration_guard.jobs order by number desc limit 1`;
  const seen: Progress[] = [];
  let isOver = false;
  const running = work(database.connect()).finally(() => isOver = true);
  while (!isOver) {
    const [now] = await sql<{ status: string; progress: Progress }[]>`
      select status, progress from migration_guard_api.get_job(${job!.id})`;
    // Before it begins, it does not know how much there is to do.
    if (now!.status === "running" && (now!.progress.total !== null || seen.length > 0)) seen.push(now!.progress);
    await sleep(5);
  }
  await running;
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
  return seen;
}

/** What a reader relies on, whatever the job. */
function expectSane(seen: Progress[], unit: string): void {
  for (const [n, now] of seen.entries()) {
    const before = seen[n - 1];
    expect(now.unit).toBe(unit);
    expect(now.done).toBeLessThanOrEqual(now.total!);
    expect(now.percent).toBe(now.total === 0 ? 0 : Math.floor((100 * now.done) / now.total!));
    expect(now.eta_seconds === null).toBe(now.done === 0);
    expect(now.eta_seconds ?? 0).toBeGreaterThanOrEqual(0);
    if (before) expect(now.done).toBeGreaterThanOrEqual(before.done);
    if (before) expect(now.total).toBe(before.total);
  }
}

/** The different positions at which a step was seen. */
const positions = (seen: Progress[], step: string) =>
  new Set(seen.filter((now) => now.step === step).map(({ done }) => done));

/** Each of some statements, by how it begins, was seen at more than its beginning and its end. */
function expectMoving(seen: Progress[], statements: string[]): void {
  for (const statement of statements) {
    const steps = new Set(seen.map(({ step }) => step).filter((step) => step.toLowerCase().startsWith(statement)));
    expect([...steps], statement).toHaveLength(1);
    expect(positions(seen, [...steps][0]!).size, statement).toBeGreaterThan(2);
  }
}

/** Queues the rollback that is planned now. */
async function enqueueRollback(sql: postgres.Sql, options: Record<string, unknown> = {}): Promise<void> {
  const [plan] = await sql`select plan_hash from migration_guard.plan_rollback('v10', ${sql.json(options as never)})`;
  await sql`select migration_guard.enqueue_rollback('v10', ${plan!.plan_hash}, actor => 'test')`;
}

const lastProgress = async (sql: postgres.Sql) =>
  (await sql<{ progress: Progress }[]>`select progress from migration_guard.jobs order by number desc limit 1`)[0]!
    .progress;

test("a look between two steps waits for the next one", async ({ database }) => {
  const { sql } = database;
  const worker = database.connect();
  const [{ pid }] = await worker<[{ pid: number }]>`select pg_backend_pid() as pid`;
  const [{ id, number }] = await sql<[{ id: string; number: number }]>`
    insert into migration_guard.jobs (kind, version, actor, status, worker_pid, started_at)
    values ('backup', 'v10.0', 'test', 'running', ${pid}, now()) returning id, number::int`;
  const show = (step: string, done: number) => `set application_name = 'migration_guard/${number}/${done}/100/${step}'`;
  await worker.unsafe(show("trying", 10));
  const looked = sql<[{ progress: Progress }]>`select progress from migration_guard_api.get_job(${id})`;
  const changed = sleep(30).then(() => worker.unsafe(show("copying", 20)));
  const [[{ progress }]] = await Promise.all([looked, changed]);
  expect(progress).toMatchObject({ step: "copying", done: 20, total: 100 });
});

test("a default that reads like a statement is not taken for one", async ({ database }) => {
  const { sql } = database;
  await createBig(sql);
  const note = "a from (select x from public.big as t) as s left join public.big as t where exists (select)";
  await sql.unsafe(
    `create table public.s (id int primary key, note text default '${note}'); insert into public.s values (1)`,
  ).simple();
  await backUp(sql, "v10", { tables: ["s"] });
  await sql.unsafe(
    "drop table public.s; create table public.s (id int primary key); insert into public.s values (1), (2)",
  ).simple();
  await enqueueRollback(sql, { data: "keep" });
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
  expect([...await sql`select id, note from public.s order by id`]).toEqual([{ id: 1, note }, { id: 2, note }]);
});

test("a backup shows how far it is in reading, copying and reading back one table", async ({ database }) => {
  const { sql } = database;
  await createBig(sql);
  await slowTicks(sql);
  await sql`select migration_guard.put_plan('v10', ${sql.json({ tables: ["big"] })}, 'test')`;
  await sql`select migration_guard.enqueue_backup('v10', 'test')`;
  const seen = await watch(database);
  expectSane(seen, "bytes");
  for (const step of ["reading", "copying", "proving"]) {
    expect(positions(seen, `${step} public.big`).size, step).toBeGreaterThan(1);
  }
  const { total } = seen[0]!;
  const [size] = await sql<{ bytes: number }[]>`select pg_table_size('public.big')::int as bytes`;
  expect(total).toBe(3 * size!.bytes);
  expect(await lastProgress(sql)).toEqual({
    step: "done",
    done: total,
    total,
    unit: "bytes",
    percent: 100,
    eta_seconds: 0,
  });
  // Read piece by piece, a checksum is what it is in one.
  const [recorded] = await sql`select source_checksum, backup_checksum from migration_backup_v10.tables_backup`;
  const [query] = await sql`select migration_guard.source_checksum_query('public.big'::regclass) as query`;
  const [whole] = await sql.unsafe(query!.query);
  expect(recorded).toEqual({ source_checksum: whole!.concat_ws, backup_checksum: whole!.concat_ws });
});

test("a verification shows how far it is in one table", async ({ database }) => {
  const { sql } = database;
  await createBig(sql);
  await slowTicks(sql);
  await backUp(sql, "v10", { tables: ["big"] });
  await sql`select migration_guard.enqueue_verification('v10', 'test')`;
  const seen = await watch(database);
  expectSane(seen, "bytes");
  expect(positions(seen, "verifying migration_backup_v10.big_backup").size).toBeGreaterThan(1);
});

test("a diff shows how far it is in reading a table, and in joining it with its copy", async ({ database }) => {
  const { sql } = database;
  await createBig(sql);
  await slowTicks(sql);
  await backUp(sql, "v10", { tables: ["big"] });
  await sql`update public.big set filling = 'other' where id = 100000`;
  await sql`select migration_guard.enqueue_diff('v10', 'test')`;
  const seen = await watch(database);
  expectSane(seen, "bytes");
  expect(positions(seen, "reading public.big").size).toBeGreaterThan(1);
  expect(positions(seen, "comparing public.big").size).toBeGreaterThan(1);
  expect((await lastJob(sql)).result.summary).toMatchObject({ rows: { inserted: 0, updated: 1, deleted: 0 } });
});

test("a rollback shows how far it is in putting the rows of one table back", async ({ database }) => {
  const { sql } = database;
  await createBig(sql, "include (filling, doc)");
  await slowTicks(sql);
  await backUp(sql, "v10", { tables: ["big"] });
  await sql`drop table public.big`;
  await enqueueRollback(sql);
  const seen = await watch(database);
  expectSane(seen, "rows");
  // There are no statistics of a table that is gone.
  expectMoving(seen, ["insert into public.big ", "alter table only public.big add constraint big_pkey primary key"]);
  expect(await lastProgress(sql)).toMatchObject({ step: "done", done: seen[0]!.total, total: seen[0]!.total });
  expect((await sql`select count(*)::int as rows from public.big`)[0]).toEqual({ rows: 200000 });
});

test("a rollback shows how far it is in building indexes and keys", async ({ database }) => {
  const { sql } = database;
  // Expensive ones: to be built takes a while on any machine.
  await createBig(sql, "include (filling, doc)");
  await sql`create index big_filling on public.big (md5(repeat(filling, 10) || id))`;
  await backUp(sql, "v10", { tables: ["big"] });
  await sql.unsafe("alter table public.big drop constraint big_pkey; drop index public.big_filling");
  await enqueueRollback(sql);
  const seen = await watch(database);
  expectSane(seen, "rows");
  expectMoving(seen, ["create index big_filling ", "alter table only public.big add constraint big_pkey primary key"]);
});

test("a rollback shows how far it is in making the rows of a table those of its copy", async ({ database }) => {
  const { sql } = database;
  await createBig(sql);
  await slowTicks(sql);
  await backUp(sql, "v10", { tables: ["big"] });
  await sql`update public.big set filling = filling || 'other' where id % 3 = 0`;
  await sql`analyze public.big`;
  await enqueueRollback(sql, { data: "restore" });
  const seen = await watch(database);
  expectSane(seen, "rows");
  expectMoving(seen, [
    "insert into migration_backup_v10.big_discarded ",
    "delete from only public.big ",
    "insert into public.big ",
  ]);
});

test("what was shown is not taken back by a rollback that gives its locks back and tries again", async ({ database }) => {
  const { sql } = database;
  await createBig(sql);
  await sql`create table public.other (id int primary key)`;
  await backUp(sql, "v10", { tables: ["big", "other"] });
  // Its statement comes after the rows.
  await sql.unsafe("drop table public.big; comment on table public.other is 'new'");
  await enqueueRollback(sql);
  const other = database.connect();
  await other.unsafe("begin; lock table public.other in share update exclusive mode");
  const [job] = await sql<{ id: string }[]>`select id from migration_guard.jobs order by number desc limit 1`;
  const watching = watch(database);
  // It waits for five seconds, and begins again.
  for (let step = ""; step !== "waiting for locks";) {
    const [now] = await sql<{ progress: Progress }[]>`select progress from migration_guard_api.get_job(${job!.id})`;
    step = now!.progress.step;
    await sleep(20);
  }
  await other.unsafe("rollback");
  const seen = await watching;
  expectSane(seen, "rows");
  const waiting = seen.findIndex(({ step }) => step === "waiting for locks");
  expect(seen[waiting]!.done).toBeGreaterThan(seen[waiting]!.total! / 3);
  expect(seen.slice(waiting).some(({ step }) => step.startsWith("insert into public.big "))).toBe(true);
});

test("a cleanup counts its statements", async ({ database }) => {
  const { sql } = database;
  await sql`create table public.kept as select 1 as id`;
  await backUp(sql, "v10", { tables: ["kept"], retention_days: 1, trash_hours: 0 });
  await verify(sql, "v10");
  await sql`select migration_guard.confirm_backup('v10', 'All is well.', 'test')`;
  await sql`update migration_guard.backups set confirmed_at = now() - interval '2 days'`;
  const [plan] = await sql`select token from migration_guard.plan_cleanup('v10', 'test')`;
  await sql`select migration_guard.enqueue_cleanup('v10', 'migration_backup_v10', ${plan!.token}, 'test')`;
  expectSane(await watch(database), "statements");
  expect(await lastProgress(sql)).toMatchObject({ step: "done", done: 4, total: 4, percent: 100 });
});

test("partitions, tables without rows and tables without statistics are counted, too", async ({ database }) => {
  const { sql } = database;
  await sql.unsafe(`
    create table public.parted (id int, filling text) partition by range (id);
    create table public.parted_1 partition of public.parted for values from (1) to (150001) with (autovacuum_enabled = false);
    create table public.parted_2 partition of public.parted for values from (150001) to (300001) with (autovacuum_enabled = false);
    create table public.parted_3 partition of public.parted default;
    insert into public.parted select n, repeat('x', 400) from generate_series(1, 300000) as n;
    create table public.empty (id int primary key)`);
  await sql`select migration_guard.put_plan('v10', ${sql.json({ tables: ["parted", "empty"] })}, 'test')`;
  await sql`select migration_guard.enqueue_backup('v10', 'test')`;
  const backup = await watch(database);
  expectSane(backup, "bytes");
  for (const step of ["reading", "copying", "proving"]) {
    expect(positions(backup, `${step} public.parted`).size, step).toBeGreaterThan(step === "copying" ? 2 : 1);
  }
  await sql.unsafe("drop table public.parted, public.empty");
  await enqueueRollback(sql);
  const rollback = await watch(database);
  expectSane(rollback, "rows");
  expectMoving(rollback, ["insert into public.parted "]);
});

test("nothing of a job's progress is left in the session that ran it", async ({ database }) => {
  const { sql } = database;
  await sql`create table public.kept as select 1 as id`;
  const settings = () =>
    sql`select current_setting('application_name') as name,
      coalesce(string_agg(s.value, ''), '') as left_over, to_regclass('pg_temp.migration_guard_shown') as shown
    from unnest('{job,unit,step,done,total}'::text[]) as n (name)
    cross join lateral current_setting('migration_guard.progress_' || n.name, true) as s (value)`;
  const before = await settings();
  await backUp(sql, "v10", { tables: ["kept"] });
  expect(await settings()).toEqual(before);
});
