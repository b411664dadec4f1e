import { setTimeout as sleep } from "node:timers/promises";
import type postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { superuser } from "../../local/postgres.ts";
import { lastJob } from "../support/backup.ts";
import { createOwnServer, type OwnServer } from "../support/own-server.ts";
import { until } from "../support/until.ts";

// What others do is counted for the whole server: it is one where nobody else is at work.
let server: OwnServer;

beforeAll(async () => {
  server = await createOwnServer(undefined, {
    max_parallel_workers: "2",
    max_parallel_workers_per_gather: "1",
    autovacuum: "off",
  });
  const admin = server.open(superuser);
  await admin.unsafe(`
    create schema app authorization postgres;
    create schema elsewhere authorization postgres;
    create table app.a as select n as id, 'note ' || n as note from generate_series(1, 500) as n;
    create table app.b as select n as id from generate_series(1, 300) as n;
    create table elsewhere.c (id int);
    alter table app.a owner to postgres;
    alter table app.b owner to postgres;
    alter table elsewhere.c owner to postgres;
    create function public.take_long() returns event_trigger language plpgsql as $$ begin perform pg_sleep(2); end $$;
    create event trigger take_long on ddl_command_end when tag in ('CREATE TABLE AS') execute function public.take_long()`)
    .simple();
  const sql = server.open();
  await sql`select migration_guard.put_plan('v10', ${sql.json({ schema: "app", tables: "*" })}, 'test')`;
  await server.closeAll();
});

afterAll(() => server.remove());

type Shown = { worker: string; helper: string };

/** Backs up, with a helper, and gives what the two have shown meanwhile. To copy a table takes two seconds. */
async function backUp(): Promise<Shown[]> {
  const queue = server.open();
  await queue`select migration_guard.enqueue_backup('v10', 'test')`;
  await queue.end();
  const [worker, helper, watcher] = [server.open(), server.open(), server.open()];
  let isOver = false;
  const running = Promise.all([worker`call migration_guard.work()`, helper`call migration_guard.help()`]).finally(() =>
    isOver = true
  );
  const shown: Shown[] = [];
  while (!isOver) {
    const [now] = await watcher<[Shown]>`
      select coalesce(max(application_name) filter (where application_name !~ '/help/'), '') as worker,
        coalesce(max(application_name) filter (where application_name ~ '/help/'), '') as helper
      from pg_stat_activity where application_name like 'migration_guard/%'`;
    shown.push(now);
    await sleep(100);
  }
  await running;
  expect(await lastJob(watcher)).toMatchObject({ status: "succeeded", error: null });
  expect([
    ...await watcher`
      select source_table, row_count::int, source_checksum = backup_checksum as is_same
      from migration_backup_v10.tables_backup order by 1`,
  ]).toEqual([
    { source_table: "a", row_count: 500, is_same: true },
    { source_table: "b", row_count: 300, is_same: true },
  ]);
  await watcher.unsafe("drop schema migration_backup_v10 cascade");
  return shown;
}

const isCopying = ({ worker }: Shown) => worker.includes("/copying");
const hasRead = ({ helper }: Shown) => /\/help\/\d+\/(=|[1-9])/.test(helper);

/** Somebody who writes until `stop` is called. */
function write(sql: postgres.Sql): { stop: () => Promise<void> } {
  let isOver = false;
  const writing = (async () => {
    while (!isOver) {
      await sql`insert into elsewhere.c values (1)`;
      await sleep(20);
    }
  })();
  return {
    stop: () => {
      isOver = true;
      return writing;
    },
  };
}

test("on two processors a helper reads while the worker copies, when nobody else is at work", async () => {
  const shown = await backUp();
  expect(shown.filter((now) => isCopying(now) && hasRead(now))).not.toHaveLength(0);
});

test("on two processors a helper that somebody's writing keeps from beginning leaves all to the worker", async () => {
  const writer = write(server.open());
  const shown = await backUp();
  await writer.stop();
  expect(shown.filter((now) => isCopying(now) && now.helper !== "")).not.toHaveLength(0);
  expect(shown.filter(hasRead)).toEqual([]);
});

test("a helper that gives way goes on when the worker waits for it, and ends when the worker reads by itself", async () => {
  const [sql, worker, helper] = [server.open(), server.open(), server.open()];
  const [{ pid }] = await worker<[{ pid: number }]>`select pg_backend_pid() as pid`;
  const [{ number }] = await sql<[{ number: number }]>`
    insert into migration_guard.jobs (kind, version, actor, status, worker_pid, started_at)
    values ('backup', 'v11.0', 'test', 'running', ${pid}, now()) returning number::int`;
  const show = (step: string) =>
    worker`select set_config('application_name', ${`migration_guard/${number}/5/10/${step}`}, false)`;
  /** What becomes of the helper when the worker shows another step. */
  const give = (step: string) =>
    helper.begin(async (session) => {
      await show("copying@1");
      await session`
        select set_config('migration_guard.gives_way', 'help', true), set_config('migration_guard.progress_job', ${`help/${number}`}, true)`;
      let isOver = false;
      const giving = session`select migration_guard.give_way()`.execute().finally(() => isOver = true);
      await sleep(1000);
      expect(isOver).toBe(false);
      await show(step);
      await giving;
    });
  const writer = write(server.open());
  await give("reading");
  await expect(give("reading@1")).rejects.toMatchObject({ code: "57000" });
  await writer.stop();
  await sql`delete from migration_guard.jobs where number = ${number}`;
});

test("on two processors a worker reads with a second one only where nobody has written for a second", async () => {
  const [sql, other] = [server.open(), server.open()];
  const workers = async (session: postgres.TransactionSql) => {
    await session`select migration_guard.give_way()`;
    const [now] = await session<
      [{ workers: string }]
    >`select current_setting('max_parallel_workers_per_gather') as workers`;
    return now.workers;
  };
  await sql.begin(async (session) => {
    await session`select migration_guard.settle_for_copies()`;
    await session`select set_config('migration_guard.progress_job', '1000', true)`;
    expect(await workers(session)).toBe("0");
    await until(async () => await workers(session) === "1");
    const writer = write(other);
    await until(async () => await workers(session) === "0");
    await sleep(2000);
    expect(await workers(session)).toBe("0");
    await writer.stop();
    await until(async () => await workers(session) === "1");
    // Nor beside a helper that reads.
    await other`select set_config('application_name', 'migration_guard/help/1000/5/10/reading', false)`;
    await until(async () => await workers(session) === "0");
    await other`select set_config('application_name', 'migration_guard/help/1000/=abc', false)`;
    await until(async () => await workers(session) === "1");
  });
});

/** Whether it is quiet for a session that looks twice, 0.15 s apart, while another one is sent `queries`. */
async function isQuietBeside(other: postgres.Sql, queries: string[]): Promise<boolean> {
  const sql = server.open();
  const isQuiet = await sql.begin(async (session) => {
    await session`select set_config('migration_guard.traffic', '', true)`;
    expect([...await session`select migration_guard.is_quiet()`]).toEqual([{ is_quiet: false }]);
    const waiting = session`select pg_sleep(0.15)`.execute();
    for (const query of queries) await other.unsafe(query);
    await waiting;
    const [now] = await session<[{ is_quiet: boolean }]>`select migration_guard.is_quiet()`;
    return now.is_quiet;
  });
  await sql.end();
  return isQuiet;
}

test("it is quiet at once where no other session does anything", async () => {
  await server.closeAll();
  const other = server.open();
  await other`select 1`;
  expect(await isQuietBeside(other, [])).toBe(true);
  for (const query of ["insert into elsewhere.c values (1)", "select 1"]) {
    expect(await isQuietBeside(other, [query]), query).toBe(false);
  }
  const job = "set application_name = 'migration_guard/1000/5/10/copying'";
  expect(await isQuietBeside(other, [job, "select 1"])).toBe(true);
});

test("a session that waits keeps nobody from being quiet, one that computes does", async () => {
  await server.closeAll();
  const other = server.open();
  const run = async (query: string) => {
    const running = other.unsafe(query).execute();
    await sleep(100);
    const isQuiet = await isQuietBeside(other, []);
    await running;
    return isQuiet;
  };
  expect(await run("select pg_sleep(1)")).toBe(true);
  expect(await run("select count(*) from generate_series(1, 10000000) as a")).toBe(false);
});

test("where the role may not see what others do, it is quiet after a second only", async () => {
  await server.closeAll();
  const admin = server.open(superuser);
  await admin`revoke pg_monitor from postgres`;
  expect(await isQuietBeside(admin, [])).toBe(false);
  const sql = server.open();
  await sql.begin(async (session) => {
    await until(async () => {
      const [now] = await session<[{ is_quiet: boolean }]>`select migration_guard.is_quiet()`;
      return now.is_quiet;
    });
  });
  await admin`grant pg_monitor to postgres`;
});
