import { describe, expect, test } from "vitest";
import { parseMigration } from "../../supabase/functions/migration-guard/derive/parse-migration.ts";
import type { Touch } from "../../supabase/functions/migration-guard/derive/touch.ts";

/** What a file touches, in short: `action kind schema.parent.name`, `?` where it may be missing, `+` where the file makes it. */
const short = ({ action, kind, schema, parent, name, signature, is_new, optional, cascade, new_name }: Touch) =>
  [
    `${is_new ? "+" : ""}${action}${optional ? "?" : ""}${cascade ? "!" : ""}`,
    kind,
    [schema, parent, name].filter((part) => part !== undefined).join(".") +
    (signature ? `(${signature.map((type) => type.name + (type.array ? "[]" : "")).join(", ")})` : "") +
    (new_name ? ` → ${new_name}` : ""),
  ].join(" ");

const touches = async (sql: string, schema?: string) => (await parseMigration(sql, schema)).touches.map(short);
const warnings = async (sql: string) => (await parseMigration(sql)).warnings.map(({ line, code }) => `${line} ${code}`);

test.for<[string, string[]]>([
  // Tables and columns
  ["alter table app.a rename to b", ["rename table app.a → b"]],
  ["alter table a rename column b to c", ["rename column a.b → c"]],
  ["alter table if exists a rename b to c", ["rename? column a.b → c"]],
  ["alter table a rename constraint b to c", ["rename constraint a.b → c"]],
  ["alter table a set schema b", ["rename table a"]],
  ["alter table a add column b int references c", ["alter table a", "+create column a.b", "alter table c"]],
  ["alter table a add column b int default f()", ["alter table a", "+create column a.b", "call function f"]],
  ["alter table a drop column if exists b cascade", ["drop?! column a.b"]],
  ["alter table a alter b type int using f(b)", ["alter column a.b", "call function f"]],
  ["alter table a alter b set default 1, alter c drop not null", ["alter column a.b", "alter column a.c"]],
  ["alter table a alter b set statistics 10", ["alter column a.b"]],
  ["alter table a alter b add generated always as identity", ["alter column a.b"]],
  ["alter table a add constraint b foreign key (c) references d", [
    "alter table a",
    "+create constraint a.b",
    "alter table d",
  ]],
  ["alter table a add check (b > 0)", ["alter table a"]],
  ["alter table a add primary key using index i", ["alter table a", "alter index i"]],
  ["alter table a drop constraint b", ["drop constraint a.b"]],
  ["alter table a validate constraint b", ["alter constraint a.b"]],
  ["alter table a alter constraint b deferrable", ["alter constraint a.b"]],
  ["alter table a disable trigger b", ["alter trigger a.b"]],
  ["alter table a disable trigger all", ["alter table a"]],
  ["alter table a enable always rule b", ["alter rule a.b"]],
  ["alter table a inherit b", ["alter table a", "alter table b"]],
  ["alter table a attach partition b for values in (1)", ["alter table a", "alter table b"]],
  ["alter table a detach partition b", ["alter table a", "alter table b"]],
  ["alter table a cluster on i", ["alter table a", "alter index i"]],
  ["alter table a replica identity using index i", ["alter table a", "alter index i"]],
  ["alter table a enable row level security", ["alter table a"]],
  ["alter table a owner to x", ["alter table a"]],
  ["alter table a of t", ["alter table a", "alter type t"]],
  ["create table a (b int references c, like d, foreign key (b) references e) inherits (f)", [
    "+create table public.a",
    "alter table c",
    "alter table d",
    "alter table e",
    "alter table f",
  ]],
  ["create table a (b int references a)", ["+create table public.a"]],
  ["create table a partition of b for values in (1)", ["+create table public.a", "alter table b"]],
  ["create table a of t", ["+create table public.a", "alter type t"]],
  ["create table if not exists a (b int)", ["create? table public.a"]],
  ["create table a as select * from b", ["+create table public.a"]],
  ["select * into a from b", ["+create table public.a"]],
  ["create foreign table a (b int) server s", ["+create foreign_table public.a"]],
  ["drop table if exists a, b.c cascade", ["drop?! table a", "drop?! table b.c"]],
  ["lock table a in share mode", ["alter table a"]],
  ["cluster a using i", ["alter table a"]],
  ["reindex table a", ["alter table a"]],
  ["reindex index i", ["alter index i"]],
  ["reindex schema s", ["alter schema s"]],
  ["vacuum full a", ["alter table a"]],
  // What belongs to tables
  ["create index i on a (lower(b))", ["alter table a", "+create index public.i", "call function lower"]],
  ["create index on a (b)", ["alter table a"]],
  ["alter index i rename to j", ["rename index i → j"]],
  ["drop index concurrently i", ["drop index i"]],
  ["create policy p on a using (f(b))", ["alter table a", "+create policy a.p"]],
  ["alter policy p on a using (true)", ["alter policy a.p"]],
  ["alter policy p on a rename to q", ["rename policy a.p → q"]],
  ["drop policy p on s.a", ["drop policy s.a.p"]],
  ["create trigger t before update on a execute function f()", ["alter table a", "+create trigger a.t"]],
  ["create or replace trigger t before update on a execute function f()", ["alter? trigger a.t", "alter table a"]],
  ["create constraint trigger t after insert on a from b for each row execute function f()", [
    "alter table a",
    "+create trigger a.t",
    "alter table b",
  ]],
  ["alter trigger t on a rename to u", ["rename trigger a.t → u"]],
  ["alter trigger t on a depends on extension e", ["alter trigger a.t"]],
  ["drop trigger t on a", ["drop trigger a.t"]],
  ["create rule r as on insert to a do nothing", ["alter table a", "+create rule a.r"]],
  ["create or replace rule r as on insert to a do nothing", ["alter? rule a.r", "alter table a"]],
  ["drop rule r on a", ["drop rule a.r"]],
  ["create statistics s on b, c from a", ["alter table a", "+create statistics public.s"]],
  ["alter statistics s set statistics 10", ["alter statistics s"]],
  ["alter statistics s rename to t", ["rename statistics s → t"]],
  ["drop statistics s", ["drop statistics s"]],
  // Views and sequences
  ["create view v as select * from a", ["+create view public.v"]],
  ["create or replace view v as select * from a", ["alter? view public.v"]],
  ["alter view v rename to w", ["rename view v → w"]],
  ["alter view v alter b set default 1", ["alter column v.b"]],
  ["drop view v", ["drop view v"]],
  ["create materialized view v as select f()", ["+create materialized_view public.v", "call function f"]],
  ["refresh materialized view v", ["data materialized_view v"]],
  ["create sequence s owned by a.b", ["+create sequence public.s", "alter table a"]],
  ["alter sequence s owned by none", ["alter sequence s"]],
  ["alter sequence s rename to t", ["rename sequence s → t"]],
  ["select setval('s', 1)", ["data sequence s"]],
  [`select setval('"S t"."Q"'::regclass, 1)`, ["data sequence S t.Q"]],
  ["select setval(pg_get_serial_sequence('s.a', 'id'), 1)", [
    "data table s.a",
    "call function pg_get_serial_sequence",
  ]],
  // Types
  ["create type t as enum ('a')", ["+create type public.t"]],
  ["create type t as (a int)", ["+create type public.t"]],
  ["create type t as range (subtype = int)", ["+create type public.t"]],
  ["create domain d as int", ["+create domain public.d"]],
  ["alter type t add value 'x'", ["alter type t", "+create enum_value t.x"]],
  ["alter type t rename value 'x' to 'y'", ["rename enum_value t.x → y"]],
  ["alter type t rename to u", ["rename type t → u"]],
  ["alter type t rename attribute a to b", ["rename attribute t.a → b"]],
  ["alter type t add attribute a int", ["alter type t", "+create attribute t.a"]],
  ["alter type t drop attribute a cascade", ["drop! attribute t.a"]],
  ["alter type t alter attribute a type int", ["alter attribute t.a"]],
  ["alter type t owner to x", ["alter type t"]],
  ["alter type t set (receive = f)", ["alter type t"]],
  ["alter domain d set not null", ["alter domain d"]],
  ["alter domain d drop constraint c", ["drop domain_constraint d.c"]],
  ["alter domain d rename constraint c to e", ["rename domain_constraint d.c → e"]],
  ["drop type t", ["drop type t"]],
  ["drop domain d", ["drop domain d"]],
  // Routines
  ["create function f(a int, out b text) language sql as ''", ["+create function public.f(int4)"]],
  ["create or replace function f(a int, s.t[]) returns int language sql as ''", [
    "alter? function public.f(int4, t[])",
  ]],
  ["create or replace procedure p() language sql as ''", ["alter? procedure public.p()"]],
  ["create or replace aggregate g(int) (sfunc = f, stype = int)", ["alter? aggregate public.g(int4)"]],
  ["alter function f(int) rename to g", ["rename function f(int4) → g"]],
  ["alter function f set search_path = ''", ["alter function f"]],
  ["alter function f() owner to x", ["alter function f()"]],
  ["alter function f() set schema s", ["rename function f()"]],
  ["alter function f depends on extension e", ["alter function f"]],
  ["drop function f(int), g cascade", ["drop! function f(int4)", "drop! function g"]],
  ["drop procedure p()", ["drop procedure p()"]],
  ["drop aggregate a(*)", ["drop aggregate a()"]],
  ["drop routine r", ["drop routine r"]],
  // Rows
  ["insert into a select 1", ["data table a"]],
  ["update a set b = f(c)", ["data table a", "call function f"]],
  ["delete from only s.a", ["data table s.a"]],
  ["merge into a using b on true when matched then delete", ["data table a"]],
  ["truncate a, b cascade", ["data! table a", "data! table b"]],
  ["copy a from stdin", ["data table a"]],
  ["with d as (delete from a returning *), u as (update b set c = 1) select * from d", [
    "data table b",
    "data table a",
  ]],
  ["explain analyze delete from a", ["data table a"]],
  ["prepare p as delete from a", ["data table a"]],
  ["select f(1)", ["call function f"]],
  ["copy (select f(1)) to stdout", ["call function f"]],
  // Everything else
  ["create schema s", ["+create schema s"]],
  ["alter schema s rename to t", ["rename schema s → t"]],
  ["drop schema s cascade", ["drop! schema s"]],
  ["create extension e", ["+create extension e"]],
  ["drop extension e cascade", ["drop! extension e"]],
  ["alter extension e add table a", ["alter extension e", "alter table a"]],
  ["alter extension e set schema s", ["alter extension e"]],
  ["create publication p for table a", ["+create publication p", "alter table a"]],
  ["alter publication p add table a, tables in schema s", ["alter publication p", "alter table a", "alter schema s"]],
  ["drop publication p", ["drop publication p"]],
  ["grant select (b), update on a to x", ["grant table a"]],
  ["revoke all on function f(int) from x", ["grant function f(int4)"]],
  ["grant usage on type t to x", ["grant type t"]],
  ["grant usage on schema s to x", ["grant schema s"]],
  ["grant select on all tables in schema s to x", ["grant schema s"]],
  ["alter default privileges in schema s grant select on tables to x", ["grant schema s"]],
  ["comment on table a is 'x'", ["comment table a"]],
  ["comment on column s.a.b is 'x'", ["comment column s.a.b"]],
  ["comment on constraint c on a is 'x'", ["comment constraint a.c"]],
  ["comment on constraint c on domain d is 'x'", ["comment domain_constraint d.c"]],
  ["comment on policy p on a is null", ["comment policy a.p"]],
  ["comment on function f(int) is 'x'", ["comment function f(int4)"]],
  ["security label on table a is 'x'", ["comment table a"]],
])("%s touches %j", async ([sql, expected]) => {
  const { touches: found, warnings } = await parseMigration(sql);
  expect(found.map(short).sort()).toEqual([...expected].sort());
  expect(warnings).toEqual([]);
});

test.for([
  ["do $$ begin drop table a; end $$", "effect_unknown"],
  ["execute p(1)", "effect_unknown"],
  ["call p(1)", "effect_unknown"],
  ["drop owned by x cascade", "effect_unknown"],
  ["reassign owned by x to y", "effect_unknown"],
  ["import foreign schema s from server x into y", "effect_unknown"],
  ["alter extension e update", "effect_unknown"],
  ["cluster", "effect_unknown"],
  ["reindex database d", "effect_unknown"],
  ["vacuum", "effect_unknown"],
  ["load 'x'", "effect_unknown"],
  ["alter table all in tablespace x set tablespace y", "effect_unknown"],
  ["create publication p for all tables", "effect_unknown"],
  ["copy a from program 'x'", "effect_unknown"],
  ["create table a as execute p", "effect_unknown"],
  ["select set_config('search_path', 'x', false)", "search_path_unknown"],
  ["select set_config('search' || '_path', 'x', false)", "search_path_unknown"],
  ["create role r", "outside_the_backup"],
  ["alter role r set search_path = x", "outside_the_backup"],
  ["grant a to b", "outside_the_backup"],
  ["alter database d set x = 1", "outside_the_backup"],
  ["alter system set x = 1", "outside_the_backup"],
  ["alter default privileges revoke all on functions from public", "outside_the_backup"],
  ["create server s foreign data wrapper w", "outside_the_backup"],
  ["create event trigger e on ddl_command_start execute function f()", "outside_the_backup"],
  ["create cast (int as text) with function f(int)", "outside_the_backup"],
  ["create operator + (function = f, rightarg = int)", "outside_the_backup"],
  ["alter operator + (int, int) set (restrict = f)", "outside_the_backup"],
  ["drop operator + (int, int)", "outside_the_backup"],
  ["drop collation c", "outside_the_backup"],
  ["comment on database d is 'x'", "outside_the_backup"],
  ["drop cast (int as text)", "outside_the_backup"],
  ["create text search dictionary d (template = simple)", "outside_the_backup"],
  ["alter text search dictionary d (x = y)", "outside_the_backup"],
  ["create subscription s connection '' publication p", "outside_the_backup"],
])("%s is a warning: %s", async ([sql, code]) => {
  expect((await parseMigration(sql!)).warnings.map((warning) => warning.code)).toContain(code);
});

test.for([
  "begin",
  "commit",
  "savepoint s",
  "set statement_timeout = 0",
  "show all",
  "select 1 from a",
  "select migration_guard.assert_ready('v10.0')",
  "select set_config('lock_timeout', '1s', true)",
  "listen x",
  "notify x",
  "set constraints all deferred",
  "explain delete from a",
  "",
])("%s leaves no trace", async (sql) => {
  expect(await parseMigration(sql)).toEqual({ touches: [], warnings: [] });
});

describe("names that the file changes", () => {
  test.for<[string, string[]]>([
    ["alter table a rename to b; drop table b", ["rename table a → b", "drop table a"]],
    ["alter table public.a rename to b; drop table b", ["rename table public.a → b", "drop table public.a"]],
    ["alter table a rename to b; drop table public.b", ["rename table a → b", "drop table a"]],
    ["alter table a rename to t; alter table b rename to a; alter table t rename to b; drop table a", [
      "rename table a → t",
      "rename table b → a",
      "rename table a → b",
      "drop table b",
    ]],
    ["create table c (); drop table c", ["+create table public.c", "+drop table public.c"]],
    ["create table if not exists c (); drop table c", ["create? table public.c", "drop? table public.c"]],
    ["create temp table c (); insert into c select 1", ["+create table pg_temp.c", "+data table pg_temp.c"]],
    ["alter table a rename to b; create table a (); drop table a; drop table b", [
      "rename table a → b",
      "+create table public.a",
      "+drop table public.a",
      "drop table a",
    ]],
    ["alter table a rename b to c; alter table a rename c to d", ["rename column a.b → c", "rename column a.b → d"]],
    ["alter table a rename to x; alter table x rename b to c; alter table x drop c", [
      "rename table a → x",
      "rename column a.b → c",
      "drop column a.b",
    ]],
    ["alter table a add b int; alter table a drop b", [
      "alter table a",
      "+create column a.b",
      "alter table a",
      "+drop column a.b",
    ]],
    ["create table c (); create policy p on c; drop policy p on c", [
      "+create table public.c",
      "+alter table public.c",
      "+create policy public.c.p",
      "+alter table public.c",
      "+drop policy public.c.p",
    ]],
    ["alter type t rename to u; drop function f(u); alter type u rename value 'x' to 'y'", [
      "rename type t → u",
      "drop function f(t)",
      "rename enum_value t.x → y",
    ]],
    ["alter function f(int) rename to g; drop function g(int)", [
      "rename function f(int4) → g",
      "drop function f(int4)",
    ]],
    ["alter function f rename to g; comment on function g(int) is 'x'", [
      "rename function f → g",
      "comment function f(int4)",
    ]],
    ["create function f() returns int language sql as ''; comment on function f is 'x'", [
      "+create function public.f()",
      "comment? function f",
    ]],
    ["create function f() returns int language sql as ''; drop function f(int)", [
      "+create function public.f()",
      "drop function f(int4)",
    ]],
    ["alter schema s rename to u; drop table u.a", ["rename schema s → u", "drop table s.a"]],
    ["alter schema s rename to u; create schema s; create table s.a (); drop table s.a; drop table u.a", [
      "rename schema s → u",
      "+create schema s",
      "+create table s.a",
      "+drop table s.a",
      "drop table s.a",
    ]],
    ["alter table a set schema s; drop table s.a", ["rename table a", "drop table a"]],
    ["alter function f() set schema s; drop function s.f()", ["rename function f()", "drop function f()"]],
    ["create schema s create table t (a int) create view v as select 1", [
      "+create schema s",
      "+create table s.t",
      "+create view s.v",
    ]],
    ["create or replace function f() returns int language sql as ''; drop function f()", [
      "alter? function public.f()",
      "drop? function f()",
    ]],
  ])("%s", async ([sql, expected]) => {
    expect(await touches(sql)).toEqual(expected);
  });

  test("a search_path of the file's own decides where names are looked up, until it is reset", async () => {
    const sql = `drop table a; set search_path = x, "$user", "Y"; drop table a; reset search_path; drop table b;
      set schema 'z'; create table c ();`;
    const { touches: found } = await parseMigration(sql, "app");
    expect(found.map(({ search_path, schema, name }) => [name, schema ?? search_path])).toEqual([
      ["a", ["app", "public", "extensions"]],
      ["a", ["x", "Y"]],
      ["b", ["app", "public", "extensions"]],
      ["c", "z"],
    ]);
  });
});

test("a search_path that is set for a transaction ends with it", async () => {
  const sql = "set search_path = x; begin; set local search_path = y; drop table a; commit; drop table a;";
  const { touches: found } = await parseMigration(sql);
  expect(found.map(({ search_path }) => search_path)).toEqual([["y"], ["x"]]);
});

describe("what is gone again hides nothing", () => {
  const real = "alter table real drop v";
  const table = "drop column real.v";
  test.for<[sql: string, last: string]>([
    [`create temp table real as select 1 a; drop table real; ${real}`, table],
    [`create temp table real (); drop table pg_temp.real; ${real}`, table],
    [`create temp table real (); alter table real add v int; drop table real; ${real}`, table],
    [`create temp table real (); alter table real rename to other; ${real}`, table],
    [`create temp table a (); alter table a rename to real; drop table real; ${real}`, table],
    [`create temp view real as select 1; drop view real; ${real}`, table],
    [`create temp table real (); discard temp; ${real}`, table],
    [`create temp table real (); discard all; ${real}`, table],
    [`begin; create temp table real on commit drop as select 1; commit; ${real}`, table],
    [`begin; create temp table real (v int) on commit drop; end; ${real}`, table],
    [`begin; create temp table t (v int) on commit drop; alter table t rename to real; commit; ${real}`, table],
    [`begin; create temp table real (v int) on commit drop; ${real}; commit`, "+drop column pg_temp.real.v"],
    [`begin; create temp table real (v int) on commit delete rows; commit; ${real}`, "+drop column pg_temp.real.v"],
    [`create temp table real (v int) on commit drop; drop table real`, "drop? table real"],
    [`create temp table t (i int); create index i on t (i); drop table t; drop index i`, "drop? index i"],
    [`begin; create temp table real (); rollback; ${real}`, table],
    [`begin; create table real (); rollback; ${real}`, table],
    [`begin; create table real (); commit; ${real}`, "+drop column public.real.v"],
    [`begin; savepoint a; create table real (); rollback to a; ${real}`, table],
    [`begin; savepoint a; create table real (); release a; ${real}`, "+drop column public.real.v"],
    [`begin; savepoint a; create table real (); release a; rollback; ${real}`, table],
    [`begin; create table real (); savepoint a; savepoint b; rollback to a; ${real}`, "+drop column public.real.v"],
    [`begin; create temp table real (); savepoint a; discard temp; rollback to a; discard temp; ${real}`, table],
    [`begin; alter table real rename to other; rollback and chain; ${real}`, table],
    [`begin; alter table real rename to other; rollback; drop table other`, "drop table other"],
    [`begin; alter table real rename v to w; rollback; alter table real drop w`, "drop column real.w"],
    [`begin; alter function f() rename to g; rollback; drop function g()`, "drop function g()"],
    [`begin; alter schema s rename to t; rollback; drop table t.a`, "drop table t.a"],
    [`begin; begin; create table real (); rollback; ${real}`, table],
    [`create table real (); rollback; ${real}`, "+drop column public.real.v"],
    [`drop table real; create table real (v int); ${real}`, "+drop column public.real.v"],
    [`drop table app.real; create table app.real (); alter table app.real drop v`, "+drop column app.real.v"],
    [`create table app.real (); drop table app.real; alter table app.real drop v`, "drop column app.real.v"],
    [`alter table a rename to real; drop table real; ${real}`, table],
    [`create schema s; create table s.a (); drop schema s cascade; drop table s.a`, "drop table s.a"],
  ])("%s: %s", async ([sql, last]) => {
    const found = await touches(sql);
    expect(found.at(-1)).toBe(last);
  });

  test("what statements touched that are rolled back stays touched", async () => {
    expect(await touches("begin; alter table a rename to b; rollback; begin; drop table a; rollback")).toEqual([
      "rename table a → b",
      "drop table a",
    ]);
  });

  test("a search_path ends with the transaction or savepoint that is rolled back", async () => {
    const sql = `set search_path = x; begin; set search_path = y; savepoint s; set local search_path = z; drop table a;
      rollback to s; drop table b; rollback; drop table c; begin; set search_path = y; commit; drop table d;`;
    expect((await parseMigration(sql)).touches.map(({ name, search_path }) => [name, ...search_path!])).toEqual([
      ["a", "z"],
      ["b", "y"],
      ["c", "x"],
      ["d", "y"],
    ]);
  });
});

test("rows that are written to a table that has a trigger of the file's own are a warning", async () => {
  const sql = `update a set b = 1;
    create trigger t after update on a execute function f();
    update b set c = 1;
    update a set b = 2;`;
  expect(await warnings(sql)).toEqual(["4 triggers_fire"]);
});

describe("lines", () => {
  test("are those on which statements begin, whatever comes before them", async () => {
    const sql = [
      "-- Переименование: координатор → куратор 🙂",
      "select 'ёжик';",
      "",
      "/* a /* nested */ comment",
      "   of two lines */ do $$ begin end $$;;",
      "  -- another",
      "execute p",
      "  (1); do $$",
      "$$",
    ];
    for (const newline of ["\n", "\r\n", "\r"]) {
      expect(await warnings(sql.join(newline)), JSON.stringify(newline))
        .toEqual(["5 effect_unknown", "7 effect_unknown", "8 effect_unknown"]);
    }
  });

  test("of a syntax error are told with the parser's message, after any alphabet", async () => {
    const sql = "select 'Привет, 🙂';\r\n\r\n  selct 1;";
    await expect(parseMigration(sql)).rejects.toMatchObject({
      code: "invalid_migration",
      details: { detail: 'Line 3: syntax error at or near "selct".', errors: [{ line: 3 }] },
    });
  });
});

test("a command of psql's is refused with a hint", async () => {
  await expect(parseMigration("select 1;\n\\i other.sql")).rejects.toMatchObject({
    details: { detail: expect.stringMatching(/^Line 2: .*psql/) },
  });
});

test("a file of comments alone is refused: its lines may have been joined behind the first", async () => {
  for (const text of [" -- nothing\n /* at all */ ;;", "-- a comment alter table a rename to b;"]) {
    await expect(parseMigration(text)).rejects.toMatchObject({ code: "invalid_migration" });
  }
  expect(await parseMigration(" \n")).toEqual({ touches: [], warnings: [] });
});

test("a NUL character is refused, and nothing behind it is passed over", async () => {
  await expect(parseMigration("select 1;\n\0drop table a")).rejects.toMatchObject({
    details: { errors: [{ line: 2 }] },
  });
});

test("a syntax error quotes no more of the file than a few words", async () => {
  await expect(parseMigration(`select 'a' '${"secret".repeat(1000)}'`)).rejects.toSatisfy((error: Error) =>
    error.message.length < 200
  );
  for (
    const file of [
      "select 'secret",
      "select 1 'secret'",
      "select 1 E'secret'",
      "select $a$secret",
      "select 1 U&'secret'",
    ]
  ) {
    await expect(parseMigration(file)).rejects.toSatisfy((error: Error) => !error.message.includes("secret"));
  }
});

test("operator characters in a row that the parser would read for hours are refused, and drawn lines are not", async () => {
  for (const run of ["/*".repeat(400_000), `select 1 ${"+".repeat(400_000)}`, `select 1;\n${"/*".repeat(501)}`]) {
    await expect(parseMigration(run)).rejects.toMatchObject({ code: "invalid_migration" });
  }
  const drawn = `${"-".repeat(5000)}\n/${"*".repeat(300)}\n${"=".repeat(300)}\n*/ drop table a; -- ${"#".repeat(900)}`;
  expect(await touches(drawn)).toEqual(["drop table a"]);
});

test("an expression that is nested too deeply is refused, and the next file is read", async () => {
  await expect(parseMigration(`select 1${"+1".repeat(20_000)}`)).rejects.toMatchObject({ code: "invalid_migration" });
  await expect(parseMigration("select " + "(".repeat(20_000))).rejects.toMatchObject({ code: "invalid_migration" });
  expect(await touches("drop table a")).toEqual(["drop table a"]);
});

test("after any number of files that are too much for the parser, large and small ones are read", async () => {
  for (let round = 0; round < 20; round++) {
    await expect(parseMigration(`select 1${"+1".repeat(520_000)}`)).rejects.toMatchObject({
      code: "invalid_migration",
    });
  }
  expect(await touches("drop table a;\n".repeat(70_000))).toEqual(["drop table a"]);
  expect(await touches(`select ${"1,".repeat(520_000)} 1 from a; drop table a`)).toEqual(["drop table a"]);
  expect(await touches("drop table a")).toEqual(["drop table a"]);
});

test("files that are read at once do not spoil each other's parser", async () => {
  const files = Array.from({ length: 20 }, (_, n) => n % 2 ? "drop table a" : `select 1${"+1".repeat(50_000)}`);
  const outcomes = await Promise.allSettled(files.map((file) => touches(file)));
  expect(outcomes.map((outcome) => outcome.status === "fulfilled" ? outcome.value : outcome.reason.code))
    .toEqual(files.map((_, n) => n % 2 ? ["drop table a"] : "invalid_migration"));
});

test("a file that touches too much, or gives too many warnings, is told where its lists were cut, and by how much", async () => {
  const touched = await parseMigration(Array.from({ length: 5003 }, (_, n) => `drop table t${n};`).join("\n"));
  expect(touched.touches).toHaveLength(5000);
  expect(touched.warnings).toEqual([
    { line: 5001, code: "too_many", statement: "DROP TABLE", detail: expect.stringMatching(/^3 more objects/) },
  ]);
  const warned = await parseMigration("do '';\n".repeat(5002));
  expect(warned.warnings).toHaveLength(5001);
  expect(warned.warnings.at(-1)).toEqual(
    { line: 5001, code: "too_many", statement: "DO", detail: expect.stringMatching(/^2 more warnings/) },
  );
  const full = await parseMigration(Array.from({ length: 5000 }, (_, n) => `drop table t${n}; do '';`).join("\n"));
  expect([full.touches.length, full.warnings.length]).toEqual([5000, 5000]);
});

test("an expression of five thousand terms is read", async () => {
  expect(await touches(`delete from a where ${"f(1) + ".repeat(5000)} 1 = 0`)).toEqual([
    "data table a",
    "call function f",
  ]);
});

test("names keep their case and their quotes' content", async () => {
  expect(await touches(`drop table "Mixed ""Case"".table"; drop table Upper; drop table "x; drop table y"`)).toEqual([
    'drop table Mixed "Case".table',
    "drop table upper",
    "drop table x; drop table y",
  ]);
});
