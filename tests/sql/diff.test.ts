import type postgres from "postgres";
import { describe, expect } from "vitest";
import { backUp, lastJob, work } from "../support/backup.ts";
import { makeColumnTypes } from "../support/column-types.ts";
import { test } from "../support/database.ts";
import { exampleFile, examplePlan } from "../support/example.ts";
import { readPlan } from "../support/rollback.ts";
import { untilOld } from "../support/until-old.ts";
import { superuser } from "../../local/postgres.ts";

type Sample = Record<string, unknown>;

type TableDrift = {
  table: string;
  now: string | null;
  backup_table: string;
  compared_by: "key" | "multiset" | null;
  read: "row versions" | "values" | null;
  values_read_because: string | null;
  inserted: number;
  updated: number;
  deleted: number;
  samples: { inserted: Sample[]; updated: Sample[]; deleted: Sample[] };
  note: string | null;
};

type Asked = { sampleKeys?: number; includeValues?: boolean; exact?: boolean };

/** The row drift of every table of v10's backup. */
async function rowDrift(sql: postgres.Sql, { sampleKeys = 0, includeValues = false, exact = false }: Asked = {}) {
  const [drift] = await sql<{ tables: TableDrift[] }[]>`
    select migration_guard.row_drift(migration_guard.get_backup('v10'), ${sampleKeys}, ${includeValues}, ${exact}) as tables`;
  return drift!.tables;
}

/** Makes tables in the schema `app` and backs them all up; what is done then gives the drift of the only, or the last, table. */
async function driftOf(sql: postgres.Sql, before: string, after: string, asked?: Asked): Promise<TableDrift> {
  await sql.unsafe(`create schema app; set search_path = app; ${before}`).simple();
  await backUp(sql, "v10", { schema: "app", tables: "*" });
  await sql.unsafe(after).simple();
  return (await rowDrift(sql, asked)).at(-1)!;
}

const none = { inserted: 0, updated: 0, deleted: 0 };

/** Runs the diff job and gives it back, finished. */
async function diff(sql: postgres.Sql, { sampleKeys = 0, includeValues = false, exact = false }: Asked = {}) {
  await sql`select migration_guard.enqueue_diff('v10', 'test', null, ${sampleKeys}, ${includeValues}, ${exact})`;
  await work(sql);
  return lastJob(sql);
}

describe("the rows of the example", () => {
  test("have not drifted right after the backup", async ({ example: { sql } }) => {
    await backUp(sql, "v10.0", examplePlan);
    const tables = await rowDrift(sql);
    expect(tables.map(({ table }) => table)).toEqual(
      ["coordinator_notes", "invite_code_usage", "invite_codes", "profiles"].map((name) => `public.${name}`),
    );
    for (const table of tables) {
      expect(table).toMatchObject({ ...none, now: table.table, compared_by: "key", note: null });
    }
  });

  test("have not drifted after v10.0, which renames a table, columns and an enum value", async ({ example: { sql } }) => {
    await backUp(sql, "v10.0", examplePlan);
    await sql.unsafe(exampleFile("migrations", "v10.0_coordinator_to_curator.sql")).simple();
    const tables = await rowDrift(sql, { sampleKeys: 10 });
    for (const table of tables) expect(table).toMatchObject({ ...none, compared_by: "key", note: null });
    expect(tables[0]).toMatchObject({ table: "public.coordinator_notes", now: "public.curator_notes" });
  });

  test("are told apart under their new names", async ({ example: { sql } }) => {
    await backUp(sql, "v10.0", examplePlan);
    await sql.unsafe(exampleFile("migrations", "v10.0_coordinator_to_curator.sql")).simple();
    const [note] =
      await sql`delete from curator_notes where id = (select min(id) from curator_notes) returning id::int`;
    const changed =
      await sql`update profiles set role = 'curator', curator_id = null where id in (select id from profiles where role = 'client' and name <> '' limit 50) returning id`;
    const tables = await rowDrift(sql, { sampleKeys: 100 });
    expect(tables[0]).toMatchObject({ ...none, deleted: 1, samples: { deleted: [{ id: note!.id }] } });
    expect(tables[3]).toMatchObject({ ...none, updated: changed.length });
    expect(tables[3]!.samples.updated.map(({ id }) => id).sort()).toEqual(changed.map(({ id }) => id).sort());
  });
});

describe("a job", () => {
  test("tells the drift, and the backup keeps its summary", async ({ example: { sql } }) => {
    await backUp(sql, "v10.0", examplePlan);
    expect((await diff(sql)).result).toMatchObject({
      is_clean: true,
      summary: { objects: { renamed: 0, redefined: 0, missing: 0, new: 0 }, rows: none },
      objects: [],
    });
    await sql`update profiles set name = 'Another ' || id`;
    const [{ count }] = await sql`select count(*)::int from profiles` as unknown as [{ count: number }];
    const job = await diff(sql);
    expect(job).toMatchObject({
      error: null,
      result: { is_clean: false, summary: { rows: { ...none, updated: count } } },
    });
    const [backup] =
      await sql`select last_diff, last_diff_at is not null as has_time from migration_guard.get_backup('v10')`;
    expect(backup).toEqual({ last_diff: { is_clean: false, summary: job.result.summary }, has_time: true });
  });

  test("tells the objects that v10.0 renamed beside rows that are as they were", async ({ example: { sql } }) => {
    await backUp(sql, "v10.0", examplePlan);
    await sql.unsafe(exampleFile("migrations", "v10.0_coordinator_to_curator.sql")).simple();
    const { result } = await diff(sql);
    expect(result).toMatchObject({ is_clean: false, summary: { rows: none } });
    expect(result.objects).toContainEqual({
      changes: ["renamed"],
      kind: "enum_value",
      object: "public.user_role.coordinator",
      now: "public.user_role.curator",
      before: null,
      after: null,
      matched_by: "identity",
    });
  });

  test("tells the default of a column that is new, and of one that is gone", async ({ database: { sql } }) => {
    await sql.unsafe("create table public.t (id int primary key, gone text not null default 'away', plain int)");
    await backUp(sql, "v10.0", { tables: ["t"] });
    await sql.unsafe(`
      alter table public.t drop gone, drop plain, add level int default 5 not null, add bare text, alter id set default 7;
      create table public.guarded (id int);
      alter table public.guarded enable row level security`).simple();
    const { result } = await diff(sql);
    const objects = result.objects as { object: string | null; now: string | null; before: string; after: string }[];
    const told = Object.fromEntries(
      objects.map(({ object, now, before, after }) => [now ?? object, { before, after }]),
    );
    const set = (column: string, value: string) =>
      `alter table only public.t alter column ${column} set default ${value}`;
    const add = (column: string) => expect.stringMatching(new RegExp(`^alter table public\\.t add column ${column}$`));
    expect(told).toMatchObject({
      "public.t.gone": {
        after: null,
        before: expect.stringMatching(/^alter table public\.t add column gone text .*not null;\n/),
      },
      "public.t.plain": { after: null, before: add("plain integer") },
      "public.t.level": { before: null, after: expect.stringContaining(`not null;\n${set("level", "5")}`) },
      "public.t.bare": { before: null, after: add("bare text") },
      "public.t.id": { before: "", after: set("id", "7") },
      "public.guarded": {
        before: null,
        after: expect.stringContaining(";\nalter table public.guarded enable row level security"),
      },
    });
    expect(told["public.t.gone"]!.before).toContain(set("gone", "'away'::text"));
  });

  test("has no values in its result unless they are asked for, and remembers that they were", async ({ example: { sql } }) => {
    await backUp(sql, "v10.0", examplePlan);
    const [changed] = await sql`
      update profiles set name = 'Somebody secret' where id = (select id from profiles order by id limit 1) returning id`;
    const silent = await diff(sql, { sampleKeys: 5 });
    expect(JSON.stringify(silent.result)).toContain(changed!.id);
    expect(JSON.stringify(silent.result)).not.toContain("secret");
    const telling = await diff(sql, { sampleKeys: 5, includeValues: true });
    const [, , , profiles] = telling.result.tables as TableDrift[];
    expect(profiles!.samples.updated).toMatchObject([
      { key: { id: changed!.id }, before: { id: changed!.id }, after: { name: "Somebody secret" } },
    ]);
    const [job] = await sql`select parameters from migration_guard.jobs order by number desc limit 1`;
    expect(job!.parameters).toEqual({ sample_keys: 5, include_values: true, exact: false });
  });

  test("is refused without a backup, with samples out of range, and when the schema is gone", async ({ example: { sql } }) => {
    await expect(sql`select migration_guard.enqueue_diff('v10')`).rejects.toThrow("There is no backup of v10.0.");
    await backUp(sql, "v10.0", examplePlan);
    for (const sampleKeys of [-1, 101, null]) {
      await expect(sql`select migration_guard.enqueue_diff('v10', sample_keys => ${sampleKeys}::int)`)
        .rejects.toMatchObject({ code: "MG003" });
    }
    await sql`select migration_guard.enqueue_diff('v10')`;
    await sql`drop schema migration_backup_v10 cascade`;
    await expect(sql`select migration_guard.enqueue_diff('v10')`).rejects.toMatchObject({ code: "MG019" });
    await work(sql);
    expect((await lastJob(sql)).error).toMatchObject({ code: "backup_damaged" });
  });

  test("fails where a copy is gone", async ({ example: { sql } }) => {
    await backUp(sql, "v10.0", examplePlan);
    await sql`drop table migration_backup_v10.profiles_backup`;
    expect((await diff(sql)).error).toMatchObject({ code: "backup_damaged" });
  });

  test.for(["objects_backup", "dependencies_backup", "tables_backup", "backup_metadata"])(
    "is refused without %s, and fails where that goes while it waits, and no rollback is planned then",
    async (table, { example: { sql } }) => {
      await backUp(sql, "v10.0", examplePlan);
      await sql`select migration_guard.enqueue_diff('v10')`;
      await sql`drop table ${sql("migration_backup_v10")}.${sql(table)} cascade`;
      await work(sql);
      const message = expect.stringContaining(table);
      expect((await lastJob(sql)).error).toMatchObject({ code: "backup_damaged", message });
      await expect(sql`select migration_guard.enqueue_diff('v10')`).rejects.toMatchObject({ code: "MG019", message });
      await expect(readPlan(sql, "v10")).rejects.toMatchObject({ code: "MG019", message });
    },
  );

  test.for([
    ["a column of another type", "alter table migration_backup_v10.tables_backup alter row_count type text"],
    ["a column less", "alter table migration_backup_v10.tables_backup drop column columns"],
    ["a value that is none of its kind", "update migration_backup_v10.tables_backup set columns = '1'"],
  ])(
    "fails where what was recorded has %s, and no rollback is planned then",
    async ([, change], { example: { sql } }) => {
      await backUp(sql, "v10.0", examplePlan);
      await sql`alter table public.coordinator_notes rename to curator_notes`;
      await sql.unsafe(change!);
      expect((await diff(sql)).error).toMatchObject({ code: "backup_damaged" });
      for (const data of ["keep", "restore"] as const) {
        await expect(readPlan(sql, "v10", { data })).rejects.toMatchObject({ code: "MG019" });
      }
    },
  );

  test("fails where a copy has lost a column, and says which copy", async ({ example: { sql } }) => {
    await backUp(sql, "v10.0", examplePlan);
    await sql`update public.profiles set name = 'another'`;
    await sql`alter table migration_backup_v10.profiles_backup drop column email`;
    expect((await diff(sql)).error).toMatchObject({
      code: "backup_damaged",
      message: expect.stringMatching(/^migration_backup_v10\.profiles_backup is gone, or was altered/),
    });
  });

  test("that fails while the backup is whole says what it has failed with", async ({ example: { sql } }) => {
    await backUp(sql, "v10.0", examplePlan);
    await sql`drop function migration_guard.object_drift(migration_guard.compared_object[])`;
    expect((await diff(sql)).error).toMatchObject({
      code: "database_error",
      message: expect.stringContaining("42883"),
    });
  });

  test("holds nothing stronger than a reader's lock on a table", async ({ example }) => {
    const { sql } = example;
    await backUp(sql, "v10.0", examplePlan);
    await sql`update profiles set name = 'Another ' || id`;
    const modes = await sql.begin(async (transaction) => {
      await transaction`select migration_guard.row_drift(migration_guard.get_backup('v10'), 10, true)`;
      return transaction`
        select distinct l.mode from pg_locks as l join pg_class as c on c.oid = l.relation
        where l.pid = pg_backend_pid() and c.relnamespace = 'public'::regnamespace`;
    });
    expect([...modes]).toEqual([{ mode: "AccessShareLock" }]);
  });
});

describe("by key", () => {
  test("counts what was inserted, updated and deleted, with the keys", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id int primary key, v text); insert into t select i, 'v' || i from generate_series(1, 100) as i",
      `insert into t values (101, 'new'), (102, null);
       update t set v = null where id in (3, 1, 2);
       update t set v = v where id = 50;
       delete from t where id > 95 and id <= 100`,
      { sampleKeys: 3 },
    );
    expect(drift).toMatchObject({ compared_by: "key", inserted: 2, updated: 3, deleted: 5, note: null });
    expect(drift.samples).toEqual({
      inserted: [{ id: 101 }, { id: 102 }],
      updated: [{ id: 1 }, { id: 2 }, { id: 3 }],
      deleted: [{ id: 96 }, { id: 97 }, { id: 98 }],
    });
  });

  test("shows rows as they were and as they are, where values are asked for", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      `create type mood as enum ('sad', 'glad');
       create table t (id int primary key, v mood, long text);
       insert into t values (1, 'sad'), (2, 'glad'), (4, 'sad')`,
      `alter type mood rename value 'glad' to 'happy';
       alter table t rename v to feeling; alter table t rename id to number; alter table t add extra int;
       insert into t values (3, 'happy', repeat('x', 3000)); update t set feeling = 'happy' where number = 1; delete from t where number = 2`,
      { sampleKeys: 1, includeValues: true },
    );
    expect(drift.samples).toEqual({
      inserted: [{
        key: { number: 3 },
        before: null,
        after: { number: 3, feeling: "happy", long: "x".repeat(2000) + "…", extra: null },
      }],
      updated: [{
        key: { number: 1 },
        before: { id: 1, v: "sad", long: null },
        after: { number: 1, feeling: "happy", long: null, extra: null },
      }],
      deleted: [{ key: { id: 2 }, before: { id: 2, v: "glad", long: null }, after: null }],
    });
  });

  test("of several columns, in odd names, one of which was renamed", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      `create table t ("a, ""b"")" text, c date, v int, constraint "PRIMARY KEY (v)" primary key (c, "a, ""b"")"));
       insert into t select 'k' || i % 10, date '2024-01-01' + i / 10, i from generate_series(0, 99) as i`,
      `alter table t rename "a, ""b"")" to "Key"; update t set v = -1 where "Key" = 'k3' and c = '2024-01-02'; update t set "Key" = 'z' where v = 99`,
      { sampleKeys: 5 },
    );
    expect(drift).toMatchObject({ compared_by: "key", inserted: 1, updated: 1, deleted: 1 });
    expect(drift.samples).toEqual({
      inserted: [{ Key: "z", c: "2024-01-10" }],
      updated: [{ Key: "k3", c: "2024-01-02" }],
      deleted: [{ 'a, "b")': "k9", c: "2024-01-10" }],
    });
  });

  test("of a unique constraint, where no value of it is null", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (a int, b int, c int unique, unique (a, b)); insert into t values (1, 1, null), (1, 2, null), (2, 1, 3)",
      "update t set c = 4 where b = 2",
      { sampleKeys: 5 },
    );
    expect(drift).toMatchObject({ ...none, updated: 1, samples: { updated: [{ a: 1, b: 2 }] } });
  });

  test("that is an enum, shown as it is called on either side", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      `create type mood as enum ('sad', 'glad', 'bored');
       create table t (id mood primary key, v int); insert into t values ('sad', 1), ('glad', 2)`,
      `alter type mood rename value 'glad' to 'happy'; alter type mood rename value 'sad' to 'glad';
       update t set v = 3 where id = 'happy'; delete from t where id = 'glad'; insert into t values ('bored', 5)`,
      { sampleKeys: 5 },
    );
    expect(drift.samples).toEqual({
      inserted: [{ id: "bored" }],
      updated: [{ id: "happy" }],
      deleted: [{ id: "sad" }],
    });
  });

  test("that the live table has lost: by it still, unless it no longer tells rows apart", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id int primary key, v int); insert into t values (1, 1), (2, 2)",
      "alter table t drop constraint t_pkey; alter table t alter id drop not null; insert into t values (null, 3), (null, 4); update t set v = 5 where id = 1",
    );
    expect(drift).toMatchObject({ compared_by: "key", inserted: 2, updated: 1, deleted: 0 });
    await sql`insert into app.t values (2, 2)`;
    expect((await rowDrift(sql))[0]).toMatchObject({
      compared_by: "multiset",
      inserted: 4,
      updated: 0,
      deleted: 1,
      note: "Its key does not tell the rows apart any more.",
    });
  });

  test("whose column is gone: as a multiset", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id int primary key, v int); insert into t values (1, 1), (2, 2)",
      "alter table t drop id; update t set v = 3 where v = 1",
    );
    expect(drift).toMatchObject({ compared_by: "multiset", inserted: 1, updated: 0, deleted: 1 });
    expect(drift.note).toBe("Not compared, since they are gone: id. Its key does not tell the rows apart any more.");
  });

  test("finds a change of anything but the value's equality", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      `create table t (id int primary key, n numeric, f float8, j jsonb, s text);
       insert into t values (1, 1.0, 0, '1.0', 'a'), (2, 'NaN', 'NaN', 'null', null), (3, 1, 1, '1', ''), (4, 1, 0, '{"a": 1.0}', '')`,
      `update t set n = 1.00 where id = 1; update t set n = 'NaN', f = 'NaN' where id = 2; update t set s = null where id = 3;
       update t set f = '-0' where id = 4`,
      { sampleKeys: 9 },
    );
    expect(drift).toMatchObject({ ...none, updated: 3, samples: { updated: [{ id: 1 }, { id: 3 }, { id: 4 }] } });
  });

  test("counts a key of other bytes and the same value as an update", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id numeric primary key); insert into t values (1.0), (2)",
      "update t set id = 1.00 where id = 1",
    );
    expect(drift).toMatchObject({ ...none, updated: 1 });
  });

  test("of a partitioned table, and of a parent's own rows", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      `create table p (id int primary key, v int) partition by range (id);
       create table p1 partition of p for values from (0) to (10); create table p2 partition of p for values from (10) to (20);
       insert into p select i, i from generate_series(0, 19) as i;
       create table t (id int primary key, v int); create table t_heir () inherits (t);
       insert into t values (1, 1); insert into t_heir values (2, 2);
       create table z (id int)`,
      `update p set v = 0 where id in (5, 15); alter table p detach partition p2;
       update t set v = 3`,
    );
    expect(drift).toMatchObject({ table: "app.z", ...none });
    const drifts = new Map((await rowDrift(sql)).map((table) => [table.table, table]));
    expect(drifts.get("app.p")).toMatchObject({ compared_by: "key", inserted: 0, updated: 1, deleted: 10 });
    expect(drifts.get("app.t")).toMatchObject({ ...none, updated: 1 });
    expect(drifts.get("app.t_heir")).toMatchObject({ compared_by: "multiset", inserted: 1, deleted: 1 });
  });
});

describe("as a multiset", () => {
  test("counts how often each row is there", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (a int, b text); insert into t values (1, 'x'), (1, 'x'), (1, 'x'), (2, null), (2, null), (3, 'y'), (4, 'z')",
      `delete from t where ctid = (select min(ctid) from t where a = 1); insert into t values (2, null), (2, null), (5, 'n');
       update t set b = 'Y' where a = 3`,
      { sampleKeys: 9 },
    );
    expect(drift).toMatchObject({ compared_by: "multiset", inserted: 4, updated: 0, deleted: 2 });
    expect(drift.samples).toEqual({ inserted: [], updated: [], deleted: [] });
    expect(drift.note).toBe("It has no key, so that there are no sample keys.");
    const [told] = await rowDrift(sql, { sampleKeys: 9, includeValues: true });
    expect(told!.samples).toEqual({
      inserted: [
        { key: null, rows: 2, before: null, after: { a: 2, b: null } },
        { key: null, rows: 1, before: null, after: { a: 3, b: "Y" } },
        { key: null, rows: 1, before: null, after: { a: 5, b: "n" } },
      ],
      updated: [],
      deleted: [
        { key: null, rows: 1, before: { a: 1, b: "x" }, after: null },
        { key: null, rows: 1, before: { a: 3, b: "y" }, after: null },
      ],
    });
  });

  test("counts rows of no columns", async ({ database: { sql } }) => {
    const drift = await driftOf(sql, "create table t (); insert into t default values", "insert into t default values");
    expect(drift).toMatchObject({ compared_by: "multiset", ...none, inserted: 1 });
  });
});

describe("enum values that were renamed", () => {
  const moods = "create type mood as enum ('sad', 'glad', 'NULL', 'Ё, \"x\"', 'a''b')";

  test("have not changed a row, nor has one in an array or a domain", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      `${moods}; create domain feeling as mood; create domain feelings as mood[];
       create table t (id int primary key, v mood, d feeling, a mood[], da feelings, ad feeling[]);
       insert into t values (1, 'sad', 'glad', '{sad,NULL,glad,"NULL"}', '{sad}', '{glad,sad}'),
         (2, null, null, '[0:1][3:3]={{sad},{"Ё, \\"x\\""}}', '{}', null), (3, 'a''b', 'NULL', '{a''b}', null, '{}')`,
      `alter type mood rename value 'sad' to 'tmp'; alter type mood rename value 'glad' to 'sad'; alter type mood rename value 'tmp' to 'glad';
       alter type mood rename value 'Ё, "x"' to ''; alter type mood rename value 'NULL' to 'null,'; alter type mood rename value 'a''b' to '\\'`,
    );
    expect(drift).toMatchObject({ ...none, compared_by: "key", note: null });
    await sql`update app.t set v = 'sad', a = array_replace(a, 'glad', 'sad') where id = 1`;
    expect((await rowDrift(sql))[0]).toMatchObject({ ...none, updated: 1 });
    await sql`update app.t set v = 'glad', ad = '{sad,sad}' where id = 1`;
    expect((await rowDrift(sql))[0]).toMatchObject({ ...none, updated: 1 });
  });

  test("are not those that were added under the old label", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      `${moods}; create table t (id int primary key, v mood, a mood[]); insert into t values (1, 'sad', '{sad}'), (2, 'sad', '{sad}'), (3, 'sad', '{sad}')`,
      `alter type mood rename value 'sad' to 'blue'; alter type mood add value 'sad'; alter type mood add value 'new'`,
    );
    expect(drift).toMatchObject(none);
    await sql`update app.t set v = 'sad' where id = 1`;
    await sql`update app.t set a = '{sad}' where id = 2`;
    expect((await rowDrift(sql))[0]).toMatchObject({ ...none, updated: 2 });
  });

  test("are told as a note where they are hidden in a composite", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      `${moods}; create type pair as (m mood, i int); create table t (id int primary key, c pair); insert into t values (1, '(sad,1)'), (2, '(glad,2)')`,
      "alter type mood rename value 'sad' to 'blue'",
    );
    expect(drift).toMatchObject({ ...none, updated: 1, note: "Values whose labels were renamed count as changed: c." });
  });

  test("may have any label, in a column of any name", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      String.raw`create type "Mood %I" as enum ('%s', '%1$L', 'x\', '$1');
        create table "T %s" ("100%" int primary key, "%L ""v""" "Mood %I", "Ё %%" "Mood %I"[]);
        insert into "T %s" values (1, '%s', '{%s,%1$L}'), (2, 'x\', array['x\', '$1']::"Mood %I"[])`,
      String.raw`alter type "Mood %I" rename value '%s' to '%%'; alter type "Mood %I" rename value 'x\' to '''';
        alter type "Mood %I" rename value '$1' to E'\n'`,
    );
    expect(drift).toMatchObject({ ...none, compared_by: "key", note: null });
    await sql.unsafe(`update app."T %s" set "%L ""v""" = '%1$L' where "100%" = 1`);
    const [told] = await rowDrift(sql, { sampleKeys: 1, includeValues: true });
    expect(told).toMatchObject({
      ...none,
      updated: 1,
      samples: { updated: [{ key: { "100%": 1 }, before: { '%L "v"': "%s" }, after: { '%L "v"': "%1$L" } }] },
    });
  });

  test("are known of types in other schemas, too", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create schema types; create type types.mood as enum ('sad', 'glad'); create table t (id int primary key, v types.mood); insert into t values (1, 'sad')",
      "alter type types.mood rename value 'sad' to 'blue'",
    );
    expect(drift).toMatchObject({ ...none, compared_by: "key", note: null });
  });

  test("keep a keyless table the same", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      `${moods}; create table t (v mood); insert into t values ('sad'), ('sad'), ('glad'), (null)`,
      "alter type mood rename value 'sad' to 'blue'; insert into t values ('blue')",
    );
    expect(drift).toMatchObject({ compared_by: "multiset", ...none, inserted: 1 });
  });
});

describe("columns", () => {
  test("that are gone or new are no row drift, and are told", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id int primary key, gone text, v text); insert into t values (1, 'a', 'b'), (2, 'c', 'd')",
      "alter table t drop gone, add new int default 5; update t set v = 'e' where id = 2",
    );
    expect(drift).toMatchObject({
      ...none,
      updated: 1,
      note: "Not compared, since they are gone: gone. Not compared, since they are new: new.",
    });
  });

  test("that were dropped and added again are found by their names", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id int primary key, v text); insert into t values (1, 'a'), (2, null)",
      "alter table t drop v; alter table t add v text",
    );
    expect(drift).toMatchObject({ ...none, updated: 1, note: null });
  });

  test.for(
    [
      ["int", "bigint", "", "1"],
      ["numeric(10,2)", "numeric(12,4)", "", "2.5"],
      ["varchar(10)", "text", "", "'a'"],
      ["date", "timestamp", "", "'2024-02-29'"],
      ["text", "int", "using v::int", "'7'"],
      ["text", "mood", "using v::mood", "'sad'"],
      ["mood", "text", "", "'sad'"],
    ] as const,
  )(
    "of %s that became %s hold the same where nothing is lost",
    async ([from, to, using, value], { database: { sql } }) => {
      const drift = await driftOf(
        sql,
        `create type mood as enum ('sad', 'glad'); create table t (id int primary key, v ${from}); insert into t values (1, ${value}), (2, null), (3, ${value})`,
        `alter table t alter v type ${to} ${using}; update t set v = null where id = 3`,
      );
      expect(drift).toMatchObject({ compared_by: "key", ...none, updated: 1 });
    },
  );

  test("that lost something by a new type count as changed", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id int primary key, v numeric); insert into t values (1, 1.4), (2, 2)",
      "alter table t alter v type int",
    );
    expect(drift).toMatchObject({
      ...none,
      updated: 1,
      note: "Compared by casts in both directions: v, which was numeric and is integer.",
    });
  });

  test("of a new type that some value cannot be cast to are compared by their text", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id int primary key, v int, w int); insert into t values (1, 1, 1), (2, 2, 2)",
      `alter table t alter v type text; alter table t alter w type jsonb using to_jsonb(w); update t set v = 'two' where id = 2`,
    );
    expect(drift).toMatchObject({
      ...none,
      updated: 1,
      note: "Compared by their text: v, which was integer and is text, w, which was integer and is jsonb.",
    });
  });

  test("of a key that became of another type still tell the rows apart", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id int primary key, v int); insert into t values (1, 1), (2, 2)",
      "alter table t alter id type bigint; update t set v = 3 where id = 1; insert into t values (9999999999, 1)",
    );
    expect(drift).toMatchObject({ compared_by: "key", inserted: 1, updated: 1, deleted: 0 });
  });

  test("of every type have not drifted right after the backup, and each change of a value is found", async ({ database }) => {
    const admin = database.connect(superuser);
    const { sql } = database;
    const types = await makeColumnTypes(admin);
    await admin`grant usage on schema kinds to postgres`;
    await admin`create schema app authorization postgres`;
    const columns = types.map(({ type }, i) => `c${i} ${type}`).join(", ");
    await admin.unsafe(`create table app.keyed (type int, number int, ${columns}, primary key (type, number))`);
    await admin`alter table app.keyed owner to postgres`;
    for (const [i, { valuesTable }] of types.entries()) {
      await admin.unsafe(`insert into app.keyed (type, number, c${i}) select ${i}, i, v from ${valuesTable}`);
    }
    await admin`create table app.keyless as select * from app.keyed`;
    await admin`alter table app.keyless owner to postgres`;
    await backUp(sql, "v10", { schema: "app", tables: "*" });
    for (const table of await rowDrift(sql)) expect(table).toMatchObject({ ...none, note: null });

    // Each value makes room for the next one of its type.
    for (const [i, { valuesTable, count }] of types.entries()) {
      for (const table of ["keyed", "keyless"]) {
        await admin.unsafe(`
          update app.${table} as t set c${i} = (select v from ${valuesTable} as v where v.i = t.number % ${count} + 1)
          where t.type = ${i}`);
      }
    }
    const rows = types.reduce((sum, { count }) => sum + count, 0);
    const [keyed, keyless] = await rowDrift(sql);
    expect(keyed).toMatchObject({ ...none, compared_by: "key", updated: rows });
    expect(keyless).toMatchObject({ ...none, compared_by: "multiset", inserted: rows, deleted: rows });
  });
});

describe("a table", () => {
  test("that is gone has lost its rows", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id int primary key); insert into t values (1), (2)",
      "drop table t",
    );
    expect(drift).toEqual({
      table: "app.t",
      now: null,
      backup_table: "t_backup",
      compared_by: null,
      read: null,
      values_read_because: null,
      ...none,
      deleted: 2,
      samples: { inserted: [], updated: [], deleted: [] },
      note: "It is gone.",
    });
  });

  test("that was made anew is found by its name", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b')",
      "drop table t; create table t (v text, id int primary key); insert into t values ('a', 1), ('c', 2), ('d', 3)",
    );
    expect(drift).toMatchObject({
      now: "app.t",
      compared_by: "key",
      inserted: 1,
      updated: 1,
      deleted: 0,
      note: "Found by its name: its identity is gone.",
    });
  });

  test("whose name another has taken is followed", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b')",
      "alter table t rename to old; create table t (id int primary key, v text); create schema other; alter table old set schema other",
    );
    expect(drift).toMatchObject({ table: "app.t", now: "other.old", ...none });
  });

  test("that became a view is not read", async ({ database: { sql } }) => {
    const drift = await driftOf(
      sql,
      "create table t (id int primary key); insert into t values (1)",
      `create function trap() returns int language plpgsql as 'begin raise exception ''read''; end';
       drop table t; create view t as select app.trap() as id`,
    );
    expect(drift).toMatchObject({
      now: null,
      compared_by: null,
      deleted: 1,
      note: "It is gone: app.t is no table, and is not read.",
    });
  });
});

describe("the versions of rows", () => {
  const table =
    "create table t (id int primary key, v text); insert into t select n, 'value ' || n from generate_series(1, 200) as n";
  const prepare = async (sql: postgres.Sql, before = table) => {
    await sql.unsafe(`create schema app; set search_path = app; ${before}`).simple();
    await untilOld(sql, "app.t");
    await backUp(sql, "v10", { schema: "app", tables: "*" });
  };

  test("tell what has changed without a look at the rest", async ({ database: { sql } }) => {
    await prepare(sql);
    expect((await rowDrift(sql))[0]).toMatchObject({ ...none, read: "row versions", values_read_because: null });
    await sql.unsafe(`
      update app.t set v = 'another' where id <= 3; update app.t set v = v where id in (4, 5);
      delete from app.t where id between 11 and 17; insert into app.t values (201, 'new'), (202, 'new')`).simple();
    const changed = { inserted: 2, updated: 3, deleted: 7 };
    expect((await rowDrift(sql))[0]).toMatchObject({ ...changed, compared_by: "key", read: "row versions" });
    expect((await rowDrift(sql, { exact: true }))[0]).toMatchObject({
      ...changed,
      read: "values",
      values_read_because: null,
    });
    const [sampled] = await rowDrift(sql, { sampleKeys: 2 });
    expect(sampled).toMatchObject({
      ...changed,
      read: "values",
      values_read_because: expect.stringMatching(/deleted rows/),
    });
    expect(sampled!.samples.deleted).toEqual([{ id: 11 }, { id: 12 }]);
  });

  test("are found where few rows are left of many", async ({ database: { sql, connect } }) => {
    await prepare(sql, "create table t (id int primary key, v text); insert into t values (1, 'x'), (2, 'x')");
    // So many pages for one row that a piece of two million would have more than an int holds.
    await connect(superuser)`update pg_class set reltuples = 1, relpages = 5000 where oid = 'app.t'::regclass`;
    expect((await rowDrift(sql))[0]).toMatchObject({ ...none, read: "row versions" });
  });

  test("are found in pieces where Postgres believes that there are many", async ({ database: { sql, connect } }) => {
    await prepare(
      sql,
      "create table t (id int primary key, v text); insert into t select n, repeat('x', 500) || n from generate_series(1, 1000) as n",
    );
    await sql`vacuum analyze app.t`;
    // One block is a piece then, and what is added comes after the last.
    await connect(superuser)`update pg_class set reltuples = 1e12 where oid = 'app.t'::regclass`;
    const [piece] = await sql`select relpages > 50 as has_pages, ceil(2000000 * relpages::float8 / reltuples) as blocks
      from pg_class where oid = 'app.t'::regclass`;
    expect(piece).toEqual({ has_pages: true, blocks: 1 });
    expect((await rowDrift(sql))[0]).toMatchObject({ ...none, read: "row versions" });
    await sql.unsafe(
      `update app.t set v = 'another' where id % 100 = 0; delete from app.t where id % 100 = 1; insert into app.t
      select n, repeat('y', 500) from generate_series(2001, 2100) as n`,
    ).simple();
    expect((await rowDrift(sql))[0]).toMatchObject({ inserted: 100, updated: 10, deleted: 10, read: "row versions" });
    await sql`update app.t set v = v || '.' where id <= 300`;
    expect((await rowDrift(sql))[0]).toMatchObject({
      read: "values",
      values_read_because: expect.stringMatching(/many rows/),
    });
  });

  test("are as old as they were when they are frozen", async ({ database: { sql } }) => {
    await prepare(sql);
    await sql`update app.t set v = 'another' where id = 1`;
    await sql`vacuum (freeze) app.t`;
    expect((await rowDrift(sql))[0]).toMatchObject({ ...none, updated: 1, read: "row versions" });
  });

  test("do not hide what a subtransaction writes whose transaction was open during the backup", async ({ database }) => {
    const { sql } = database;
    const [writer, other] = [database.connect(), database.connect()];
    await sql.unsafe(`create schema app; set search_path = app; ${table}; create table other (id int)`).simple();
    await untilOld(sql, "app.t");
    await writer`begin`;
    await writer`insert into app.other values (1)`;
    await writer`savepoint inner_one`;
    await writer`update app.t set v = 'late' where id = 1`;
    // Its number is lower than that of a transaction which has ended before the backup.
    await other`insert into app.other values (2)`;
    await backUp(sql, "v10", { schema: "app", tables: ["t"] });
    await writer`commit`;
    expect((await rowDrift(sql))[0]).toMatchObject({ ...none, updated: 1, read: "row versions" });
  });

  test("of a table without a key tell what is gone, and leave what is new to the values", async ({ database: { sql } }) => {
    await prepare(sql, "create table t (v text); insert into t select 'v' from generate_series(1, 50)");
    await sql`delete from app.t where ctid = any (array(select ctid from app.t limit 3))`;
    expect((await rowDrift(sql))[0]).toMatchObject({
      ...none,
      deleted: 3,
      compared_by: "multiset",
      read: "row versions",
    });
    await sql`insert into app.t values ('w')`;
    expect((await rowDrift(sql))[0]).toMatchObject({
      ...none,
      inserted: 1,
      deleted: 3,
      compared_by: "multiset",
      read: "values",
    });
  });

  test("are not relied on where only a trigger keeps a key unique", async ({ database }) => {
    const { sql } = database;
    await prepare(
      sql,
      "create table t (id int primary key deferrable, v text); insert into t select n, 'v' || n from generate_series(1, 100) as n",
    );
    await database.connect(superuser).unsafe(`
      set session_replication_role = replica; insert into app.t values (1, 'v1'); delete from app.t where id = 2`)
      .simple();
    const changed = { inserted: 1, updated: 0, deleted: 1, compared_by: "multiset" };
    expect((await rowDrift(sql))[0]).toMatchObject(changed);
    expect((await rowDrift(sql, { exact: true }))[0]).toMatchObject(changed);
  });

  test.for([
    ["vacuum full", "vacuum full app.t"],
    ["cluster", "cluster app.t using t_pkey"],
    ["an alter table that rewrites", "alter table app.t alter id type bigint; alter table app.t alter id type int"],
    ["having been unlogged", "alter table app.t set unlogged; alter table app.t set logged"],
  ])("are not relied on after %s", async ([, statement], { database: { sql } }) => {
    await prepare(sql);
    for (const part of statement!.split("; ")) await sql.unsafe(part);
    await sql`update app.t set v = 'another' where id = 1`;
    expect((await rowDrift(sql))[0]).toMatchObject({
      ...none,
      updated: 1,
      read: "values",
      values_read_because: expect.stringMatching(/written anew/),
    });
  });

  test("are not relied on where all rows were truncated and are there again", async ({ database: { sql } }) => {
    await prepare(sql);
    await sql.unsafe("create table app.kept as table app.t; truncate app.t; insert into app.t table app.kept").simple();
    expect((await rowDrift(sql))[0]).toMatchObject({ ...none, read: "values" });
  });

  test("are not relied on where partitions come with rows that are older than the backup", async ({ database: { sql } }) => {
    await prepare(
      sql,
      `create table old (id int primary key, v text); insert into old values (1, 'a'); create table parted (id int primary key, v text) partition by range (id);
       create table t partition of parted for values from (100) to (200); insert into t values (100, 'b')`,
    );
    await sql`alter table app.parted attach partition app.old for values from (1) to (100)`;
    const parted = (await rowDrift(sql)).find(({ table }) => table === "app.parted");
    expect(parted).toMatchObject({
      ...none,
      inserted: 1,
      read: "values",
      values_read_because: expect.stringMatching(/partitions/),
    });
  });

  test.for<[string, string, string, number]>([
    [
      "a composite type",
      "create type pair as (a int, b int); create table t (id int primary key, v pair); insert into t values (1, '(1,2)')",
      "alter type app.pair drop attribute b",
      1,
    ],
    [
      "a column that was dropped and made again",
      "create table t (id int primary key, v text); insert into t values (1, 'a')",
      "alter table app.t drop v; alter table app.t add v text",
      1,
    ],
    [
      "the name of another object",
      "create table other (); create table t (id int primary key, v regclass); insert into t values (1, 'other')",
      "alter table app.other rename to another",
      1,
    ],
  ])(
    "are not relied on for %s, which changes beneath its rows",
    async ([, before, after, updated], { database: { sql } }) => {
      await prepare(sql, before);
      await sql.unsafe(after).simple();
      const drift = (await rowDrift(sql)).find(({ table }) => table === "app.t");
      expect(drift).toMatchObject({
        ...none,
        updated,
        read: "values",
        values_read_because: expect.stringMatching(/: v$/),
      });
    },
  );

  test("are not relied on in another database, nor when their numbers may have come round", async ({ database }) => {
    const { sql } = database;
    await prepare(sql);
    await sql`update migration_backup_v10.backup_metadata set database_identity = '1/2'`;
    expect((await rowDrift(sql))[0]).toMatchObject({
      ...none,
      read: "values",
      values_read_because: expect.stringMatching(/another database/),
    });
    await sql`
      update migration_backup_v10.backup_metadata
      set database_identity = migration_guard.database_identity(), snapshot = '5000000000:5000000000:'`;
    expect((await rowDrift(sql))[0]).toMatchObject({
      ...none,
      read: "values",
      values_read_because: expect.stringMatching(/thousand million/),
    });
  });

  test("do not show what was done to a file behind Postgres's back: an exact diff does", async ({ database }) => {
    const { sql } = database;
    await prepare(sql);
    // What a backup has recorded is another than what is there, though no row is new: as damage would look.
    await sql`update migration_backup_v10.tables_backup set backup_checksum = '200:1:2'`;
    expect((await rowDrift(sql))[0]).toMatchObject({ ...none, read: "row versions" });
    await sql`update migration_backup_v10.t_backup set v = 'damaged' where id = 7`;
    expect((await rowDrift(sql))[0]).toMatchObject({ ...none, read: "row versions" });
    expect((await rowDrift(sql, { exact: true }))[0]).toMatchObject({ ...none, updated: 1, read: "values" });
  });
});
