import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, type Plan, tryBackUp } from "../support/backup.ts";
import { parseMigration } from "../../supabase/functions/migration-guard/derive/parse-migration.ts";
import { test } from "../support/database.ts";
import { exampleFile, examplePlan } from "../support/example.ts";

type Check = { check_name: string; status: string; details: string; items: Record<string, unknown>[] };

/** Stores a plan, and gives what its preflight finds, by check. */
async function look(sql: postgres.Sql, plan: Plan, migration?: string): Promise<Record<string, Check>> {
  await sql`select migration_guard.put_plan('v1', ${sql.json(plan)}, 'test')`;
  return lookAgain(sql, migration);
}

async function lookAgain(sql: postgres.Sql, migration?: string): Promise<Record<string, Check>> {
  const read = migration === undefined ? undefined : await parseMigration(migration);
  const checks = await lookWith(sql, read?.touches as postgres.JSONValue, read?.warnings as postgres.JSONValue);
  return Object.fromEntries(checks.map((check) => [check.check_name, check]));
}

const lookWith = (
  sql: postgres.Sql,
  touches: postgres.JSONValue | undefined,
  warnings: postgres.JSONValue = [],
) =>
  sql<Check[]>`
    select c.* from migration_guard.get_plan('v1') as p,
      migration_guard.preflight(p, ${touches === undefined ? null : sql.json(touches)}, ${sql.json(warnings)}) as c`;

const names = (check: Check | undefined, key: string) => check!.items.map((item) => item[key]);

test("nothing is in the way of a plain table that nobody uses", async ({ database: { sql } }) => {
  await sql.unsafe(`create table public.t (id int); insert into public.t values (1); analyze public.t`);
  const checks = await look(sql, { tables: ["t"] });
  expect(Object.values(checks).map(({ check_name, status }) => `${check_name} ${status}`)).toEqual([
    "not_applied ok",
    "no_backup ok",
    "privileges ok",
    "row_security ok",
    "locks ok",
    "long_transactions ok",
    "sizes ok",
    "generated_columns ok",
    "kinds_covered ok",
    "unknown_effects ok",
    "trusted_code ok",
    "names_exist ok",
    "dependents ok",
    "function_bodies ok",
  ]);
  for (const check of Object.values(checks)) expect(check.details, check.check_name).not.toBe("");
});

test("a look changes nothing, and works in a transaction that may only read", async ({ example: { sql } }) => {
  await look(sql, examplePlan);
  await sql.unsafe(`begin read only`);
  const checks = await lookAgain(sql);
  await sql.unsafe(`commit`);
  expect(checks.names_exist).toMatchObject({ status: "ok" });
});

// The migration has not run

test("a plan whose names are gone is told, each of them", async ({ example: { sql } }) => {
  await look(sql, examplePlan);
  await sql.unsafe(
    `alter table public.coordinator_notes rename to curator_notes; drop function public.is_coordinator cascade`,
  );
  const { names_exist } = await lookAgain(sql);
  expect(names_exist).toMatchObject({
    status: "blocked",
    items: [{ kind: "function", name: "is_coordinator(uuid)" }, { kind: "table", name: "coordinator_notes" }],
  });
});

test("a version that is in the list of applied migrations is told", async ({ database: { sql } }) => {
  await sql.unsafe(`create table public.t (id int)`);
  expect((await look(sql, { tables: ["t"] })).not_applied).toMatchObject({ status: "ok", items: [] });
  await sql.unsafe(`
    create schema if not exists supabase_migrations;
    create table if not exists supabase_migrations.schema_migrations (version text primary key, name text);
    insert into supabase_migrations.schema_migrations (version, name) values ('20260101000000', 'v1.0_rename');
  `);
  expect((await lookAgain(sql)).not_applied).toMatchObject({ status: "blocked", items: [{ version: "v1.0" }] });
});

test("a backup that is there, or under way, is told", async ({ database: { sql } }) => {
  await sql.unsafe(`create table public.t (id int)`);
  expect((await look(sql, { tables: ["t"] })).no_backup).toMatchObject({ status: "ok" });
  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
  expect((await lookAgain(sql)).no_backup).toMatchObject({
    status: "blocked",
    items: [{ kind: "backup", status: "queued" }],
  });
  await sql`call migration_guard.work()`.simple();
  expect((await lookAgain(sql)).no_backup).toMatchObject({
    status: "blocked",
    items: [{ schema: "migration_backup_v1" }],
  });
});

// What the worker may do

test("a table, a schema and a sequence that the worker may not read are told", async ({ database }) => {
  const { sql } = database;
  await database.connect("supabase_admin").unsafe(`
    create schema app;
    create table app.open (id serial, a int);
    create table app.closed (id int);
    grant select on app.open to postgres;
  `);
  expect((await look(sql, { schema: "app", tables: ["open", "closed"] })).privileges).toMatchObject({
    status: "blocked",
    items: [
      { privilege: "usage", object: "schema app" },
      { privilege: "select", object: "sequence app.open_id_seq" },
      { privilege: "select", object: "table app.closed" },
    ],
  });
});

test("a sequence that may not be read is in the way, and with every privilege all is well", async ({ database }) => {
  const { sql } = database;
  const admin = database.connect("supabase_admin");
  await admin.unsafe(`
    create schema app;
    grant usage on schema app to postgres;
    create table app.open (id serial, a int);
    grant select on app.open to postgres;
  `);
  const before = await look(sql, { schema: "app", tables: ["open"] });
  expect(before.privileges).toMatchObject({
    status: "blocked",
    items: [{ privilege: "select", object: "sequence app.open_id_seq" }],
  });
  expect(await tryBackUp(sql, "v2", { schema: "app", tables: ["open"] })).toMatchObject({
    error: { code: "insufficient_privilege" },
  });
  await admin.unsafe(`grant select on sequence app.open_id_seq to postgres`);
  expect((await lookAgain(sql)).privileges).toMatchObject({ status: "ok", items: [] });
});

test("a worker that may not make a schema is told", async ({ database }) => {
  const { sql, name } = database;
  const admin = database.connect("supabase_admin");
  await sql.unsafe(`create table public.t (id int)`);
  await admin.unsafe(`
    create role worker_${name} nosuperuser;
    grant worker_${name} to postgres;
    grant select on public.t to worker_${name};
  `);
  const missing = () =>
    sql`
    select m.privilege, m.object from migration_guard.get_plan('v1') as p,
      migration_guard.missing_privileges(p, ${`worker_${name}`}) as m`;
  await look(sql, { tables: ["t"] });
  expect(await missing()).toEqual([{ privilege: "create", object: `database ${name}` }]);
  await admin.unsafe(`grant create on database ${name} to worker_${name}`);
  expect(await missing()).toEqual([]);
  await admin.unsafe(`drop owned by worker_${name}; drop role worker_${name}`);
});

test("row security is told where it would hide rows from the worker, and only there", async ({ database }) => {
  const { sql, name } = database;
  await sql.unsafe(`
    create table public.plain (id int);
    create table public.secured (id int);
    create table public.forced (id int);
    alter table public.secured enable row level security;
    alter table public.forced enable row level security, force row level security;
  `);
  const bypassing = await look(sql, { tables: ["plain", "secured", "forced"] });
  expect(bypassing.row_security).toMatchObject({ status: "ok", items: [] });
  expect(bypassing.row_security!.details).toContain("2 of the tables have it, 1 force it");

  const admin = database.connect("supabase_admin");
  const seen = async () => {
    const [{ check }] = await sql<[{ check: Check }]>`
      select to_jsonb(migration_guard.preflight_row_security(p, ${`worker_${name}`})) as check
      from migration_guard.get_plan('v1') as p`;
    return check;
  };
  await admin.unsafe(`create role worker_${name} nobypassrls`);
  expect(await seen()).toMatchObject({
    status: "blocked",
    items: [
      { table: "public.forced", forced: true, owner: "postgres" },
      { table: "public.secured", forced: false, owner: "postgres" },
    ],
  });
  await admin.unsafe(`grant postgres to worker_${name}`);
  expect(names(await seen(), "table")).toEqual(["public.forced"]);
  await admin.unsafe(`alter role worker_${name} bypassrls`);
  expect(await seen()).toMatchObject({ status: "ok" });
  await admin.unsafe(`drop role worker_${name}`);
});

// Other sessions

test("functions of a role that is not trusted are told before they refuse a backup or bar a rollback", async ({ database }) => {
  const { sql, name } = database;
  const admin = database.connect("supabase_admin");
  await admin.unsafe(`
    create role ${name}_planter;
    create function public.planted(t text) returns text language sql immutable as 'select t';
    create function public.checked(t text) returns boolean language sql immutable as 'select true';
    alter function public.planted(text) owner to ${name}_planter;
    alter function public.checked(text) owner to ${name}_planter`).simple();
  await sql`create table public.people (id int primary key, email text check (public.checked(email)))`;
  const plan = { tables: ["people"] };
  const rollback = { function: "public.checked(text)", owner: `${name}_planter`, blocks: "rollback" };
  expect((await look(sql, plan)).trusted_code).toMatchObject({ status: "warning", items: [rollback] });
  await sql`create index planted on public.people (public.planted(email))`;
  const { trusted_code } = await lookAgain(sql);
  expect(trusted_code).toMatchObject({
    status: "blocked",
    items: [
      { object: expect.stringMatching(/^index .*planted$/), function: "public.planted(text)", blocks: "backup" },
      rollback,
    ],
  });
  await expect(sql`select migration_guard.enqueue_backup('v1', 'test')`).rejects.toMatchObject({ code: "MG040" });
  await admin.unsafe(
    "alter function public.planted(text) owner to postgres; alter function public.checked(text) owner to postgres",
  ).simple();
  expect((await lookAgain(sql)).trusted_code).toMatchObject({ status: "ok", items: [] });
  await admin.unsafe(`drop role ${name}_planter`);
});

test("a session that holds an exclusive lock is told with all that helps to find it, and nothing waits for it", async ({ database }) => {
  const { sql } = database;
  await sql.unsafe(`create table public.t (id int default 7); create schema other; create table other.t (id int)`);
  await look(sql, { tables: ["t"] });
  const session = database.connect();
  const [{ pid }] = await session<[{ pid: number }]>`select pg_backend_pid() as pid`;
  await session.unsafe(`
    set application_name = 'the deploy';
    begin; lock table public.t in access exclusive mode; select 'a secret';
  `);
  await sql`set lock_timeout = '1s'`;
  const checks = await lookAgain(sql);
  expect(checks.locks).toMatchObject({
    status: "blocked",
    items: [{ table: "public.t", granted: true, pid, user: "postgres", application_name: "the deploy" }],
  });
  expect(checks.locks!.items[0]!.age_seconds).toBeGreaterThanOrEqual(0);
  expect(JSON.stringify(checks)).not.toContain("secret");
  for (const name of ["trusted_code", "names_exist", "dependents", "function_bodies"]) {
    expect(checks[name], name).toMatchObject({ status: "warning", details: expect.stringContaining("Not looked at") });
  }
  expect(checks.sizes!.items).toMatchObject([{ table: "t", bytes: 0 }]);
  await session`rollback`;
  expect((await lookAgain(sql)).locks).toMatchObject({ status: "ok", items: [] });

  await session.unsafe(`begin; lock table other.t in access exclusive mode`);
  expect((await lookAgain(sql)).locks).toMatchObject({ status: "ok" });
  await session`rollback`;
});

test("a session that waits for an exclusive lock is told, also on a partition and on another table of the schema", async ({ database }) => {
  const { sql } = database;
  await sql.unsafe(`
    create table public.t (id int) partition by list (id);
    create table public.t_1 partition of public.t for values in (1);
    create table public.other (id int);
  `);
  await look(sql, { tables: ["t"] });
  const reader = database.connect();
  await reader.unsafe(`begin; select from public.t_1`);
  const waiting = database.connect();
  const locked = waiting.unsafe(`begin; lock table public.t_1 in access exclusive mode`).catch(() => undefined);
  const locks = async () => (await lookAgain(sql)).locks!;
  const isWaiting = () => sql`select from pg_locks where relation = 'public.t_1'::regclass and not granted`;
  await expect.poll(isWaiting, { timeout: 60_000 }).toHaveLength(1);
  expect(await locks()).toMatchObject({ status: "blocked", items: [{ table: "public.t_1", granted: false }] });
  await reader`rollback`;
  await locked;
  await waiting`rollback`;

  expect(await locks()).toMatchObject({ status: "ok" });
  await waiting.unsafe(`begin; lock table public.other in access exclusive mode`);
  expect(await locks()).toMatchObject({ status: "blocked", items: [{ table: "public.other" }] });
  await waiting`rollback`;
});

test("a transaction that has used a table for long is told, and a short one is not", async ({ database }) => {
  const { sql } = database;
  await sql.unsafe(`create table public.t (id int); create table public.other (id int)`);
  await look(sql, { tables: ["t"] });
  const session = database.connect();
  await session.unsafe(`set application_name = 'a report'; begin; select from public.t`);
  const seen = async (longerThan: string) => {
    const [{ check }] = await sql<[{ check: Check }]>`
      select to_jsonb(migration_guard.preflight_transactions(p, ${longerThan})) as check
      from migration_guard.get_plan('v1') as p`;
    return check;
  };
  expect(await seen("1 minute")).toMatchObject({ status: "ok", items: [] });
  expect(await seen("0 seconds")).toMatchObject({
    status: "warning",
    items: [{ user: "postgres", application_name: "a report", tables: ["public.t"] }],
  });
  await session`rollback`;
  await session.unsafe(`begin; select from public.other`);
  expect(await seen("0 seconds")).toMatchObject({ status: "ok", items: [] });
  await session`rollback`;
});

test("a prepared transaction that uses a table is told, however young", async ({ database }) => {
  const { sql, name } = database;
  await sql.unsafe(`create table public.t (id int)`);
  await look(sql, { tables: ["t"] });
  await sql.unsafe(`begin; insert into public.t values (1); prepare transaction 'left_${name}'`);
  expect((await lookAgain(sql)).long_transactions).toMatchObject({
    status: "warning",
    items: [{ prepared: `left_${name}`, pid: null, user: "postgres", tables: ["public.t"] }],
  });
  await sql.unsafe(`rollback prepared 'left_${name}'`);
  expect((await lookAgain(sql)).long_transactions).toMatchObject({ status: "ok" });
});

test("who cannot see how old other sessions are is told so, and shown them", async ({ database }) => {
  const { sql, name } = database;
  const admin = database.connect("supabase_admin");
  await sql.unsafe(`create table public.t (id int)`);
  await look(sql, { tables: ["t"] });
  expect((await lookAgain(sql)).long_transactions!.details).not.toContain("pg_monitor");
  await admin.unsafe(`
    create role blind_${name} login password 'postgres';
    grant usage on schema migration_guard to blind_${name};
    grant execute on all functions in schema migration_guard to blind_${name};
    grant select on all tables in schema migration_guard to blind_${name};
  `);
  const session = database.connect();
  await session.unsafe(`begin; select from public.t`);
  const [{ check }] = await database.connect(`blind_${name}`)<[{ check: Check }]>`
    select to_jsonb(migration_guard.preflight_transactions(p)) as check from migration_guard.plans as p`;
  expect(check).toMatchObject({ status: "warning", items: [{ age_seconds: null, tables: ["public.t"] }] });
  expect(check.details).toContain("pg_monitor");
  await session`rollback`;
  await admin.unsafe(`drop owned by blind_${name}`);
});

// Sizes

test("sizes are those of the rows, partitions and long values included, and come near to what the backup takes", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.parted (id int, filler text) partition by range (id);
    create table public.low partition of public.parted for values from (0) to (500);
    create table public.high partition of public.parted default;
    insert into public.parted select n, repeat('x', 200) from generate_series(1, 2000) as n;
    create table public.long (id int primary key, document text);
    insert into public.long
      select n, (select string_agg(md5(n::text || m), '') from generate_series(1, 600) as m) from generate_series(1, 50) as n;
    create table public.empty (id int);
    analyze;
  `);
  const { sizes } = await look(sql, { tables: ["parted", "long", "empty"] });
  expect(sizes).toMatchObject({ status: "ok" });
  const byTable = Object.fromEntries(sizes!.items.map((item) => [item.table, item]));
  expect(byTable.parted).toMatchObject({ estimated_rows: 2000 });
  expect(byTable.long).toMatchObject({ estimated_rows: 50 });
  expect(byTable.empty).toMatchObject({ estimated_rows: 0 });
  expect(byTable.long!.total_bytes).toBeGreaterThan(byTable.long!.bytes as number);
  expect(sizes!.details).toMatch(/3 tables with about 2050 rows.*cannot be seen from SQL/);

  const [{ estimate }] = await sql<[{ estimate: number }]>`
    select migration_guard.estimated_backup_bytes(p)::int as estimate from migration_guard.get_plan('v1') as p`;
  await backUp(sql, "v1", { tables: ["parted", "long", "empty"] });
  const [{ taken }] = await sql<[{ taken: number }]>`
    select sum(backup_bytes)::int as taken from migration_backup_v1.tables_backup`;
  expect(estimate / taken).toBeGreaterThan(0.8);
  expect(estimate / taken).toBeLessThan(1.25);
});

test("a table that was never analyzed is named, since its rows are unknown", async ({ database: { sql } }) => {
  await sql.unsafe(`create table public.fresh (id int); insert into public.fresh values (1)`);
  const { sizes } = await look(sql, { tables: ["fresh"] });
  expect(sizes).toMatchObject({ status: "warning", items: [{ table: "fresh", estimated_rows: null }] });
  expect(sizes!.details).toMatch(/: 1 tables\. .* Not analyzed yet, number of rows unknown: fresh\.$/);
  await sql`analyze public.fresh`;
  const { sizes: known } = await lookAgain(sql);
  expect(known).toMatchObject({ status: "ok", items: [{ table: "fresh", estimated_rows: 1 }] });
  expect(known!.details).toContain(": 1 tables with about 1 rows. ");
  await sql`create table public.fresher (id int)`;
  const { sizes: both } = await look(sql, { tables: ["fresh", "fresher"] });
  expect(both!.details).toMatch(/: 2 tables with about 1 rows in 1 of them\. .* number of rows unknown: fresher\.$/);
});

test("a plan without tables takes nothing", async ({ example: { sql } }) => {
  const { sizes } = await look(sql, { enums: ["user_role"] });
  expect(sizes).toMatchObject({ status: "ok", items: [] });
  expect(sizes!.details).toContain("takes about 0 bytes: 0 tables. ");
});

// What hangs on the plan

test("whatever depends on the plan and is outside of it is told, each once, by whatever way it depends", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create type public.mood as enum ('fine');
    create function public.is_fine(int) returns boolean language sql as 'select true';
    create table public.planned (id int primary key, name text, kind public.mood);
    create index by_name on public.planned (name);
    create policy own on public.planned using (public.is_fine(id));
    create sequence public.shared owned by public.planned.id;
    create view public.direct as select name from public.planned;
    create view public.indirect as select name from public.direct;
    create materialized view public.kept as select id from public.planned;
    create index by_id on public.kept (id);
    create table public.outside (
      planned_id int references public.planned, mood public.mood, ticket int default nextval('public.shared'),
      positive int constraint positive check (public.is_fine(positive)));
    create policy elsewhere on public.outside using (exists (select from public.planned as p where p.id = planned_id));
    create index fine_ones on public.outside (planned_id) where mood = 'fine';
    create function public.of_row(public.planned) returns int language sql as 'select 1';
    create function public.atomic() returns bigint language sql begin atomic; select count(*) from public.planned; end;
    create function public.stamp() returns trigger language plpgsql as $$ begin return new; end $$;
    create trigger on_outside before insert on public.outside for each row execute function public.stamp();
    create table public.unrelated (id int);
    create view public.of_unrelated as select * from public.unrelated;
    create temporary view passing as select * from public.planned;
  `);
  const { dependents } = await look(sql, { tables: ["planned"], enums: ["mood"], functions: ["is_fine", "stamp"] });
  expect(dependents!.status).toBe("warning");
  expect(dependents!.items.map(({ kind, identity }) => `${kind} ${identity}`).sort()).toEqual([
    "function public.atomic()",
    "function public.of_row(public.planned)",
    "index public.fine_ones",
    "materialized view public.kept",
    "table column public.outside.mood",
    "table column public.outside.ticket",
    "table constraint outside_planned_id_fkey on public.outside",
    "table constraint positive on public.outside",
    "trigger on_outside on public.outside",
    "view public.direct",
    "view public.indirect",
  ]);
});

test("nothing depends on a plan that names all of it", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create type public.mood as enum ('fine');
    create table public.a (id int generated always as identity primary key, parent int references public.a, mood public.mood);
    create table public.b (a int references public.a check (a > 0));
    create function public.f() returns trigger language plpgsql as $$ begin return new; end $$;
    create trigger t before insert on public.b for each row execute function public.f();
    create policy p on public.b using (exists (select from public.a));
    create table public.parted (id int primary key) partition by range (id);
    create table public.part partition of public.parted default;
  `);
  const { dependents } = await look(sql, { tables: "*", enums: ["mood"], functions: ["f"] });
  expect(dependents).toMatchObject({ status: "ok", items: [] });
});

test("of more dependents than can be read the first 200 are listed, and all are counted", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.t (id int);
    do $$ begin for i in 1..210 loop execute format('create view public.v_%s as select id from public.t', i); end loop; end $$;
  `);
  const { dependents } = await look(sql, { tables: ["t"] });
  expect(dependents!.items).toHaveLength(200);
  expect(dependents!.details).toContain("There are 210; the first 200 are listed.");
});

// Function bodies

test("bodies outside of the plan that name what it names are told, and those that follow by themselves are not", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.people (id int);
    create table public."Odd ""Name""" (id int);
    create table public.люди (id int);
    create type public.mood as enum ('fine');
    create function public.planned() returns bigint language sql as 'select count(*) from public.people';
    create schema app;
    create function app.names_table() returns bigint language plpgsql as $$ begin return (select count(*) from PEOPLE); end $$;
    create function app.names_odd() returns bigint language sql as $$ select count(*) from public."Odd ""Name""" $$;
    create function app.names_cyrillic() returns bigint language sql as 'select count(*) from public.люди';
    create function app.names_enum() returns text language plpgsql as $$ declare m public.mood; begin return m; end $$;
    create function app.calls() returns bigint language plpgsql as $$ begin return public.planned(); end $$;
    create function app.follows() returns bigint language sql begin atomic; select count(*) from public.people; end;
    create function app.longer_word() returns text language sql as $$ select 'people_of_old, townspeople, $people' $$;
    create function app.has_the_term() returns text language sql as $$ select 'Zebrafish' $$;
  `);
  const plan = { tables: ["people", 'Odd "Name"', "люди"], enums: ["mood"], functions: ["planned"] };
  const { function_bodies } = await look(sql, plan);
  expect(function_bodies!.status).toBe("warning");
  expect(names(function_bodies, "function"))
    .toEqual(["app.calls()", "app.names_cyrillic()", "app.names_enum()", "app.names_odd()", "app.names_table()"]);
  expect(function_bodies!.items[4]).toMatchObject({ in_plan: false, names: [{ kind: "table", name: "people" }] });

  await sql`create function public.zebra_of_the_plan() returns int language sql as 'select 1'`;
  expect(names((await look(sql, { match: "zebra" })).function_bodies, "function")).toEqual(["app.has_the_term()"]);
  expect((await look(sql, { enums: ["mood"], functions: ["planned"], tables: [] })).function_bodies!.items)
    .not.toContainEqual(expect.objectContaining({ function: "app.names_table()" }));
});

test("what the migration renames or drops is looked for in every function, of the plan or not", async ({ example: { sql } }) => {
  await sql.unsafe(`
    create schema app;
    create function app.reads() returns bigint language sql as
      $$ select count(*) from public.profiles where coordinator_id is null $$;
    create function app.talks() returns text language sql as $$ select 'our Coordinator is here' $$;
    create function app.asks() returns boolean language sql as $$ select public.is_client_coordinator(null, null) $$;
  `);
  const migration = `alter type public.user_role rename value 'coordinator' to 'curator';
    alter table public.profiles rename column coordinator_id to curator_id;
    drop function public.is_client_coordinator(uuid, uuid);`;
  const { function_bodies } = await look(sql, examplePlan, migration);
  expect(function_bodies!.status).toBe("warning");
  const byFunction = Object.fromEntries(function_bodies!.items.map((item) => [item.function, item]));
  expect(byFunction["app.reads()"]).toEqual({
    function: "app.reads()",
    in_plan: false,
    names: [{ kind: "column", name: "coordinator_id", new_name: "curator_id", line: 2 }],
  });
  expect(byFunction["app.asks()"]).toMatchObject({ names: [{ kind: "function", new_name: null }] });
  // The case of an enum's value counts.
  expect(byFunction["app.talks()"]).toBeUndefined();
  expect(byFunction["is_coordinator(uuid)"] ?? byFunction["public.is_coordinator(uuid)"]).toMatchObject({
    in_plan: true,
  });
  expect((await lookAgain(sql, "create table public.t (id int)")).function_bodies).toMatchObject({
    status: "ok",
    items: [],
  });
});

test("v10.0 leaves nothing behind, and does nothing that its text does not tell", async ({ example: { sql } }) => {
  const checks = await look(sql, examplePlan, exampleFile("migrations", "v10.0_coordinator_to_curator.sql"));
  expect(checks.function_bodies).toMatchObject({ status: "ok", items: [] });
  expect(checks.unknown_effects).toMatchObject({ status: "ok", items: [] });
});

const overloads = `
  create schema app;
  create table public.wide (v int, w int);
  create function public.ov(text) returns bigint language sql as 'select count(v) from public.wide';
  create function public.ov(int) returns bigint language sql as 'select count(v) from public.wide';
  create function app.ov(text) returns bigint language sql as 'select count(v) from public.wide';
`;

test.for<[what: string, statement: string, still: string[]]>([
  ["leaves all alone", "", ["app.ov(text)", "public.ov(integer)", "public.ov(text)"]],
  [
    "replaces one overload",
    "create or replace function public.ov(int) returns bigint language sql as 'select count(vv) from public.wide'",
    ["app.ov(text)", "public.ov(text)"],
  ],
  [
    "makes one of the name in another schema",
    "create or replace function app.ov(int) returns bigint language sql as 'select 1::bigint'",
    ["app.ov(text)", "public.ov(integer)", "public.ov(text)"],
  ],
  ["drops one", "drop function public.ov(text)", ["app.ov(text)", "public.ov(integer)"]],
  ["drops a schema", "drop schema app cascade", ["public.ov(integer)", "public.ov(text)"]],
  [
    "has a signature that only the catalog knows",
    "create or replace function public.ov(wide.v%type) returns bigint language sql as 'select 1::bigint'",
    ["app.ov(text)", "public.ov(integer)", "public.ov(text)"],
  ],
])("a migration that %s excuses no other function of the name", async ([, statement, still], { database: { sql } }) => {
  await sql.unsafe(overloads);
  const migration = `alter table public.wide rename column v to vv; ${statement}`;
  const { function_bodies } = await look(sql, { tables: ["wide"] }, migration);
  const naming = function_bodies!.items.filter(({ names }) => JSON.stringify(names).includes('"v"'));
  expect(naming.map((item) => item.function).sort().map((name) => (name as string).replace(/^ov/, "public.ov")))
    .toEqual(still);
});

test("a body that the migration makes itself is looked at as well, with its line", async ({ database: { sql } }) => {
  await sql.unsafe(overloads);
  const migration = `alter table public.wide rename column v to vv;
create or replace function app.ov(text) returns bigint language sql as 'select count(v) from public.wide';
create function app.fresh(int[], out a int) language plpgsql as $$ begin select v into a from public.wide; end $$;
create function app.fine() returns int language sql as 'select vv from public.wide';
create function app.parsed() returns int language sql begin atomic; select w as v from public.wide; end;`;
  const { function_bodies } = await look(sql, { tables: ["wide"] }, migration);
  const names = [{ kind: "column", name: "v", new_name: "vv", line: 1 }];
  expect(function_bodies!.items.filter(({ in_file }) => in_file)).toEqual([
    { function: "app.ov(text)", in_file: true, line: 2, names },
    { function: "app.fresh(integer[])", in_file: true, line: 3, names },
  ]);
});

test("a body of the file may name what the file makes again, and one that it drops again is no matter", async ({ database: { sql } }) => {
  await sql.unsafe(
    `create schema app; create table app.t (v int); create function app.f(int) returns int language sql as 'select 1'`,
  );
  const migration = `
    alter table app.t rename to t_old;
    create view app.t as select * from app.t_old;
    drop function app.f(int);
    create function app.f(text) returns int language sql as 'select 1';
    create function app.g() returns int language sql as 'select app.f(v::text) from app.t';
    alter table app.t_old rename column v to vv;
    create function app.passing() returns int language sql as 'select v from app.t_old';
    drop function app.passing();`;
  const { function_bodies } = await look(sql, { schema: "app", tables: ["t"] }, migration);
  expect(function_bodies!.items).toMatchObject([{
    function: "app.g()",
    names: [{ kind: "column", name: "v" }],
  }]);
});

test("a value of an enum is found as a word in quotes of any kind, and nowhere else", async ({ database: { sql } }) => {
  await sql.unsafe(String.raw`
    create schema app;
    create type app.mood as enum ('glum', 'fine', 'it''s all right');
    create function app.in_array() returns boolean language sql as $$ select 'fine' = any ('{glum,fine}'::app.mood[]::text[]) $$;
    create function app.in_dynamic() returns void language plpgsql as $$ begin execute 'select ''glum'''; end $$;
    create function app.in_dollars() returns void language plpgsql as $f$ begin execute $q$select 'glum'$q$; end $f$;
    create function app.after_apostrophe() returns text language sql as $f$ -- it's here
      select 'glum' $f$;
    create function app.after_escape() returns text language sql as $f$ select e'\'' || 'glum' $f$;
    create function app.apostrophe() returns text language sql as $f$ select 'it''s all right' $f$;
    create function app.in_comment() returns text language sql as $f$ select 'a' /* 'glum' */ -- 'glum'
      $f$;
    create function app.as_name() returns text language sql as $f$ select 'a' as glum $f$;
    create function app.in_longer() returns text language sql as $f$ select 'glummer' || 'Glum' $f$;
  `);
  const plan = { schema: "app", enums: ["mood"] };
  const { function_bodies } = await look(sql, plan, "alter type app.mood rename value 'glum' to 'gloomy'");
  expect(names(function_bodies, "function")).toEqual(
    ["after_apostrophe", "after_escape", "in_array", "in_dollars", "in_dynamic"].map((name) => `app.${name}()`),
  );
  const quoted = await lookAgain(sql, "alter type app.mood rename value 'it''s all right' to 'fair'");
  expect(names(quoted.function_bodies, "function")).toEqual(["app.apostrophe()"]);
});

test("what goes by cascade is looked for as well, and functions that go with it are no matter", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create schema app;
    create table app.par (v int, id serial);
    create view app.secv as select v from app.par;
    create function app.usesecv() returns bigint language sql as 'select count(*) from app.secv';
    create function app.counts() returns bigint language sql as $$ select nextval('app.par_id_seq') $$;
    create function app.of_row(app.secv) returns bigint language sql as 'select count(*) from app.secv';
  `);
  const { function_bodies } = await look(
    sql,
    { schema: "app", tables: ["par"] },
    "alter table app.par drop column v cascade",
  );
  expect(function_bodies!.items).toEqual([{
    function: "app.usesecv()",
    in_plan: false,
    names: [{ kind: "view", name: "secv", new_name: null, line: 1, dropped_with: "v" }],
  }]);
  const dropped = await lookAgain(sql, "drop table app.par cascade");
  expect(names(dropped.function_bodies, "function")).toEqual(["app.counts()", "app.usesecv()"]);
});

test("what the text of the migration does not tell is listed, and said where names are looked for", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.base (zz int);
    create function public.does() returns void language sql as 'select';
  `);
  const plain = await look(sql, { tables: ["base"] }, "alter table public.base rename column zz to y");
  expect(plain.unknown_effects).toMatchObject({ status: "ok", items: [] });
  expect(plain.function_bodies).toMatchObject({ status: "ok" });

  const migration = `alter table public.base rename column zz to y;
do $$ begin alter table public.other rename column v to w; end $$;
select public.does();
drop table public.nobody;
create role somebody;`;
  const { unknown_effects, function_bodies } = await lookAgain(sql, migration);
  expect(unknown_effects!.status).toBe("warning");
  expect(unknown_effects!.items.map(({ line, code, statement }) => `${line} ${code} ${statement}`)).toEqual([
    "2 effect_unknown DO",
    "3 effect_unknown SELECT",
    "4 not_found DROP TABLE",
    "5 outside_the_backup CREATE ROLE",
  ]);
  for (const item of unknown_effects!.items) expect(item.detail).not.toBe("");
  expect(function_bodies).toMatchObject({ status: "warning", items: [] });
  expect(function_bodies!.details).toContain("see `unknown_effects`");
});

test.for<[string, postgres.JSONValue, postgres.JSONValue]>([
  ["touches that are no list", { kind: "table", name: "t" }, []],
  ["a touch that is a text", ["t"], []],
  ["a line that is a text", [{ kind: "table", name: "t", line: "twelve" }], []],
  ["warnings that are no list", [], { code: "effect_unknown" }],
  ["a warning without a code", [], [{ detail: "x" }]],
  ["a warning that is a text", [], ["x"]],
])("%s: refused", async ([, touches, warnings], { database: { sql } }) => {
  await sql.unsafe(`create table public.t (id int)`);
  await look(sql, { tables: ["t"] });
  await expect(lookWith(sql, touches, warnings)).rejects.toMatchObject({ code: "MG003" });
});

// Columns that fill themselves

test("generated, identity and serial columns are told, with their sequences", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.t (
      a int generated always as identity, b int generated by default as identity, c serial, d int,
      e int generated always as (d * 2) stored, f text default 'plain');
  `);
  const { generated_columns } = await look(sql, { tables: ["t"] });
  expect(generated_columns).toMatchObject({
    status: "warning",
    items: [
      { column: "public.t.a", is: "identity, always", sequence: "public.t_a_seq" },
      { column: "public.t.b", is: "identity, by default", sequence: "public.t_b_seq" },
      { column: "public.t.c", is: "counted by a sequence of its own", sequence: "public.t_c_seq" },
      { column: "public.t.e", is: "generated, stored", sequence: null },
    ],
  });
  const [{ version }] = await sql<[{ version: number }]>`select current_setting('server_version_num')::int as version`;
  // Columns that are computed when they are read came with 18.
  if (version < 180000) return;
  await sql`alter table public.t add column g int generated always as (d * 3) virtual`;
  expect((await lookAgain(sql)).generated_columns!.items[4]).toMatchObject({ is: "generated, virtual" });
});

test("objects of a kind that no backup holds are told before the backup", async ({ database: { sql } }) => {
  await sql.unsafe(`create table public.t (id int); create text search configuration public.plain (copy = simple)`);
  const { kinds_covered } = await look(sql, { tables: ["t"] });
  expect(kinds_covered).toMatchObject({
    status: "warning",
    items: [{ identity: "text search configuration public.plain" }],
  });
});
