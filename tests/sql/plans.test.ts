import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, tryBackUp, work } from "../support/backup.ts";
import { test } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";

const put = (sql: postgres.Sql, version: string, plan: postgres.JSONValue, actor = "test") =>
  sql`select * from migration_guard_api.put_plan(${version}, ${sql.json(plan)}, ${actor})`;
const get = (sql: postgres.Sql, version: string) => sql`select * from migration_guard_api.get_plan(${version})`;
const remove = (sql: postgres.Sql, version: string) => sql`select migration_guard_api.delete_plan(${version})`;
const createTable = (sql: postgres.Sql) => sql`create table public.kept (id int)`;

/** Names of the functions, with their argument types, that the backup of a plan holds. */
const savedFunctions = async (sql: postgres.Sql, version: string): Promise<string[]> => {
  const rows = await sql<{ identity: string }[]>`
    select o.identity from migration_guard.plan_objects(migration_guard.get_plan(${version})) as o
    where o.kind = 'function' order by o.identity`;
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
    retention_days: 7,
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
  ["no tables", { enums: [] }],
  ["an empty list of tables", { tables: [] }],
  ["tables that are null", { tables: null }],
  ["tables that are a string", { tables: "kept" }],
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

test("types that are no enums, and aggregates, are not found", async ({ example: { sql } }) => {
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
  expect(JSON.parse(error.detail).errors).toHaveLength(5);
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
  await put(sql, "v10", { ...examplePlan, title: "another", retention_days: 1 });
  expect(
    await sql`select retention_days, (metadata ->> 'tables_backed_up')::int as tables from migration_guard_api.get_backup('v10')`,
  )
    .toEqual([{ retention_days: 14, tables: 4 }]);
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
