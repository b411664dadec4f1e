import type postgres from "postgres";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { superuser } from "../../local/postgres.ts";
import { backUp, lastJob, work } from "../support/backup.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { difference } from "../support/difference.ts";
import { freshApp } from "../support/fresh-app.ts";
import { heldJob } from "../support/held-job.ts";
import { planRollback, rollBack, type RollbackOptions, tryRollBack } from "../support/rollback.ts";
import { schemaState } from "../support/schema-state.ts";
import { tableRows } from "../support/table-rows.ts";
import { until } from "../support/until.ts";
import { untilOld } from "../support/until-old.ts";

type Told = { table: string; read: string | null; values_read_because: string | null };

const restore: RollbackOptions = { data: "restore", drop_new: "all" };
const hundred =
  "create table app.t (id int primary key, v text); insert into app.t select n, 'value ' || n from generate_series(1, 100) as n";

let shared: TestDatabase;
let sql: postgres.Sql;
let admin: postgres.Sql;
let first: number;

beforeEach(async () => {
  shared ??= await createDatabase("with_product");
  sql ??= shared.sql;
  admin ??= shared.connect(superuser);
  first = await freshApp({ sql, admin });
});
afterAll(() => shared?.drop());

/** Makes tables, and backs them up when their rows are surely older than that. */
async function prepare(before: string): Promise<void> {
  await sql.unsafe(before).simple();
  await untilOld(sql, "app.t");
  await backUp(sql, "v1", { schema: "app", tables: "*" });
}

/** What a job tells of how the rows of a table were found. */
function told({ result }: { result: Record<string, unknown> }, table = "app.t"): Told {
  const { read, values_read_because } = (result.tables as Told[]).find((t) => t.table === table)!;
  return { table, read, values_read_because };
}

/** Changes what was prepared and leads it back, which must be exact: how the rows of a table were found. */
async function leadBack(change: string | string[], table?: string): Promise<Told> {
  const state = await schemaState({ sql, admin }, "app", first);
  const rows = await tableRows(admin, "app");
  for (const statement of [change].flat()) await sql.unsafe(statement).simple();
  const job = await rollBack(sql, "v1", restore);
  expect(difference(state, await schemaState({ sql, admin }, "app", first))).toEqual([]);
  expect(difference(rows, await tableRows(admin, "app"))).toEqual([]);
  return told(job, table);
}

const byVersions = { read: "row versions", values_read_because: null };
const byValues = (reason: RegExp) => ({ read: "values", values_read_because: expect.stringMatching(reason) });

describe("rows that differ are found by the versions of all", () => {
  test("whatever a migration has renamed and others have written", async () => {
    await prepare(`
      create type app.mood as enum ('low', 'high');
      create domain app.short as varchar(20);
      create table app.teams (id uuid primary key, name text not null unique);
      insert into app.teams select md5('team ' || n)::uuid, 'Team ' || n from generate_series(1, 20) as n;
      create table app.t (
        id bigint generated always as identity primary key, team uuid references app.teams on delete cascade, mood app.mood not null,
        moods app.mood[], alias app.short unique, amount numeric, doc jsonb, filling text, at timestamptz, twice numeric generated always as (amount * 2) stored);
      alter table app.t alter column filling set storage external;
      create function app.touch() returns trigger language plpgsql as 'begin new.at := now(); return new; end';
      create trigger touch before insert or update on app.t for each row execute function app.touch();
      alter table app.t enable row level security;
      insert into app.t (team, mood, moods, alias, amount, doc, filling)
      select md5('team ' || 1 + n % 20)::uuid, case n % 2 when 0 then 'low' else 'high' end::app.mood, '{low,high}', 'alias ' || n, n, jsonb_build_object('n', n), repeat('x', 3000)
      from generate_series(1, 200) as n`);
    expect(
      await leadBack(`
        alter table app.t rename to people; alter table app.people rename column filling to stuffing;
        alter type app.mood rename value 'low' to 'poor'; alter table app.people add column more int default 7;
        update app.people set stuffing = repeat('y', 3000) where id <= 3;
        update app.people set amount = '5.00' where id = 5;
        update app.people set mood = mood where id = 6;
        update app.people set mood = 'poor', moods = '{poor}' where id = 7;
        delete from app.people where id between 11 and 15;
        delete from app.teams where name = 'Team 20';
        insert into app.people (team, mood, alias, amount) select null, 'poor', 'new ' || n, n from generate_series(1, 4) as n;
        update app.people set alias = 'swap' where id = 21; update app.people set alias = 'alias 21' where id = 22; update app.people set alias = 'alias 22' where id = 21`),
    ).toMatchObject(byVersions);
    const discarded = await admin<{ because: string; count: number }[]>`
      select discarded_because as because, count(*)::int from migration_backup_v1.t_discarded where discarded_because <> 'column dropped'
      group by 1 order by 1`;
    // The trigger has written the time into each row that was updated, whatever else it has got.
    expect([...discarded]).toEqual([{ because: "inserted", count: 4 }, { because: "updated", count: 8 }]);
  });

  test.for([
    [
      "keys that rows have exchanged",
      "update app.t set id = -1 where id = 1; update app.t set id = 1 where id = 2; update app.t set id = 2 where id = -1",
    ],
    ["a key that has moved along", "update app.t set id = 101 where id = 100; update app.t set id = 100 where id = 99"],
    [
      "rows that were deleted and inserted again, the same and others",
      `delete from app.t where id <= 4;
      insert into app.t values (1, 'value 1'), (2, 'value 3'), (3, 'value 2')`,
    ],
    [
      "rows that went with a subtransaction that did not come to be",
      `begin; savepoint s; delete from app.t; rollback to s;
      update app.t set v = 'x' where id = 9; savepoint s; update app.t set v = 'y' where id = 9; rollback to s; commit`,
    ],
    ["rows of which nothing is left but one", "delete from app.t where id > 1"],
    ["rows that were frozen", ["update app.t set v = 'x' where id = 3", "vacuum (freeze) app.t"]],
    ["no row at all", "select"],
  ] as [string, string | string[]][])("%s", async ([, change]) => {
    await prepare(hundred);
    const found = await leadBack(change);
    if (change !== "select") expect(found).toMatchObject(byVersions);
  });

  test("by a key of several columns, and under names that the product uses", async () => {
    await prepare(`
      create table app.t (part text, place int, copy text, k1 int, r text, c1 numeric, primary key (place, part));
      insert into app.t select 'p' || n % 3, n, 'c', n, 'r', n from generate_series(1, 90) as n`);
    expect(
      await leadBack(`
        update app.t set place = place + 1000 where place <= 2; update app.t set c1 = c1 + 0.00 where place = 5; update app.t set part = 'P' || part where place = 6;
        delete from app.t where place between 10 and 12; insert into app.t values ('p1', 10, 'x'), ('p5', 10, 'x')`),
    ).toMatchObject(byVersions);
  });

  test("in a table that an earlier rollback has led back", async () => {
    await prepare(hundred);
    for (const value of ["x", "y"]) {
      expect(await leadBack(`update app.t set v = '${value}' where id <= 5; delete from app.t where id = 6`))
        .toMatchObject(byVersions);
    }
    expect([...await sql`select count(*)::int from migration_backup_v1.t_discarded`]).toEqual([{ count: 10 }]);
  });

  test("though a transaction that was open during the backup has written them later", async () => {
    const [writer, inner] = [shared.connect(), shared.connect()];
    await sql.unsafe(`${hundred}; create table app.other (id int)`).simple();
    await untilOld(sql, "app.t");
    // Both have a number that is lower than those of the backup.
    for (const session of [writer, inner]) await session.unsafe("begin; select pg_current_xact_id()").simple();
    await inner`savepoint s`;
    await inner`insert into app.other values (1)`;
    await backUp(sql, "v1", { schema: "app", tables: ["t"] });
    const rows = await tableRows(admin, "app");
    await writer`update app.t set v = 'late' where id = 1`;
    await inner`delete from app.t where id = 2`;
    await inner`insert into app.t values (2, 'late')`;
    for (const session of [writer, inner]) await session`commit`;
    const job = await rollBack(sql, "v1", { data: "restore" });
    expect(told(job)).toMatchObject(byVersions);
    expect(difference(rows, (await tableRows(admin, "app")).filter((row) => !row.startsWith("other")))).toEqual([]);
  });

  test("also of a writer who was faster than the rollback's lock", async () => {
    await prepare(hundred);
    const rows = await tableRows(admin, "app");
    await sql.unsafe("update app.t set v = 'x' where id = 1; alter table app.t rename column v to w").simple();
    const { plan_hash } = await planRollback(sql, "v1", restore);
    const writer = shared.connect();
    await writer.unsafe(
      "begin; update app.t set w = 'late' where id = 50; delete from app.t where id = 51; insert into app.t values (101, 'late')",
    ).simple();
    await sql`select migration_guard.enqueue_rollback('v1', ${plan_hash}, ${sql.json(restore)}, false, 'test')`;
    const working = work(sql);
    await until(async () => {
      const [waiting] =
        await admin`select from pg_stat_activity where application_name like 'migration_guard/%' and wait_event_type = 'Lock'`;
      return waiting !== undefined;
    });
    await writer`commit`;
    await working;
    const job = await lastJob(sql);
    expect(job).toMatchObject({ status: "succeeded", error: null });
    expect(told(job)).toMatchObject(byVersions);
    expect(difference(rows, await tableRows(admin, "app"))).toEqual([]);
  });

  test("by the statements of the plan, run by hand", async () => {
    await prepare(hundred);
    const rows = await tableRows(admin, "app");
    await sql.unsafe(
      "update app.t set v = 'x' where id = 1; delete from app.t where id = 2; insert into app.t values (101, 'new')",
    ).simple();
    const { statements } = await planRollback(sql, "v1", restore);
    const found = await sql.begin(async (transaction) => {
      for (const { statement } of statements) await transaction.unsafe(statement);
      const [settings] = await transaction<
        [{ found: string }]
      >`select current_setting('migration_guard.rows_read') as found`;
      return JSON.parse(settings.found);
    });
    expect(found).toEqual({ "app.t": "" });
    expect(difference(rows, await tableRows(admin, "app"))).toEqual([]);
  });
});

describe("rows are compared by their values", () => {
  test("where rows stay deleted, since no checksum proves the result", async () => {
    await prepare(hundred);
    await sql.unsafe("update app.t set v = 'x' where id = 1; delete from app.t where id = 2").simple();
    const job = await rollBack(sql, "v1", { ...restore, leave_deleted: true });
    expect(told(job)).toMatchObject({ read: null, values_read_because: null });
    expect([...await sql`select id, v from app.t where id <= 3 order by id`]).toEqual([{ id: 1, v: "value 1" }, {
      id: 3,
      v: "value 3",
    }]);
  });

  test.for([
    [
      "a file that was written anew",
      hundred,
      ["update app.t set v = 'x' where id = 1", "vacuum full app.t"],
      /written anew/,
    ],
    [
      "rows that were truncated and inserted again, one of them another",
      hundred,
      "create table app.kept as table app.t; truncate app.t; insert into app.t select id, case id when 7 then 'x' else v end from app.kept",
      /written anew/,
    ],
    [
      "a table that the rollback itself writes anew",
      hundred,
      "update app.t set v = 'x' where id = 1; alter table app.t set unlogged",
      /written anew/,
    ],
    [
      "partitions that came with older rows",
      `
      create table app.old (id int primary key, v text); insert into app.old values (1, 'a');
      create table app.t (id int primary key, v text) partition by range (id);
      create table app.t_high partition of app.t for values from (100) to (200); insert into app.t values (100, 'b')`,
      "alter table app.t attach partition app.old for values from (1) to (100); delete from app.t",
      /partitions/,
    ],
    ["many rows that are new", hundred, "update app.t set v = 'x' where id > 50", /many rows/],
    [
      "values that change beneath their rows",
      "create table app.t (id int primary key, v regclass); insert into app.t select n, 'pg_class' from generate_series(1, 10) as n",
      "update app.t set v = 'pg_type' where id = 1",
      /: v$/,
    ],
    [
      "a key that is made again",
      "create table app.t (id int not null, v text, constraint key primary key (id)); insert into app.t select n, 'v' from generate_series(1, 10) as n",
      "alter table app.t drop constraint key, add constraint key primary key (id) include (v); update app.t set v = 'x' where id = 1",
      /unique index/,
    ],
  ] as [string, string, string | string[], RegExp][])("of %s", async ([, before, change, reason]) => {
    await prepare(before);
    expect(await leadBack(change)).toMatchObject(byValues(reason));
  });

  test("of a backup that was loaded from elsewhere", async () => {
    await prepare(hundred);
    await sql`update migration_backup_v1.backup_metadata set snapshot = snapshot`;
    expect(await leadBack("update app.t set v = 'x' where id = 1; delete from app.t where id = 2")).toMatchObject(
      byValues(/history/),
    );
  });

  test.for(
    [
      [
        "a column that was dropped and added again",
        hundred,
        "alter table app.t drop column v; alter table app.t add column v text default 'value 1'",
      ],
      [
        "a column of another type",
        hundred,
        "alter table app.t alter column v type varchar(20); update app.t set v = 'x' where id = 1",
      ],
      [
        "a table without a key",
        "create table app.t (v text); insert into app.t select 'v' || n % 5 from generate_series(1, 20) as n",
        "delete from app.t where v = 'v1'; insert into app.t values ('v2'); update app.t set v = 'v3' where v = 'v4'",
      ],
      [
        "another table of the name",
        hundred,
        "alter table app.t rename to gone; create table app.t as table app.gone; drop table app.gone; update app.t set v = 'x' where id = 1",
      ],
    ] as const,
  )("or made anew, or told apart otherwise: %s", async ([, before, change]) => {
    await prepare(before);
    expect((await leadBack(change)).read).not.toBe("row versions");
  });
});

describe("a copy that somebody has altered is refused, and nothing is changed", () => {
  const changes = "update app.t set v = 'x' where id = 1; alter table app.t rename column v to w";
  /** Tries the way back, which must fail for the copy and leave everything as it is. */
  const refuse = async () => {
    const rows = await tableRows(admin, "app");
    const state = await schemaState({ sql, admin }, "app", first);
    expect(await tryRollBack(sql, "v1", restore)).toMatchObject({
      status: "failed",
      error: { code: "backup_damaged", message: expect.stringContaining("app.t") },
    });
    expect(difference(rows, await tableRows(admin, "app"))).toEqual([]);
    expect(difference(state, await schemaState({ sql, admin }, "app", first))).toEqual([]);
  };

  test.for(
    [
      ["a row that differs from the live one", "update S.t_backup set v = 'damaged' where id = 1"],
      ["a row that nobody has changed", "update S.t_backup set v = 'damaged' where id = 50"],
      ["a row less", "delete from S.t_backup where id = 50"],
      ["a row more", "insert into S.t_backup values (101, 'damaged')"],
      ["one row for another", "delete from S.t_backup where id = 50; insert into S.t_backup values (51, 'value 51')"],
      [
        "a column with the same value in all rows",
        "alter table S.t_backup drop column v; alter table S.t_backup add column v text default 'damaged'",
      ],
      ["all rows", "update S.t_backup set v = v || '!'"],
      [
        "another table in its place",
        "alter table S.t_backup rename to x; create table S.t_backup as select id, upper(v) as v from S.x; drop table S.x",
      ],
    ] as const,
  )("%s", async ([, damage]) => {
    await prepare(hundred);
    await sql.unsafe(changes).simple();
    await sql.unsafe(damage.replaceAll("S.", "migration_backup_v1.")).simple();
    await refuse();
  });

  test("by a transaction that was open during the backup", async () => {
    const other = shared.connect();
    await sql.unsafe(hundred).simple();
    await untilOld(sql, "app.t");
    await other.unsafe("begin; select pg_current_xact_id()").simple();
    await backUp(sql, "v1", { schema: "app", tables: "*" });
    await other`update migration_backup_v1.t_backup set v = 'damaged'`;
    await other`commit`;
    await sql.unsafe(changes).simple();
    await refuse();
  });

  test("without a trace in the versions of its rows, where that would lead to other rows", async () => {
    await prepare(hundred);
    await sql.unsafe(changes).simple();
    // As damage to the file looks: all that tells who has written the copy says that it was the backup.
    await admin.unsafe(`
      begin;
      update migration_backup_v1.t_backup set v = case id when 1 then 'damaged' else v end;
      update migration_backup_v1.backup_metadata set snapshot = snapshot;
      update migration_guard.backups set metadata_version = (select xmin from migration_backup_v1.backup_metadata);
      commit`).simple();
    await refuse();
  });

  test("or does no harm, where it has no trace in the versions of its rows and no row of it is needed", async () => {
    await prepare(hundred);
    await admin.unsafe(`
      begin;
      update migration_backup_v1.t_backup set v = case id when 50 then 'damaged' else v end;
      update migration_backup_v1.backup_metadata set snapshot = snapshot;
      update migration_guard.backups set metadata_version = (select xmin from migration_backup_v1.backup_metadata);
      commit`).simple();
    expect(await leadBack(changes)).toMatchObject(byVersions);
  });

  test("and so it is where the rows of one table are kept", async () => {
    await prepare(`${hundred}; create table app.other (id int primary key)`);
    await sql.unsafe(changes).simple();
    await sql`update migration_backup_v1.t_backup set v = 'damaged' where id = 50`;
    expect(await tryRollBack(sql, "v1", { data: { t: "restore", other: "keep" } })).toMatchObject({
      error: { code: "backup_damaged" },
    });
  });
});

describe("a foreign key that cascades to a table that is not in the backup", () => {
  const before = `${hundred};
    create table archive.dependent (id int primary key, t int references app.t on delete cascade on update cascade);
    insert into archive.dependent select n, n from generate_series(1, 100) as n`;
  const dependents = async () => (await sql`select count(*)::int, sum(t)::int from archive.dependent`)[0];

  test("takes nothing from it while rows are put back", async () => {
    await prepare(before);
    expect(await leadBack("update app.t set v = 'x' where id <= 10; insert into app.t values (101, 'new')"))
      .toMatchObject(byVersions);
    expect(await dependents()).toEqual({ count: 100, sum: 5050 });
    await sql`delete from app.t where id = 1`;
    expect(await dependents()).toEqual({ count: 99, sum: 5049 });
  });

  test("bars the way where that refers to a row that would go", async () => {
    await prepare(before);
    await sql.unsafe("insert into app.t values (101, 'new'); insert into archive.dependent values (101, 101)").simple();
    expect(await tryRollBack(sql, "v1", restore)).toMatchObject({
      status: "failed",
      error: { code: "rows_violate_constraint", constraint: "dependent_t_fkey" },
    });
    expect(await dependents()).toEqual({ count: 101, sum: 5151 });
    expect([...await sql`select v from app.t where id = 101`]).toEqual([{ v: "new" }]);
  });
});

describe("a foreign key to rows that are put back", () => {
  const before = `
    create table app.teams (id int primary key, name text unique, parent int references app.teams on delete set null);
    insert into app.teams select n, 'team ' || n, nullif(n / 2, 0) from generate_series(1, 40) as n;
    create table app.codes (code text collate "C", region varchar, primary key (code, region));
    insert into app.codes select 'c' || n, 'r' from generate_series(1, 40) as n;
    create table app.t (id uuid primary key, team int not null references app.teams on delete cascade on update cascade, code text, region varchar,
      foreign key (code, region) references app.codes on delete cascade deferrable initially deferred);
    insert into app.t select md5(n::text)::uuid, 1 + n % 40, 'c' || 1 + n % 40, case when n % 3 > 0 then 'r' end from generate_series(1, 400) as n;
    commit; create index on app.t (team)`;

  const plans = async (options: RollbackOptions = restore) =>
    (await planRollback(sql, "v1", options)).statements.map(({ statement }) => statement);
  const drops = (statements: string[]) => statements.filter((s) => /^alter table app[.]\w+ drop constraint/.test(s));

  test("stays in place, and does not cascade", async () => {
    await prepare(before);
    const [{ oid }] = await sql<[{ oid: number }]>`select oid from pg_constraint where conname = 't_team_fkey'`;
    expect(
      await leadBack(`
        alter table app.t rename constraint t_team_fkey to other; alter table app.teams rename to groups; alter table app.groups rename column id to number;
        delete from app.groups where number in (7, 8); delete from app.codes where code = 'c9';
        insert into app.groups values (41, 'team 7', 1), (42, 'new', 41);
        insert into app.t values (md5('new')::uuid, 41, null, null), (md5('newer')::uuid, 42, 'c1', 'r');
        update app.groups set name = 'other ' || number where number < 4; update app.t set team = 41 where team = 3; update app.t set team = 3 where team = 4`),
    ).toMatchObject(byVersions);
    const [after] = await sql`select oid, convalidated from pg_constraint where conname = 't_team_fkey'`;
    expect(after).toEqual({ oid, convalidated: true });
    expect([...await sql`select current_setting('session_replication_role') as role`]).toEqual([{ role: "origin" }]);
    await expect(sql`insert into app.t values (gen_random_uuid(), 41)`).rejects.toMatchObject({ code: "23503" });
    await sql`delete from app.teams where id = 40`;
    expect([...await sql`select from app.t where team = 40`]).toEqual([]);
  });

  test.for(
    [
      ["rows that come back would refer to one that stays deleted", "delete from app.teams where id = 40", {
        t: "restore",
        teams: "keep",
        codes: "restore",
      }],
      [
        "rows that stay refer to one that would go",
        `insert into app.teams values (41, 'new', null); update app.t set team = 41 where team = 3`,
        { t: "keep", teams: "restore", codes: "restore" },
      ],
    ] as const,
  )("bars the way where %s", async ([, change, data]) => {
    await prepare(before);
    await sql.unsafe(change).simple();
    const rows = await tableRows(admin, "app");
    expect(await tryRollBack(sql, "v1", { data })).toMatchObject({
      status: "failed",
      error: {
        code: "rows_violate_constraint",
        table: "app.t",
        constraint: "t_team_fkey",
        keys: expect.arrayContaining([{ id: expect.any(String) }]),
      },
    });
    expect(difference(rows, await tableRows(admin, "app"))).toEqual([]);
  });

  test("stays between tables of which one refers to the next", async () => {
    await prepare(`${before};
      create table app.notes (n int, of uuid references app.t on delete cascade);
      insert into app.notes select n, md5((1 + n % 400)::text)::uuid from generate_series(1, 800) as n`);
    const changes = "delete from app.teams; insert into app.teams values (1, 'other', null)";
    await sql.unsafe(changes).simple();
    expect([...await sql`select count(*)::int from app.notes`]).toEqual([{ count: 0 }]);
    expect(drops(await plans())).toEqual([]);
    await sql.unsafe("insert into app.t select md5('new')::uuid, 1; insert into app.notes select 1, id from app.t")
      .simple();
    await rollBack(sql, "v1", restore);
    expect([
      ...await sql`select (select count(*) from app.teams)::int as teams, (select count(*) from app.t)::int as t, (select count(*) from app.notes)::int as notes`,
    ]).toEqual([{ teams: 40, t: 400, notes: 800 }]);
  });

  test.for(
    [
      [
        "its table refers to one that is not restored",
        "create table archive.lands (id int primary key); insert into archive.lands values (1); alter table app.t add land int default 1 references archive.lands",
        {},
      ],
      [
        "its table has a key that is checked at the end",
        "alter table app.t add nr serial, add unique (nr) deferrable initially deferred",
        {},
      ],
      [
        "it is one that was never validated",
        "alter table app.teams add foreign key (id) references app.teams not valid",
        {},
      ],
      ["rows stay deleted", "select", { leave_deleted: true }],
    ] as const,
  )("is dropped and made again where %s", async ([, alteration, options]) => {
    await prepare(`${before}; ${alteration}`);
    const rows = await tableRows(admin, "app");
    await sql.unsafe("update app.teams set name = 'x' where id = 6; update app.t set team = 9 where team = 8").simple();
    expect(drops(await plans({ ...restore, ...options })).length).toBeGreaterThan(0);
    await rollBack(sql, "v1", { ...restore, ...options });
    expect(difference(rows, await tableRows(admin, "app"))).toEqual([]);
    await expect(sql`insert into app.t values (gen_random_uuid(), 41)`).rejects.toMatchObject({ code: "23503" });
  });

  test("is dropped and made again where its table keeps a new one that must be checked", async () => {
    await prepare(`${before};
      create table app.lands (id int primary key); insert into app.lands values (1);
      alter table app.t add land int default 1`);
    const rows = await tableRows(admin, "app");
    await sql.unsafe(
      "alter table app.t add constraint of_land foreign key (land) references app.lands; update app.t set team = 9 where team = 8; update app.teams set name = 'x' where id = 6",
    )
      .simple();
    const options = { data: "restore", drop_new: "blocking" } as const;
    expect(drops(await plans(options))).toEqual([
      expect.stringContaining("t_team_fkey"),
    ]);
    await rollBack(sql, "v1", options);
    expect(difference(rows, await tableRows(admin, "app"))).toEqual([]);
    await expect(sql`update app.t set land = 2`).rejects.toMatchObject({ code: "23503" });
  });

  test("is dropped and made again where its triggers are always called", async () => {
    await prepare(before);
    const rows = await tableRows(admin, "app");
    await sql`delete from app.teams where id = 7`;
    await admin.unsafe(`do $$ declare t record; begin
      for t in select tgrelid::regclass as relation, tgname from pg_trigger where tgconstraint = (select oid from pg_constraint where conname = 't_team_fkey') loop
        execute format('alter table %s enable always trigger %I', t.relation, t.tgname);
      end loop; end $$`);
    // Nothing that refers to the table is kept quiet then.
    expect(drops(await plans())).toEqual([
      expect.stringContaining("t_team_fkey"),
      expect.stringContaining("teams_parent_fkey"),
    ]);
    await rollBack(sql, "v1", restore);
    expect(difference(rows, await tableRows(admin, "app"))).toEqual([]);
  });

  test.for([
    [
      "a foreign key of a table that is not restored",
      "create table archive.late (team int references app.teams on delete cascade); insert into archive.late values (41)",
    ],
    [
      "a trigger that is always called",
      "select set_config('migration_guard.test', tgname, false) from pg_trigger where tgconstraint = (select oid from pg_constraint where conname = 'teams_parent_fkey') and tgtype & 8 > 0; do $$ begin execute format('alter table app.teams enable always trigger %I', current_setting('migration_guard.test')); end $$",
    ],
  ])("keeps a plan from being run that was drawn before %s came", async ([, later]) => {
    await prepare(before);
    await sql`insert into app.teams values (41, 'new', null)`;
    const statements = await plans();
    await admin.unsafe(later!).simple();
    await expect(sql.begin("isolation level read committed", async (transaction) => {
      for (const statement of statements) await transaction.unsafe(statement);
    })).rejects.toMatchObject({ code: "MG021", message: expect.stringContaining("app.teams") });
    expect([...await sql`select name from app.teams where id = 41`]).toEqual([{ name: "new" }]);
  });
});

test("a foreign key that came after the plan keeps rows of any table from going", async () => {
  await prepare(hundred);
  await sql`insert into app.t values (101, 'new')`;
  const statements = (await planRollback(sql, "v1", restore)).statements.map(({ statement }) => statement);
  await sql.unsafe(
    "create table archive.late (t int references app.t on delete cascade); insert into archive.late values (101)",
  ).simple();
  await expect(sql.begin("isolation level read committed", async (transaction) => {
    for (const statement of statements) await transaction.unsafe(statement);
  })).rejects.toMatchObject({ code: "MG021", message: expect.stringContaining("app.t") });
  expect([...await sql`select t from archive.late`]).toEqual([{ t: 101 }]);
});

const unknownKey = async () => {
  await prepare(hundred);
  await sql.unsafe(`
    create table archive.late (t int references app.t on delete cascade); insert into archive.late values (1);
    update app.t set v = 'x' where id = 1`).simple();
};
const barred = {
  possible: false,
  cannot_undo: [{ object: "table app.t", why: expect.stringContaining("archive.late.late_t_fkey"), blocks: true }],
};
const open = { possible: true, cannot_undo: [] };

test("a foreign key of an extension's table to rows that are to be put back bars the way, and the plan names it", async () => {
  await unknownKey();
  await admin`alter extension plpgsql add table archive.late`;
  const plan = await planRollback(sql, "v1", restore);
  const kept = await planRollback(sql, "v1", { data: "keep" });
  await admin`alter extension plpgsql drop table archive.late`;
  expect([plan, kept]).toMatchObject([barred, open]);
});

test("a foreign key of another schema bars the way in a restored database, and the plan names it", async () => {
  await unknownKey();
  await sql`update migration_backup_v1.backup_metadata set database_identity = '1/2'`;
  expect(await planRollback(sql, "v1", restore)).toMatchObject(barred);
  await sql`alter table archive.late drop constraint late_t_fkey`;
  expect(await planRollback(sql, "v1", restore)).toMatchObject(open);
});

test("a foreign key to a partition does not cascade from rows that are put back", async () => {
  await prepare(`
    create table app.t (id int primary key, v text) partition by range (id);
    create table app.t_low partition of app.t for values from (0) to (100);
    insert into app.t select n, 'value ' || n from generate_series(1, 50) as n;
    create table archive.of_low (t int references app.t_low on delete cascade);
    insert into archive.of_low select n from generate_series(1, 50) as n`);
  const rows = await tableRows(admin, "app");
  await sql`update app.t set v = 'x' where id <= 10`;
  await rollBack(sql, "v1", restore);
  expect(difference(rows, await tableRows(admin, "app"))).toEqual([]);
  expect([...await sql`select count(*)::int from archive.of_low`]).toEqual([{ count: 50 }]);
  await expect(sql`insert into archive.of_low values (60)`).rejects.toMatchObject({ code: "23503" });
});

test("rows come back under a foreign key to a table that its owner may not lock rows of any more", async () => {
  await prepare(`
    create table app.teams (id int primary key);
    insert into app.teams select generate_series(1, 10);
    create table app.t (id int primary key, team int references app.teams on delete cascade);
    insert into app.t select n, 1 + n % 10 from generate_series(1, 100) as n`);
  const rows = await tableRows(admin, "app");
  await sql.unsafe("delete from app.teams where id = 3; revoke update on app.teams from postgres").simple();
  await rollBack(sql, "v1", restore);
  expect(difference(rows, await tableRows(admin, "app"))).toEqual([]);
});

describe("the statements of a plan that leaves foreign keys in place", () => {
  const planned = async () => {
    await prepare(`${hundred};
      create table app."it's" (t int references app.t); insert into app."it's" select n from generate_series(1, 10) as n`);
    await sql`update app.t set v = 'x' where id = 5`;
    return (await planRollback(sql, "v1", restore)).statements.map(({ statement }) => statement);
  };
  const isComparison = (statement: string) => statement.includes("assert_restored");
  const runByHand = (statements: string[]) =>
    sql.begin("isolation level read committed", async (transaction) => {
      for (const statement of statements) await transaction.unsafe(statement);
    });

  test("end with the comparison of all rows, which fails where one is another", async () => {
    const statements = await planned();
    expect(statements.map(isComparison).lastIndexOf(false)).toBe(statements.length - 3);
    const meddled = statements.toSpliced(-2, 0, `update app."it's" set t = 2 where t = 1`);
    await expect(runByHand(meddled)).rejects.toMatchObject({ code: "MG024", message: expect.stringContaining("it's") });
    await runByHand(statements);
    expect([...await sql`select v from app.t where id = 5`]).toEqual([{ v: "value 5" }]);
  });

  test("are compared by a job once", async () => {
    const statements = await planned();
    expect(statements.filter(isComparison)).toHaveLength(2);
    const { result } = await rollBack(sql, "v1", restore);
    expect((result.statements as { statement: string }[]).map(({ statement }) => statement))
      .toEqual(statements.filter((statement) => !isComparison(statement)));
    expect(result.tables).toMatchObject([{ table: `app."it's"` }, { table: "app.t" }]);
  });
});

test("rows are compared by values, whatever was written to them meanwhile", async () => {
  await prepare(hundred);
  const assertRestored = () => sql`select migration_guard.assert_restored('migration_backup_v1', 'app.t')`;
  await assertRestored();
  await sql`update app.t set v = v || '' where id = 5`;
  await assertRestored();
  await sql`update app.t set v = 'x' where id = 5`;
  await expect(assertRestored()).rejects.toMatchObject({ code: "MG024", message: expect.stringContaining("app.t") });
});

test("rows are not looked for in a transaction that does not see what was committed while it waited", async () => {
  await prepare(hundred);
  await sql`update app.t set v = 'x' where id = 5`;
  const statements = (await planRollback(sql, "v1", restore)).statements.map(({ statement }) => statement);
  await expect(sql.begin("isolation level repeatable read", async (transaction) => {
    for (const statement of statements) await transaction.unsafe(statement);
  })).rejects.toMatchObject({ code: "0A000", message: expect.stringContaining("read committed") });
});

test("a worker whose transactions are repeatable reads sees what was committed while it waited", async () => {
  await prepare(hundred);
  const [worker, writer] = [shared.connect(), shared.connect()];
  await worker`set default_transaction_isolation = 'repeatable read'`;
  const rows = await tableRows(admin, "app");
  await sql`update app.t set v = 'x' where id = 5`;
  const { plan_hash } = await planRollback(sql, "v1", restore);
  await sql`select migration_guard.enqueue_rollback('v1', ${plan_hash}, ${sql.json(restore)}, false, 'test')`;
  await writer.unsafe("begin; insert into app.t values (1001, 'late')").simple();
  const working = work(worker);
  await heldJob(sql);
  await writer.unsafe("commit");
  await working;
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
  expect(difference(rows, await tableRows(admin, "app"))).toEqual([]);
});

test("a plan that was run already is told to have nothing left to do", async () => {
  await prepare(hundred);
  await sql`update app.t set v = 'x' where id = 5`;
  const { plan_hash } = await planRollback(sql, "v1", restore);
  await rollBack(sql, "v1", restore);
  await expect(sql`select migration_guard.enqueue_rollback('v1', ${plan_hash}, ${sql.json(restore)}, false, 'test')`)
    .rejects.toMatchObject({ code: "MG021", message: expect.stringContaining("Nothing is left to do") });
});
