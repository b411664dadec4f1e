import process from "node:process";
import type postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test as plainTest } from "vitest";
import { superuser } from "../../local/postgres.ts";
import { backUp, lastJob, work } from "../support/backup.ts";
import { test } from "../support/database.ts";
import { difference } from "../support/difference.ts";
import { freshApp } from "../support/fresh-app.ts";
import { createOwnServer, type OwnServer } from "../support/own-server.ts";
import { planRollback, rollBack } from "../support/rollback.ts";
import { type Connections, schemaState } from "../support/schema-state.ts";
import { tableRows } from "../support/table-rows.ts";
import { until } from "../support/until.ts";

/** The key that a rollback waits for while somebody else holds it. */
const key = 4711;

type Remembered = { schema: string[]; rows: string[]; backup: string[] };

async function remember(connections: Connections): Promise<Remembered> {
  const backup = await connections.sql<{ line: string }[]>`
    select c.relname::text as line from pg_class as c
    where c.relnamespace = to_regnamespace('migration_backup_v1') and c.relkind in ('r', 'v')`;
  return {
    schema: (await schemaState(connections, "app")).filter((line) => !line.includes("wait_here")),
    rows: await tableRows(connections.admin, "app"),
    backup: backup.map(({ line }) => line).sort(),
  };
}

function expectSame(is: Remembered, was: Remembered): void {
  expect(difference(was.schema, is.schema)).toEqual([]);
  expect(difference(was.rows, is.rows)).toEqual([]);
}

/** A schema with a backup, migrated and used, whose rollback has a bit of everything to do. */
async function migrate(connections: Connections): Promise<{ before: Remembered; migrated: Remembered }> {
  const { sql } = connections;
  await freshApp(connections);
  await sql.unsafe(`
    create table app.notes (id int primary key, title text not null, body text);
    create index notes_by_title on app.notes (title);
    create view app.titles as select id, title from app.notes;
    create policy everybody on app.notes for select using (true);
    insert into app.notes select n, 'Note ' || n, 'Body ' || n from generate_series(1, 100) as n;
    create table app.tags (note_id int references app.notes, tag text);
    insert into app.tags select n, 'tag' from generate_series(1, 50) as n`).simple();
  const before = await remember(connections);
  await backUp(sql, "v1", { schema: "app", tables: "*" });
  await sql.unsafe(`
    drop view app.titles;
    drop index app.notes_by_title;
    drop policy everybody on app.notes;
    drop table app.tags;
    alter table app.notes rename column title to heading;
    alter table app.notes drop column body;
    alter table app.notes add column stars int default 5;
    update app.notes set stars = 3, heading = upper(heading) where id > 90;
    insert into app.notes (id, heading) values (101, 'Later')`).simple();
  return { before, migrated: await remember(connections) };
}

/** Makes whoever ends a statement of one kind in the schema from now on wait for the key. */
async function waitAfter({ admin }: Connections, command: string): Promise<void> {
  await admin.unsafe(`
    create function public.wait_here() returns event_trigger language plpgsql as $$
    begin
      if exists (select from pg_event_trigger_ddl_commands() as c where c.object_identity ~ '\\mapp[.]') then
        perform pg_advisory_xact_lock_shared(${key});
      end if;
    end
    $$;
    create event trigger wait_here on ddl_command_end when tag in ('${command}') execute function public.wait_here()`)
    .simple();
}

const forget = ({ admin }: Connections) =>
  admin.unsafe("drop event trigger wait_here; drop function public.wait_here()").simple();

/** Queues the rollback that is planned now, and returns when a worker is in the middle of it, with the worker's backend. */
async function stopInTheMiddle({ sql }: Connections, worker: postgres.Sql) {
  const options = { data: "restore", drop_new: "all" } as const;
  const { plan_hash } = await planRollback(sql, "v1", options);
  await sql`select migration_guard.enqueue_rollback('v1', ${plan_hash}, ${sql.json(options)}, false, 'test')`;
  let hasEnded = false;
  const ended = work(worker).catch((error: Error) => error).finally(() => hasEnded = true);
  const pid = await until(async () => {
    if (hasEnded) throw new Error(`The rollback has not stopped: ${JSON.stringify(await lastJob(sql))}`);
    const [waiting] = await sql<{ pid: number }[]>`
      select j.worker_pid as pid from migration_guard.jobs as j
      join pg_stat_activity as a on a.pid = j.worker_pid and a.wait_event_type = 'Lock' and a.wait_event = 'advisory'
      where j.kind = 'rollback' and j.status = 'running'`;
    return waiting?.pid;
  });
  return { ended, pid };
}

async function expectNothingDone(connections: Connections, migrated: Remembered): Promise<void> {
  const now = await remember(connections);
  expectSame(now, migrated);
  expect(now.backup.filter((line) => line.includes("_discarded"))).toEqual([]);
  expect(now.backup).toEqual(migrated.backup);
}

async function expectLedBack(connections: Connections, before: Remembered): Promise<void> {
  await forget(connections);
  expectSame(await remember(connections), before);
  const { result } = await rollBack(connections.sql, "v1", { data: "restore", drop_new: "all" });
  expect(result).toMatchObject({ no_op: true });
}

describe("a rollback whose session is terminated", () => {
  for (const command of ["ALTER TABLE", "CREATE TABLE", "CREATE INDEX", "CREATE VIEW", "CREATE POLICY"]) {
    test(`after ${command} leaves nothing behind, and the next worker leads all the way back`, async ({ database }) => {
      const connections = { sql: database.sql, admin: database.connect(superuser) };
      const { before, migrated } = await migrate(connections);
      await waitAfter(connections, command);
      const holder = database.connect();
      await holder`select pg_advisory_lock(${key})`;
      const { ended, pid } = await stopInTheMiddle(connections, database.connect());
      await connections.admin`select pg_terminate_backend(${pid}, 60000)`;
      expect(await ended).toBeInstanceOf(Error);
      expect(await lastJob(database.sql)).toMatchObject({ status: "running", error: null });
      await holder`select pg_advisory_unlock(${key})`;
      await expectNothingDone(connections, migrated);

      await work(database.sql);
      expect(await lastJob(database.sql)).toMatchObject({ status: "succeeded", error: null });
      await expectLedBack(connections, before);
    });
  }
});

describe("a rollback whose Postgres is killed with kill -9", () => {
  let server: OwnServer;
  beforeAll(async () => {
    server = await createOwnServer();
  });
  afterAll(() => server.remove());
  const open = (): Connections => ({ sql: server.open(), admin: server.open(superuser) });

  async function killAndGoOn(kill: (backend: number) => Promise<void>): Promise<void> {
    const first = open();
    const { before, migrated } = await migrate(first);
    await waitAfter(first, "CREATE VIEW");
    const holder = server.open();
    await holder`select pg_advisory_lock(${key})`;
    const { ended, pid } = await stopInTheMiddle(first, server.open());
    await kill(pid);
    expect(await ended).toBeInstanceOf(Error);

    const connections = await until(async () => {
      const next = open();
      return await next.sql`select`.then(() => next, () => undefined);
    });
    await expectNothingDone(connections, migrated);
    await work(connections.sql);
    expect(await lastJob(connections.sql)).toMatchObject({ status: "succeeded", error: null });
    await expectLedBack(connections, before);
  }

  plainTest(
    "its one backend: all sessions end, and the next worker leads all the way back",
    () =>
      killAndGoOn((backend) => {
        process.kill(backend, "SIGKILL");
        return Promise.resolve();
      }),
  );

  plainTest(
    "the whole server: after another start the next worker leads all the way back",
    () =>
      killAndGoOn(async (backend) => {
        // The backend first: without a server it might go on, and end its job, before it notices.
        process.kill(backend, "SIGKILL");
        process.kill(server.pid(), "SIGKILL");
        await server.startAgain();
      }),
  );
});
