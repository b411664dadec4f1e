import { setTimeout as sleep } from "node:timers/promises";
import type postgres from "postgres";
import { describe, expect } from "vitest";
import { superuser } from "../../local/postgres.ts";
import { lastJob } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { heldJob, lockTable } from "../support/held-job.ts";
import { until } from "../support/until.ts";

/** Queues the backup of two tables, whose worker waits for the first until `release` is called. */
async function holdBackup({ sql, connect }: TestDatabase) {
  await sql.unsafe(`
    create schema app;
    create table app.a as select n as id, 'note ' || n as note from generate_series(1, 500) as n;
    create table app.b as select n as id from generate_series(1, 300) as n`).simple();
  await sql`select migration_guard.put_plan('v10', ${sql.json({ schema: "app", tables: "*" })}, 'test')`;
  await sql`select migration_guard.enqueue_backup('v10', 'test')`;
  const lock = await lockTable(connect(), "app.a");
  const worker = connect();
  const working = worker`call migration_guard.work()`.execute();
  await heldJob(sql);
  return { worker, working, ...lock };
}

async function checksums(sql: postgres.Sql) {
  const rows = await sql`
    select source_table, row_count::int, source_checksum = backup_checksum as is_same from migration_backup_v10.tables_backup order by 1`;
  return [...rows];
}

const whole = [
  { source_table: "a", row_count: 500, is_same: true },
  { source_table: "b", row_count: 300, is_same: true },
];

describe("a second session", () => {
  test("does not help where there is one processor", async ({ database }) => {
    const helper = database.connect();
    const { release, working } = await holdBackup(database);
    await helper`set max_parallel_workers = 1`;
    // It waits for nothing, though there is a backup to help.
    await helper`call migration_guard.help()`;
    expect(await database.sql`select count(*)::int as wanted from migration_guard.backup_to_help()`).toEqual([{
      wanted: 1,
    }]);
    await release();
    await working;
    expect(await checksums(database.sql)).toEqual(whole);
  });

  test("reads the tables in the worker's snapshot, so that the worker need not", async ({ database }) => {
    const { sql } = database;
    await database.connect(superuser).unsafe(`alter database ${database.name} set track_functions = 'all'`);
    const helper = database.connect();
    const { release, worker, working } = await holdBackup(database);
    // Nothing comes from the session's search_path.
    await helper.unsafe(`
      create schema evil;
      create function evil.current_setting(text) returns text language plpgsql as $$ begin raise 'misled'; end $$;
      create function evil.pg_sleep(float8) returns void language plpgsql as $$ begin raise 'misled'; end $$;
      create function evil.is_evil(text, text) returns boolean language plpgsql as $$ begin raise 'misled'; end $$;
      create operator evil.<> (leftarg = text, rightarg = text, function = evil.is_evil);
      create operator evil.= (leftarg = text, rightarg = text, function = evil.is_evil);
      create domain evil.text as pg_catalog.text check (pg_catalog.length(value) = 0);
      create domain evil.bool as pg_catalog.bool check (value is null);
      set search_path = evil, pg_catalog`).simple();
    const [{ pid }] = await helper<[{ pid: number }]>`select pg_catalog.pg_backend_pid() as pid`;
    const helping = helper`call migration_guard.help()`.execute();
    // A worker waits for no helper, and shows its snapshot for a moment only.
    await until(async () => {
      const rows = await sql`select from pg_stat_activity where pid = ${pid} and wait_event = 'PgSleep'`;
      return rows.length === 1;
    });
    // It belongs to no snapshot that is taken before it, and to none of the backup's but one for both.
    const writer = database.connect();
    await release();
    await Promise.all([
      writer`insert into app.b select n from generate_series(1001, 1200) as n`,
      working,
      helping,
    ]);
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
    const [a, b] = await checksums(sql);
    expect(a).toEqual(whole[0]);
    expect([300, 500]).toContain(b!.row_count);
    expect(b!.is_same).toBe(true);
    const [{ worker_pid }] = await worker<[{ worker_pid: number }]>`select pg_backend_pid() as worker_pid`;
    await Promise.all([worker.end(), helper.end()]);
    // A session's counts are there when it has gone.
    await until(async () => {
      const rows = await sql`select from pg_stat_activity where pid in ${sql([pid, worker_pid])}`;
      return rows.length === 0;
    });
    const calls = await sql`
      select funcname, calls::int from pg_stat_user_functions
      where schemaname = 'migration_guard' and funcname in ('read_sources', 'source_checksum', 'prove_sources') order by 1`;
    expect([...calls]).toEqual([
      { funcname: "prove_sources", calls: 1 },
      { funcname: "read_sources", calls: 1 },
      { funcname: "source_checksum", calls: 2 },
    ]);
    const [{ names }] = await sql`
      select count(*)::int as names from pg_stat_activity
      where datname = current_database() and application_name like 'migration_guard/%'` as unknown as [
      { names: number },
    ];
    expect(names).toBe(0);
  });

  test("has nothing to do where no backup is under way", async ({ database: { sql } }) => {
    await sql`call migration_guard.help()`;
    expect(await sql`select from pg_proc where pronamespace = pg_my_temp_schema()`).toHaveLength(0);
  });

  test("may help none but who can be the owner", async ({ database }) => {
    const other = database.connect(superuser);
    await expect(other`call migration_guard.help()`).rejects.toMatchObject({ code: "42501" });
  });
});

describe("a backup is whole all the same", () => {
  test.for<[string, "postgres" | "authenticator", (number: number) => string]>([
    [
      "when the helper has found something else",
      "postgres",
      (number) => `migration_guard/help/${number}/=${"0".repeat(32)}`,
    ],
    ["when the helper gets no further", "postgres", (number) => `migration_guard/help/${number}/5/10/reading`],
    ["when a stranger says that they help", "authenticator", (number) => `migration_guard/help/${number}/5/10/reading`],
  ])("%s", async ([, role, name], { database }) => {
    const { sql } = database;
    const helper = database.connect(role);
    const { release, working } = await holdBackup(database);
    const [{ number }] = await sql<[{ number: number }]>`select number from migration_guard.jobs`;
    await helper`select set_config('application_name', ${name(number)}, false)`;
    await release();
    await working;
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
    expect(await checksums(sql)).toEqual(whole);
  });

  test("when the helper is ended in the middle", async ({ database }) => {
    const { sql } = database;
    const helper = database.connect();
    const [{ pid }] = await helper<[{ pid: number }]>`select pg_backend_pid() as pid`;
    const { release, working } = await holdBackup(database);
    const helping = helper`call migration_guard.help()`.execute().catch(() => {});
    await release();
    await sql`select pg_terminate_backend(${pid})`;
    await Promise.all([working, helping]);
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
    expect(await checksums(sql)).toEqual(whole);
  });
});

/** Takes a backup, and gives what a session is called that still helps with it. */
async function nameOfOver(database: TestDatabase): Promise<string> {
  const { release, working } = await holdBackup(database);
  await release();
  await working;
  const [{ number }] = await database.sql<[{ number: number }]>`select number from migration_guard.jobs`;
  return `migration_guard/help/${number}/5/10/reading`;
}

test("a helper whose job has ended is ended by whoever runs jobs next, and a stranger is not", async ({ database }) => {
  const { sql } = database;
  const shown = await nameOfOver(database);
  const [helper, stranger] = [database.connect(), database.connect("authenticator")];
  for (const session of [helper, stranger]) {
    await session`select set_config('application_name', ${shown}, false)`;
  }
  const reading = helper`select count(*) from generate_series(1, 1000000000)`.then(() => "read", ({ code }) => code);
  const sleeping = stranger`select pg_sleep(3)`.then(() => "slept", ({ code }) => code);
  await sleep(500);
  await sql`call migration_guard.work()`;
  expect(await reading).toBe("57014");
  expect(await sleeping).toBe("slept");
});

test("a helper that gives way is left to see for itself that it is not needed any more", async ({ database }) => {
  const { sql } = database;
  const shown = await nameOfOver(database);
  const helper = database.connect();
  await helper`select set_config('application_name', ${shown}, false)`;
  const waiting = helper`select pg_sleep(2)`.then(() => "waited", ({ code }) => code);
  await sleep(500);
  await sql`call migration_guard.work()`;
  expect(await waiting).toBe("waited");
});

test("a copy that is not what the helper has read is noticed", async ({ database }) => {
  const { sql } = database;
  const admin = database.connect(superuser);
  // As a fault of the disk would look: a row of the copy is another than what was read.
  await admin.unsafe(`
    create function public.damage() returns event_trigger language plpgsql as $$
    begin
      if to_regclass('migration_backup_v10.b_backup') is not null then
        delete from migration_backup_v10.b_backup where id = 7;
      end if;
    end $$;
    alter function public.damage() owner to postgres;
    create event trigger damage on ddl_command_end when tag in ('CREATE TABLE AS') execute function public.damage()`)
    .simple();
  const helper = database.connect();
  const { release, working } = await holdBackup(database);
  const helping = helper`call migration_guard.help()`.execute();
  await release();
  await Promise.all([working, helping]);
  expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "copy_differs" } });
  expect(await sql`select from pg_namespace where nspname like 'migration_backup%'`).toHaveLength(0);
});
