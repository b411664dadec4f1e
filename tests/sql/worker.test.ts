import postgres from "postgres";
import { expect } from "vitest";
import { databaseUrl } from "../../local/database-url.ts";
import { backUp, lastJob, work } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";
import { slowTicks } from "../support/slow-ticks.ts";
import { until } from "../support/until.ts";

type JobRow = { status: string; attempts: number; worker_pid: number };

const small = { tables: ["kept"] };
const createSmall = (sql: postgres.Sql) => sql`create table public.kept as select generate_series(1, 10) as id`;
const enqueueVerification = async (sql: postgres.Sql, version: string): Promise<string> => {
  const [job] = await sql<{ id: string }[]>`select id from migration_guard_api.verify_backup(${version}, 'test')`;
  return job!.id;
};
const enqueueBackup = async (sql: postgres.Sql, version: string): Promise<string> => {
  const [job] = await sql<{ id: string }[]>`select id from migration_guard_api.create_backup(${version}, 'test')`;
  return job!.id;
};
const readJob = async (sql: postgres.Sql, id: string): Promise<JobRow> => {
  const [job] = await sql<JobRow[]>`select status, attempts, worker_pid from migration_guard.jobs where id = ${id}`;
  return job!;
};
const exists = async (sql: postgres.Sql, schema: string) =>
  (await sql`select to_regnamespace(${schema}) is not null as exists`)[0]!.exists;

/** A transaction of another session that somebody has to wait for. */
async function hold({ connect }: TestDatabase, statement: string): Promise<{ release: () => Promise<void> }> {
  const sql = connect();
  await sql.unsafe("begin");
  await sql.unsafe(statement);
  return {
    release: async () => {
      await sql.unsafe("rollback");
    },
  };
}

/** Waits until a worker is inside a job and waits there for what somebody holds. */
function isHeld(sql: postgres.Sql, id: string): Promise<JobRow> {
  return until(async () => {
    const [job] = await sql<JobRow[]>`
      select j.status, j.attempts, j.worker_pid from migration_guard.jobs as j
      join pg_stat_activity as a on a.pid = j.worker_pid and a.wait_event_type = 'Lock'
      where j.id = ${id} and j.status = 'running'`;
    return job;
  });
}

/** What a session must not leave behind for whoever gets it from the pool next. */
async function leftovers(sql: postgres.Sql) {
  const [row] = await sql`
    select (select count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
      to_regclass('pg_temp.migration_guard_tables') as view, current_setting('application_name') as application_name,
      current_setting('lock_timeout') as lock_timeout, current_setting('transaction_isolation') as isolation`;
  return row;
}

// Who runs what

test("however many workers there are, each job runs once", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  const versions = ["v1", "v2", "v3", "v4", "v5"];
  for (const version of versions) {
    await sql`select migration_guard.put_plan(${version}, ${sql.json(small)}, 'test')`;
    await enqueueBackup(sql, version);
  }
  const workers = versions.map(() => database.connect());
  await Promise.all(workers.map(work));
  for (const version of versions) for (let n = 0; n < 4; n++) await enqueueVerification(sql, version);
  await Promise.all(workers.map(work));
  expect(await sql`select status, attempts, count(*)::int from migration_guard.jobs group by status, attempts`)
    .toEqual([{ status: "succeeded", attempts: 1, count: 25 }]);
});

test("a job that one worker runs is left alone by the next", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await backUp(sql, "v10", small);
  const id = await enqueueVerification(sql, "v10");
  const holder = await hold(database, "lock table migration_backup_v10.kept_backup");
  const running = work(database.connect());
  const { worker_pid } = await isHeld(sql, id);

  await work(sql);
  expect(await readJob(sql, id)).toEqual({ status: "running", attempts: 1, worker_pid });
  await holder.release();
  await running;
  expect(await readJob(sql, id)).toEqual({ status: "succeeded", attempts: 1, worker_pid });
});

test("jobs of one version run one after the other, those of another version meanwhile", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await backUp(sql, "v10", small);
  await backUp(sql, "v11", small);
  const holder = await hold(database, "lock table migration_backup_v10.kept_backup");
  const first = await enqueueVerification(sql, "v10");
  const second = await enqueueVerification(sql, "v10");
  const other = await enqueueVerification(sql, "v11");
  const running = work(database.connect());
  await isHeld(sql, first);

  await work(sql);
  expect(await readJob(sql, first)).toMatchObject({ status: "running" });
  expect(await readJob(sql, second)).toMatchObject({ status: "queued", attempts: 0 });
  expect(await readJob(sql, other)).toMatchObject({ status: "succeeded" });

  await holder.release();
  await running;
  const [order] = await sql`
    select a.finished_at <= b.started_at as one_after_the_other
    from migration_guard.jobs as a, migration_guard.jobs as b where a.id = ${first} and b.id = ${second}`;
  expect(order).toEqual({ one_after_the_other: true });
  expect(await readJob(sql, second)).toMatchObject({ status: "succeeded", attempts: 1 });
});

test("a backup that waits for a locked table keeps no other version from its backup", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await sql`create table public.locked (id int)`;
  await sql`select migration_guard.put_plan('v10', ${sql.json({ tables: ["kept", "locked"] })}, 'test')`;
  await sql`select migration_guard.put_plan('v11', ${sql.json(small)}, 'test')`;
  const holder = await hold(database, "lock table public.locked");
  const waits = await enqueueBackup(sql, "v10");
  const goesOn = await enqueueBackup(sql, "v11");
  const running = work(database.connect());
  await isHeld(sql, waits);

  await work(sql);
  expect(await readJob(sql, goesOn)).toMatchObject({ status: "succeeded" });
  expect(await readJob(sql, waits)).toMatchObject({ status: "running" });
  await holder.release();
  await running;
  expect(await readJob(sql, waits)).toMatchObject({ status: "succeeded" });
});

test("a backup waits for no table outside of its plan's schema", async ({ example }) => {
  const { sql } = example;
  await sql`create schema app`;
  await sql`create table app.kept as select 1 as id`;
  const holder = await hold(example, "lock table public.profiles, public.coordinator_notes, public.daily_logs");
  await backUp(sql, "v10", { schema: "app", tables: ["kept"] });
  await holder.release();
});

test("a table of the schema that is locked fails the backup before it copies a row, and the error says by whom", async ({ example }) => {
  const { sql } = example;
  await createSmall(sql);
  await sql`select migration_guard.put_plan('v10', ${sql.json(small)}, 'test')`;
  const holder = await hold(example, "lock table public.profiles");
  await enqueueBackup(sql, "v10");
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({
    status: "failed",
    error: {
      code: "lock_timeout",
      message: expect.stringMatching(
        /public\.profiles is locked by session \d+ \(postgres, .*\) for \d+ seconds\. Nothing/,
      ),
    },
  });
  expect(await exists(sql, "migration_backup_v10")).toBe(false);
  await holder.release();
});

test("a table that nobody gives up in ten seconds fails the backup with lock_timeout", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await sql`select migration_guard.put_plan('v10', ${sql.json(small)}, 'test')`;
  const holder = await hold(database, "lock table public.kept");
  await enqueueBackup(sql, "v10");
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "lock_timeout" } });
  expect(await exists(sql, "migration_backup_v10")).toBe(false);
  await holder.release();
  await enqueueBackup(sql, "v10");
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded" });
});

test("fifty requests for a backup at once make one job and forty-nine refusals", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await sql`select migration_guard.put_plan('v10', ${sql.json(small)}, 'test')`;
  const many = database.connect("postgres", 50);
  const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => enqueueBackup(many, "v10")));
  const refusals = outcomes.filter((outcome) => outcome.status === "rejected").map(({ reason }) => reason.code);
  expect(refusals).toEqual(Array.from({ length: 49 }, () => "MG010"));
  expect(await sql`select status from migration_guard.jobs`).toEqual([{ status: "queued" }]);
});

test("while a backup runs, asking for another of that version is refused", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await sql`select migration_guard.put_plan('v10', ${sql.json(small)}, 'test')`;
  const id = await enqueueBackup(sql, "v10");
  const holder = await hold(database, "lock table public.kept");
  const running = work(database.connect());
  await isHeld(sql, id);
  await expect(enqueueBackup(sql, "v10.0")).rejects.toMatchObject({ code: "MG010" });
  await holder.release();
  await running;
  await expect(enqueueBackup(sql, "v10.0")).rejects.toMatchObject({ code: "MG009" });
});

test("a worker with nothing to do ends, and so does one that has done everything", async ({ database: { sql } }) => {
  await work(sql);
  await createSmall(sql);
  await backUp(sql, "v10", small);
  await work(sql);
  expect(await sql`select status, attempts from migration_guard.jobs`).toEqual([{ status: "succeeded", attempts: 1 }]);
});

// Lost and cancelled workers

test("a backup whose worker was killed is taken by the next worker, and nothing of the first is left", async ({ example }) => {
  const { sql } = example;
  await sql`select migration_guard.put_plan('v10', ${sql.json(examplePlan)}, 'test')`;
  const id = await enqueueBackup(sql, "v10");
  const holder = await hold(example, registerBackup);
  const lost = work(example.connect()).catch((error) => error);
  const { worker_pid } = await isHeld(sql, id);
  await sql`select pg_terminate_backend(${worker_pid}, 5000)`;
  expect(await lost).toBeInstanceOf(Error);
  expect(await exists(sql, "migration_backup_v10")).toBe(false);
  expect(await readJob(sql, id)).toMatchObject({ status: "running", attempts: 1 });

  await holder.release();
  await work(sql);
  expect(await readJob(sql, id)).toMatchObject({ status: "succeeded", attempts: 2 });
  expect(await sql`select state from migration_guard_api.list_backups()`).toEqual([{ state: "fresh" }]);
});

test("a job that loses its worker three times fails with worker_lost, and holds up nothing", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await backUp(sql, "v10", small);
  const id = await enqueueVerification(sql, "v10");
  const next = await enqueueVerification(sql, "v10");
  const holder = await hold(database, "lock table migration_backup_v10.kept_backup");
  for (let attempt = 1; attempt <= 3; attempt++) {
    const lost = work(database.connect()).catch((error) => error);
    const job = await isHeld(sql, id);
    expect(job).toMatchObject({ attempts: attempt });
    await sql`select pg_terminate_backend(${job.worker_pid}, 5000)`;
    expect(await lost).toBeInstanceOf(Error);
  }
  await holder.release();
  await work(sql);
  const [failed] =
    await sql`select status, attempts, error ->> 'code' as code from migration_guard.jobs where id = ${id}`;
  expect(failed).toEqual({ status: "failed", attempts: 3, code: "worker_lost" });
  expect(await readJob(sql, next)).toMatchObject({ status: "succeeded", attempts: 1 });
});

/** Makes a backup job wait at its very end, when everything is copied: somebody registers a backup of that version. */
const registerBackup = `
  insert into migration_guard.backups (version, schema_name, plan, actor, manifest, verification_source, bytes, members)
  values ('v10.0', 'migration_backup_v10', '{}', 'holder', '', '', 0, '{}')`;

test.for([
  ["while it waits for a table", "lock table public.profiles"],
  ["when it has copied everything", registerBackup],
])(
  "a backup that is cancelled %s fails, leaves nothing, and its worker goes on",
  async ([, statement], { example }) => {
    const { sql } = example;
    await sql`create schema app`;
    await sql`create table app.kept as select 1 as id`;
    await sql`select migration_guard.put_plan('v10', ${sql.json(examplePlan)}, 'test')`;
    await sql`select migration_guard.put_plan('v11', '{"schema": "app", "tables": ["kept"]}', 'test')`;
    const cancelled = await enqueueBackup(sql, "v10");
    const next = await enqueueBackup(sql, "v11");
    const holder = await hold(example, statement!);
    const worker = example.connect();
    const running = work(worker);
    const { worker_pid } = await isHeld(sql, cancelled);
    await sql`select pg_cancel_backend(${worker_pid})`;
    await running;
    await holder.release();

    const [failed] = await sql`
    select status, error ->> 'code' as code, finished_at from migration_guard.jobs where id = ${cancelled}`;
    expect(failed).toEqual({ status: "failed", code: "query_canceled", finished_at: expect.any(Date) });
    expect(await exists(sql, "migration_backup_v10")).toBe(false);
    expect(await readJob(sql, next)).toMatchObject({ status: "succeeded" });
    expect(await leftovers(worker)).toEqual(await leftovers(example.connect()));
    await enqueueBackup(sql, "v10");
  },
);

/** Waits until a session's statement has run for a second and more. */
const isOld = (sql: postgres.Sql, pid: number) =>
  until(async () => {
    const [session] = await sql`
      select pid from pg_stat_activity where pid = ${pid} and clock_timestamp() - query_start > '1 second'`;
    return session;
  });

/** A backup that waits for a table in a session whose statement timeout has struck. */
async function outlastTimeout(database: TestDatabase) {
  const { sql } = database;
  await createSmall(sql);
  await sql`select migration_guard.put_plan('v10', ${sql.json(small)}, 'test')`;
  const id = await enqueueBackup(sql, "v10");
  const holder = await hold(database, "lock table public.kept");
  const worker = database.connect();
  await worker`set statement_timeout = '300ms'`;
  const running = work(worker);
  const { worker_pid } = await isHeld(sql, id);
  await isOld(sql, worker_pid);
  return { id, holder, worker, running, worker_pid };
}

test("a statement timeout that strikes in a job does not end it: it is begun again, and has the time that it needs", async ({ database }) => {
  const { sql } = database;
  const { id, holder, worker, running } = await outlastTimeout(database);
  expect(await readJob(sql, id)).toMatchObject({ status: "running" });
  await holder.release();
  await running;
  expect(await readJob(sql, id)).toMatchObject({ status: "succeeded", attempts: 1 });
  // It has struck.
  expect(await worker`select current_setting('migration_guard.timed_out_call', true) <> '' as struck`).toEqual([{
    struck: true,
  }]);
});

test("an administrator ends a job even where a statement timeout has struck before", async ({ database }) => {
  const { sql } = database;
  const { id, holder, running, worker_pid } = await outlastTimeout(database);
  await sql`select pg_cancel_backend(${worker_pid})`;
  await running;
  await holder.release();
  expect(await lastJob(sql)).toMatchObject({ id, status: "failed", error: { code: "query_canceled" } });
  expect(await exists(sql, "migration_backup_v10")).toBe(false);
});

// What a session is like before and after

test("whatever became of the jobs, a worker's session is as it was before", async ({ example: { sql } }) => {
  const before = await leftovers(sql);
  await backUp(sql, "v10", examplePlan);
  expect(await leftovers(sql)).toEqual(before);

  await enqueueVerification(sql, "v10");
  await sql`select migration_guard.put_plan('v11', ${sql.json(examplePlan)}, 'test')`;
  await enqueueBackup(sql, "v11");
  await sql`alter table public.profiles rename to people`;
  await work(sql);
  expect(await sql`select status from migration_guard.jobs order by number`)
    .toEqual([{ status: "succeeded" }, { status: "succeeded" }, { status: "failed" }]);
  expect(await leftovers(sql)).toEqual(before);
});

test("what an earlier call left in the session does not hold up its job", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await sql`select migration_guard.put_plan('v10', ${sql.json(small)}, 'test')`;
  const id = await enqueueBackup(sql, "v10");
  const before = await leftovers(sql);
  // As after a cancel at a bad moment: the job's lock is held, and its view is there.
  await sql`
    with locked as (update migration_guard.jobs set worker_lock = 7 where id = ${id} returning worker_lock)
    select pg_advisory_lock(migration_guard.lock_class(), worker_lock) from locked`;
  await sql`create temporary view migration_guard_tables as select 1 as locked`;
  await work(sql);
  expect(await readJob(sql, id)).toMatchObject({ status: "succeeded" });
  expect(await leftovers(sql)).toEqual(before);
});

test("a session that holds any advisory lock of the product's class keeps no job from being run or cancelled", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await backUp(sql, "v10", small);
  const [first, second] = [await enqueueVerification(sql, "v10"), await enqueueVerification(sql, "v10")];
  const stranger = database.connect("authenticator");
  const [{ class: lockClass }] = await sql<[{ class: number }]>`select migration_guard.lock_class() as class`;
  for (let key = 0; key < 10; key++) await stranger`select pg_advisory_lock(${lockClass}, ${key})`;
  // As if its worker had been lost: the lock that it had is free, and a stranger takes it.
  await sql`
    update migration_guard.jobs set status = 'running', attempts = 1, started_at = now(), worker_lock = 7 where id = ${first}`;
  await sql`set lock_timeout = '5s'`;
  await sql`select migration_guard_api.cancel_job(${second}, 'test')`;
  await work(sql);
  expect(await readJob(sql, first)).toMatchObject({ status: "succeeded", attempts: 2 });
  expect(await readJob(sql, second)).toMatchObject({ status: "cancelled" });
});

test("a worker that must not be timed out refuses a session with a timeout, and changes nothing", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await sql`select migration_guard.put_plan('v10', ${sql.json(small)}, 'test')`;
  const id = await enqueueBackup(sql, "v10");
  const before = await sql`select * from migration_guard.jobs`;
  const session = postgres(databaseUrl({ port: database.port, database: database.name }), {
    max: 1,
    onnotice: () => {},
  });
  const timeout = async () => (await session`show statement_timeout`)[0]!.statement_timeout;
  try {
    // What the platform gives to every session.
    const platform = await timeout();
    expect(platform).toBe("2min");
    await expect(session`call migration_guard.work(require_no_statement_timeout => true)`.simple())
      .rejects.toMatchObject({ code: "MG016" });
    expect(await sql`select * from migration_guard.jobs`).toEqual(before);
    expect(await timeout()).toBe(platform);

    await session`set statement_timeout = 0`;
    await session`call migration_guard.work(require_no_statement_timeout => true)`.simple();
    expect(await readJob(sql, id)).toMatchObject({ status: "succeeded" });
    // Whoever gets the session from the pool next must not do without a timeout.
    expect(await timeout()).toBe(platform);
  } finally {
    await session.end();
  }
});

// What is seen from outside

test("the progress of a backup is seen while nothing else of it is", async ({ example }) => {
  const { sql } = example;
  await sql`select migration_guard.put_plan('v10', ${sql.json(examplePlan)}, 'test')`;
  const id = await enqueueBackup(sql, "v10");
  const progress = async () => (await sql`select progress from migration_guard_api.get_job(${id})`)[0]!.progress;
  expect(await progress()).toEqual({
    step: "queued",
    done: 0,
    total: null,
    unit: null,
    percent: 0,
    eta_seconds: null,
  });

  const holder = await hold(example, registerBackup);
  const running = work(example.connect());
  await isHeld(sql, id);
  const seen = await progress();
  expect(seen).toEqual({
    step: "recording the metadata",
    done: seen.total,
    total: expect.any(Number),
    unit: "bytes",
    percent: 100,
    eta_seconds: 0,
  });
  expect(["queued", "starting", "done"]).not.toContain(seen.step);
  expect(await exists(sql, "migration_backup_v10")).toBe(false);

  await holder.release();
  await running;
  expect(await progress()).toEqual({ ...seen, step: "done" });
});

test("the progress of a backup goes up table by table", async ({ example }) => {
  const { sql } = example;
  // Big and slow enough for its copying to be seen.
  await sql`create table public.a_big_one as select n, repeat('x', 200) as filling from generate_series(1, 300000) as n`;
  await slowTicks(sql);
  await sql`select migration_guard.put_plan('v10', ${sql.json({ tables: ["a_big_one", "profiles"] })}, 'test')`;
  const id = await enqueueBackup(sql, "v10");
  const running = work(example.connect());
  const seen = await until(async () => {
    const [job] = await sql`select status, progress from migration_guard_api.get_job(${id})`;
    expect(["queued", "running"]).toContain(job!.status);
    return /a_big_one/.test(job!.progress.step) && job!.progress;
  });
  expect(seen.unit).toBe("bytes");
  expect(seen.done).toBeLessThan(seen.total);
  await running;
});

test("the progress of a verification is seen while it runs", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await backUp(sql, "v10", small);
  const id = await enqueueVerification(sql, "v10");
  const holder = await hold(database, "lock table migration_backup_v10.kept_backup");
  const running = work(database.connect());
  await isHeld(sql, id);
  const [job] = await sql`select progress ->> 'step' as step from migration_guard_api.get_job(${id})`;
  expect(job!.step).toBe("checking what was recorded");
  await holder.release();
  await running;
});

test("an error that nobody expected tells its SQLSTATE and neither SQL nor data", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await sql.unsafe(`
    create function public.secret() returns trigger language plpgsql as $$
    begin
      raise exception using errcode = '22012', message = 'select secret from the_vault',
        detail = 'Failing row contains (secret)', hint = 'update the_vault set secret';
    end $$;
    create trigger secret before insert on migration_guard.backups for each row execute function public.secret();
  `);
  await sql`select migration_guard.put_plan('v10', ${sql.json(small)}, 'test')`;
  await enqueueBackup(sql, "v10");
  await work(sql);
  const { error } = await lastJob(sql);
  expect(error).toEqual({ code: "database_error", message: expect.stringContaining("22012") });
  expect(JSON.stringify(error)).not.toMatch(/secret|vault|select|update/i);
});

test("an error with a code of its own tells no data either", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  await sql`alter table migration_guard.backups add constraint secret check (actor <> 'test')`;
  await sql`select migration_guard.put_plan('v10', ${sql.json(small)}, 'test')`;
  await enqueueBackup(sql, "v10");
  await work(sql);
  const { error } = await lastJob(sql);
  expect(error).toMatchObject({ code: "check_violation" });
  expect(JSON.stringify(error)).not.toMatch(/secret|row|insert/i);
});

test("a temporary view of somebody else's that has the worker's name for one stops no job", async ({ database }) => {
  const { sql } = database;
  await createSmall(sql);
  const other = database.connect("supabase_admin");
  await other`create temporary view migration_guard_tables as select 1 as locked`;
  const mine = database.connect();
  await mine`create temporary view migration_guard_tables as select 1 as locked`;
  await backUp(sql, "v10", small);
});
