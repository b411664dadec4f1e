import type postgres from "postgres";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { backUp, lastJob, work } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";

type Progress = {
  step: string;
  done: number;
  total: number | null;
  unit: string | null;
  percent: number;
  eta_seconds: number | null;
};

/** A table that is too large to be copied or compared without a tick, with values whose reading takes a while. */
const createBig = (sql: postgres.Sql) =>
  sql.unsafe(`
    create table public.big as
    select n as id, repeat('x', 300) as filling, jsonb_build_object('n', n, 'x', repeat('y', 100)) as doc
    from generate_series(1, 300000) as n;
    -- Its size is to stay what it is.
    alter table public.big set (autovacuum_enabled = false, toast.autovacuum_enabled = false);
    alter table public.big add primary key (id);
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
    if (now!.status === "running" && now!.progress.total !== null) seen.push(now!.progress);
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

const lastProgress = async (sql: postgres.Sql) =>
  (await sql<{ progress: Progress }[]>`select progress from migration_guard.jobs order by number desc limit 1`)[0]!
    .progress;

test("a backup shows how far it is in reading, copying and reading back one table", async ({ database }) => {
  const { sql } = database;
  await createBig(sql);
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
  await backUp(sql, "v10", { tables: ["big"] });
  await sql`select migration_guard.enqueue_verification('v10', 'test')`;
  const seen = await watch(database);
  expectSane(seen, "bytes");
  expect(positions(seen, "verifying migration_backup_v10.big_backup").size).toBeGreaterThan(1);
});

test("a diff shows how far it is in reading a table, and in joining it with its copy", async ({ database }) => {
  const { sql } = database;
  await createBig(sql);
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
  await createBig(sql);
  await backUp(sql, "v10", { tables: ["big"] });
  await sql`drop table public.big`;
  const [plan] = await sql`select plan_hash from migration_guard.plan_rollback('v10')`;
  await sql`select migration_guard.enqueue_rollback('v10', ${plan!.plan_hash}, actor => 'test')`;
  const seen = await watch(database);
  expectSane(seen, "rows");
  const [insert] = [...new Set(seen.map(({ step }) => step))].filter((step) =>
    step.startsWith("insert into public.big ")
  );
  expect(positions(seen, insert!).size).toBeGreaterThan(1);
  expect(await lastProgress(sql)).toMatchObject({ step: "done", done: seen[0]!.total, total: seen[0]!.total });
  expect((await sql`select count(*)::int as rows from public.big`)[0]).toEqual({ rows: 300000 });
});

test("nothing of a job's progress is left in the session that ran it", async ({ database }) => {
  const { sql } = database;
  await sql`create table public.kept as select 1 as id`;
  const settings = () =>
    sql`select current_setting('application_name') as name,
      coalesce(string_agg(s.value, ''), '') as left_over
    from unnest('{job,unit,step,done,shown,total}'::text[]) as n (name)
    cross join lateral current_setting('migration_guard.progress_' || n.name, true) as s (value)`;
  const before = await settings();
  await backUp(sql, "v10", { tables: ["kept"] });
  expect(await settings()).toEqual(before);
});
