import type postgres from "postgres";
import { expect } from "vitest";
import { superuser } from "../../local/postgres.ts";
import { backUp, lastJob, tryBackUp, work } from "../support/backup.ts";
import { deleteBackup, makeRemovable, planCleanup } from "../support/cleanup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";
import { until } from "../support/until.ts";

const put = (sql: postgres.Sql, version: string, plan: postgres.JSONValue, actor = "test") =>
  sql`select * from migration_guard_api.put_plan(${version}, ${sql.json(plan)}, ${actor})`;
const get = (sql: postgres.Sql, version: string) => sql`select * from migration_guard_api.get_plan(${version})`;
const remove = (sql: postgres.Sql, version: string) => sql`select migration_guard_api.delete_plan(${version}, 'test')`;
/** Waits until another session of the database waits for a lock. */
const blocked = ({ name, connect }: TestDatabase) => {
  const admin = connect(superuser);
  return until(async () =>
    (await admin`select from pg_stat_activity where datname = ${name} and wait_event_type = 'Lock'`).length > 0
  );
};
const createTable = (sql: postgres.Sql) => sql`create table public.kept (id int)`;

/** Names of the functions, with their argument types, that the backup of a plan holds. */
const savedFunctions = async (sql: postgres.Sql, version: string): Promise<string[]> => {
  const rows = await sql<{ identity: string }[]>`
    select o.identity from migration_guard.plan_objects(migration_guard.get_plan(${version})) as o
    where o.kind in ('function', 'procedure', 'aggregate') order by o.identity`;
  return rows.map(({ identity }) => identity);
};

test("a plan comes back with every field as it was stored", async ({ example: { sql } }) => {
  await put(sql, "v10", examplePlan, "alice");
  const [plan] = await get(sql, "v10.0");
  expect(plan).toMatchObject({ ...examplePlan, version: "v10.0", actor: "alice" });
  expect(plan!.created_at).toBeInstanceOf(Date);
  expect(plan!.updated_at).toEqual(plan!.created_at);
});

test("a plan of nothing but tables gets the documented defaults", async ({ database: { sql } }) => {
  await createTable(sql);
  await put(sql, "v10", { tables: ["kept"] });
  expect((await get(sql, "v10"))[0]).toMatchObject({
    title: "",
    description: "",
    schema: "public",
    tables: ["kept"],
    enums: [],
    functions: [],
    match: null,
    retention_days: 7,
    contacts: [],
    notify_url: null,
  });
});

test("storing a plan again replaces all of it but the time of its creation", async ({ example: { sql } }) => {
  await put(sql, "v10", examplePlan, "alice");
  const [before] = await get(sql, "v10");
  await put(sql, "v10.0", { tables: ["daily_logs"] }, "bob");
  const [after] = await get(sql, "v10");
  expect(after).toMatchObject({ title: "", tables: ["daily_logs"], enums: [], functions: [], retention_days: 7 });
  expect(after).toMatchObject({ actor: "bob", created_at: before!.created_at });
  expect(after!.updated_at > before!.updated_at).toBe(true);
  expect(await sql`select version from migration_guard_api.list_plans()`).toHaveLength(1);
});

test("plans are listed by version, and one that was deleted is gone", async ({ database: { sql } }) => {
  await createTable(sql);
  for (const version of ["v11", "20260101000000", "v10.1"]) await put(sql, version, { tables: ["kept"] });
  const list = async () => (await sql`select version from migration_guard_api.list_plans()`).map((row) => row.version);
  expect(await list()).toEqual(["20260101000000", "v10.1", "v11.0"]);
  await remove(sql, "v11");
  expect(await list()).toEqual(["20260101000000", "v10.1"]);
  await expect(get(sql, "v11")).rejects.toMatchObject({ code: "MG004" });
  await expect(remove(sql, "v11")).rejects.toMatchObject({ code: "MG004" });
});

const malformed: [string, postgres.JSONValue][] = [
  ["null", null],
  ["a string", "kept"],
  ["a number", 1],
  ["a list", ["kept"]],
  ["an empty object", {}],
  ["an unknown field", { tables: ["kept"], table: "kept" }],
  ["two unknown fields", { tables: ["kept"], a: 1, b: 2 }],
  ["a plan that names nothing", { title: "nothing" }],
  ["a plan of empty lists", { tables: [], enums: [], functions: [], match: null }],
  ["tables that are null", { tables: null }],
  ["tables that are a string", { tables: "kept" }],
  ["tables that are two stars", { tables: "**" }],
  ["tables that are an object", { tables: { kept: true } }],
  ["an empty table name", { tables: ["kept", ""] }],
  ["a table name that is a number", { tables: ["kept", 1] }],
  ["a table name that is null", { tables: ["kept", null] }],
  ["a table name in a list of its own", { tables: [["kept"]] }],
  ["enums that are a string", { tables: ["kept"], enums: "user_role" }],
  ["enums that are null", { tables: ["kept"], enums: null }],
  ["an enum that is an object", { tables: ["kept"], enums: [{}] }],
  ["functions that are a number", { tables: ["kept"], functions: 1 }],
  ["an empty function name", { tables: ["kept"], functions: [""] }],
  ["a function in a list of its own", { tables: ["kept"], functions: [["now"]] }],
  ["a title that is a number", { tables: ["kept"], title: 1 }],
  ["a description that is an object", { tables: ["kept"], description: {} }],
  ["a schema that is a list", { tables: ["kept"], schema: ["public"] }],
  ["a schema that is a number", { tables: ["kept"], schema: 1 }],
  ["a match of one character", { match: "k" }],
  ["a match of blanks", { match: "   " }],
  ["a match that is a number", { match: 12 }],
  ["a match that is a list", { tables: ["kept"], match: ["kept"] }],
  ["a match of 201 characters", { tables: ["kept"], match: "k".repeat(201) }],
  ["contacts that are a string", { tables: ["kept"], contacts: "alice@example.com" }],
  ["contacts that are null", { tables: ["kept"], contacts: null }],
  ["a contact that is a number", { tables: ["kept"], contacts: [112] }],
  ["an empty contact", { tables: ["kept"], contacts: ["alice", " "] }],
  ["a contact of 201 characters", { tables: ["kept"], contacts: ["a".repeat(201)] }],
  ["twenty-one contacts", { tables: ["kept"], contacts: Array(21).fill("alice") }],
  ["retention for no day", { tables: ["kept"], retention_days: 0 }],
  ["retention for less than no day", { tables: ["kept"], retention_days: -1 }],
  ["retention for more than ten years", { tables: ["kept"], retention_days: 3651 }],
  ["retention for a day and a half", { tables: ["kept"], retention_days: 1.5 }],
  ["retention as a string", { tables: ["kept"], retention_days: "7" }],
  ["retention that is null", { tables: ["kept"], retention_days: null }],
  ["retention that is enormous", { tables: ["kept"], retention_days: 1e300 }],
];

test.for(malformed)("%s is no plan, and what was stored stays", async ([, plan], { database: { sql } }) => {
  await createTable(sql);
  await put(sql, "v10", { tables: ["kept"], title: "first" });
  await expect(put(sql, "v10", plan)).rejects.toMatchObject({ code: "MG002" });
  await expect(put(sql, "v11", plan)).rejects.toMatchObject({ code: "MG002" });
  expect(await sql`select version, title from migration_guard_api.list_plans()`)
    .toEqual([{ version: "v10.0", title: "first" }]);
});

test("no plan at all is malformed", async ({ database: { sql } }) => {
  await expect(sql`select migration_guard_api.put_plan('v10', null, 'test')`).rejects.toMatchObject({ code: "MG002" });
});

test.for([1, 14, 3650])("a backup may be kept for %i days", async (days, { database: { sql } }) => {
  await createTable(sql);
  await put(sql, "v10", { tables: ["kept"], retention_days: days });
  expect((await get(sql, "v10"))[0]).toMatchObject({ retention_days: days });
});

test("every name that does not exist is told at once, with its kind, and nothing is stored", async ({ example: { sql } }) => {
  const error = await put(sql, "v10", {
    tables: ["profiles", "no_table", "also_no_table"],
    enums: ["user_role", "no_enum"],
    functions: ["is_coordinator(uuid)", "no_function", "is_coordinator(text)"],
  }).catch((error) => error);
  expect(error).toMatchObject({ code: "MG007" });
  const { errors } = JSON.parse(error.detail);
  expect(errors).toHaveLength(5);
  expect(errors).toEqual(expect.arrayContaining([
    { kind: "table", name: "no_table" },
    { kind: "table", name: "also_no_table" },
    { kind: "enum", name: "no_enum" },
    { kind: "function", name: "no_function" },
    { kind: "function", name: "is_coordinator(text)" },
  ]));
  for (const { name } of errors) expect(error.message).toContain(name);
  await expect(get(sql, "v10")).rejects.toMatchObject({ code: "MG004" });
});

test("a schema that does not exist is told, together with what should be in it", async ({ example: { sql } }) => {
  const error = await put(sql, "v10", { schema: "no_schema", tables: ["profiles"] }).catch((error) => error);
  expect(error).toMatchObject({ code: "MG007" });
  expect(JSON.parse(error.detail).errors).toEqual(expect.arrayContaining([
    { kind: "schema", name: "no_schema" },
    { kind: "table", name: "profiles" },
  ]));
});

test("names that would be SQL are only names that do not exist", async ({ example: { sql } }) => {
  const name = 'profiles"; drop table public.profiles; --';
  const error = await put(sql, "v10", { tables: [name], enums: [name], functions: [name] }).catch((error) => error);
  expect(error).toMatchObject({ code: "MG007" });
  expect(JSON.parse(error.detail).errors).toHaveLength(3);
  expect(await sql`select to_regclass('public.profiles') is not null as kept`).toEqual([{ kept: true }]);
});

test("views, sequences, indexes, composite types and tables of other schemas are no tables", async ({ example: { sql } }) => {
  await sql.unsafe(`
    create view public.a_view as select 1 as one;
    create materialized view public.a_materialized_view as select 1 as one;
    create sequence public.a_sequence;
    create type public.a_composite as (one int);
    create schema elsewhere;
    create table elsewhere.foreign_table (id int);
    create temporary table a_temporary_table (id int);
  `);
  const tables = ["a_view", "a_materialized_view", "a_sequence", "a_composite", "foreign_table", "a_temporary_table"]
    .concat("idx_profiles_coordinator_id", "users", "elsewhere.foreign_table", "public.profiles");
  const error = await put(sql, "v10", { tables: [...tables, "profiles"] }).catch((error) => error);
  expect(error).toMatchObject({ code: "MG007" });
  expect(JSON.parse(error.detail).errors).toEqual(
    tables.toSorted().map((name) => ({ kind: "table", name })),
  );
});

test("types that are no enums, and functions of other schemas, are not found", async ({ example: { sql } }) => {
  await sql.unsafe(`
    create domain public.a_domain as text;
    create type public.a_composite as (one int);
    create aggregate public.an_aggregate (int) (sfunc = int4pl, stype = int);
  `);
  const error = await put(sql, "v10", {
    tables: ["profiles"],
    enums: ["a_domain", "a_composite", "text"],
    functions: ["an_aggregate", "now"],
  }).catch((error) => error);
  expect(error).toMatchObject({ code: "MG007" });
  expect(JSON.parse(error.detail).errors).toHaveLength(4);
});

test("procedures and aggregates are functions to a plan", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create aggregate public.total(int) (sfunc = int4pl, stype = int);
    create procedure public.tidy() language sql as 'select 1';
  `);
  await put(sql, "v10", { functions: ["total(integer)", "tidy"] });
  expect(await savedFunctions(sql, "v10")).toEqual(["public.tidy()", "public.total(integer)"]);
});

test("names are taken as the catalog spells them, case and quotes included", async ({ database: { sql } }) => {
  const longest = "x".repeat(63);
  await sql.unsafe(`
    create schema "My App";
    create table "My App"."Order Items" (id int);
    create table "My App"."say ""hi""" (id int);
    create table "My App".${longest} (id int);
    create type "My App"."Färbung" as enum ('Rot');
    create function "My App"."DoIt"("My App"."Färbung", text[]) returns int language sql as 'select 1';
  `);
  await put(sql, "v10", {
    schema: "My App",
    tables: ["Order Items", 'say "hi"', longest],
    enums: ["Färbung"],
    functions: ["DoIt"],
  });
  expect(await savedFunctions(sql, "v10")).toEqual([`"My App"."DoIt"("My App"."Färbung", text[])`]);
  for (const name of ["order items", '"Order Items"', "ORDER ITEMS", "Order  Items", `${longest}x`]) {
    await expect(put(sql, "v11", { schema: "My App", tables: [name] })).rejects.toMatchObject({ code: "MG007" });
  }
  await expect(put(sql, "v11", { schema: "my app", tables: ["Order Items"] })).rejects.toMatchObject({ code: "MG007" });
});

test("a name said twice is one object", async ({ example: { sql } }) => {
  await put(sql, "v10", {
    tables: ["profiles", "profiles"],
    enums: ["user_role", "user_role"],
    functions: ["is_coordinator", "is_coordinator(uuid)", "is_coordinator( uuid )"],
  });
  expect(await savedFunctions(sql, "v10")).toEqual(["public.is_coordinator(p_user_id uuid)"]);
  const job = await tryBackUp(sql, "v10", { tables: ["profiles", "profiles"], enums: ["user_role", "user_role"] });
  expect(job).toMatchObject({ error: null, result: { tables_backed_up: 1, enums_backed_up: 1 } });
});

test("the name of an overloaded function stands for all of it, a signature for one", async ({ example: { sql } }) => {
  await sql.unsafe(`
    create function public.twice(int) returns int language sql as 'select 1';
    create function public.twice(text, public.user_role) returns int language sql as 'select 1';
    create function public.twice() returns int language sql as 'select 1';
    create procedure public.twice(character varying, timestamp with time zone) language sql as 'select 1';
  `);
  const saved = async (name: string) => {
    await put(sql, "v10", { tables: ["profiles"], functions: [name] });
    return savedFunctions(sql, "v10");
  };
  expect(await saved("twice")).toHaveLength(4);
  expect(await saved("twice()")).toEqual(["public.twice()"]);
  expect(await saved("twice(integer)")).toEqual(["public.twice(integer)"]);
  for (
    const spelling of ["twice(text,user_role)", "twice(text, public.user_role)", " twice (  text ,user_role ) "]
  ) {
    expect(await saved(spelling)).toEqual(["public.twice(text, public.user_role)"]);
  }
  expect(await saved("twice(character varying, timestamp with time zone)")).toHaveLength(1);
  await expect(saved("twice(text)")).rejects.toMatchObject({ code: "MG007" });
  await expect(saved("twice(text, public.user_role")).rejects.toMatchObject({ code: "MG007" });
  await expect(saved("Twice")).rejects.toMatchObject({ code: "MG007" });
});

test("a plan stays while it has a backup", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await expect(remove(sql, "v10")).rejects.toMatchObject({ code: "MG008" });
  expect(await get(sql, "v10")).toHaveLength(1);
});

test("a plan is not replaced by another while its backup is on its way", async ({ example: { sql } }) => {
  await put(sql, "v10", examplePlan);
  await sql`select migration_guard.enqueue_backup('v10', 'test')`;
  const [job] = await sql<{ id: string }[]>`select id from migration_guard.jobs where status = 'queued'`;
  for (const status of ["queued", "running"]) {
    await sql`update migration_guard.jobs set status = ${status} where id = ${job!.id}`;
    for (
      const change of [{ tables: ["profiles"] }, { retention_days: 30 }, { two_keys: true }, { require_export: true }]
    ) {
      await expect(put(sql, "v10", { ...examplePlan, ...change })).rejects.toMatchObject({ code: "MG008" });
    }
    await put(sql, "v10", { ...examplePlan, contacts: ["night@example.org"] });
  }
  await sql`update migration_guard.jobs set status = 'queued' where id = ${job!.id}`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ id: job!.id, status: "succeeded" });
});

test("a plan that is being replaced is waited for by whoever asks for its backup", async ({ database }) => {
  const { sql } = database;
  await createTable(sql);
  await put(sql, "v10", { tables: ["kept"] });
  const other = database.connect();
  const replacing = await other.reserve();
  await replacing`begin`;
  await replacing`select migration_guard_api.put_plan('v10', '{"tables": ["kept"], "retention_days": 30}', 'test')`;
  await sql`set lock_timeout = '200ms'`;
  await expect(sql`select migration_guard.enqueue_backup('v10', 'test')`).rejects.toMatchObject({ code: "55P03" });
  await expect(remove(sql, "v10")).rejects.toMatchObject({ code: "55P03" });
  await replacing`commit`;
  replacing.release();
  await sql`select migration_guard.enqueue_backup('v10', 'test')`;
});

test("a plan whose backup was asked for by who stored it first is not replaced by who has waited for that", async ({ database }) => {
  const { sql } = database;
  await sql`create table public.wanted (id int); create table public.other (id int)`.simple();
  const first = database.connect();
  await first`begin`;
  await put(first, "v1", { tables: ["wanted"] });
  await first`select migration_guard.enqueue_backup('v1', 'test')`;
  const replacing = expect(put(database.connect(), "v1", { tables: ["other"] })).rejects.toMatchObject({
    code: "MG008",
  });
  await blocked(database);
  await first`commit`;
  await replacing;
  await work(sql);
  expect(await copied(sql, "migration_backup_v1")).toEqual(["wanted"]);
});

test("of two who store a plan at once the second replaces what the first has stored, or stores it anew when that was removed", async ({ database }) => {
  const { sql } = database;
  await createTable(sql);
  const first = database.connect();
  for (const [title, change] of [["stored", put], ["removed", remove]] as const) {
    await first`begin`;
    await change(first, "v1", { tables: ["kept"], title });
    const second = put(database.connect(), "v1", { tables: ["kept"], title: `after one was ${title}` }, "bob")
      .execute();
    await blocked(database);
    await first`commit`;
    expect([...await second]).toMatchObject([{ title: `after one was ${title}`, actor: "bob" }]);
    expect(await get(sql, "v1")).toMatchObject([{ title: `after one was ${title}`, actor: "bob" }]);
  }
});

test("a plan stays whose backup is taken while its removal waits for who replaces it", async ({ database }) => {
  const { sql } = database;
  await createTable(sql);
  await put(sql, "v1", { tables: ["kept"] });
  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
  const replacing = database.connect();
  await replacing`begin`;
  await put(replacing, "v1", { tables: ["kept"], title: "another" });
  const removing = expect(remove(database.connect(), "v1")).rejects.toMatchObject({ code: "MG008" });
  await blocked(database);
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded" });
  await replacing`commit`;
  await removing;
  expect((await get(sql, "v1"))[0]).toMatchObject({ title: "another" });
});

test("a plan stays while it has a job, and goes when the job has failed", async ({ example: { sql } }) => {
  await put(sql, "v10", examplePlan);
  await sql`select migration_guard_api.create_backup('v10', 'test')`;
  await expect(remove(sql, "v10")).rejects.toMatchObject({ code: "MG008" });
  await sql`alter table public.profiles rename to people`;
  await work(sql);
  await remove(sql, "v10");
  await expect(get(sql, "v10")).rejects.toMatchObject({ code: "MG004" });
});

test("a plan with a backup keeps its objects, and what changes of it does not touch the backup", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await expect(put(sql, "v10", { ...examplePlan, tables: [...examplePlan.tables, "daily_logs"] })).rejects
    .toMatchObject({ code: "MG008" });
  await expect(put(sql, "v10", { ...examplePlan, match: "coordinator" })).rejects.toMatchObject({ code: "MG008" });
  await expect(put(sql, "v10", { ...examplePlan, tables: "*" })).rejects.toMatchObject({ code: "MG008" });
  await put(sql, "v10", { ...examplePlan, title: "another", retention_days: 1, contacts: ["somebody else"] });
  expect(
    await sql`select retention_days, (metadata ->> 'tables_backed_up')::int as tables from migration_guard_api.get_backup('v10')`,
  )
    .toEqual([{ retention_days: 14, tables: 4 }]);
});

test("a plan that names the same as the backup in another order, or twice, may take the place of its plan", async ({ example: { sql } }) => {
  const { tables, functions, enums } = examplePlan as Record<string, string[]>;
  const same = {
    ...examplePlan,
    tables: tables!.toReversed(),
    functions: [...functions!.toReversed(), functions![0]!],
    enums: [...enums!, ...enums!],
  };
  const other = { ...same, tables: [tables![0]!, ...tables!.slice(0, -1)] };
  await put(sql, "v10", examplePlan);
  await sql`select migration_guard.enqueue_backup('v10', 'test')`;
  for (const isTaken of [false, true]) {
    await put(sql, "v10", same);
    expect((await get(sql, "v10"))[0], `${isTaken}`).toMatchObject(same);
    await expect(put(sql, "v10", other), `${isTaken}`).rejects.toMatchObject({ code: "MG008" });
    await put(sql, "v10", examplePlan);
    if (isTaken) continue;
    await work(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
  }
});

test("who is refused another plan, or its removal, is told what leads on, and that does", async ({ example: { sql } }) => {
  const other = { tables: ["daily_logs"] };
  const refused = (message: RegExp) => ({ code: "MG008", message: expect.stringMatching(message) });
  await put(sql, "v10", examplePlan);
  await sql`select migration_guard.enqueue_backup('v10', 'test')`;
  await expect(put(sql, "v10", other)).rejects.toMatchObject(refused(/wait for its end, or cancel its job\.$/));
  await expect(remove(sql, "v10")).rejects.toMatchObject(
    refused(/^A job of v10\.0 is queued or running: .*cancel it\.$/),
  );
  await work(sql);
  await expect(put(sql, "v10", other)).rejects.toMatchObject(refused(
    /Where the migration has not run yet, drop the schema migration_backup_v10 .*, store the plan, and take another backup; otherwise clean it up first\.$/,
  ));
  await expect(remove(sql, "v10")).rejects.toMatchObject(refused(
    /^There is a backup of v10\.0: clean it up first or, where the migration has not run yet, drop the schema migration_backup_v10 /,
  ));
  await sql`drop schema migration_backup_v10 cascade`;
  await backUp(sql, "v10", other);
  expect(await copied(sql, "migration_backup_v10")).toEqual(["daily_logs"]);
  await sql`drop schema migration_backup_v10 cascade`;
  await remove(sql, "v10");
  await expect(get(sql, "v10")).rejects.toMatchObject({ code: "MG004" });
});

test("a plan that names a table and not those that inherit from it is refused", async ({ database: { sql } }) => {
  await sql`create table public.par (a int)`;
  await sql`create table public.chi (b int) inherits (public.par)`;
  await expect(put(sql, "v1", { tables: ["par"] })).rejects.toMatchObject({
    code: "MG002",
    message: expect.stringContaining("chi"),
  });
  await put(sql, "v1", { tables: ["par", "chi"] });
  await sql`create table public.parted (a int) partition by list (a)`;
  await sql`create table public.parted_1 partition of public.parted default`;
  await put(sql, "v2", { tables: ["parted"] });
});

test("heirs that no plan of the schema can name do not keep one from being stored, and are told with what depends on it", async ({ database: { sql, connect } }) => {
  await sql.unsafe(`
    create schema app; create schema other;
    create table app.par (a int);
    create table other.heir (b int) inherits (app.par)`);
  await connect("supabase_admin").unsafe(`
    create foreign data wrapper elsewhere;
    create server far_away foreign data wrapper elsewhere;
    create foreign table app.afar () inherits (app.par) server far_away`);
  await put(sql, "v1", { schema: "app", tables: ["par"] });
  const dependents = await sql<{ identity: string }[]>`
    select o.identity
    from migration_guard.dependents_of(array(select p from migration_guard.plan_objects(migration_guard.get_plan('v1')) as p)) as o
    where o.kind in ('table', 'foreign_table') order by 1`;
  expect(dependents.map(({ identity }) => identity)).toEqual(["app.afar", "other.heir"]);
});

test("a backup holds what belongs to the plan's objects in other schemas, and a checklist finds it as saved", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create schema app; create schema other;
    create table app.kept (a int, b int) partition by range (a);
    create table other.part partition of app.kept (primary key (a)) for values from (0) to (10);
    create index part_b on other.part (b);
    create statistics other.kept_statistics on a, b from app.kept;
    create type app.state as enum ('new', 'old');
    create table other.outside (id int, state app.state);
    alter table other.outside enable row level security;
    create policy new_ones on other.outside using (state = 'new');
    create view other.seen as select * from app.kept;
    create table other.unrelated (id int);
    create temporary view passing as select * from app.kept;
  `);
  await backUp(sql, "v1", { schema: "app", tables: ["kept"], enums: ["state"] });
  const recorded = await sql<{ identity: string; in_plan: boolean }[]>`
    select identity, in_plan from migration_backup_v1.objects_backup
    where schema_name <> 'app' and kind <> 'column' order by identity collate "C"`;
  expect(recorded.map(({ identity, in_plan }) => `${identity}: ${in_plan ? "plan" : "dependent"}`)).toEqual([
    "new_ones on other.outside: plan",
    "other.kept_statistics: plan",
    "other.outside: dependent",
    "other.part: plan",
    "other.part_b: plan",
    "other.part_pkey: plan",
    "other.seen: dependent",
    "part_pkey on other.part: plan",
  ]);
  const unlike = await sql`
    select check_name, details from migration_guard.catalog_checks(migration_guard.get_backup('v1')) where not ok`;
  expect(unlike).toEqual([]);
});

test.for([
  "pg_catalog",
  "pg_toast",
  "information_schema",
  "migration_guard",
  "migration_guard_api",
  "migration_backup_v1",
])(
  "there is no plan for the schema %s",
  async (schema, { database: { sql } }) => {
    await createTable(sql);
    await backUp(sql, "v1", { tables: ["kept"] });
    await expect(put(sql, "v2", { schema, tables: "*" })).rejects.toMatchObject({
      code: "MG002",
      message: expect.stringContaining(schema),
    });
    const [names] = await sql<{ schemas: string[] }[]>`select schemas from migration_guard_api.list_names('public')`;
    expect(names!.schemas).toContain("public");
    expect(names!.schemas).not.toContain(schema);
  },
);

test("a schema whose name only looks like one of the product's can be planned", async ({ database: { sql } }) => {
  await sql.unsafe(`create schema migration_guard_notes; create table migration_guard_notes.kept (id int)`);
  await put(sql, "v1", { schema: "migration_guard_notes", tables: ["kept"] });
});

// Every table, nothing but a term, whom to call

/** Tables whose rows the newest backup of a version has. */
const copied = async (sql: postgres.Sql, schema: string): Promise<string[]> => {
  const rows = await sql.unsafe<{ name: string }[]>(
    `select source_table as name from ${schema}.tables_backup order by 1`,
  );
  return rows.map(({ name }) => name);
};

/** What the backup of a plan holds of a kind, by identity. */
const held = async (sql: postgres.Sql, plan: postgres.JSONValue, ...kinds: string[]): Promise<string[]> => {
  await put(sql, "v77", plan);
  const rows = await sql<{ object: string }[]>`
    select o.identity as object from migration_guard.plan_objects(migration_guard.get_plan('v77')) as o
    where o.kind = any (${kinds}) order by o.identity collate "C"`;
  return rows.map(({ object }) => object);
};

test("a star stands for every table of the schema that there is when the backup is taken", async ({ database }) => {
  const { sql } = database;
  await sql.unsafe(`
    create schema app;
    create table app.plain (id int);
    create table app.parent (id int);
    create table app.child () inherits (app.parent);
    create table app.parted (id int) partition by range (id);
    create table app.parted_low partition of app.parted for values from (0) to (10) partition by range (id);
    create table app.parted_lowest partition of app.parted_low for values from (0) to (5);
    create view app.a_view as select 1 as one;
    create table public.elsewhere (id int);
    create temporary table passing (id int);
    insert into app.parted values (1);
  `);
  await put(sql, "v1", { schema: "app", tables: "*" });
  expect((await get(sql, "v1"))[0]).toMatchObject({ schema: "app", tables: "*" });
  await sql`create table app.later (id int)`;
  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
  await work(sql);
  expect(await copied(sql, "migration_backup_v1")).toEqual(["child", "later", "parent", "parted", "plain"]);
  expect(await sql`select * from migration_backup_v1.parted_backup`).toEqual([{ id: 1 }]);
  expect(await sql`select plan -> 'tables' as tables from migration_backup_v1.backup_metadata`).toEqual([{
    tables: "*",
  }]);
  await sql`select migration_guard.assert_ready('v1')`;
});

test("a star leaves out the tables of an extension", async ({ database }) => {
  const admin = database.connect("supabase_admin");
  await database.sql.unsafe(`create table public.mine (id int); create table public.theirs (id int)`);
  await admin.unsafe(`alter extension plpgsql add table public.theirs`);
  expect(await held(database.sql, { tables: "*" }, "table")).toEqual(["public.mine"]);
  await admin.unsafe(`alter extension plpgsql drop table public.theirs`);
});

test("a star finds nothing in a schema without tables, and its backup is whole", async ({ database: { sql } }) => {
  await sql`create schema app`;
  await backUp(sql, "v1", { schema: "app", tables: "*" });
  expect(await copied(sql, "migration_backup_v1")).toEqual([]);
  await sql`select migration_guard.assert_ready('v1')`;
  await sql`create table app.later (id int)`;
  await expect(sql`select migration_guard.assert_ready('v1')`).rejects.toMatchObject({ code: "MG012" });
});

test("a table whose name is a star can be planned by name", async ({ database: { sql } }) => {
  await sql.unsafe(`create table public."*" (id int); create table public.kept (id int)`);
  await backUp(sql, "v1", { tables: ["*"] });
  expect((await get(sql, "v1"))[0]).toMatchObject({ tables: ["*"] });
  expect(await copied(sql, "migration_backup_v1")).toEqual(["*"]);
});

test.for<[string, Parameters<typeof backUp>[2]]>([
  ["enums", { enums: ["user_role"] }],
  ["functions", { tables: [], functions: ["is_coordinator(uuid)"] }],
  ["a term", { match: "coordinator" }],
])("a plan of nothing but %s is backed up, verified and ready", async ([, plan], { example: { sql } }) => {
  const job = await backUp(sql, "v1", plan);
  expect(job.result).toMatchObject({ tables_backed_up: 0, rows_backed_up: 0 });
  await sql`select migration_guard.enqueue_verification('v1', 'test')`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", result: { ok: true } });
  await sql`select migration_guard.assert_ready('v1')`;
});

test("a plan's objects include those of all partitions of its tables", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.parted (id int) partition by range (id);
    create table public.low partition of public.parted for values from (0) to (10) partition by range (id);
    create schema far;
    create table far.lowest partition of public.low (constraint small check (id < 5)) for values from (0) to (5);
    create index own_index on far.lowest (id);
    create table public.other (id int);
    create index other_index on public.other (id);
  `);
  expect(await held(sql, { tables: ["parted"] }, "table")).toEqual(["far.lowest", "public.low", "public.parted"]);
  expect(await held(sql, { tables: ["parted"] }, "index")).toEqual(["far.own_index"]);
  expect(await held(sql, { tables: ["parted"] }, "constraint")).toEqual(["small on far.lowest"]);
});

test("what contains the term in its name or definition belongs to the plan, once", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.people (id int primary key, coordinator_id int, age int constraint grown check (age > 17));
    create table public.coordinators (id int primary key);
    alter table public.people add constraint who foreign key (coordinator_id) references public.coordinators;
    create index by_one on public.people (coordinator_id);
    create index by_age on public.people (age);
    create index "By Coordinator" on public.people (id);
    create function public.greet() returns text language sql as $$ select 'Dear COORDINATOR' $$;
    create function public.other() returns text language sql as $$ select 'Dear curator' $$;
    create procedure public.coordinator_do() language sql as $$ select 1 $$;
    create function public.stamp() returns trigger language plpgsql as $$ begin return new; end $$;
    create trigger on_coordinator before insert on public.people for each row execute function public.stamp();
    create trigger on_person before insert on public.people for each row execute function public.stamp();
    create policy mine on public.people using (coordinator_id = 1);
    create policy all_of_them on public.people using (true);
    create schema far;
    create function far.coordinator() returns int language sql as $$ select 1 $$;
  `);
  const plan = { match: "Coordinator" };
  expect(await held(sql, plan, "function", "procedure")).toEqual(["public.coordinator_do()", "public.greet()"]);
  expect(await held(sql, plan, "index"))
    .toEqual(['public."By Coordinator"', "public.by_one", "public.coordinators_pkey"]);
  expect(await held(sql, plan, "constraint"))
    .toEqual(["coordinators_pkey on public.coordinators", "who on public.people"]);
  expect(await held(sql, plan, "trigger")).toEqual(["on_coordinator on public.people"]);
  expect(await held(sql, plan, "policy")).toEqual(["mine on public.people"]);
  expect(await held(sql, plan, "table", "column")).toEqual([]);
  const both = { tables: ["people"], functions: ["greet"], match: "coordinator" };
  for (const kind of ["index", "constraint", "function", "trigger"]) {
    const identities = await held(sql, both, kind);
    expect(identities, kind).toEqual([...new Set(identities)]);
  }
  expect(await held(sql, both, "index")).toContain("public.by_age");
  await backUp(sql, "v1", both);
});

test("whatever has the term in its comment belongs to the plan", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create type public.mood as enum ('fine');
    create table public.people (id int, name text);
    create table public.others (id int);
    create function public.f() returns int language sql as 'select 1';
    comment on type public.mood is 'Of a coordinator';
    comment on table public.people is 'Coordinators and clients';
    comment on column public.people.name is 'Name of the coordinator';
    comment on function public.f() is 'For the coordinator';
    comment on table public.others is 'Of somebody else';
  `);
  expect(await held(sql, { match: "coordinator" }, "enum", "table", "column", "function"))
    .toEqual(["public.f()", "public.mood", "public.people", "public.people.name"]);
});

test("a term is taken as it is, without wildcards, and in upper and lower case as the database knows them", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create function public.a() returns text language sql as $$ select '100%_done\\' $$;
    create function public.b() returns text language sql as $$ select '100 is done' $$;
    create function public."КУРАТОР"() returns int language sql as 'select 1';
  `);
  expect(await held(sql, { match: "0%_d" }, "function")).toEqual(["public.a()"]);
  expect(await held(sql, { match: "done\\" }, "function")).toEqual(["public.a()"]);
  const [{ term }] = await sql<[{ term: string }]>`select lower('КУРАТОР' collate "default") as term`;
  expect(await held(sql, { match: term }, "function")).toEqual(['public."КУРАТОР"()']);
});

test("a term that nothing contains is told as missing, and one that nothing contains any more stops a backup", async ({ example: { sql } }) => {
  const error = await put(sql, "v1", { tables: ["profiles"], match: "koordinator" }).catch((error) => error);
  expect(error).toMatchObject({ code: "MG007" });
  expect(JSON.parse(error.detail).errors).toEqual([{ kind: "match", name: "koordinator" }]);
  await sql`create function public.vexed() returns int language sql as 'select 1'`;
  await put(sql, "v1", { match: "vexed" });
  await sql`alter function public.vexed() rename to calm`;
  await expect(sql`select migration_guard.enqueue_backup('v1', 'test')`).rejects.toMatchObject({
    code: "MG011",
    message: expect.stringContaining("match vexed"),
  });
});

test("what an extension made is not matched", async ({ database }) => {
  const admin = database.connect("supabase_admin");
  await database.sql.unsafe(`
    create function public.coordinator_a() returns int language sql as 'select 1';
    create function public.coordinator_b() returns int language sql as 'select 1';
  `);
  await admin.unsafe(`alter extension plpgsql add function public.coordinator_b()`);
  expect(await held(database.sql, { match: "coordinator" }, "function")).toEqual(["public.coordinator_a()"]);
  await admin.unsafe(`alter extension plpgsql drop function public.coordinator_b()`);
});

test("without a term nothing outside of the plan is read, so that a lock there keeps nobody", async ({ database }) => {
  const { sql } = database;
  await sql.unsafe(`
    create table public.mine (id int);
    create table public.busy (id int default 7 check (id > 0));
    create policy p on public.busy using (id > 1);
  `);
  const other = database.connect();
  await other.unsafe(`begin; lock table public.busy in access exclusive mode`);
  await sql`set lock_timeout = '1s'`;
  expect(await held(sql, { tables: ["mine"] }, "table")).toEqual(["public.mine"]);
  await expect(held(sql, { tables: ["mine"], match: "mine" }, "table")).rejects.toMatchObject({ code: "55P03" });
  await other`rollback`;
});

test("what another session has made for itself is not read, whatever it depends on", async ({ database }) => {
  const { sql } = database;
  await sql.unsafe(`
    create table public.mine (id int primary key);
    create function public.is_fine(int) returns boolean language sql immutable as 'select $1 > 0';
  `);
  const other = database.connect();
  await other.unsafe(`
    create temporary table own (id int check (public.is_fine(id)));
    create temporary view seen as select m.id from public.mine as m join own on own.id = m.id;
    begin; lock table own in access exclusive mode`);
  await backUp(sql, "v1", { tables: ["mine"], functions: ["is_fine"] });
  await sql`select migration_guard.enqueue_diff('v1', 'test')`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", result: { is_clean: true } });
  await other`rollback`;
});

test("the contacts are in the metadata and in the answer of a failed job, and no other", async ({ example: { sql } }) => {
  const contacts = ["Alice, +49 30 1234567", "on-call@example.com"];
  const jobs = async () => (await sql<{ kind: string; error: { code: string; contacts?: string[] } | null }[]>`
      select kind, error from migration_guard_api.list_jobs('v10')`);
  await put(sql, "v10", { ...examplePlan, contacts });
  await sql`select migration_guard_api.create_backup('v10', 'test')`;
  await sql`alter table public.profiles rename to people`;
  await work(sql);
  expect(await jobs()).toMatchObject([{ error: { code: "migration_already_applied", contacts } }]);
  await sql`alter table public.people rename to profiles`;
  await put(sql, "v10", { ...examplePlan, contacts: ["Bob"] });
  expect(await jobs()).toMatchObject([{ error: { contacts: ["Bob"] } }]);

  await put(sql, "v10", { ...examplePlan, contacts });
  await backUp(sql, "v10", { ...examplePlan, contacts });
  const [backup] = await sql`select metadata -> 'contacts' as contacts from migration_guard_api.get_backup('v10')`;
  expect(backup).toEqual({ contacts });
  expect(await sql`select plan -> 'contacts' as contacts from migration_backup_v10.backup_metadata`).toEqual([{
    contacts,
  }]);
  await put(sql, "v10", { ...examplePlan, contacts: ["Bob"] });
  const [succeeded, failed] = await jobs();
  expect(succeeded).toMatchObject({ kind: "backup", error: null });
  expect(failed).toMatchObject({ error: { contacts } });
});

test("a backup whose schema was dropped by hand keeps no plan from being changed or removed", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await expect(put(sql, "v10", { tables: ["daily_logs"] })).rejects.toMatchObject({ code: "MG008" });
  await sql`drop schema migration_backup_v10 cascade`;
  await put(sql, "v10", { tables: ["daily_logs"] });
  await remove(sql, "v10");
  await expect(get(sql, "v10")).rejects.toMatchObject({ code: "MG004" });
});

test("a backup whose schema was dropped by hand is forgotten when its plan is removed, or the plan was before", async ({ example: { sql } }) => {
  const states = async () =>
    (await sql`select version, state from migration_guard_api.list_backups()`).map((row) => [...Object.values(row)]);
  await backUp(sql, "v10", examplePlan);
  await backUp(sql, "v11", examplePlan);
  await expect(remove(sql, "v10")).rejects.toMatchObject({ code: "MG008" });
  await sql`drop schema migration_backup_v10 cascade`;
  expect(await states()).toEqual([["v11.0", "fresh"], ["v10.0", "missing"]]);
  await remove(sql, "v10");
  expect(await states()).toEqual([["v11.0", "fresh"]]);
  expect(await sql`select from migration_guard.metrics() where labels ->> 'version' = 'v10.0'`).toHaveLength(0);
  await expect(remove(sql, "v10")).rejects.toMatchObject({ code: "MG004" });

  await sql`drop schema migration_backup_v11 cascade`;
  await sql`delete from migration_guard.plans`;
  await remove(sql, "v11");
  expect(await states()).toEqual([]);
  expect(await sql`select removed_by from migration_guard.backups`).toEqual(
    Array(2).fill({ removed_by: "unknown: its schema was dropped without a cleanup" }),
  );
  const ids =
    await sql`select jsonb_build_object('forgotten_backup_id', id) as parameters from migration_guard.backups order by version`;
  const trail = await sql`
    select parameters from migration_guard.audit_log where action = 'plan.delete' and outcome = 'done' order by version`;
  expect([...trail]).toEqual([...ids]);
});

test("a plan stays that comes back with a backup from the trash while its removal forgets another", async ({ example }) => {
  const { sql, connect } = example;
  await makeRemovable(sql, "v10", { trash_hours: 24 });
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await work(sql);
  const [trashed] = await sql`select id from migration_guard.backups`;
  await backUp(sql, "v10", examplePlan);
  await sql`drop schema migration_backup_v10 cascade`;
  await sql`delete from migration_guard.plans`;
  const restoring = connect();
  await restoring`begin`;
  await restoring`select migration_guard_api.restore_from_trash('v10', 'alice')`;
  const removing = expect(remove(connect(), "v10")).rejects.toMatchObject({ code: "MG008" });
  await blocked(example);
  await restoring`commit`;
  await removing;
  expect(await get(sql, "v10")).toHaveLength(1);
  expect(await sql`select backup_id from migration_guard_api.list_backups()`).toEqual([{ backup_id: trashed!.id }]);
});

test("a backup whose schema gets its name back while its plan is removed is not forgotten", async ({ example }) => {
  const { sql, connect } = example;
  await backUp(sql, "v10", examplePlan);
  await sql`alter schema migration_backup_v10 rename to elsewhere`;
  const renaming = connect();
  await renaming`begin`;
  await renaming`alter schema elsewhere rename to migration_backup_v10`;
  await renaming`select from migration_guard.backups for update`;
  const removing = expect(remove(connect(), "v10")).rejects.toMatchObject({ code: "MG008" });
  await blocked(example);
  await renaming`commit`;
  await removing;
  expect(await get(sql, "v10")).toHaveLength(1);
  expect(await sql`select state from migration_guard_api.list_backups()`).toEqual([{ state: "fresh" }]);
});
