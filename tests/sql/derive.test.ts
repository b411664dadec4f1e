import type postgres from "postgres";
import { expect } from "vitest";
import { parseMigration } from "../../supabase/functions/migration-guard/derive/parse-migration.ts";
import { backUp, verify } from "../support/backup.ts";
import { createDatabase, test as base } from "../support/database.ts";
import { exampleFile, examplePlan } from "../support/example.ts";

/** `prepared` is a database with the schema below that the tests of this file share: deriving a plan changes nothing. */
const test = base.extend("prepared", { scope: "file" }, async ({}, { onCleanup }) => {
  const database = await createDatabase("with_product");
  onCleanup(database.drop);
  await database.sql.unsafe(schema);
  return database;
});

type Derived = {
  plan: { schema: string; tables: string[]; enums: string[]; functions: string[] };
  objects: { kind: string; identity: string; reason: string; line: number }[];
  warnings: { line: number | null; code: string; statement: string; detail: string }[];
};

/** What the route answers: the file is read, and its touches are looked up. */
async function derive(sql: postgres.Sql, migration: string, schema = "public"): Promise<Derived> {
  const { touches, warnings } = await parseMigration(migration, schema);
  const [row] = await sql<{ derived: Derived }[]>`
    select migration_guard_api.derive_plan('v1', ${schema}, ${
    sql.json(touches as postgres.JSONValue)
  }, 'test') as derived`;
  return { ...row!.derived, warnings: [...warnings, ...row!.derived.warnings] };
}

const codes = ({ warnings }: Derived) => warnings.map(({ line, code }) => `${line} ${code}`).sort();

test("v10.0 derives a plan that holds all that the hand-written one does, and that is backed up and verified", async ({ example: { sql } }) => {
  const { plan, warnings } = await derive(sql, exampleFile("migrations", "v10.0_coordinator_to_curator.sql"));
  for (const list of ["tables", "enums", "functions"] as const) {
    expect(plan[list], list).toEqual(expect.arrayContaining(examplePlan[list]));
  }
  expect(warnings).toEqual([]);
  await backUp(sql, "v10", plan);
  expect([...await verify(sql, "v10")].filter(([, { status }]) => status !== "OK")).toEqual([]);
});

const schema = `
  create schema app;
  create type mood as enum ('sad', 'happy');
  create type pair as (first mood, second int);
  create domain positive as int check (value > 0);
  create type span as range (subtype = int);
  create table people (id int primary key, name text, feeling mood, boss int references people);
  create index people_by_name on people (lower(name)) where boss is null;
  create table notes (id int primary key, person int references people on delete cascade, body text);
  create table marks (note int references notes on delete cascade, stars positive);
  create table moods (every mood[]);
  create table pairs (one pair);
  create table spans (one span);
  create table other (id int, person_name text);
  create policy p on other using (exists (select from people where people.name = other.person_name));
  create view named as select id, name from people;
  create view named_twice as select * from named;
  create function greet(p people) returns text language sql as 'select p.name';
  create function count_named() returns bigint language sql begin atomic select count(*) from named_twice; end;
  create function find(who text) returns int language plpgsql as $$ begin return (select id from People where NAME = who); end $$;
  create function quoted() returns text language plpgsql as $$ begin return "Name" from other; end $$;
  create function unrelated() returns text language sql as $$ select 'rename namesake my_name' $$;
  create function is_fine(int) returns boolean language sql as 'select true';
  create function is_fine(text) returns boolean language sql as 'select true';
  create policy q on notes using (is_fine(id));
  create table checked (id int check (is_fine(id)), label text default 'x');
  create table parts (id int, at date) partition by range (at);
  create table parts_2026 partition of parts for values from ('2026-01-01') to ('2027-01-01');
  create table elders (id int);
  create table heirs () inherits (elders);
  create table grandheirs () inherits (heirs);
  create table counted (id serial);
  create table lonely (id int);
  create sequence free;
  create aggregate total(int) (sfunc = int4pl, stype = int);
  create procedure tidy(in a int, out b int) language plpgsql as $$ begin b := 1; end $$;
  create statistics stats on id, name from people;
  create rule r as on insert to other do also insert into lonely values (1);
  create table app.far (id int primary key, person int references people);
  create function app.near() returns int language sql as 'select 1';
  create publication pub for table lonely;
`;

test.for<[migration: string, tables: string[], enums?: string[], functions?: string[]]>([
  ["alter table lonely add column x int", ["lonely"]],
  ["alter table people rename column name to title", ["other", "people"], [], [
    "count_named()",
    "find(text)",
    "greet(people)",
  ]],
  ["alter table people drop column name cascade", ["other", "people"], [], [
    "count_named()",
    "find(text)",
    "greet(people)",
  ]],
  ["alter table people alter column name set default 'x'", ["people"]],
  ["alter table people rename to humans", ["notes", "other", "people"], [], [
    "count_named()",
    "find(text)",
    "greet(people)",
  ]],
  ["drop table marks", ["marks"]],
  ["alter type mood rename value 'sad' to 'blue'", ["moods", "pairs", "people"], ["mood"]],
  ["alter type mood add value 'calm'", ["moods", "pairs", "people"], ["mood"]],
  ["alter type mood rename to feelings", ["moods", "pairs", "people"], ["mood"]],
  ["alter type pair rename attribute second to third", ["pairs"]],
  ["alter type pair add attribute third int cascade", ["pairs"]],
  ["alter domain positive add check (value < 100)", ["marks"]],
  ["drop type span cascade", ["spans"]],
  ["create or replace function is_fine(int) returns boolean language sql as 'select false'", ["checked", "notes"], [], [
    "is_fine(integer)",
  ]],
  ["drop function is_fine(text)", [], [], ["is_fine(text)"]],
  ["alter function is_fine(int) rename to is_good", ["checked", "notes"], [], ["is_fine(integer)"]],
  ["comment on function is_fine(int) is 'x'", [], [], ["is_fine(integer)"]],
  ["grant execute on function is_fine(int), is_fine(text) to public", [], [], ["is_fine(integer)", "is_fine(text)"]],
  ["drop procedure tidy(int)", [], [], ["tidy(integer)"]],
  ["drop procedure tidy(int, int)", [], [], ["tidy(integer)"]],
  ["drop routine unrelated", [], [], ["unrelated()"]],
  ["drop index people_by_name", ["people"]],
  ["alter index notes_pkey rename to notes_key", ["notes"]],
  ["alter table notes drop constraint notes_pkey cascade", ["marks", "notes"]],
  ["drop policy q on notes", ["notes"]],
  ["alter sequence counted_id_seq restart", ["counted"]],
  ["select setval(pg_get_serial_sequence('counted', 'id'), 7)", ["counted"]],
  ["drop statistics stats", ["people"]],
  ["alter rule r on other rename to s", ["other"]],
  ["alter table parts_2026 add check (id > 0)", ["parts", "parts_2026"]],
  ["alter table parts add column x int", ["parts"]],
  ["alter table elders add column x int", ["elders", "grandheirs", "heirs"]],
  ["create table new (id int references lonely, like spans)", ["lonely", "spans"]],
  ["create index on lonely (id)", ["lonely"]],
  ["insert into lonely values (1)", ["lonely"]],
  ["insert into other values (1)", ["lonely", "other"]],
  ["delete from people", ["marks", "notes", "people"]],
  ["update people set name = 'x'", ["people"]],
  ["truncate notes cascade", ["marks", "notes"]],
  ["update named_twice set name = 'x'", ["people"]],
  ["alter view named rename to called", [], [], ["count_named()"]],
  ["drop publication pub", ["lonely"]],
  ["alter publication pub add table spans", ["spans", "lonely"]],
  ["alter table lonely rename to x; create table lonely (); drop table x", ["lonely", "other"]],
  ["create table x (); alter table x rename to y; drop table y; comment on table lonely is ''", ["lonely"]],
])(
  "%s needs the tables %j, the enums %j and the functions %j",
  async ([migration, tables, enums = [], functions = []], { prepared: { sql } }) => {
    const derived = await derive(sql, migration);
    expect(derived.plan).toEqual({ schema: "public", tables: [...tables].sort(), enums, functions });
    expect(derived.warnings.map(({ code }) => code).filter((code) => code !== "other_schema")).toEqual([]);
  },
);

test("every derived plan that names a table is stored and backed up", async ({ database: { sql } }) => {
  await sql.unsafe(schema);
  const everything =
    "alter table elders add x int; alter table parts_2026 add y int; drop type mood cascade; drop schema public cascade";
  const { plan } = await derive(sql, everything);
  expect(plan.tables).toEqual(expect.arrayContaining(["elders", "grandheirs", "lonely", "parts", "people"]));
  await backUp(sql, "v1", plan);
});

test("drop … cascade brings what falls with it, and the functions that mention that", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table a (id int primary key);
    create view b as select id from a;
    create materialized view c as select id from b;
    create table d (id int references a);
    create function e(b) returns int language sql as 'select 1';
    create policy f on d using (e(null) = 1);
    create table g (row a);
    create function h() returns int language plpgsql as $$ begin return (select count(*) from c); end $$;
    create table untouched (id int);
    create function mentions_nothing() returns int language sql as 'select 1';`);
  const { plan, objects, warnings } = await derive(sql, "drop table a cascade");
  expect(plan).toEqual({ schema: "public", tables: ["a", "d", "g"], enums: [], functions: ["e(b)", "h()"] });
  expect(objects).toEqual(expect.arrayContaining([
    { kind: "view", identity: "public.b", reason: "dropped with a", line: 1 },
    { kind: "materialized_view", identity: "public.c", reason: "dropped with a", line: 1 },
    { kind: "policy", identity: "f on public.d", reason: "dropped with a", line: 1 },
    { kind: "column", identity: 'public.g."row"', reason: "dropped with a", line: 1 },
    { kind: "function", identity: "public.h()", reason: "its body mentions c", line: 1 },
  ]));
  expect(warnings).toEqual([]);
});

test.for<[migration: string, schema: string]>([
  ["drop table app.log cascade", "app"],
  ["drop schema app cascade", "app"],
  ["alter type app.comp rename attribute a to z cascade", "app"],
])("%s warns of nothing that is stored out of line", async ([migration, schemaName], { database: { sql } }) => {
  await sql.unsafe(`
    create schema app;
    create table app.log (id int, v text);
    create type app.comp as (a int, b text);
    create table app.typed of app.comp;`);
  const { objects, warnings } = await derive(sql, migration, schemaName);
  expect(warnings).toEqual([]);
  expect(objects.filter(({ identity }) => identity.includes("pg_toast"))).toEqual([]);
});

test("an attribute that is renamed with cascade drops no table", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create type comp as (a int);
    create table typed of comp;
    create function mentions() returns int language sql as $$ select 1 as typed $$`);
  const { plan, objects } = await derive(sql, "alter type comp rename attribute a to z cascade");
  expect(objects).toContainEqual({ kind: "table", identity: "public.typed", reason: "depends on a", line: 1 });
  expect(plan).toMatchObject({ tables: ["typed"], functions: [] });
});

test("each object is told once, with the first line that leads there and the reason", async ({ prepared: { sql } }) => {
  const { objects } = await derive(
    sql,
    "comment on table notes is 'x';\n\nalter table notes rename body to text;\ndrop policy q on notes",
  );
  expect(objects).toEqual([
    { kind: "column", identity: "public.notes.body", reason: "ALTER TABLE … RENAME COLUMN", line: 3 },
    { kind: "policy", identity: "q on public.notes", reason: "DROP POLICY", line: 4 },
    { kind: "table", identity: "public.notes", reason: "COMMENT ON TABLE", line: 1 },
  ]);
});

test("names that are not there are warnings with their lines, unless the file says or makes otherwise", async ({ prepared: { sql } }) => {
  const derived = await derive(
    sql,
    `drop table if exists nothing;
    drop table nothing;
    create table nothing ();
    drop table nothing;
    alter table lonely drop column nothing;
    drop policy nothing on lonely;
    drop function unrelated(text);
    alter type mood rename value 'nothing' to 'x';
    drop schema nothing;
    comment on column people.nothing is '';
    drop policy if exists nothing on lonely;
    create policy nothing on lonely;
    drop policy nothing on lonely;
    set search_path = app;
    drop table lonely;
    drop table far`,
  );
  expect(derived.warnings.filter(({ code }) => code === "not_found").map(({ line }) => line)).toEqual([
    2,
    5,
    6,
    7,
    8,
    9,
    10,
    15,
  ]);
  expect(derived.warnings.find(({ line }) => line === 6)!.detail).toBe(
    "There is no policy nothing of lonely in public, extensions, and the file does not make one.",
  );
});

test("objects of other schemas are named in a warning, and do not come into the plan", async ({ prepared: { sql } }) => {
  const derived = await derive(sql, "alter table lonely add x int;\nalter table people rename to humans;");
  expect(derived.plan.tables).not.toContain("far");
  expect(derived.warnings).toEqual([{
    line: 2,
    code: "other_schema",
    statement: "ALTER TABLE … RENAME",
    detail: expect.stringContaining("in app, not in public: constraint far_person_fkey on app.far, table app.far."),
  }]);
});

test("a file that touches one other schema alone says which to ask for, and asking for it derives the plan", async ({ prepared: { sql } }) => {
  const migration = "drop table app.far; drop function app.near()";
  expect(codes(await derive(sql, migration))).toEqual(["1 other_schema", "null nothing_touched", "null wrong_schema"]);
  expect((await derive(sql, migration, "app")).plan).toEqual({
    schema: "app",
    tables: ["far"],
    enums: [],
    functions: ["near()"],
  });
  expect((await derive(sql, "grant select on all tables in schema app to public", "app")).plan)
    .toMatchObject({ tables: ["far"], functions: [] });
  expect((await derive(sql, "grant execute on all functions in schema app to public", "app")).plan)
    .toMatchObject({ tables: [], functions: ["near()"] });
  expect((await derive(sql, "drop schema app", "app")).plan).toMatchObject({ tables: ["far"], functions: ["near()"] });
});

test("a file that touches nothing derives an empty plan and says so", async ({ database: { sql } }) => {
  const derived = await derive(sql, "begin; create table a (id int); commit;");
  expect(derived.plan).toEqual({ schema: "public", tables: [], enums: [], functions: [] });
  expect(codes(derived)).toEqual(["null nothing_touched"]);
});

test("a file that touches nothing that a plan can name says so", async ({ prepared: { sql } }) => {
  const derived = await derive(sql, "alter sequence free restart");
  expect(derived.objects.map(({ identity }) => identity)).toEqual(["public.free"]);
  expect(codes(derived)).toEqual(["null empty_plan"]);
});

test("an extension that is dropped with cascade brings the tables that use its types", async ({ database: { sql } }) => {
  await sql`create extension citext schema extensions`;
  await sql`create table public.uses (id extensions.citext)`;
  expect((await derive(sql, "drop extension citext cascade")).plan.tables).toEqual(["uses"]);
});

const outside = `
  create schema app;
  set search_path = app, public;
  create collation coll (locale = 'C');
  create table collated (id int, t text collate coll);
  create function same(int, int) returns boolean language sql immutable as 'select true';
  create operator === (function = same, leftarg = int, rightarg = int);
  create table compared (a int, check (a === 1));
  create operator family fam using btree;
  create operator class cls for type int using btree family fam as operator 1 <, operator 3 =, function 1 btint4cmp(int, int);
  create table sorted (a int);
  create index by_cls on sorted (a cls);
  create text search configuration conf (copy = pg_catalog.simple);
  create table searched (t text, v tsvector generated always as (to_tsvector('app.conf', t)) stored);
  create type wrapped as (i int);
  create function wrap(int) returns wrapped language sql immutable as 'select row($1)::wrapped';
  create cast (int as wrapped) with function wrap(int);
  create view cast_view as select 1::wrapped as w;
  reset search_path;`;

test.for<[migration: string, tables: string[]]>([
  ["drop collation app.coll cascade", ["collated"]],
  ["set search_path = app; drop collation coll cascade", ["collated"]],
  ["drop operator app.=== (int, int) cascade", ["compared"]],
  ["drop operator class app.cls using btree cascade", ["sorted"]],
  ["drop operator family app.fam using btree cascade", ["sorted"]],
  ["drop text search configuration app.conf cascade", ["searched"]],
])(
  "%s brings the tables %j, and says that it is in no backup itself",
  async ([migration, tables], { database: { sql, connect } }) => {
    await connect("supabase_admin").unsafe(outside);
    const derived = await derive(sql, migration, "app");
    expect(derived.plan.tables).toEqual(tables);
    expect(codes(derived)).toEqual(["1 outside_the_backup"]);
  },
);

test("a language that is dropped with cascade brings its functions, a server its foreign tables", async ({ database: { sql, connect } }) => {
  await connect("supabase_admin").unsafe(`
    create trusted language own handler plpgsql_call_handler;
    create function public.spoken() returns int language own as 'begin return 1; end';
    create foreign data wrapper elsewhere;
    create server far_away foreign data wrapper elsewhere;
    create foreign table public.afar (id int) server far_away;`);
  await sql`create view public.seen as select spoken() as one`;
  const { plan, objects } = await derive(sql, "drop language own cascade");
  expect(plan.functions).toEqual(["spoken()"]);
  expect(objects).toContainEqual({ kind: "view", identity: "public.seen", reason: "dropped with own", line: 1 });
  for (const kind of ["server far_away", "foreign data wrapper elsewhere"]) {
    expect(codes(await derive(sql, `drop ${kind} cascade`)))
      .toEqual(["1 not_in_plan", "1 outside_the_backup", "null empty_plan"]);
  }
});

test("what cascade would take along of a thing that is not there is not known", async ({ database: { sql, connect } }) => {
  await connect("supabase_admin").unsafe(outside);
  const derived = await derive(
    sql,
    `drop collation app.nothing cascade;
    drop operator app.=== (text, text) cascade;
    drop cast (text as app.wrapped) cascade;
    drop transform for int language plpgsql cascade`,
    "app",
  );
  expect(codes(derived)).toEqual([
    ...[1, 2, 3, 4].flatMap((line) => [`${line} effect_unknown`, `${line} outside_the_backup`]),
    "null nothing_touched",
  ]);
  expect(codes(await derive(sql, "drop cast (int as app.wrapped) cascade", "app")))
    .toEqual(["1 outside_the_backup", "null nothing_touched"]);
});

test("what no plan can name is a warning", async ({ database: { sql, connect } }) => {
  await connect("supabase_admin").unsafe(`
    create foreign data wrapper elsewhere;
    create server far_away foreign data wrapper elsewhere;
    create foreign table public.afar (id int) server far_away;
  `);
  await sql`create table public.lonely (id int)`;
  expect(codes(await derive(sql, "drop table lonely;\ndrop foreign table afar"))).toEqual(["2 not_in_plan"]);
});

test("an aggregate is a function to a plan", async ({ prepared: { sql } }) => {
  expect((await derive(sql, "drop aggregate total(int)")).plan.functions).toEqual(["total(integer)"]);
});

test("functions that are called are warnings, but those of Postgres that change nothing", async ({ prepared: { sql } }) => {
  const derived = await derive(
    sql,
    `select now(), lower('A'), random(), count(*) from lonely;
    select unrelated();
    select lo_unlink(1);
    select app.near();
    create table x as select unrelated();
    create function made() returns int language sql as 'select 1';
    select made();
    select no_such();
    select pg_sleep(0);
    select migration_guard.assert_ready('v1')`,
  );
  const unknown = derived.warnings.filter(({ code }) => code === "effect_unknown").map(({ line }) => line);
  expect(unknown).toEqual([2, 3, 4, 5, 7, 8]);
});

test("functions behind materialized views, views, defaults, rules and checks are warnings where they are volatile", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create extension if not exists "uuid-ossp" schema extensions;
    create table log (id int);
    create function dangerous() returns int language sql volatile as 'delete from public.log returning id';
    create function harmless() returns int language sql stable as 'select 1';
    create view vdanger as select dangerous() as x;
    create materialized view mdanger as select x from vdanger;
    create materialized view mharmless as select harmless() as x;
    create table dflt (id int default dangerous(), u uuid default extensions.uuid_generate_v4(), h int default harmless(), v text);
    create view vdflt as select * from dflt;
    create table ruled (id int);
    create rule r as on delete to ruled do also select dangerous();
    create table checked (id int check (id <> dangerous()));`);
  const derived = await derive(
    sql,
    `refresh materialized view mdanger;
    refresh materialized view mharmless;
    insert into dflt (v) values ('a');
    update dflt set v = 'b';
    delete from dflt;
    insert into vdflt (v) values ('a');
    delete from ruled;
    update checked set id = 1;
    truncate checked`,
  );
  expect(derived.warnings.map(({ line, code, detail }) => [line, code, detail.match(/^It runs (\S+ \(.*?\)):/)?.[1]]))
    .toEqual([
      [1, "effect_unknown", "public.dangerous() (public.vdanger)"],
      [3, "effect_unknown", "public.dangerous() (a default of public.dflt)"],
      [6, "effect_unknown", "public.dangerous() (a default of public.dflt)"],
      [7, "effect_unknown", "public.dangerous() (a rule of public.ruled)"],
      [8, "effect_unknown", "public.dangerous() (a check of public.checked)"],
    ]);
});

test("a function of the app's own that hides one of Postgres is not taken for it", async ({ database: { sql } }) => {
  await sql`create function public.lower(int) returns int language sql as 'select 1'`;
  expect(codes(await derive(sql, "select lower(1)"))).toContain("1 effect_unknown");
});

test("triggers that fire are warnings, where a foreign key passes the change on, too", async ({ database: { sql } }) => {
  await sql.unsafe(`${schema}
    create function fire() returns trigger language plpgsql as $$ begin return new; end $$;
    create trigger on_people after insert on people execute function fire();
    create trigger on_marks after delete on marks execute function fire();
    create trigger off after insert on people execute function fire();
    alter table people disable trigger off;`);
  const derived = await derive(sql, "insert into people values (1);\nupdate people set id = 2;\ndelete from people;");
  const fired = derived.warnings.filter(({ code }) => code === "triggers_fire");
  expect(fired.map(({ line, detail }) => [line, detail.match(/\((.*)\)/)![1]])).toEqual([[1, "on_people"], [
    3,
    "on_marks",
  ]]);
});

const heirs = `
  create schema app;
  create table app.part (id int primary key, v text) partition by range (id);
  create table app.part1 partition of app.part for values from (0) to (10);
  create table app.refheir (id int references app.part1 on delete cascade);
  create table app.refroot (id int references app.part on delete cascade) partition by range (id);
  create table app.refroot1 partition of app.refroot default;
  create table app.par (id int);
  create table app.chi (primary key (id)) inherits (app.par);
  create table app.refchi (id int references app.chi on delete cascade);
  create function app.fire() returns trigger language plpgsql as $$ begin return null; end $$;
  create trigger on_part after insert on app.part for each row execute function app.fire();
  create trigger on_part1 after update on app.part1 for each row execute function app.fire();
  create trigger on_part1_statement after delete on app.part1 execute function app.fire();
  create trigger on_refroot1 after delete on app.refroot1 for each row execute function app.fire();
  create trigger on_chi after insert or delete on app.chi for each row execute function app.fire();`;

test.for<[migration: string, tables: string[], triggers: string[]]>([
  ["delete from part", ["part", "refheir", "refroot"], ["refroot1: on_refroot1"]],
  ["delete from part1", ["part", "part1", "refheir", "refroot"], [
    "part1: on_part1_statement",
    "refroot1: on_refroot1",
  ]],
  ["update part set v = 'x'", ["part"], ["part1: on_part1"]],
  ["insert into part values (1)", ["part"], ["part: on_part"]],
  ["insert into part values (1); update part set v = 'x'", ["part"], ["part: on_part", "part1: on_part1"]],
  ["delete from par", ["chi", "par", "refchi"], ["chi: on_chi"]],
  ["insert into par values (1)", ["chi", "par"], []],
])("%s changes rows of %j and fires %j", async ([migration, tables, triggers], { database: { sql } }) => {
  await sql.unsafe(heirs);
  const { plan, warnings } = await derive(sql, migration, "app");
  expect(plan.tables).toEqual(tables);
  expect(
    warnings.map(({ code, detail }) => `${code} ${detail.replace(/^.* of app\.(\w+) \((.*)\).*$/, "$1: $2")}`).sort(),
  )
    .toEqual(triggers.map((trigger) => `triggers_fire ${trigger}`).sort());
});

test("a derived plan is stored where an heir is in another schema, which is a warning", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create schema app; create schema other;
    create table app.par (id int, v text);
    create table other.heir () inherits (app.par);
    create table app.grand () inherits (other.heir)`);
  const { plan, warnings } = await derive(sql, "alter table app.par drop column v", "app");
  expect(plan.tables).toEqual(["grand", "par"]);
  expect(warnings).toEqual([{
    line: 1,
    code: "other_schema",
    statement: "ALTER TABLE … DROP COLUMN",
    detail: expect.stringContaining("other.heir"),
  }]);
  await backUp(sql, "v1", plan);
});

test("names are looked up as they are spelled, and never run", async ({ database: { sql } }) => {
  const names = ['Mixed "Case".table', "x; drop table y", "пользователи", "a".repeat(63), "tab\tle"];
  const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;
  for (const name of names) await sql.unsafe(`create table ${quoted(name)} ("Col.umn" int)`);
  await sql.unsafe(`create function "Odd f" (${quoted(names[0]!)}) returns int language sql as 'select 1'`);
  const migration = names.map((name) => `alter table ${quoted(name)} rename "Col.umn" to x;`).join("\n") +
    `drop function "Odd f"(${quoted(names[0]!)})`;
  const { plan, warnings } = await derive(sql, migration);
  expect(warnings).toEqual([]);
  expect(plan.tables).toEqual([...names].sort());
  await backUp(sql, "v1", plan);
});

test("a body mentions a name in any case, or quoted, but as a word of its own", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table t (plain int, "Quoted.x" int);
    create function a() returns text language sql as $$ select 'PLAIN' $$;
    create function b() returns text language sql as $$ select 'a.plain=1' $$;
    create function c() returns text language sql as $$ select 'plainer, plain_, _plain, plain2' $$;
    create function d() returns text language sql as $$ select '"Quoted.x"' $$;
    create function e() returns text language sql as $$ select '"quoted.x", Quotedix' $$;`);
  expect((await derive(sql, "alter table t drop plain")).plan.functions).toEqual(["a()", "b()"]);
  expect((await derive(sql, 'alter table t drop "Quoted.x"')).plan.functions).toEqual(["d()"]);
});

test("malformed touches, versions and schemas are refused", async ({ database: { sql } }) => {
  const call = (version: string, schemaName: string, touches: postgres.JSONValue) =>
    sql`select migration_guard_api.derive_plan(${version}, ${schemaName}, ${sql.json(touches)}, 'test')`;
  await expect(call("10", "public", [])).rejects.toMatchObject({ code: "MG001" });
  for (const touches of [{}, 1, "x", [1], [{ line: "x" }]]) {
    await expect(call("v1", "public", touches), JSON.stringify(touches)).rejects.toMatchObject({ code: "MG003" });
  }
  await expect(call("v1", "nothing", [])).rejects.toMatchObject({ code: "MG007" });
  await expect(call("v1", "pg_catalog", [])).rejects.toMatchObject({ code: "MG002" });
});
